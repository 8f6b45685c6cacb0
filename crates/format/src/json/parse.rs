//! One JSON text into columns: objects by their learned shape, values by their column's type.
//!
//! Every value has a fast attempt for the common form (a short integer, a string without escapes, a timestamp in the
//! minute of the last one) and a general path that takes any form. The fast attempt either reads exactly what the general
//! path would or declines; `fast: false` turns it off, and a property test holds the two against each other.

use super::scan::{string_stop, word16};
use super::shape::{Key, Shape};
use crate::column::{Column, Maps, Record, Span, Timestamps, Values};
use crate::scalar::number::{self, Misfit};
use crate::scalar::time;
use crate::types;

/// The deepest nesting of values that no column takes.
const DEPTH_MAX: usize = 128;

/// What is wrong at a byte of the text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) reason: String,
}

/// The index of the byte behind what was read.
pub(crate) type Parsed = Result<usize, Box<Fault>>;

#[cold]
#[inline(never)]
pub(crate) fn fault<T>(at: usize, reason: impl Into<String>) -> Result<T, Box<Fault>> {
    Err(Box::new(Fault { at, reason: reason.into() }))
}

/// How records are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whether the fast attempts are made.
    pub(crate) fast: bool,
    /// Whether a newline may stand between tokens; in NDJSON it ends the record.
    pub(crate) newline_is_space: bool,
    /// Whether a missing key is a fault also for columns that may be null.
    pub(crate) fail_on_missing: bool,
}

/// A reader of one block.
pub(crate) struct Parser<'a> {
    pub(crate) text: &'a str,
    pub(crate) arena: &'a mut String,
    pub(crate) rules: Rules,
}

impl<'a> Parser<'a> {
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    #[inline(always)]
    pub(crate) fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The first byte from `at` on that is no space.
    #[inline(always)]
    pub(crate) fn space(&self, mut at: usize) -> usize {
        while let Some(byte) = self.byte(at) {
            match byte {
                b' ' | b'\t' | b'\r' => at += 1,
                b'\n' if self.rules.newline_is_space => at += 1,
                _ => break,
            }
        }
        at
    }

    /// What stands at `at`, in words for an error.
    pub(crate) fn found(&self, at: usize) -> String {
        match self.byte(at) {
            None => "the end of the input".into(),
            Some(b'\n') => "the end of the line".into(),
            Some(b'{') => "an object".into(),
            Some(b'[') => "an array".into(),
            Some(_) => {
                let rest = &self.text[self.text.floor_char_boundary(at)..];
                let token = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '"' | '.' | '+' | '-' | '_');
                let end = match rest.strip_prefix('"') {
                    Some(rest) => rest.find(['"', '\n']).map_or(rest.len(), |end| end + 2),
                    None => rest.find(token).unwrap_or(rest.len()).max(1),
                };
                let cut: String = rest[..rest.ceil_char_boundary(end.min(rest.len()))].chars().take(40).collect();
                cut.trim_end_matches('\n').to_string()
            }
        }
    }

    /// Reads the object at `at` as one row of `record`. On a fault the columns hold parts of the row: cut them back.
    pub(crate) fn object(&mut self, record: &mut Record, at: usize) -> Parsed {
        if self.byte(at) != Some(b'{') {
            return fault(at, format!("expected an object, found {}", self.found(at)));
        }
        // Kept in locals: the text cannot change while the columns do, which the compiler does not see through `self`.
        let (bytes, fast, row) = (self.bytes(), self.rules.fast, record.rows);
        let (columns, shape) = (&mut record.columns[..], &mut record.shape);
        let (mut at, mut previous, mut filled) = (at, Shape::START, 0);
        loop {
            let predicted = if fast { shape.predict(bytes, previous, at) } else { None };
            let key = match predicted {
                // A slot ends where a value began once; a space may stand there now.
                Some(key) if bytes.get(key.value_at).is_some_and(|&byte| byte <= b' ') => {
                    Key { value_at: self.space(key.value_at), ..key }
                }
                Some(key) => key,
                None => match self.key(shape, previous, at)? {
                    Ok(key) => key,
                    Err(end) => {
                        at = end;
                        break;
                    }
                },
            };
            previous = key.slot;
            at = match columns.get_mut(key.column as usize) {
                Some(column) => {
                    if column.len == row {
                        filled += 1;
                    } else {
                        column.truncate(row);
                    }
                    match if fast { fast_value(bytes, column, key.value_at) } else { None } {
                        Some(end) => end,
                        None => self.general_value(column, key.value_at)?,
                    }
                }
                None => self.skip(key.value_at, 0)?,
            };
            let mut next = bytes.get(at);
            if !matches!(next, Some(b',' | b'}')) {
                at = self.space(at);
                next = bytes.get(at);
            }
            match next {
                Some(b',') => {}
                Some(b'}') => {
                    at += 1;
                    break;
                }
                _ => return fault(at, format!("expected ',' or '}}' after a value, found {}", self.found(at))),
            }
        }
        if filled < columns.len() {
            self.fill_missing(columns, row, at)?;
        }
        record.rows += 1;
        Ok(at)
    }

    /// Reads the key behind the `{` or `,` at `at`, the slow way; `Err` is the end of an empty object.
    #[inline(never)]
    fn key(&mut self, shape: &mut Shape, previous: u32, at: usize) -> Result<Result<Key, usize>, Box<Fault>> {
        let start = self.space(at + 1);
        if self.byte(start) == Some(b'}') && self.byte(at) == Some(b'{') {
            return Ok(Err(start + 1));
        }
        if self.byte(start) != Some(b'"') {
            return fault(start, format!("expected a key in quotes, found {}", self.found(start)));
        }
        let (span, end) = self.string(start)?;
        let column = shape.column(span.of(self.text, self.arena).as_bytes());
        let value_at = self.colon(end)?;
        let pattern = &self.bytes()[at..value_at];
        // A newline is a space in a request's body only, so no slot may contain one.
        let learns = self.rules.fast && !pattern.contains(&b'\n');
        let slot = if learns { shape.learn(previous, pattern, column) } else { Shape::NONE };
        Ok(Ok(Key { slot, column, value_at }))
    }

    fn colon(&self, at: usize) -> Parsed {
        let at = self.space(at);
        if self.byte(at) != Some(b':') {
            return fault(at, format!("expected ':' after a key, found {}", self.found(at)));
        }
        Ok(self.space(at + 1))
    }

    #[inline(never)]
    fn fill_missing(&self, columns: &mut [Column], row: usize, at: usize) -> Result<(), Box<Fault>> {
        for column in columns.iter_mut().filter(|column| column.len == row) {
            if !column.field.is_nullable() {
                return fault(at - 1, format!("column '{}' is NOT NULL and its key is missing", column.path));
            }
            if self.rules.fail_on_missing {
                return fault(at - 1, format!("the key of column '{}' is missing", column.path));
            }
            column.push_null();
        }
        Ok(())
    }

    /// Reads the value at `at` into `column`.
    fn value(&mut self, column: &mut Column, at: usize) -> Parsed {
        match if self.rules.fast { fast_value(self.bytes(), column, at) } else { None } {
            Some(end) => Ok(end),
            None => self.general_value(column, at),
        }
    }

    #[inline(never)]
    fn general_value(&mut self, column: &mut Column, at: usize) -> Parsed {
        match self.byte(at) {
            Some(b'n') => {
                let end = self.literal(at, "null")?;
                if !column.field.is_nullable() {
                    return fault(at, format!("column '{}' is NOT NULL, found null", column.path));
                }
                column.push_null();
                Ok(end)
            }
            Some(b'"') => {
                let (span, end) = self.string(at)?;
                if matches!(column.values, Values::Strings(_)) {
                    column.push_span(span);
                    return Ok(end);
                }
                self.scalar(column, at, span)?;
                Ok(end)
            }
            Some(b'{' | b'[') => self.nested(column, at),
            _ => {
                let end = self.plain(at)?;
                let span = Span::block(at, end);
                if matches!(column.values, Values::Strings(_)) {
                    column.push_span(span);
                    return Ok(end);
                }
                self.scalar(column, at, span)?;
                Ok(end)
            }
        }
    }

    fn scalar(&self, column: &mut Column, at: usize, span: Span) -> Result<(), Box<Fault>> {
        match column.push_text(span.of(self.text, self.arena).trim()) {
            Ok(()) => Ok(()),
            Err(misfit) => fault(at, misfit_reason(column, misfit, &self.found(at))),
        }
    }

    fn nested(&mut self, column: &mut Column, at: usize) -> Parsed {
        let is_object = self.byte(at) == Some(b'{');
        match &mut column.values {
            Values::Struct(record) if is_object => {
                let end = self.object(record, at)?;
                column.len += 1;
                Ok(end)
            }
            Values::Maps(maps) if is_object => {
                let end = self.map(maps, at)?;
                column.len += 1;
                Ok(end)
            }
            Values::Lists(lists) if !is_object => {
                let end = self.list(&mut lists.items, at)?;
                lists.offsets.push(lists.items.len as i32);
                column.len += 1;
                Ok(end)
            }
            Values::Strings(_) => {
                let end = self.skip(at, 0)?;
                column.push_span(Span::block(at, end));
                Ok(end)
            }
            _ => fault(at, misfit_reason(column, Misfit::Form, &self.found(at))),
        }
    }

    fn list(&mut self, items: &mut Column, at: usize) -> Parsed {
        let mut at = self.space(at + 1);
        if self.byte(at) == Some(b']') {
            return Ok(at + 1);
        }
        loop {
            at = self.value(items, at)?;
            at = self.space(at);
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return fault(at, format!("expected ',' or ']' after an item, found {}", self.found(at))),
            }
        }
    }

    /// Reads an object as a map. A key that comes twice keeps its last value.
    fn map(&mut self, maps: &mut Maps, at: usize) -> Parsed {
        let first = maps.keys.len;
        let mut entries: Vec<(Span, usize)> = Vec::new();
        let end = self.entries(at, |parser, span, value_at| {
            entries.push((span, value_at));
            maps.keys.push_span(span);
            parser.value(&mut maps.values, value_at)
        })?;
        if self.has_twice(&entries) {
            maps.keys.truncate(first);
            maps.values.truncate(first);
            for (span, value_at) in self.last_of_each(&entries) {
                maps.keys.push_span(span);
                self.value(&mut maps.values, value_at)?;
            }
        }
        maps.offsets.push(maps.keys.len as i32);
        Ok(end)
    }

    pub(crate) fn entries(&mut self, at: usize, mut entry: impl FnMut(&mut Self, Span, usize) -> Parsed) -> Parsed {
        let mut at = self.space(at + 1);
        if self.byte(at) == Some(b'}') {
            return Ok(at + 1);
        }
        loop {
            if self.byte(at) != Some(b'"') {
                return fault(at, format!("expected a key in quotes, found {}", self.found(at)));
            }
            let (span, end) = self.string(at)?;
            let value_at = self.colon(end)?;
            at = entry(self, span, value_at)?;
            at = self.space(at);
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b'}') => return Ok(at + 1),
                _ => return fault(at, format!("expected ',' or '}}' after a value, found {}", self.found(at))),
            }
        }
    }

    fn has_twice(&self, entries: &[(Span, usize)]) -> bool {
        let mut keys: Vec<&str> = entries.iter().map(|(span, _)| span.of(self.text, self.arena)).collect();
        keys.sort_unstable();
        keys.windows(2).any(|pair| pair[0] == pair[1])
    }

    fn last_of_each(&self, entries: &[(Span, usize)]) -> Vec<(Span, usize)> {
        let mut seen = std::collections::HashSet::new();
        let mut kept: Vec<_> =
            entries.iter().rev().filter(|(span, _)| seen.insert(span.of(self.text, self.arena))).copied().collect();
        kept.reverse();
        kept
    }

    /// Reads the string at `at`; its span is in the arena when it had escapes.
    pub(crate) fn string(&mut self, at: usize) -> Result<(Span, usize), Box<Fault>> {
        let stop = string_stop(self.bytes(), at + 1);
        match self.byte(stop) {
            Some(b'"') => Ok((Span::block(at + 1, stop), stop + 1)),
            Some(b'\\') => self.escaped(at + 1, stop),
            _ => self.string_fault(stop),
        }
    }

    #[cold]
    fn string_fault<T>(&self, stop: usize) -> Result<T, Box<Fault>> {
        match self.byte(stop) {
            None | Some(b'\n') => fault(stop, format!("a string has no closing quote before {}", self.found(stop))),
            Some(byte) => fault(stop, format!("a control character in a string must be written as \\u{byte:04x}")),
        }
    }

    /// Rewrites the string that began at `start` and has its first escape at `stop`.
    fn escaped(&mut self, start: usize, mut stop: usize) -> Result<(Span, usize), Box<Fault>> {
        let arena_start = self.arena.len();
        let mut from = start;
        loop {
            self.arena.push_str(&self.text[from..stop]);
            match self.byte(stop) {
                Some(b'"') => {
                    if self.arena.len() > Span::LIMIT {
                        return fault(start, "the strings with escapes of one block are too long");
                    }
                    return Ok((Span::arena(arena_start, self.arena.len()), stop + 1));
                }
                Some(b'\\') => {
                    let (character, end) = self.escape(stop)?;
                    self.arena.push(character);
                    from = end;
                    stop = string_stop(self.bytes(), from);
                }
                _ => return self.string_fault(stop),
            }
        }
    }

    /// Reads the escape at `at`.
    fn escape(&self, at: usize) -> Result<(char, usize), Box<Fault>> {
        let character = match self.byte(at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(at),
            _ => return fault(at, "a backslash in a string begins none of JSON's escapes"),
        };
        Ok((character, at + 2))
    }

    fn unicode_escape(&self, at: usize) -> Result<(char, usize), Box<Fault>> {
        let first = self.hex4(at)?;
        if !(0xD800..0xDC00).contains(&first) {
            return match char::from_u32(first) {
                Some(character) => Ok((character, at + 6)),
                None => fault(at, format!("\\u{first:04x} is the second half of a surrogate pair without its first")),
            };
        }
        if self.bytes().get(at + 6..at + 8) == Some(b"\\u")
            && let second @ 0xDC00..0xE000 = self.hex4(at + 6)?
            && let Some(character) = char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
        {
            return Ok((character, at + 12));
        }
        fault(at, format!("\\u{first:04x} is the first half of a surrogate pair without its second"))
    }

    fn hex4(&self, at: usize) -> Result<u32, Box<Fault>> {
        let digits = self.bytes().get(at + 2..at + 6).unwrap_or_default();
        let value = digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?));
        match value {
            Some(value) if digits.len() == 4 => Ok(value),
            _ => fault(at, "\\u needs four hexadecimal digits"),
        }
    }

    fn literal(&self, at: usize, word: &'static str) -> Parsed {
        let end = at + word.len();
        let ended = !self.byte(end).is_some_and(|byte| byte.is_ascii_alphanumeric());
        if self.bytes().get(at..end) == Some(word.as_bytes()) && ended {
            return Ok(end);
        }
        fault(at, format!("expected a value, found {}", self.found(at)))
    }

    /// The end of the number, `true` or `false` at `at`.
    fn plain(&self, at: usize) -> Parsed {
        match self.byte(at) {
            Some(b't') => self.literal(at, "true"),
            Some(b'f') => self.literal(at, "false"),
            Some(b'-' | b'0'..=b'9') => self.number(at),
            _ => fault(at, format!("expected a value, found {}", self.found(at))),
        }
    }

    /// The end of the number at `at`, as RFC 8259 writes it.
    fn number(&self, start: usize) -> Parsed {
        let mut at = start + usize::from(self.byte(start) == Some(b'-'));
        let whole = self.digits(at);
        if whole == at || (self.byte(at) == Some(b'0') && whole > at + 1) {
            return fault(start, format!("{} is no number as JSON writes it", self.found(start)));
        }
        at = whole;
        if self.byte(at) == Some(b'.') {
            let end = self.digits(at + 1);
            if end == at + 1 {
                return fault(start, format!("{} needs a digit behind its point", self.found(start)));
            }
            at = end;
        }
        if matches!(self.byte(at), Some(b'e' | b'E')) {
            let digits_at = at + 1 + usize::from(matches!(self.byte(at + 1), Some(b'+' | b'-')));
            at = self.digits(digits_at);
            if at == digits_at {
                return fault(start, format!("{} needs a digit in its exponent", self.found(start)));
            }
        }
        Ok(at)
    }

    fn digits(&self, mut at: usize) -> usize {
        while self.byte(at).is_some_and(|byte| byte.is_ascii_digit()) {
            at += 1;
        }
        at
    }

    /// Checks the form of the value at `at` that no column takes.
    pub(crate) fn skip(&mut self, at: usize, depth: usize) -> Parsed {
        match self.byte(at) {
            Some(b'"') => self.skip_string(at),
            Some(b'n') => self.literal(at, "null"),
            Some(b'{' | b'[') if depth >= DEPTH_MAX => {
                fault(at, format!("values are nested deeper than {DEPTH_MAX} levels"))
            }
            Some(b'{') => self.entries(at, |parser, _, value_at| parser.skip(value_at, depth + 1)),
            Some(b'[') => self.skip_array(at, depth),
            _ => self.plain(at),
        }
    }

    fn skip_array(&mut self, at: usize, depth: usize) -> Parsed {
        let mut at = self.space(at + 1);
        if self.byte(at) == Some(b']') {
            return Ok(at + 1);
        }
        loop {
            at = self.skip(at, depth + 1)?;
            at = self.space(at);
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return fault(at, format!("expected ',' or ']' after an item, found {}", self.found(at))),
            }
        }
    }

    #[inline(always)]
    fn skip_string(&self, at: usize) -> Parsed {
        let mut stop = string_stop(self.bytes(), at + 1);
        loop {
            match self.byte(stop) {
                Some(b'"') => return Ok(stop + 1),
                Some(b'\\') => {
                    let (_, end) = self.escape(stop)?;
                    stop = string_stop(self.bytes(), end);
                }
                _ => return self.string_fault(stop),
            }
        }
    }
}

/// Reads the value at `at` into `column` when it has the common form of its type.
#[inline(always)]
fn fast_value(bytes: &[u8], column: &mut Column, at: usize) -> Option<usize> {
    let end = match &mut column.values {
        Values::Int64(values) => {
            let (value, end) = number::short_integer(bytes, at)?;
            // Anything else could be the rest of the number: a point, an exponent, a digit too many.
            if !matches!(bytes.get(end), Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r')) {
                return None;
            }
            values.push(value);
            end
        }
        Values::Strings(strings) if bytes.get(at) == Some(&b'"') => {
            let end = string_stop(bytes, at + 1);
            if bytes.get(end) != Some(&b'"') {
                return None;
            }
            strings.pending.push(Span::block(at + 1, end));
            end + 1
        }
        Values::Timestamps(timestamps) => timestamps.push_fast(bytes, at)?,
        _ => return None,
    };
    column.len += 1;
    Some(end)
}

/// Why `found` is no value of the column.
pub(crate) fn misfit_reason(column: &Column, misfit: Misfit, found: &str) -> String {
    let wanted = types::sql_name(column.field.data_type());
    let hint = match &column.values {
        Values::Timestamps(Timestamps { zone: None, .. }) => " like '2013-01-01 10:00:00.123', without a zone",
        Values::Timestamps(_) => " like '2013-01-01T10:00:00.123Z', with its zone",
        Values::Date(_) => " like '2013-01-01'",
        Values::Time32(..) | Values::Time64(..) => " like '10:00:00'",
        Values::Binaries(_) => " in base64",
        Values::Struct(_) | Values::Maps(_) => " as an object",
        Values::Lists(_) => " as an array",
        _ => "",
    };
    match misfit {
        Misfit::Form => format!("column '{}': expected {wanted}{hint}, found {found}", column.path),
        Misfit::Range => format!("column '{}': {found} is out of the range of {wanted}", column.path),
    }
}

impl Timestamps {
    /// Reads `"YYYY-MM-DD HH:MM:SS.mmm"` (or with `T`, or `Z` when the column has a zone) at `at`, and returns the index
    /// behind it. Any other form is declined.
    #[inline(always)]
    fn push_fast(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let prefix = word16(bytes, at + 1);
        if u128::from_le_bytes(prefix) != u128::from_le_bytes(self.minute.0) {
            self.learn_minute(prefix)?;
        }
        let tail = bytes.get(at + 17..).and_then(|rest| rest.first_chunk::<8>())?;
        let tail = u64::from_le_bytes(*tail);
        let (closing, end) = match self.zone {
            None => (b'"', at + 25),
            Some(_) if bytes.get(at + 25) == Some(&b'"') => (b'Z', at + 26),
            Some(_) => return None,
        };
        // `:SS.mmm"`, first byte lowest: what remains after this is the digits' values.
        let digits = tail ^ (0x0030_3030_2E30_303A | (closing as u64) << 56);
        let too_great = (digits.wrapping_add(0x0006_0606_0006_0600) | digits) & 0xFFF0_F0F0_FFF0_F0FF;
        if too_great != 0 {
            return None;
        }
        let digit = |index: u32| (digits >> (8 * index)) as i64 & 0xF;
        let seconds = digit(1) * 10 + digit(2);
        if seconds > 59 {
            return None;
        }
        let millis = digit(4) * 100 + digit(5) * 10 + digit(6);
        let per_second = time::per_second(self.unit);
        let fraction = if per_second >= 1_000 { millis * (per_second / 1_000) } else { 0 };
        let value = (self.minute.1 + seconds).checked_mul(per_second)?.checked_add(fraction)?;
        self.values.push(value);
        Some(end)
    }

    #[cold]
    fn learn_minute(&mut self, prefix: [u8; 16]) -> Option<()> {
        let text = std::str::from_utf8(&prefix).ok()?;
        let moment = time::moment(text).ok()?;
        self.minute = (prefix, moment.seconds);
        Some(())
    }
}
