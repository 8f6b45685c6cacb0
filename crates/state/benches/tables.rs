//! What versioned tables cost: importing a large table, a small commit on it, looking up in it, opening it.
//!
//! `cargo bench -p tidemill-state --bench tables`. The store is a folder below the machine's own for temporary files.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;

use tidemill_base::Timestamp;
use tidemill_base::rand::Rng;
use tidemill_base::time::Stopwatch;
use tidemill_state::Replica;
use tidemill_state::store::{Memory, S3, open};
use tidemill_state::submit::Submit;
use tidemill_state::table::{Change, Column, Schema, TableStore, Type, Value};

const ROWS: u64 = 100_000;
const COMMITS: u64 = 500;
const LOOKUPS: u64 = 1_000_000;

fn schema() -> Schema {
    let columns = vec![
        Column::new("ip", Type::String(None)),
        Column::new("reason", Type::String(None)),
        Column::new("score", Type::Double),
        Column::new("added", Type::Timestamp(3)),
    ];
    Schema::new(columns, vec!["ip".into()]).expect("it is sound")
}

fn ip(n: u64) -> String {
    format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255)
}

fn put(schema: &Schema, n: u64) -> Change {
    let json = serde_json::json!({
        "ip": ip(n), "reason": "credential stuffing", "score": 0.5, "added": "2026-01-31 12:00:00.000",
    });
    Change::Put(schema.row_from_json(json.as_object().expect("an object")).expect("a row"))
}

fn told<T>(what: &str, count: u64, work: impl FnOnce() -> T) -> T {
    let watch = Stopwatch::start();
    let result = work();
    let took = watch.elapsed();
    println!(
        "{what:<28} {:>10.1} ms {:>12.3} us each",
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e6 / count as f64
    );
    result
}

fn commits(table: &mut TableStore, schema: &Schema) {
    for n in 0..COMMITS {
        let deps = vec![table.table().head().version()];
        let submit = Submit { deps, changes: vec![put(schema, ROWS + n)], ..Submit::default() };
        table.submit(submit, Timestamp(2)).expect("it is accepted");
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder.path().to_string_lossy(), &S3::default()).expect("a folder is a store");
    let (schema, replica) = (schema(), Replica::new(1, 1).expect("small"));
    let mut table = TableStore::create(Arc::clone(&store), "block", &schema, replica, "bench", Timestamp(0))
        .expect("there is none");

    let rows: Vec<Change> = told("rows from JSON", ROWS, || (0..ROWS).map(|n| put(&schema, n)).collect());
    let mut submit = |deps, changes, count, what: &str| {
        let submit = Submit { deps, changes, ..Submit::default() };
        told(what, count, || table.submit(submit, Timestamp(1)).expect("it is accepted"));
        vec![table.table().head().version()]
    };
    let head = submit(Vec::new(), rows.clone(), ROWS, "import, durable");
    submit(head, vec![put(&schema, 1)], 1, "one more row, durable");
    told("small commits, durable", COMMITS, || commits(&mut table, &schema));
    let snapshot = table.reader().newest();
    let mut rng = Rng::seeded(1);
    let keys: Vec<_> = (0..1_000).map(|_| schema.key(&[Value::String(ip(rng.below(ROWS)))]).expect("a key")).collect();
    told("lookups", LOOKUPS, || {
        for n in 0..LOOKUPS {
            black_box(snapshot.get(&keys[n as usize % keys.len()]).expect("it is there"));
        }
    });
    let mut memory = TableStore::create(Arc::new(Memory::new()), "block", &schema, replica, "bench", Timestamp(0))
        .expect("there is none");
    memory.submit(Submit { changes: rows, ..Submit::default() }, Timestamp(1)).expect("it is accepted");
    told("small commits, in memory", COMMITS, || commits(&mut memory, &schema));
    told("open", ROWS, || TableStore::open(Arc::clone(&store), "block", replica).expect("it is there"));
}
