//! Bytes to Arrow columns and back, directed by a schema: JSON, CSV, Parquet, debezium-json, Protocol Buffers, and tables
//! for people.
//!
//! The one idea: a reader cuts its stream into blocks at the ends of records ([`Cutter`]), a [`Decoder`] turns a block
//! into batches of the columns that are needed, and an [`Encoder`] turns batches with weights into bytes. A bad record is
//! an error that names line, column and reason, or is set aside with them. This crate knows no file, socket or circuit.

pub mod csv;
pub mod encode;
pub mod json;
pub mod parquet;
pub mod protobuf;
pub mod table;

mod batch;
mod column;
mod cut;
mod error;
mod format;
mod scalar;
mod types;

pub use batch::{Decoded, DecodedBatch};
pub use column::BATCH_ROWS;
pub use csv::{CsvDecoder, CsvOptions};
pub use cut::{CsvCutter, Cut, Cutter, LineCutter};
pub use encode::JsonRows;
pub use error::{Error, Rejected, TEXT_CHARS_MAX};
pub use format::{Decoder, Encoder, Format};
pub use json::{DebeziumDecoder, JsonDecoder, JsonGather, JsonKeys, JsonOptions, Unkept};
pub use scalar::time::TimestampStandard;
pub use types::sql_name;
