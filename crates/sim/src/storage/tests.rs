//! The simulated disk against plain expectations: what was made durable is there, the rest is old or new.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::*;

fn seeds(check: impl Fn(&World, SimStorage)) {
    for seed in 0..200 {
        let world = World::seeded(seed, false);
        check(&world, SimStorage::new(world.clone(), 1 << 20));
    }
}

fn put(region: &Arc<dyn Region>, word: usize, value: u64) {
    region.words()[word].store(value, Ordering::Release);
}

fn at(storage: &SimStorage, path: &str, word: usize) -> u64 {
    let bytes = storage.read(path, word as u64 * 8, 8).expect("the file is there");
    u64::from_le_bytes(bytes.try_into().expect("eight bytes were read"))
}

/// How often `outcome` is true over the seeds; a random outcome must be both.
fn both(outcome: impl Fn(&World, SimStorage) -> bool) {
    let trues = (0..200).filter(|seed| {
        let world = World::seeded(*seed, false);
        outcome(&world, SimStorage::new(world.clone(), 1 << 20))
    });
    let count = trues.count();
    assert!((20..=180).contains(&count), "{count} of 200");
}

#[test]
fn a_kill_loses_nothing_that_was_stored() {
    seeds(|_, storage| {
        let region = storage.create("a/b", 4_096).expect("there is room");
        put(&region, 17, 5);
        storage.crash(Crash::Kill);
        put(&region, 17, 6);
        assert!(region.flush(0, 4_096).is_err() && storage.list("a").is_err(), "a dead process does nothing");
        storage.restart();
        assert_eq!(at(&storage, "a/b", 17), 5);
        assert!(region.flush(0, 4_096).is_err(), "its region is not the new process's");
    });
}

#[test]
fn a_power_cut_keeps_what_was_flushed_and_synced() {
    seeds(|_, storage| {
        let region = storage.create("a", 8_192).expect("there is room");
        put(&region, 3, 7);
        region.flush(0, 64).expect("no fault is planned");
        storage.sync_folder("").expect("no fault is planned");
        put(&region, 3, 8);
        put(&region, 1_000, 9);
        storage.crash(Crash::PowerCut);
        storage.restart();
        assert_eq!(storage.size("a").expect("the name is durable"), 8_192);
        assert!([7, 8].contains(&at(&storage, "a", 3)));
        assert!([0, 9].contains(&at(&storage, "a", 1_000)));
    });
}

#[test]
fn sectors_live_and_die_by_themselves() {
    let cut = |storage: &SimStorage| {
        let region = storage.create("a", 4_096).expect("there is room");
        region.flush(0, 4_096).expect("no fault is planned");
        storage.sync_folder("").expect("no fault is planned");
        [0, 1, 64, 65].iter().for_each(|word| put(&region, *word, 1));
        storage.crash(Crash::PowerCut);
        storage.restart();
        [0, 1, 64, 65].map(|word| at(storage, "a", word))
    };
    both(|_, storage| {
        let [a, b, c, d] = cut(&storage);
        assert!(a == b && c == d, "a sector is whole");
        a != c
    });
}

#[test]
fn names_that_were_not_synced_live_and_die_by_themselves() {
    let cut = |storage: &SimStorage, change: &dyn Fn(&SimStorage)| {
        for path in ["old", "gone"] {
            storage.create(path, 4_096).expect("there is room").flush(0, 4_096).expect("no fault is planned");
        }
        storage.sync_folder("").expect("no fault is planned");
        change(storage);
        storage.crash(Crash::PowerCut);
        storage.restart();
        storage.paths()
    };
    let there = |paths: &[String], path: &str| paths.iter().any(|other| other == path);
    both(|_, storage| there(&cut(&storage, &|s| drop(s.create("new", 4_096).expect("there is room"))), "new"));
    both(|_, storage| there(&cut(&storage, &|s| s.remove("gone").expect("it is there")), "gone"));
    both(|_, storage| {
        let paths = cut(&storage, &|s| s.rename("old", "new").expect("it is there"));
        assert_ne!(there(&paths, "old"), there(&paths, "new"), "a rename in a folder is one change");
        there(&paths, "new")
    });
    both(|_, storage| {
        let paths = cut(&storage, &|s| {
            drop(s.create("new", 4_096).expect("there is room"));
            s.remove("gone").expect("it is there");
        });
        there(&paths, "new") == there(&paths, "gone")
    });
}

#[test]
fn a_synced_name_stays_and_a_synced_removal_too() {
    seeds(|_, storage| {
        drop(storage.create("f/a", 4_096).expect("there is room"));
        drop(storage.create("f/b", 4_096).expect("there is room"));
        drop(storage.create("g/c", 4_096).expect("there is room"));
        storage.remove("f/b").expect("it is there");
        storage.rename("f/a", "f/d").expect("it is there");
        storage.sync_folder("f").expect("no fault is planned");
        storage.crash(Crash::PowerCut);
        storage.restart();
        assert_eq!(storage.list("f").expect("no fault is planned"), ["d"]);
    });
}

#[test]
fn a_file_that_was_being_made_may_be_shorter() {
    let cut = |storage: &SimStorage| {
        storage.set_faults(Faults { power_cut: 1_000, ..Faults::default() });
        assert!(storage.create("a", 16_384).is_err(), "the power goes");
        storage.set_faults(Faults::default());
        storage.restart();
        storage.size("a").ok()
    };
    both(|_, storage| cut(&storage).is_some_and(|size| size < 16_384) || storage.list("").is_ok_and(|l| l.is_empty()));
    assert!((0..200).any(|seed| cut(&SimStorage::new(World::seeded(seed, false), 1 << 20)) == Some(4_096)));
    seeds(|_, storage| {
        drop(storage.create("a", 16_384).expect("there is room"));
        storage.sync_folder("").expect("no fault is planned");
        storage.crash(Crash::PowerCut);
        storage.restart();
        assert_eq!(storage.size("a").expect("the name is durable"), 16_384);
    });
}

#[test]
fn a_failed_flush_is_not_mended_by_asking_again() {
    both(|_, storage| {
        let region = storage.create("a", 4_096).expect("there is room");
        region.flush(0, 4_096).expect("no fault is planned");
        storage.sync_folder("").expect("no fault is planned");
        put(&region, 0, 1);
        storage.set_faults(Faults { flush: 1_000, ..Faults::default() });
        assert!(region.flush(0, 8).is_err());
        storage.set_faults(Faults::default());
        region.flush(0, 8).expect("the kernel has nothing to write");
        storage.crash(Crash::PowerCut);
        storage.restart();
        at(&storage, "a", 0) == 0
    });
}

#[test]
fn the_kernel_writes_back_states_on_the_way() {
    let faults = Faults { write_back: 500, ..Faults::default() };
    let cut = |storage: &SimStorage| {
        let region = storage.create("a", 4_096).expect("there is room");
        storage.sync_folder("").expect("no fault is planned");
        region.flush(0, 4_096).expect("no fault is planned");
        storage.set_faults(faults.clone());
        for value in 1..=10 {
            put(&region, 0, value);
            storage.list("").expect("no fault is planned");
        }
        storage.crash(Crash::PowerCut);
        storage.restart();
        at(storage, "a", 0)
    };
    both(|_, storage| !matches!(cut(&storage), 0 | 10));
}

#[test]
fn a_replaced_file_is_old_or_new_and_then_new() {
    let old_or_new = |storage: &SimStorage, faults: Faults| {
        storage.replace("a", b"old").expect("no fault is planned");
        storage.set_faults(faults);
        let replaced = storage.replace("a", b"newer");
        storage.set_faults(Faults::default());
        storage.crash(Crash::PowerCut);
        storage.restart();
        let size = storage.size("a").expect("it is there");
        let content = storage.read("a", 0, size as usize).expect("it is there");
        assert!(content == b"old" || content == b"newer");
        assert!(replaced.is_err() || content == b"newer", "what was told is so");
        content == b"newer"
    };
    seeds(|_, storage| assert!(old_or_new(&storage, Faults::default())));
    both(|_, storage| old_or_new(&storage, Faults { replace: 1_000, ..Faults::default() }));
    both(|_, storage| old_or_new(&storage, Faults { power_cut: 1_000, ..Faults::default() }));
}

#[test]
fn the_disk_fills_up() {
    let storage = SimStorage::new(World::seeded(0, false), 8_192);
    let error = |result: io::Result<Arc<dyn Region>>| result.map(drop).expect_err("it cannot be made").kind();
    drop(storage.create("a", 8_192).expect("there is room"));
    assert_eq!(error(storage.create("b", 4_096)), io::ErrorKind::StorageFull);
    assert_eq!(error(storage.create("a", 4_096)), io::ErrorKind::AlreadyExists);
    storage.remove("a").expect("it is there");
    drop(storage.create("b", 4_096).expect("there is room again"));
    storage.set_faults(Faults { full: 1_000, ..Faults::default() });
    storage.set_capacity(1 << 20);
    assert_eq!(error(storage.create("c", 4_096)), io::ErrorKind::StorageFull);
}

#[test]
fn reads_fail_and_say_so() {
    let storage = SimStorage::new(World::seeded(0, false), 1 << 20);
    let kind = |result: io::Result<Vec<u8>>| result.expect_err("it cannot be read").kind();
    storage.replace("a", b"0123456789").expect("no fault is planned");
    assert_eq!(storage.read("a", 3, 6).expect("it is there"), b"345678");
    assert_eq!(kind(storage.read("a", 3, 8)), io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(storage.read("b", 0, 1)), io::ErrorKind::NotFound);
    storage.set_faults(Faults { read: 1_000, ..Faults::default() });
    assert_eq!(kind(storage.read("a", 0, 1)), io::ErrorKind::Other);
    assert!(storage.list("").is_err() && storage.open("a").is_err() && storage.size("a").is_err());
    assert_eq!(storage.tally().others, 4);
}

#[test]
fn a_flipped_bit_stays_flipped() {
    let storage = SimStorage::new(World::seeded(0, false), 1 << 20);
    storage.replace("a", &[0, 0, 0]).expect("no fault is planned");
    assert!(storage.flip("a", 9) && !storage.flip("a", 24) && !storage.flip("b", 0));
    storage.crash(Crash::PowerCut);
    storage.restart();
    assert_eq!(storage.read("a", 0, 3).expect("it is there"), [0, 2, 0]);
}

/// Random calls against a model of plain maps: durable content, and for each word the values it may have besides.
#[test]
fn random_histories_keep_what_was_promised() {
    for seed in 0..300 {
        let world = World::seeded(seed, false);
        let storage = SimStorage::new(world.clone(), 1 << 20);
        let mut regions: BTreeMap<String, Arc<dyn Region>> = BTreeMap::new();
        let mut synced: BTreeMap<String, u64> = BTreeMap::new();
        let mut latest: BTreeMap<String, u64> = BTreeMap::new();
        let mut since: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for turn in 1..=40 {
            let path = format!("f{}", world.below(3));
            let region = regions.entry(path.clone()).or_insert_with(|| {
                let region = storage.create(&path, 4_096).expect("there is room");
                region.flush(0, 4_096).expect("no fault is planned");
                storage.sync_folder("").expect("no fault is planned");
                region
            });
            match world.below(3) {
                0 => {
                    region.flush(0, 512).expect("no fault is planned");
                    synced.insert(path.clone(), latest.get(&path).copied().unwrap_or(0));
                    since.remove(&path);
                }
                _ => {
                    put(region, 5, turn);
                    latest.insert(path.clone(), turn);
                    since.entry(path).or_default().push(turn);
                }
            }
        }
        storage.crash(Crash::PowerCut);
        storage.restart();
        for path in regions.keys() {
            let value = at(&storage, path, 5);
            let promised = synced.get(path).copied().unwrap_or(0);
            let allowed = since.get(path).is_some_and(|values| values.contains(&value));
            assert!(value == promised || allowed, "seed {seed}: {path} is {value}, not {promised}");
        }
    }
}
