//! Records and bases of versioned tables: whatever the bytes are, they are one that can be used, or an error.

use std::sync::{Arc, LazyLock};

use tidemill_state::Replica;
use tidemill_state::store::{Memory, Store};
use tidemill_state::submit::{Rollback, Submit};
use tidemill_state::table::{Change, Column, Merge, Record, Schema, Table, TableStore, Type, Value, decode_base};

use super::state::{NOW, objects, words};

const RECORD: &[u8; 4] = b"TMTL";
const BASE: &[u8; 4] = b"TMTB";
const HEADER_BYTES: usize = 48;

/// The objects of a table that has been changed, merged, rolled back, fenced and pruned.
static STORE: LazyLock<Arc<Memory>> = LazyLock::new(|| {
    let store = Arc::new(Memory::new());
    fill(store.clone());
    store
});

/// The table that records are applied to: as it was made, and as it was in the end.
static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let empty = Arc::new(Memory::new());
    [create(empty), create(STORE.clone())].iter().map(|store| store.table().clone()).collect()
});

fn create(store: Arc<dyn Store>) -> TableStore {
    let decimal = Type::Decimal { precision: 10, scale: 2 };
    let columns = vec![
        Column::new("ip", Type::String(None)).not_null(),
        Column::new("hits", Type::BigInt).merged(Merge::Sum),
        Column::new("limit", decimal),
        Column::new("tags", Type::Array(Box::new(Type::String(None)))),
        Column::new("since", Type::Timestamp(3)),
    ];
    let schema = Schema::new(columns, vec!["ip".to_string()]).expect("the columns fit together");
    let replica = Replica::new(1, 1).expect("small numbers");
    TableStore::create(store, "blocklist", &schema, replica, "ann", NOW).expect("memory can be written")
}

fn fill(store: Arc<dyn Store>) {
    let mut table = create(store);
    let schema = table.table().schema().clone();
    let put = |ip: &str, hits: i64| {
        let tags = Value::Array(vec![Value::String("bot".to_string()), Value::Null]);
        let values =
            [Value::String(ip.to_string()), Value::Integer(hits), Value::Decimal(125), tags, Value::Timestamp(7)];
        Change::Put(schema.row(&values).expect("values of the columns"))
    };
    let start = table.table().head().version();
    let mut deps = vec![start];
    let mut first = start;
    for round in 0..20_i64 {
        let changes = vec![put(&format!("10.0.0.{}", round % 5), round), put(&format!("10.0.1.{round}"), round)];
        let changes = if round == 7 { vec![Change::Delete(changes[0].key())] } else { changes };
        let epoch = table.table().epoch();
        let submit =
            Submit { deps: deps.clone(), changes, merge: true, author: "ann".to_string(), epoch, ..Submit::default() };
        table.submit(submit, NOW).expect("it rests on the head or can be merged");
        let head = table.table().head().version();
        if round == 0 {
            first = head;
        }
        // Every third is made on what the one before it was made on, so that the two are merged.
        if round % 3 != 2 {
            deps = vec![head];
        }
    }
    let rollback = Rollback { target: first, author: "bob".to_string(), ..Rollback::default() };
    table.roll_back(&rollback, NOW).expect("the version is there");
    table.fence(3, "bob", NOW).expect("the epoch is new");
    let head = table.table().head().version();
    table.prune(head, "bob", NOW).expect("the version was the head");
}

/// Records and bases as tables write them, and their bodies without compression.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut kinds = objects(&**STORE, "tables", RECORD);
    // The shortest and the longest; those between are of the same kinds.
    kinds.truncate(8);
    kinds.extend(objects(&**STORE, "tables", BASE).into_iter().take(2));
    kinds.retain(|object| object.len() <= crate::engine::INPUT_BYTES_MAX);
    let open = |object: &[u8]| zstd::decode_all(&object[HEADER_BYTES..]).expect("what was packed can be unpacked");
    let opened: Vec<_> = kinds.iter().map(|object| open(object)).collect();
    kinds.into_iter().chain(opened).filter(|seed| seed.len() <= crate::engine::INPUT_BYTES_MAX).collect()
}

/// Reads `input` as a record, as a base, and as the body of each.
pub fn run(input: &[u8]) -> Vec<String> {
    let objects = [input.to_vec(), resealed(input), sealed(RECORD, input), sealed(BASE, input)];
    objects.iter().flat_map(|object| [record(object), base(object)]).collect()
}

fn record(object: &[u8]) -> String {
    let record = match Record::decode("r", object) {
        Ok(record) => record,
        Err(error) => return format!("record: {}", words(&error)),
    };
    let again = Record::decode("r", &record.encode()).expect("what was written can be read");
    assert_eq!(again, record, "a round trip changes nothing");
    let kind = match &record {
        Record::Create { .. } => "create",
        Record::Commit { .. } => "commit",
        Record::Fence { .. } => "fence",
        Record::Prune { .. } => "prune",
    };
    let applied = TABLES.iter().map(|table| {
        let mut table = table.clone();
        let before = table.sequence();
        match table.apply(record.clone()) {
            Ok(()) => {
                look(&table);
                "applied".to_string()
            }
            Err(error) => {
                assert_eq!(table.sequence(), before, "a table that refuses a record is as it was");
                words(&error)
            }
        }
    });
    format!("{kind}: {}", applied.collect::<Vec<_>>().join(", "))
}

fn base(object: &[u8]) -> String {
    match decode_base("b", "blocklist", object) {
        Ok(table) => {
            look(&table);
            format!("a base of {} rows", table.head().count().min(3))
        }
        Err(error) => format!("base: {}", words(&error)),
    }
}

/// Everything of a table can be read.
fn look(table: &Table) {
    let (schema, head) = (table.schema(), table.head());
    for row in head.rows().iter() {
        assert_eq!(head.get(&row.key()), Some(row), "a row is found by its key");
    }
    for checkpoint in table.history().newest_first() {
        assert!(table.history().get(checkpoint.version).is_some(), "a checkpoint is found by its version");
        table.history().maximal(&checkpoint.deps);
    }
    assert!(!schema.key_names().is_empty(), "a table has a key");
}

/// The object with its checksum made right.
fn resealed(input: &[u8]) -> Vec<u8> {
    let Some((header, packed)) = input.split_at_checked(HEADER_BYTES) else { return input.to_vec() };
    [&header[..16], &digest(&header[..16], packed)[..], packed].concat()
}

/// An object of this body.
fn sealed(magic: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let packed = zstd::encode_all(body, 1).expect("memory can be compressed");
    let header = [&magic[..], &[1, 0, 0, 0], &(body.len() as u64).to_le_bytes()].concat();
    [&header[..], &digest(&header, &packed)[..], &packed].concat()
}

fn digest(header: &[u8], packed: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(header).update(packed).finalize().as_bytes()
}
