//! Connectors as a pipeline uses them: with real files and a real HTTP server.

mod catalogue;
mod common;
mod push;
mod read_files;
mod ring;
mod write_files;
