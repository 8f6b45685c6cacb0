//! [`Operator`]: how one node of a circuit works on one lane.
//!
//! In a step an operator is pushed every chunk of its inputs and is then flushed until it is done. What can never take
//! back what it said within a step (filter, project) answers in `push`; what can (aggregates) answers in `flush`, once a
//! step for each changed group, so that intermediate states never leave.

use tidemill_base::Timestamp;

use crate::delta::Delta;
use crate::error::Error;
use crate::keep::keeper::Keeper;
use crate::plan::NodeId;

/// What an operator knows of the step it is in.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The step's number, from 1.
    pub step: u64,
    /// The lane the operator works on, from 0.
    pub lane: usize,
    /// Processing time of the whole step; [`Timestamp::MAX`] in the last step of a bounded input.
    pub now: Timestamp,
    /// The watermark of the operator's input after this step's rows.
    pub watermark: Timestamp,
    /// Which side rows are collected besides being counted.
    pub sides: Sides,
}

/// Which side rows the circuit was asked to collect.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sides {
    /// Rows that came after their window had closed.
    pub late: bool,
    /// Rows on which an expression failed.
    pub dead_letter: bool,
    /// Records that could not be decoded.
    pub bad_record: bool,
}

/// Why a row went to a side output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SideKind {
    /// Its window had closed.
    Late,
    /// An expression failed on it.
    DeadLetter,
    /// It could not be decoded.
    BadRecord,
}

impl SideKind {
    /// The word in reports and in the column `kind` of a side output.
    pub fn as_str(self) -> &'static str {
        match self {
            SideKind::Late => "late",
            SideKind::DeadLetter => "dead-letter",
            SideKind::BadRecord => "bad-record",
        }
    }
}

/// A row that left by the side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideRow {
    /// Why.
    pub kind: SideKind,
    /// The operator or table, as `explain` names it.
    pub operator: String,
    /// Its node in the plan.
    pub node: NodeId,
    /// What was wrong.
    pub reason: String,
    /// The row as JSON, or the record's text.
    pub row: String,
    /// Where the row came from, when it says so: see [`crate::decode::ORIGIN`].
    pub origin: Option<u64>,
}

/// What an operator says in a step.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows for those who read the operator.
    pub deltas: Vec<Delta>,
    /// Rows for the side outputs, when they are collected.
    pub side: Vec<SideRow>,
    /// Rows that came too late, counted by weightless rows.
    pub late_rows: u64,
    /// Rows on which an expression failed and that were left out.
    pub dead_rows: u64,
}

impl Output {
    /// Sends rows on; no rows are not sent.
    pub fn emit(&mut self, delta: Delta) {
        if !delta.is_empty() {
            self.deltas.push(delta);
        }
    }
}

/// Whether an operator has more to say in this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Call again.
    More,
    /// Done for this step.
    Done,
}

/// What an operator keeps, for `explain`, metrics and budgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Groups, rows or entries.
    pub entries: u64,
    /// Bytes, by capacity.
    pub bytes: u64,
}

/// A key in an operator's state, and about how many bytes are kept for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySize {
    /// The key as JSON.
    pub key: String,
    /// Bytes.
    pub bytes: u64,
}

/// One node's work on one lane.
pub trait Operator: Send {
    /// Takes a chunk of input `port`.
    fn push(&mut self, port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error>;

    /// Says what the step has changed, at most one chunk a call.
    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        let _ = (context, out);
        Ok(Flush::Done)
    }

    /// The least processing time at which the operator has something to say without input.
    fn next_due(&self) -> Option<Timestamp> {
        None
    }

    /// What the operator keeps.
    fn state_size(&self) -> StateSize {
        StateSize::default()
    }

    /// The keys that most is kept for, at most `most` of them, the largest first. It may read all that is kept: it is asked
    /// when there is too much.
    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        let _ = most;
        Vec::new()
    }

    /// The operator's tables, by which it is saved; none when it keeps nothing between steps.
    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        None
    }
}
