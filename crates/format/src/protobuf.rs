//! Protocol Buffers: messages of rows and of columns to Arrow and back, and the `.proto` of a table.
//!
//! The one idea: the schema is known, so nothing is generated here and no message is built. A field's number is its
//! column's place in the table, and values go from the wire straight into columns ([`ProtobufDecoder`]). A body is either
//! rows (`<Table>Rows`: a row message behind another) or columns (`<Table>Columns`: one repeated field a column, packed
//! where it can be, and a bitmap of what is there), which is the quickest to make, to send and to read.
//! [`Messages`] describes both for people and for reflection; [`rows`] and [`columns`] write them.

mod columns;
mod decode;
mod encode;
mod schema;
mod shape;
mod text;
mod values;
mod wire;

pub use decode::{ProtobufDecoder, ROWS_MAX};
pub use encode::{columns, rows};
pub use schema::{Field, Kind, Label, Message, Messages, entry_name};

#[cfg(test)]
mod tests;

pub(crate) const FORMAT: &str = "protobuf";

/// The number of the field of rows in a message of rows.
const ROWS: u32 = 1;

/// The number of the field in a message of columns that says how many rows it has.
const COUNT: u32 = 20_000;

/// The most columns a table may have: the numbers of their fields must stay below [`COUNT`] and those of Protocol Buffers.
const COLUMNS_MAX: usize = 10_000;
