//! Reads recorded ranges of files again, after making sure that the files are what they were.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::step::BlockRange;

use super::find;
use super::read::{Pieces, Reading};
use crate::error::Error;
use crate::source::{Origin, Position, Replay};

pub(super) struct FilesReplay {
    reading: Reading,
    positions: Vec<Position>,
    open: BTreeMap<u32, Again>,
}

/// A file that is being read again.
struct Again {
    path: PathBuf,
    records: u64,
    at: u64,
    input: Input,
}

enum Input {
    Bytes(Box<dyn Read + Send>),
    Rows(Box<Pieces>),
}

impl FilesReplay {
    pub(super) fn new(reading: Reading, positions: Vec<Position>) -> Self {
        FilesReplay { reading, positions, open: BTreeMap::new() }
    }

    fn open(&mut self, partition: u32) -> Result<Again, Error> {
        let table = &self.reading.table;
        let Some(position) = self.positions.get(partition as usize) else {
            return Err(changed(table, Path::new("the record"), format!("it names no partition {partition}")));
        };
        let path = PathBuf::from(&position.origin.name);
        let found = find::origin(table, &path)?;
        check(table, &path, &position.origin, &found)?;
        let input = match self.reading.format.cutter() {
            Err(_) => Input::Rows(Box::new(self.reading.open(partition, &path)?)),
            Ok(_) => {
                if self.reading.header.is_some() {
                    // Reading the first block is what finds the header.
                    self.reading.open(partition, &path)?.next()?;
                }
                Input::Bytes(self.reading.bytes(&path)?)
            }
        };
        Ok(Again { path, records: position.records, at: 0, input })
    }
}

impl Replay for FilesReplay {
    fn block(&mut self, range: &BlockRange) -> Result<Block, Error> {
        let mut again = match self.open.remove(&range.partition) {
            Some(again) => again,
            None => self.open(range.partition)?,
        };
        let block = again.block(&self.reading.table, range)?;
        self.open.insert(range.partition, again);
        Ok(block)
    }
}

impl Again {
    fn block(&mut self, table: &str, range: &BlockRange) -> Result<Block, Error> {
        let elsewhere = || changed(table, &self.path, format!("it has no block {}..{} now", range.from, range.to));
        let data = match &mut self.input {
            Input::Rows(pieces) => loop {
                let block = pieces.next()?.ok_or_else(elsewhere)?;
                if (block.from, block.to) == (range.from, range.to) {
                    break block.data;
                }
                if block.to > range.from {
                    return Err(elsewhere());
                }
            },
            Input::Bytes(input) => {
                let (Some(skip), Some(length)) = (range.from.checked_sub(self.at), range.to.checked_sub(range.from))
                else {
                    return Err(elsewhere());
                };
                let failed = |error| find::failed(table, "read", &self.path, error);
                io::copy(&mut input.by_ref().take(skip), &mut io::sink()).map_err(failed)?;
                let mut bytes = Vec::new();
                let read = input.by_ref().take(length).read_to_end(&mut bytes).map_err(failed)?;
                if read as u64 != length {
                    return Err(elsewhere());
                }
                BlockData::Bytes(bytes.into())
            }
        };
        let first_record = self.records;
        (self.at, self.records) = (range.to, first_record + u64::from(range.records));
        let BlockRange { partition, from, to, records } = *range;
        Ok(Block { partition, from, to, first_record, records, data })
    }
}

pub(super) fn check(table: &str, path: &Path, recorded: &Origin, found: &Origin) -> Result<(), Error> {
    let size = |origin: &Origin| origin.size.unwrap_or_default();
    if recorded.size != found.size {
        let change = format!("it has {} bytes and had {}", size(found), size(recorded));
        return Err(changed(table, path, change));
    }
    if recorded.digest != found.digest {
        return Err(changed(table, path, "its first or last bytes are others".to_string()));
    }
    if recorded.modified != found.modified {
        return Err(changed(table, path, "it was written again".to_string()));
    }
    Ok(())
}

pub(super) fn changed(table: &str, path: &Path, change: String) -> Error {
    Error::Changed { table: table.to_string(), path: path.to_path_buf(), change }
}
