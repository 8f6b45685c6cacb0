//! What snapshots promise: incremental, fenced, damaged only in words, collected only when nobody needs them.

mod common;

use std::sync::Arc;

use common::*;
use tidemill_base::{Explain, Kind};
use tidemill_state::Error;
use tidemill_state::instance::{By, Instance};
use tidemill_state::snapshot::layout::{self, Folder};
use tidemill_state::snapshot::{Cause, Manifest};
use tidemill_state::store::{self, Store, StoreError};

fn saved(instance: &Instance, previous: Option<&Manifest>, changes: &[Change]) -> Manifest {
    save(instance, previous, changes).expect("saved")
}

fn newest(instance: &Instance) -> Manifest {
    instance.newest().expect("read").expect("there")
}

fn objects(instance: &Instance, folder: Folder) -> Vec<String> {
    instance.store().list(&folder.of(instance.name())).expect("listed")
}

#[test]
fn an_instance_begins_with_nothing() {
    let (instance, memory) = instance();
    assert!(instance.newest().expect("read").is_none());
    assert_eq!(instance.snapshots().expect("listed").len(), 0);
    assert_eq!(instance.collect(3).expect("nothing to do").snapshots, Vec::<u64>::new());
    assert!(Instance::all(&memory).expect("listed").is_empty());
    assert!(matches!(instance.manifest(1), Err(Error::NoSnapshot { .. })));
    assert!(Instance::new(Arc::new(memory), "a/b").is_err());
}

#[test]
fn only_what_changed_is_written() {
    let (instance, memory) = instance();
    let first = saved(&instance, None, &[(0, bytes("a")), (1, bytes("b")), (2, bytes("c"))]);
    let second = saved(&instance, Some(&first), &[(1, bytes("B")), (2, None), (3, bytes("d"))]);
    assert_eq!((first.sequence, first.stats.chunks_written), (1, 3));
    assert_eq!((second.sequence, second.stats.chunks_written), (2, 2));
    assert_eq!(newest(&instance), second);
    assert_eq!(second.deps, [first.meta.version]);
    assert_eq!(second.blobs["count"], "3");
    let expected = [(0, b"a".to_vec()), (1, b"B".to_vec()), (3, b"d".to_vec())];
    assert_eq!(content(&instance, &second).expect("read"), expected.into());
    assert_eq!(content(&instance, &first).expect("read").len(), 3);
    let diff = first.diff(&second);
    assert_eq!((diff.added, diff.changed, diff.removed), (vec![id(3)], vec![id(1)], vec![id(2)]));
    assert_eq!(Instance::all(&memory).expect("listed"), ["test"]);
}

#[test]
fn a_cleared_snapshot_holds_what_follows_only() {
    let (instance, _) = instance();
    let first = saved(&instance, None, &[(0, bytes("a")), (1, bytes("b"))]);
    let mut writer = instance.begin(Some(&first)).expect("begun");
    writer.clear();
    writer.chunk(id(1), b"B").expect("saved");
    let second = writer.commit(meta(2)).expect("committed");
    assert_eq!(content(&instance, &second).expect("read"), [(1, b"B".to_vec())].into());
}

#[test]
fn a_reader_can_be_split_and_narrowed() {
    let (instance, _) = instance();
    let changes: Vec<Change> = (0..100).map(|chunk| (chunk, Some(noise(u64::from(chunk), 100)))).collect();
    let manifest = saved(&instance, None, &changes);
    let mut whole = Content::new();
    apply(&mut whole, &changes);
    let readers = instance.reader(&manifest).split(4);
    let read = readers.into_iter().flatten().map(|chunk| chunk.map(|(id, bytes)| (id.chunk, bytes.to_vec())));
    assert_eq!(read.collect::<Result<Content, _>>().expect("read"), whole);
    let some: Vec<u32> =
        instance.reader_of(&manifest, |id| id.chunk == 42).map(|chunk| chunk.expect("read").0.chunk).collect();
    assert_eq!(some, [42]);
}

#[test]
fn of_two_writers_of_a_number_one_is_fenced() {
    let (instance, _) = instance();
    let first = saved(&instance, None, &[(0, bytes("a"))]);
    let slow = instance.begin(Some(&first)).expect("begun");
    let second = saved(&instance, Some(&first), &[(0, bytes("b"))]);
    let error = slow.commit(meta(2)).expect_err("taken");
    assert!(matches!(error, Error::Fenced { sequence: 2, .. }), "{error}");
    assert_eq!((error.code(), error.kind()), ("TM1240", Kind::Environment));
    assert_eq!(newest(&instance), second);
    assert!(matches!(save(&instance, None, &[]), Err(Error::Fenced { sequence: 1, .. })));
}

#[test]
fn who_slept_while_his_number_was_collected_is_fenced() {
    let (instance, _) = instance();
    let first = saved(&instance, None, &[(0, bytes("a"))]);
    let slow = instance.begin(Some(&first)).expect("begun");
    let mut head = first;
    for text in ["b", "c", "d", "e"] {
        head = saved(&instance, Some(&head), &[(0, bytes(text))]);
    }
    assert_eq!(instance.collect(1).expect("collected").snapshots, [1, 2, 3, 4]);
    assert!(matches!(slow.commit(meta(9)), Err(Error::Fenced { sequence: 2, .. })));
    assert_eq!(instance.sequences().expect("listed"), [5]);
    assert_eq!(newest(&instance), head);
    assert_eq!(instance.collect(1).expect("collected").snapshots, [2], "what he wrote goes with the next collection");
}

#[test]
fn a_claim_fences_the_owner_before() {
    let (instance, _) = instance();
    let first = saved(&instance, None, &[(0, bytes("a"))]);
    let old_owner = instance.begin(Some(&first)).expect("begun");
    let claimed = instance.claim(&first, By { epoch: 2, ..by(2) }).expect("claimed");
    assert_eq!((claimed.sequence, claimed.cause, claimed.meta.epoch), (2, Cause::Claim, 2));
    assert!(matches!(old_owner.commit(meta(3)), Err(Error::Fenced { sequence: 2, .. })));
    assert!(matches!(save(&instance, Some(&claimed), &[]), Err(Error::Fenced { sequence: 3, .. })), "an old epoch");
    assert_eq!(content(&instance, &newest(&instance)).expect("read"), [(0, b"a".to_vec())].into());
}

#[test]
fn a_version_is_later_than_what_it_rests_on() {
    let (instance, _) = instance();
    let first = saved(&instance, None, &[]);
    let writer = instance.begin(Some(&first)).expect("begun");
    assert!(matches!(writer.commit(meta(1)), Err(Error::NotLater { .. })));
    assert!(matches!(instance.rollback(1, by(1), false), Err(Error::NotLater { .. })));
    assert_eq!(instance.version(version(1)).expect("there"), first);
    assert!(matches!(instance.version(version(2)), Err(Error::NoSnapshot { .. })));
}

#[test]
fn a_rollback_goes_forward_to_the_state_of_the_past() {
    let (instance, _) = instance();
    let first = saved(&instance, None, &[(0, bytes("a"))]);
    let second = saved(&instance, Some(&first), &[(0, bytes("b")), (1, bytes("c"))]);
    let in_flight = instance.begin(Some(&second)).expect("begun");
    let back = instance.rollback(1, by(3), false).expect("rolled back");
    assert_eq!((back.sequence, back.cause), (3, Cause::Rollback { to: 1 }));
    assert_eq!(back.deps, [second.meta.version, first.meta.version]);
    assert_eq!((back.meta.step, back.meta.journal), (first.meta.step, first.meta.journal));
    assert_eq!(content(&instance, &newest(&instance)).expect("read"), [(0, b"a".to_vec())].into());
    assert!(matches!(in_flight.commit(meta(3)), Err(Error::Fenced { .. })), "the old branch is fenced");
    assert_eq!(objects(&instance, Folder::Holds), Vec::<String>::new());
    assert!(matches!(instance.rollback(9, by(4), false), Err(Error::NoSnapshot { .. })));
}

#[test]
fn a_flipped_bit_in_a_manifest_is_refused_until_someone_decides_to_go_back() {
    let (instance, memory) = instance();
    let first = saved(&instance, None, &[(0, bytes("a"))]);
    saved(&instance, Some(&first), &[(0, bytes("b"))]);
    let name = layout::manifest("test", 2);
    assert!(memory.damage(&name, 40, 4));
    let error = instance.newest().expect_err("damaged");
    assert!(matches!(&error, Error::DamagedSnapshot { name: at, before: Some(1), .. } if *at == name), "{error}");
    assert_eq!((error.code(), error.kind()), ("TM1241", Kind::Restore));
    assert!(error.help().is_some_and(|help| help.contains("versions rollback FOLDER 1 --past-damage")));
    assert!(instance.rollback(1, by(3), false).is_err());
    assert!(instance.collect(1).is_err(), "nobody knows what the damaged one needs");
    assert!(matches!(save(&instance, Some(&first), &[]), Err(Error::Fenced { .. })), "nor is it overwritten");
    let back = instance.rollback(1, by(3), true).expect("rolled back");
    assert_eq!((back.sequence, &back.deps[..]), (3, &[first.meta.version][..]));
    assert_eq!(content(&instance, &newest(&instance)).expect("read"), [(0, b"a".to_vec())].into());
    let listed = instance.snapshots().expect("listed");
    let readable: Vec<(u64, bool)> = listed.iter().map(|(sequence, read)| (*sequence, read.is_ok())).collect();
    assert_eq!(readable, [(1, true), (2, false), (3, true)]);
}

#[test]
fn a_flipped_bit_in_a_pack_is_refused_with_its_place() {
    let (instance, memory) = instance();
    let manifest = saved(&instance, None, &[(0, Some(noise(1, 500))), (3, Some(noise(2, 500)))]);
    let frame = manifest.find(id(3)).expect("there").frame;
    let pack = manifest.packs[0].name.clone();
    assert!(memory.damage(&pack, frame.offset as usize + 10, 1));
    let error = content(&instance, &manifest).expect_err("damaged");
    let place = format!("bytes {} to {}", frame.offset, frame.end());
    assert!(error.to_string().contains(&pack) && error.to_string().contains(&place), "{error}");
    assert!(matches!(instance.verify(&manifest), Err(Error::DamagedSnapshot { before: None, .. })));
    assert!(memory.damage(&pack, frame.offset as usize + 10, 1));
    assert_eq!(instance.verify(&manifest).expect("whole").chunks, 2);
    assert!(memory.damage(&pack, 0, 1));
    assert!(instance.verify(&manifest).is_err(), "what no chunk needs is checked too");
}

#[test]
fn a_missing_pack_is_not_an_empty_one() {
    let (instance, memory) = instance();
    let first = saved(&instance, None, &[(0, bytes("a"))]);
    let second = saved(&instance, Some(&first), &[(1, bytes("b"))]);
    memory.delete(&second.packs[1].name).expect("removed");
    let error = content(&instance, &second).expect_err("missing");
    assert!(matches!(&error, Error::DamagedSnapshot { before: Some(1), .. }), "{error}");
    assert_eq!(content(&instance, &first).expect("the rest is served").len(), 1);
}

#[test]
fn missing_snapshots_are_not_a_new_beginning() {
    let (instance, memory) = instance();
    let mut head = saved(&instance, None, &[(0, bytes("a"))]);
    for _ in 0..4 {
        head = saved(&instance, Some(&head), &[]);
    }
    instance.collect(2).expect("collected");
    for sequence in [4, 5] {
        memory.delete(&layout::manifest("test", sequence)).expect("removed");
    }
    assert!(matches!(instance.newest(), Err(Error::Damaged { .. })));
}

#[test]
fn a_manifest_under_another_name_is_refused() {
    let (instance, memory) = instance();
    saved(&instance, None, &[(0, bytes("a"))]);
    let content = memory.get(&layout::manifest("test", 1)).expect("there");
    memory.put_new(&layout::manifest("test", 2), content.clone()).expect("new");
    assert!(matches!(instance.newest(), Err(Error::DamagedSnapshot { sequence: 2, .. })));
    memory.put_new(&layout::manifest("other", 1), content).expect("new");
    let other = Instance::new(Arc::new(memory), "other").expect("a name");
    assert!(matches!(other.newest(), Err(Error::DamagedSnapshot { sequence: 1, before: None, .. })));
}

#[test]
fn a_newer_format_is_named() {
    let (instance, memory) = instance();
    saved(&instance, None, &[(0, bytes("a"))]);
    assert!(memory.damage(&layout::manifest("test", 1), 8, 1 ^ 2));
    let error = instance.newest().expect_err("newer");
    assert!(matches!(error, Error::Newer { format: 2, known: 1, .. }), "{error}");
    assert!(matches!(instance.rollback(1, by(3), true), Err(Error::Newer { .. })));
}

#[test]
fn packs_that_are_mostly_garbage_are_written_anew() {
    let (instance, _) = instance();
    let changes = |range: std::ops::Range<u32>, seed: u64| -> Vec<Change> {
        range.map(|chunk| (3 * chunk, Some(noise(seed + u64::from(chunk), 1_000)))).collect()
    };
    let first = saved(&instance, None, &changes(0..10, 0));
    let second = saved(&instance, Some(&first), &changes(0..5, 100));
    assert_eq!((second.packs.len(), second.stats.bytes_repacked), (2, 0));
    let third = saved(&instance, Some(&second), &changes(5..6, 200));
    assert_eq!(third.packs.len(), 2, "the first pack is gone");
    assert!((4_000..5_000).contains(&third.stats.bytes_repacked), "{:?}", third.stats);
    let mut whole = Content::new();
    for changes in [changes(0..10, 0), changes(0..5, 100), changes(5..6, 200)] {
        apply(&mut whole, &changes);
    }
    assert_eq!(content(&instance, &third).expect("read"), whole);
    instance.verify(&third).expect("whole");
    assert_eq!(instance.collect(1).expect("collected").packs, 1);
    assert_eq!(content(&instance, &third).expect("read"), whole);
}

#[test]
fn many_small_snapshots_do_not_make_many_packs() {
    let (instance, _) = instance();
    let mut head = saved(&instance, None, &[]);
    let mut whole = Content::new();
    for chunk in 0..200 {
        let changes = [(chunk, Some(noise(u64::from(chunk), 100)))];
        head = saved(&instance, Some(&head), &changes);
        apply(&mut whole, &changes);
        assert!(head.packs.len() <= 36, "{} packs", head.packs.len());
        instance.collect(3).expect("collected");
    }
    assert!(objects(&instance, Folder::Packs).len() <= 40);
    assert_eq!(objects(&instance, Folder::Snapshots).len(), 3);
    assert_eq!(objects(&instance, Folder::Boundaries).len(), 1);
    assert_eq!(content(&instance, &head).expect("read"), whole);
}

#[test]
fn damage_in_a_pack_to_be_written_anew_stops_the_commit_and_a_full_save_helps() {
    let (instance, memory) = instance();
    let all =
        |seed| -> Vec<Change> { (0..10).map(|chunk| (3 * chunk, Some(noise(seed + u64::from(chunk), 100)))).collect() };
    let first = saved(&instance, None, &all(0));
    let frame = first.find(id(27)).expect("there").frame;
    assert!(memory.damage(&first.packs[0].name, frame.offset as usize, 1));
    let error = save(&instance, Some(&first), &all(50)[..9]).expect_err("damaged");
    assert!(matches!(error, Error::DamagedSnapshot { sequence: 1, .. }), "{error}");
    let mut writer = instance.begin(Some(&first)).expect("begun");
    writer.clear();
    for (chunk, bytes) in all(50) {
        writer.chunk(id(chunk), &bytes.expect("there")).expect("saved");
    }
    let second = writer.commit(meta(2)).expect("committed");
    assert_eq!(content(&instance, &second).expect("read").len(), 10);
}

#[test]
fn the_newest_and_the_named_are_kept() {
    let (instance, _) = instance();
    let mut head = saved(&instance, None, &[(0, bytes("1"))]);
    for text in ["2", "3", "4", "5", "6"] {
        head = saved(&instance, Some(&head), &[(0, bytes(text))]);
    }
    let savepoint = instance.savepoint("good", 2, 77).expect("named");
    assert_eq!((savepoint.sequence, savepoint.version), (2, version(2)));
    assert_eq!(instance.savepoints().expect("listed"), [savepoint]);
    let again = instance.savepoint("good", 3, 78).expect_err("taken");
    assert_eq!((again.code(), again.kind()), ("TM1243", Kind::Config));
    assert_eq!(instance.collect(3).expect("collected").snapshots, [1, 3]);
    assert_eq!(instance.sequences().expect("listed"), [2, 4, 5, 6]);
    assert_eq!(content(&instance, &instance.manifest(2).expect("kept")).expect("read")[&0], b"2");
    assert!(matches!(instance.savepoint("late", 3, 0), Err(Error::NoSnapshot { .. })));
    instance.savepoint("same", 2, 0).expect("what is kept can be named again");
    for name in ["good", "same"] {
        instance.drop_savepoint(name).expect("dropped");
    }
    assert!(matches!(instance.drop_savepoint("good"), Err(Error::NoSnapshot { .. })));
    assert_eq!(instance.collect(3).expect("collected").snapshots, [2]);
    assert_eq!(instance.collect(3).expect("nothing left to do").snapshots, Vec::<u64>::new());
    assert_eq!(content(&instance, &newest(&instance)).expect("read")[&0], b"6");
}

#[test]
fn packs_of_a_commit_under_way_are_let_be() {
    let (instance, _) = instance();
    let first = saved(&instance, None, &[(0, bytes("a"))]);
    let orphan = layout::pack("test", 2, 0, b"under way");
    let dead = layout::pack("test", 1, 0, b"left by a crash");
    for name in [&orphan, &dead] {
        instance.store().put_new(name, bytes::Bytes::from_static(b"x")).expect("new");
    }
    assert_eq!(instance.collect(3).expect("collected").packs, 1);
    assert!(instance.store().get(&orphan).is_ok());
    saved(&instance, Some(&first), &[(0, bytes("b"))]);
    instance.collect(3).expect("collected");
    assert!(matches!(instance.store().get(&orphan), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_folder_keeps_snapshots_over_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || in_store(store::open(&folder.path().display().to_string(), &store::S3::default()).expect("a store"));
    let changes: Vec<Change> = (0..50).map(|chunk| (chunk, Some(noise(u64::from(chunk), 3_000)))).collect();
    let first = saved(&open(), None, &changes);
    let second = saved(&open(), Some(&newest(&open())), &[(7, None)]);
    assert_eq!((first.sequence, newest(&open())), (1, second.clone()));
    assert_eq!(content(&open(), &second).expect("read").len(), 49);
    open().collect(1).expect("collected");
    assert_eq!(content(&open(), &newest(&open())).expect("read").len(), 49);
}
