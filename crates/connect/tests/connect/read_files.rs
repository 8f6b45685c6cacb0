//! Files read: one, many, compressed, growing, replayed, and bad ones.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::common::{batch, columns, connector, events, rows, source};
use proptest::prelude::*;
use tidemill_base::Explain;
use tidemill_circuit::decode::BlockData;
use tidemill_circuit::step::BlockRange;
use tidemill_connect::{Origin, Position, SourceEvent};
use tidemill_format::Format;
use tidemill_stage::{Cancel, Graph};

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::write(path, bytes).expect("a temporary folder takes files");
}

fn json(rows: impl IntoIterator<Item = i64>) -> String {
    rows.into_iter().map(|id| format!("{{\"id\": {id}, \"name\": \"n{id}\"}}\n")).collect()
}

fn expected(ids: impl IntoIterator<Item = i64>) -> Vec<(i64, String)> {
    ids.into_iter().map(|id| (id, format!("n{id}"))).collect()
}

fn options<'a>(path: &'a Path, format: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("connector", "filesystem"), ("path", path.to_str().expect("a plain path")), ("format", format)]
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn reads_one_file_of_each_format() {
    let folder = folder();
    let path = folder.path();
    write(path.join("a.json"), json(0..3));
    write(path.join("a.csv"), "0,n0\n1,n1\n2,n2");
    let mut parquet = Vec::new();
    let mut encoder = Format::Parquet.encoder(columns()).expect("plain columns");
    encoder.encode(&batch(&[(0, "n0"), (1, "n1"), (2, "n2")]), None, &mut parquet).expect("memory");
    encoder.finish(&mut parquet).expect("memory");
    write(path.join("a.parquet"), parquet);
    for format in ["json", "csv", "parquet"] {
        let path = path.join(format!("a.{format}"));
        assert_eq!(rows(source(&options(&path, format)).expect("it is there")), Ok(expected(0..3)), "{format}");
    }
}

#[test]
fn reads_a_folder_and_below_sorted_without_hidden_files() {
    let folder = folder();
    let path = folder.path();
    fs::create_dir_all(path.join("b/c")).expect("a folder");
    fs::create_dir_all(path.join("_delta_log")).expect("a folder");
    write(path.join("z.json"), json([3]));
    write(path.join("a.json"), json([1]));
    write(path.join("b/c/x.json"), json([2]));
    for hidden in [".part-1.json.tmp", "_SUCCESS", "_delta_log/0.json"] {
        write(path.join(hidden), "this is no JSON\n");
    }
    assert_eq!(rows(source(&options(path, "json")).expect("three files")), Ok(expected([1, 2, 3])));
    let events = events(source(&options(path, "json")).expect("three files")).expect("good files");
    let opened: Vec<_> = events
        .iter()
        .take_while(|event| matches!(event, SourceEvent::Opened { .. }))
        .map(|event| match event {
            SourceEvent::Opened { partition, origin } => (*partition, origin.name.rsplit('/').next().expect("a name")),
            _ => unreachable!("taken while opened"),
        })
        .collect();
    assert_eq!(opened, [(0, "a.json"), (1, "x.json"), (2, "z.json")]);
    assert!(matches!(events.last(), Some(SourceEvent::Complete)));
    assert_eq!(events.iter().filter(|event| matches!(event, SourceEvent::Ended { .. })).count(), 3);
}

#[test]
fn reads_a_pattern() {
    let folder = folder();
    for (name, id) in [("a-1.json", 1), ("a-2.json", 2), ("b-1.json", 9)] {
        write(folder.path().join(name), json([id]));
    }
    let pattern = folder.path().join("a-*.json");
    assert_eq!(rows(source(&options(&pattern, "json")).expect("two files")), Ok(expected([1, 2])));
}

#[test]
fn reads_compressed_files() {
    let folder = folder();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(json(0..5_000).as_bytes()).expect("memory");
    write(folder.path().join("a.json.gz"), gzip.finish().expect("memory"));
    let zstd = zstd::encode_all(json(5_000..10_000).as_bytes(), 1).expect("memory");
    write(folder.path().join("b.json.zst"), zstd);
    let mut read = rows(source(&options(folder.path(), "json")).expect("two files")).expect("good files");
    read.sort();
    let mut all = expected(0..10_000);
    all.sort();
    assert_eq!(read, all);
}

#[test]
fn reads_files_in_rotation_and_each_in_order() {
    let folder = folder();
    for file in 0..3 {
        let ids = (0..60_000).map(|id| file * 1_000_000 + id);
        write(folder.path().join(format!("{file}.json")), json(ids));
    }
    let events = events(source(&options(folder.path(), "json")).expect("three files")).expect("good files");
    let turns: Vec<u32> = events
        .iter()
        .filter_map(|event| if let SourceEvent::Block(block) = event { Some(block.partition) } else { None })
        .collect();
    assert_eq!(turns[..6], [0, 1, 2, 0, 1, 2]);
    let read = rows(source(&options(folder.path(), "json")).expect("three files")).expect("good files");
    for file in 0..3 {
        let ids = read.iter().map(|row| row.0).filter(|id| id / 1_000_000 == file);
        assert!(ids.eq((0..60_000).map(|id| file * 1_000_000 + id)));
    }
}

#[test]
fn reads_more_files_than_may_be_open() {
    let folder = folder();
    for file in 0..300 {
        write(folder.path().join(format!("{file:03}.csv")), format!("{file},n{file}\n"));
    }
    assert_eq!(rows(source(&options(folder.path(), "csv")).expect("files")), Ok(expected(0..300)));
}

#[test]
fn reads_headers_whatever_the_order_of_their_columns() {
    let folder = folder();
    write(folder.path().join("a.csv"), "name,other,id\nn1,x,1\nn2,y,2\n");
    write(folder.path().join("b.csv"), "name,other,id\nn3,z,3\n");
    let mut pairs = options(folder.path(), "csv");
    pairs.push(("csv.header", "true"));
    assert_eq!(rows(source(&pairs).expect("two files")), Ok(expected(1..4)));
}

#[test]
fn decodes_only_needed_columns_of_files_without_a_header() {
    let folder = folder();
    let path = folder.path().join("a.csv");
    write(&path, "1,n1\n2,n2\n");
    let needed = std::sync::Arc::new(columns().project(&[1]).expect("a column"));
    let source = connector(&options(&path, "csv")).and_then(|connector| connector.source(needed)).expect("it is there");
    let mut decoder = source.decoder().expect("csv is bytes")().expect("plain columns");
    let mut decoded = tidemill_circuit::decode::Decoded::default();
    decoder.decode(b"1,n1\n2,n2\n", 0, &mut decoded).expect("good records");
    let batch = decoded.deltas[0].delta.batch();
    assert_eq!((batch.num_columns(), batch.num_rows()), (1, 2));
}

#[test]
fn a_bad_record_is_named_by_its_line_in_the_file() {
    let folder = folder();
    let path = folder.path().join("a.json");
    let text = json(0..20_000) + "{\"id\": oops}\n" + &json(0..10);
    write(&path, text);
    let error = rows(source(&options(&path, "json")).expect("it is there")).expect_err("line 20001 is bad");
    assert!(error.starts_with("bad json record at line 20001, column "), "{error}");
}

#[test]
fn says_why_there_is_nothing_to_read() {
    let folder = folder();
    let check = |path: &Path, code: &str, message: &str| {
        let error = source(&options(path, "json")).err().expect(message);
        assert_eq!((error.code(), error.to_string()), (code, format!("table 't': {message}")));
        assert!(error.help().is_some());
    };
    let missing = folder.path().join("nowhere.json");
    check(&missing, "TM3006", &format!("{} does not exist", missing.display()));
    check(folder.path(), "TM3007", &format!("no file matches {}", folder.path().display()));
    let pattern = folder.path().join("*.json");
    check(&pattern, "TM3007", &format!("no file matches {}", pattern.display()));
}

#[test]
fn a_damaged_parquet_file_is_named() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    write(&path, "PAR1 this is not one");
    let error = rows(source(&options(&path, "parquet")).expect("it is there")).expect_err("it is damaged");
    assert!(error.contains(&format!("in {}", path.display())), "{error}");
}

#[test]
fn follows_new_files_once_they_rest() {
    let folder = folder();
    let path = folder.path().to_path_buf();
    write(path.join("0.json"), json([0]));
    let mut pairs = options(&path, "json");
    pairs.push(("source.monitor-interval", "5 ms"));
    let source = source(&pairs).expect("a folder to follow");
    assert!(!source.is_bounded());
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let stream = graph.source("source", move |out, cancel| source.read(out, cancel));
    let writer = path.clone();
    graph.sink("check", stream, move |input, cancel| {
        let mut partitions = Vec::new();
        while let Some(event) = input.recv()? {
            let SourceEvent::Ended { partition } = event else { continue };
            partitions.push(partition);
            match partition {
                4 => cancel.drain(),
                _ => {
                    // Appears as careful writers do it: whole, by a rename.
                    write(writer.join(".next.tmp"), json([i64::from(partition) + 1]));
                    let name = format!("{}.json", partition + 1);
                    fs::rename(writer.join(".next.tmp"), writer.join(name)).expect("one folder");
                }
            }
        }
        assert_eq!(partitions, [0, 1, 2, 3, 4]);
        Ok(())
    });
    assert!(graph.run().expect("a graceful stop").drained);
}

#[test]
fn a_folder_that_is_not_there_yet_can_be_followed() {
    let folder = folder();
    let path = folder.path().join("later");
    let mut pairs = options(&path, "json");
    pairs.push(("source.monitor-interval", "5 ms"));
    assert!(source(&pairs).is_ok());
}

/// Records a run over `path`, and reads its ranges again.
fn replay(path: &Path, format: &str) -> Result<(), tidemill_connect::Error> {
    let mut pairs = options(path, format);
    pairs.push(("csv.header", "true"));
    if format != "csv" {
        pairs.pop();
    }
    let recorded = events(source(&pairs)?).expect("good files");
    let mut origins: Vec<Origin> = Vec::new();
    let mut blocks = Vec::new();
    for event in recorded {
        match event {
            SourceEvent::Opened { origin, .. } => origins.push(origin),
            SourceEvent::Block(block) => blocks.push(block),
            _ => {}
        }
    }
    let text = serde_json::to_string(&origins).expect("plain values");
    let origins: Vec<Origin> = serde_json::from_str(&text).expect("the same");
    let mut replay = source(&pairs)?.replay(&positions(&origins))?;
    for block in blocks {
        let (partition, from, to, records) = (block.partition, block.from, block.to, block.records);
        let again = replay.block(&BlockRange { partition, from, to, records })?;
        assert_eq!((again.first_record, again.records), (block.first_record, block.records));
        match (&block.data, &again.data) {
            (BlockData::Bytes(before), BlockData::Bytes(after)) => assert_eq!(before, after),
            (BlockData::Rows(before), BlockData::Rows(after)) => assert_eq!(before.batch(), after.batch()),
            _ => panic!("bytes became rows"),
        }
    }
    // A lane's decoder works on replayed blocks alone: the header has been found again.
    Ok(())
}

#[test]
fn a_recorded_run_reads_the_same_ranges_again() {
    let folder = folder();
    let path = folder.path();
    for (name, bytes) in [("a.json", json(0..30_000)), ("b.json", json(0..10)), ("c.json", String::new())] {
        write(path.join(name), bytes);
    }
    write(path.join("d.json.zst"), zstd::encode_all(json(7..20_000).as_bytes(), 1).expect("memory"));
    replay(path, "json").expect("nothing has changed");
    let csv = tempfile::tempdir().expect("a temporary folder");
    write(
        csv.path().join("a.csv"),
        "id,name\n".to_string() + &(0..9_000).map(|id| format!("{id},x\n")).collect::<String>(),
    );
    replay(csv.path(), "csv").expect("nothing has changed");
}

#[test]
fn a_changed_file_refuses_replay() {
    let folder = folder();
    let path = folder.path().join("a.json");
    write(&path, json(0..10));
    let origins: Vec<Origin> = events(source(&options(&path, "json")).expect("it is there"))
        .expect("a good file")
        .into_iter()
        .filter_map(|event| if let SourceEvent::Opened { origin, .. } = event { Some(origin) } else { None })
        .collect();
    let check = |part: &str| {
        let source = source(&options(&path, "json")).expect("it is there");
        let mut replay = source.replay(&positions(&origins)).expect("files can be read again");
        let range = BlockRange { partition: 0, from: 0, to: 10, records: 1 };
        let error = replay.block(&range).expect_err(part);
        assert_eq!((error.code(), error.kind()), ("TM3012", tidemill_base::Kind::Restore));
        assert!(error.to_string().ends_with(part), "{error}");
    };
    let whole = fs::read(&path).expect("it is there");
    File::options().append(true).open(&path).and_then(|mut file| file.write_all(b"\n")).expect("it can be written");
    check(&format!("it has {} bytes and had {}", whole.len() + 1, whole.len()));
    let mut other = whole.clone();
    other[8] = b'7';
    write(&path, other);
    check("its first or last bytes are others");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn all_rows_arrive_whatever_the_files(files in prop::collection::vec(prop::collection::vec(0_i64..1_000_000, 0..200), 1..6)) {
        let folder = folder();
        for (index, ids) in files.iter().enumerate() {
            write(folder.path().join(format!("{index}.json")), json(ids.iter().copied()));
        }
        let read = rows(source(&options(folder.path(), "json")).expect("files")).expect("good files");
        // One block a file: in rotation they come one after another.
        prop_assert_eq!(read, expected(files.into_iter().flatten()));
    }
}

fn positions(origins: &[Origin]) -> Vec<Position> {
    origins.iter().cloned().map(Position::start).collect()
}

/// Reads a source in two runs: the first stops after `taken` blocks, the second goes on from there.
fn in_two_runs(pairs: &[(&str, &str)], taken: usize) -> (Vec<SourceEvent>, Vec<SourceEvent>) {
    let before = events(source(pairs).expect("it is there")).expect("it reads");
    let blocks = before.iter().enumerate().filter(|(_, event)| matches!(event, SourceEvent::Block(_)));
    let end = blocks.map(|(index, _)| index + 1).nth(taken.wrapping_sub(1)).unwrap_or(0);
    let opened = before.iter().take_while(|event| matches!(event, SourceEvent::Opened { .. })).count();
    let first = before[..end.max(opened)].to_vec();
    let mut positions: Vec<Position> = Vec::new();
    for event in &first {
        match event {
            SourceEvent::Opened { origin, .. } => {
                positions.push(Position { origin: origin.clone(), to: 0, records: 0, ended: false });
            }
            SourceEvent::Block(block) => {
                let position = &mut positions[block.partition as usize];
                (position.to, position.records) = (block.to, block.first_record + u64::from(block.records));
            }
            SourceEvent::Ended { partition } => positions[*partition as usize].ended = true,
            SourceEvent::Complete => {}
        }
    }
    let mut again = source(pairs).expect("it is there");
    again.resume(&positions).expect("nothing has changed");
    (first, events(again).expect("it reads"))
}

/// What the blocks of each partition hold, and that they follow one another.
fn content(events: &[SourceEvent]) -> std::collections::BTreeMap<u32, (u64, Vec<u8>, Vec<i64>)> {
    let mut content: std::collections::BTreeMap<u32, (u64, Vec<u8>, Vec<i64>)> = Default::default();
    for event in events {
        let SourceEvent::Block(block) = event else { continue };
        let (records, bytes, ids) = content.entry(block.partition).or_default();
        assert_eq!(*records, block.first_record, "records are counted on");
        *records += u64::from(block.records);
        match &block.data {
            BlockData::Bytes(data) => bytes.extend_from_slice(data),
            BlockData::Rows(rows) => {
                use arrow_array::cast::AsArray;
                ids.extend(rows.batch().column(0).as_primitive::<arrow_array::types::Int64Type>().values());
            }
        }
    }
    content
}

#[test]
fn goes_on_where_an_earlier_run_stopped() {
    let folder = folder();
    let path = folder.path();
    for format in ["json", "csv", "json.gz", "parquet"] {
        let sub = path.join(format);
        fs::create_dir_all(&sub).expect("a folder");
        for file in 0..2 {
            let name = sub.join(format!("{file}.{format}"));
            let ids: Vec<i64> = (0..20_000).map(|id| id + file * 100_000).collect();
            match format {
                "json" => write(name, json(ids)),
                "csv" => {
                    let lines: String = ids.iter().map(|id| format!("{id},n{id}\n")).collect();
                    write(name, format!("id,name\n{lines}"));
                }
                "json.gz" => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(json(ids).as_bytes()).expect("memory");
                    write(name, encoder.finish().expect("memory"));
                }
                _ => {
                    let mut bytes = Vec::new();
                    let mut encoder = Format::Parquet.encoder(columns()).expect("plain columns");
                    let rows: Vec<(i64, &str)> = ids.iter().map(|id| (*id, "n")).collect();
                    encoder.encode(&batch(&rows), None, &mut bytes).expect("memory");
                    encoder.finish(&mut bytes).expect("memory");
                    write(name, bytes);
                }
            }
        }
        let kind = format.split('.').next().unwrap_or(format);
        let mut pairs = options(&sub, kind);
        if format == "csv" {
            pairs.push(("csv.header", "true"));
        }
        let whole = events(source(&pairs).expect("they are there")).expect("they read");
        for taken in 0..7 {
            let (first, rest) = in_two_runs(&pairs, taken);
            assert!(!rest.iter().any(|event| matches!(event, SourceEvent::Opened { .. })), "all were open");
            let both: Vec<SourceEvent> = first.into_iter().chain(rest).collect();
            assert_eq!(content(&both), content(&whole), "{format}, {taken} blocks before");
            let ends = both.iter().filter(|event| matches!(event, SourceEvent::Ended { .. })).count();
            assert_eq!(ends, 2, "{format}, {taken} blocks before");
        }
    }
}

#[test]
fn a_file_that_changed_since_it_was_half_read_is_refused() {
    let folder = folder();
    let path = folder.path().join("a.json");
    write(&path, json(0..20_000));
    let pairs = options(&path, "json");
    let before = events(source(&pairs).expect("it is there")).expect("it reads");
    let Some(SourceEvent::Opened { origin, .. }) = before.first() else { panic!("a source opens first") };
    write(&path, json(1..20_000));
    let position = Position { origin: origin.clone(), to: 100, records: 4, ended: false };
    let error = source(&pairs).expect("it is there").resume(std::slice::from_ref(&position)).expect_err("it changed");
    assert_eq!(error.code(), "TM3012");
    let ended = Position { ended: true, ..position };
    source(&pairs).expect("it is there").resume(&[ended]).expect("what was read to its end does not matter");
}
