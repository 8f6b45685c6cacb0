//! The record of a run: what every step took in and what came out, one JSON object a line.
//!
//! The first line holds the SQL, the lanes and the seed; then each partition is named when it opens, each step's header
//! is written before the step runs and its trailer after. What can be read again (files, generators) is recorded by its
//! place alone; what cannot (standard input, HTTP) is recorded itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Int64Array, RecordBatch};
use arrow_cast::base64::{BASE64_STANDARD, Engine};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use serde::{Deserialize, Serialize};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::step::{StepHeader, StepInput, StepLog, StepTrailer};
use tidemill_connect::Origin;

use crate::error::Error;

/// The version of the record's form.
pub(crate) const FORMAT: u32 = 1;

/// The name of the weights among recorded columns.
const WEIGHTS: &str = "$weight";

/// A line of a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// What ran; the first line.
    Run(Run),
    /// A partition is there.
    Opened {
        /// The source.
        source: String,
        /// The partition's number.
        partition: u32,
        /// What it is.
        origin: Origin,
    },
    /// A step is about to run.
    Step {
        /// What it takes in.
        header: StepHeader,
        /// What of it cannot be read again.
        data: Vec<Payload>,
    },
    /// A step has run.
    Done(StepTrailer),
    /// The run came to its end.
    End,
}

/// What ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The version of the record's form.
    pub(crate) format: u32,
    /// The version of tidemill.
    pub(crate) version: String,
    /// What the SQL is called.
    pub(crate) name: String,
    /// The SQL.
    pub(crate) sql: String,
    /// The number of lanes.
    pub(crate) lanes: usize,
    /// The seed of RAND and UUID.
    pub(crate) seed: u64,
    /// Where its state was, and so its versioned tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<PathBuf>,
}

/// A block that cannot be read again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// The source.
    pub(crate) source: String,
    /// Which of the source's blocks in this step it is.
    pub(crate) block: usize,
    /// The records before it in its partition.
    pub(crate) first_record: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<String>,
}

impl Payload {
    fn of(source: &str, index: usize, block: &Block) -> Result<Self, String> {
        let (bytes, rows) = match &block.data {
            BlockData::Bytes(bytes) => (Some(BASE64_STANDARD.encode(bytes)), None),
            BlockData::Rows(delta) => (None, Some(BASE64_STANDARD.encode(to_ipc(delta).map_err(|e| e.to_string())?))),
        };
        Ok(Payload { source: source.to_string(), block: index, first_record: block.first_record, bytes, rows })
    }

    /// What was in the block.
    pub(crate) fn data(&self) -> Result<BlockData, String> {
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|error| error.to_string());
        match (&self.bytes, &self.rows) {
            (Some(bytes), _) => Ok(BlockData::Bytes(decode(bytes)?.into())),
            (None, Some(rows)) => from_ipc(&decode(rows)?).map(BlockData::Rows).map_err(|error| error.to_string()),
            (None, None) => Err("a recorded block is empty".to_string()),
        }
    }
}

/// Rows with their weights as an Arrow stream.
fn to_ipc(delta: &Delta) -> Result<Vec<u8>, ArrowError> {
    let (mut fields, mut columns) = (delta.schema().fields().to_vec(), delta.batch().columns().to_vec());
    if delta.weights().is_some() {
        fields.push(Arc::new(Field::new(WEIGHTS, DataType::Int64, false)));
        columns.push(Arc::new(delta.weight_column()));
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn from_ipc(bytes: &[u8]) -> Result<Delta, ArrowError> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    let batch = reader.next().ok_or_else(|| ArrowError::IpcError("no rows".to_string()))??;
    let last = batch.num_columns().saturating_sub(1);
    if batch.schema().fields().last().is_none_or(|field| field.name() != WEIGHTS) {
        return Ok(Delta::inserts(batch));
    }
    let weights = batch.column(last).as_any().downcast_ref::<Int64Array>().map(|weights| weights.values().to_vec());
    let weights = weights.ok_or_else(|| ArrowError::IpcError("weights are no integers".to_string()))?;
    Ok(Delta::weighted(batch.project(&(0..last).collect::<Vec<_>>())?, weights))
}

/// Writes a record; clones write the same one.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: BufWriter<File>,
    /// The sources that cannot be read again.
    fleeting: Vec<String>,
    /// How many partitions of each source have been named.
    named: BTreeMap<String, usize>,
}

impl Recorder {
    /// Begins a record; `fleeting` are the sources that cannot be read again.
    pub(crate) fn create(path: &Path, run: Run, fleeting: Vec<String>) -> Result<Self, Error> {
        let file = File::create(path).map_err(|source| Error::RecordWrite { path: path.to_path_buf(), source })?;
        let file = BufWriter::new(file);
        let mut inner = Inner { path: path.to_path_buf(), file, fleeting, named: BTreeMap::new() };
        inner.write(&Line::Run(run))?;
        Ok(Recorder { inner: Arc::new(Mutex::new(inner)) })
    }

    /// Names the partitions of a source that have not been named yet.
    pub(crate) fn origins(&self, source: &str, origins: &[Origin]) -> Result<(), Error> {
        self.with(|inner| {
            let named = inner.named.get(source).copied().unwrap_or(0);
            for (index, origin) in origins.iter().enumerate().skip(named) {
                let (source, origin) = (source.to_string(), origin.clone());
                inner.write(&Line::Opened { source, partition: index as u32, origin })?;
            }
            inner.named.insert(source.to_string(), origins.len());
            Ok(())
        })
    }

    /// Ends the record of a run that came to its end.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        self.with(|inner| {
            inner.write(&Line::End)?;
            inner.flush()
        })
    }

    fn with(&self, work: impl FnOnce(&mut Inner) -> Result<(), Error>) -> Result<(), Error> {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StepLog for Recorder {
    fn header(&mut self, header: &StepHeader, input: &StepInput) -> Result<(), String> {
        let write = |inner: &mut Inner| {
            let mut data = Vec::new();
            for news in input.sources.iter().filter(|news| inner.fleeting.contains(&news.source)) {
                for (index, block) in news.blocks.iter().enumerate() {
                    let payload = Payload::of(&news.source, index, block);
                    data.push(payload.map_err(|problem| inner.failed(io::Error::other(problem)))?);
                }
            }
            inner.write(&Line::Step { header: header.clone(), data })
        };
        self.with(write).map_err(|error| error.to_string())
    }

    fn trailer(&mut self, trailer: &StepTrailer) -> Result<(), String> {
        let write = |inner: &mut Inner| {
            inner.write(&Line::Done(trailer.clone()))?;
            inner.flush()
        };
        self.with(write).map_err(|error| error.to_string())
    }
}

impl Inner {
    fn write(&mut self, line: &Line) -> Result<(), Error> {
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        written.and_then(|()| self.file.write_all(b"\n")).map_err(|source| self.failed(source))
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::RecordWrite { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn recorded_blocks_come_back_as_they_were() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("ü"), None]));
        let batch = RecordBatch::try_from_iter([("s", column)]).expect("one column");
        let block = |data| Block { partition: 0, from: 0, to: 2, first_record: 7, records: 2, data };
        for delta in [Delta::inserts(batch.clone()), Delta::weighted(batch, vec![-1, 2])] {
            let payload = Payload::of("t", 3, &block(BlockData::Rows(delta.clone()))).expect("strings have a form");
            let Ok(BlockData::Rows(read)) = payload.data() else { panic!("rows went in") };
            assert_eq!((read.batch(), read.weights()), (delta.batch(), delta.weights()));
        }
        let payload = Payload::of("t", 0, &block(BlockData::Bytes("{}\n".into()))).expect("bytes have a form");
        let Ok(BlockData::Bytes(read)) = payload.data() else { panic!("bytes went in") };
        assert_eq!((read.as_ref(), payload.first_record), (b"{}\n".as_slice(), 7));
    }
}
