//! HTTP both ways: an inbox that the gateway fills, and a push of rows to a server.

pub mod inbox;
pub mod push;
