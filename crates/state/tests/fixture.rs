//! A folder that the first build to have snapshots wrote, kept as it was: every later build reads it.
//!
//! With `TIDEMILL_WRITE_FIXTURE` set to a folder that is not there, the test writes one of this build there instead.

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use common::*;
use tidemill_state::digest::Sum;
use tidemill_state::gc::Boundary;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::{Cause, Meta};
use tidemill_state::store::Folder;

/// Five snapshots, of which a collection has left the first, which has a name, and the last two; one is a rollback.
fn write(instance: &Instance) {
    let chunks = |range: std::ops::Range<u32>, length: usize| -> Vec<Change> {
        range.map(|chunk| (chunk, Some(noise(u64::from(chunk), length)))).collect()
    };
    let first = save(instance, None, &chunks(0..6, 300)).expect("saved");
    instance.savepoint("before-upgrade", 1, 1_700_000_000_000).expect("named");
    let second = save(instance, Some(&first), &chunks(2..4, 40)).expect("saved");
    save(instance, Some(&second), &[(5, None)]).expect("saved");
    let back = instance.rollback(1, by(9), false).expect("rolled back");
    let mut writer = instance.begin(Some(&back)).expect("begun");
    writer.chunk(id(9), b"nine").expect("saved");
    writer.remove(id(0));
    writer.blob("cursor", Bytes::from_static(b"at 7"));
    let meta = Meta {
        state_hash: Sum(0x0123_4567_89AB_CDEF),
        content_root: Sum(u128::MAX),
        note: Bytes::from_static(b"note"),
        build: "a build".to_string(),
        created_ms: 1_700_000_000_001,
        ..meta(10)
    };
    writer.commit(meta).expect("committed");
    instance.collect(2).expect("collected");
}

#[test]
fn snapshots_of_format_1_are_read() {
    if let Some(folder) = std::env::var_os("TIDEMILL_WRITE_FIXTURE") {
        write(&in_store(Arc::new(Folder::open(folder).expect("a folder"))));
        return;
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/snapshots-v1");
    assert!(folder.is_dir(), "{} is there", folder.display());
    let instance = in_store(Arc::new(Folder::open(folder).expect("a folder")));
    assert_eq!(instance.sequences().expect("listed"), [1, 4, 5]);
    let savepoints = instance.savepoints().expect("listed");
    let named: Vec<_> = savepoints.iter().map(|one| (&one.name[..], one.sequence, one.created_ms)).collect();
    assert_eq!(named, [("before-upgrade", 1, 1_700_000_000_000)]);
    let boundary = Boundary::newest(&instance).expect("read").expect("there");
    assert_eq!((boundary.number, boundary.below, boundary.kept), (1, 4, [1].into()));

    let newest = instance.newest().expect("read").expect("there");
    assert_eq!((newest.meta.version, newest.deps.clone()), (version(10), vec![version(9)]));
    assert_eq!((newest.meta.step, newest.meta.journal, newest.meta.epoch), (10, 100, 1));
    assert_eq!((newest.meta.state_hash, newest.meta.content_root), (Sum(0x0123_4567_89AB_CDEF), Sum(u128::MAX)));
    assert_eq!((&newest.meta.note[..], &newest.blobs["cursor"][..]), (&b"note"[..], &b"at 7"[..]));
    assert_eq!((&newest.meta.build[..], newest.meta.created_ms), ("a build", 1_700_000_000_001));
    let mut expected: Content = (1..6).map(|chunk| (chunk, noise(u64::from(chunk), 300))).collect();
    expected.insert(9, b"nine".to_vec());
    assert_eq!(content(&instance, &newest).expect("read"), expected);

    let back = instance.manifest(4).expect("there");
    assert_eq!((back.cause, back.deps), (Cause::Rollback { to: 1 }, vec![version(3), version(1)]));
    for (_, manifest) in instance.snapshots().expect("listed") {
        instance.verify(&manifest.expect("read")).expect("whole");
    }
}
