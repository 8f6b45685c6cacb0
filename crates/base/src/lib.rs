//! What every floor of tidemill shares: time, randomness, the stable hash, errors, options, storage.
//! The one idea: anything that could make two runs of the same input differ (clocks, random numbers, hash functions of
//! a library) is named here once, as something to be handed in, so that the floors above can stay deterministic.
//! This crate reads no file and opens no socket.

pub mod error;
pub mod hash;
pub mod options;
pub mod planted;
pub mod rand;
pub mod storage;
pub mod suggest;
pub mod time;

pub use error::{Explain, Kind, Position};
pub use time::Timestamp;
