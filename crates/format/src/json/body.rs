//! A request's body: one object, an array of objects, or objects one after another (NDJSON).
//!
//! All bad records of a body are collected, up to [`REJECTED_MAX`], so that the sender can mend them in one go.

use super::JsonDecoder;
use super::lines::check_size;
use super::parse::{Fault, Parser, fault};
use crate::batch::{Decoded, Place};
use crate::error::{Error, Rejected};

/// The most bad records of a body that are described.
pub const REJECTED_MAX: usize = 100;

/// What a body has behind a record.
enum After {
    Record(usize),
    End,
}

impl JsonDecoder {
    /// Appends every record of a request's body to `out`; the bad ones are in [`Decoded::rejected`], whatever the options.
    ///
    /// The body may be one object, an array of objects, or objects one after another. Reading stops at
    /// [`REJECTED_MAX`] bad records, or where an array can no longer be followed.
    ///
    /// # Errors
    /// [`Error::BlockTooLarge`].
    pub fn decode_body(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), Error> {
        check_size(body)?;
        let text = match simdutf8::compat::from_utf8(body) {
            Ok(text) => text,
            Err(error) => {
                out.rejected.push(not_utf8(body, error.valid_up_to()));
                return Ok(());
            }
        };
        self.read_body(text, out)?;
        self.batches.flush(text);
        self.batches.emit(out)
    }

    /// Reads every record of a body into the columns.
    pub(super) fn read_body(&mut self, text: &str, out: &mut Decoded) -> Result<(), Error> {
        let start = first_byte(text, 0);
        if text.as_bytes().get(start) == Some(&b'[') {
            self.body_array(text, start, out)
        } else {
            self.body_objects(text, start, out)
        }
    }

    fn body_array(&mut self, text: &str, start: usize, out: &mut Decoded) -> Result<(), Error> {
        let mut place = Place::default();
        let first = first_byte(text, start + 1);
        let mut next =
            if text.as_bytes().get(first) == Some(&b']') { array_end(text, first) } else { Ok(After::Record(first)) };
        loop {
            let at = match next {
                Ok(After::Record(at)) => at,
                Ok(After::End) => return Ok(()),
                Err(wrong) => {
                    reject(&mut place, text, wrong.at..text.len(), *wrong, out);
                    return Ok(());
                }
            };
            let end = match self.body_record(text, at, &mut place, out)? {
                Some(end) => end,
                None => return Ok(()),
            };
            next = after_item(text, end);
        }
    }

    fn body_objects(&mut self, text: &str, start: usize, out: &mut Decoded) -> Result<(), Error> {
        let mut place = Place::default();
        let mut at = start;
        while at < text.len() {
            at = match self.body_record(text, at, &mut place, out)? {
                Some(end) => first_byte(text, end),
                None => match next_line(text, at) {
                    Some(next) if out.rejected.len() < REJECTED_MAX => next,
                    _ => return Ok(()),
                },
            };
        }
        Ok(())
    }

    /// Reads the record at `at`. `None` when it is bad and its end cannot be told, or there are too many bad ones.
    fn body_record(
        &mut self,
        text: &str,
        at: usize,
        place: &mut Place,
        out: &mut Decoded,
    ) -> Result<Option<usize>, Error> {
        let rows = self.batches.record.rows;
        let rules = self.options.rules(true);
        let mut parser = Parser { text, arena: &mut self.batches.arena, rules };
        match parser.object(&mut self.batches.record, at) {
            Ok(end) => {
                if !self.gathers {
                    self.batches.commit(place.record, &[1], text, out)?;
                }
                place.record += 1;
                Ok(Some(end))
            }
            Err(wrong) => {
                self.batches.undo(rows);
                let mut parser = Parser { text, arena: &mut self.batches.arena, rules };
                let end = parser.skip(at, 0).ok();
                reject(place, text, at..end.unwrap_or_else(|| line_end(text, wrong.at)), *wrong, out);
                Ok(end.filter(|_| out.rejected.len() < REJECTED_MAX))
            }
        }
    }
}

/// What is wrong with a body that is no text.
pub(super) fn not_utf8(body: &[u8], at: usize) -> Rejected {
    Place::default().reject(body, at, body.len(), at, "the body is not valid UTF-8".to_string())
}

fn reject(place: &mut Place, text: &str, range: std::ops::Range<usize>, wrong: Fault, out: &mut Decoded) {
    let rejected: Rejected = place.reject(text.as_bytes(), range.start, range.end, wrong.at, wrong.reason);
    place.record += 1;
    out.rejected.push(rejected);
}

fn first_byte(text: &str, at: usize) -> usize {
    let spaces = text.as_bytes()[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    at + spaces.count()
}

fn after_item(text: &str, end: usize) -> Result<After, Box<Fault>> {
    let at = first_byte(text, end);
    match text.as_bytes().get(at) {
        Some(b',') => Ok(After::Record(first_byte(text, at + 1))),
        Some(b']') => array_end(text, at),
        _ => fault(at, "expected ',' or ']' after a record of the array"),
    }
}

fn array_end(text: &str, at: usize) -> Result<After, Box<Fault>> {
    let rest = first_byte(text, at + 1);
    if rest < text.len() { fault(rest, "expected nothing behind the array") } else { Ok(After::End) }
}

fn line_end(text: &str, at: usize) -> usize {
    memchr::memchr(b'\n', &text.as_bytes()[at.min(text.len())..]).map_or(text.len(), |length| at + length)
}

/// The first object that begins a line behind `at`.
fn next_line(text: &str, at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        let newline = memchr::memchr(b'\n', &text.as_bytes()[at..])?;
        at = first_byte(text, at + newline);
        if text.as_bytes().get(at)? == &b'{' {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::json::JsonOptions;

    /// The values of column `a`, and the (line, column) of each bad record.
    fn check(body: &str, rows: &[i64], bad: &[(u64, u64)]) {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let mut decoder = JsonDecoder::new(JsonOptions::default(), schema).expect("BIGINT is a JSON type");
        let mut out = Decoded::default();
        decoder.decode_body(body.as_bytes(), &mut out).expect("a small body");
        let values: Vec<i64> = out
            .batches
            .iter()
            .flat_map(|decoded| decoded.batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        assert_eq!(values, rows, "{body}");
        let places: Vec<_> = out.rejected.iter().map(|rejected| (rejected.line, rejected.column)).collect();
        assert_eq!(places, bad, "{body}: {:?}", out.rejected);
    }

    #[test]
    fn takes_an_object_an_array_and_lines() {
        check("{\"a\":1}", &[1], &[]);
        check("{\n  \"a\": 1\n}\n", &[1], &[]);
        check(" [ {\"a\":1} ,\n{\"a\":2} ] ", &[1, 2], &[]);
        check("[]", &[], &[]);
        check("", &[], &[]);
        check("{\"a\":1}\n{\"a\":2}\n\n{\"a\":3}", &[1, 2, 3], &[]);
    }

    #[test]
    fn names_every_bad_record() {
        check("{\"a\":1}\n{\"a\":x}\n{\"a\":3}\n{}\n", &[1, 3], &[(2, 6), (4, 2)]);
        check("[{\"a\":null},\n {\"a\":2},\n {\"a\":\"é\", \"b\":1}]", &[2], &[(1, 7), (3, 7)]);
        check("[{\"a\":1},{\"a\":1", &[1], &[(1, 16)]);
        check("[{\"a\":1} {\"a\":2}]", &[1], &[(1, 10)]);
        check("[{\"a\":1},]", &[1], &[(1, 10)]);
        check("[] 1", &[], &[(1, 4)]);
        check("7", &[], &[(1, 1)]);
    }

    #[test]
    fn stops_after_a_hundred_bad_records() {
        let bad: Vec<_> = (1..=100).map(|line| (line, 6)).collect();
        check(&"{\"a\":x}\n".repeat(200), &[], &bad);
        let bad: Vec<_> = (0..100).map(|record| (1, 7 + record * 11)).collect();
        check(&format!("[{}{{}}]", "{\"a\":null},".repeat(200)), &[], &bad);
    }
}
