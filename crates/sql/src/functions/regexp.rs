//! Regular expressions: Java's notation on Rust's linear-time engine.
//!
//! `\d`, `\w`, `\s` are ASCII as in Java. Look-around and back-references do not exist here; such a pattern, or one that
//! is not well formed, is refused with its reason (when planned, if it is a literal).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_schema::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use regex::Regex;

use super::call::{Call, Text};
use super::collection::{list_of, map_names, map_of};
use super::function::Function;

/// Compiled patterns kept per thread; a query has few, and the cache is emptied when it is full.
const PATTERNS_MAX: usize = 128;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "regexp",
        "REGEXP(STRING, STRING) -> BOOLEAN",
        "Whether a part of the text matches the pattern.",
        &[("REGEXP('foobar', 'o+b')", "true")],
        |call| {
            call.each_match(|pattern, text| Ok(!pattern.as_str().is_empty() && pattern.is_match(text)))
        },
    )
    .aliases(&["regexp_like"])
    .returns_by_literals(|_, literals| checked(literals, DataType::Boolean)),
    Function::new(
        "$similar_to",
        "$similar_to(STRING, STRING) -> BOOLEAN",
        "Whether the whole text matches an SQL pattern: `%`, `_`, `|`, `*`, `+`, `?`, `{m,n}`, brackets.",
        &[("'abc' SIMILAR TO 'a(b|x)%'", "true")],
        similar_to,
    )
    .shown("STRING SIMILAR TO STRING"),
    Function::new(
        "regexp_extract",
        "REGEXP_EXTRACT(STRING, STRING[, INT]) -> STRING",
        "What a group of the pattern (0, the default, is all of it) matched first; NULL without a match.",
        &[("REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 2)", "bar")],
        extract,
    )
    .returns_by_literals(|_, literals| checked(literals, DataType::Utf8)),
    Function::new(
        "regexp_extract_all",
        "REGEXP_EXTRACT_ALL(STRING, STRING[, INT]) -> ARRAY",
        "What a group of the pattern (1 is the default) matched, each time.",
        &[("REGEXP_EXTRACT_ALL('a1b2', '[a-z](\\d)', 1)", "[1, 2]")],
        extract_all,
    )
    .returns_by_literals(|_, literals| checked(literals, list_of(DataType::Utf8))),
    Function::new(
        "regexp_replace",
        "REGEXP_REPLACE(STRING, STRING, STRING) -> STRING",
        "With each match replaced by a text, taken literally.",
        &[("REGEXP_REPLACE('foobar', 'oo|ar', '')", "fb")],
        replace,
    )
    .returns_by_literals(|_, literals| checked(literals, DataType::Utf8)),
    Function::new(
        "regexp_count",
        "REGEXP_COUNT(STRING, STRING) -> INT",
        "How often the pattern matches.",
        &[("REGEXP_COUNT('ababa', 'ab')", "2")],
        |call| {
            let matcher = Matcher::new(call)?;
            call.build_numbers::<Int32Type>(|row| matcher.at(row, |pattern, text| Ok(pattern.find_iter(text).count() as i32)))
        },
    )
    .returns_by_literals(|_, literals| checked(literals, DataType::Int32)),
    Function::new(
        "regexp_substr",
        "REGEXP_SUBSTR(STRING, STRING) -> STRING",
        "The first match; NULL without one.",
        &[("REGEXP_SUBSTR('hello', 'l+')", "ll")],
        extract,
    )
    .returns_by_literals(|_, literals| checked(literals, DataType::Utf8)),
    Function::new(
        "regexp_instr",
        "REGEXP_INSTR(STRING, STRING) -> INT",
        "Where the first match begins, from 1; 0 without one.",
        &[("REGEXP_INSTR('hello', 'l+')", "3")],
        |call| {
            let matcher = Matcher::new(call)?;
            call.build_numbers::<Int32Type>(|row| {
                matcher.at(row, |pattern, text| {
                    Ok(pattern.find(text).map_or(0, |found| super::string::count(&text[..found.start()]) as i32 + 1))
                })
            })
        },
    )
    .returns_by_literals(|_, literals| checked(literals, DataType::Int32)),
    Function::new(
        "split",
        "SPLIT(STRING, STRING) -> ARRAY",
        "The parts between delimiters; the characters when the delimiter is empty.",
        &[("SPLIT('a,,c', ',')", "[a, , c]")],
        split,
    )
    .returns(|_| Ok(list_of(DataType::Utf8))),
    Function::new(
        "str_to_map",
        "STR_TO_MAP(STRING[, STRING, STRING]) -> MAP",
        "The pairs of a text like `k1=v1,k2=v2`; the delimiters of pairs and of key and value may be given as patterns.",
        &[("STR_TO_MAP('k1=v1,k2=v2')", "{k1=v1, k2=v2}")],
        str_to_map,
    )
    .returns(|_| Ok(map_of(DataType::Utf8, DataType::Utf8))),
];

/// The result type, after a look at the pattern when it is a literal.
fn checked(literals: &[Option<&ScalarValue>], result: DataType) -> Result<DataType> {
    if let Some(Some(ScalarValue::Utf8(Some(pattern)))) = literals.get(1)
        && let Err(reason) = compile(pattern)
    {
        return plan_err!("{reason}");
    }
    Ok(result)
}

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Arc<Regex>>> = RefCell::default();
}

/// Compiles a pattern, or finds it compiled.
pub(super) fn compile(pattern: &str) -> Result<Arc<Regex>, String> {
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(found) = patterns.get(pattern) {
            return Ok(Arc::clone(found));
        }
        let compiled = Regex::new(&from_java(pattern)).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("the pattern '{pattern}' cannot be used: {reason}")
        })?;
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        let compiled = Arc::new(compiled);
        patterns.insert(pattern.to_owned(), Arc::clone(&compiled));
        Ok(compiled)
    })
}

/// Writes Java's ASCII classes out.
fn from_java(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        if c != '\\' {
            depth = match c {
                '[' => depth + 1,
                ']' => depth.saturating_sub(1),
                _ => depth,
            };
            out.push(c);
            continue;
        }
        let class = match chars.next() {
            Some('d') => "0-9",
            Some('w') => "a-zA-Z_0-9",
            Some('s') => " \\t\\n\\x0B\\f\\r",
            Some('D') => "^0-9",
            Some('W') => "^a-zA-Z_0-9",
            Some('S') => "^ \\t\\n\\x0B\\f\\r",
            Some('h') => " \\t\\u{A0}\\u{1680}\\u{180e}\\u{2000}-\\u{200a}\\u{202f}\\u{205f}\\u{3000}",
            Some('Z') => {
                out.push_str("\\n?\\z");
                continue;
            }
            other => {
                out.push('\\');
                out.extend(other);
                continue;
            }
        };
        if depth > 0 && !class.starts_with('^') {
            out.push_str(class);
        } else {
            out.push('[');
            out.push_str(class);
            out.push(']');
        }
    }
    out
}

/// Text and pattern of a call, the pattern compiled once when it is the same for all rows.
struct Matcher<'a> {
    text: Text<'a>,
    pattern: Text<'a>,
    compiled: Option<Arc<Regex>>,
}

impl<'a> Matcher<'a> {
    fn new(call: &Call<'a>) -> Result<Self> {
        let pattern = call.text(1)?;
        let compiled = match pattern {
            Text::One(Some(pattern)) => Some(compiled(pattern)?),
            _ => None,
        };
        Ok(Matcher { text: call.text(0)?, pattern, compiled })
    }

    fn at<R>(&self, row: usize, apply: impl FnOnce(&Regex, &'a str) -> Result<R>) -> Result<Option<R>> {
        let Some(text) = self.text.get(row) else { return Ok(None) };
        match (&self.compiled, self.pattern.get(row)) {
            (Some(pattern), _) => apply(pattern, text).map(Some),
            (None, Some(pattern)) => apply(&*compiled(pattern)?, text).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn compiled(pattern: &str) -> Result<Arc<Regex>> {
    match compile(pattern) {
        Ok(compiled) => Ok(compiled),
        Err(reason) => exec_err!("{reason}"),
    }
}

impl Call<'_> {
    fn each_match(&self, holds: impl Fn(&Regex, &str) -> Result<bool>) -> Result<ArrayRef> {
        let matcher = Matcher::new(self)?;
        self.build_flags(|row| matcher.at(row, &holds))
    }
}

fn similar_to(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, pattern) = (call.text(0)?, call.text(1)?);
    let shared = match pattern {
        Text::One(Some(pattern)) => Some(compiled(&from_sql(pattern))?),
        _ => None,
    };
    call.build_flags(|row| {
        let (Some(text), Some(pattern)) = (text.get(row), pattern.get(row)) else { return Ok(None) };
        match &shared {
            Some(pattern) => Ok(Some(pattern.is_match(text))),
            None => Ok(Some(compiled(&from_sql(pattern))?.is_match(text))),
        }
    })
}

/// Writes an SQL pattern as a regular expression for the whole text.
fn from_sql(pattern: &str) -> String {
    let mut out = String::from("(?s)^(?:");
    let mut inside = false;
    for c in pattern.chars() {
        match c {
            '%' if !inside => out.push_str(".*"),
            '_' if !inside => out.push('.'),
            '.' | '$' | '^' if !inside => out.extend(['\\', c]),
            '\\' => out.push_str("\\\\"),
            _ => {
                inside = c == '[' || inside && c != ']';
                out.push(c);
            }
        }
    }
    out.push_str(")$");
    out
}

fn extract(call: &Call<'_>) -> Result<ArrayRef> {
    let matcher = Matcher::new(call)?;
    let group = if call.count() > 2 { Some(call.numbers::<Int32Type>(2)?) } else { None };
    let mut builder = StringBuilder::with_capacity(call.rows, call.rows * 8);
    // One buffer of group positions serves all rows while the pattern is the same.
    let mut locations = matcher.compiled.as_ref().map(|pattern| pattern.capture_locations());
    for row in 0..call.rows {
        let group =
            group.as_ref().map_or(Some(0), |group| group.get(row)).and_then(|group| usize::try_from(group).ok());
        let found = matcher.at(row, |pattern, text| {
            let Some(group) = group else { return Ok(None) };
            let range = match (&mut locations, group) {
                (_, 0) => pattern.find(text).map(|found| (found.start(), found.end())),
                (Some(locations), _) => pattern.captures_read(locations, text).and_then(|_| locations.get(group)),
                (None, _) => {
                    let mut locations = pattern.capture_locations();
                    pattern.captures_read(&mut locations, text).and_then(|_| locations.get(group))
                }
            };
            Ok(range.map(|(start, end)| &text[start..end]))
        })?;
        builder.append_option(found.flatten());
    }
    Ok(Arc::new(builder.finish()))
}

fn extract_all(call: &Call<'_>) -> Result<ArrayRef> {
    let matcher = Matcher::new(call)?;
    let group = if call.count() > 2 { Some(call.numbers::<Int32Type>(2)?) } else { None };
    let mut builder = super::collection::text_list_builder();
    for row in 0..call.rows {
        let group =
            group.as_ref().map_or(Some(1), |group| group.get(row)).and_then(|group| usize::try_from(group).ok());
        let found = matcher.at(row, |pattern, text| {
            let Some(group) = group.filter(|group| *group < pattern.captures_len()) else { return Ok(false) };
            for captures in pattern.captures_iter(text) {
                builder.values().append_option(captures.get(group).map(|found| found.as_str()));
            }
            Ok(true)
        })?;
        builder.append(found == Some(true));
    }
    Ok(Arc::new(builder.finish()))
}

fn replace(call: &Call<'_>) -> Result<ArrayRef> {
    let (matcher, with) = (Matcher::new(call)?, call.text(2)?);
    call.write_text(|row, out| {
        let Some(with) = with.get(row) else { return Ok(None) };
        matcher.at(row, |pattern, text| {
            let mut end = 0;
            for found in pattern.find_iter(text) {
                out.push_str(&text[end..found.start()]);
                out.push_str(with);
                end = found.end();
            }
            out.push_str(&text[end..]);
            Ok(())
        })
    })
}

fn split(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, delimiter) = (call.text(0)?, call.text(1)?);
    let mut builder = super::collection::text_list_builder();
    for row in 0..call.rows {
        let (Some(text), Some(delimiter)) = (text.get(row), delimiter.get(row)) else {
            builder.append(false);
            continue;
        };
        if delimiter.is_empty() {
            let mut buffer = [0; 4];
            text.chars().for_each(|c| builder.values().append_value(c.encode_utf8(&mut buffer)));
        } else if !text.is_empty() {
            text.split(delimiter).for_each(|part| builder.values().append_value(part));
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

fn str_to_map(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let given =
        |index: usize, default| if call.count() > index { call.text(index) } else { Ok(Text::One(Some(default))) };
    let (pairs_by, value_by) = (given(1, ",")?, given(2, "=")?);
    let mut builder = MapBuilder::new(Some(map_names()), StringBuilder::new(), StringBuilder::new())
        .with_values_field(Arc::new(Field::new("value", DataType::Utf8, true)));
    for row in 0..call.rows {
        let (Some(text), Some(pairs_by), Some(value_by)) = (text.get(row), pairs_by.get(row), value_by.get(row)) else {
            builder.append(false)?;
            continue;
        };
        let (pairs_by, value_by) = (compiled(pairs_by)?, compiled(value_by)?);
        let mut pairs: Vec<(&str, Option<&str>)> = Vec::new();
        for pair in pairs_by.split(text).filter(|pair| !pair.is_empty()) {
            let mut sides = value_by.splitn(pair, 2);
            let (key, value) = (sides.next().unwrap_or_default(), sides.next());
            match pairs.iter_mut().find(|(other, _)| *other == key) {
                Some(known) => known.1 = value,
                None => pairs.push((key, value)),
            }
        }
        for (key, value) in pairs {
            builder.keys().append_value(key);
            builder.values().append_option(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}
