//! `GET /v1/views/{name}`: rows of a view go out, all of one version.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tidemill_format::encode::JsonEncoder;
use tidemill_format::{Encoder as _, JsonOptions};

use crate::door::Door;
use crate::hall::{KeyPart, Lookup, LookupError, Rows};
use crate::outgoing::Answer;
use crate::problem::Problem;
use crate::query;
use crate::reply::{self, Reply};

/// The rows that are answered unless the request says otherwise.
const LIMIT_DEFAULT: usize = 1_000;

/// The most rows that a request can ask for.
const LIMIT_MAX: usize = 100_000;

/// The step after which the rows stood so.
const VERSION: HeaderName = HeaderName::from_static("tidemill-version");

/// Whether there are more rows than were asked for.
const MORE: HeaderName = HeaderName::from_static("tidemill-more");

/// How rows are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// An array of objects.
    Json,
    /// An object a line.
    Lines,
    /// Columns, as a stream of Arrow's.
    Arrow,
}

impl Layout {
    /// What can be answered of a view, the usual one first.
    pub(crate) const ALL: [Layout; 3] = [Layout::Json, Layout::Lines, Layout::Arrow];

    /// Its media type.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Layout::Json => reply::JSON,
            Layout::Lines => "application/x-ndjson",
            Layout::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    fn is_called(self, kind: &str) -> bool {
        match (self, kind) {
            (Layout::Json, "*/*" | "application/*") => true,
            (Layout::Lines, "application/ndjson" | "application/jsonl") => true,
            _ => kind == self.kind(),
        }
    }
}

/// Answers rows.
pub(crate) async fn get(door: &Arc<Door>, name: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
    let view = door.hall.view(name).map_err(|missing| Problem::not_found("view", name, missing.help))?;
    let layout = layout(request.headers(), &Layout::ALL)?;
    let columns = view.columns();
    let lookup = lookup(request.uri().query(), columns.as_ref())?;
    let view = view.clone();
    let work = move || view.read(&lookup).map_err(problem).and_then(|rows| answer(&rows, columns, layout));
    let read = tokio::task::spawn_blocking(work).await;
    let read = read.unwrap_or_else(|error| Err(Problem::internal(format!("reading the view failed: {error}"))));
    read.map(Answer::from)
}

/// Why a view does not answer.
pub(crate) fn problem(error: LookupError) -> Problem {
    match error {
        LookupError::Key { problem, help } => Problem::bad_query(problem, help),
        LookupError::Failed(reason) => Problem::internal(reason),
    }
}

/// The first of `layouts` that the request accepts.
pub(crate) fn layout(headers: &HeaderMap, layouts: &[Layout]) -> Result<Layout, Problem> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(Layout::Json) };
    let accept = String::from_utf8_lossy(accept.as_bytes());
    for wanted in accept.split(',') {
        let mut parts = wanted.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        if parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32))) {
            continue;
        }
        if let Some(layout) = layouts.iter().find(|layout| layout.is_called(&kind)) {
            return Ok(*layout);
        }
    }
    let kinds: Vec<&str> = layouts.iter().map(|layout| layout.kind()).collect();
    Err(Problem::not_acceptable(&accept, &kinds))
}

/// What the parameters of the request ask for; one that is called like one of the `columns` is a value of it.
pub(crate) fn lookup(query: Option<&str>, columns: Option<&SchemaRef>) -> Result<Lookup, Problem> {
    let mut lookup = Lookup { limit: LIMIT_DEFAULT, ..Lookup::default() };
    for pair in query::pairs(query) {
        let (name, value) = pair?;
        match name.as_ref() {
            "limit" => lookup.limit = query::limit(&value, LIMIT_MAX)?,
            "key" => lookup.key.push(KeyPart { column: None, value: value.into_owned() }),
            other => match other.strip_prefix("key.") {
                Some(column) => {
                    let column = Some(column.to_string());
                    lookup.key.push(KeyPart { column, value: value.into_owned() });
                }
                None => lookup.by.push(by(other, value.into_owned(), columns)?),
            },
        }
    }
    Ok(lookup)
}

/// A value that a column has to have; `where.` before its name tells it from a parameter.
fn by(name: &str, value: String, columns: Option<&SchemaRef>) -> Result<KeyPart, Problem> {
    let column = name.strip_prefix("where.").unwrap_or(name);
    let known: Vec<&str> =
        columns.into_iter().flat_map(|columns| columns.fields()).map(|field| field.name().as_str()).collect();
    if !known.contains(&column) {
        let known: Vec<&str> = ["key", "limit"].into_iter().chain(known).collect();
        return Err(query::unknown(name, &known));
    }
    Ok(KeyPart { column: Some(column.to_string()), value })
}

fn answer(rows: &Rows, columns: Option<SchemaRef>, layout: Layout) -> Result<Reply, Problem> {
    let text = || lines(&rows.batches).map_err(|error| Problem::internal(error.to_string()));
    let body = match layout {
        Layout::Lines => text()?,
        Layout::Json => array(text()?),
        Layout::Arrow => stream(rows, columns).map_err(|error| Problem::internal(error.to_string()))?,
    };
    let kind = layout.kind();
    let more = HeaderValue::from_static(if rows.more { "true" } else { "false" });
    let headers = vec![(VERSION, HeaderValue::from(rows.version)), (MORE, more)];
    Ok(Reply { status: StatusCode::OK, kind, headers, body })
}

/// Rows as a stream of Arrow's, whose schema names their version.
fn stream(rows: &Rows, columns: Option<SchemaRef>) -> Result<Vec<u8>, ArrowError> {
    let columns =
        rows.batches.first().map(RecordBatch::schema).or(columns).unwrap_or_else(|| Arc::new(Schema::empty()));
    let metadata = HashMap::from([("tidemill.version".to_string(), rows.version.to_string())]);
    let schema = Schema::new_with_metadata(columns.fields().clone(), metadata);
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    rows.batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    writer.into_inner()
}

/// Rows as lines of JSON.
pub(crate) fn lines(batches: &[RecordBatch]) -> Result<Vec<u8>, tidemill_format::Error> {
    let mut lines = Vec::new();
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    for batch in batches {
        encoder.encode(batch, None, &mut lines)?;
    }
    Ok(lines)
}

/// Lines as an array: a line break is never inside a value.
pub(crate) fn array(mut lines: Vec<u8>) -> Vec<u8> {
    if lines.last() == Some(&b'\n') {
        lines.pop();
    }
    for byte in &mut lines {
        if *byte == b'\n' {
            *byte = b',';
        }
    }
    lines.insert(0, b'[');
    lines.push(b']');
    lines
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    #[test]
    fn reads_what_is_asked() {
        let fields = vec![Field::new("day", DataType::Date32, false), Field::new("limit", DataType::Int64, false)];
        let columns: SchemaRef = Arc::new(Schema::new(fields));
        let read = |query| lookup(Some(query), Some(&columns)).ok();
        let part = |column: Option<&str>, value: &str| KeyPart {
            column: column.map(str::to_string),
            value: value.to_string(),
        };
        let all = Lookup { limit: 1_000, ..Lookup::default() };
        assert_eq!(lookup(None, None).ok(), Some(all.clone()));
        let key = vec![part(None, "a"), part(None, "b")];
        assert_eq!(read("key=a&key=b"), Some(Lookup { key, ..all.clone() }));
        let key = vec![part(Some("day"), "1")];
        assert_eq!(read("key.day=1&limit=5"), Some(Lookup { key, limit: 5, ..all.clone() }));
        let by = vec![part(Some("day"), "1"), part(Some("limit"), "7")];
        assert_eq!(read("day=1&where.limit=7"), Some(Lookup { by, ..all }));
        assert_eq!(lookup(Some("day=1"), None).ok(), None);
        for bad in ["limit=", "limit=-1", "limit=100001", "keyy=1", "limit=ten"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn answers_as_is_accepted() {
        let read = |accept: &str| {
            let value = HeaderValue::from_str(accept).expect("it is ASCII");
            layout(&HeaderMap::from_iter([(ACCEPT, value)]), &Layout::ALL).ok()
        };
        assert_eq!(read("text/html, */*;q=0.1"), Some(Layout::Json));
        assert_eq!(read("application/x-ndjson"), Some(Layout::Lines));
        assert_eq!(read("application/json;q=0, application/x-ndjson"), Some(Layout::Lines));
        assert_eq!(read("text/html"), None);
        assert_eq!(read("application/vnd.apache.arrow.stream"), Some(Layout::Arrow));
        assert_eq!(layout(&HeaderMap::new(), &Layout::ALL).ok(), Some(Layout::Json));
    }

    #[test]
    fn lines_become_an_array() {
        let check = |lines: &str, expected: &str| assert_eq!(array(lines.into()), expected.as_bytes());
        check("", "[]");
        check("{\"a\":1}\n", "[{\"a\":1}]");
        check("{\"a\":1}\n{\"a\":2}\n", "[{\"a\":1},{\"a\":2}]");
    }

    #[test]
    fn arrow_is_read_back_with_its_version() {
        let column = Arc::new(arrow_array::Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("n", column as _)]).expect("one column");
        let schema = batch.schema();
        for batches in [vec![batch.clone(), batch], vec![]] {
            let rows = Rows { version: 7, batches: batches.clone(), more: false };
            let bytes = stream(&rows, Some(schema.clone())).expect("integers can be written");
            let reader = arrow_ipc::reader::StreamReader::try_new(bytes.as_slice(), None).expect("it is a stream");
            assert_eq!(reader.schema().metadata()["tidemill.version"], "7");
            assert_eq!(reader.schema().fields(), schema.fields());
            let read: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("it is whole");
            assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 2 * batches.len());
        }
    }
}
