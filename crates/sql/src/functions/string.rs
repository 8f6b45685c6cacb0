//! Text: lengths, cases, parts, padding, joining.
//!
//! Positions count characters (code points) from 1, as SQL does; ASCII text takes a path that never counts.

use std::sync::Arc;

use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use datafusion::common::{Result, exec_err};

use super::call::{Call, Text};
use super::function::Function;

/// The longest text REPEAT, LPAD and RPAD may make: a bound for one value in a row.
const TEXT_BYTES_MAX: usize = 16 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "char_length",
        "CHAR_LENGTH(STRING) -> INT",
        "The number of characters.",
        &[("CHAR_LENGTH('héllo')", "5")],
        |call| {
            let text = call.text(0)?;
            call.build_numbers::<Int32Type>(|row| Ok(text.get(row).map(|text| count(text) as i32)))
        },
    )
    .aliases(&["character_length"]),
    Function::new("upper", "UPPER(STRING) -> STRING", "In upper case.", &[("UPPER('héllo')", "HÉLLO")], |call| {
        change_case(call, u8::to_ascii_uppercase, str::to_uppercase)
    }),
    Function::new("lower", "LOWER(STRING) -> STRING", "In lower case.", &[("LOWER('HÉLLO')", "héllo")], |call| {
        change_case(call, u8::to_ascii_lowercase, str::to_lowercase)
    }),
    Function::new(
        "initcap",
        "INITCAP(STRING) -> STRING",
        "Each word of ASCII letters and digits with a capital first letter, the others small.",
        &[("INITCAP('hello wORLD')", "Hello World")],
        initcap,
    ),
    Function::new(
        "trim",
        "TRIM(STRING) -> STRING; TRIM(STRING, STRING) -> STRING; TRIM(STRING, STRING, STRING) -> STRING",
        "Without spaces at both ends; `TRIM(BOTH | LEADING | TRAILING chars FROM text)` takes off any of `chars`.",
        &[("TRIM('  a ')", "a"), ("TRIM(LEADING 'x' FROM 'xxax')", "ax")],
        trim,
    ),
    Function::new(
        "btrim",
        "BTRIM(STRING[, STRING]) -> STRING",
        "Without spaces, or any of the given characters, at both ends.",
        &[("BTRIM('xyaxy', 'yx')", "a")],
        |call| strip(call, true, true),
    ),
    Function::new(
        "ltrim",
        "LTRIM(STRING[, STRING]) -> STRING",
        "Without spaces, or any of the given characters, at the start.",
        &[("LTRIM('xyxa', 'xy')", "a")],
        |call| strip(call, true, false),
    ),
    Function::new(
        "rtrim",
        "RTRIM(STRING[, STRING]) -> STRING",
        "Without spaces, or any of the given characters, at the end.",
        &[("RTRIM('a  ')", "a")],
        |call| strip(call, false, true),
    ),
    Function::new(
        "substring",
        "SUBSTRING(STRING, INT[, INT]) -> STRING",
        "From a position on, or so many characters from it; a negative position counts from the end.",
        &[("SUBSTRING('hello', 2, 3)", "ell"), ("SUBSTRING('hello' FROM -3)", "llo")],
        substring,
    )
    .aliases(&["substr"]),
    Function::new(
        "left",
        "LEFT(STRING, INT) -> STRING",
        "The first characters.",
        &[("LEFT('hello', 2)", "he")],
        |call| {
            let (text, size) = (call.text(0)?, call.numbers::<Int32Type>(1)?);
            call.borrow_text(|row| Some(slice(text.get(row)?, 0, size.get(row)?.max(0) as usize)))
        },
    ),
    Function::new(
        "right",
        "RIGHT(STRING, INT) -> STRING",
        "The last characters.",
        &[("RIGHT('hello', 2)", "lo")],
        |call| {
            let (text, size) = (call.text(0)?, call.numbers::<Int32Type>(1)?);
            call.borrow_text(|row| {
                let text = text.get(row)?;
                let skipped = count(text).saturating_sub(size.get(row)?.max(0) as usize);
                Some(slice(text, skipped, usize::MAX))
            })
        },
    ),
    Function::new(
        "position",
        "POSITION(STRING, STRING) -> INT",
        "Where the first argument is first found in the second, from 1; 0 when nowhere. SQL: `POSITION(a IN b)`.",
        &[("POSITION('l' IN 'hello')", "3")],
        |call| locate(call, 0, 1),
    ),
    Function::new(
        "instr",
        "INSTR(STRING, STRING) -> INT",
        "Where the second argument is first found in the first, from 1; 0 when nowhere.",
        &[("INSTR('hello', 'l')", "3")],
        |call| locate(call, 1, 0),
    ),
    Function::new(
        "locate",
        "LOCATE(STRING, STRING[, INT]) -> INT",
        "Where the first argument is found in the second, at or after a position; 0 when nowhere.",
        &[("LOCATE('l', 'hello', 4)", "4")],
        |call| locate(call, 0, 1),
    ),
    Function::new(
        "replace",
        "REPLACE(STRING, STRING, STRING) -> STRING",
        "With each occurrence of the second argument replaced by the third.",
        &[("REPLACE('hello', 'l', 'L')", "heLLo")],
        replace,
    ),
    Function::new(
        "overlay",
        "OVERLAY(STRING, STRING, INT[, INT]) -> STRING",
        "With so many characters from a position on replaced. SQL: `OVERLAY(a PLACING b FROM start [FOR size])`.",
        &[("OVERLAY('hello' PLACING 'XX' FROM 2 FOR 3)", "hXXo")],
        overlay,
    ),
    Function::new(
        "concat",
        "CONCAT(STRING...) -> STRING",
        "The arguments one after another; NULL when one is NULL. `a || b` is the same.",
        &[("CONCAT('a', 'b', 'c')", "abc"), ("'a' || 'b'", "ab")],
        concat,
    ),
    Function::new(
        "concat_ws",
        "CONCAT_WS(STRING, STRING...) -> STRING",
        "The arguments that are not NULL, joined by the first.",
        &[("CONCAT_WS('-', 'a', CAST(NULL AS STRING), 'b')", "a-b")],
        concat_ws,
    ),
    Function::new(
        "lpad",
        "LPAD(STRING, INT, STRING) -> STRING",
        "Cut or filled at the start to so many characters.",
        &[("LPAD('hi', 4, '?')", "??hi")],
        |call| pad(call, true),
    ),
    Function::new(
        "rpad",
        "RPAD(STRING, INT, STRING) -> STRING",
        "Cut or filled at the end to so many characters.",
        &[("RPAD('hi', 4, '?')", "hi??")],
        |call| pad(call, false),
    ),
    Function::new(
        "repeat",
        "REPEAT(STRING, INT) -> STRING",
        "So many times the text.",
        &[("REPEAT('ab', 3)", "ababab")],
        repeat,
    ),
    Function::new(
        "reverse",
        "REVERSE(STRING) -> STRING",
        "The characters from last to first.",
        &[("REVERSE('héa')", "aéh")],
        |call| {
            let text = call.text(0)?;
            call.write_text(|row, out| Ok(text.get(row).map(|text| out.extend(text.chars().rev()))))
        },
    ),
    Function::new(
        "split_index",
        "SPLIT_INDEX(STRING, STRING, INT) -> STRING; SPLIT_INDEX(STRING, INT, INT) -> STRING",
        "The part at an index from 0 when split by a delimiter, text or the code of a character; NULL outside.",
        &[("SPLIT_INDEX('a,b,c', ',', 2)", "c"), ("SPLIT_INDEX('a,b', 44, 1)", "b")],
        split_index,
    ),
    Function::new(
        "ascii",
        "ASCII(STRING) -> INT",
        "The first byte in UTF-8 as a signed number; 0 for empty text.",
        &[("ASCII('a')", "97")],
        |call| {
            let text = call.text(0)?;
            let first = |text: &str| text.as_bytes().first().map_or(0, |byte| i32::from(*byte as i8));
            call.build_numbers::<Int32Type>(|row| Ok(text.get(row).map(first)))
        },
    ),
    Function::new(
        "chr",
        "CHR(BIGINT) -> STRING",
        "The Latin-1 character of a code, modulo 256; empty when negative.",
        &[("CHR(97)", "a"), ("CHR(353)", "a")],
        |call| {
            let code = call.numbers::<Int64Type>(0)?;
            call.write_text(|row, out| {
                Ok(code.get(row).map(|code| {
                    if code >= 0 {
                        out.push(char::from((code & 0xff) as u8))
                    }
                }))
            })
        },
    ),
    Function::new(
        "startswith",
        "STARTSWITH(STRING, STRING) -> BOOLEAN",
        "Whether the first argument begins with the second.",
        &[("STARTSWITH('hello', 'he')", "true")],
        |call| test_pair(call, |text, part| text.starts_with(part)),
    ),
    Function::new(
        "endswith",
        "ENDSWITH(STRING, STRING) -> BOOLEAN",
        "Whether the first argument ends with the second.",
        &[("ENDSWITH('hello', 'lo')", "true")],
        |call| test_pair(call, |text, part| text.ends_with(part)),
    ),
    Function::new(
        "translate",
        "TRANSLATE(STRING, STRING, STRING) -> STRING",
        "With each character of the second argument replaced by the one at its place in the third, or left out.",
        &[("TRANSLATE('hello', 'el', 'ip')", "hippo")],
        translate,
    ),
    Function::new(
        "elt",
        "ELT(INT, STRING, STRING...) -> STRING",
        "The argument at an index from 1; NULL outside.",
        &[("ELT(2, 'a', 'b')", "b")],
        elt,
    ),
    Function::new(
        "is_alpha",
        "IS_ALPHA(STRING) -> BOOLEAN",
        "Whether there is text and it is all letters.",
        &[("IS_ALPHA('abc')", "true")],
        |call| test(call, |text| !text.is_empty() && text.chars().all(char::is_alphabetic)),
    ),
    Function::new(
        "is_digit",
        "IS_DIGIT(STRING) -> BOOLEAN",
        "Whether there is text and it is all digits.",
        &[("IS_DIGIT('12')", "true")],
        |call| test(call, |text| !text.is_empty() && text.chars().all(|c| c.is_numeric())),
    ),
    Function::new(
        "is_decimal",
        "IS_DECIMAL(STRING) -> BOOLEAN",
        "Whether it can be read as a number.",
        &[("IS_DECIMAL('-1.5')", "true")],
        |call| test(call, |text| super::number_text::parse_double(text).is_some()),
    ),
    Function::new(
        "count_char",
        "COUNT_CHAR(STRING, STRING) -> BIGINT",
        "How often a character occurs; `CREATE FUNCTION count_char` maps Nexmark's function of that name to it.",
        &[("COUNT_CHAR('banana', 'a')", "3")],
        count_char,
    ),
];

/// The number of characters: bytes that do not continue one.
pub(super) fn count(text: &str) -> usize {
    text.bytes().filter(|byte| byte & 0xc0 != 0x80).count()
}

/// The byte where the character at an index starts, or the end of the text.
fn byte_at(text: &str, index: usize) -> usize {
    if index >= text.len() {
        return text.len();
    }
    if text.is_ascii() {
        return index;
    }
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

/// `size` characters from index `from` on, as much as there is.
pub(super) fn slice(text: &str, from: usize, size: usize) -> &str {
    let rest = &text[byte_at(text, from)..];
    &rest[..byte_at(rest, size)]
}

/// Changes a whole ASCII column at once; other text one by one.
fn change_case(call: &Call<'_>, ascii: fn(&u8) -> u8, any: fn(&str) -> String) -> Result<ArrayRef> {
    let text = call.text(0)?;
    if let Text::Many(array) = text {
        let (first, last) = (array.offsets()[0] as usize, array.offsets()[array.len()] as usize);
        let bytes = &array.value_data()[first..last];
        if bytes.is_ascii() {
            let changed: Vec<u8> = bytes.iter().map(ascii).collect();
            let offsets = array.offsets().iter().map(|offset| offset - first as i32).collect::<Vec<_>>();
            let offsets = OffsetBuffer::new(offsets.into());
            return Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(changed), array.nulls().cloned())?));
        }
    }
    call.write_text(|row, out| Ok(text.get(row).map(|text| out.push_str(&any(text)))))
}

fn initcap(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.write_text(|row, out| {
        let Some(text) = text.get(row) else { return Ok(None) };
        let mut inside = false;
        for c in text.chars() {
            out.push(if inside { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() });
            inside = c.is_ascii_alphanumeric();
        }
        Ok(Some(()))
    })
}

fn trim(call: &Call<'_>) -> Result<ArrayRef> {
    match call.count() {
        1 => strip(call, true, true),
        2 => strip_with(call, None, call.text(0)?, call.text(1)?),
        _ => strip_with(call, Some(call.text(0)?), call.text(1)?, call.text(2)?),
    }
}

fn strip_with(call: &Call<'_>, mode: Option<Text<'_>>, chars: Text<'_>, text: Text<'_>) -> Result<ArrayRef> {
    call.borrow_text(|row| {
        let mode = mode.as_ref().map_or(Some("BOTH"), |mode| mode.get(row))?;
        Some(strip_one(text.get(row)?, chars.get(row)?, mode != "TRAILING", mode != "LEADING"))
    })
}

fn strip(call: &Call<'_>, start: bool, end: bool) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let chars = if call.count() > 1 { call.text(1)? } else { Text::One(Some(" ")) };
    call.borrow_text(|row| Some(strip_one(text.get(row)?, chars.get(row)?, start, end)))
}

fn strip_one<'a>(mut text: &'a str, chars: &str, start: bool, end: bool) -> &'a str {
    if start {
        text = text.trim_start_matches(|c| chars.contains(c));
    }
    if end {
        text = text.trim_end_matches(|c| chars.contains(c));
    }
    text
}

fn substring(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, start) = (call.text(0)?, call.numbers::<Int32Type>(1)?);
    let size = if call.count() > 2 { Some(call.numbers::<Int32Type>(2)?) } else { None };
    call.borrow_text(|row| {
        let (text, start) = (text.get(row)?, start.get(row)?);
        let size = match &size {
            None => usize::MAX,
            Some(size) => usize::try_from(size.get(row)?).ok()?,
        };
        let from = match start {
            1.. => start as usize - 1,
            0 => 0,
            _ => match count(text).checked_sub(start.unsigned_abs() as usize) {
                Some(from) => from,
                None => return Some(""),
            },
        };
        Some(slice(text, from, size))
    })
}

fn locate(call: &Call<'_>, part: usize, text: usize) -> Result<ArrayRef> {
    let (part, text) = (call.text(part)?, call.text(text)?);
    let from = if call.count() > 2 { Some(call.numbers::<Int32Type>(2)?) } else { None };
    let find = |row: usize| -> Option<i32> {
        let (part, text) = (part.get(row)?, text.get(row)?);
        let from = from.as_ref().map_or(Some(1), |from| from.get(row))?;
        if part.is_empty() {
            return Some(1);
        }
        let skipped = byte_at(text, (from - 1).max(0) as usize);
        Some(text[skipped..].find(part).map_or(0, |at| count(&text[..skipped + at]) as i32 + 1))
    };
    call.build_numbers::<Int32Type>(|row| Ok(find(row)))
}

fn replace(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, part, with) = (call.text(0)?, call.text(1)?, call.text(2)?);
    call.write_text(|row, out| {
        let (Some(text), Some(part), Some(with)) = (text.get(row), part.get(row), with.get(row)) else {
            return Ok(None);
        };
        let mut end = 0;
        for (at, found) in text.match_indices(part) {
            out.push_str(&text[end..at]);
            out.push_str(with);
            end = at + found.len();
        }
        out.push_str(&text[end..]);
        Ok(Some(()))
    })
}

fn overlay(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, with, start) = (call.text(0)?, call.text(1)?, call.numbers::<Int32Type>(2)?);
    let size = if call.count() > 3 { Some(call.numbers::<Int32Type>(3)?) } else { None };
    let write = |row: usize, out: &mut String| -> Option<()> {
        let (text, with, start) = (text.get(row)?, with.get(row)?, start.get(row)?);
        let size = size.as_ref().map_or(Some(count(with) as i32), |size| size.get(row))?;
        if start < 1 || start as usize > count(text) {
            out.push_str(text);
            return Some(());
        }
        let from = start as usize - 1;
        out.push_str(slice(text, 0, from));
        out.push_str(with);
        if size > 0 {
            out.push_str(slice(text, from + size as usize, usize::MAX));
        }
        Some(())
    };
    call.write_text(|row, out| Ok(write(row, out)))
}

fn texts<'a>(call: &Call<'a>, from: usize) -> Result<Vec<Text<'a>>> {
    (from..call.count()).map(|index| call.text(index)).collect()
}

fn concat(call: &Call<'_>) -> Result<ArrayRef> {
    let parts = texts(call, 0)?;
    call.write_text(|row, out| {
        for part in &parts {
            let Some(part) = part.get(row) else { return Ok(None) };
            out.push_str(part);
        }
        Ok(Some(()))
    })
}

fn concat_ws(call: &Call<'_>) -> Result<ArrayRef> {
    let (separator, parts) = (call.text(0)?, texts(call, 1)?);
    call.write_text(|row, out| {
        let Some(separator) = separator.get(row) else { return Ok(None) };
        for (index, part) in parts.iter().filter_map(|part| part.get(row)).enumerate() {
            if index > 0 {
                out.push_str(separator);
            }
            out.push_str(part);
        }
        Ok(Some(()))
    })
}

fn pad(call: &Call<'_>, start: bool) -> Result<ArrayRef> {
    let (text, size, fill) = (call.text(0)?, call.numbers::<Int32Type>(1)?, call.text(2)?);
    call.write_text(|row, out| {
        let (Some(text), Some(size), Some(fill)) = (text.get(row), size.get(row), fill.get(row)) else {
            return Ok(None);
        };
        let Ok(size) = usize::try_from(size) else { return Ok(None) };
        if fill.is_empty() {
            return Ok(None);
        }
        check_size(size)?;
        let missing = size.saturating_sub(count(text));
        if !start {
            out.push_str(slice(text, 0, size));
        }
        out.extend(fill.chars().cycle().take(missing));
        if start {
            out.push_str(slice(text, 0, size));
        }
        Ok(Some(()))
    })
}

fn repeat(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, times) = (call.text(0)?, call.numbers::<Int32Type>(1)?);
    call.write_text(|row, out| {
        let (Some(text), Some(times)) = (text.get(row), times.get(row)) else { return Ok(None) };
        let times = times.max(0) as usize;
        check_size(times.saturating_mul(text.len()))?;
        for _ in 0..times {
            out.push_str(text);
        }
        Ok(Some(()))
    })
}

fn check_size(size: usize) -> Result<()> {
    if size > TEXT_BYTES_MAX {
        return exec_err!("a text of {size} bytes would be made, at most {TEXT_BYTES_MAX} are allowed");
    }
    Ok(())
}

fn split_index(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, index) = (call.text(0)?, call.numbers::<Int32Type>(2)?);
    if call.data_type(1) == arrow_schema::DataType::Int32 {
        let code = call.numbers::<Int32Type>(1)?;
        return call.borrow_text(|row| {
            let code = u8::try_from(code.get(row)?).ok().filter(|code| *code > 0)?;
            let mut buffer = [0; 4];
            part_at(text.get(row)?, char::from(code).encode_utf8(&mut buffer), index.get(row)?)
        });
    }
    let delimiter = call.text(1)?;
    call.borrow_text(|row| part_at(text.get(row)?, delimiter.get(row)?, index.get(row)?))
}

fn part_at<'a>(text: &'a str, delimiter: &str, index: i32) -> Option<&'a str> {
    let index = usize::try_from(index).ok()?;
    match delimiter.as_bytes() {
        _ if text.is_empty() => None,
        [] => text.split(char::is_whitespace).nth(index),
        [byte] => {
            let mut start = 0;
            let mut ends = memchr::memchr_iter(*byte, text.as_bytes());
            for _ in 0..index {
                start = ends.next()? + 1;
            }
            Some(&text[start..ends.next().unwrap_or(text.len())])
        }
        _ => text.split(delimiter).nth(index),
    }
}

fn test(call: &Call<'_>, holds: impl Fn(&str) -> bool) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.build_flags(|row| Ok(text.get(row).map(&holds)))
}

fn test_pair(call: &Call<'_>, holds: impl Fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (text, part) = (call.text(0)?, call.text(1)?);
    call.build_flags(|row| Ok(text.get(row).zip(part.get(row)).map(|(text, part)| holds(text, part))))
}

fn translate(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let write = |row: usize, out: &mut String| -> Option<()> {
        let (text, from, to) = (text.get(row)?, from.get(row)?, to.get(row)?);
        out.extend(text.chars().filter_map(|c| match from.chars().position(|other| other == c) {
            Some(index) => to.chars().nth(index),
            None => Some(c),
        }));
        Some(())
    };
    call.write_text(|row, out| Ok(write(row, out)))
}

fn elt(call: &Call<'_>) -> Result<ArrayRef> {
    let (index, parts) = (call.numbers::<Int32Type>(0)?, texts(call, 1)?);
    call.borrow_text(|row| parts.get(usize::try_from(index.get(row)? - 1).ok()?)?.get(row))
}

fn count_char(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, part) = (call.text(0)?, call.text(1)?);
    let find = |text: &str, part: &str| match part.as_bytes() {
        [] => 0,
        [byte] => memchr::memchr_iter(*byte, text.as_bytes()).count() as i64,
        _ => part.chars().next().map_or(0, |c| text.matches(c).count() as i64),
    };
    call.build_numbers::<Int64Type>(|row| Ok(text.get(row).zip(part.get(row)).map(|(text, part)| find(text, part))))
}
