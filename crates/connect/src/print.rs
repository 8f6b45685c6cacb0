//! Prints rows for people: an aligned table, or JSON lines, as each step gives them.
//!
//! Rows of a query that updates carry what happens to them: `+I`, `-U`, `+U`, `-D`. An update is a row taken back and a
//! row added under the same key in one step; [`crate::changelog`] pairs them.

use std::io::{self, Write};
use std::path::Path;

use tidemill_base::options::{self, Options as Pairs};
use tidemill_circuit::Delta;
use tidemill_format::table::{Op, TableWriter};
use tidemill_format::{Encoder, Format, JsonOptions};

use crate::changelog::{Changelog, Changes, Telling};
use crate::error::{Error, Role};
use crate::sink::{self, Rows, Sink, SinkSummary};

/// Rows that are written at a time, so that the first of many show without the others.
const PIECE_ROWS: usize = 1_024;

/// What the options of `'connector' = 'print'` say.
#[derive(Debug, Clone)]
pub struct Options {
    json: Option<JsonOptions>,
    to_stderr: bool,
    identifier: Option<String>,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        let json = match options.take("format").as_deref() {
            None | Some("table") => None,
            Some("json") => match Format::named("json", options)? {
                Some(Format::Json(json)) => Some(json),
                _ => None,
            },
            Some(value) => {
                let (key, value) = ("format".to_string(), value.to_string());
                return Err(options::Error::Invalid { key, value, expected: "'table' or 'json'".to_string() });
            }
        };
        let to = options.choice("print.to", &[("stdout", false), ("stderr", true)])?;
        let standard_error = options.boolean("standard-error")?;
        Ok(Options {
            json,
            to_stderr: to.or(standard_error).unwrap_or_default(),
            identifier: options.take("print-identifier"),
        })
    }
}

/// A terminal as a sink.
pub struct Print {
    table: String,
    to: &'static str,
    out: Box<dyn Write + Send>,
    writer: Writer,
    identifier: String,
    changelog: Changelog,
    updating: bool,
    summary: SinkSummary,
}

enum Writer {
    Table(TableWriter),
    Json(Box<dyn Encoder>),
}

impl Print {
    pub(crate) fn open(table: &str, options: &Options, rows: Rows) -> Result<Self, Error> {
        let (to, out): (_, Box<dyn Write + Send>) =
            if options.to_stderr { ("stderr", Box::new(io::stderr())) } else { ("stdout", Box::new(io::stdout())) };
        Print::over(table, options, rows, to, out)
    }

    fn over(
        table: &str,
        options: &Options,
        rows: Rows,
        to: &'static str,
        out: Box<dyn Write + Send>,
    ) -> Result<Self, Error> {
        let wrong = |error| Error::Format { table: table.to_string(), path: None, error };
        let writer = match options.json {
            None => Writer::Table(TableWriter::new(&rows.schema, rows.updating)),
            Some(json) => Writer::Json(Format::Json(json).encoder(rows.schema.clone()).map_err(wrong)?),
        };
        let identifier = options.identifier.as_ref().map(|identifier| format!("{identifier}> ")).unwrap_or_default();
        let (table, updating, changelog) = (table.to_string(), rows.updating, Changelog::new(&rows, Telling::Changes));
        Ok(Print { table, to, out, writer, identifier, changelog, updating, summary: SinkSummary::default() })
    }

    fn print(&mut self, changes: &Changes) -> Result<(), Error> {
        let mut text = String::new();
        self.write_changes(changes, &mut text).map_err(|error| self.wrong(error))?;
        if !self.identifier.is_empty() {
            text = text.lines().map(|line| format!("{}{line}\n", self.identifier)).collect();
        }
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|error| Error::io(&self.table, Role::Sink, "write to", Path::new(self.to), error))?;
        self.summary.bytes += text.len() as u64;
        Ok(())
    }

    fn wrong(&self, error: tidemill_format::Error) -> Error {
        Error::Format { table: self.table.clone(), path: None, error }
    }

    fn write_changes(&mut self, changes: &Changes, text: &mut String) -> Result<(), tidemill_format::Error> {
        let Changes { batch, ops } = changes;
        match &mut self.writer {
            Writer::Table(writer) => writer.write(batch, self.updating.then_some(ops.as_slice()), text),
            Writer::Json(encoder) if !self.updating => {
                let mut lines = Vec::new();
                encoder.encode(batch, None, &mut lines)?;
                text.push_str(&String::from_utf8_lossy(&lines));
                Ok(())
            }
            Writer::Json(encoder) => {
                let mut line = Vec::new();
                for (row, op) in ops.iter().enumerate() {
                    line.clear();
                    encoder.encode(&batch.slice(row, 1), None, &mut line)?;
                    text.push_str(&with_op(&String::from_utf8_lossy(&line), *op));
                }
                Ok(())
            }
        }
    }
}

impl Sink for Print {
    fn write(&mut self, _step: u64, rows: &[Delta]) -> Result<(), Error> {
        let changes = self.changelog.of(rows).map_err(|error| self.wrong(error.into()))?;
        for first in (0..changes.ops.len()).step_by(PIECE_ROWS) {
            let rows = PIECE_ROWS.min(changes.ops.len() - first);
            let ops = changes.ops[first..first + rows].to_vec();
            self.print(&Changes { batch: changes.batch.slice(first, rows), ops })?;
        }
        self.summary.rows += sink::entries(rows);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SinkSummary, Error> {
        Ok(self.summary)
    }

    fn abort(self: Box<Self>) {}
}

/// A JSON object with what happens to the row as its first key.
fn with_op(json: &str, op: Op) -> String {
    let rest = json.strip_prefix('{').unwrap_or(json);
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    format!("{{\"op\":\"{}\"{comma}{rest}", op.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn delta(rows: &[(&str, i64, i64)]) -> Delta {
        let names = StringArray::from_iter_values(rows.iter().map(|row| row.0));
        let counts = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let columns = [("name", Arc::new(names) as ArrayRef), ("n", Arc::new(counts) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).expect("two columns of one length");
        Delta::weighted(batch, rows.iter().map(|row| row.2).collect())
    }

    fn check(options: &[(&str, &str)], updating: bool, steps: &[&[(&str, i64, i64)]], expected: &str) {
        let pairs = options.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let mut options = Pairs::new("connector 'print'", pairs);
        let read = Options::take(&mut options).expect("good options");
        options.finish().expect("all options are known");
        let out = Shared::default();
        let rows = Rows { schema: delta(&[]).schema(), key: Some(vec![0]), updating };
        let mut print = Print::over("t", &read, rows, "out", Box::new(out.clone())).expect("plain types");
        for (step, rows) in steps.iter().enumerate() {
            print.write(step as u64, &[delta(rows)]).expect("memory takes all");
        }
        Box::new(print).finish().expect("nothing to finish");
        assert_eq!(String::from_utf8_lossy(&out.0.lock().unwrap()), expected);
    }

    #[test]
    fn prints_a_table() {
        check(&[], false, &[&[("a", 1, 1), ("bc", 20, 1)]], "name |  n\n-----+---\na    |  1\nbc   | 20\n");
    }

    #[test]
    fn marks_what_happens_to_rows() {
        let steps: [&[(&str, i64, i64)]; 2] = [&[("a", 1, 1)], &[("a", 1, -1), ("a", 2, 1), ("b", 5, 2), ("c", 7, -1)]];
        check(
            &[],
            true,
            &steps,
            "op | name | n\n---+------+--\n+I | a    | 1\n-U | a    | 1\n+U | a    | 2\n+I | b    | 5\n+I | b    | 5\n-D | c    | 7\n",
        );
        check(
            &[("format", "json")],
            true,
            &steps,
            "{\"op\":\"+I\",\"name\":\"a\",\"n\":1}\n{\"op\":\"-U\",\"name\":\"a\",\"n\":1}\n{\"op\":\"+U\",\"name\":\"a\",\"n\":2}\n\
             {\"op\":\"+I\",\"name\":\"b\",\"n\":5}\n{\"op\":\"+I\",\"name\":\"b\",\"n\":5}\n{\"op\":\"-D\",\"name\":\"c\",\"n\":7}\n",
        );
    }

    #[test]
    fn prints_json_lines_with_an_identifier() {
        check(
            &[("format", "json"), ("print-identifier", "x"), ("standard-error", "true")],
            false,
            &[&[("a", 1, 1)]],
            "x> {\"name\":\"a\",\"n\":1}\n",
        );
    }
}
