//! Versioned state: versions, a hash trie, commits, snapshots, merge and rollback.
