//! A table without a store, for tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidemill_base::Timestamp;

use super::*;
use crate::Replica;
use crate::submit::{Accepted, By, Rollback, Submit, Verdict};

/// A table whose records are applied at once, and whose edits stay in memory.
pub(crate) struct Desk {
    pub(crate) table: Table,
    pub(crate) past: Memory,
    pub(crate) records: Vec<Record>,
    now: i64,
}

#[derive(Default)]
pub(crate) struct Memory(RefCell<HashMap<Version, Edits>>);

impl Past for Memory {
    fn edits(&self, checkpoint: &Checkpoint) -> Result<Edits, Error> {
        self.0.borrow().get(&checkpoint.version).cloned().ok_or_else(|| Error::Damaged {
            name: format!("version {}", checkpoint.version),
            reason: "it was not remembered".to_string(),
        })
    }
}

/// Key `k`, and a value that is not merged.
pub(crate) fn plain() -> Schema {
    schema("v INT")
}

/// A schema of a key `k INT` and these columns, `NAME TYPE [merge]`, with `;` between.
pub(crate) fn schema(columns: &str) -> Schema {
    let mut all = vec![Column::new("k", Type::Int)];
    for text in columns.split(';') {
        let words: Vec<&str> = text.split_whitespace().collect();
        let merge = words.get(2).map(|merge| merge.parse().expect("a merge function"));
        all.push(Column { merge, ..Column::new(words[0], words[1].parse().expect("a type")) });
    }
    Schema::new(all, vec!["k".into()]).expect("it is sound")
}

pub(crate) fn put(schema: &Schema, key: i64, value: i64) -> Change {
    Change::Put(schema.row(&[Value::Integer(key), Value::Integer(value)]).expect("a row"))
}

pub(crate) fn delete(schema: &Schema, key: i64) -> Change {
    Change::Delete(schema.key(&[Value::Integer(key)]).expect("a key"))
}

/// The rows of a table of [`plain`] columns.
pub(crate) fn content(snapshot: &Snapshot) -> BTreeMap<i64, i64> {
    let pair = |row: &Row| match snapshot.schema().values(row).expect("its own").as_slice() {
        [Value::Integer(key), Value::Integer(value)] => (*key, *value),
        other => panic!("{other:?}"),
    };
    snapshot.rows().iter().map(pair).collect()
}

impl Desk {
    pub(crate) fn new(schema: Schema) -> Self {
        Desk { table: Table::new("t", Arc::new(schema)), past: Memory::default(), records: Vec::new(), now: 0 }
    }

    pub(crate) fn by(&mut self) -> By {
        self.now += 1;
        By { replica: Replica::new(1, 1).expect("small"), now: Timestamp(self.now) }
    }

    pub(crate) fn head(&self) -> Version {
        self.table.head().version()
    }

    pub(crate) fn apply(&mut self, record: Record) {
        // What is applied is what was written down.
        let record = Record::decode("a record", &record.encode()).expect("it was encoded");
        if let Record::Commit { written, .. } = &record {
            for written in written {
                self.past.0.borrow_mut().insert(written.checkpoint.version, Arc::clone(&written.edits));
            }
        }
        self.records.push(record.clone());
        self.table.apply(record).expect("it follows");
    }

    /// Submits; `Err(Ok(missing))` when it waits.
    pub(crate) fn try_submit(&mut self, submit: &Submit) -> Result<Accepted, Result<Vec<Version>, Error>> {
        let by = self.by();
        match self.table.judge(submit, by, &self.past) {
            Ok(Verdict::Write(accepted, record)) => {
                self.apply(record);
                Ok(accepted)
            }
            Ok(Verdict::Again(accepted)) => Ok(accepted),
            Ok(Verdict::Missing(missing)) => Err(Ok(missing)),
            Err(error) => Err(Err(error)),
        }
    }

    pub(crate) fn submit(&mut self, deps: &[Version], changes: &[Change]) -> Accepted {
        self.try_submit(&request(deps, changes)).expect("it is accepted")
    }

    /// The reason for which a submit is refused.
    pub(crate) fn refused(&mut self, submit: &Submit) -> Conflict {
        match self.try_submit(submit) {
            Err(Err(Error::Table(TableError::Conflict(conflict)))) => conflict,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn roll_back(&mut self, target: Version) -> Version {
        let by = self.by();
        let rollback = Rollback { target, ..Rollback::default() };
        let (accepted, record) = self.table.roll_back(&rollback, by, &self.past).expect("it is known");
        self.apply(record);
        accepted.head
    }

    pub(crate) fn at(&self, version: Version) -> BTreeMap<i64, i64> {
        content(&self.table.at(version, &self.past).expect("it is kept"))
    }
}

pub(crate) fn request(deps: &[Version], changes: &[Change]) -> Submit {
    Submit { deps: deps.to_vec(), changes: changes.to_vec(), author: "me".into(), ..Submit::default() }
}
