//! [`Form`]: how the answers of endpoints are written, as JSON or as messages.
//!
//! Every answer is JSON first: the rule's, the fallback that was declared, and the one that is remembered of a key. So
//! messages are made of that, by the columns that the endpoint answers.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use tidemill_format::{Decoded, JsonDecoder, JsonOptions};
use tidemill_proto::v1::{AskReply, RowFormat};

use super::view::{encoded, row_format};
use crate::hall::Endpoint;
use crate::problem::Problem;

/// Before and behind the rows in the JSON of an answer.
const HEAD: &[u8] = b"{\"rows\":";
const TAIL: &[u8] = b",\"rule\":";

/// How an answer is written.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// The bytes that HTTP has.
    Json,
    /// Messages of these columns.
    Messages(RowFormat, SchemaRef),
}

impl Form {
    /// What a request asks for.
    pub(super) fn of(format: i32, endpoint: &dyn Endpoint) -> Result<Form, Problem> {
        match row_format(format)? {
            RowFormat::Unspecified | RowFormat::Json => Ok(Form::Json),
            format => endpoint.columns().map(|columns| Form::Messages(format, columns)).ok_or_else(|| {
                Problem::bad_query("the endpoint's answers are no messages", "leave format out, or ask for JSON")
            }),
        }
    }

    /// Writes the body of an answer into a reply.
    pub(super) fn write(&self, body: &[u8], reply: &mut AskReply) -> Result<(), Problem> {
        match self {
            Form::Json => reply.json = Bytes::copy_from_slice(body),
            Form::Messages(format, columns) => reply.rows = encoded(&rows(body, columns)?, *format)?,
        }
        Ok(())
    }
}

/// The rows of an answer.
fn rows(body: &[u8], columns: &SchemaRef) -> Result<Vec<RecordBatch>, Problem> {
    let wrong = |problem: String| Problem::internal(format!("an answer cannot be made a message: {problem}"));
    // The last one: what follows has no lists in it.
    let end = body.windows(TAIL.len()).rposition(|bytes| bytes == TAIL);
    let array =
        end.and_then(|end| body[..end].strip_prefix(HEAD)).ok_or_else(|| wrong("it has no rows".to_string()))?;
    let mut decoder =
        JsonDecoder::new(JsonOptions::default(), columns.clone()).map_err(|error| wrong(error.to_string()))?;
    let mut decoded = Decoded::default();
    decoder.decode_body(array, &mut decoded).map_err(|error| wrong(error.to_string()))?;
    match decoded.rejected.first() {
        Some(rejected) => Err(wrong(rejected.reason.clone())),
        None => Ok(decoded.batches.into_iter().map(|batch| batch.batch).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema, TimeUnit};
    use tidemill_format::JsonRows;
    use tidemill_format::protobuf::ProtobufDecoder;

    use super::*;

    fn columns() -> SchemaRef {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let fields = vec![
            Field::new("decision", DataType::Utf8, true),
            Field::new("n", DataType::Int64, false),
            Field::new("score", DataType::Float64, true),
            Field::new("amount", DataType::Decimal128(10, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            Field::new("reasons", list, true),
        ];
        Arc::new(Schema::new(fields))
    }

    /// Checks that an answer's rows are the same JSON again once they were messages.
    fn check(rows: &str) {
        let body = format!("{{\"rows\":[{rows}],\"rule\":\"9f3a\",\"version\":7}}");
        for format in [RowFormat::Rows, RowFormat::Columns] {
            let mut reply = AskReply::default();
            Form::Messages(format, columns()).write(body.as_bytes(), &mut reply).expect(rows);
            assert!(reply.json.is_empty());
            let mut decoder = ProtobufDecoder::new(&columns(), columns()).expect("they are messages");
            let mut decoded = Decoded::default();
            let read = match format {
                RowFormat::Columns => decoder.decode_columns(&reply.rows, &mut decoded),
                _ => decoder.decode_rows(&reply.rows, &mut decoded),
            };
            read.expect(rows);
            assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
            let mut text = Vec::new();
            for batch in decoded.batches {
                let all = JsonRows::new(&batch.batch, JsonOptions::default()).expect("JSON");
                for row in 0..batch.batch.num_rows() {
                    if !text.is_empty() {
                        text.push(b',');
                    }
                    all.write(row, &mut text);
                }
            }
            assert_eq!(String::from_utf8_lossy(&text), rows, "{format:?}");
        }
    }

    #[test]
    fn an_answer_is_the_same_as_messages() {
        let full = "{\"decision\":\"deny\",\"n\":3,\"score\":0.5,\"amount\":12.50,\"at\":\"2026-01-02 03:04:05.678\",\
                    \"reasons\":[\"a\",\"\"]}";
        let empty = "{\"decision\":null,\"n\":0,\"score\":null,\"amount\":null,\"at\":null,\"reasons\":[]}";
        let hostile =
            "{\"decision\":\"],\\\"rule\\\":\",\"n\":1,\"score\":null,\"amount\":null,\"at\":null,\"reasons\":[]}";
        check("");
        check(full);
        check(hostile);
        check(&format!("{empty},{full},{hostile}"));
    }

    #[test]
    fn what_is_no_answer_of_these_columns_is_a_fault() {
        for body in ["{}", "", "{\"rows\":[{\"n\":\"many\"}],\"rule\":\"r\",\"version\":1}"] {
            let written = Form::Messages(RowFormat::Rows, columns()).write(body.as_bytes(), &mut AskReply::default());
            assert_eq!(written.expect_err(body).reply().status, 500, "{body}");
        }
    }
}
