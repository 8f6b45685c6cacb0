use std::collections::BTreeMap;

use super::super::harness::{content, delete, plain, put, request, schema};
use super::super::{Change, Column, Type};
use super::*;
use crate::store::memory::{Failure, Memory};

fn replica(incarnation: u64) -> Replica {
    Replica::new(1, incarnation).expect("small")
}

fn create(store: &Memory, incarnation: u64) -> Result<TableStore, Error> {
    TableStore::create(Arc::new(store.clone()), "t", &plain(), replica(incarnation), "me", Timestamp(0))
}

fn open(store: &Memory, incarnation: u64) -> Result<TableStore, Error> {
    TableStore::open(Arc::new(store.clone()), "t", replica(incarnation))
}

fn head(table: &TableStore) -> Version {
    table.table().head().version()
}

fn accepted(answer: Result<Answer, Error>) -> Accepted {
    match answer.expect("it is not refused") {
        Answer::Accepted(accepted) => accepted,
        parked => panic!("{parked:?}"),
    }
}

fn submit(table: &mut TableStore, changes: &[Change]) -> Accepted {
    let submit = request(&[head(table)], changes);
    accepted(table.submit(submit, Timestamp(1)))
}

fn conflict<T: std::fmt::Debug>(answer: Result<T, Error>) -> Conflict {
    match answer {
        Err(Error::Table(TableError::Conflict(conflict))) => conflict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_is_there_when_it_is_opened_again() {
    let store = Memory::new();
    let s = plain();
    let mut table = create(&store, 1).expect("there is none");
    let first = submit(&mut table, &[put(&s, 1, 1), put(&s, 2, 2)]).head;
    let second = submit(&mut table, &[delete(&s, 1)]).head;
    let side = accepted(table.submit(request(&[first], &[put(&s, 3, 3)]), Timestamp(2)));
    let rolled =
        table.roll_back(&Rollback { target: first, ..Rollback::default() }, Timestamp(3)).expect("it is kept").head;
    let (log, graph) = (table.log(100), table.graph());
    drop(table);

    let mut again = open(&store, 2).expect("it is there");
    assert_eq!((again.log(100), again.graph()), (log, graph));
    assert_eq!(head(&again), rolled);
    let at = |version| content(&again.at(version).expect("it is kept"));
    assert_eq!(at(first), [(1, 1), (2, 2)].into());
    assert_eq!(at(second), [(2, 2)].into());
    assert_eq!(at(side.version), [(1, 1), (2, 2), (3, 3)].into());
    assert_eq!(at(side.head), [(2, 2), (3, 3)].into());
    assert_eq!(again.diff(side.head, rolled).expect("they are kept").len(), 2);
    let next = submit(&mut again, &[put(&s, 4, 4)]);
    assert_eq!(next.version.replica, replica(2));
}

#[test]
fn a_table_has_one_declaration() {
    let store = Memory::new();
    assert!(matches!(open(&store, 1).map(|_| ()), Err(Error::Table(TableError::NoTable { .. }))));
    create(&store, 1).expect("there is none");
    create(&store, 2).expect("it is the same");
    let other = schema("v STRING");
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let refused = TableStore::create(Arc::clone(&shared), "t", &other, replica(3), "me", Timestamp(0)).map(|_| ());
    let error = refused.expect_err("it is another table");
    assert_eq!(
        error.to_string(),
        "table 't' is there already and is another one: it has column 'v' INT, not 'v' STRING"
    );
    for name in ["näme", "a.b", "A=b/c"] {
        TableStore::create(Arc::clone(&shared), name, &other, replica(4), "me", Timestamp(0)).expect("there is none");
    }
    assert_eq!(tables(&store).expect("they can be listed"), ["A=b/c", "a.b", "näme", "t"]);
}

#[test]
fn of_two_processes_the_second_is_judged_again() {
    let store = Memory::new();
    let s = plain();
    let (mut one, mut other) = (create(&store, 1).expect("there is none"), create(&store, 2).expect("it is the same"));
    let first = submit(&mut one, &[put(&s, 1, 1)]);
    let second = submit(&mut other, &[put(&s, 2, 2)]);
    assert!(!first.merged && second.merged);
    assert_eq!(content(other.table().head()), [(1, 1), (2, 2)].into());
    // The first has not read what the second wrote.
    let reader = one.reader();
    assert_eq!(reader.newest().version(), first.head);
    assert_eq!(conflict(one.submit(request(&[first.head], &[put(&s, 2, 3)]), Timestamp(1))).reason(), "Stale");
    assert_eq!(reader.newest().version(), second.head);
    let third = submit(&mut one, &[put(&s, 3, 3)]);
    assert_eq!(conflict(other.submit(request(&[second.head], &[put(&s, 3, 4)]), Timestamp(1))).reason(), "Overlap");
    assert!(!other.refresh().expect("it can be read"), "it was read to judge the submit");
    assert_eq!(head(&other), third.head);
}

#[test]
fn processes_that_add_at_once_lose_nothing() {
    let (store, s) = (Memory::new(), schema("v BIGINT sum"));
    let make = |incarnation| {
        TableStore::create(Arc::new(store.clone()), "sum", &s, replica(incarnation), "me", Timestamp(0))
            .expect("it is the same")
    };
    let mut first = make(1);
    submit(&mut first, &[put(&s, 0, 0)]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (mut table, s) = (make(10 + thread), &s);
            scope.spawn(move || {
                for _ in 0..15 {
                    let now = content(table.table().head())[&0];
                    let changes = [put(s, 0, now + 1), put(s, thread as i64 + 1, now)];
                    let submit = Submit { merge: true, ..request(&[head(&table)], &changes) };
                    accepted(table.submit(submit, Timestamp(1)));
                }
            });
        }
    });
    first.refresh().expect("it can be read");
    assert_eq!(content(first.table().head())[&0], 60);
    let again = make(99);
    assert_eq!(again.table().head().root(), first.table().head().root());
}

#[test]
fn opening_reads_a_base_and_what_came_after() {
    let store = Memory::new();
    let s = plain();
    let mut table = create(&store, 1).expect("there is none");
    let mut versions = Vec::new();
    for key in 0..600 {
        versions.push(submit(&mut table, &[put(&s, key % 50, key)]).head);
    }
    let before = store.operations();
    let again = open(&store, 2).expect("it is there");
    assert!(store.operations() - before <= 3 + RECORDS_MAX, "{} operations", store.operations() - before);
    assert_eq!(again.table().head().root(), table.table().head().root());
    assert_eq!(again.archive.bases().expect("they can be listed").len(), BASES);
    // What the base does not hold is read from the log.
    assert_eq!(content(&again.at(versions[9]).expect("it is kept")), (0..10).map(|key| (key, key)).collect());
    assert_eq!(again.log(2)[0].version, versions[599]);
}

#[test]
fn a_version_that_is_not_known_yet_is_waited_for() {
    let store = Memory::new();
    let s = plain();
    let (mut one, mut other) = (create(&store, 1).expect("there is none"), create(&store, 2).expect("it is the same"));
    let wanted = Version::new(7, replica(2));
    let park = |table: &mut TableStore, now| match table.submit(request(&[wanted], &[put(&s, 1, 2)]), Timestamp(now)) {
        Ok(Answer::Parked { ticket, missing, deadline }) => {
            assert_eq!((missing, deadline), (vec![wanted], Timestamp(now + WAIT)));
            ticket
        }
        other => panic!("{other:?}"),
    };
    let lost = park(&mut one, 0);
    assert!(one.poll(Timestamp(WAIT - 1)).expect("it can be read").is_empty());
    let mut answers = one.poll(Timestamp(WAIT)).expect("it can be read");
    let (ticket, answer) = answers.pop().expect("its time is over");
    assert_eq!(ticket, lost);
    assert!(matches!(conflict(answer), Conflict::Unreachable { missing, .. } if missing == [wanted]));

    let waiting = park(&mut one, 5_000);
    let submit = Submit { version: Some(wanted), ..request(&[], &[put(&s, 1, 1)]) };
    accepted(other.submit(submit, Timestamp(5_001)));
    let mut answers = one.poll(Timestamp(5_002)).expect("it can be read");
    let (ticket, answer) = answers.pop().expect("it is known now");
    assert_eq!(ticket, waiting);
    assert_eq!(answer.expect("it rests on the head").head, head(&one));
    assert_eq!(content(one.table().head()), [(1, 2)].into());
    assert_eq!(one.deadline(), None);
}

#[test]
fn a_new_owner_fences_every_process() {
    let store = Memory::new();
    let s = plain();
    let (mut one, mut other) = (create(&store, 1).expect("there is none"), create(&store, 2).expect("it is the same"));
    one.fence(1, "one", Timestamp(1)).expect("it is the first");
    other.fence(2, "other", Timestamp(2)).expect("it is later");
    other.fence(2, "other", Timestamp(3)).expect("it is its own");
    let submit = Submit { epoch: 1, ..request(&[], &[put(&s, 1, 1)]) };
    assert_eq!(conflict(one.submit(submit.clone(), Timestamp(3))), Conflict::Fenced { epoch: 1, current: 2 });
    assert_eq!(conflict(one.fence(1, "one", Timestamp(4))).reason(), "Fenced");
    accepted(other.submit(Submit { epoch: 2, ..submit }, Timestamp(4)));
    assert_eq!(open(&store, 3).expect("it is there").table().epoch(), 2);
}

#[test]
fn a_process_that_lags_behind_pruning_catches_up() {
    let s = plain();
    let start = |incarnation| {
        let store = Memory::new();
        let mut one = create(&store, incarnation).expect("there is none");
        let base = submit(&mut one, &[put(&s, 1, 1)]).head;
        let other = open(&store, incarnation + 1).expect("it is there");
        for key in 2..30 {
            submit(&mut one, &[put(&s, key, key)]);
        }
        let boundary = head(&one);
        submit(&mut one, &[put(&s, 30, 30)]);
        assert_eq!(one.prune(boundary, "me", Timestamp(1)).expect("it was the head"), 28);
        (store, one, other, base)
    };
    let (store, mut one, mut other, base) = start(1);
    assert!(other.refresh().expect("it can be read"));
    assert_eq!(content(other.table().head()), content(one.table().head()));
    assert!(matches!(other.at(base), Err(Error::Table(TableError::Pruned { .. }))));
    assert!(matches!(one.prune(base, "me", Timestamp(2)), Err(Error::Table(TableError::NoVersion { .. }))));
    submit(&mut one, &[put(&s, 31, 31)]);
    assert_eq!(open(&store, 9).expect("it is there").table().head().count(), 31);

    // What it writes under a number that was removed is taken back.
    let (store, one, mut other, base) = start(3);
    let refused = conflict(other.submit(request(&[base], &[put(&s, 5, 50)]), Timestamp(1)));
    assert!(matches!(refused, Conflict::Unreachable { pruned, .. } if pruned == [base]));
    assert_eq!(content(other.table().head()), content(one.table().head()));
    let again = open(&store, 9).expect("it is there");
    assert_eq!(content(again.table().head()), content(one.table().head()));
}

/// A store in which something else happens just before bases are listed.
struct Interrupted {
    store: Memory,
    interruption: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Store for Interrupted {
    fn put_new(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        self.store.put_new(name, content)
    }

    fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.store.get(name)
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        self.store.get_range(name, offset, length)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let interruption = self.interruption.lock().expect("nothing panics").take();
        if let Some(interruption) = interruption {
            interruption();
        }
        self.store.list(folder)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.store.delete(name)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[test]
fn a_base_that_others_wrote_at_once_takes_nothing_back() {
    let s = plain();
    for prunes in [false, true] {
        let store = Memory::new();
        let first = submit(&mut create(&store, 1).expect("there is none"), &[put(&s, 1, 1)]);
        let interrupted = Arc::new(Interrupted { store: store.clone(), interruption: Mutex::default() });
        let shared: Arc<dyn Store> = Arc::clone(&interrupted) as _;
        let mut table = TableStore::open(shared, "t", replica(2)).expect("it is there");
        let mut other = open(&store, 3).expect("it is there");
        let interruption = move || {
            other.refresh().expect("it can be read");
            let newest = head(&other);
            if prunes {
                submit(&mut other, &[put(&plain(), 3, 3)]);
                other.prune(newest, "other", Timestamp(2)).expect("it was the head");
            } else {
                other.compact().expect("it can be written");
            }
        };
        *interrupted.interruption.lock().expect("nothing panics") = Some(Box::new(interruption));
        let accepted = accepted(table.submit(request(&[first.head], &[put(&s, 2, 2)]), Timestamp(1)));
        assert!(!accepted.merged, "it was the head when it was written");
        let again = open(&store, 4).expect("it is there");
        assert_eq!(content(table.table().head()), content(again.table().head()));
        assert_eq!(again.table().head().count(), if prunes { 3 } else { 2 });
        assert_eq!(content(&again.at(accepted.version).expect("it is kept")), [(1, 1), (2, 2)].into());
    }
}

#[test]
fn damage_is_refused_and_named() {
    let store = Memory::new();
    let s = plain();
    let mut table = create(&store, 1).expect("there is none");
    for key in 0..30 {
        submit(&mut table, &[put(&s, key, key)]);
    }
    let base = *table.archive.bases().expect("they can be listed").last().expect("there is one");
    let refused = |store: &Memory, part: &str| {
        let error = open(store, 2).map(|_| ()).expect_err("it is damaged");
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    };
    for name in [format!("base/{base:020}"), format!("log/{:020}", 30)] {
        let copy = store.copy();
        assert!(copy.damage(&format!("tables/t/{name}"), 60, 1));
        refused(&copy, &name);
    }
    let copy = store.copy();
    copy.delete("tables/t/log/00000000000000000029").expect("it can be removed");
    refused(&copy, "log/00000000000000000029");
    // A base may be removed when the log is whole.
    let copy = store.copy();
    for base in table.archive.bases().expect("they can be listed") {
        copy.delete(&format!("tables/t/base/{base:020}")).expect("it can be removed");
    }
    assert_eq!(open(&copy, 2).expect("the log is whole").table().head().root(), table.table().head().root());
    // What is not needed to open is found when it is read.
    let copy = store.copy();
    assert!(copy.damage("tables/t/log/00000000000000000005", 60, 1));
    let again = open(&copy, 2).expect("the base is whole");
    let error = again.at(Version::GENESIS).expect_err("a record is damaged");
    assert!(error.to_string().contains("log/00000000000000000005"), "{error}");
}

/// Commits, a merge, a rollback, bases and pruning, each submit under a version of its own; stops at the first failure.
/// Returns what was acknowledged.
fn work(store: &Memory) -> (BTreeMap<i64, i64>, Result<(), Error>) {
    let s = plain();
    let mut rows = BTreeMap::new();
    let mut run = || {
        let mut table = create(store, 1)?;
        let mut versions = vec![head(&table)];
        for key in 0..22 {
            let version = Some(Version::new(100 * (key as u64 + 1), replica(1)));
            let submit = Submit { version, ..request(&[head(&table)], &[put(&s, key, key)]) };
            table.submit(submit, Timestamp(key))?;
            rows.insert(key, key);
            versions.push(head(&table));
        }
        let late = request(&[versions[21]], &[put(&s, 77, 7)]);
        table.submit(late, Timestamp(30))?;
        rows.insert(77, 7);
        table.prune(versions[20], "me", Timestamp(31))?;
        Ok(())
    };
    let result = run();
    (rows, result)
}

#[test]
fn a_crash_at_any_point_loses_nothing_that_was_acknowledged() {
    let all = Memory::new();
    work(&all).1.expect("nothing fails");
    let whole = all.operations();
    for failure in [Failure::Undone, Failure::Done] {
        for at in 0..whole {
            let store = Memory::new();
            store.fail_after(at, failure);
            let (acknowledged, result) = work(&store);
            store.heal();
            if result.is_err() && acknowledged.is_empty() && matches!(open(&store, 2), Err(Error::Table(_))) {
                continue;
            }
            let mut table = open(&store, 2).expect("a crash leaves a good store");
            let there = content(table.table().head());
            let more = there.len() - acknowledged.len();
            assert!(acknowledged.iter().all(|row| there.get(row.0) == Some(row.1)), "{failure:?} at {at}");
            assert!(more <= 1, "{failure:?} at {at}: at most the one that failed is there besides");
            submit(&mut table, &[put(&plain(), 99, 9)]);
            let again = open(&store, 3).expect("it is there");
            assert_eq!(content(again.table().head()).len(), there.len() + 1);
        }
    }
}

#[test]
fn a_submit_that_failed_is_sent_again_by_its_version() {
    let s = plain();
    for failure in [Failure::Undone, Failure::Done] {
        let store = Memory::new();
        let mut table = create(&store, 1).expect("there is none");
        let version = Version::new(5, replica(7));
        let submit = Submit { version: Some(version), ..request(&[], &[put(&s, 1, 1)]) };
        store.fail_after(0, failure);
        assert!(matches!(table.submit(submit.clone(), Timestamp(1)), Err(Error::Store(StoreError::Failed { .. }))));
        store.heal();
        let accepted = accepted(table.submit(submit, Timestamp(2)));
        assert_eq!((accepted.version, accepted.merged), (version, false), "{failure:?}");
        assert_eq!(table.table().history().count(), 2);
    }
}

#[test]
fn a_blocklist_is_imported_at_once() {
    let columns = vec![
        Column::new("ip", Type::String(None)),
        Column::new("reason", Type::String(None)),
        Column::new("score", Type::Double),
    ];
    let s = Schema::new(columns, vec!["ip".into()]).expect("it is sound");
    let rows = (0..20_000).map(|n| {
        let object = serde_json::json!({"ip": format!("10.0.{}.{}", n / 256, n % 256), "reason": "spam", "score": 0.5});
        Change::Put(s.row_from_json(object.as_object().expect("an object")).expect("a row"))
    });
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let mut table =
        TableStore::create(Arc::clone(&store), "block", &s, replica(1), "me", Timestamp(0)).expect("there is none");
    accepted(table.submit(request(&[], &rows.collect::<Vec<_>>()), Timestamp(1)));
    let again = TableStore::open(store, "block", replica(2)).expect("it is there");
    assert_eq!(again.table().head().count(), 20_000);
    let key = [super::super::Value::String("10.0.3.4".into())];
    assert!(again.reader().newest().lookup(&key).expect("a key").is_some());
}
