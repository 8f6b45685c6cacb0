//! Files written: formats, folders, rolling, abort, and what stands in the way.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::common::{columns, delta, open_sink, rows, sink_of, source, table, updating_sink, write_all};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use tidemill_base::Explain;
use tidemill_circuit::Delta;
use tidemill_connect::{Delivery, Staged, Table};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn options<'a>(path: &'a Path, format: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("connector", "filesystem"), ("path", path.to_str().expect("a plain path")), ("format", format)]
}

/// All files below, hidden ones too, as paths from `folder`.
fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, files: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, root, files);
            } else {
                files.push(path.strip_prefix(root).expect("below the root").display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

#[test]
fn what_is_written_reads_back() {
    for format in ["json", "csv", "parquet"] {
        let folder = folder();
        let out = folder.path().join("out");
        let steps = [delta(&[(1, "a"), (2, "b,\"c\"\n")]), delta(&[]), delta(&[(3, "Zürich")])];
        let summary = write_all(open_sink(&options(&out, format)).expect("a folder"), &steps).expect("room");
        assert_eq!((summary.rows, summary.pieces), (3, 1));
        assert_eq!(files(&out), [format!("part-00000.{format}")]);
        let expected = vec![(1, "a".to_string()), (2, "b,\"c\"\n".to_string()), (3, "Zürich".to_string())];
        assert_eq!(rows(source(&options(&out, format)).expect("one file")), Ok(expected), "{format}");
    }
}

#[test]
fn a_file_has_its_name_only_when_it_is_whole() {
    let folder = folder();
    let mut sink = open_sink(&options(folder.path(), "json")).expect("a folder");
    sink.write(1, &[delta(&[(1, "a")])]).expect("room");
    assert_eq!(files(folder.path()), [".part-00000.json.tmp"]);
    sink.finish().expect("room");
    assert_eq!(files(folder.path()), ["part-00000.json"]);
}

#[test]
fn an_aborted_run_leaves_nothing() {
    let folder = folder();
    let mut table = table(columns(), &options(folder.path(), "json"));
    table.partitioned_by = vec!["name".to_string()];
    let mut sink = sink_of(table).expect("a folder");
    sink.write(1, &[delta(&[(1, "a"), (2, "b")])]).expect("room");
    assert_eq!(files(folder.path()).len(), 2);
    sink.abort();
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn a_second_run_adds_files() {
    let folder = folder();
    for run in 0..3 {
        let sink = open_sink(&options(folder.path(), "csv")).expect("a folder");
        write_all(sink, &[delta(&[(run, "x")])]).expect("room");
    }
    assert_eq!(files(folder.path()), ["part-00000.csv", "part-00001.csv", "part-00002.csv"]);
    assert_eq!(fs::read_to_string(folder.path().join("part-00002.csv")).expect("it is there").trim(), "2,x");
}

#[test]
fn what_a_dead_run_left_is_not_touched() {
    let folder = folder();
    fs::write(folder.path().join(".part-00000.json.tmp"), "half").expect("room");
    write_all(open_sink(&options(folder.path(), "json")).expect("a folder"), &[delta(&[(1, "a")])]).expect("room");
    assert_eq!(files(folder.path()), [".part-00000.json.tmp", "part-00001.json"]);
}

#[test]
fn writes_a_folder_for_each_value() {
    let folder = folder();
    let mut pairs = options(folder.path(), "json");
    pairs.push(("sink.partition-commit.policy.kind", "success-file"));
    let mut table = table(columns(), &pairs);
    table.partitioned_by = vec!["name".to_string()];
    let steps = [delta(&[(1, "a"), (2, "b/c"), (3, "a")]), delta(&[(4, ""), (5, "a")])];
    let summary = write_all(sink_of(table).expect("a folder"), &steps).expect("room");
    assert_eq!((summary.rows, summary.pieces), (5, 3));
    assert_eq!(
        files(folder.path()),
        [
            "name=__HIVE_DEFAULT_PARTITION__/_SUCCESS",
            "name=__HIVE_DEFAULT_PARTITION__/part-00000.json",
            "name=a/_SUCCESS",
            "name=a/part-00000.json",
            "name=b%2Fc/_SUCCESS",
            "name=b%2Fc/part-00000.json",
        ]
    );
    let written = fs::read_to_string(folder.path().join("name=a/part-00000.json")).expect("it is there");
    assert_eq!(written, "{\"id\":1}\n{\"id\":3}\n{\"id\":5}\n");
}

#[test]
fn rolls_by_size() {
    let folder = folder();
    let mut pairs = options(folder.path(), "json");
    pairs.push(("sink.rolling-policy.file-size", "1 kb"));
    let steps: Vec<Delta> = (0..100).map(|id| delta(&[(id, "a name of some length")])).collect();
    let mut sink = open_sink(&pairs).expect("a folder");
    for (step, delta) in steps.iter().enumerate() {
        sink.write(step as u64, std::slice::from_ref(delta)).expect("room");
    }
    // Those that are whole can be seen already.
    assert!(files(folder.path()).len() > 3);
    let summary = sink.finish().expect("room");
    let sizes: Vec<u64> = files(folder.path())
        .iter()
        .map(|name| fs::metadata(folder.path().join(name)).expect("it is there").len())
        .collect();
    assert_eq!((sizes.len() as u64, sizes.iter().sum()), (summary.pieces, summary.bytes));
    assert!(sizes[..sizes.len() - 1].iter().all(|size| (1_024..1_100).contains(size)), "{sizes:?}");
    assert_eq!(rows(source(&options(folder.path(), "json")).expect("files")).expect("good files").len(), 100);
}

#[test]
fn more_folders_than_open_files() {
    let folder = folder();
    let mut table = table(columns(), &options(folder.path(), "csv"));
    table.partitioned_by = vec!["name".to_string()];
    let names: Vec<String> = (0..300).map(|name| format!("n{name}")).collect();
    let all: Vec<(i64, &str)> = names.iter().enumerate().map(|(id, name)| (id as i64, name.as_str())).collect();
    let summary = write_all(sink_of(table).expect("a folder"), &[delta(&all), delta(&all)]).expect("room");
    assert_eq!(summary.rows, 600);
    let found = files(folder.path());
    assert!(found.iter().all(|name| !name.contains(".tmp")));
    let lines: usize = found
        .iter()
        .map(|name| fs::read_to_string(folder.path().join(name)).expect("it is there").lines().count())
        .sum();
    assert_eq!(lines, 600);
}

#[test]
fn a_retraction_names_the_sink() {
    let folder = folder();
    let mut sink = open_sink(&options(folder.path(), "json")).expect("a folder");
    let rows = Delta::weighted(crate::common::batch(&[(1, "a"), (1, "b")]), vec![-1, 1]);
    let error = sink.write(1, &[rows]).expect_err("json can only add");
    assert!(error.to_string().starts_with("sink 't': 'filesystem' with 'format' = 'json' cannot hold retractions"));
    sink.abort();
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

/// The rows of two steps of a query that updates, as a table writes them.
fn check_updates(format: &str, primary_key: &[&str], expected: &str) {
    let folder = folder();
    let table = table(columns(), &options(folder.path(), format));
    let first = Delta::weighted(crate::common::batch(&[(1, "a"), (2, "b"), (3, "c")]), vec![1, 1, 1]);
    let changes = [(1, "z"), (2, "b"), (1, "a"), (4, "d"), (4, "d")];
    let second = Delta::weighted(crate::common::batch(&changes), vec![1, -1, -1, 1, -1]);
    write_all(updating_sink(table, primary_key).expect("a folder"), &[first, second]).expect("room");
    let written = fs::read_to_string(folder.path().join("part-00000.json")).expect("it is there");
    assert_eq!(written, expected);
}

#[test]
fn debezium_tells_what_goes_and_what_comes() {
    check_updates(
        "debezium-json",
        &[],
        r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c"}
{"before":null,"after":{"id":2,"name":"b"},"op":"c"}
{"before":null,"after":{"id":3,"name":"c"},"op":"c"}
{"before":{"id":1,"name":"a"},"after":null,"op":"d"}
{"before":null,"after":{"id":1,"name":"z"},"op":"c"}
{"before":{"id":2,"name":"b"},"after":null,"op":"d"}
"#,
    );
}

#[test]
fn json_with_a_primary_key_takes_upserts() {
    check_updates(
        "json",
        &["id"],
        r#"{"op":"+U","id":1,"name":"a"}
{"op":"+U","id":2,"name":"b"}
{"op":"+U","id":3,"name":"c"}
{"op":"+U","id":1,"name":"z"}
{"op":"-D","id":2}
"#,
    );
}

#[test]
fn upserts_that_would_mislead_are_refused() {
    let folder = folder();
    let check = |change: &dyn Fn(&mut Table), message: &str| {
        let mut table = table(columns(), &options(folder.path(), "json"));
        change(&mut table);
        let error = updating_sink(table, &["id"]).err().expect(message);
        assert!(error.to_string().contains(message), "{error}");
    };
    check(&|table| table.partitioned_by = vec!["name".to_string()], "a row whose 'name' changes would stay");
    let op =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("op", DataType::Utf8, true)]));
    check(&|table| table.columns = op.clone(), "so is called a column");
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let lists = Arc::new(Schema::new(vec![Field::new("id", list, true)]));
    check(&|table| table.columns = lists.clone(), "cannot be told apart by the PRIMARY KEY");
}

#[test]
fn says_what_stands_in_the_way() {
    let folder = folder();
    let check = |path: &Path, code: &str, message: &str, help: &str| {
        let error = open_sink(&options(path, "json")).err().expect(message);
        assert_eq!((error.code(), error.to_string()), (code, format!("table 't': {message}")));
        assert_eq!(error.help().unwrap_or_default(), help);
    };
    let parent = folder.path().join("no/such");
    let missing = parent.join("folder");
    let (path, help) = (parent.display(), format!("create the folder: mkdir -p '{}'", parent.display()));
    check(&missing, "TM3006", &format!("{path} does not exist"), &help);
    let file = folder.path().join("file");
    fs::write(&file, "").expect("room");
    let message = format!("cannot write files to {}: it is a file, and a sink's 'path' is a folder", file.display());
    check(&file, "TM3010", &message, "");
    // Nobody may write here, not even root.
    let system = Path::new("/sys/tidemill");
    if Path::new("/sys/kernel").exists() {
        let help = "let this user create it: ls -ld '/sys/tidemill'";
        check(system, "TM3008", "permission denied to create /sys/tidemill", help);
    }
}

#[test]
fn the_columns_of_partitioned_by_must_be_there() {
    let folder = folder();
    let open = |names: &[&str]| {
        let mut table = table(columns(), &options(folder.path(), "json"));
        table.partitioned_by = names.iter().map(|name| name.to_string()).collect();
        sink_of(table).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(open(&["nam"]), "table 't': there is no column 'nam' to partition by");
    assert_eq!(open(&["id", "name"]), "table 't': all columns are in PARTITIONED BY, so that nothing is left to write");
}

#[test]
fn an_empty_result_leaves_no_file() {
    let folder = folder();
    let summary = write_all(open_sink(&options(folder.path(), "parquet")).expect("a folder"), &[]).expect("room");
    assert_eq!(summary.pieces, 0);
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn the_digest_of_a_blackhole_knows_no_order() {
    let digest = |deltas: &[Delta]| {
        let sink = open_sink(&[("connector", "blackhole"), ("digest", "true")]).expect("it takes all");
        write_all(sink, deltas).expect("it takes all").digest.expect("it was asked for")
    };
    let whole = digest(&[delta(&[(1, "a"), (2, "b"), (3, "c")])]);
    assert_eq!(digest(&[delta(&[(3, "c")]), delta(&[(2, "b"), (1, "a")])]), whole);
    assert_ne!(digest(&[delta(&[(1, "a"), (2, "b"), (3, "d")])]), whole);
    let taken_back: RecordBatch = crate::common::batch(&[(9, "x"), (9, "x")]);
    let gone = Delta::weighted(taken_back, vec![1, -1]);
    assert_eq!(digest(&[delta(&[(1, "a"), (2, "b"), (3, "c")]), gone]), whole);
}

/// What is in a folder when a run that stages was killed: staged files are not removed.
fn kill(sink: Box<dyn tidemill_connect::Sink>) {
    std::mem::forget(sink);
}

#[test]
fn staged_files_are_shown_with_their_version() {
    let folder = folder();
    let mut sink = open_sink(&options(folder.path(), "json")).expect("a folder");
    assert_eq!(sink.stage("p1", 1, &Staged::default()).expect("a folder"), Delivery::ExactlyOnce);
    sink.write(1, &[delta(&[(1, "a")])]).expect("room");
    let first = sink.prepare().expect("room");
    sink.write(2, &[delta(&[(2, "b")])]).expect("room");
    assert!(files(folder.path()).iter().all(|name| name.ends_with(".tmp")));
    for _ in 0..2 {
        sink.publish(&first).expect("it is there");
        let shown: Vec<String> = files(folder.path()).into_iter().filter(|name| !name.ends_with(".tmp")).collect();
        assert_eq!(shown, ["part-p1-0001-000001-00000.json"]);
    }
    let second = sink.prepare().expect("room");
    sink.publish(&second).expect("it is there");
    let summary = sink.finish().expect("room");
    assert_eq!((summary.rows, summary.pieces), (2, 2));
    assert_eq!(files(folder.path()), ["part-p1-0001-000001-00000.json", "part-p1-0001-000002-00000.json"]);
}

#[test]
fn what_a_killed_run_staged_is_shown_or_removed_as_its_version_says() {
    for durable in [false, true] {
        let folder = folder();
        let mut sink = open_sink(&options(folder.path(), "csv")).expect("a folder");
        sink.stage("p1", 1, &Staged::default()).expect("a folder");
        sink.write(1, &[delta(&[(1, "a")])]).expect("room");
        let staged = sink.prepare().expect("room");
        sink.write(2, &[delta(&[(2, "b")])]).expect("room");
        kill(sink);
        let kept = if durable { staged } else { Staged::default() };
        let mut sink = open_sink(&options(folder.path(), "csv")).expect("a folder");
        sink.stage("p1", 2, &kept).expect("a folder");
        sink.publish(&kept).expect("it is there");
        let rest: &[(i64, &str)] = if durable { &[(2, "b")] } else { &[(1, "a"), (2, "b")] };
        sink.write(2, &[delta(rest)]).expect("room");
        let staged = sink.prepare().expect("room");
        sink.publish(&staged).expect("it is there");
        sink.finish().expect("room");
        let expected = vec![(1, "a".to_string()), (2, "b".to_string())];
        assert_eq!(rows(source(&options(folder.path(), "csv")).expect("files")), Ok(expected), "durable: {durable}");
    }
}

#[test]
fn a_staged_file_that_is_gone_is_not_passed_over() {
    let folder = folder();
    let mut sink = open_sink(&options(folder.path(), "json")).expect("a folder");
    sink.stage("p1", 1, &Staged::default()).expect("a folder");
    sink.write(1, &[delta(&[(1, "a")])]).expect("room");
    let staged = sink.prepare().expect("room");
    fs::remove_file(&staged.files[0].temporary).expect("it is there");
    let error = sink.publish(&staged).expect_err("it is gone");
    assert_eq!(error.code(), "TM3019");
}

#[test]
fn staged_folders_are_cleaned_below() {
    let folder = folder();
    let mut table = table(columns(), &options(folder.path(), "json"));
    table.partitioned_by = vec!["name".to_string()];
    let mut sink = sink_of(table.clone()).expect("a folder");
    sink.stage("p1", 1, &Staged::default()).expect("a folder");
    sink.write(1, &[delta(&[(1, "a"), (2, "b")])]).expect("room");
    kill(sink);
    assert_eq!(files(folder.path()).len(), 2);
    let mut sink = sink_of(table).expect("a folder");
    sink.stage("p2", 1, &Staged::default()).expect("a folder");
    assert_eq!(files(folder.path()).len(), 2, "others' files are left alone");
    sink.stage("p1", 1, &Staged::default()).expect("a folder");
    assert_eq!(files(folder.path()), Vec::<String>::new());
}
