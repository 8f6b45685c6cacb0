//! The verbs, one a file.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod journal;
pub(crate) mod proto;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod sql;
pub(crate) mod table;
pub(crate) mod token;
pub(crate) mod versions;
