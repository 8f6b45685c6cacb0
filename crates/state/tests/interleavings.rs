//! Two processes at one instance: one does all of its work between two operations of the other's, at each place there is.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::*;
use tidemill_state::instance::{By, Instance};
use tidemill_state::store::{Memory, Store, StoreError};
use tidemill_state::{Error, Replica, Version};

/// A store that lets someone else in before one of its operations.
struct Between {
    memory: Memory,
    other: Mutex<Other>,
}

struct Other {
    /// How many operations are done before.
    wait: u64,
    work: Option<Work>,
}

type Work = Box<dyn FnOnce() + Send>;

impl Between {
    fn step(&self) {
        let mut other = self.other.lock().expect("no panic");
        let work = if other.wait == 0 { other.work.take() } else { None };
        other.wait = other.wait.saturating_sub(1);
        drop(other);
        if let Some(work) = work {
            work();
        }
    }
}

impl Store for Between {
    fn put_new(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        self.step();
        self.memory.put_new(name, content)
    }

    fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.step();
        self.memory.get(name)
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        self.step();
        self.memory.get_range(name, offset, length)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.step();
        self.memory.list(folder)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.step();
        self.memory.delete(name)
    }

    fn describe(&self) -> String {
        self.memory.describe()
    }
}

/// Something to do, and what must be true if it says that it was done.
#[derive(Clone, Copy)]
struct Task {
    name: &'static str,
    work: fn(&Instance) -> Result<(), Error>,
    holds: fn(&Instance) -> bool,
}

const COMMIT: Task = Task {
    name: "commit",
    work: |instance| {
        let changes = [(0, Some(noise(9, 300))), (4, None)];
        save(instance, instance.newest()?.as_ref(), &changes).map(drop)
    },
    holds: |_| true,
};
const ROLLBACK: Task = Task {
    name: "rollback",
    work: |instance| {
        static INCARNATION: AtomicU64 = AtomicU64::new(2);
        let head = instance.newest()?.map_or(0, |newest| newest.meta.version.lamport);
        // Versions of two processes are never the same.
        let replica = Replica::new(1, INCARNATION.fetch_add(1, Ordering::Relaxed)).expect("small numbers");
        let version = Version::new(head + 1, replica);
        instance.rollback(2, By { version, ..by(0) }, false).map(drop)
    },
    holds: |_| true,
};
const SAVEPOINT: Task = Task {
    name: "savepoint",
    work: |instance| instance.savepoint("two", 2, 0).map(drop),
    holds: |instance| instance.manifest(2).is_ok(),
};
const DROP: Task = Task { name: "drop", work: |instance| instance.drop_savepoint("first"), holds: |_| true };
const RENAME: Task = Task {
    name: "rename",
    work: |instance| {
        instance.savepoint("again", 1, 0)?;
        instance.drop_savepoint("first")
    },
    holds: |instance| instance.manifest(1).is_ok(),
};
const COLLECT: Task = Task { name: "collect", work: |instance| instance.collect(1).map(drop), holds: |_| true };
const COLLECT_TWO: Task =
    Task { name: "collect but two", work: |instance| instance.collect(2).map(drop), holds: |_| true };
const READ: Task = Task {
    name: "read",
    work: |instance| match instance.newest()? {
        Some(newest) => content(instance, &newest).map(drop),
        None => panic!("it is empty"),
    },
    holds: |_| true,
};
const TASKS: [Task; 8] = [COMMIT, ROLLBACK, SAVEPOINT, DROP, RENAME, COLLECT, COLLECT_TWO, READ];

/// Runs `inner` before operation `at` of `outer`; false when `outer` has no such operation.
fn run(outer: Task, inner: Task, at: u64) -> bool {
    let (alone, memory, _) = history();
    let place = format!("{} before operation {at} of {}", inner.name, outer.name);
    let inner_done = Arc::new(Mutex::new(None));
    let work: Work = {
        let (alone, done) = (alone.clone(), inner_done.clone());
        Box::new(move || *done.lock().expect("no panic") = Some((inner.work)(&alone)))
    };
    let between = Between { memory, other: Mutex::new(Other { wait: at, work: Some(work) }) };
    let outer_done = (outer.work)(&in_store(Arc::new(between)));
    let Some(inner_done) = inner_done.lock().expect("no panic").take() else { return false };
    for (task, done) in [(outer, &outer_done), (inner, &inner_done)] {
        match done {
            Ok(()) => assert!((task.holds)(&alone), "{place}: {} says that it was done", task.name),
            Err(Error::Fenced { .. } | Error::NoSnapshot { .. } | Error::SavepointExists { .. }) => {}
            // Its version was made before the other's was seen.
            Err(Error::NotLater { .. }) if task.name == "rollback" => {}
            Err(error) => panic!("{place}: {}: {error}", task.name),
        }
    }
    check(&alone, &place);
    // What comes next finds nothing in its way.
    (COMMIT.work)(&alone).unwrap_or_else(|error| panic!("{place}: {error}"));
    (COLLECT.work)(&alone).unwrap_or_else(|error| panic!("{place}: {error}"));
    (READ.work)(&alone).unwrap_or_else(|error| panic!("{place}: {error}"));
    true
}

/// Every byte of every snapshot is there.
fn check(instance: &Instance, place: &str) {
    for (sequence, read) in instance.snapshots().unwrap_or_else(|error| panic!("{place}: {error}")) {
        let manifest = read.unwrap_or_else(|error| panic!("{place}: snapshot {sequence}: {error}"));
        instance.verify(&manifest).unwrap_or_else(|error| panic!("{place}: snapshot {sequence}: {error}"));
    }
    for savepoint in instance.savepoints().unwrap_or_else(|error| panic!("{place}: {error}")) {
        instance.manifest(savepoint.sequence).unwrap_or_else(|error| panic!("{place}: {}: {error}", savepoint.name));
    }
}

#[test]
fn any_two_may_meet_anywhere() {
    let mut places = 0;
    for outer in TASKS {
        for inner in TASKS {
            places += (0..).take_while(|at| run(outer, inner, *at)).count();
        }
    }
    assert!(places > 500, "{places}");
}

#[test]
fn of_two_commits_that_meet_one_is_fenced() {
    for at in 0.. {
        let (alone, memory, head) = history();
        let inner_done = Arc::new(Mutex::new(None));
        let work: Work = {
            let (alone, head, done) = (alone.clone(), head.clone(), inner_done.clone());
            Box::new(move || {
                *done.lock().expect("no panic") = Some(save(&alone, Some(&head), &[(0, bytes("inner"))]).is_ok());
            })
        };
        let between = Between { memory, other: Mutex::new(Other { wait: at, work: Some(work) }) };
        let outer_done = save(&in_store(Arc::new(between)), Some(&head), &[(0, bytes("outer"))]).is_ok();
        let Some(inner_done) = inner_done.lock().expect("no panic").take() else { return };
        assert!(outer_done != inner_done, "operation {at}");
        let newest = alone.newest().expect("read").expect("there");
        let winner = if outer_done { "outer" } else { "inner" };
        assert_eq!(content(&alone, &newest).expect("read")[&0], winner.as_bytes());
    }
}
