//! What is written down of a table: the records of its log, and compacted ones that stand for all up to a number.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Table;
use super::checkpoint::{Checkpoint, Edit, Edits};
use super::codec::{pack, read_count, read_edit, read_row, unpack, write_count, write_edit, write_row, write_sized};
use super::history::{History, Parts};
use super::rows::Rows;
use super::schema::{Row, Schema};
use super::value::take_sized;
use crate::{Error, Version};

const LOG: [u8; 4] = *b"TMTL";
const BASE: [u8; 4] = *b"TMTB";

/// A record of a table's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// There is a table: record 0.
    Create {
        /// Its columns.
        schema: Schema,
        /// Who made it.
        author: String,
        /// When, in milliseconds since 1970.
        time: i64,
    },
    /// A checkpoint became the head; or a commit and, after it, the merge that rests on it.
    Commit {
        /// The epoch from then on.
        epoch: u64,
        /// The checkpoints.
        written: Vec<Written>,
    },
    /// An owner has taken over.
    Fence {
        /// The epoch from then on.
        epoch: u64,
        /// Who.
        author: String,
        /// When, in milliseconds since 1970.
        time: i64,
    },
    /// What is older than a version is no longer kept.
    Prune {
        /// The version.
        boundary: Version,
        /// Who asked for it.
        author: String,
        /// When, in milliseconds since 1970.
        time: i64,
    },
}

/// A checkpoint and how its content came from its parent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What it changed.
    pub edits: Edits,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Head {
    Create { schema: Schema, author: String, time: i64 },
    Commit { epoch: u64, checkpoints: Vec<Checkpoint> },
    Fence { epoch: u64, author: String, time: i64 },
    Prune { boundary: Version, author: String, time: i64 },
}

impl Record {
    /// The record as an object.
    pub fn encode(&self) -> Vec<u8> {
        let (head, edits): (Head, Vec<&Edits>) = match self.clone() {
            Record::Create { schema, author, time } => (Head::Create { schema, author, time }, Vec::new()),
            Record::Fence { epoch, author, time } => (Head::Fence { epoch, author, time }, Vec::new()),
            Record::Prune { boundary, author, time } => (Head::Prune { boundary, author, time }, Vec::new()),
            Record::Commit { epoch, written } => {
                let checkpoints = written.into_iter().map(|written| written.checkpoint).collect();
                (Head::Commit { epoch, checkpoints }, self.edits())
            }
        };
        let mut body = head_bytes(&head);
        for edits in edits {
            write_count(&mut body, edits.len());
            edits.iter().for_each(|edit| write_edit(&mut body, edit));
        }
        pack(LOG, &body)
    }

    fn edits(&self) -> Vec<&Edits> {
        match self {
            Record::Commit { written, .. } => written.iter().map(|written| &written.edits).collect(),
            _ => Vec::new(),
        }
    }

    /// The record that an object is; `name` is the object's, for errors.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Newer`].
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Record, Error> {
        let body = unpack(name, LOG, bytes)?;
        let mut rest = body.as_slice();
        let record = match read_head(name, &mut rest)? {
            Head::Create { schema, author, time } => Record::Create { schema, author, time },
            Head::Fence { epoch, author, time } => Record::Fence { epoch, author, time },
            Head::Prune { boundary, author, time } => Record::Prune { boundary, author, time },
            Head::Commit { epoch, checkpoints } => {
                let mut written = Vec::with_capacity(checkpoints.len());
                for checkpoint in checkpoints {
                    let edits = read_edits(&mut rest).ok_or_else(|| cut(name, body.len() - rest.len()))?;
                    written.push(Written { checkpoint, edits: edits.into() });
                }
                Record::Commit { epoch, written }
            }
        };
        if rest.is_empty() { Ok(record) } else { Err(cut(name, body.len() - rest.len())) }
    }
}

#[derive(Serialize, Deserialize)]
struct BaseHead {
    schema: Schema,
    epoch: u64,
    sequence: u64,
    history: Parts,
}

/// A table as one object, which stands for all records up to its number.
pub(crate) fn encode_base(table: &Table) -> Vec<u8> {
    let head = BaseHead {
        schema: table.schema().as_ref().clone(),
        epoch: table.epoch(),
        sequence: table.sequence(),
        history: table.history().to_parts(),
    };
    let mut body = head_bytes(&head);
    write_count(&mut body, table.head().count() as usize);
    table.head().rows().iter().for_each(|row| write_row(&mut body, row));
    pack(BASE, &body)
}

/// The table that a compacted object is; `name` is the object's, for errors.
///
/// # Errors
/// [`Error::Damaged`] or [`Error::Newer`].
pub fn decode_base(name: &str, table: &str, bytes: &[u8]) -> Result<Table, Error> {
    let body = unpack(name, BASE, bytes)?;
    let mut rest = body.as_slice();
    let head: BaseHead = read_head(name, &mut rest)?;
    let rows = read_rows(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| cut(name, body.len() - rest.len()))?;
    let no_head = || Error::Damaged { name: name.to_string(), reason: "its history has no head".to_string() };
    let history = History::from_parts(head.history).ok_or_else(no_head)?;
    let schema = Arc::new(head.schema);
    let mut all = Rows::default();
    for row in rows {
        // A row of another shape would be found only when it is read.
        schema.values(&row).map_err(|error| Error::Damaged { name: name.to_string(), reason: error.to_string() })?;
        all.set(&row.key(), Some(row));
    }
    Table::from_parts(table, schema, history, all, head.epoch, head.sequence)
}

fn head_bytes(head: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(head).expect("heads have text keys and no value that JSON lacks");
    let mut body = Vec::with_capacity(json.len() + 64);
    write_sized(&mut body, &json);
    body
}

fn read_head<T: for<'de> Deserialize<'de>>(name: &str, rest: &mut &[u8]) -> Result<T, Error> {
    let json = take_sized(rest).ok_or_else(|| cut(name, 0))?;
    serde_json::from_slice(json)
        .map_err(|error| Error::Damaged { name: name.to_string(), reason: format!("its head cannot be read: {error}") })
}

fn read_edits(rest: &mut &[u8]) -> Option<Vec<Edit>> {
    let count = read_count(rest, 5)?;
    (0..count).map(|_| read_edit(rest)).collect()
}

fn read_rows(rest: &mut &[u8]) -> Option<Vec<Row>> {
    let count = read_count(rest, 8)?;
    (0..count).map(|_| read_row(rest)).collect()
}

fn cut(name: &str, at: usize) -> Error {
    Error::Damaged { name: name.to_string(), reason: format!("its body ends or is wrong at byte {at}") }
}
