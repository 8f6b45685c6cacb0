//! The shell: definitions are remembered, queries run over them.
//!
//! A statement is run together with all definitions before it, as one pipeline file would be: what it answers here is
//! what it answers there.

mod complete;
pub(crate) mod scan;
mod session;

pub(crate) use complete::Helper;
pub(crate) use session::{Reply, Session};
