//! Ctrl-C in the middle.

use crate::command::Folder;

/// An endless stream into files.
fn endless(rate: u64) -> Folder {
    Folder::with(&format!(
        "CREATE TABLE t (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}',
             'fields.a.kind' = 'sequence', 'fields.a.start' = '0', 'fields.a.end' = '1000000000');
         CREATE TABLE files (a BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         CREATE TABLE console (a BIGINT) WITH ('connector' = 'print', 'format' = 'json');
         INSERT INTO files SELECT a FROM t;
         INSERT INTO console SELECT a FROM t;"
    ))
}

/// The numbers in the files that have their final names; nothing else is there.
fn written(folder: &Folder) -> Vec<u64> {
    let files = folder.files("out");
    for (name, text) in &files {
        let name = name.rsplit('/').next().unwrap_or(name);
        assert!(!name.starts_with(['.', '_']), "a temporary file is left: {name}");
        assert!(text.is_empty() || text.ends_with('\n'), "a line is cut off in {name}");
    }
    let mut numbers: Vec<u64> =
        files.iter().flat_map(|(_, text)| text.lines()).map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn the_first_stops_in_order() {
    for signal in ["INT", "TERM"] {
        let folder = endless(5_000);
        let mut running = folder.start(&["run", "pipeline.sql"]);
        running.until("the first rows", |stdout, _| (stdout.lines().count() > 100).then_some(()));
        running.signal(signal);
        let ended = running.end();
        ended.failed(130, &["stopping in order"]);
        let numbers = written(&folder);
        let printed = ended.stdout.lines().count() as u64;
        assert_eq!(numbers, (0..printed).collect::<Vec<_>>(), "both sinks have all rows up to the last");
        assert!(printed > 100);
    }
}

#[test]
fn the_second_stops_at_once() {
    let folder = Folder::with(
        "CREATE TABLE t (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000');
         CREATE TABLE slow (a BIGINT) WITH ('connector' = 'http', 'url' = 'http://127.0.0.1:9/none', 'format' = 'json',
             'sink.retries' = '1000000');
         INSERT INTO slow SELECT a FROM t;",
    );
    let mut running = folder.start(&["run", "pipeline.sql"]);
    running.until("its signals", |_, _| Some(()));
    // The signal may come before it listens to any; then it ends as any other program does.
    std::thread::sleep(std::time::Duration::from_millis(500));
    running.signal("INT");
    running.until("the first stop", |_, stderr| stderr.contains("stopping in order").then_some(()));
    running.signal("INT");
    running.end().failed(130, &["stopping at once"]);
}
