//! Versioned state: versions, a hash trie, commits, snapshots, merge and rollback.

pub mod digest;
pub mod error;
pub mod gc;
pub mod instance;
pub mod merge;
pub mod snapshot;
pub mod store;
pub mod submit;
pub mod table;
pub mod trie;
pub mod version;

pub use error::Error;
pub use instance::Instance;
pub use version::{Replica, Version};
