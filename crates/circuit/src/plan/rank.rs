//! Rankings, as a plan asks for them.

use crate::plan::join::Expiry;

/// `ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= n`: of each key the rows with the first ranks.
///
/// The input may take rows back. Rows that the order does not tell apart are ordered by the remaining columns in the order
/// of the schema, ascending and nulls first. The node's schema is the input's columns, and then the rank (BIGINT) where it
/// is asked for.
#[derive(Debug, Clone)]
pub struct RankSpec {
    /// The columns of `PARTITION BY`; none makes one partition.
    pub keys: Vec<usize>,
    /// `ORDER BY`.
    pub order: Vec<OrderBy>,
    /// What the rank of a row is.
    pub function: RankFunction,
    /// The first rank that is wanted, at least 1.
    pub from: u64,
    /// The last rank that is wanted; none keeps and numbers all rows.
    pub to: Option<u64>,
    /// Whether the rank follows as a last column.
    pub number: bool,
    /// The column of the window's end, which is one of the keys: a window is answered once, when the watermark reaches it,
    /// and forgotten. Rows of a window that is closed are late.
    pub close: Option<usize>,
    /// When a row's key gets no row any more, of keys that hold a time: they are forgotten then, and stay answered.
    pub expiry: Option<Expiry>,
}

/// A column of `ORDER BY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderBy {
    /// The column.
    pub column: usize,
    /// Whether great values come first.
    pub descending: bool,
    /// Whether nulls come before all values.
    pub nulls_first: bool,
}

/// How rows are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankFunction {
    /// One after another.
    RowNumber,
    /// Equal rows have one number, and the next row the number of rows before it and 1.
    Rank,
    /// Equal rows have one number, and the next row the next one.
    DenseRank,
}
