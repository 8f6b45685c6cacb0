//! Debezium's change records: `{"before": row, "after": row, "op": "c" | "r" | "u" | "d"}`, with or without the
//! `{"schema": .., "payload": ..}` envelope. A create or read is a row of weight +1, a delete of -1, an update both.
//! `null` (a tombstone of Kafka's) gives no row.

use arrow_schema::SchemaRef;

use super::JsonOptions;
use super::lines::{Line, decode_lines};
use super::parse::{Fault, Parser, fault};
use crate::batch::{Batches, Decoded};
use crate::column::Record;
use crate::error::Error;
use crate::format::Decoder;

const FORMAT: &str = "debezium-json";

/// Decodes Debezium's change records into rows with weights.
pub struct DebeziumDecoder {
    batches: Batches,
    options: JsonOptions,
}

impl DebeziumDecoder {
    /// A decoder of rows of `schema`, which are what `before` and `after` hold.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] when a column's type has no form in JSON.
    pub fn new(options: JsonOptions, schema: SchemaRef) -> Result<Self, Error> {
        Ok(DebeziumDecoder { batches: Batches::new(schema, true, FORMAT)?, options })
    }
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, block: &[u8], out: &mut Decoded) -> Result<(), Error> {
        let rules = self.options.rules(false);
        decode_lines(&mut self.batches, block, FORMAT, self.options.ignore_parse_errors, out, |batches, line| {
            let Batches { record, arena, .. } = batches;
            let mut parser = Parser { text: line.text, arena, rules };
            let (envelope, end) = Envelope::read(&mut parser, line)?;
            Ok((end, envelope.rows(&mut parser, record)?))
        })
    }
}

/// Where the parts of a change record stand.
#[derive(Default)]
struct Envelope {
    at: usize,
    before: Option<usize>,
    after: Option<usize>,
    op: Option<(usize, String)>,
    payload: Option<usize>,
    is_tombstone: bool,
}

impl Envelope {
    fn read(parser: &mut Parser<'_>, line: &Line<'_>) -> Result<(Envelope, usize), Box<Fault>> {
        let (outer, end) = Envelope::parts(parser, line.at)?;
        match outer.payload {
            Some(payload) if outer.op.is_none() => Ok((Envelope::parts(parser, payload)?.0, end)),
            _ => Ok((outer, end)),
        }
    }

    fn parts(parser: &mut Parser<'_>, at: usize) -> Result<(Envelope, usize), Box<Fault>> {
        let mut envelope = Envelope { at, ..Envelope::default() };
        match parser.byte(at) {
            Some(b'{') => {}
            Some(b'n') => {
                envelope.is_tombstone = true;
                return Ok((envelope, parser.skip(at, 0)?));
            }
            _ => return fault(at, format!("expected a change record, found {}", parser.found(at))),
        }
        let end = parser.entries(at, |parser, key, value_at| {
            let row = (parser.byte(value_at) != Some(b'n')).then_some(value_at);
            match key.of(parser.text, parser.arena) {
                "before" => envelope.before = row,
                "after" => envelope.after = row,
                "payload" => envelope.payload = Some(value_at),
                "op" if parser.byte(value_at) == Some(b'"') => {
                    let (span, end) = parser.string(value_at)?;
                    envelope.op = Some((value_at, span.of(parser.text, parser.arena).to_string()));
                    return Ok(end);
                }
                _ => {}
            }
            parser.skip(value_at, 1)
        })?;
        Ok((envelope, end))
    }

    /// Adds the change's rows and returns their weights.
    fn rows(&self, parser: &mut Parser<'_>, record: &mut Record) -> Result<&'static [i64], Box<Fault>> {
        if self.is_tombstone {
            return Ok(&[]);
        }
        let Some((op_at, op)) = &self.op else {
            return fault(self.at, "the change record has no \"op\"");
        };
        let mut side = |name: &str, at: Option<usize>| match at {
            Some(at) => parser.object(record, at).map(|_| ()),
            None => fault(self.at, missing_side(op, name)),
        };
        match op.as_str() {
            "c" | "r" => {
                side("after", self.after)?;
                Ok(&[1])
            }
            "u" => {
                side("before", self.before)?;
                side("after", self.after)?;
                Ok(&[-1, 1])
            }
            "d" => {
                side("before", self.before)?;
                Ok(&[-1])
            }
            other => fault(*op_at, format!("\"op\" is \"{other}\", expected \"c\", \"r\", \"u\" or \"d\"")),
        }
    }
}

fn missing_side(op: &str, name: &str) -> String {
    let hint = if name == "before" { "; a PostgreSQL table needs REPLICA IDENTITY FULL" } else { "" };
    format!("a change of \"op\" \"{op}\" needs \"{name}\"{hint}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn decode(text: &str) -> Result<Decoded, Error> {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let mut out = Decoded::default();
        DebeziumDecoder::new(JsonOptions::default(), schema)?.decode(text.as_bytes(), &mut out)?;
        Ok(out)
    }

    fn check(text: &str, expected: &[(i64, i64, u32)]) {
        let out = decode(text).expect("good records");
        let mut rows = Vec::new();
        for decoded in &out.batches {
            let weights = decoded.weights.as_ref().expect("changes have weights");
            for (row, value) in decoded.batch.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
                let record = decoded.records.as_ref().map_or(decoded.record_first + row as u32, |all| all[row]);
                rows.push((*value, weights[row], record));
            }
        }
        assert_eq!(rows, expected, "{text}");
    }

    #[test]
    fn changes_become_weights() {
        check(r#"{"before":null,"after":{"a":1},"op":"c"}"#, &[(1, 1, 0)]);
        check(r#"{"op":"r","after":{"a":1},"source":{"db":["x"]},"ts_ms":7}"#, &[(1, 1, 0)]);
        check(r#"{"before":{"a":1},"after":{"a":2},"op":"u"}"#, &[(1, -1, 0), (2, 1, 0)]);
        check(r#"{"before":{"a":2},"after":null,"op":"d"}"#, &[(2, -1, 0)]);
        check(r#"{"schema":{"type":"struct"},"payload":{"after":{"a":3},"op":"c"}}"#, &[(3, 1, 0)]);
        check("null\n", &[]);
        check(r#"{"schema":null,"payload":null}"#, &[]);
    }

    #[test]
    fn rows_know_their_records() {
        let text = r#"{"after":{"a":1},"op":"c"}
null
{"before":{"a":1},"after":{"a":2},"op":"u"}
{"before":{"a":2},"op":"d"}
"#;
        check(text, &[(1, 1, 0), (1, -1, 2), (2, 1, 2), (2, -1, 3)]);
    }

    #[test]
    fn batches_stay_within_their_size() {
        let out = decode(&"{\"before\":{\"a\":1},\"after\":{\"a\":2},\"op\":\"u\"}\n".repeat(10_000)).expect("good");
        assert_eq!(out.rows(), 20_000);
        assert!(out.batches.iter().all(|decoded| decoded.batch.num_rows() <= crate::BATCH_ROWS));
    }

    #[test]
    fn says_what_a_change_lacks() {
        let fails = |text: &str, part: &str| {
            let error = decode(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        };
        fails(r#"{"before":null,"after":{"a":1},"op":"u"}"#, "REPLICA IDENTITY");
        fails(r#"{"after":{"a":1}}"#, "no \"op\"");
        fails(r#"{"after":{"a":1},"op":"t"}"#, "\"op\" is \"t\"");
        fails(r#"{"after":7,"op":"c"}"#, "expected an object, found 7");
        fails("7", "expected a change record");
    }
}
