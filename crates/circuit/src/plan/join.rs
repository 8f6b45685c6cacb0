//! Joins and set operations, as a plan asks for them.

use crate::expr::Expr;
use crate::plan::Emit;

/// `left JOIN right ON ..`: the node has two inputs, and keeps the rows of both that a row still to come may meet.
///
/// Both inputs may take rows back. `RIGHT JOIN` is a left join with its sides changed.
#[derive(Debug, Clone)]
pub struct JoinSpec {
    /// Which rows come out.
    pub kind: JoinKind,
    /// The columns of the left side that equal `right_keys`, one by one and of the same types; none joins every row with
    /// every row.
    pub left_keys: Vec<usize>,
    /// The columns of the right side.
    pub right_keys: Vec<usize>,
    /// What a null in a key equals.
    pub nulls: JoinNulls,
    /// What has to be true besides, over all columns of the left side and then all of the right side.
    pub residual: Option<Expr>,
    /// The columns of the node: numbers below the left side's width are its columns, the others those of the right side.
    /// A semi or anti join has columns of the left side alone.
    pub columns: Vec<usize>,
    /// When a kept row of the left and of the right side can meet no row any more.
    pub expiry: [Option<Expiry>; 2],
    /// When a suspect of the left and of the right side is late, where the other side expires: once the watermark that it
    /// carries says so of the suspect itself, whose window may still be open though its time has passed. With none every
    /// suspect is late: it might miss rows that are gone.
    pub late: [Option<Expiry>; 2],
    /// When a row that meets none comes out, padded with nulls or as the answer of an anti join: at once, to be taken back
    /// when it meets one, or when it expires, for ever (which needs inputs that are never taken back, and an expiry).
    pub pad: Emit,
}

impl JoinSpec {
    /// Whether no row that came out is taken back, over inputs that take none back.
    pub fn appends(&self) -> bool {
        matches!(self.kind, JoinKind::Inner | JoinKind::Semi) || self.pad == Emit::OnClose
    }

    /// Whether a row of the left side goes once it has met one: a semi or anti join says nothing more of it, for what it has
    /// met is never taken back. `appends` says of each side whether no row of it is, and `forgets` whether rows of the right
    /// side have a time to live: a left row can be taken back as long as those are there that it had met.
    pub fn lets_met_go(&self, appends: [bool; 2], forgets: bool) -> bool {
        let one_sided = matches!(self.kind, JoinKind::Semi | JoinKind::Anti) && self.nulls != JoinNulls::Unknown;
        let stays = self.expiry[1].is_none() && !forgets;
        one_sided && appends[1] && (appends[0] || stays)
    }
}

/// Which rows a join gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and rows of the left side that meet none.
    Left,
    /// Pairs, and rows of either side that meet none.
    Full,
    /// Rows of the left side that meet one or more, each once.
    Semi,
    /// Rows of the left side that meet none.
    Anti,
}

/// What a null in a key of a join equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinNulls {
    /// Nothing.
    Unequal,
    /// A null (`IS NOT DISTINCT FROM`).
    Equal,
    /// It may equal anything (`NOT IN`, of an anti join): with a null on the right side no row comes out, and a row with a
    /// null comes out only while the right side is empty.
    Unknown,
}

/// When a kept row is of no use any more: once the watermark is above the row's `time + after_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The column of time, in the input's own columns. A row with a null there never expires.
    pub time: usize,
    /// Milliseconds.
    pub after_ms: i64,
}

impl Expiry {
    /// Whether a row of this time is of no use once the watermark stands there; `i64::MAX` stands for a null.
    pub fn is_over(&self, time: i64, watermark: i64) -> bool {
        time != i64::MAX && time.saturating_add(self.after_ms) < watermark
    }
}

/// `left JOIN right FOR SYSTEM_TIME AS OF left.time ON ..`, and `ASOF JOIN`.
///
/// The node has two inputs. Of the right side, all rows of a key with the greatest time that is not above the left row's
/// (or below it, when `strict`) are its partners: one where the right side holds one row for each key and time, as a table
/// with a primary key does, whose newest row of a time replaces the ones before. A left row is answered when the watermark
/// is above its time, so it must have one. A right row that is taken back (weight below zero) ends the validity of its key
/// at its time, unless it came at that very time: then it was never there. So what takes back the row before when a new
/// one comes, as a ranking of the newest rows does, is no right side: that is the input of the ranking. Rows of either side
/// that the watermark has passed are late. The node's schema is the columns of the left side and then `columns` of the
/// right side.
#[derive(Debug, Clone)]
pub struct TemporalJoinSpec {
    /// The columns of the left side that equal `right_keys`, one by one and of the same types.
    pub left_keys: Vec<usize>,
    /// The columns of the right side.
    pub right_keys: Vec<usize>,
    /// The column of event time of the left side.
    pub left_time: usize,
    /// The column of event time of the right side.
    pub right_time: usize,
    /// Whether a right row of the same time is too late (`ASOF` with `>`).
    pub strict: bool,
    /// The boolean column of the right side that says of a row that nothing is valid from its time on.
    pub ended: Option<usize>,
    /// The columns of the right side that follow those of the left side.
    pub columns: Vec<usize>,
    /// What has to be true besides, over the node's own columns.
    pub residual: Option<Expr>,
    /// Whether a row for which nothing is found stays, with nulls.
    pub outer: bool,
}

/// What the changes of a table say of its versions.
///
/// The rows of an update (what was, taken back, and what is, of one key and one record) are one row, what is; any other row
/// that is taken back is a row that ends what was valid. None is taken back. The node's schema is the input's columns and
/// then a boolean: whether nothing is valid from the row's time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionsSpec {
    /// The columns that name what has versions.
    pub keys: Vec<usize>,
    /// The column of event time.
    pub time: usize,
    /// The column of `$origin`, which says of which record a row is.
    pub origin: usize,
}

/// `left INTERSECT right`, `left EXCEPT right`: whole rows, nulls equal. Both inputs may take rows back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetSpec {
    /// Which.
    pub operation: SetOperation,
    /// Whether a row counts as often as it is there (`ALL`); else it is there once or not at all.
    pub all: bool,
}

/// Which rows a set operation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOperation {
    /// Rows of both sides.
    Intersect,
    /// Rows of the left side that the right side has not.
    Except,
}
