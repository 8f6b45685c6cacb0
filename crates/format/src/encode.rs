//! Columns to text: JSON lines, debezium's change records, upserts, and the cells that CSV and tables write too.

mod cells;
mod json;

#[cfg(test)]
pub(crate) use cells::write_json_string;
pub(crate) use cells::{Cells, Kind, Style};
pub use json::{DebeziumEncoder, JsonEncoder, JsonRows, UPSERT_OP, UpsertEncoder};

/// How often a row is written: its weight, or once when there are none.
pub(crate) fn weight(weights: Option<&[i64]>, row: usize) -> i64 {
    weights.map_or(1, |weights| weights.get(row).copied().unwrap_or(1))
}
