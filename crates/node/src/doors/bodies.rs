//! [`Bodies`]: how the bodies of an inbox become rows, when they come and when they are read again.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_connect::{Kept, Reread, Rereads};
use tidemill_format::protobuf::ProtobufDecoder;
use tidemill_format::{DebeziumDecoder, Decoder, Format, JsonGather, JsonKeys, JsonOptions, Rejected};
use tidemill_gateway::BodyKind;
use tidemill_journal::{Journal, Level, Reader, Sequence};
use tidemill_sql::pipeline::ASKED;

use crate::error::Error;
use crate::keep::line::{Input, is_input, stream};

/// Decoders that wait for the next request.
const DECODERS_MAX: usize = 64;

/// How the bodies of an inbox become rows.
pub(crate) struct Bodies {
    pub(super) options: JsonOptions,
    /// Whether records are debezium's envelopes instead of plain rows.
    pub(super) envelopes: bool,
    /// The columns that bodies are decoded to.
    pub(super) decoded: SchemaRef,
    /// The columns of rows: those, and last whether somebody waits where a circuit needs to know.
    pub(super) rows: SchemaRef,
    /// All columns of the table, by whose order the fields of messages are numbered.
    pub(super) declared: OnceLock<SchemaRef>,
    /// Who sends objects of which only some columns count.
    only: Mutex<Vec<(u32, Vec<String>)>>,
    idle: Mutex<Vec<BodyDecoder>>,
}

/// What was in a body.
pub(super) struct Read {
    /// The rows, with all columns of the inbox.
    pub(super) rows: Delta,
    /// The records that are bad.
    pub(super) rejected: Vec<Rejected>,
    /// Whether reading stopped before the end because too many were bad.
    pub(super) stopped: bool,
}

enum BodyDecoder {
    Json(JsonGather, Vec<(u32, JsonKeys)>),
    Envelopes(DebeziumDecoder),
    Messages(ProtobufDecoder),
}

/// Bad records after which a body is not read on.
const REJECTED_MAX: usize = 100;

impl Bodies {
    pub(super) fn new(table: &str, format: &Format, schema: &SchemaRef) -> Result<Self, Error> {
        let (options, envelopes) = match format {
            Format::Json(options) => (*options, false),
            Format::DebeziumJson(options) => (JsonOptions { ignore_parse_errors: true, ..*options }, true),
            other => return Err(Error::Inbox { table: table.to_string(), format: other.name() }),
        };
        let decoded = match schema.fields().split_last() {
            Some((last, others)) if last.name() == ASKED => Arc::new(Schema::new(others.to_vec())),
            _ => schema.clone(),
        };
        let rows = schema.clone();
        let (only, idle) = (Mutex::default(), Mutex::default());
        Ok(Bodies { options, envelopes, decoded, rows, declared: OnceLock::new(), only, idle })
    }

    /// The columns by which messages are read, where they can be.
    pub(super) fn messages(&self) -> Option<SchemaRef> {
        self.declared.get().filter(|_| !self.envelopes).cloned()
    }

    /// Has only these columns read from the bodies for whose answers `asked` waits.
    pub(super) fn read_only(&self, asked: u32, columns: &[&str]) {
        let columns = columns.iter().map(|column| column.to_string()).collect();
        self.only().push((asked, columns));
    }

    fn only(&self) -> MutexGuard<'_, Vec<(u32, Vec<String>)>> {
        self.only.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of a body that was taken before; what was bad in it was left out then too.
    pub(crate) fn again(&self, input: &Input) -> Result<Delta, String> {
        let kind = BodyKind::of_byte(input.kind);
        let kind =
            kind.ok_or_else(|| format!("its body is of kind {}, which this version does not know", input.kind))?;
        let Read { rows, .. } = self.read(&input.body, kind, input.asked)?;
        if rows.rows() != input.records as usize {
            return Err(format!("it had {} records when it was taken, and has {} now", input.records, rows.rows()));
        }
        Ok(rows)
    }

    /// Turns a body into rows; bad records are left out and reported.
    pub(super) fn read(&self, body: &[u8], kind: BodyKind, asked: u32) -> Result<Read, String> {
        let mut decoder = self.decoder(kind)?;
        let read = self.read_by(&mut decoder, body, kind, asked)?;
        // A decoder that failed may hold half a batch: only one that did not is used again.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < DECODERS_MAX {
            idle.push(decoder);
        }
        drop(idle);
        let Read { rows, rejected, stopped } = read;
        Ok(Read { rows: self.whole(rows, asked != 0)?, rejected, stopped })
    }

    fn decoder(&self, kind: BodyKind) -> Result<BodyDecoder, String> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |decoder: &BodyDecoder| (kind == BodyKind::Json) != matches!(decoder, BodyDecoder::Messages(_));
        if let Some(at) = idle.iter().rposition(fits) {
            return Ok(idle.swap_remove(at));
        }
        drop(idle);
        let schema = self.decoded.clone();
        let made = match (kind, self.envelopes) {
            (BodyKind::Json, true) => DebeziumDecoder::new(self.options, schema).map(BodyDecoder::Envelopes),
            (BodyKind::Json, false) => {
                JsonGather::new(self.options, schema).map(|gather| BodyDecoder::Json(gather, Vec::new()))
            }
            (BodyKind::Rows | BodyKind::Columns, _) => {
                let declared = self.messages().ok_or("it takes JSON only, not Protocol Buffers")?;
                ProtobufDecoder::new(&declared, schema).map(BodyDecoder::Messages)
            }
        };
        made.map_err(|error| error.to_string())
    }

    fn read_by(&self, decoder: &mut BodyDecoder, body: &[u8], kind: BodyKind, asked: u32) -> Result<Read, String> {
        let text = |error: tidemill_format::Error| error.to_string();
        let mut out = tidemill_format::Decoded::default();
        let stops = match decoder {
            BodyDecoder::Json(gather, keys) => return self.read_json(gather, keys, body, asked),
            BodyDecoder::Envelopes(decoder) => {
                decoder.decode(body, &mut out).map_err(text)?;
                false
            }
            BodyDecoder::Messages(decoder) => {
                match kind {
                    BodyKind::Columns => decoder.decode_columns(body, &mut out).map_err(text)?,
                    _ => decoder.decode_rows(body, &mut out).map_err(text)?,
                }
                true
            }
        };
        let rows = out.batches.into_iter().map(|decoded| match decoded.weights {
            Some(weights) => Delta::weighted(decoded.batch, weights),
            None => Delta::inserts(decoded.batch),
        });
        let rows: Vec<Delta> = rows.collect();
        let rows = Delta::concat(&self.decoded, &rows).map_err(|error| error.to_string())?;
        let stopped = stops && out.rejected.len() >= REJECTED_MAX;
        Ok(Read { rows, rejected: out.rejected, stopped })
    }

    fn read_json(
        &self,
        gather: &mut JsonGather,
        keys: &mut Vec<(u32, JsonKeys)>,
        body: &[u8],
        asked: u32,
    ) -> Result<Read, String> {
        let text = |error: tidemill_format::Error| error.to_string();
        if asked != 0
            && !keys.iter().any(|(who, _)| *who == asked)
            && let Some((_, columns)) = self.only().iter().find(|(who, _)| *who == asked)
        {
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            keys.push((asked, gather.keys(&columns)));
        }
        let own = keys.iter_mut().find(|(who, _)| *who == asked).map(|(_, keys)| keys);
        let mut read = gather.read(body, own).map_err(text)?;
        let (rejected, stopped) = (read.take_rejected(), read.stopped());
        read.keep();
        let rows = Delta::inserts(gather.finish().map_err(text)?);
        Ok(Read { rows, rejected, stopped })
    }

    /// Rows of bodies with all columns of the inbox.
    fn whole(&self, rows: Delta, asked: bool) -> Result<Delta, String> {
        if self.rows.fields().len() == self.decoded.fields().len() {
            return Ok(rows);
        }
        let asked = BooleanArray::from(vec![asked; rows.rows()]);
        let mut columns: Vec<ArrayRef> = rows.batch().columns().to_vec();
        columns.push(Arc::new(asked));
        let batch = RecordBatch::try_new(self.rows.clone(), columns).map_err(|error| error.to_string())?;
        Ok(rows.with_batch(batch))
    }
}

/// Reads the bodies of an inbox again, out of the journal.
pub(super) struct Kepts {
    pub(super) bodies: Arc<Bodies>,
    pub(super) journal: Arc<Journal>,
    pub(super) source: String,
}

struct KeptReader {
    bodies: Arc<Bodies>,
    reader: Reader,
    stream: u32,
}

impl Rereads for Kepts {
    fn from(&self, place: u64) -> Result<Box<dyn Reread>, String> {
        let reader = self.journal.reader(Sequence(place), Level::Process).map_err(|error| error.to_string())?;
        Ok(Box::new(KeptReader { bodies: self.bodies.clone(), reader, stream: stream(&self.source) }))
    }
}

impl Reread for KeptReader {
    fn next(&mut self) -> Result<Option<Kept>, String> {
        while let Some(record) = self.reader.next().map_err(|error| error.to_string())? {
            if record.stream != self.stream || !is_input(record.kind) {
                continue;
            }
            let input = Input::decode(record.kind, &record.payload)?;
            let rows = self.bodies.again(&input)?;
            return Ok(Some(Kept { first_record: input.first_record, rows }));
        }
        Ok(None)
    }
}
