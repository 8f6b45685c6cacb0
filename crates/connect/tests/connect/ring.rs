//! A ring as a source: what is kept, handed on and released, and in which order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tidemill_base::Explain;
use tidemill_circuit::decode::{Block, BlockData, Decoded};
use tidemill_connect::{Full, Keep, Note, Source, SourceEvent};
use tidemill_journal::ring::{Producer, Ring};
use tidemill_stage::{Cancel, Graph};

use crate::common::source;

/// What was kept of a source, in order; durable up to a place.
#[derive(Default)]
struct Kept {
    bodies: Mutex<Vec<(u64, u32, Vec<u8>)>>,
    durable: AtomicU64,
    let_go: Mutex<Vec<u64>>,
    /// How often there is no room before there is.
    full: AtomicU64,
}

impl Keep for Kept {
    fn keep(&self, first_record: u64, records: u32, _: &Note<'_>, body: &[u8]) -> Result<u64, Full> {
        if self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(Full::Waiting { records: 0 });
        }
        let mut bodies = self.bodies.lock().unwrap();
        bodies.push((first_record, records, body.to_vec()));
        Ok(bodies.len() as u64)
    }

    fn is_durable(&self, place: u64) -> bool {
        place <= self.durable.load(Ordering::Relaxed)
    }

    fn let_go(&self, place: u64) {
        self.let_go.lock().unwrap().push(place);
    }
}

impl Kept {
    fn all_durable() -> Arc<Kept> {
        Arc::new(Kept { durable: AtomicU64::new(u64::MAX), ..Kept::default() })
    }
}

/// A ring in a folder of its own, and what reads it.
struct Table {
    folder: tempfile::TempDir,
    options: Vec<(&'static str, &'static str)>,
}

impl Table {
    fn new(options: &[(&'static str, &'static str)]) -> Table {
        Table { folder: tempfile::tempdir().expect("a temporary folder"), options: options.to_vec() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("t.ring")
    }

    fn open(&self) -> Box<dyn Source> {
        let path = self.path();
        let mut pairs = vec![("connector", "ring"), ("path", path.to_str().expect("a plain path"))];
        pairs.extend_from_slice(&self.options);
        source(&pairs).expect("good options")
    }

    /// A source that has its ring, which is made when there is none.
    fn attached(&self) -> Box<dyn Source> {
        let mut source = self.open();
        source.attach().expect("the ring is free");
        source
    }
}

fn producer(path: &Path) -> Producer {
    Ring::open(path).and_then(Ring::producer).expect("a free place")
}

/// What a source gives until `until` says so; it is then stopped in order.
fn read(source: Box<dyn Source>, until: impl Fn(&[Block]) -> bool + Send + 'static) -> Result<Vec<Block>, String> {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let stream = graph.source("source", move |out, cancel| source.read(out, cancel));
    let blocks = Arc::new(Mutex::new(Vec::new()));
    let (taken, stopper) = (Arc::clone(&blocks), cancel.clone());
    graph.sink("collect", stream, move |input, _| {
        if until(&[]) {
            stopper.drain();
        }
        while let Some(event) = input.recv()? {
            if let SourceEvent::Block(block) = event {
                let mut taken = taken.lock().unwrap();
                taken.push(block);
                if until(&taken) {
                    stopper.drain();
                }
            }
        }
        Ok(())
    });
    graph.run().map_err(|error| error.to_string())?;
    Ok(std::mem::take(&mut *blocks.lock().unwrap()))
}

fn records(blocks: &[Block]) -> u64 {
    blocks.iter().map(|block| u64::from(block.records)).sum()
}

/// The ids in blocks and the reasons of what was left out.
fn decoded(source: &dyn Source, blocks: &[Block]) -> (Vec<i64>, Vec<String>) {
    use arrow_array::cast::AsArray;
    let mut decoder = source.decoder().expect("it takes bytes")().expect("good options");
    let mut out = Decoded::default();
    for block in blocks {
        let BlockData::Bytes(bytes) = &block.data else { panic!("a ring gives bytes") };
        decoder.decode(bytes, block.first_record, &mut out).expect("what is bad is left out");
    }
    let column = |batch: &arrow_array::RecordBatch| {
        batch.column(0).as_primitive::<arrow_array::types::Int64Type>().values().to_vec()
    };
    let ids = out.deltas.iter().flat_map(|piece| column(piece.delta.batch())).collect();
    (ids, out.rejected.into_iter().map(|rejected| rejected.reason).collect())
}

#[test]
fn records_are_kept_before_they_are_handed_on_and_released_after() {
    let table = Table::new(&[("format", "json")]);
    let (mut source, kept) = (table.attached(), Kept::all_durable());
    source.keep_in(kept.clone());
    let mut producer = producer(&table.path());
    for id in 0..500 {
        producer.try_append(format!("{{\"id\": {id}}}").as_bytes()).expect("there is room");
    }
    let seen = kept.clone();
    let blocks = read(source, move |blocks| {
        assert!(seen.bodies.lock().unwrap().len() >= blocks.len(), "kept before it is handed on");
        records(blocks) == 500
    });
    let blocks = blocks.expect("it is stopped in order");
    assert_eq!(producer.released(), 500);
    let bodies = kept.bodies.lock().unwrap();
    for (block, (first_record, records, body)) in blocks.iter().zip(bodies.iter()) {
        let BlockData::Bytes(bytes) = &block.data else { panic!("a ring gives bytes") };
        assert_eq!((block.first_record, block.records, bytes.as_ref()), (*first_record, *records, body.as_slice()));
    }
    assert_eq!(*kept.let_go.lock().unwrap(), (1..=bodies.len() as u64).collect::<Vec<_>>());
    assert_eq!(decoded(table.open().as_ref(), &blocks), ((0..500).collect(), vec![]));
}

#[test]
fn what_is_not_durable_stays_in_the_ring() {
    let table = Table::new(&[("format", "json")]);
    let (mut source, kept) = (table.attached(), Arc::new(Kept::default()));
    source.keep_in(kept.clone());
    let mut producer = producer(&table.path());
    producer.try_append(b"{\"id\": 1}").expect("there is room");
    let released = Arc::new(AtomicU64::new(u64::MAX));
    let (looked, flush) = (released.clone(), kept.clone());
    let blocks = read(source, move |blocks| {
        if blocks.len() == 1 {
            looked.store(producer.released(), Ordering::Relaxed);
            flush.durable.store(1, Ordering::Relaxed);
        }
        blocks.len() == 1
    });
    assert_eq!(blocks.expect("it is stopped in order").len(), 1);
    assert_eq!(released.load(Ordering::Relaxed), 0, "it was handed on before it was durable");
    assert_eq!(*kept.let_go.lock().unwrap(), [1], "and let go of after");
}

#[test]
fn what_was_kept_does_not_come_again() {
    let table = Table::new(&[("format", "json")]);
    let (mut source, kept) = (table.attached(), Arc::new(Kept::default()));
    source.keep_in(kept.clone());
    let mut producer = producer(&table.path());
    producer.try_append(b"{\"id\": 1}").expect("there is room");
    // The run before is gone after it was kept and before it was released: nothing ever became durable.
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let stream = graph.source("source", move |out, cancel| source.read(out, cancel));
    let stopper = cancel.clone();
    graph.sink("kill", stream, move |input, _| {
        while let Some(event) = input.recv()? {
            if matches!(event, SourceEvent::Block(_)) {
                stopper.abort();
            }
        }
        Ok(())
    });
    assert!(graph.run().is_err(), "it was aborted");
    assert_eq!(producer.released(), 0);

    let body = kept.bodies.lock().unwrap()[0].2.clone();
    let mut source = table.open();
    source.resume_behind(&body);
    source.put_back(Block {
        partition: 0,
        from: 0,
        to: 1,
        first_record: 0,
        records: 1,
        data: BlockData::Bytes(body.into()),
    });
    source.attach().expect("the reader before is gone");
    assert_eq!(producer.released(), 1);
    source.keep_in(Kept::all_durable());
    producer.try_append(b"{\"id\": 2}").expect("there is room");
    let blocks = read(source, |blocks| blocks.len() == 2).expect("it is stopped in order");
    assert_eq!(blocks.iter().map(|block| (block.from, block.to)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
    assert_eq!(decoded(table.open().as_ref(), &blocks).0, [1, 2]);
}

#[test]
fn a_mark_of_another_ring_means_nothing() {
    let table = Table::new(&[("format", "json")]);
    drop(table.attached());
    let mut producer = producer(&table.path());
    producer.try_append(b"{\"id\": 1}").expect("there is room");
    let mut source = table.open();
    source.resume_behind(&[7; 64]);
    source.attach().expect("nobody reads");
    assert_eq!(read(source, |blocks| blocks.len() == 1).expect("it is stopped in order").len(), 1);
    assert_eq!(producer.released(), 1, "without a journal it is released when it is handed on");
}

#[test]
fn a_full_journal_is_waited_for() {
    let table = Table::new(&[("format", "csv")]);
    let mut source = table.attached();
    let kept = Kept::all_durable();
    kept.full.store(3, Ordering::Relaxed);
    source.keep_in(kept);
    producer(&table.path()).try_append(b"1,a").expect("there is room");
    assert_eq!(read(source, |blocks| blocks.len() == 1).expect("it is stopped in order").len(), 1);
}

#[test]
fn a_stop_while_the_journal_is_full_leaves_the_rest_in_the_ring() {
    let table = Table::new(&[("format", "csv")]);
    let mut source = table.attached();
    let kept = Kept::all_durable();
    kept.full.store(u64::MAX, Ordering::Relaxed);
    source.keep_in(kept);
    let mut producer = producer(&table.path());
    producer.try_append(b"1,a").expect("there is room");
    assert_eq!(read(source, |_| true).expect("it is stopped in order").len(), 0);
    assert_eq!(producer.released(), 0);
}

/// Spoils the payload of the first record of a ring.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the file is ours");
    let text = b"\"spoiled\"";
    let at = bytes.windows(text.len()).position(|window| window == text).expect("it was appended");
    bytes[at + 1] ^= 1;
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("the file is ours");
    file.write_all_at(&bytes[at..at + text.len()], at as u64).expect("the file is ours");
}

#[test]
fn a_damaged_record_is_an_error_or_a_bad_record() {
    for lenient in ["false", "true"] {
        let table = Table::new(&[("format", "json"), ("json.ignore-parse-errors", lenient)]);
        let source = table.attached();
        let mut producer = producer(&table.path());
        for record in ["{\"id\": 1}", "{\"id\": 2, \"name\": \"spoiled\"}", "{\"id\": 3}"] {
            producer.try_append(record.as_bytes()).expect("there is room");
        }
        spoil(&table.path());
        let read = read(source, |blocks| records(blocks) == 3);
        match lenient {
            "true" => {
                let (ids, rejected) = decoded(table.open().as_ref(), &read.expect("bad records are left out"));
                assert_eq!((ids, rejected.len()), (vec![1, 3], 1));
                assert_eq!(rejected[0], "the ring's record at position 1 is damaged");
            }
            _ => {
                let error = read.expect_err("bad records are errors");
                assert!(error.contains("table 't': the ring's record at position 1 is damaged"), "{error}");
            }
        }
    }
}

#[test]
fn has_to_be_the_only_reader_and_of_the_shape_that_is_there() {
    let table = Table::new(&[("format", "json"), ("ring.slots", "64")]);
    let first = table.attached();
    let error = table.open().attach().expect_err("a ring has one reader");
    assert!(error.to_string().ends_with("is being read already") && error.code() == "TM1155", "{error}");
    drop(first);
    drop(table.attached());
    let other = Table { options: vec![("format", "json"), ("ring.slots", "128")], ..table };
    let error = other.open().attach().expect_err("it was made with 64");
    assert!(error.to_string().contains("'ring.slots' = '128'") && error.code() == "TM3005", "{error}");
}

#[test]
fn stops_though_nothing_comes() {
    let table = Table::new(&[("format", "json")]);
    let source = table.attached();
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let stream = graph.source("source", move |out, cancel| source.read(out, cancel));
    graph.sink("none", stream, move |input, _| {
        while input.recv()?.is_some() {}
        Ok(())
    });
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        cancel.drain();
    });
    graph.run().expect("it is stopped in order");
    stopper.join().expect("it only stops");
}
