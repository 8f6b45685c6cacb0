//! Inboxes and views as the gateway's doors see them.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::BlockData;
use tidemill_circuit::view::{self, View};
use tidemill_connect::{Full, InboxHandle};
use tidemill_format::{DebeziumDecoder, Decoder, Format, JsonDecoder, JsonOptions};
use tidemill_gateway::{Decoded, Durability, Inbox, KeyPart, Lookup, LookupError, Refusal, Rows, Taken};
use tidemill_gateway::{Receipt, Rejection, Tell, Terms};
use tidemill_journal::{Journal, Level, Sequence};

use crate::error::Error;
use crate::keep::input;

/// Decoders that wait for the next request.
const DECODERS_MAX: usize = 64;

/// Bad records after which a body is not read on.
const REJECTED_MAX: usize = 100;

/// An inbox behind a door: bodies are decoded here, so that a 400 can say what is wrong.
pub(crate) struct InboxDoor {
    handle: InboxHandle,
    schema: SchemaRef,
    options: JsonOptions,
    /// Whether records are debezium's envelopes instead of plain rows.
    envelopes: bool,
    decoders: Mutex<Vec<BodyDecoder>>,
    /// Where bodies are kept, and what they survive unless a request says otherwise.
    kept: Option<(Arc<Journal>, Level)>,
}

enum BodyDecoder {
    Rows(JsonDecoder),
    Envelopes(DebeziumDecoder),
}

impl InboxDoor {
    pub(crate) fn new(table: &str, handle: InboxHandle, format: &Format, schema: SchemaRef) -> Result<Self, Error> {
        let (options, envelopes) = match format {
            Format::Json(options) => (*options, false),
            Format::DebeziumJson(options) => (JsonOptions { ignore_parse_errors: true, ..*options }, true),
            other => return Err(Error::Inbox { table: table.to_string(), format: other.name() }),
        };
        Ok(InboxDoor { handle, schema, options, envelopes, decoders: Mutex::default(), kept: None })
    }

    /// Has what comes in acknowledged when it has reached `level` in the journal.
    pub(crate) fn kept_in(mut self, journal: Arc<Journal>, level: Level) -> Self {
        self.kept = Some((journal, level));
        self
    }

    /// The rows of a body that was taken before; what was bad in it was left out then too.
    pub(crate) fn rows(&self, body: &[u8]) -> Result<Delta, String> {
        let decoded = self.decode(body)?;
        Delta::concat(&self.schema, &decoded.rows).map_err(|error| error.to_string())
    }

    fn decoder(&self) -> Result<BodyDecoder, String> {
        let kept = self.decoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(decoder) => Ok(decoder),
            None if self.envelopes => DebeziumDecoder::new(self.options, self.schema.clone())
                .map(BodyDecoder::Envelopes)
                .map_err(|error| error.to_string()),
            None => JsonDecoder::new(self.options, self.schema.clone())
                .map(BodyDecoder::Rows)
                .map_err(|error| error.to_string()),
        }
    }
}

impl InboxDoor {
    /// Hands rows over: how many stand before them, the level at which they may be acknowledged, and their place.
    fn push(
        &self,
        rows: Vec<Delta>,
        body: &[u8],
        asked: Option<Durability>,
    ) -> Result<(u64, Option<Level>, Option<u64>), Refusal> {
        let level = match (asked, &self.kept) {
            (None, None) => None,
            (Some(_), None) => return Err(Refusal::NoSuchDurability),
            (Some(asked), Some(_)) => Some(level_of(asked)),
            (None, Some((_, level))) => Some(*level),
        };
        let all = Delta::concat(&self.schema, &rows).map_err(|error| {
            tracing::error!(%error, "decoded rows do not fit together");
            Refusal::Closed
        })?;
        let records = all.rows() as u32;
        let accepted = self.handle.try_push(BlockData::Rows(all), records, body).map_err(refusal)?;
        Ok((accepted.offset, level, accepted.kept))
    }
}

impl Inbox for InboxDoor {
    fn room(&self) -> Result<(), Refusal> {
        self.handle.room().map_err(refusal)
    }

    fn decode(&self, body: &[u8]) -> Result<Decoded, String> {
        let mut decoder = self.decoder()?;
        let mut out = tidemill_format::Decoded::default();
        let (read, stopped) = match &mut decoder {
            BodyDecoder::Rows(decoder) => (decoder.decode_body(body, &mut out), out.rejected.len() >= REJECTED_MAX),
            BodyDecoder::Envelopes(decoder) => (decoder.decode(body, &mut out), false),
        };
        // A decoder that failed may hold half a batch: it is not used again.
        read.map_err(|error| error.to_string())?;
        let mut kept = self.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < DECODERS_MAX {
            kept.push(decoder);
        }
        drop(kept);
        let rows = out.batches.into_iter().map(|decoded| match decoded.weights {
            Some(weights) => Delta::weighted(decoded.batch, weights),
            None => Delta::inserts(decoded.batch),
        });
        Ok(Decoded { rows: rows.collect(), rejected: out.rejected, stopped })
    }

    fn offer(&self, rows: Vec<Delta>, body: &[u8], level: Option<Durability>) -> Result<Taken, Refusal> {
        let (offset, level, place) = self.push(rows, body, level)?;
        let (Some(level), Some((journal, _)), Some(place)) = (level, &self.kept, place) else {
            return Ok(Taken { offset, durability: Durability::Memory, durable: None });
        };
        Ok(Taken { offset, durability: durability_of(level), durable: input::durable(journal, place, level) })
    }

    fn take(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        let decoded = self.decode(body).map_err(Rejection::Body)?;
        let Decoded { rows, rejected, stopped } = decoded;
        if !rejected.is_empty() && (!terms.skip_bad || stopped) {
            return Err(Rejection::Records { rejected, stopped });
        }
        let accepted = rows.iter().map(Delta::rows).sum();
        let (offset, level, place) = self.push(rows, body, terms.durability).map_err(Rejection::Refused)?;
        Ok(Receipt { accepted, rejected, offset, durability: level.map(durability_of), place, repeated: false })
    }

    fn durable(&self, level: Durability) -> u64 {
        self.kept.as_ref().map_or(u64::MAX, |(journal, _)| journal.durable(level_of(level)).0)
    }

    fn when_durable(&self, place: u64, level: Durability, tell: Tell) {
        match &self.kept {
            None => tell(Ok(())),
            Some((journal, _)) => {
                let tell = move |result: Result<(), tidemill_journal::Error>| tell(result.map_err(|e| e.to_string()));
                journal.notify(Sequence(place), level_of(level), Box::new(tell));
            }
        }
    }
}

fn level_of(durability: Durability) -> Level {
    match durability {
        Durability::Memory | Durability::Process => Level::Process,
        Durability::Flushed => Level::Flushed,
    }
}

fn durability_of(level: Level) -> Durability {
    match level {
        Level::Process => Durability::Process,
        Level::Flushed => Durability::Flushed,
    }
}

fn refusal(full: Full) -> Refusal {
    match full {
        Full::Waiting { .. } => Refusal::Full,
        Full::TooLarge { .. } => Refusal::TooLarge,
        Full::Closed => Refusal::Closed,
        Full::Lost => Refusal::Lost,
    }
}

/// A view behind a door.
pub(crate) struct ViewDoor(pub(crate) View);

impl tidemill_gateway::View for ViewDoor {
    fn read(&self, lookup: &Lookup) -> Result<Rows, LookupError> {
        let ViewDoor(view) = self;
        let snapshot = match lookup.key.as_slice() {
            [] => view.scan(),
            parts => view.lookup(&key(view, parts)?),
        };
        let snapshot = snapshot.map_err(|error| match error {
            view::Error::NoKey { .. } | view::Error::BadKey { .. } => LookupError::Key {
                problem: error.to_string(),
                help: "ask without a key for all rows, up to ?limit=..".to_string(),
            },
            _ => LookupError::Failed(error.to_string()),
        })?;
        let (mut left, mut more, mut batches) = (lookup.limit, false, Vec::new());
        for batch in snapshot.batches {
            more |= batch.num_rows() > left;
            let taken = batch.num_rows().min(left);
            left -= taken;
            if taken > 0 {
                batches.push(batch.slice(0, taken));
            }
        }
        Ok(Rows { version: snapshot.version, batches, more })
    }
}

/// The values of a key, in the order and of the types of the view's key.
fn key(view: &View, parts: &[KeyPart]) -> Result<Vec<ArrayRef>, LookupError> {
    let spec = view.spec();
    let columns = spec.key.clone().unwrap_or_default();
    let names: Vec<&str> = columns.iter().map(|column| spec.schema.field(*column).name().as_str()).collect();
    let wrong = |problem: String| {
        let help = match names.as_slice() {
            [] => "the view has no key: ask without one".to_string(),
            [_] => "ask ?key=VALUE".to_string(),
            names => {
                let parts: Vec<String> = names.iter().map(|name| format!("key.{name}=VALUE")).collect();
                format!("ask ?{}", parts.join("&"))
            }
        };
        LookupError::Key { problem, help }
    };
    if let Some(name) = parts.iter().filter_map(|part| part.column.as_deref()).find(|name| !names.contains(name)) {
        return Err(wrong(format!("'{name}' is no column of the key of view '{}'", spec.name)));
    }
    if parts.len() != names.len() {
        return Err(wrong(format!("the key of view '{}' has {} columns, not {}", spec.name, names.len(), parts.len())));
    }
    let mut unnamed = parts.iter().filter(|part| part.column.is_none());
    columns
        .iter()
        .zip(&names)
        .map(|(column, name)| {
            let named = parts.iter().find(|part| part.column.as_deref() == Some(name));
            let part = named.or_else(|| unnamed.next());
            let part = part.ok_or_else(|| wrong(format!("the key lacks its column '{name}'")))?;
            let kind = spec.schema.field(*column).data_type();
            value(&part.value, kind).ok_or_else(|| {
                wrong(format!(
                    "'{}' is no {}, as the key's column '{name}' is",
                    part.value,
                    tidemill_format::sql_name(kind)
                ))
            })
        })
        .collect()
}

/// A value of a type, from its text.
fn value(text: &str, kind: &DataType) -> Option<ArrayRef> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&text, kind, &strict).ok().filter(|value| value.null_count() == 0)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, RecordBatch, TimestampMillisecondArray};
    use arrow_schema::{Field, Schema, TimeUnit};
    use tidemill_circuit::view::{ViewSpec, view};
    use tidemill_gateway::View as _;

    use super::*;

    /// A view of (day TIMESTAMP(3), id BIGINT, n BIGINT) with key (id, day) and the rows n = 1, 2, 3.
    fn door() -> ViewDoor {
        let fields = vec![
            Field::new("day", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("id", DataType::Int64, false),
            Field::new("n", DataType::Int64, false),
        ];
        let schema = Arc::new(Schema::new(fields));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from(vec![0, 0, 86_400_000])),
            Arc::new(Int64Array::from(vec![1, 2, 1])),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("three columns");
        let spec = ViewSpec { name: "v".to_string(), schema, key: Some(vec![1, 0]), append_only: false };
        let (mut writer, view) = view(spec).expect("integers can be compared");
        writer.apply(7, &[Delta::inserts(batch)]).expect("rows come");
        ViewDoor(view)
    }

    fn ask(parts: &[(Option<&str>, &str)], limit: usize) -> Result<(Vec<i64>, bool), String> {
        let key = parts
            .iter()
            .map(|(column, value)| KeyPart { column: column.map(str::to_string), value: value.to_string() });
        match door().read(&Lookup { key: key.collect(), limit }) {
            Ok(rows) => {
                assert_eq!(rows.version, 7);
                let columns = rows.batches.iter().map(|batch| batch.column(2).as_primitive::<Int64Type>());
                Ok((columns.flat_map(|column| column.values().to_vec()).collect(), rows.more))
            }
            Err(LookupError::Key { problem, help }) => Err(format!("{problem}; {help}")),
            Err(LookupError::Failed(reason)) => panic!("{reason}"),
        }
    }

    #[test]
    fn finds_rows_by_key_columns_in_any_order() {
        assert_eq!(ask(&[(None, "1"), (None, "1970-01-02T00:00:00")], 9), Ok((vec![3], false)));
        assert_eq!(ask(&[(Some("day"), "1970-01-01"), (Some("id"), "2")], 9), Ok((vec![2], false)));
        assert_eq!(ask(&[(Some("day"), "1970-01-01"), (None, "5")], 9), Ok((vec![], false)));
    }

    #[test]
    fn answers_no_more_than_was_asked() {
        assert_eq!(ask(&[], 9), Ok((vec![1, 2, 3], false)));
        assert_eq!(ask(&[], 2), Ok((vec![1, 2], true)));
        assert_eq!(ask(&[], 0), Ok((vec![], true)));
    }

    #[test]
    fn says_what_is_wrong_with_a_key() {
        let wrong = |parts: &[(Option<&str>, &str)], part: &str| {
            let problem = ask(parts, 9).expect_err(part);
            assert!(problem.contains(part) && problem.contains("?key.id=VALUE&key.day=VALUE"), "{problem}");
        };
        wrong(&[(None, "1")], "has 2 columns, not 1");
        wrong(&[(None, "one"), (None, "1970-01-01")], "'one' is no BIGINT");
        wrong(&[(Some("ID"), "1"), (None, "1970-01-01")], "'ID' is no column");
        wrong(&[(Some("id"), "1"), (Some("id"), "1")], "lacks its column 'day'");
    }
}
