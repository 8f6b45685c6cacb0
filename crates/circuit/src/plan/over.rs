//! `OVER` that follows changes, as a plan asks for it.

use crate::plan::{AggregateCall, Expiry, OrderBy};

/// `function(..) OVER (PARTITION BY .. ORDER BY .. frame)` over rows that may be taken back, by any order and over any frame.
///
/// After each step all rows of a key are answered as a query over the rows so far would answer them; answers that change
/// are taken back. Rows that the order does not tell apart are ordered by the remaining columns in the order of the schema,
/// ascending and nulls first. Nothing is late but rows of keys that have expired. The node's schema is the input's columns and then one
/// column a call. [`super::OverSpec`] is for rows that are answered once.
#[derive(Debug, Clone)]
pub struct OverChangesSpec {
    /// The columns of `PARTITION BY`; none makes one partition.
    pub keys: Vec<usize>,
    /// `ORDER BY`.
    pub order: Vec<OrderBy>,
    /// The rows that each row sees; functions that have no frame do not look at it.
    pub frame: OverFrame,
    /// What is computed.
    pub calls: Vec<OverFunction>,
    /// When a row's key gets no row any more, of keys that hold a time: they are forgotten then, and stay answered.
    pub expiry: Option<Expiry>,
    /// When rows neither come nor go any more before a row, of an order that begins with a time, ascending and never null.
    /// Those that no answer that may change looks at are forgotten then, where [`OverChangesSpec::reach`] says how far that is.
    pub settled: Option<Expiry>,
}

/// How far the answer of a row depends on rows around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Rows before it.
    pub back: usize,
    /// Rows after it.
    pub ahead: usize,
    /// Where a frame counts by the time of the order, milliseconds before it and after it.
    pub range: Option<(i64, i64)>,
}

impl OverChangesSpec {
    /// How far answers look; none when some look at the whole key.
    pub fn reach(&self) -> Option<Reach> {
        let (mut back, mut ahead, mut range) = (0, 0, None);
        for call in &self.calls {
            match call {
                OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => return None,
                OverFunction::Lag { offset, .. } => back = back.max(*offset),
                OverFunction::Lead { offset, .. } => ahead = ahead.max(*offset),
                OverFunction::Aggregate(_) => {
                    let OverFrame { units, start, end } = self.frame;
                    if start == FrameBound::Unbounded || end == FrameBound::Unbounded {
                        return None;
                    }
                    let before = if let FrameBound::Preceding(size) = start { size } else { 0 };
                    let after = if let FrameBound::Following(size) = end { size } else { 0 };
                    match units {
                        FrameUnits::Rows => (back, ahead) = (back.max(before), ahead.max(after)),
                        FrameUnits::Range => range = Some((i64::try_from(before).ok()?, i64::try_from(after).ok()?)),
                    }
                }
            }
        }
        Some(Reach { back: usize::try_from(back).ok()?, ahead: usize::try_from(ahead).ok()?, range })
    }
}

/// The rows of a key that a row sees, from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverFrame {
    /// What the bounds count.
    pub units: FrameUnits,
    /// The first row: [`FrameBound::Unbounded`] is the first of the key.
    pub start: FrameBound,
    /// The last row: [`FrameBound::Unbounded`] is the last of the key.
    pub end: FrameBound,
}

/// What the bounds of a frame count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameUnits {
    /// Rows.
    Rows,
    /// The value of the only column of `ORDER BY`, in milliseconds for a time; a bound that counts needs a time or an
    /// integer there. Rows of one value come and go together.
    Range,
}

/// Where a frame starts or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameBound {
    /// At the end of the key.
    Unbounded,
    /// So much before the row, in the order.
    Preceding(u64),
    /// At the row itself; of `RANGE` at the first or last row that the order does not tell from it.
    CurrentRow,
    /// So much after the row, in the order.
    Following(u64),
}

/// One function of an `OVER` that follows changes.
#[derive(Debug, Clone)]
pub enum OverFunction {
    /// An aggregate over the frame. Where a function takes rows in an order (FIRST_VALUE, LAST_VALUE: the second argument;
    /// ARRAY_AGG, LISTAGG: the last one), the number of the input's columns stands for the row's place in its key.
    Aggregate(AggregateCall),
    /// The number of the row among all rows of its key, from 1.
    RowNumber,
    /// One more than the rows before all those that the order does not tell from it.
    Rank,
    /// One more than the different values before it.
    DenseRank,
    /// The value of a column `offset` rows before, whatever the frame; `default` when there is none.
    Lag {
        /// The column.
        column: usize,
        /// How many rows before.
        offset: u64,
        /// The column of the value when there is no such row; none means null.
        default: Option<usize>,
    },
    /// The value of a column `offset` rows after, whatever the frame; `default` when there is none.
    Lead {
        /// The column.
        column: usize,
        /// How many rows after.
        offset: u64,
        /// The column of the value when there is no such row; none means null.
        default: Option<usize>,
    },
}
