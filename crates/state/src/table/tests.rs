use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::harness::{Desk, content, delete, plain, put, request};
use super::*;
use crate::submit::Submit;

#[test]
fn every_version_keeps_its_content() {
    let s = plain();
    let mut desk = Desk::new(plain());
    let a = desk.submit(&[], &[put(&s, 1, 1), put(&s, 2, 2)]).head;
    let b = desk.submit(&[a], &[put(&s, 1, 10), delete(&s, 2)]).head;
    let c = desk.submit(&[a], &[put(&s, 3, 3)]);
    let d = desk.roll_back(b);
    let check = |version, rows: &[(i64, i64)]| assert_eq!(desk.at(version), rows.iter().copied().collect());
    check(Version::GENESIS, &[]);
    check(a, &[(1, 1), (2, 2)]);
    check(b, &[(1, 10)]);
    check(c.version, &[(1, 1), (2, 2), (3, 3)]);
    check(c.head, &[(1, 10), (3, 3)]);
    check(d, &[(1, 10)]);
    let diff = |from, to| {
        let keys = desk.table.diff(from, to, &desk.past).expect("they are kept").into_iter();
        keys.map(|difference| s.key_to_json(&difference.key).expect("its own")["k"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(diff(a, b), [1, 2]);
    assert_eq!(diff(c.version, c.head), [1, 2]);
    assert_eq!(diff(c.head, c.version), [1, 2]);
    assert_eq!(diff(b, d), [0; 0]);
    assert_eq!(diff(Version::GENESIS, c.version), [1, 2, 3]);
}

#[test]
fn a_snapshot_is_looked_up_by_key() {
    let s = plain();
    let mut desk = Desk::new(plain());
    let all: Vec<Change> = (0..1_000).map(|key| put(&s, key, key * 2)).collect();
    let head = desk.submit(&[], &all).head;
    let snapshot = Arc::clone(desk.table.head());
    desk.submit(&[head], &[delete(&s, 7)]);
    let lookup = |snapshot: &Snapshot, key| snapshot.lookup(&[Value::Integer(key)]).expect("a key");
    assert_eq!(lookup(&snapshot, 7), Some(vec![Value::Integer(7), Value::Integer(14)]));
    assert_eq!(lookup(desk.table.head(), 7), None);
    assert_eq!((snapshot.version(), snapshot.count(), desk.table.head().count()), (head, 1_000, 999));
    assert!(snapshot.lookup(&[Value::Null]).is_err());
}

#[test]
fn pruning_keeps_what_came_after() {
    let s = plain();
    let mut desk = Desk::new(plain());
    let a = desk.submit(&[], &[put(&s, 1, 1)]).head;
    let b = desk.submit(&[a], &[put(&s, 2, 2)]).head;
    let side = desk.submit(&[a], &[put(&s, 3, 3)]);
    let c = desk.submit(&[side.head], &[put(&s, 4, 4)]).head;
    let old: Vec<_> = [b, side.head, c].into_iter().map(|version| (version, desk.at(version))).collect();
    desk.apply(Record::Prune { boundary: b, author: "me".into(), time: 1 });
    for (version, content) in old {
        assert_eq!(desk.at(version), content);
    }
    for version in [Version::GENESIS, a, side.version] {
        let error = desk.table.checkpoint(version).expect_err("it was pruned");
        assert!(matches!(&error, TableError::Pruned { oldest, .. } if *oldest == b), "{error:?}");
    }
    assert_eq!(desk.table.history().count(), 3);
}

#[test]
fn records_that_do_not_follow_are_refused() {
    let s = plain();
    let mut desk = Desk::new(plain());
    desk.submit(&[], &[put(&s, 1, 1)]);
    desk.submit(&[desk.head()], &[put(&s, 1, 2)]);
    let records = desk.records.clone();
    let fresh = || Table::new("t", Arc::new(plain()));
    let refused = |table: &mut Table, record: Record| {
        let before = (table.head().version(), table.sequence());
        let error = table.apply(record).expect_err("it does not follow");
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert_eq!((table.head().version(), table.sequence()), before);
    };
    refused(&mut fresh(), records[1].clone());
    refused(&mut fresh(), Record::Create { schema: plain(), author: String::new(), time: 0 });
    refused(&mut fresh(), Record::Commit { epoch: 0, written: Vec::new() });
    let other = Version::new(99, crate::Replica::default());
    refused(&mut fresh(), Record::Prune { boundary: other, author: String::new(), time: 0 });
    let Record::Commit { epoch, written } = records[0].clone() else { panic!("a commit") };
    let mut wrong = written.clone();
    wrong[0].checkpoint.root = Sum(1);
    refused(&mut fresh(), Record::Commit { epoch, written: wrong });
    let mut table = fresh();
    table.apply(records[0].clone()).expect("it follows");
    table.apply(records[1].clone()).expect("it follows");
    assert_eq!(content(table.head()), content(desk.table.head()));
}

#[test]
fn a_flipped_bit_of_a_record_is_found() {
    let s = plain();
    let mut desk = Desk::new(plain());
    desk.submit(&[], &[put(&s, 1, 1), delete(&s, 2)]);
    for record in [desk.records[0].encode(), record::encode_base(&desk.table)] {
        let read = |bytes: &[u8]| match &record[..4] {
            b"TMTL" => Record::decode("it", bytes).map(|_| ()),
            _ => record::decode_base("it", "t", bytes).map(|_| ()),
        };
        assert!(read(&record).is_ok());
        for at in 0..record.len() {
            let mut bad = record.clone();
            bad[at] ^= 4;
            assert!(read(&bad).is_err(), "byte {at}");
            assert!(read(&record[..at]).is_err(), "cut at {at}");
        }
        let mut newer = record.clone();
        newer[4] = 9;
        assert!(matches!(read(&newer), Err(Error::Newer { format: 9, known: 1, .. })));
    }
}

/// What tables are meant to be, as plainly as can be: each version's whole content, and what it rests on.
#[derive(Default)]
struct Model {
    versions: BTreeMap<Version, Plain>,
    head: Version,
}

#[derive(Clone, Default)]
struct Plain {
    deps: BTreeSet<Version>,
    /// What its content came from.
    sources: BTreeSet<Version>,
    content: BTreeMap<i64, i64>,
    /// The keys that it wrote, when it is a commit.
    keys: BTreeSet<i64>,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Appended,
    Merged,
    Refused(&'static str),
}

impl Model {
    /// All that a version's content came from, and the version.
    fn past(&self, version: Version) -> BTreeSet<Version> {
        let mut past = BTreeSet::from([version]);
        for source in &self.versions[&version].sources {
            past.extend(self.past(*source));
        }
        past
    }

    fn judge(&self, deps: &BTreeSet<Version>, keys: &BTreeSet<i64>, merge: bool) -> Expected {
        let live = self.past(self.head);
        if !deps.is_subset(&live) {
            return Expected::Refused("Unreachable");
        }
        let top: BTreeSet<Version> = deps
            .iter()
            .copied()
            .filter(|dep| !deps.iter().any(|other| other != dep && self.past(*other).contains(dep)))
            .collect();
        if top == BTreeSet::from([self.head]) {
            return Expected::Appended;
        }
        let sibling = top == self.versions[&self.head].deps;
        if top.len() > 1
            && !live.iter().any(|version| self.versions[version].deps == top && self.versions[version].keys.is_empty())
        {
            return Expected::Refused("Stale");
        }
        if !sibling && !merge {
            return Expected::Refused("Stale");
        }
        let mut seen = BTreeSet::new();
        top.iter().for_each(|dep| seen.extend(self.past(*dep)));
        let theirs: BTreeSet<i64> =
            live.difference(&seen).flat_map(|version| self.versions[version].keys.iter().copied()).collect();
        if theirs.is_disjoint(keys) { Expected::Merged } else { Expected::Refused("Overlap") }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Submit { deps: Vec<prop::sample::Index>, recent: bool, edits: BTreeMap<i64, Option<i64>>, merge: bool },
    RollBack(prop::sample::Index),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let deps = prop::collection::vec(any::<prop::sample::Index>(), 1..3);
    let edits = prop::collection::btree_map(0..12_i64, prop::option::weighted(0.7, 0..5_i64), 1..4);
    let submit = (deps, any::<bool>(), edits, any::<bool>()).prop_map(|(deps, recent, edits, merge)| Act::Submit {
        deps,
        recent,
        edits,
        merge,
    });
    let roll_back = any::<prop::sample::Index>().prop_map(Act::RollBack);
    prop::collection::vec(prop_oneof![9 => submit, 1 => roll_back], 1..40)
}

proptest! {
    #[test]
    fn tables_are_what_the_model_says(acts in acts()) {
        let s = plain();
        let mut desk = Desk::new(plain());
        let mut model = Model::default();
        model.versions.insert(Version::GENESIS, Plain::default());
        for act in acts {
            let known: Vec<Version> = model.versions.keys().copied().collect();
            match act {
                Act::RollBack(target) => {
                    let target = *target.get(&known);
                    let (old, head) = (model.head, desk.roll_back(target));
                    let content = model.versions[&target].content.clone();
                    let (deps, sources) = (BTreeSet::from([old, target]), BTreeSet::from([target]));
                    model.versions.insert(head, Plain { deps, sources, content, keys: BTreeSet::new() });
                    model.head = head;
                }
                Act::Submit { deps, recent, edits, merge } => {
                    let from = if recent { &known[known.len().saturating_sub(3)..] } else { &known[..] };
                    let deps: BTreeSet<Version> = deps.iter().map(|dep| *dep.get(from)).collect();
                    let keys: BTreeSet<i64> = edits.keys().copied().collect();
                    let expected = model.judge(&deps, &keys, merge);
                    let changes: Vec<Change> = edits.iter().map(|(&key, value)| match value {
                        Some(value) => put(&s, key, *value),
                        None => delete(&s, key),
                    }).collect();
                    let deps: Vec<Version> = deps.into_iter().collect();
                    let submit = Submit { merge, ..request(&deps, &changes) };
                    let edit = |content: &BTreeMap<i64, i64>| {
                        let mut content = content.clone();
                        for (&key, value) in &edits {
                            match value {
                                Some(value) => content.insert(key, *value),
                                None => content.remove(&key),
                            };
                        }
                        content
                    };
                    match desk.try_submit(&submit) {
                        Ok(accepted) => {
                            let merged = if accepted.merged { Expected::Merged } else { Expected::Appended };
                            prop_assert_eq!(merged, expected);
                            let commit = desk.table.checkpoint(accepted.version).expect("it is kept");
                            let deps: BTreeSet<Version> = commit.deps.iter().copied().collect();
                            let parent = &model.versions[&commit.parent].content;
                            let plain = Plain { sources: deps.clone(), deps, content: edit(parent), keys };
                            let head = edit(&model.versions[&model.head].content);
                            model.versions.insert(accepted.version, plain);
                            if accepted.merged {
                                let deps = BTreeSet::from([model.head, accepted.version]);
                                let plain = Plain { sources: deps.clone(), deps, content: head, keys: BTreeSet::new() };
                                model.versions.insert(accepted.head, plain);
                            }
                            model.head = accepted.head;
                        }
                        Err(Err(Error::Table(TableError::Conflict(conflict)))) => {
                            prop_assert_eq!(Expected::Refused(conflict.reason()), expected);
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
            prop_assert_eq!(desk.head(), model.head);
            prop_assert_eq!(content(desk.table.head()), model.versions[&model.head].content.clone());
        }
        for (version, plain) in &model.versions {
            prop_assert_eq!(&desk.at(*version), &plain.content);
        }
        // Read again, the records give the same table, whole or from a base.
        let mut again = Table::new("t", Arc::new(plain()));
        desk.records.iter().for_each(|record| again.apply(record.clone()).expect("it follows"));
        prop_assert_eq!(again.head().root(), desk.table.head().root());
        let base = record::decode_base("it", "t", &record::encode_base(&desk.table)).expect("it was encoded");
        prop_assert_eq!(base.head().root(), desk.table.head().root());
        for version in model.versions.keys() {
            prop_assert_eq!(base.history().standing(*version), desk.table.history().standing(*version));
            prop_assert_eq!(again.history().standing(*version), desk.table.history().standing(*version));
        }
    }

    #[test]
    fn bodies_that_were_made_up_are_read_or_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(),
    ) {
        let s = plain();
        let mut desk = Desk::new(plain());
        let first = desk.submit(&[], &[put(&s, 1, 1), delete(&s, 2)]).head;
        desk.submit(&[], &[put(&s, 3, 3)]);
        desk.submit(&[desk.head()], &[put(&s, 1, 2)]);
        let objects = [(*b"TMTL", desk.records[1].encode()), (*b"TMTB", record::encode_base(&desk.table))];
        for (magic, object) in objects {
            let mut body = codec::unpack("it", magic, &object).expect("it is whole");
            for (at, byte) in &flips {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            let shorter = &body[..cut.index(body.len())];
            for body in [&body, shorter] {
                let object = codec::pack(magic, body);
                if let Ok(record) = Record::decode("it", &object) {
                    let _ = Table::new("t", Arc::new(plain())).apply(record);
                }
                if let Ok(table) = decode_base("it", "t", &object) {
                    let _ = table.at(first, &desk.past);
                    let by = desk.by();
                    let _ = table.judge(&request(&[first], &[put(&s, 9, 9)]), by, &desk.past);
                }
            }
        }
    }

    #[test]
    fn merging_two_submits_commutes(
        base in prop::collection::btree_map(0..8_i64, 0..5_i64, 0..6),
        one in prop::collection::btree_map(0..8_i64, prop::option::of(0..5_i64), 1..4),
        other in prop::collection::btree_map(0..8_i64, prop::option::of(0..5_i64), 1..4),
        sums in any::<bool>(),
    ) {
        let s = if sums { harness::schema("v INT sum") } else { plain() };
        let changes = |edits: &BTreeMap<i64, Option<i64>>| -> Vec<Change> {
            edits.iter().map(|(&key, value)| match value {
                Some(value) => put(&s, key, *value),
                None => delete(&s, key),
            }).collect()
        };
        let run = |first: &BTreeMap<i64, Option<i64>>, second: &BTreeMap<i64, Option<i64>>| {
            let mut desk = Desk::new(s.clone());
            let rows = base.iter().map(|(&key, &value)| (key, Some(value))).collect();
            let start = desk.submit(&[], &changes(&rows)).head;
            desk.submit(&[start], &changes(first));
            match desk.try_submit(&request(&[start], &changes(second))) {
                Ok(accepted) => Some((accepted.root, content(desk.table.head()))),
                Err(Err(Error::Table(TableError::Conflict(Conflict::Overlap { .. })))) => None,
                other => panic!("{other:?}"),
            }
        };
        prop_assert_eq!(run(&one, &other), run(&other, &one));
    }
}
