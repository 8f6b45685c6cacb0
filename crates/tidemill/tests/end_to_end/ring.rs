//! Pipelines over a ring: fed by this process, killed, started again, stopped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidemill_journal::ring::{Producer, Refused, Ring, Shape};

use crate::command::{Folder, Running};
use crate::http::get;

/// A pipeline over a ring with options of its own.
fn pipeline(options: &str) -> String {
    format!(
        "SET 'state.snapshot-interval' = '50 ms';
         SET 'journal.segment-size' = '1 MiB';
         CREATE TABLE clicks (id BIGINT, page STRING)
         WITH ('connector' = 'ring', 'path' = 'clicks.ring', 'format' = 'json', 'ring.producers' = '2',
               'ring.slots' = '256', 'ring.slot-bytes' = '128'{options});
         CREATE MATERIALIZED VIEW pages AS SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids, SUM(id) AS total FROM clicks;
        "
    )
}

fn start(folder: &Folder, more: &[&str]) -> (Running, String) {
    let mut arguments = vec!["run", "pipeline.sql", "--listen", "127.0.0.1:0"];
    arguments.extend_from_slice(more);
    let mut running = folder.start(&arguments);
    let address = running.address();
    (running, address)
}

fn stop(running: Running) -> String {
    running.signal("INT");
    let ended = running.end();
    ended.failed(130, &[]);
    ended.stderr
}

/// Rows, distinct ids and their sum; nothing counted yet is zeros.
fn counted(address: &str) -> [u64; 3] {
    let rows = get(address, "/v1/views/pages");
    let value = |name: &str| rows[0][name].as_u64().unwrap_or_default();
    [value("n"), value("ids"), value("total")]
}

/// What a view holds over the ids from 0 up to `count`, each once.
fn once(count: u64) -> [u64; 3] {
    [count, count, count * count.saturating_sub(1) / 2]
}

fn producer(folder: &Folder) -> Producer {
    Ring::open(folder.path("clicks.ring")).and_then(Ring::producer).expect("the ring has a free place")
}

/// Appends a record, however often it has to be tried; false when it was told to stop before.
fn append(producer: &mut Producer, record: &str, stop: &AtomicBool) -> bool {
    loop {
        match producer.try_append(record.as_bytes()) {
            Ok(_) => return true,
            Err(Refused::Full { .. }) if !stop.load(Ordering::Relaxed) => thread::sleep(Duration::from_micros(200)),
            Err(Refused::Full { .. }) => return false,
            Err(refused) => panic!("{refused}"),
        }
    }
}

fn record(id: u64) -> String {
    format!("{{\"id\": {id}, \"page\": \"p{}\"}}", id % 7)
}

/// Appends records 0 to `count` beside, a few at a time so that the engine is killed in the middle of them.
fn load(ring: &Path, count: u64, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (mut producer, stop) = (Ring::open(ring).and_then(Ring::producer).expect("a free place"), stop.clone());
    thread::spawn(move || {
        for id in 0..count {
            if !append(&mut producer, &record(id), &stop) {
                return;
            }
            if id % 50 == 49 {
                thread::sleep(Duration::from_millis(2));
            }
        }
    })
}

/// A producer appends ten thousand records while the engine is killed again and again.
fn check_kills(options: &str) {
    const RECORDS: u64 = 10_000;
    let folder = Folder::with(&pipeline(options));
    let (running, _) = start(&folder, &["--lanes", "1"]);
    let done = Arc::new(AtomicBool::new(false));
    let load = load(&folder.path("clicks.ring"), RECORDS, &done);
    let mut kills = 0;
    let mut current = Some(running);
    for pause in [120, 30, 250, 5, 90, 60] {
        thread::sleep(Duration::from_millis(pause));
        let running: Running = current.take().expect("one runs");
        running.signal("KILL");
        assert_eq!(running.end().code, None, "it was killed");
        kills += u32::from(!load.is_finished());
        let lanes = ["1", "2", "3"][kills as usize % 3];
        current = Some(start(&folder, &["--lanes", lanes]).0);
    }
    assert!(kills >= 2, "it is killed under load");
    let mut running = current.take().expect("one runs");
    let address = running.address();
    running.until("everything", |_, _| (counted(&address)[0] >= RECORDS).then_some(()));
    done.store(true, Ordering::Relaxed);
    load.join().expect("it only appends");
    assert_eq!(counted(&address), once(RECORDS), "each is counted once");
    stop(running);
    let (running, address) = start(&folder, &[]);
    assert_eq!(counted(&address), once(RECORDS), "and stays so");
    stop(running);
    let replayed = folder.run(&["replay", "pipeline.state", "--verify"]);
    assert!(replayed.stderr.contains("gave what they gave"), "{replayed:?}");
}

#[test]
fn each_record_is_counted_once_through_kills() {
    check_kills("");
}

#[test]
fn each_record_is_counted_once_when_kept_against_kills_alone() {
    check_kills(", 'durability' = 'process'");
}

#[test]
fn slots_are_given_back_when_records_are_kept() {
    let folder = Folder::with(&pipeline(""));
    let (mut running, address) = start(&folder, &[]);
    let (mut producer, go_on) = (producer(&folder), AtomicBool::new(false));
    for id in 0..1_000 {
        assert!(append(&mut producer, &record(id), &go_on));
    }
    running.until("the release", |_, _| (producer.released() == 1_000).then_some(()));
    running.until("the count", |_, _| (counted(&address) == once(1_000)).then_some(()));
    stop(running);
    assert!(folder.path("pipeline.state").is_dir(), "a ring is nowhere else, so there is a journal unasked");
}

#[test]
fn what_comes_while_nothing_runs_is_read_at_the_next_start() {
    let folder = Folder::with(&pipeline(""));
    stop(start(&folder, &[]).0);
    let (mut producer, go_on) = (producer(&folder), AtomicBool::new(false));
    for id in 0..100 {
        assert!(append(&mut producer, &record(id), &go_on));
    }
    let (mut running, address) = start(&folder, &[]);
    running.until("them", |_, _| (counted(&address) == once(100)).then_some(()));
    stop(running);
}

#[test]
fn without_state_records_are_handed_on_and_released() {
    let folder = Folder::with(&pipeline(""));
    let (mut running, address) = start(&folder, &["--state", "none"]);
    let (mut producer, go_on) = (producer(&folder), AtomicBool::new(false));
    for id in 0..1_000 {
        assert!(append(&mut producer, &record(id), &go_on));
    }
    running.until("the count", |_, _| (counted(&address) == once(1_000)).then_some(()));
    running.until("the release", |_, _| (producer.released() == 1_000).then_some(()));
    stop(running);
    assert!(!folder.path("pipeline.state").exists());
}

/// The shared library of the ring that Cargo has built beside this test; none where it has not, or cannot.
fn library() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.to_path_buf();
    let libraries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libtidemill_journal") && name.ends_with(".so")
    });
    libraries.max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
}

#[test]
fn a_c_program_feeds_a_pipeline() {
    let journal = Path::new(env!("CARGO_MANIFEST_DIR")).join("../journal");
    let (Some(library), Ok(_)) = (library(), Command::new("cc").arg("--version").output()) else {
        println!("skipped: there is no C compiler `cc`, or no shared library");
        return;
    };
    let folder = Folder::with(
        "CREATE TABLE lines (line STRING)
         WITH ('connector' = 'ring', 'path' = 'c.ring', 'format' = 'csv', 'ring.slot-bytes' = '64');
         CREATE MATERIALIZED VIEW pages AS SELECT COUNT(*) AS n, COUNT(DISTINCT line) AS ids, 0 AS total FROM lines;",
    );
    let mut cc = Command::new("cc");
    cc.arg("-std=gnu11").arg("-I").arg(journal.join("include")).arg(journal.join("tests/ring_c/append.c"));
    let built = cc.arg(&library).arg("-o").arg(folder.path("append")).status().expect("cc runs");
    assert!(built.success());
    let (mut running, address) = start(&folder, &[]);
    let appended = Command::new(folder.path("append")).arg(folder.path("c.ring")).args(["5000", "plain"]).status();
    assert!(appended.expect("it was built").success());
    running.until("its records", |_, _| (counted(&address) == [5_000, 5_000, 0]).then_some(()));
    stop(running);
}

#[test]
fn a_bad_record_is_an_error_or_counted() {
    let folder = Folder::with(&pipeline(""));
    let (mut running, _) = start(&folder, &[]);
    assert!(producer(&folder).try_append(b"{\"id\": one}").is_ok());
    let mut waited = 0;
    while running.is_running() && waited < 500 {
        thread::sleep(Duration::from_millis(10));
        waited += 1;
    }
    running.end().failed(1, &["table 'clicks'", "clicks.ring", "help: correct the record"]);

    let folder = Folder::with(&pipeline(", 'json.ignore-parse-errors' = 'true'"));
    let (mut running, address) = start(&folder, &[]);
    let mut producer = producer(&folder);
    for record in ["{\"id\": one}", "{\"id\": 0}\n{\"id\": 1}\n", "", "{\"id\": 2}"] {
        assert!(producer.try_append(record.as_bytes()).is_ok());
    }
    running.until("the good ones", |_, _| (counted(&address) == once(3)).then_some(()));
    running.until("the release", |_, _| (producer.released() == 4).then_some(()));
    stop(running);
}

#[test]
fn says_what_is_in_the_way_before_anything_runs() {
    let folder = Folder::with(&pipeline(""));
    let taken = Ring::create(folder.path("clicks.ring"), Shape { producers: 2, slots: 256, slot_bytes: 128 });
    let reader = taken.and_then(Ring::consumer).expect("it is new");
    folder.run(&["run", "pipeline.sql"]).failed(1, &["clicks.ring is being read already", "pipeline.sql:3", "help: "]);
    drop(reader);
    folder.write("pipeline.sql", &pipeline("").replace("'256'", "'512'"));
    let ended = folder.run(&["run", "pipeline.sql"]);
    ended.failed(3, &["'ring.slots' = '512', but the ring clicks.ring was made with 256", "leave 'ring.slots' out"]);
    folder.write("pipeline.sql", &pipeline("").replace("'256'", "'300'"));
    let ended = folder.run(&["run", "pipeline.sql"]);
    ended.failed(3, &["'ring.slots' = '300' is not a power of two"]);
    folder.write("clicks.ring", "something else");
    folder.write("pipeline.sql", &pipeline(""));
    folder.run(&["run", "pipeline.sql"]).failed(3, &["clicks.ring is no ring"]);
}
