//! A test for each row of the rules.

use serde_json::json;
use tidemill_base::Explain;

use super::*;
use crate::table::harness::{Desk, content, delete, plain, put, request, schema};
use crate::table::{Column, Schema, Type, Value};

fn version(lamport: u64) -> Version {
    Version::new(lamport, Replica::new(9, 9).expect("small"))
}

fn merging(deps: &[Version], changes: &[Change]) -> Submit {
    Submit { merge: true, ..request(deps, changes) }
}

fn versioned(lamport: u64, deps: &[Version], changes: &[Change]) -> Submit {
    Submit { version: Some(version(lamport)), ..request(deps, changes) }
}

/// A desk whose head, the second version, has rows 1 to 5 of their own values; and both versions.
fn desk() -> (Desk, Version, Version) {
    let s = plain();
    let mut desk = Desk::new(plain());
    let first = desk.submit(&[], &[put(&s, 1, 1), put(&s, 2, 2), put(&s, 3, 3)]).head;
    let second = desk.submit(&[first], &[put(&s, 4, 4), put(&s, 5, 5)]).head;
    (desk, first, second)
}

#[test]
fn an_epoch_that_is_over_is_fenced() {
    let (mut desk, _, head) = desk();
    let under = |epoch, key| Submit { epoch, ..request(&[head], &[put(&plain(), key, 9)]) };
    let raised = desk.try_submit(&under(2, 1)).expect("a later epoch begins");
    let conflict = desk.refused(&under(1, 2));
    assert_eq!(conflict, Conflict::Fenced { epoch: 1, current: 2 });
    assert_eq!((conflict.reason(), conflict.code()), ("Fenced", "TM1210"));
    // Fenced comes before all else, for an old owner must not learn more than that.
    assert_eq!(desk.refused(&Submit { deps: vec![version(99)], ..under(0, 2) }).reason(), "Fenced");
    let next = Submit { deps: vec![raised.head], ..under(2, 2) };
    assert!(desk.try_submit(&next).is_ok());
    let by = desk.by();
    let rollback = Rollback { target: head, epoch: 1, ..Rollback::default() };
    assert!(desk.table.roll_back(&rollback, by, &desk.past).is_err());
}

#[test]
fn a_planted_bug_takes_an_epoch_that_is_over() {
    let (mut desk, _, head) = desk();
    let under = |epoch, deps| Submit { epoch, ..request(&[deps], &[]) };
    let head = desk.try_submit(&under(2, head)).expect("a later epoch begins").head;
    assert!(planted::with(Bug::IgnoreEpoch, || desk.try_submit(&under(1, head))).is_ok());
}

#[test]
fn unknown_deps_are_waited_for() {
    let (mut desk, _, head) = desk();
    let s = plain();
    let (early, late) = (versioned(50, &[head], &[put(&s, 1, 7)]), versioned(51, &[version(50)], &[put(&s, 1, 8)]));
    let missing = desk.try_submit(&late).expect_err("50 is unknown").expect("it waits");
    assert_eq!(missing, [version(50)]);
    assert_eq!(desk.try_submit(&early).expect("it rests on the head").head, version(50));
    assert_eq!(desk.try_submit(&late).expect("50 is known now").head, version(51));
    assert_eq!(content(desk.table.head())[&1], 8);
}

#[test]
fn rolled_back_deps_are_unreachable() {
    let (mut desk, first, old) = desk();
    let side = desk.submit(&[first], &[put(&plain(), 9, 9)]);
    let rolled = desk.roll_back(first);
    for dep in [old, side.version, side.head] {
        for submit in [request(&[dep], &[]), merging(&[dep], &[]), request(&[first, dep], &[])] {
            let conflict = desk.refused(&submit);
            let Conflict::Unreachable { missing, rolled_back, pruned } = &conflict else { panic!("{conflict:?}") };
            assert_eq!((missing.len(), rolled_back.as_slice(), pruned.len()), (0, &[dep][..], 0));
            assert_eq!((conflict.reason(), conflict.code()), ("Unreachable", "TM1211"));
        }
    }
    assert_eq!(desk.refused(&request(&[first], &[])).reason(), "Stale");
    let again = desk.try_submit(&merging(&[first], &[put(&plain(), 1, 5)])).expect("nothing came between");
    assert_eq!(desk.submit(&[again.head], &[]).head, desk.head());
    assert!(desk.table.history().get(rolled).is_some());
}

#[test]
fn a_rollback_is_a_forward_version_that_can_be_taken_back() {
    let (mut desk, first, second) = desk();
    let before = desk.at(second);
    let rolled = desk.roll_back(first);
    assert!(rolled > second);
    let checkpoint = desk.table.checkpoint(rolled).expect("it is the head").clone();
    assert_eq!(checkpoint.deps, [first, second]);
    assert_eq!(checkpoint.root, desk.table.checkpoint(first).expect("it is kept").root);
    assert_eq!(content(desk.table.head()), desk.at(first));
    let back = desk.roll_back(second);
    assert_eq!(content(desk.table.head()), before);
    assert_eq!(desk.refused(&request(&[rolled], &[])).reason(), "Unreachable");
    assert!(desk.try_submit(&request(&[back], &[])).is_ok());
}

#[test]
fn pruned_deps_are_unreachable() {
    let (mut desk, first, second) = desk();
    let time = 0;
    desk.apply(Record::Prune { boundary: second, author: String::new(), time });
    for dep in [first, Version::GENESIS] {
        let conflict = desk.refused(&merging(&[dep], &[]));
        assert!(matches!(&conflict, Conflict::Unreachable { pruned, .. } if *pruned == [dep]), "{conflict:?}");
    }
    assert!(desk.try_submit(&request(&[second], &[])).is_ok());
}

#[test]
fn resting_on_the_head_appends() {
    let (mut desk, first, head) = desk();
    let s = plain();
    let accepted = desk.submit(&[head], &[put(&s, 1, 9), delete(&s, 2), delete(&s, 77)]);
    assert_eq!((accepted.version, accepted.merged), (accepted.head, false));
    let checkpoint = desk.table.checkpoint(accepted.head).expect("it is the head");
    assert_eq!((checkpoint.deps.as_slice(), checkpoint.parent), (&[head][..], head));
    assert_eq!((checkpoint.rows, checkpoint.puts, checkpoint.deletes), (4, 1, 2));
    assert_eq!(checkpoint.version.lamport, head.lamport + 1);
    assert_eq!(desk.at(accepted.head), [(1, 9), (3, 3), (4, 4), (5, 5)].into());
    // What the head rests on is part of it.
    assert!(!desk.submit(&[first, head, accepted.head], &[]).merged);
}

#[test]
fn siblings_with_other_keys_are_merged() {
    let (mut desk, first, head) = desk();
    let s = plain();
    let accepted = desk.submit(&[first], &[put(&s, 1, 9), delete(&s, 2)]);
    assert!(accepted.merged);
    let (commit, merge) = (desk.table.checkpoint(accepted.version), desk.table.checkpoint(accepted.head));
    let (commit, merge) = (commit.expect("it is kept").clone(), merge.expect("it is kept").clone());
    assert_eq!((commit.deps.as_slice(), commit.kind), (&[first][..], Kind::Commit));
    assert_eq!((merge.deps.as_slice(), merge.kind), (&[head, accepted.version][..], Kind::Merge));
    assert_eq!(merge.version.lamport, accepted.version.lamport.max(head.lamport) + 1);
    assert_eq!(desk.at(accepted.version), [(1, 9), (3, 3)].into());
    assert_eq!(desk.at(accepted.head), [(1, 9), (3, 3), (4, 4), (5, 5)].into());
    // A third one is not a sibling of the merge.
    assert_eq!(desk.refused(&request(&[first], &[put(&s, 7, 7)])).reason(), "Stale");
}

#[test]
fn siblings_of_a_merge_rest_on_both_its_sides() {
    let (mut desk, first, head) = desk();
    let s = plain();
    let merged = desk.submit(&[first], &[put(&s, 1, 9)]);
    let beside = desk.submit(&[head, merged.version], &[put(&s, 6, 6)]);
    assert!(beside.merged);
    assert_eq!(desk.at(beside.head), [(1, 9), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)].into());
    assert_eq!(desk.at(beside.version), desk.at(beside.head));
    // By now the merge is an older version.
    let both = [head, merged.version];
    assert_eq!(desk.refused(&request(&both, &[put(&s, 7, 7)])).reason(), "Stale");
    assert_eq!(desk.refused(&merging(&both, &[put(&s, 6, 7)])).reason(), "Overlap");
    assert!(desk.try_submit(&merging(&both, &[put(&s, 7, 7)])).is_ok());
    // Of two versions that nobody merged there is no content to have started from.
    let other = desk.try_submit(&merging(&[head], &[put(&s, 8, 8)])).expect("nobody else changed it");
    assert_eq!(desk.refused(&merging(&[merged.version, other.version], &[])).reason(), "Stale");
}

#[test]
fn the_roots_of_disjoint_changes_add_up() {
    let (mut desk, first, head) = desk();
    let s = plain();
    let tries: Vec<Trie> = {
        let merged = desk.submit(&[first], &[put(&s, 1, 9), delete(&s, 2)]);
        let versions = [first, head, merged.version, merged.head];
        let trie = |version| {
            let mut trie = Trie::new(crate::trie::Depth::SMALL);
            for row in desk.table.at(version, &desk.past).expect("it is kept").rows().iter() {
                trie.put(tidemill_base::hash::bytes(row.key_bytes()), digest::entry(row.bytes()));
            }
            assert_eq!(trie.root(), desk.table.checkpoint(version).expect("it is kept").root);
            trie
        };
        versions.into_iter().map(trie).collect()
    };
    let mut sum = tries[0].clone();
    sum.add(&tries[1].minus(&tries[0]));
    sum.add(&tries[2].minus(&tries[0]));
    assert_eq!(sum, tries[3]);
}

#[test]
fn columns_that_say_how_are_merged() {
    let s = schema("n INT sum; most INT max; least INT min; tags ARRAY<INT> union; note STRING");
    let row = |n: i64, most: i64, least: i64, tags: &[i64], note: &str| {
        let tags = Value::Array(tags.iter().map(|tag| Value::Integer(*tag)).collect());
        let numbers = [1, n, most, least].map(Value::Integer);
        let values = [&numbers[..], &[tags, Value::String(note.into())]].concat();
        Change::Put(s.row(&values).expect("a row"))
    };
    let mut desk = Desk::new(s.clone());
    let base = desk.submit(&[], &[row(10, 5, 5, &[1], "a")]).head;
    desk.submit(&[base], &[row(12, 7, 5, &[1, 2], "a")]);
    let merged = desk.submit(&[base], &[row(11, 6, 3, &[3], "a")]);
    assert!(merged.merged);
    let rows: Vec<_> = desk.table.head().rows().iter().map(|row| s.row_to_json(row).expect("its own")).collect();
    let expected = json!([{"k": 1, "n": 13, "most": 7, "least": 3, "tags": [1, 2, 3], "note": "a"}]);
    assert_eq!(json!(rows), expected);
    // The commit beside has what was submitted.
    let beside = desk.table.at(merged.version, &desk.past).expect("it is kept");
    assert_eq!(s.row_to_json(beside.rows().iter().next().expect("a row")).expect("its own")["n"], json!(11));
    // A column that says nothing must agree.
    let base = desk.head();
    desk.submit(&[base], &[row(1, 1, 1, &[], "b")]);
    assert_eq!(desk.refused(&request(&[base], &[row(1, 1, 1, &[], "c")])).reason(), "Overlap");
}

#[test]
fn a_merged_value_beyond_its_type_is_refused() {
    let s = schema("n TINYINT sum");
    let mut desk = Desk::new(s.clone());
    let base = desk.submit(&[], &[put(&s, 1, 0)]).head;
    desk.submit(&[base], &[put(&s, 1, 100)]);
    let Err(Err(error)) = desk.try_submit(&request(&[base], &[put(&s, 1, 100)])) else { panic!("200 is no TINYINT") };
    assert_eq!(error.to_string(), r#"merging key {"k":1} by sum gives column 'n' a value beyond TINYINT"#);
}

#[test]
fn the_same_keys_overlap() {
    let (mut desk, first, head) = desk();
    let s = plain();
    let conflict = desk.refused(&request(&[first], &[put(&s, 4, 9), delete(&s, 5), put(&s, 6, 6)]));
    assert_eq!((conflict.reason(), conflict.code()), ("Overlap", "TM1212"));
    let Conflict::Overlap { version, .. } = conflict else { panic!("{conflict:?}") };
    let answer = serde_json::to_value(&conflict).expect("text keys");
    let expected = json!({
        "reason": "Overlap",
        "count": 2,
        "base": first,
        "head": head,
        "version": version,
        "keys": [
            {"key": {"k": 4}, "base": null, "head": {"k": 4, "v": 4}, "submitted": {"k": 4, "v": 9}},
            {"key": {"k": 5}, "base": null, "head": {"k": 5, "v": 5}, "submitted": null},
        ],
    });
    assert_eq!(answer, expected);
    // Who writes what others wrote has still written it.
    assert_eq!(desk.refused(&request(&[first], &[put(&s, 4, 4)])).reason(), "Overlap");
    assert_eq!(desk.head(), head);
}

#[test]
fn an_overlap_names_a_hundred_keys() {
    let s = plain();
    let mut desk = Desk::new(plain());
    let all = |value| (0..250).map(|key| put(&s, key, value)).collect::<Vec<_>>();
    desk.submit(&[], &all(1));
    let conflict = desk.refused(&request(&[], &all(2)));
    let Conflict::Overlap { keys, count, .. } = conflict else { panic!("{conflict:?}") };
    assert_eq!((keys.len(), count), (100, 250));
}

#[test]
fn a_planted_bug_merges_what_overlaps() {
    let (mut desk, first, _) = desk();
    let submit = request(&[first], &[put(&plain(), 4, 9)]);
    let merged = planted::with(Bug::MergeOverlap, || desk.try_submit(&submit)).expect("the bug is there");
    assert_eq!(desk.at(merged.head)[&4], 9);
}

#[test]
fn an_older_version_is_merged_when_asked() {
    let (mut desk, first, head) = desk();
    let s = plain();
    desk.submit(&[head], &[put(&s, 6, 6), put(&s, 1, 10)]);
    let changes = [put(&s, 2, 20)];
    let conflict = desk.refused(&request(&[first], &changes));
    assert_eq!(conflict, Conflict::Stale { deps: vec![first], head: desk.head() });
    assert_eq!((conflict.reason(), conflict.code()), ("Stale", "TM1213"));
    let merged = desk.try_submit(&merging(&[first], &changes)).expect("other keys were changed");
    assert!(merged.merged);
    assert_eq!(desk.at(merged.version), [(1, 1), (2, 20), (3, 3)].into());
    assert_eq!(desk.at(merged.head), [(1, 10), (2, 20), (3, 3), (4, 4), (5, 5), (6, 6)].into());
    // From the commit beside, the merge's other side has come since.
    let overlap = desk.refused(&merging(&[merged.version], &[put(&s, 1, 0)]));
    assert!(matches!(overlap, Conflict::Overlap { count: 1, .. }), "{overlap:?}");
    assert!(desk.try_submit(&merging(&[merged.version], &[put(&s, 2, 21)])).is_ok());
    assert_eq!(desk.refused(&merging(&[first], &[delete(&s, 1)])).reason(), "Overlap");
}

#[test]
fn a_change_that_was_taken_back_is_still_a_change() {
    let (mut desk, first, head) = desk();
    let s = plain();
    let next = desk.submit(&[head], &[put(&s, 1, 10)]).head;
    desk.submit(&[next], &[put(&s, 1, 1)]);
    assert_eq!(desk.refused(&merging(&[first], &[put(&s, 1, 5)])).reason(), "Overlap");
    // But not when it was rolled back.
    desk.roll_back(head);
    assert!(desk.try_submit(&merging(&[first], &[put(&s, 1, 5)])).is_ok());
}

#[test]
fn the_same_submit_is_answered_the_same_again() {
    let (mut desk, first, head) = desk();
    let s = plain();
    for submit in [versioned(20, &[head], &[put(&s, 7, 7), put(&s, 8, 8)]), versioned(30, &[head], &[put(&s, 9, 9)])] {
        let accepted = desk.try_submit(&submit).expect("it is accepted");
        let count = desk.table.history().count();
        let changes = submit.changes.iter().rev().cloned().collect();
        assert_eq!(desk.try_submit(&Submit { changes, ..submit.clone() }).expect("again"), accepted);
        assert_eq!(desk.table.history().count(), count);
        let other = Submit { changes: vec![put(&s, 7, 6)], ..submit };
        let refused = desk.try_submit(&other);
        assert!(matches!(refused, Err(Err(Error::Table(TableError::VersionTaken { .. })))), "{refused:?}");
    }
    let early = Submit { version: Some(version(1)), ..request(&[first], &[]) };
    let refused = desk.try_submit(&early);
    assert!(matches!(refused, Err(Err(Error::Table(TableError::VersionTooEarly { .. })))), "{refused:?}");
}

#[test]
fn a_submit_changes_a_key_once_and_in_its_own_columns() {
    let (mut desk, _, head) = desk();
    let s = plain();
    let twice = desk.try_submit(&request(&[head], &[put(&s, 1, 1), delete(&s, 1)]));
    let Err(Err(error)) = twice else { panic!("{twice:?}") };
    assert_eq!(error.to_string(), r#"key {"k":1} is changed twice in one submit"#);
    let other = Schema::new(vec![Column::new("x", Type::Date)], vec!["x".into()]).expect("it is sound");
    let row = other.row(&[Value::Date(1)]).expect("a row");
    let foreign = desk.try_submit(&request(&[head], &[Change::Put(row)]));
    assert!(matches!(foreign, Err(Err(Error::Table(TableError::BadRow)))), "{foreign:?}");
}

#[test]
fn a_rollback_can_name_the_head_it_means() {
    let (mut desk, first, second) = desk();
    let by = desk.by();
    let named = |head| Rollback { target: first, head: Some(head), ..Rollback::default() };
    let refused = desk.table.roll_back(&named(first), by, &desk.past).expect_err("the head is another");
    assert!(matches!(refused, Error::Table(TableError::Conflict(Conflict::Stale { .. }))), "{refused:?}");
    assert!(desk.table.roll_back(&named(second), by, &desk.past).is_ok());
    let unknown = Rollback { target: version(77), ..Rollback::default() };
    let refused = desk.table.roll_back(&unknown, by, &desk.past).expect_err("nobody knows it");
    assert!(matches!(refused, Error::Table(TableError::NoVersion { .. })), "{refused:?}");
}

#[test]
fn a_commit_beside_counts_when_it_was_rolled_back_to() {
    let (mut desk, first, _) = desk();
    let s = plain();
    let side = desk.submit(&[first], &[delete(&s, 77)]);
    desk.roll_back(side.version);
    assert_eq!(desk.refused(&merging(&[first], &[put(&s, 77, 7)])).reason(), "Overlap");
    assert_eq!(desk.refused(&merging(&[side.head], &[])).reason(), "Unreachable");
    // What only the side that was left behind wrote does not.
    assert!(desk.try_submit(&merging(&[first], &[put(&s, 4, 40)])).is_ok());
}
