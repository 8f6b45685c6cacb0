use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use crossbeam_channel::bounded;
use tidemill_circuit::Delta;
use tidemill_stage::Graph;

use super::*;

fn open(pairs: &[(&str, &str)]) -> Inbox {
    let columns = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let table = Table { name: "t".into(), columns: columns.clone(), partitioned_by: vec![], options: vec![] };
    let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    let options = Options::take(&mut Pairs::new("connector 'http'", pairs)).expect("good options");
    Inbox::open(&table, &options, columns).expect("json is a stream")
}

fn push(handle: &InboxHandle, records: u32) -> Result<Accepted, Full> {
    let body = "{\"a\": 1}\n".repeat(records as usize);
    handle.push(BlockData::Bytes(body.clone().into()), records, &Note::default(), body.as_bytes(), |_| {})
}

#[test]
fn pushes_back_when_full() {
    let inbox = open(&[("inbox.rows", "10")]);
    let handle = inbox.inbox().expect("it is an inbox");
    assert_eq!(push(&handle, 6), Ok(Accepted { offset: 0, records: 6, kept: None }));
    assert_eq!(push(&handle, 4), Ok(Accepted { offset: 6, records: 4, kept: None }));
    assert_eq!(push(&handle, 1), Err(Full::Waiting { records: 10 }));
    assert!(matches!(push(&handle, 11), Err(Full::TooLarge { records: 11, .. })));
    drop(inbox);
    assert_eq!(push(&handle, 1), Err(Full::Closed));
}

#[test]
fn what_was_accepted_is_handed_on_after_a_stop() {
    for seed in 0..50 {
        let inbox = open(&[("inbox.rows", "1000")]);
        let handle = inbox.inbox().expect("it is an inbox");
        let cancel = Cancel::new();
        let mut graph = Graph::new(&cancel, 2);
        let events = graph.source("inbox", move |out, cancel| Box::new(inbox).read(out, cancel));
        let (count, taken) = bounded(1);
        graph.sink("count", events, move |input, _| {
            let (mut records, mut at) = (0, 0);
            while let Some(event) = input.recv()? {
                if let SourceEvent::Block(block) = event {
                    assert_eq!(block.from, at);
                    (at, records) = (block.to, records + u64::from(block.records));
                }
            }
            let _ = count.send(records);
            Ok(())
        });
        let stopper = cancel.clone();
        let gateway = std::thread::spawn(move || {
            let (mut accepted, mut after_stop) = (0, 0);
            for turn in 0.. {
                if turn == seed * 7 {
                    stopper.drain();
                }
                match push(&handle, 1) {
                    Ok(_) => {
                        accepted += 1;
                        after_stop += u64::from(turn >= seed * 7);
                        // What fits in, and once more when the reader had just emptied it.
                        assert!(after_stop <= 2_002, "a stop is not put off while more comes");
                    }
                    Err(Full::Closed) => return accepted,
                    Err(_) => std::thread::yield_now(),
                }
            }
            accepted
        });
        graph.run().expect("a graceful stop");
        let accepted: u64 = gateway.join().expect("it ends when the inbox closes");
        assert_eq!(taken.recv(), Ok(accepted));
    }
}

/// A handle of columns `a` and `asked`, read by `readings`.
fn gathering(pairs: &[(&str, &str)], readings: &[Reading]) -> (InboxHandle, Vec<Puller>) {
    let inbox = open(pairs);
    let handle = inbox.inbox().expect("it is an inbox");
    let a = Field::new("a", DataType::Int64, true);
    let decoded = Arc::new(Schema::new(vec![a.clone()]));
    let rows = Arc::new(Schema::new(vec![a, Field::new("asked", DataType::Boolean, false)]));
    handle.read_json(JsonOptions::default(), decoded, rows).expect("JSON types");
    let pullers = readings.iter().map(|reading| handle.reader(*reading)).collect();
    (handle, pullers)
}

fn take(handle: &InboxHandle, body: &str, asked: u32) -> Result<u64, NotTaken> {
    let short = Short { body: body.as_bytes(), note: Note { asked, ..Note::default() }, ..Short::default() };
    let mut admitted = None;
    let taken = handle.take(&short, |accepted| admitted = Some(accepted.offset));
    taken.map(|(accepted, _)| {
        assert_eq!(admitted, Some(accepted.offset));
        accepted.offset
    })
}

/// What a reader is given: for each block where it starts, and its rows as `a`, with `?` where somebody waits.
fn pulled(puller: &mut Puller, rows: u64) -> String {
    let mut blocks = VecDeque::new();
    puller.pull(rows, &mut blocks).expect("nothing is in the way");
    let blocks = blocks.into_iter().map(|block| {
        let BlockData::Rows(delta) = &block.data else { panic!("rows") };
        assert_eq!((delta.rows(), block.to - block.from), (block.records as usize, block.records.into()));
        let rows = delta.column(0).as_primitive::<Int64Type>().values().iter().zip(delta.column(1).as_boolean());
        let rows: Vec<String> =
            rows.map(|(a, asked)| format!("{a}{}", if asked == Some(true) { "?" } else { "" })).collect();
        format!("{}: {}", block.from, rows.join(" "))
    });
    blocks.collect::<Vec<_>>().join(" | ")
}

#[test]
fn every_reader_gets_everything_once_in_blocks_of_its_own_size() {
    let (handle, mut readers) = gathering(&[], &[Reading::Deciding, Reading::Following]);
    for body in ["{\"a\":1}", "[{\"a\":2},{\"a\":3}]", "{\"a\":4}"] {
        take(&handle, body, 0).expect("there is room");
    }
    assert_eq!(pulled(&mut readers[0], 2), "0: 1");
    assert_eq!(take(&handle, "{\"a\":5}", 7).expect("there is room"), 4);
    assert_eq!(pulled(&mut readers[0], 1), "1: 2 3", "bodies are not divided");
    assert_eq!(pulled(&mut readers[1], 100), "0: 1 2 3 4 | 4: 5?");
    assert_eq!(pulled(&mut readers[0], 100), "3: 4 | 4: 5?");
    assert_eq!(pulled(&mut readers[0], 100), "");
}

#[test]
fn nothing_is_left_of_a_body_that_is_refused() {
    let (handle, mut readers) = gathering(&[], &[Reading::Deciding]);
    take(&handle, "{\"a\":1}", 0).expect("there is room");
    for bad in ["{\"a\":2}\n{\"a\":x}", "{\"a\":", "[{\"a\":2}"] {
        assert!(matches!(take(&handle, bad, 0), Err(NotTaken::Records { rejected, .. }) if rejected.len() == 1));
    }
    assert_eq!(take(&handle, "{\"a\":2}", 0).expect("there is room"), 1);
    assert_eq!(pulled(&mut readers[0], 9), "0: 1 2");
}

#[test]
fn rows_that_were_decoded_elsewhere_stand_in_their_order() {
    let (handle, mut readers) = gathering(&[], &[Reading::Deciding]);
    take(&handle, "{\"a\":1}", 0).expect("there is room");
    let decoded = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let batch = RecordBatch::try_new(decoded, vec![Arc::new(Int64Array::from(vec![2, 3]))]).expect("a column");
    let note = Note { asked: 9, ..Note::default() };
    let pushed = handle.push(BlockData::Rows(Delta::inserts(batch)), 2, &note, b"..", |_| {});
    assert_eq!(pushed.map(|accepted| accepted.offset), Ok(1));
    take(&handle, "{\"a\":4}", 0).expect("there is room");
    assert_eq!(pulled(&mut readers[0], 9), "0: 1 | 1: 2? 3? | 3: 4");
}

#[test]
fn requests_with_fewer_keys_leave_the_others_null() {
    let (handle, mut readers) = gathering(&[], &[Reading::Deciding]);
    handle.read_only(7, &[]);
    take(&handle, "{\"a\":1}", 7).expect("there is room");
    take(&handle, "{\"a\":1}", 8).expect("there is room");
    let mut blocks = VecDeque::new();
    readers[0].pull(9, &mut blocks).expect("nothing is in the way");
    let BlockData::Rows(delta) = &blocks[0].data else { panic!("rows") };
    assert_eq!((delta.column(0).is_null(0), delta.column(0).is_null(1)), (true, false));
}

#[test]
fn a_reader_that_decides_holds_back_what_comes_in() {
    let (handle, mut readers) = gathering(&[("inbox.rows", "4")], &[Reading::Deciding]);
    for a in 0..4 {
        take(&handle, &format!("{{\"a\":{a}}}"), 0).expect("there is room");
    }
    assert!(matches!(take(&handle, "{}", 0), Err(NotTaken::Full(Full::Waiting { records: 4 }))));
    assert_eq!(pulled(&mut readers[0], 9), "0: 0 1 2 3");
    readers[0].permit(2);
    take(&handle, "{}", 0).expect("nothing waits");
    take(&handle, "{}", 0).expect("one waits");
    assert!(matches!(take(&handle, "{}", 0), Err(NotTaken::Full(Full::Waiting { records: 2 }))));
    assert!(matches!(take(&handle, "[{},{},{},{},{}]", 0), Err(NotTaken::Full(_))));
    drop(readers);
    assert!(matches!(take(&handle, "{}", 0), Err(NotTaken::Full(Full::Closed))));
}

/// Keeps bodies in memory; the place is the number of the body.
#[derive(Default)]
struct Memory(Mutex<Vec<(u64, String)>>);

impl Keep for Memory {
    fn keep(&self, first_record: u64, _: u32, _: &Note<'_>, body: &[u8]) -> Result<u64, Full> {
        let mut bodies = self.0.lock().expect("nobody panics");
        bodies.push((first_record, String::from_utf8_lossy(body).into_owned()));
        Ok(bodies.len() as u64 - 1)
    }

    fn is_durable(&self, _: u64) -> bool {
        true
    }

    fn let_go(&self, _: u64) {}
}

/// Reads bodies `{"a":N}` again.
struct Again(Arc<Memory>, usize);

impl Rereads for Arc<Memory> {
    fn from(&self, place: u64) -> Result<Box<dyn Reread>, String> {
        Ok(Box::new(Again(self.clone(), place as usize)))
    }
}

impl Reread for Again {
    fn next(&mut self) -> Result<Option<Kept>, String> {
        let bodies = self.0.0.lock().expect("nobody panics");
        let Some((first_record, body)) = bodies.get(self.1) else { return Ok(None) };
        self.1 += 1;
        let a: i64 = body[5..body.len() - 1].parse().map_err(|_| body.clone())?;
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![a])), Arc::new(BooleanArray::from(vec![a % 2 == 1]))];
        let fields = vec![Field::new("a", DataType::Int64, true), Field::new("asked", DataType::Boolean, false)];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())?;
        Ok(Some(Kept { first_record: *first_record, rows: Delta::inserts(batch) }))
    }
}

#[test]
fn a_reader_that_follows_and_falls_behind_reads_again_what_is_kept() {
    let (handle, mut readers) = gathering(&[("inbox.rows", "4")], &[Reading::Deciding, Reading::Following]);
    let memory = Arc::new(Memory::default());
    handle.keep_in(memory.clone());
    handle.reread_from(Arc::new(memory.clone()));
    for a in 0..40 {
        take(&handle, &format!("{{\"a\":{a}}}"), a % 2).expect("nobody waits for who follows");
        pulled(&mut readers[0], 9);
    }
    let mut all = String::new();
    loop {
        let some = pulled(&mut readers[1], 7);
        if some.is_empty() {
            break;
        }
        all = [all, some].join(" | ");
    }
    let rows: Vec<&str> =
        all.split(" | ").filter_map(|block| block.split_once(": ")).flat_map(|(_, rows)| rows.split(' ')).collect();
    let expected: Vec<String> = (0..40).map(|a| format!("{a}{}", if a % 2 == 1 { "?" } else { "" })).collect();
    assert_eq!(rows, expected);
    take(&handle, "{\"a\":40}", 0).expect("there is room");
    assert_eq!(pulled(&mut readers[1], 7), "40: 40");
}

#[test]
fn a_reader_gets_what_came_before_it_when_nobody_was_handed_that() {
    let (handle, first) = gathering(&[("inbox.rows", "3")], &[Reading::Deciding]);
    take(&handle, "{\"a\":1}", 0).expect("there is room");
    take(&handle, "{\"a\":2}", 0).expect("there is room");
    let mut second = handle.reader(Reading::Deciding);
    drop(first);
    take(&handle, "{\"a\":3}", 0).expect("there is room");
    assert!(matches!(take(&handle, "{}", 0), Err(NotTaken::Full(Full::Waiting { records: 3 }))));
    assert_eq!(pulled(&mut second, 9), "0: 1 2 3");
    take(&handle, "{\"a\":4}", 0).expect("there is room");
}

#[test]
fn a_bell_rings_for_what_was_not_pulled_alone() {
    let inbox = open(&[]);
    let handle = inbox.inbox().expect("it is an inbox");
    let mut puller = handle.reader(Reading::Deciding);
    let mut blocks = VecDeque::new();
    for _ in 0..3 {
        assert!(puller.bell().is_empty(), "nothing has come");
        push(&handle, 2).expect("there is room");
        push(&handle, 1).expect("there is room");
        assert!(!puller.bell().is_empty());
        puller.pull(100, &mut blocks).expect("it is sound");
    }
    assert_eq!(blocks.iter().map(|block| block.records).sum::<u32>(), 9);
}
