//! NDJSON: one object a line, blank lines skipped.

use std::ops::Range;

use arrow_schema::SchemaRef;

use super::JsonOptions;
use super::parse::{Fault, Parser, Rules, fault};
use crate::batch::{Batches, Decoded, Place};
use crate::column::Span;
use crate::error::Error;
use crate::format::Decoder;

/// Decodes JSON objects into the columns of a schema; keys that no column has are checked for form and dropped.
pub struct JsonDecoder {
    pub(super) batches: Batches,
    pub(super) options: JsonOptions,
    /// Whether the rows of a body stay in the columns until they are kept.
    pub(super) gathers: bool,
}

pub(super) const FORMAT: &str = "json";

impl JsonDecoder {
    /// A decoder into `schema`: the needed columns, by the names of their keys.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] when a column's type has no form in JSON.
    pub fn new(options: JsonOptions, schema: SchemaRef) -> Result<Self, Error> {
        Ok(JsonDecoder { batches: Batches::new(schema, false, FORMAT)?, options, gathers: false })
    }

    /// A decoder whose rows stay in its columns.
    pub(super) fn gathering(options: JsonOptions, schema: SchemaRef) -> Result<Self, Error> {
        Ok(JsonDecoder { gathers: true, ..JsonDecoder::new(options, schema)? })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        self.batches.schema()
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, block: &[u8], out: &mut Decoded) -> Result<(), Error> {
        let rules = self.options.rules(false);
        decode_lines(&mut self.batches, block, FORMAT, self.options.ignore_parse_errors, out, |batches, line| {
            let Batches { record, arena, .. } = batches;
            let mut parser = Parser { text: line.text, arena, rules };
            let end = parser.object(record, line.at)?;
            Ok((end, &[1][..]))
        })
    }
}

impl JsonOptions {
    pub(super) fn rules(&self, newline_is_space: bool) -> Rules {
        Rules { fast: !self.general_path_only, newline_is_space, fail_on_missing: self.fail_on_missing_field }
    }
}

/// The place of a record in a text.
pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// What a line was read as: where its value ended, and the weights of the rows it gave.
type Read = Result<(usize, &'static [i64]), Box<Fault>>;

/// Checks that a block is not longer than spans and ordinals can count.
pub(crate) fn check_size(block: &[u8]) -> Result<(), Error> {
    if block.len() > Span::LIMIT {
        return Err(Error::BlockTooLarge { bytes: block.len(), limit: Span::LIMIT });
    }
    Ok(())
}

/// A block on its way through, line by line.
struct Lines<'a> {
    block: &'a [u8],
    format: &'static str,
    ignore_errors: bool,
    place: Place,
    out: &'a mut Decoded,
}

/// Reads every line of `block` by `read`, which adds the line's rows to the batches.
#[inline(always)]
pub(super) fn decode_lines(
    batches: &mut Batches,
    block: &[u8],
    format: &'static str,
    ignore_errors: bool,
    out: &mut Decoded,
    mut read: impl FnMut(&mut Batches, &Line<'_>) -> Read,
) -> Result<(), Error> {
    check_size(block)?;
    let mut lines = Lines { block, format, ignore_errors, place: Place::default(), out };
    let mut from = 0;
    let mut result = Ok(());
    while from < block.len() && result.is_ok() {
        let (text, bad) = valid_part(block, from);
        result = lines.text(batches, text, from, &mut read);
        batches.flush(text);
        from += text.len();
        if let (Some(bad), Ok(())) = (bad, &result) {
            result = lines.reject(from..bad.end, bad.at, "the line is not valid UTF-8".into());
            from = bad.end;
        }
    }
    batches.emit(lines.out)?;
    result
}

impl Lines<'_> {
    /// Reads the lines of `text`, which stands at `from` in the block.
    #[inline(always)]
    fn text(
        &mut self,
        batches: &mut Batches,
        text: &str,
        from: usize,
        read: &mut impl FnMut(&mut Batches, &Line<'_>) -> Read,
    ) -> Result<(), Error> {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] != b'{' {
                at = skip_spaces(bytes, at);
                match bytes.get(at) {
                    None => break,
                    Some(b'\n') => {
                        at += 1;
                        continue;
                    }
                    Some(_) => {}
                }
            }
            let rows = batches.record.rows;
            let read =
                read(batches, &Line { text, at }).and_then(|(end, weights)| Ok((line_end(bytes, end)?, weights)));
            match read {
                Ok((end, weights)) => {
                    batches.commit(self.place.record, weights, text, self.out)?;
                    self.place.record += 1;
                    at = end;
                }
                Err(fault) => {
                    batches.undo(rows);
                    let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length + 1);
                    self.reject(from + at..from + end, from + fault.at, fault.reason)?;
                    at = end;
                }
            }
        }
        Ok(())
    }

    /// Sets the record at `range` aside, or makes it the error.
    #[cold]
    fn reject(&mut self, range: Range<usize>, at: usize, reason: String) -> Result<(), Error> {
        let rejected = self.place.reject(self.block, range.start, range.end, at, reason);
        self.place.record += 1;
        if !self.ignore_errors {
            return Err(Error::BadRecord { format: self.format, at: Box::new(rejected) });
        }
        self.out.rejected.push(rejected);
        Ok(())
    }
}

fn skip_spaces(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// The index behind the line's end, when nothing but spaces stands before it.
#[inline(always)]
fn line_end(bytes: &[u8], at: usize) -> Result<usize, Box<Fault>> {
    if bytes.get(at) == Some(&b'\n') {
        return Ok(at + 1);
    }
    let end = skip_spaces(bytes, at);
    match bytes.get(end) {
        None => Ok(end),
        Some(b'\n') => Ok(end + 1),
        Some(_) => fault(end, "expected the end of the line after the record: NDJSON is one object a line"),
    }
}

/// How much of a block is checked and read at a time.
const PART_BYTES: usize = 128 * 1024;

/// A line that is not UTF-8.
struct BadLine {
    /// The first byte that is wrong.
    at: usize,
    /// The end of the line, newline included.
    end: usize,
}

/// The longest run of whole lines from `from` on that is UTF-8, and the line behind it when that is not.
///
/// It is about [`PART_BYTES`] long, so that the check brings it into the cache and the reading finds it there.
fn valid_part(block: &[u8], from: usize) -> (&str, Option<BadLine>) {
    let rest = &block[from..];
    let behind = rest.get(PART_BYTES..).unwrap_or_default();
    let rest = memchr::memchr(b'\n', behind).map_or(rest, |newline| &rest[..PART_BYTES + newline + 1]);
    let Ok(text) = simdutf8::basic::from_utf8(rest) else { return damaged_part(rest, from) };
    (text, None)
}

#[cold]
fn damaged_part(rest: &[u8], from: usize) -> (&str, Option<BadLine>) {
    let valid = simdutf8::compat::from_utf8(rest).map_or_else(|error| error.valid_up_to(), str::len);
    let start = memchr::memrchr(b'\n', &rest[..valid]).map_or(0, |newline| newline + 1);
    let end = memchr::memchr(b'\n', &rest[valid..]).map_or(rest.len(), |newline| valid + newline + 1);
    let text = std::str::from_utf8(&rest[..start]).unwrap_or_default();
    (text, Some(BadLine { at: from + valid, end: from + end }))
}

#[cfg(test)]
#[path = "lines/tests.rs"]
mod tests;
