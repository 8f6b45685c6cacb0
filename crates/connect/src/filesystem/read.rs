//! [`Files`]: reads files block by block, in rotation.
//!
//! All files that are there at the start open before the first block, sorted by path, and at most [`OPEN_MAX`] are being
//! read at a time. With `'source.monitor-interval'` new files follow: a file counts when its size and time are the same
//! in two looks, so that one that is still being written is left alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_schema::SchemaRef;
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData, MakeDecoder};
use tidemill_format::Format;
use tidemill_format::parquet::ParquetRows;
use tidemill_stage::{Cancel, Halt, Sender};

use super::find;
use super::replay::FilesReplay;
use crate::blocks::{Blocks, Fill, Header, Place, RECORDS_MAX};
use crate::catalogue::Table;
use crate::decode;
use crate::error::Error;
use crate::pool::{FILE_BYTES, Pool};
use crate::source::{Position, Replay, Source, SourceEvent};

/// The most files that are being read at a time.
const OPEN_MAX: usize = 256;

/// Files as a source.
pub struct Files {
    reading: Reading,
    path: PathBuf,
    monitor_interval: Option<Duration>,
    decoder: Option<MakeDecoder>,
    resumed: Vec<Position>,
}

/// How files are read, whichever they are.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) table: String,
    pub(super) format: Format,
    pub(super) decoded: SchemaRef,
    pub(super) header: Option<Header>,
    pool: Pool,
}

impl Files {
    pub(crate) fn open(table: &Table, options: &super::Options, decoded: SchemaRef) -> Result<Self, Error> {
        if !table.partitioned_by.is_empty() {
            return Err(Error::Schema {
                table: table.name.clone(),
                message: "a PARTITIONED BY table cannot be read yet, only written".to_string(),
                help: "declare a table without PARTITIONED BY over the folders, and leave those columns out"
                    .to_string(),
            });
        }
        let found = find::find(&table.name, &options.path);
        match (found, options.monitor_interval) {
            (Ok(files), None) if files.is_empty() => {
                return Err(Error::NoFiles { table: table.name.clone(), path: options.path.clone() });
            }
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) if !matches!(error, Error::Missing { .. }) => return Err(error),
            _ => {}
        }
        let header = decode::header(&options.format);
        let decoder = match options.format {
            Format::Parquet => None,
            _ => Some(decode::decoder(table, &options.format, &decoded, header.clone())?),
        };
        let (table, format) = (table.name.clone(), options.format.clone());
        let reading = Reading { table, format, decoded, header, pool: Pool::new(FILE_BYTES) };
        Ok(Files {
            reading,
            path: options.path.clone(),
            monitor_interval: options.monitor_interval,
            decoder,
            resumed: Vec::new(),
        })
    }

    /// The files that are new since the last look and have come to rest.
    fn look(
        &self,
        seen: &mut BTreeSet<PathBuf>,
        moving: &mut BTreeMap<PathBuf, (u64, i64)>,
    ) -> Result<Vec<PathBuf>, Error> {
        let found = match find::find(&self.reading.table, &self.path) {
            Err(Error::Missing { .. }) => Vec::new(),
            found => found?,
        };
        let before = std::mem::take(moving);
        let mut rested = Vec::new();
        for path in found {
            if seen.contains(&path) {
                continue;
            }
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let state = (metadata.len(), find::modified(&metadata));
            if before.get(&path) == Some(&state) {
                seen.insert(path.clone());
                rested.push(path);
            } else {
                moving.insert(path, state);
            }
        }
        Ok(rested)
    }
}

impl Source for Files {
    fn is_bounded(&self) -> bool {
        self.monitor_interval.is_none()
    }

    fn decoder(&self) -> Option<MakeDecoder> {
        self.decoder.clone()
    }

    fn resume(&mut self, positions: &[Position]) -> Result<(), Error> {
        for position in positions.iter().filter(|position| !position.ended) {
            let path = Path::new(&position.origin.name);
            super::replay::check(
                &self.reading.table,
                path,
                &position.origin,
                &find::origin(&self.reading.table, path)?,
            )?;
        }
        self.resumed = positions.to_vec();
        Ok(())
    }

    fn read(self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        let mut rotation = Rotation::new(self.reading.clone(), &self.resumed);
        let mut seen: BTreeSet<PathBuf> = self.resumed.iter().map(|position| (&position.origin.name).into()).collect();
        let Some(interval) = self.monitor_interval else {
            let found = find::find(&self.reading.table, &self.path)?;
            rotation.add(found.into_iter().filter(|path| !seen.contains(path)).collect(), events)?;
            while rotation.turn(events)? {
                if cancel.is_draining() {
                    return Ok(());
                }
            }
            return Ok(events.send(SourceEvent::Complete)?);
        };
        let mut moving = BTreeMap::new();
        loop {
            rotation.add(self.look(&mut seen, &mut moving)?, events)?;
            while rotation.turn(events)? {
                if cancel.is_draining() {
                    return Ok(());
                }
            }
            if !cancel.sleep(interval) {
                return Ok(());
            }
        }
    }

    fn replay(self: Box<Self>, positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        Ok(Box::new(FilesReplay::new(self.reading, positions.to_vec())))
    }
}

/// The files that are being read, and those that wait for their turn.
struct Rotation {
    reading: Reading,
    opened: u32,
    waiting: VecDeque<(u32, PathBuf, Start)>,
    open: VecDeque<(u32, Pieces)>,
}

/// Where reading a file begins.
#[derive(Debug, Clone, Copy, Default)]
struct Start {
    at: u64,
    records: u64,
}

impl Rotation {
    /// Files that were opened before wait first.
    fn new(reading: Reading, resumed: &[Position]) -> Self {
        let unfinished = resumed.iter().enumerate().filter(|(_, position)| !position.ended);
        let waiting = unfinished.map(|(partition, position)| {
            let start = Start { at: position.to, records: position.records };
            (partition as u32, PathBuf::from(&position.origin.name), start)
        });
        Rotation { opened: resumed.len() as u32, waiting: waiting.collect(), reading, open: VecDeque::new() }
    }

    /// Opens a partition a file; none is read yet.
    fn add(&mut self, files: Vec<PathBuf>, events: &mut Sender<SourceEvent>) -> Result<(), Halt> {
        for path in files {
            let (partition, origin) = (self.opened, find::origin(&self.reading.table, &path)?);
            events.send(SourceEvent::Opened { partition, origin })?;
            self.opened += 1;
            self.waiting.push_back((partition, path, Start::default()));
        }
        Ok(())
    }

    /// Sends the next block of the next file; false when all files have been read.
    fn turn(&mut self, events: &mut Sender<SourceEvent>) -> Result<bool, Halt> {
        while self.open.len() < OPEN_MAX {
            let Some((partition, path, start)) = self.waiting.pop_front() else { break };
            self.open.push_back((partition, self.reading.open_at(partition, &path, start)?));
        }
        let Some((partition, mut pieces)) = self.open.pop_front() else { return Ok(false) };
        match pieces.next()? {
            Some(block) => {
                events.send(SourceEvent::Block(block))?;
                self.open.push_back((partition, pieces));
            }
            None => events.send(SourceEvent::Ended { partition })?,
        }
        Ok(true)
    }
}

impl Reading {
    /// Opens a file; what its name ends with says how it is compressed.
    pub(super) fn open(&self, partition: u32, path: &Path) -> Result<Pieces, Error> {
        let failed = |error| self.failed(path, error);
        let Ok(cutter) = self.format.cutter() else {
            let file = File::open(path).map_err(|error| find::failed(&self.table, "read", path, error))?;
            let rows = tidemill_format::parquet::read(file, self.decoded.clone(), RECORDS_MAX).map_err(failed)?;
            return Ok(Pieces::Rows(Rows { rows, reading: self.clone(), path: path.to_path_buf(), partition, at: 0 }));
        };
        let place = Place { table: self.table.clone(), path: path.to_path_buf(), partition };
        let blocks = Blocks::new(self.bytes(path)?, cutter, self.pool.clone(), place, Fill::Whole);
        Ok(Pieces::Bytes(blocks.with_header(self.header.clone())))
    }

    /// Opens a file where an earlier run has stopped to read it.
    fn open_at(&self, partition: u32, path: &Path, start: Start) -> Result<Pieces, Error> {
        if start.at == 0 {
            return self.open(partition, path);
        }
        let elsewhere = || super::replay::changed(&self.table, path, format!("it has no record at {} now", start.at));
        if self.header.is_some() {
            // Reading the first block is what finds the header.
            self.open(partition, path)?.next()?;
        }
        let Ok(cutter) = self.format.cutter() else {
            let mut pieces = self.open(partition, path)?;
            loop {
                match pieces.next()?.ok_or_else(elsewhere)?.to {
                    to if to == start.at => return Ok(pieces),
                    to if to > start.at => return Err(elsewhere()),
                    _ => {}
                }
            }
        };
        let failed = |error| find::failed(&self.table, "read", path, error);
        let input = if self.is_compressed(path) {
            let mut input = self.bytes(path)?;
            let skipped = io::copy(&mut input.by_ref().take(start.at), &mut io::sink()).map_err(failed)?;
            if skipped != start.at {
                return Err(elsewhere());
            }
            input
        } else {
            let mut file = File::open(path).map_err(failed)?;
            file.seek(SeekFrom::Start(start.at)).map_err(failed)?;
            Box::new(file)
        };
        let place = Place { table: self.table.clone(), path: path.to_path_buf(), partition };
        let blocks = Blocks::new(input, cutter, self.pool.clone(), place, Fill::Whole);
        Ok(Pieces::Bytes(blocks.starting_at(start.at, start.records)))
    }

    fn is_compressed(&self, path: &Path) -> bool {
        matches!(path.extension().and_then(|extension| extension.to_str()), Some("gz" | "zst"))
    }

    /// A file's bytes, decompressed.
    pub(super) fn bytes(&self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        let failed = |error| find::failed(&self.table, "read", path, error);
        let file = File::open(path).map_err(failed)?;
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Some("zst") => Box::new(zstd::Decoder::new(file).map_err(failed)?),
            _ => Box::new(file),
        })
    }

    fn failed(&self, path: &Path, error: tidemill_format::Error) -> Error {
        Error::Format { table: self.table.clone(), path: Some(path.to_path_buf()), error }
    }
}

/// A file, block by block.
pub(super) enum Pieces {
    Bytes(Blocks<Box<dyn Read + Send>>),
    Rows(Rows),
}

impl Pieces {
    pub(super) fn next(&mut self) -> Result<Option<Block>, Error> {
        match self {
            Pieces::Bytes(blocks) => blocks.next(),
            Pieces::Rows(rows) => rows.next(),
        }
    }
}

/// The rows of a Parquet file, batch by batch.
pub(super) struct Rows {
    rows: ParquetRows,
    reading: Reading,
    path: PathBuf,
    partition: u32,
    at: u64,
}

impl Rows {
    fn next(&mut self) -> Result<Option<Block>, Error> {
        let Some(batch) = self.rows.next() else { return Ok(None) };
        let batch = batch.map_err(|error| self.reading.failed(&self.path, error))?;
        let (from, records) = (self.at, batch.num_rows() as u32);
        self.at += u64::from(records);
        let data = BlockData::Rows(Delta::inserts(batch));
        Ok(Some(Block { partition: self.partition, from, to: self.at, first_record: from, records, data }))
    }
}
