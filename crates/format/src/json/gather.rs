//! [`JsonGather`]: the rows of many short bodies, gathered into one batch.
//!
//! A body is read into the open columns and then kept or undone as a whole, so that whoever takes it can first have it
//! kept elsewhere. Once the columns have grown to what a batch holds, a body costs no allocation.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::lines::{JsonDecoder, check_size};
use super::shape::Shape;
use super::{JsonOptions, body};
use crate::batch::Decoded;
use crate::error::{Error, Rejected};

/// Gathers rows of JSON bodies in the columns of a schema.
pub struct JsonGather {
    decoder: JsonDecoder,
    /// What was left out of the last body; its capacity stays.
    out: Decoded,
}

/// Which keys of an object are read; the columns of others are null.
#[derive(Debug)]
pub struct JsonKeys {
    shape: Shape,
}

/// The rows of a body that are in the columns, and leave them again unless they are kept.
pub struct Unkept<'a> {
    gather: &'a mut JsonGather,
    text: &'a str,
    before: usize,
    stopped: bool,
    kept: bool,
}

impl JsonGather {
    /// An empty batch of `schema`: the needed columns, by the names of their keys.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] when a column's type has no form in JSON.
    pub fn new(options: JsonOptions, schema: SchemaRef) -> Result<Self, Error> {
        Ok(JsonGather { decoder: JsonDecoder::gathering(options, schema)?, out: Decoded::default() })
    }

    /// The rows that were kept.
    pub fn rows(&self) -> usize {
        self.decoder.batches.record.rows
    }

    /// Reads a body: one object, an array of objects, or objects one after another. With `keys` other keys are passed over.
    ///
    /// # Errors
    /// [`Error::BlockTooLarge`].
    pub fn read<'a>(&'a mut self, body: &'a [u8], keys: Option<&mut JsonKeys>) -> Result<Unkept<'a>, Error> {
        check_size(body)?;
        self.out.rejected.clear();
        let before = self.rows();
        let text = match simdutf8::compat::from_utf8(body) {
            Ok(text) => text,
            Err(error) => {
                self.out.rejected.push(body::not_utf8(body, error.valid_up_to()));
                ""
            }
        };
        let Some(keys) = keys else {
            let read = self.decoder.read_body(text, &mut self.out);
            return self.unkept(text, before, read);
        };
        // The columns are the same; only which keys lead to them is not.
        std::mem::swap(&mut self.decoder.batches.record.shape, &mut keys.shape);
        let read = self.decoder.read_body(text, &mut self.out);
        std::mem::swap(&mut self.decoder.batches.record.shape, &mut keys.shape);
        self.unkept(text, before, read)
    }

    fn unkept<'a>(&'a mut self, text: &'a str, before: usize, read: Result<(), Error>) -> Result<Unkept<'a>, Error> {
        let stopped = self.out.rejected.len() >= body::REJECTED_MAX;
        let unkept = Unkept { gather: self, text, before, stopped, kept: false };
        // Dropped, it takes the rows back.
        read.map(|()| unkept)
    }

    /// Takes out the rows that were kept, as a batch.
    ///
    /// # Errors
    /// When they do not make one.
    pub fn finish(&mut self) -> Result<RecordBatch, Error> {
        let schema = self.decoder.schema().clone();
        Ok(self.decoder.batches.record.finish(&schema)?)
    }

    /// The keys of these columns alone.
    pub fn keys(&self, columns: &[&str]) -> JsonKeys {
        let all = self.decoder.schema().fields();
        // No key of an object is written so: a name with a zero byte stands for "no name".
        let name = |name: &str| if columns.contains(&name) { name.to_string() } else { format!("\0{name}") };
        let names: Vec<String> = all.iter().map(|field| name(field.name())).collect();
        JsonKeys { shape: Shape::of(names.iter().map(String::as_str)) }
    }
}

impl Unkept<'_> {
    /// The rows of the body.
    pub fn rows(&self) -> usize {
        self.gather.rows() - self.before
    }

    /// The records that are bad.
    pub fn rejected(&self) -> &[Rejected] {
        &self.gather.out.rejected
    }

    /// Takes the bad records out.
    pub fn take_rejected(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.gather.out.rejected)
    }

    /// Whether reading stopped before the end because too many records were bad.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Keeps the rows.
    pub fn keep(mut self) {
        // Only now strings are copied out of the body.
        self.gather.decoder.batches.flush(self.text);
        self.kept = true;
    }
}

impl Drop for Unkept<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.gather.decoder.batches.undo(self.before);
        self.gather.decoder.batches.arena.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn gather() -> JsonGather {
        let fields = vec![Field::new("a", DataType::Int64, false), Field::new("s", DataType::Utf8, true)];
        JsonGather::new(JsonOptions::default(), Arc::new(Schema::new(fields))).expect("JSON types")
    }

    /// The rows as `a:s`, one after another.
    fn check(gather: &mut JsonGather, rows: &str) {
        let batch = gather.finish().expect("whole columns");
        let (a, s) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        let cells = a.iter().zip(s).map(|(a, s)| format!("{}:{}", a.unwrap_or(-1), s.unwrap_or_default()));
        let found: Vec<String> = cells.collect();
        assert_eq!(found.join(" "), rows);
    }

    #[test]
    fn bodies_that_are_kept_make_one_batch() {
        let mut gather = gather();
        gather.read(b"{\"a\":1,\"s\":\"x\"}", None).expect("short").keep();
        gather.read(b"[{\"a\":2},{\"s\":\"\\u0079\",\"a\":3}]", None).expect("short").keep();
        assert_eq!(gather.rows(), 3);
        gather.read(b"{\"a\":4,\"s\":\"z\"}\n{\"a\":5,\"s\":null}", None).expect("short").keep();
        check(&mut gather, "1:x 2: 3:y 4:z 5:");
    }

    #[test]
    fn nothing_is_left_of_a_body_that_is_not_kept() {
        let mut gather = gather();
        gather.read(b"{\"a\":1,\"s\":\"x\"}", None).expect("short").keep();
        let bad = gather.read(b"{\"a\":2,\"s\":\"\\u00e9\"}\n{\"a\":null,\"s\":\"q\"}", None).expect("short");
        assert_eq!((bad.rows(), bad.rejected().len(), bad.stopped()), (1, 1, false));
        drop(bad);
        let bad = gather.read(b"{\"a\":2\xff}", None).expect("short");
        assert_eq!((bad.rows(), bad.rejected().len()), (0, 1));
        drop(bad);
        assert_eq!(gather.rows(), 1);
        gather.read(b"{\"a\":3,\"s\":\"y\"}", None).expect("short").keep();
        check(&mut gather, "1:x 3:y");
        gather.read(b"{\"a\":4,\"s\":null}", None).expect("short").keep();
        check(&mut gather, "4:");
    }

    #[test]
    fn bad_records_may_be_left_out() {
        let mut gather = gather();
        let mut body = gather.read(b"{\"a\":1}\n{\"a\":x}\n{\"a\":3}", None).expect("short");
        assert_eq!((body.rows(), body.take_rejected().len()), (2, 1));
        body.keep();
        check(&mut gather, "1: 3:");
    }

    #[test]
    fn keys_that_are_not_asked_for_are_passed_over() {
        let mut gather = gather();
        let mut keys = gather.keys(&["a"]);
        for _ in 0..3 {
            gather.read(b"{\"a\":1,\"s\":\"x\"}", Some(&mut keys)).expect("short").keep();
            gather.read(b"{\"a\":2,\"s\":\"x\"}", None).expect("short").keep();
        }
        check(&mut gather, "1: 2:x 1: 2:x 1: 2:x");
    }
}
