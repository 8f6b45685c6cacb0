//! Where objects are kept: whole, under names, written once.
//!
//! The one idea is [`Store::put_new`]: of two writers of one name exactly one succeeds. Everything that must be decided
//! once (which snapshot is number 7, which commit follows another) is decided by it. An object never changes; it is there
//! whole or not at all. Calls block until they are done, from any thread.
//!
//! Names are relative, `/` between their parts; see [`check_name`].

use bytes::Bytes;
use tidemill_base::{Explain, Kind};

/// Objects under names.
pub trait Store: Send + Sync {
    /// Writes an object under a name that nothing has yet; it is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken. After [`StoreError::Failed`] the object may be there or not: who
    /// must know asks again, by [`Store::get`].
    fn put_new(&self, name: &str, content: Bytes) -> Result<(), StoreError>;

    /// Reads an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or why it cannot be read.
    fn get(&self, name: &str) -> Result<Bytes, StoreError>;

    /// Reads `length` bytes of an object from `offset`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::TooShort`] when the object ends before; or why it cannot be read.
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError>;

    /// The names of all objects below `folder`, however deep, sorted; none when there is no such folder. Every object
    /// whose writing ended before this began is among them.
    ///
    /// # Errors
    /// Why they cannot be listed; "unreadable" is never "empty".
    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError>;

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// Why it cannot be removed; it may be there or not.
    fn delete(&self, name: &str) -> Result<(), StoreError>;

    /// What it is, for people: a folder's path, a bucket's address.
    fn describe(&self) -> String;
}

/// What a store could not do. `store` says which one, as in [`Store::describe`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The name is taken.
    #[error("'{name}' is already in {store}")]
    Exists {
        /// The store.
        store: String,
        /// The object.
        name: String,
    },
    /// There is no such object.
    #[error("'{name}' is not in {store}")]
    NotFound {
        /// The store.
        store: String,
        /// The object.
        name: String,
    },
    /// An object ends before what was asked of it.
    #[error("'{name}' in {store} ends before byte {end}")]
    TooShort {
        /// The store.
        store: String,
        /// The object.
        name: String,
        /// The end of the range that was asked for.
        end: u64,
    },
    /// The store did not do it, or did not say so.
    #[error("{store} could not {verb} '{name}': {reason}")]
    Failed {
        /// The store.
        store: String,
        /// What it should have done, such as `write`.
        verb: &'static str,
        /// The object or folder.
        name: String,
        /// What the store said.
        reason: String,
    },
    /// A name that no store takes.
    #[error("'{name}' is no name for an object: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An address or an option that names no store.
    #[error("'{address}' names no store: {reason}")]
    BadAddress {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Explain for StoreError {
    fn code(&self) -> &'static str {
        match self {
            StoreError::NotFound { .. } => "TM1230",
            StoreError::Exists { .. } => "TM1231",
            StoreError::Failed { .. } => "TM1232",
            StoreError::TooShort { .. } => "TM1233",
            StoreError::BadName { .. } => "TM1234",
            StoreError::BadAddress { .. } => "TM1235",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            StoreError::NotFound { .. } | StoreError::TooShort { .. } => Kind::Restore,
            StoreError::Exists { .. } | StoreError::BadName { .. } | StoreError::BadAddress { .. } => Kind::Config,
            StoreError::Failed { .. } => Kind::Environment,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            StoreError::NotFound { name, .. } | StoreError::TooShort { name, .. } => {
                format!("bring '{name}' back from a copy of the store")
            }
            StoreError::Exists { .. } => "choose another name, or remove the one that is there".to_string(),
            StoreError::Failed { store, .. } => format!("see that {store} can be reached and written to, then run again"),
            StoreError::BadName { .. } => "use letters, digits and '-', '_', '.', '=' in a name".to_string(),
            StoreError::BadAddress { .. } => "give a folder, or 's3://bucket/folder'".to_string(),
        })
    }
}

/// The most bytes of a name.
pub const NAME_BYTES_MAX: usize = 512;

/// Checks that every store takes this name: parts of letters, digits, `-`, `_`, `.` and `=`, none of them `.` or `..`,
/// with `/` between.
///
/// # Errors
/// [`StoreError::BadName`].
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let bad = |reason| Err(StoreError::BadName { name: name.to_string(), reason });
    if name.len() > NAME_BYTES_MAX {
        return bad("it is longer than 512 bytes");
    }
    for part in name.split('/') {
        if part.is_empty() {
            return bad("a part of it is empty");
        }
        if part.bytes().all(|byte| byte == b'.') {
            return bad("a part of it is made of dots");
        }
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte)) {
            return bad("it has a character that not every store takes");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_parts_of_plain_characters() {
        for name in ["a", "instances/x/00000000000000000001", "a.b-c_d=e/..f"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "x".repeat(513);
        for name in ["", "/", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a b", "ä", "a\\b", "a:b", "a%2fb", &long] {
            assert!(matches!(check_name(name), Err(StoreError::BadName { .. })), "{name}");
        }
    }
}
