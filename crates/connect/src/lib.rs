//! Where events come from and where rows go: one connector a file.
//!
//! A table's `WITH` options become a [`Connector`] ([`catalogue`]); a connector opens as a [`Source`], which reads on a
//! stage of its own and sends [`SourceEvent`]s, or as a [`Sink`], which takes the rows of each step. Everything here is
//! shell: it touches files, sockets and clocks, so that the circuit need not. A source of bytes only finds where records
//! end; decoding is done by the lanes, with the decoders that the source makes for them.
//!
//! Reading order: [`catalogue`], [`source`], [`sink`], then a connector: [`mod@filesystem`] is the largest.

pub mod catalogue;
pub mod sink;
pub mod source;

pub mod blackhole;
pub mod datagen;
pub mod filesystem;
pub mod http;
pub mod nexmark;
pub mod print;
pub mod ring;
pub mod stdin;

mod blocks;
mod changelog;
mod decode;
mod error;
mod pace;
mod pool;

pub use catalogue::{Connector, Table, Takes};
pub use error::{Error, Role};
pub use http::inbox::{Accepted, Full, InboxHandle, Keep, Kept, NotTaken, Note, Puller, Reading, Reread, Rereads};
pub use http::inbox::{Remembers, SHORT_BYTES, Short};
pub use sink::{Delivery, Rows, Sink, SinkSummary, Staged, StagedFile};
pub use source::{Origin, Position, Replay, Source, SourceEvent};
