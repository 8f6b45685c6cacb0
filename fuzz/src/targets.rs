//! What is fuzzed, one file a target.
//!
//! What is read from disk stands behind checksums, which no random change gets past. So these targets try an input thrice
//! over where they can: as it is, with its checksums made right again, and as what would stand behind them.

pub mod boundary;
pub mod circuit;
pub mod http;
pub mod image;
pub mod json;
pub mod line;
pub mod manifest;
pub mod pack;
pub mod protobuf;
pub mod ring;
pub mod segment;
pub mod sql;
pub mod state;
pub mod table;
pub mod trie;
