//! Tables that an earlier build wrote are read by this one, as they were.
//!
//! `TIDEMILL_WRITE_FIXTURES=1 cargo test -p tidemill-state --test tables` writes the folder anew, under the format's
//! number; what is there already is never changed.

use std::path::PathBuf;
use std::sync::Arc;

use tidemill_base::Timestamp;
use tidemill_state::store::{Memory, S3, Store, open};
use tidemill_state::submit::{Rollback, Submit};
use tidemill_state::table::{Answer, Change, Column, Merge, Schema, TableStore, Type, Value};
use tidemill_state::{Replica, Version};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tables-v1")
}

fn schema() -> Schema {
    let decimal = Type::Decimal { precision: 10, scale: 2 };
    let columns = vec![
        Column::new("flag", Type::Boolean),
        Column::new("id", Type::BigInt),
        Column::new("name", Type::String(Some(20))).not_null(),
        Column::new("limit", decimal),
        Column::new("hits", Type::Int).merged(Merge::Sum),
        Column::new("share", Type::Double),
        Column::new("raw", Type::Bytes(None)),
        Column::new("day", Type::Date),
        Column::new("at", Type::Time(3)),
        Column::new("seen", Type::TimestampLtz(6)),
        Column::new("tags", Type::Array(Box::new(Type::String(None)))).merged(Merge::Union),
    ];
    Schema::new(columns, vec!["name".into(), "id".into()]).expect("it is sound")
}

fn row(id: i64, hits: i64) -> Change {
    let json = serde_json::json!({
        "flag": true, "id": id, "name": format!("name-{id}"), "limit": "12.50", "hits": hits, "share": 0.25,
        "raw": "AAECAw==", "day": "2026-11-22", "at": "12:34:56.789", "seen": "2026-11-22 12:34:56.789012Z",
        "tags": ["a", null],
    });
    Change::Put(schema().row_from_json(json.as_object().expect("an object")).expect("a row"))
}

/// A table with a commit, merges, a rollback, a fence and a base.
fn write(store: Arc<dyn Store>) -> TableStore {
    let replica = Replica::new(1, 1).expect("small");
    let mut table = TableStore::create(store, "rules", &schema(), replica, "me", Timestamp(0)).expect("there is none");
    let submit = |table: &mut TableStore, deps: Vec<Version>, changes: Vec<Change>| {
        let submit = Submit { deps, changes, author: "me".into(), message: "why".into(), ..Submit::default() };
        match table.submit(submit, Timestamp(1)).expect("it is not refused") {
            Answer::Accepted(accepted) => accepted.head,
            parked => panic!("{parked:?}"),
        }
    };
    let first = submit(&mut table, Vec::new(), (0..20).map(|id| row(id, 1)).collect());
    submit(&mut table, vec![first], vec![row(1, 3), row(30, 0)]);
    let key = schema().key(&[Value::String("name-2".into()), Value::Integer(2)]).expect("a key");
    let merged = submit(&mut table, vec![first], vec![row(1, 2), Change::Delete(key)]);
    table.roll_back(&Rollback { target: first, ..Rollback::default() }, Timestamp(2)).expect("it is kept");
    table.roll_back(&Rollback { target: merged, ..Rollback::default() }, Timestamp(3)).expect("it is kept");
    table.fence(3, "me", Timestamp(4)).expect("it is the first");
    for id in 40..55 {
        let deps = vec![table.table().head().version()];
        let submit = Submit { deps, epoch: 3, changes: vec![row(id, 0)], ..Submit::default() };
        table.submit(submit, Timestamp(5)).expect("it is not refused");
    }
    table
}

#[test]
fn tables_of_earlier_builds_are_read() {
    if std::env::var_os("TIDEMILL_WRITE_FIXTURES").is_some() {
        write(open(&folder().to_string_lossy(), &S3::default()).expect("a folder is a store"));
    }
    // Read from a copy, for a fixture stays as it is.
    let fixture = open(&folder().to_string_lossy(), &S3::default()).expect("a folder is a store");
    let copy = Memory::new();
    let names = fixture.list("tables").expect("it can be listed");
    assert!(names.iter().any(|name| name.contains("/base/")), "the fixture has a base: {names:?}");
    for name in names {
        copy.put_new(&name, fixture.get(&name).expect("it is there")).expect("the copy is empty");
    }
    let replica = Replica::new(1, 2).expect("small");
    let old = TableStore::open(Arc::new(copy.clone()), "rules", replica).expect("it can be read");
    let new = write(Arc::new(Memory::new()));
    assert_eq!(old.graph(), new.graph());
    assert_eq!(old.table().schema(), new.table().schema());
    for checkpoint in old.log(usize::MAX) {
        let rows = |table: &TableStore| {
            let snapshot = table.at(checkpoint.version).expect("it is kept");
            let json = |row| serde_json::Value::Object(schema().row_to_json(row).expect("its own")).to_string();
            (snapshot.root(), snapshot.rows().iter().map(json).collect::<Vec<_>>())
        };
        assert_eq!(rows(&old), rows(&new), "version {}", checkpoint.version);
    }
}
