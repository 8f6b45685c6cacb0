//! Where objects are kept: whole, under names, written once.
//!
//! The one idea is [`Store::put_new`]: of two writers of one name exactly one succeeds. Everything that must be decided
//! once (which snapshot is number 7, which commit follows another) is decided by it. An object never changes; it is there
//! whole or not at all. Calls block until they are done, from any thread.
//!
//! Names are relative, `/` between their parts; see [`check_name`].

pub mod folder;
pub mod memory;
pub mod object;

use std::sync::Arc;

use bytes::Bytes;
use tidemill_base::{Explain, Kind};

pub use folder::Folder;
pub use memory::Memory;
pub use object::{Bucket, S3};

/// The store at an address: `s3://bucket/folder`, a folder's path, or `file://` and a folder's whole path.
///
/// # Errors
/// [`StoreError::BadAddress`].
pub fn open(address: &str, s3: &S3) -> Result<Arc<dyn Store>, StoreError> {
    let bad = |reason: &str| StoreError::BadAddress { address: address.to_string(), reason: reason.to_string() };
    let (scheme, rest) = address.split_once("://").unwrap_or(("file", address));
    match scheme {
        "file" if rest.is_empty() => Err(bad("it is empty")),
        "file" => Ok(Arc::new(Folder::open(rest)?)),
        "s3" => {
            let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
            check_name(bucket).map_err(|_| bad("its bucket has no proper name"))?;
            Ok(Arc::new(Bucket::open(bucket, folder.trim_end_matches('/'), s3)?))
        }
        _ => Err(bad("there are stores in folders and in 's3://' only")),
    }
}

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
            StoreError::Failed { store, .. } => {
                format!("see that {store} can be reached and written to, then run again")
            }
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

    /// What every store promises, shown on an empty one.
    pub(super) fn keeps_the_promises(store: &dyn Store) {
        let put = |name: &str, content: &'static [u8]| store.put_new(name, Bytes::from_static(content));
        assert_eq!(store.list("").expect("listed"), Vec::<String>::new());
        assert!(matches!(store.get("a/1"), Err(StoreError::NotFound { .. })));
        assert!(matches!(store.get_range("a/1", 0, 1), Err(StoreError::NotFound { .. })));
        put("a/2", b"two").expect("new");
        put("a/1", b"one").expect("new");
        put("a/b/3", b"").expect("new");
        put("ab", b"beside").expect("new");
        assert!(matches!(put("a/1", b"other"), Err(StoreError::Exists { .. })));
        assert_eq!(store.get("a/1").expect("there"), "one");
        assert_eq!(store.get("a/b/3").expect("there"), "");
        assert_eq!(store.get_range("a/1", 1, 2).expect("there"), "ne");
        assert_eq!(store.get_range("a/1", 3, 0).expect("there"), "");
        for (offset, length) in [(0, 4), (3, 1), (4, 0), (u64::MAX, 1)] {
            assert!(matches!(store.get_range("a/1", offset, length), Err(StoreError::TooShort { .. })), "{offset}");
        }
        assert_eq!(store.list("").expect("listed"), ["a/1", "a/2", "a/b/3", "ab"]);
        assert_eq!(store.list("a").expect("listed"), ["a/1", "a/2", "a/b/3"]);
        assert_eq!(store.list("none").expect("listed"), Vec::<String>::new());
        store.delete("a/1").expect("removed");
        store.delete("a/1").expect("removed already");
        assert_eq!(store.list("a").expect("listed"), ["a/2", "a/b/3"]);
        put("a/1", b"again").expect("free again");
        for name in ["", "../a", "a//b"] {
            assert!(matches!(put(name, b""), Err(StoreError::BadName { .. })), "{name}");
            assert!(matches!(store.get(name), Err(StoreError::BadName { .. })), "{name}");
            assert!(matches!(store.delete(name), Err(StoreError::BadName { .. })), "{name}");
        }
    }

    #[test]
    fn an_address_names_a_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        let s3 = S3 { endpoint: Some("http://localhost:1".to_string()), allow_http: true, ..S3::default() };
        let describe = |address: &str, s3: &S3| open(address, s3).map(|store| store.describe());
        assert_eq!(describe(&path, &s3), Ok(format!("folder {path}")));
        assert_eq!(describe(&format!("file://{path}"), &s3), Ok(format!("folder {path}")));
        assert_eq!(describe("s3://bucket/some/folder/", &s3), Ok("s3://bucket/some/folder".to_string()));
        assert_eq!(describe("s3://bucket", &s3), Ok("s3://bucket".to_string()));
        let secure = S3 { allow_http: false, ..s3.clone() };
        assert!(describe("s3://bucket", &secure).is_err_and(|error| error.to_string().contains("s3.allow-http")));
        for address in ["", "gs://bucket", "s3://", "s3:///folder"] {
            assert!(matches!(describe(address, &s3), Err(StoreError::BadAddress { .. })), "{address}");
        }
    }

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
