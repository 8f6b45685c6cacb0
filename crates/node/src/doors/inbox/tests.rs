use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use tidemill_base::time::SystemClock;
use tidemill_circuit::decode::BlockData;
use tidemill_connect::{Connector, Puller, Reading, Table};
use tidemill_format::{Format, JsonOptions};
use tidemill_gateway::{Inbox, Terms};
use tidemill_journal::{Disk, Journal, Level, Options};
use tidemill_sql::pipeline::ASKED;

use super::*;
use crate::keep::input::{InputKeep, Outstanding};

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new(ASKED, DataType::Boolean, false),
    ]))
}

/// A door whose inbox holds few rows, kept in a journal, and two readers.
fn door(folder: &tempfile::TempDir) -> (InboxDoor, Puller, Puller) {
    let disk = Arc::new(Disk::open(folder.path().join("journal")).expect("the folder is ours"));
    let options = Options { segment_bytes: 1 << 20, quota_bytes: 64 << 20, ..Options::default() };
    let (journal, _) = Journal::open(disk, options, Arc::new(SystemClock::new())).expect("it is new");
    let options = [("connector", "http"), ("inbox.rows", "200")];
    let options = options.map(|(key, value)| (key.to_string(), value.to_string())).to_vec();
    let table = Table { name: "names".into(), columns: columns(), partitioned_by: vec![], options };
    let source = Connector::new(table).and_then(|connector| connector.source(columns())).expect("an inbox");
    let handle = source.inbox().expect("an inbox");
    let journal = Arc::new(journal);
    handle.keep_in(Arc::new(InputKeep::new("names", journal.clone(), vec![Arc::<Outstanding>::default()])));
    let door = InboxDoor::new("names", handle, &Format::Json(JsonOptions::default()), columns()).expect("JSON");
    let door = door.kept_in(journal, Level::Process);
    let readers = (door.handle().reader(Reading::Deciding), door.handle().reader(Reading::Following));
    (door, readers.0, readers.1)
}

/// All that a reader is given, in pieces of so many rows.
fn drain(reader: &mut Puller, rows: u64, into: &mut Vec<RecordBatch>) {
    loop {
        let mut blocks = VecDeque::new();
        reader.pull(rows, &mut blocks).expect("nothing is in the way");
        if blocks.is_empty() {
            return;
        }
        for block in blocks {
            let BlockData::Rows(rows) = block.data else { panic!("rows") };
            assert_eq!(block.first_record, into.iter().map(RecordBatch::num_rows).sum::<usize>() as u64);
            into.push(rows.batch().clone());
        }
    }
}

#[test]
fn a_reader_that_is_far_behind_gets_the_same_rows_out_of_the_journal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (door, mut first, mut second) = door(&folder);
    door.read_only(77, &["id"]);
    let (mut at_once, mut behind) = (Vec::new(), Vec::new());
    for round in 0..200_u64 {
        let line = |id: u64| format!("{{\"id\": {id}, \"name\": \"n\\u00e9 {}\"}}\n", id % 7);
        let long: String = (0..120).map(|row| line(round + row)).collect();
        let bad = format!("{}{{\"id\": \"x\"}}\n{}", line(round), line(round + 1));
        let (body, skip_bad, asked) = match round % 5 {
            0 => (long, false, 0),
            1 => (bad, true, 0),
            2 => (line(round), false, 77),
            _ => (line(round), false, (round % 2) as u32),
        };
        let terms = Terms { skip_bad, ..Terms::default() };
        let came = door.bring(&Coming { body: body.as_bytes(), terms, asked, at: 0 }, |_| {});
        assert_eq!(
            came.map_err(|rejection| format!("{rejection:?}")).map(|came| came.rejected.len()),
            Ok(usize::from(skip_bad))
        );
        drain(&mut first, 50, &mut at_once);
    }
    drain(&mut second, 33, &mut behind);
    let whole = |pieces: &[RecordBatch]| concat_batches(&columns(), pieces).expect("one schema");
    let (at_once, behind) = (whole(&at_once), whole(&behind));
    assert_eq!(at_once.num_rows(), 40 * 120 + 40 * 2 + 40 + 80);
    assert_eq!(at_once, behind);
    // And what comes from now on, as it comes.
    door.take(b"{\"id\": 1}", Terms::default()).expect("there is room");
    let mut blocks = VecDeque::new();
    second.pull(9, &mut blocks).expect("nothing is in the way");
    assert_eq!(blocks.len(), 1);
}
