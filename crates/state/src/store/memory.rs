//! A store in memory, for tests: it can be told to fail, and to damage what it holds.
//!
//! After a failure that was asked for nothing more is done, as if the process had died there, until [`Memory::heal`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Store, StoreError, check_name};

/// What becomes of the operation that fails first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It is not done.
    Undone,
    /// It is done, and said to have failed.
    Done,
}

/// Objects in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Bytes>,
    operations: u64,
    failure: Option<(u64, Failure)>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same objects in a memory of their own.
    pub fn copy(&self) -> Self {
        let objects = self.lock().objects.clone();
        Memory { inner: Arc::new(Mutex::new(Inner { objects, ..Inner::default() })) }
    }

    /// Fails the operation after the next `operations`, and all that follow.
    pub fn fail_after(&self, operations: u64, failure: Failure) {
        let mut inner = self.lock();
        inner.failure = Some((inner.operations + operations, failure));
    }

    /// Ends the failing.
    pub fn heal(&self) {
        self.lock().failure = None;
    }

    /// How many operations were asked for so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Flips the bits of `mask` in one byte of an object; false when there is no such byte.
    pub fn damage(&self, name: &str, at: usize, mask: u8) -> bool {
        let mut inner = self.lock();
        let Some(content) = inner.objects.get_mut(name) else { return false };
        let mut bytes = content.to_vec();
        let Some(byte) = bytes.get_mut(at) else { return false };
        *byte ^= mask;
        *content = Bytes::from(bytes);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics between two changes that belong together, so what is behind a poisoned lock is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(
        &self,
        verb: &'static str,
        name: &str,
        work: impl FnOnce(&mut Inner) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut inner = self.lock();
        let at = inner.operations;
        inner.operations += 1;
        let reason = "it was told to fail".to_string();
        let failed = StoreError::Failed { store: self.describe(), verb, name: name.to_string(), reason };
        match inner.failure {
            Some((from, failure)) if at >= from => {
                if at == from && failure == Failure::Done {
                    work(&mut inner)?;
                }
                Err(failed)
            }
            _ => work(&mut inner),
        }
    }
}

impl Store for Memory {
    fn put_new(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        check_name(name)?;
        self.run("write", name, |inner| {
            if inner.objects.contains_key(name) {
                return Err(StoreError::Exists { store: self.describe(), name: name.to_string() });
            }
            inner.objects.insert(name.to_string(), content);
            Ok(())
        })
    }

    fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        check_name(name)?;
        self.run("read", name, |inner| {
            let missing = || StoreError::NotFound { store: self.describe(), name: name.to_string() };
            inner.objects.get(name).cloned().ok_or_else(missing)
        })
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        let content = self.get(name)?;
        let end = offset.saturating_add(length);
        if end > content.len() as u64 {
            return Err(StoreError::TooShort { store: self.describe(), name: name.to_string(), end });
        }
        Ok(content.slice(offset as usize..end as usize))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if !folder.is_empty() {
            check_name(folder)?;
        }
        self.run("list", folder, |inner| {
            let from = inner.objects.range(start.clone()..);
            Ok(from.map(|(name, _)| name).take_while(|name| name.starts_with(&start)).cloned().collect())
        })
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        self.run("remove", name, |inner| {
            inner.objects.remove(name);
            Ok(())
        })
    }

    fn describe(&self) -> String {
        "memory".to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::keeps_the_promises;
    use super::*;

    #[test]
    fn memory_keeps_the_promises_of_a_store() {
        keeps_the_promises(&Memory::new());
    }

    #[test]
    fn fails_when_told_to_and_not_after_it_was_healed() {
        let store = Memory::new();
        let put = |name: &str| store.put_new(name, Bytes::from_static(b"x"));
        store.fail_after(1, Failure::Undone);
        assert_eq!([put("a").is_ok(), put("b").is_ok(), put("c").is_ok()], [true, false, false]);
        store.heal();
        assert_eq!(store.list("").expect("listed"), ["a"]);
        store.fail_after(0, Failure::Done);
        assert_eq!([put("d").is_ok(), put("e").is_ok()], [false, false]);
        store.heal();
        assert_eq!(store.list("").expect("listed"), ["a", "d"]);
    }
}
