//! Versioned state: versions, a hash trie, commits, snapshots, merge and rollback.

pub mod error;
pub mod version;
pub mod trie;
pub mod digest;
pub mod gc;
pub mod instance;
pub mod snapshot;
pub mod store;
pub mod table;
pub mod submit;
pub mod merge;

pub use error::Error;
pub use instance::Instance;
pub use version::{Replica, Version};
