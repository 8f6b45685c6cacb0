//! A process may die at any operation of the store, done or undone. What is found after is whole, and either what was
//! before or what was to be.

mod common;

use common::*;
use tidemill_base::planted::{self, Bug};
use tidemill_state::Error;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::Manifest;
use tidemill_state::store::memory::Failure;

/// Does `work` with a crash at each of its operations, and lets `check` look at what is left; `done` tells it whether the
/// work said that it succeeded. Returns the number of crashes.
fn crash_everywhere(
    work: impl Fn(&Instance, &Manifest) -> Result<(), Error>,
    check: impl Fn(&Instance, &Manifest, bool, &str),
) -> u64 {
    let (instance, memory, head) = history();
    let before = memory.operations();
    work(&instance, &head).expect("without a crash it is done");
    let operations = memory.operations() - before;
    for at in 0..operations {
        for failure in [Failure::Undone, Failure::Done] {
            let (instance, memory, head) = history();
            memory.fail_after(at, failure);
            let done = work(&instance, &head).is_ok();
            memory.heal();
            check(&instance, &head, done, &format!("operation {at} of {operations} {failure:?}"));
        }
    }
    operations
}

/// The newest snapshot, every byte of all snapshots checked.
fn checked(instance: &Instance, place: &str) -> Manifest {
    for (sequence, read) in instance.snapshots().unwrap_or_else(|error| panic!("{place}: {error}")) {
        let manifest = read.unwrap_or_else(|error| panic!("{place}: snapshot {sequence}: {error}"));
        instance.verify(&manifest).unwrap_or_else(|error| panic!("{place}: snapshot {sequence}: {error}"));
    }
    instance.newest().expect("read").expect("there")
}

fn changes() -> Vec<Change> {
    vec![(0, Some(noise(9, 300))), (1, None), (2, Some(noise(10, 300)))]
}

fn commit(instance: &Instance, head: &Manifest) -> Result<(), Error> {
    save(instance, Some(head), &changes()).map(drop)
}

fn check_commit(instance: &Instance, head: &Manifest, done: bool, place: &str) {
    let newest = checked(instance, place);
    let mut expected = content(instance, head).expect("read");
    if newest.sequence > head.sequence {
        apply(&mut expected, &changes());
    } else {
        assert!(!done, "{place}");
        commit(instance, &newest).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    assert_eq!(content(instance, &newest).expect("read"), expected, "{place}");
    instance.collect(3).unwrap_or_else(|error| panic!("{place}: {error}"));
    checked(instance, place);
}

#[test]
fn a_commit_is_done_or_not() {
    assert!(crash_everywhere(commit, check_commit) >= 4);
}

#[test]
fn a_manifest_before_its_packs_would_be_found() {
    let caught = std::panic::catch_unwind(|| {
        planted::with(Bug::ManifestFirst, || crash_everywhere(commit, check_commit));
    });
    assert!(caught.is_err(), "the mistake is not seen");
}

#[test]
fn a_collection_can_be_cut_off_anywhere() {
    let collect = |instance: &Instance, _: &Manifest| instance.collect(2).map(drop);
    let operations = crash_everywhere(collect, |instance, head, _, place| {
        assert_eq!(&checked(instance, place), head, "{place}");
        instance.collect(2).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(&checked(instance, place), head, "{place}");
        assert_eq!(instance.sequences().expect("listed"), [1, 3, 4], "{place}");
    });
    assert!(operations > 10);
}

#[test]
fn a_rollback_is_done_or_not() {
    let rollback = |instance: &Instance, _: &Manifest| instance.rollback(1, by(50), false).map(drop);
    crash_everywhere(rollback, |instance, head, done, place| {
        let newest = checked(instance, place);
        assert!(newest.sequence > head.sequence || !done, "{place}");
        let expected = if newest.sequence > head.sequence { instance.manifest(1).expect("kept") } else { head.clone() };
        assert_eq!(content(instance, &newest).expect("read"), content(instance, &expected).expect("read"), "{place}");
        let newest = instance.rollback(2, by(51), false).unwrap_or_else(|error| panic!("{place}: {error}"));
        instance.collect(1).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(checked(instance, place), newest, "{place}");
    });
}

#[test]
fn a_savepoint_is_there_or_not() {
    let name = |instance: &Instance, _: &Manifest| instance.savepoint("two", 2, 0).map(drop);
    crash_everywhere(name, |instance, head, done, place| {
        let named = instance.savepoints().expect("listed").len() == 2;
        assert!(named || !done, "{place}");
        instance.collect(1).unwrap_or_else(|error| panic!("{place}: {error}"));
        let kept = if named { vec![1, 2, 4] } else { vec![1, 4] };
        assert_eq!(instance.sequences().expect("listed"), kept, "{place}");
        assert_eq!(&checked(instance, place), head, "{place}");
    });
}

#[test]
fn collecting_beside_other_work_spares_what_it_needs() {
    // A collection with another process's work at each of its operations, in place of a crash.
    for work in [
        |instance: &Instance| instance.rollback(2, by(60), false).map(drop),
        |instance: &Instance| instance.savepoint("two", 2, 0).map(drop),
        |instance: &Instance| save(instance, instance.newest()?.as_ref(), &changes()).map(drop),
    ] {
        for at in 0.. {
            let (instance, memory, _) = history();
            memory.fail_after(at, Failure::Undone);
            let cut = instance.collect(1).is_err();
            memory.heal();
            // Done or refused; what is there after is whole in any case.
            let _ = work(&instance);
            checked(&instance, &format!("operation {at}"));
            instance.collect(1).expect("collected");
            checked(&instance, &format!("after operation {at}"));
            if !cut {
                break;
            }
        }
    }
}
