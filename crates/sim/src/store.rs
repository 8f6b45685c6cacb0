//! [`SimStore`]: an object store that fails, does not answer, and lets others in between.
//!
//! The objects are far away and survive whatever happens to the process that uses them. What is uncertain is the answer:
//! a call may fail without having been heard, or time out after having been done. Before a call is carried out, somebody
//! else may act on the same objects: whoever reads and then writes must be ready for that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidemill_base::hash;
use tidemill_state::store::{Store, StoreError};

use crate::storage::{Crash, SimStorage};
use crate::world::World;

/// What may go wrong, each in so many of 1,000 calls that it could happen to.
#[derive(Debug, Clone, Default)]
pub struct StoreFaults {
    /// A write or removal fails without having been heard.
    pub lost: u32,
    /// A write or removal is done, and an error is told.
    pub unheard: u32,
    /// A read or list fails.
    pub read: u32,
    /// The process is killed inside a call.
    pub kill: u32,
    /// The power is cut inside a call.
    pub power_cut: u32,
    /// Others act before a call is carried out.
    pub interruption: u32,
}

/// What others do in between.
type Interruption = Box<dyn FnMut() + Send>;

/// A simulated store, as one process sees it; cheap to clone. [`SimStore::of`] gives another process its view.
#[derive(Clone)]
pub struct SimStore {
    world: World,
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    /// The machine of the process.
    machine: SimStorage,
    own: Arc<Mutex<Own>>,
}

/// What belongs to one view of a store.
#[derive(Default)]
struct Own {
    faults: StoreFaults,
    failures: u64,
    interruption: Option<Interruption>,
}

impl SimStore {
    /// An empty store that works, as seen from the machine with this storage: when one is down, so is the other.
    pub fn new(world: World, machine: SimStorage) -> Self {
        SimStore { world, objects: Arc::default(), machine, own: Arc::default() }
    }

    /// The same objects as a process on another machine sees them.
    pub fn of(&self, machine: SimStorage) -> Self {
        SimStore { world: self.world.clone(), objects: self.objects.clone(), machine, own: Arc::default() }
    }

    /// From now on this may go wrong.
    pub fn set_faults(&self, faults: StoreFaults) {
        self.own().faults = faults;
    }

    /// From now on this is what others do before a call is carried out.
    pub fn set_interruption(&self, interruption: Option<Interruption>) {
        self.own().interruption = interruption;
    }

    /// How many calls have failed because they were made to.
    pub fn failures(&self) -> u64 {
        self.own().failures
    }

    /// Every name there is, sorted.
    pub fn names(&self) -> Vec<String> {
        self.objects().keys().cloned().collect()
    }

    /// Turns one bit of an object over; false when there is no such bit.
    pub fn flip(&self, name: &str, bit: u64) -> bool {
        let mut objects = self.objects();
        let Some(object) = objects.get_mut(name).filter(|object| bit < object.len() as u64 * 8) else { return false };
        let mut bytes = object.to_vec();
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        *object = bytes.into();
        self.world.note(format_args!("bit {bit} of {name} turns over"));
        true
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others act, if they are to; they do not interrupt each other.
    fn interrupt(&self) {
        let taken = {
            let mut own = self.own();
            if self.world.chance(own.faults.interruption) { own.interruption.take() } else { None }
        };
        if let Some(mut interruption) = taken {
            self.world.note(format_args!("others come first"));
            interruption();
            self.own().interruption = Some(interruption);
        }
    }

    /// Carries a call out; `writes` says whether it can time out after having been done.
    fn call<T>(
        &self,
        verb: &'static str,
        name: &str,
        writes: bool,
        work: impl FnOnce(&mut BTreeMap<String, Bytes>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = |reason: &str| {
            let (store, name, reason) = (self.describe(), name.to_string(), format!("simulated: {reason}"));
            Err(StoreError::Failed { store, verb, name, reason })
        };
        if self.machine.down().is_some() {
            return failed("the process has ended");
        }
        self.interrupt();
        let faults = self.own().faults.clone();
        let crash = if self.world.chance(faults.kill) {
            Some(Crash::Kill)
        } else if self.world.chance(faults.power_cut) {
            Some(Crash::PowerCut)
        } else {
            None
        };
        if let Some(crash) = crash {
            let done = self.world.chance(500);
            self.world.note(format_args!("{crash:?} {} {verb} {name}", if done { "after" } else { "before" }));
            if done {
                // The answer never reaches anybody.
                drop(work(&mut self.objects()));
            }
            self.machine.crash(crash);
            return failed("the process has ended");
        }
        let (lost, unheard) = if writes { (faults.lost, faults.unheard) } else { (faults.read, 0) };
        if self.world.chance(lost) {
            self.own().failures += 1;
            self.world.note(format_args!("{verb} {name} is lost"));
            return failed("no connection");
        }
        let result = work(&mut self.objects());
        if self.world.chance(unheard) {
            self.own().failures += 1;
            self.world.note(format_args!("{verb} {name} is done unheard"));
            return failed("timed out");
        }
        match &result {
            Ok(_) => self.world.note(format_args!("{verb} {name}")),
            Err(error) => self.world.note(format_args!("{verb} {name}: {error}")),
        }
        result
    }

    fn not_found(&self, name: &str) -> StoreError {
        StoreError::NotFound { store: self.describe(), name: name.to_string() }
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore of {} objects", self.objects().len())
    }
}

impl Store for SimStore {
    fn put_new(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        tidemill_state::store::check_name(name)?;
        let digest = hash::bytes(&content);
        self.call("write", name, true, |objects| {
            if objects.contains_key(name) {
                return Err(StoreError::Exists { store: self.describe(), name: name.to_string() });
            }
            self.world.note(format_args!("{name} is {digest:016x}"));
            objects.insert(name.to_string(), content);
            Ok(())
        })
    }

    fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.call("read", name, false, |objects| objects.get(name).cloned().ok_or_else(|| self.not_found(name)))
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        self.call("read", name, false, |objects| {
            let object = objects.get(name).ok_or_else(|| self.not_found(name))?;
            let end = offset.saturating_add(length);
            match end <= object.len() as u64 {
                true => Ok(object.slice(offset as usize..end as usize)),
                false => Err(StoreError::TooShort { store: self.describe(), name: name.to_string(), end }),
            }
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.call("list", folder, false, |objects| {
            let inside = |name: &&String| {
                folder.is_empty() || name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
            };
            Ok(objects.keys().filter(inside).cloned().collect())
        })
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.call("remove", name, true, |objects| {
            objects.remove(name);
            Ok(())
        })
    }

    fn describe(&self) -> String {
        "the simulated store".to_string()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_base::storage::Storage;

    use super::*;

    fn store(seed: u64) -> SimStore {
        let world = World::seeded(seed, false);
        SimStore::new(world.clone(), SimStorage::new(world, 1 << 20))
    }

    fn put(store: &SimStore, name: &str, content: &'static str) -> Result<(), StoreError> {
        store.put_new(name, Bytes::from_static(content.as_bytes()))
    }

    #[test]
    fn one_of_two_writers_of_a_name_succeeds() {
        let (one, other) = (store(0), store(0));
        let other = one.of(other.machine);
        assert_eq!(put(&one, "a/b", "one"), Ok(()));
        assert!(matches!(put(&other, "a/b", "two"), Err(StoreError::Exists { .. })));
        assert_eq!(other.get("a/b").expect("it is there"), "one");
        assert_eq!(other.get_range("a/b", 1, 2).expect("it is there"), "ne");
        assert!(matches!(other.get_range("a/b", 1, 3), Err(StoreError::TooShort { end: 4, .. })));
        assert!(matches!(put(&one, "a//b", "one"), Err(StoreError::BadName { .. })));
    }

    #[test]
    fn lists_what_is_below_a_folder() {
        let store = store(0);
        for name in ["b", "a/y", "a/x/z", "ab"] {
            assert_eq!(put(&store, name, ""), Ok(()));
        }
        assert_eq!(store.list("a").expect("it works"), ["a/x/z", "a/y"]);
        assert_eq!(store.list("").expect("it works").len(), 4);
        assert_eq!(store.delete("b"), Ok(()));
        assert_eq!(store.delete("b"), Ok(()));
        assert!(matches!(store.get("b"), Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn a_lost_write_is_not_there_and_an_unheard_one_is() {
        let store = store(0);
        store.set_faults(StoreFaults { lost: 1_000, ..StoreFaults::default() });
        assert!(matches!(put(&store, "a", ""), Err(StoreError::Failed { .. })));
        store.set_faults(StoreFaults { unheard: 1_000, ..StoreFaults::default() });
        assert!(matches!(put(&store, "b", ""), Err(StoreError::Failed { .. })));
        store.set_faults(StoreFaults { read: 1_000, ..StoreFaults::default() });
        assert!(store.list("").is_err() && store.get("b").is_err());
        assert_eq!((store.names(), store.failures()), (vec!["b".to_string()], 4));
    }

    #[test]
    fn others_come_first_but_not_before_each_other() {
        let (one, other) = (store(0), store(0));
        let other = one.of(other.machine);
        let faults = StoreFaults { interruption: 1_000, ..StoreFaults::default() };
        one.set_faults(faults);
        let rival = other.clone();
        one.set_interruption(Some(Box::new(move || drop(put(&rival, "a", "theirs")))));
        assert!(matches!(put(&one, "a", "ours"), Err(StoreError::Exists { .. })));
        assert_eq!(other.get("a").expect("it is there"), "theirs");
    }

    #[test]
    fn a_crash_in_a_call_takes_the_machine_with_it() {
        let store = store(0);
        store.set_faults(StoreFaults { kill: 1_000, ..StoreFaults::default() });
        assert!(put(&store, "a", "").is_err());
        assert_eq!(store.machine.down(), Some(Crash::Kill));
        assert!(store.machine.list("").is_err());
        store.set_faults(StoreFaults::default());
        assert!(store.list("").is_err(), "until it is started again");
        store.machine.restart();
        assert!(store.list("").is_ok());
    }
}
