mod fire;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_base::Position;
use tidemill_base::time::SystemClock;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::expr::{Column, Expr, OnError, Scalar};
use tidemill_circuit::operator::Sides;
use tidemill_circuit::plan::{
    Frame, Node, NodeId, OutputSpec, OverCall, OverSpec, OverTurn, SourceSpec, Spec, TimeDomain,
};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Circuit, Plan};
use tidemill_connect::{Connector, Puller, Reading, Table};
use tidemill_format::{Format, JsonOptions};
use tidemill_gateway::{Answered, Answers, Durability, Endpoint, Inbox, Question, Refusal, Rejection, Terms, Ticket};
use tidemill_journal::{Disk, Sequence};
use tidemill_sql::pipeline::{ASKED, EndpointOptions};

use super::*;
use crate::keep::input::{InputKeep, Outstanding};

fn fields(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The sum of 100 and a column; fails on 13.
#[derive(Debug)]
struct Score(usize);

impl Scalar for Score {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let values = batch.column(self.0).as_primitive::<Int64Type>();
        if values.iter().flatten().any(|value| value == 13) {
            return Err("13 is unlucky".to_string());
        }
        Ok(Arc::new(values.iter().map(|value| value.map(|value| value + 100)).collect::<Int64Array>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Int64
    }

    fn print(&self) -> String {
        "score(amount)".to_string()
    }
}

/// Whether somebody asks, and the amount is not negative.
#[derive(Debug)]
struct Asked;

impl Scalar for Asked {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let asked = batch.column(2).as_boolean().iter();
        let amounts = batch.column(1).as_primitive::<Int64Type>().iter();
        Ok(Arc::new(asked.zip(amounts).map(|(asked, amount)| Some(asked? && amount? >= 0)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        "$asked AND amount >= 0".to_string()
    }
}

/// `SELECT 100 + amount AS score, the number of the card's row FROM payments`, for those who ask.
fn plan() -> Plan {
    let mut plan = Plan::default();
    let node = |spec, inputs: Vec<NodeId>, schema| Node {
        spec,
        inputs,
        schema,
        position: None,
        on_error: OnError::DeadLetter,
    };
    let (card, amount) = (("card", DataType::Int64), ("amount", DataType::Int64));
    let (asked, origin) = ((ASKED, DataType::Boolean), ("$origin", DataType::UInt64));
    let read = fields(&[card.clone(), amount.clone(), asked.clone(), origin.clone()]);
    let source = SourceSpec {
        name: "payments".to_string(),
        decoded: fields(&[card.clone(), amount.clone(), asked.clone()]),
        origin: true,
        computed: None,
        watermark: None,
        append_only: true,
    };
    let source = plan.add(node(Spec::Source(source), vec![], read));
    let over = OverSpec {
        keys: vec![0],
        order: None,
        domain: TimeDomain::Processing,
        origin: Some(3),
        turn: OverTurn::Arrival,
        frame: Frame::Rows { preceding: None },
        calls: vec![OverCall::RowNumber],
    };
    let counted = fields(&[card, amount, asked, origin.clone(), ("count", DataType::Int64)]);
    let over = plan.add(node(Spec::Over(over), vec![source], counted.clone()));
    let filter = plan.add(node(Spec::Filter(Arc::new(Asked)), vec![over], counted));
    let answer: Vec<Expr> =
        vec![Arc::new(Score(1)), Column::new(4, "count", DataType::Int64), Column::new(3, "$origin", DataType::UInt64)];
    let answered = fields(&[("score", DataType::Int64), ("count", DataType::Int64), origin]);
    let project = plan.add(node(Spec::Project(answer), vec![filter], answered.clone()));
    plan.add(node(Spec::Output(OutputSpec { name: "score".to_string(), key: None }), vec![project], answered));
    plan
}

fn endpoint(change: impl FnOnce(&mut EndpointOptions)) -> EndpointDef {
    let mut options = EndpointOptions {
        deadline: Duration::from_millis(5),
        fallback: Some("{\"score\":-1}".to_string()),
        durability: None,
        sheds_to_fallback: false,
        waiting_max: 1_000,
        lag_max: Duration::from_millis(10),
        idempotency_window: Duration::from_secs(3600),
        idempotency_bytes: 1 << 20,
    };
    change(&mut options);
    EndpointDef {
        name: "score".to_string(),
        request: fields(&[("card", DataType::Int64), ("amount", DataType::Int64)]),
        source: "payments".to_string(),
        recorded: true,
        output: "score".to_string(),
        answer: fields(&[("score", DataType::Int64), ("count", DataType::Int64)]),
        rule: "9f3a".to_string(),
        options,
        position: Position { line: 1, column: 1 },
    }
}

/// Where answers go: for each request what came.
#[derive(Default)]
struct Post(Mutex<BTreeMap<u64, Vec<String>>>);

impl Answers for Post {
    fn answer(&self, number: u64, answer: Answered<'_>) {
        let Answered { status, body, fallback, rule, version, repeated } = answer;
        assert_eq!(rule, "9f3a");
        assert!(fallback.is_none() || version == 0);
        let body = String::from_utf8_lossy(body);
        let again = if repeated { " again" } else { "" };
        self.0.lock().expect("nobody panics").entry(number).or_default().push(format!("{status}{again} {body}"));
    }
}

impl Post {
    fn of(&self, number: u64) -> String {
        self.0.lock().expect("nobody panics").get(&number).map(|answers| answers.join(" | ")).unwrap_or_default()
    }
}

/// An endpoint over its door, and a circuit that is stepped by hand.
struct Bench {
    door: Arc<InboxDoor>,
    desk: Arc<Desk>,
    puller: Mutex<(Puller, Circuit, bool)>,
    post: Arc<Post>,
    /// Where the headers of steps stand in the journal.
    place: Mutex<Option<u64>>,
}

impl Bench {
    fn new(journal: Option<&Arc<Journal>>, change: impl FnOnce(&mut EndpointOptions)) -> Bench {
        let decoded = fields(&[("card", DataType::Int64), ("amount", DataType::Int64), (ASKED, DataType::Boolean)]);
        let options = vec![("connector".to_string(), "http".to_string())];
        let table = Table { name: "payments".into(), columns: decoded.clone(), partitioned_by: vec![], options };
        let source = Connector::new(table).and_then(|connector| connector.source(decoded.clone())).expect("an inbox");
        let handle = source.inbox().expect("an inbox");
        let format = Format::Json(JsonOptions::default());
        let mut door = InboxDoor::new("payments", handle.clone(), &format, decoded).expect("JSON");
        if let Some(journal) = journal {
            door = door.kept_in(journal.clone(), Level::Process);
            handle.keep_in(Arc::new(InputKeep::new("payments", journal.clone(), vec![Arc::<Outstanding>::default()])));
        }
        let door = Arc::new(door);
        let desk = Arc::new(Desk::new(&endpoint(change), door.clone()));
        let options = Options { sides: Sides { dead_letter: true, ..Sides::default() }, ..Options::default() };
        let circuit = Circuit::new(&plan(), &BTreeMap::new(), options).expect("a plan that runs");
        let puller = handle.reader(Reading::Deciding);
        // The source goes: nothing but the circuit reads.
        drop(source);
        Bench {
            door,
            desk,
            puller: Mutex::new((puller, circuit, false)),
            post: Arc::default(),
            place: Mutex::default(),
        }
    }

    fn ticket(&self, number: u64) -> Ticket {
        Ticket { door: self.post.clone(), number }
    }

    fn ask(&self, number: u64, body: &str, terms: Terms<'_>) -> Result<Question, Rejection> {
        self.desk.ask(body.as_bytes(), terms, self.ticket(number))
    }

    fn plainly(&self, number: u64, body: &str) -> Question {
        self.ask(number, body, Terms::default()).expect("there is room")
    }

    fn ingest(&self, body: &str) {
        self.door.take(body.as_bytes(), Terms::default()).expect("there is room");
    }

    /// Takes what waits, of about so many rows, in one step; false when nothing does.
    fn step(&self, rows: u64) -> bool {
        let mut puller = self.puller.lock().expect("nobody panics");
        let (puller, circuit, opened) = &mut *puller;
        let mut blocks = VecDeque::new();
        puller.pull(rows, &mut blocks).expect("nothing is in the way");
        if blocks.is_empty() {
            return false;
        }
        let opened = if std::mem::replace(opened, true) { vec![] } else { vec![0] };
        let input = SourceInput { source: "payments".into(), blocks: blocks.into(), opened, ..SourceInput::default() };
        let output = circuit.step(StepInput { now: 0, sources: vec![input] }).expect("a step");
        let rows: Vec<Delta> = output.outputs.into_iter().flat_map(|rows| rows.deltas).collect();
        let (header, place) = (&output.header, *self.place.lock().expect("nobody panics"));
        self.desk.answers(&Given { header, place, rows: &rows, failed: output.side.iter().collect() });
        true
    }
}

const KEYED: Terms<'static> = Terms {
    durability: None,
    skip_bad: false,
    idempotency_key: Some("k"),
    kind: tidemill_gateway::BodyKind::Json,
    quiet: false,
    late: false,
};

fn check(bench: &Bench, number: u64, expected: &str) {
    assert_eq!(bench.post.of(number), expected, "request {number}");
}

#[test]
fn each_request_is_answered_with_its_own_rows() {
    let bench = Bench::new(None, |_| {});
    bench.plainly(1, "{\"card\":7,\"amount\":1}");
    bench.ingest("{\"card\":7,\"amount\":5}\n{\"card\":8,\"amount\":6}");
    bench.plainly(2, "{\"card\":7,\"amount\":2}");
    bench.plainly(3, "{\"card\":7,\"amount\":-1}");
    check(&bench, 1, "");
    bench.step(100);
    bench.plainly(4, " [{\"amount\":3, \"card\":8}]");
    bench.step(100);
    check(&bench, 1, "200 {\"rows\":[{\"score\":101,\"count\":1}],\"rule\":\"9f3a\",\"version\":1}");
    check(&bench, 2, "200 {\"rows\":[{\"score\":102,\"count\":3}],\"rule\":\"9f3a\",\"version\":1}");
    check(&bench, 3, "200 {\"rows\":[],\"rule\":\"9f3a\",\"version\":1}");
    check(&bench, 4, "200 {\"rows\":[{\"score\":103,\"count\":2}],\"rule\":\"9f3a\",\"version\":2}");
}

#[test]
fn a_request_on_which_the_rule_fails_is_told_so_alone() {
    for fallback in [true, false] {
        let bench = Bench::new(None, |options| options.fallback.take_if(|_| !fallback).map_or((), drop));
        bench.plainly(1, "{\"card\":7,\"amount\":1}");
        bench.plainly(2, "{\"card\":7,\"amount\":13}");
        bench.ingest("{\"card\":7,\"amount\":13}");
        bench.plainly(3, "{\"card\":7,\"amount\":3}");
        bench.step(100);
        check(&bench, 1, "200 {\"rows\":[{\"score\":101,\"count\":1}],\"rule\":\"9f3a\",\"version\":1}");
        check(&bench, 3, "200 {\"rows\":[{\"score\":103,\"count\":4}],\"rule\":\"9f3a\",\"version\":1}");
        if fallback {
            check(&bench, 2, "200 {\"rows\":[{\"score\":-1}],\"rule\":\"9f3a\",\"fallback\":\"failed\"}");
        } else {
            let answer = bench.post.of(2);
            assert!(answer.starts_with("500 {") && answer.contains("13 is unlucky"), "{answer}");
        }
    }
}

#[test]
fn whoever_answers_first_wins() {
    let bench = Bench::new(None, |_| {});
    let late = bench.plainly(1, "{\"card\":7,\"amount\":1}");
    let early = bench.plainly(2, "{\"card\":7,\"amount\":2}");
    bench.desk.expire(late);
    check(&bench, 1, "200 {\"rows\":[{\"score\":-1}],\"rule\":\"9f3a\",\"fallback\":\"deadline\"}");
    bench.step(100);
    bench.desk.expire(late);
    bench.desk.expire(early);
    check(&bench, 1, "200 {\"rows\":[{\"score\":-1}],\"rule\":\"9f3a\",\"fallback\":\"deadline\"}");
    check(&bench, 2, "200 {\"rows\":[{\"score\":102,\"count\":2}],\"rule\":\"9f3a\",\"version\":1}");
    let bench = Bench::new(None, |options| options.fallback = None);
    let late = bench.plainly(1, "{\"card\":7,\"amount\":1}");
    bench.desk.expire(late);
    bench.step(100);
    check(&bench, 1, "504 ");
}

#[test]
fn no_more_requests_wait_than_may() {
    for sheds in [true, false] {
        let bench = Bench::new(None, |options| (options.waiting_max, options.sheds_to_fallback) = (2, sheds));
        bench.plainly(1, "{\"card\":7,\"amount\":1}");
        bench.plainly(2, "{\"card\":7,\"amount\":1}");
        let third = bench.ask(3, "{\"card\":7,\"amount\":1}", Terms::default());
        assert_eq!(third.is_ok(), sheds);
        if sheds {
            check(&bench, 3, "200 {\"rows\":[{\"score\":-1}],\"rule\":\"9f3a\",\"fallback\":\"overload\"}");
        } else {
            assert!(matches!(third, Err(Rejection::Refused(Refusal::Full))));
            check(&bench, 3, "");
        }
        bench.step(100);
        bench.plainly(4, "{\"card\":7,\"amount\":1}");
        bench.step(100);
        check(&bench, 4, "200 {\"rows\":[{\"score\":101,\"count\":3}],\"rule\":\"9f3a\",\"version\":2}");
    }
}

#[test]
fn nothing_is_counted_of_a_request_that_is_refused() {
    let bench = Bench::new(None, |_| {});
    let refused = |body: &str, terms| bench.ask(1, body, terms).expect_err("it is wrong");
    assert!(matches!(refused("{\"card\":x}", Terms::default()), Rejection::Records { .. }));
    assert!(matches!(refused("", Terms::default()), Rejection::Body(_)));
    assert!(matches!(refused("[{\"card\":7},{\"card\":7}]", Terms::default()), Rejection::Body(_)));
    let flushed = Terms { durability: Some(Durability::Flushed), ..Terms::default() };
    assert!(matches!(refused("{\"card\":7}", flushed), Rejection::Refused(Refusal::NoSuchDurability)));
    let long = "k".repeat(300);
    let long = Terms { idempotency_key: Some(&long), ..Terms::default() };
    assert!(matches!(refused("{\"card\":7}", long), Rejection::Body(_)));
    bench.plainly(2, "{\"card\":7,\"amount\":1}");
    bench.step(100);
    check(&bench, 1, "");
    check(&bench, 2, "200 {\"rows\":[{\"score\":101,\"count\":1}],\"rule\":\"9f3a\",\"version\":1}");
    bench.desk.end();
    assert!(matches!(refused("{\"card\":7}", Terms::default()), Rejection::Refused(Refusal::Closed)));
}

#[test]
fn who_still_waits_at_the_end_is_told_so() {
    let bench = Bench::new(None, |_| {});
    bench.plainly(1, "{\"card\":7,\"amount\":1}");
    bench.ask(2, "{\"card\":7,\"amount\":1}", KEYED).expect("there is room");
    bench.ask(3, "{\"card\":7,\"amount\":1}", KEYED).expect("it waits with the other");
    bench.desk.end();
    (1..=3).for_each(|number| check(&bench, number, "503 "));
}

#[test]
fn a_request_with_a_key_is_counted_once_and_answered_as_before() {
    let bench = Bench::new(None, |_| {});
    bench.ask(1, "{\"card\":7,\"amount\":1}", KEYED).expect("there is room");
    bench.ask(2, "{\"card\":7,\"amount\":1}", KEYED).expect("it waits with the first");
    let other = bench.ask(3, "{\"card\":7,\"amount\":2}", KEYED);
    assert!(matches!(other, Err(Rejection::KeyReused)));
    bench.step(100);
    bench.ask(4, "{\"card\":7,\"amount\":1}", KEYED).expect("it was answered");
    bench.plainly(5, "{\"card\":7,\"amount\":1}");
    bench.step(100);
    let answer = "{\"rows\":[{\"score\":101,\"count\":1}],\"rule\":\"9f3a\",\"version\":1}";
    check(&bench, 1, &format!("200 {answer}"));
    check(&bench, 2, &format!("200 again {answer}"));
    check(&bench, 4, &format!("200 again {answer}"));
    check(&bench, 5, "200 {\"rows\":[{\"score\":101,\"count\":2}],\"rule\":\"9f3a\",\"version\":2}");
}

#[test]
fn a_fallback_is_the_answer_of_a_key_and_no_answer_is_none() {
    let bench = Bench::new(None, |_| {});
    let question = bench.ask(1, "{\"card\":7,\"amount\":1}", KEYED).expect("there is room");
    bench.desk.expire(question);
    bench.step(100);
    bench.ask(2, "{\"card\":7,\"amount\":1}", KEYED).expect("it was answered");
    check(&bench, 2, "200 again {\"rows\":[{\"score\":-1}],\"rule\":\"9f3a\",\"fallback\":\"deadline\"}");

    let bench = Bench::new(None, |options| options.fallback = None);
    let question = bench.ask(1, "{\"card\":7,\"amount\":1}", KEYED).expect("there is room");
    bench.desk.expire(question);
    check(&bench, 1, "504 ");
    bench.ask(2, "{\"card\":7,\"amount\":1}", KEYED).expect("it waits");
    bench.step(100);
    bench.ask(3, "{\"card\":7,\"amount\":1}", KEYED).expect("it was answered");
    let answer = "200 again {\"rows\":[{\"score\":101,\"count\":1}],\"rule\":\"9f3a\",\"version\":1}";
    check(&bench, 2, answer);
    check(&bench, 3, answer);
}

#[test]
fn keys_and_answers_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || {
        let disk = Arc::new(Disk::open(folder.path().join("journal")).expect("the folder is ours"));
        let options = tidemill_journal::Options { segment_bytes: 1 << 20, quota_bytes: 8 << 20, ..Default::default() };
        Arc::new(Journal::open(disk, options, Arc::new(SystemClock::new())).expect("it is whole").0)
    };
    let keyed = |key| Terms { idempotency_key: Some(key), ..KEYED };
    let answered = "{\"rows\":[{\"score\":101,\"count\":1}],\"rule\":\"9f3a\",\"version\":1}";
    {
        let journal = open();
        let bench = Bench::new(Some(&journal), |_| {});
        bench.ask(1, "{\"card\":7,\"amount\":1}", keyed("answered")).expect("there is room");
        bench.step(100);
        check(&bench, 1, &format!("200 {answered}"));
        bench.ask(2, "{\"card\":7,\"amount\":2}", keyed("waiting")).expect("there is room");
        bench.door.take(b"[{\"card\":1},{\"card\":2}]", keyed("ingested")).expect("there is room");
        let holder = journal.usage().holder.map(|(_, first)| first);
        assert_eq!(holder, Some(Sequence::FIRST), "what is remembered is held");
    }
    let journal = open();
    let bench = Bench::new(Some(&journal), |_| {});
    let doors = Doors::from([("payments".to_string(), bench.door.clone())]);
    let desks = Desks { desks: Mutex::new(vec![bench.desk.clone()]) };
    desks.recall(&doors, &journal).expect("the journal is whole");

    bench.ask(1, "{\"card\":7,\"amount\":1}", keyed("answered")).expect("it was answered");
    check(&bench, 1, &format!("200 again {answered}"));
    let other = bench.ask(1, "{\"card\":7,\"amount\":9}", keyed("answered"));
    assert!(matches!(other, Err(Rejection::KeyReused)));
    let receipt = bench.door.take(b"[{\"card\":1},{\"card\":2}]", keyed("ingested")).expect("it was taken");
    assert_eq!((receipt.repeated, receipt.offset, receipt.accepted), (true, 2, 2));
    bench.ask(2, "{\"card\":7,\"amount\":2}", keyed("waiting")).expect("it waits for the step");
    check(&bench, 2, "");
}

#[test]
fn an_answer_that_is_to_survive_a_power_cut_waits_for_the_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(Disk::open(folder.path().join("journal")).expect("the folder is ours"));
    // The flusher waits for more to come, for longer than this test looks.
    let options = tidemill_journal::Options {
        segment_bytes: 1 << 20,
        quota_bytes: 8 << 20,
        flush_pause: Duration::from_millis(300),
        ..Default::default()
    };
    let journal = Arc::new(Journal::open(disk, options, Arc::new(SystemClock::new())).expect("it is new").0);
    let bench = Bench::new(Some(&journal), |_| {});
    let flushed = Terms { durability: Some(Durability::Flushed), ..Terms::default() };
    bench.ask(1, "{\"card\":7,\"amount\":1}", flushed).expect("there is room");
    bench.plainly(2, "{\"card\":7,\"amount\":2}");
    *bench.place.lock().expect("nobody panics") = Some(journal.durable(Level::Process).0);
    bench.step(100);
    check(&bench, 2, "200 {\"rows\":[{\"score\":102,\"count\":2}],\"rule\":\"9f3a\",\"version\":1}");
    journal.wait(journal.durable(Level::Process), Level::Flushed).expect("the disk is well");
    // The flusher tells them in the order of their asking.
    check(&bench, 1, "200 {\"rows\":[{\"score\":101,\"count\":1}],\"rule\":\"9f3a\",\"version\":1}");
}

#[test]
fn a_request_that_was_read_too_late_is_not_taken_in() {
    let late = Terms { late: true, ..Terms::default() };
    let bench = Bench::new(None, |options| options.sheds_to_fallback = true);
    bench.ask(1, "{\"card\":1,\"amount\":5}", late).expect("the fallback answers");
    assert!(bench.post.of(1).contains("\"fallback\":\"overload\""), "{}", bench.post.of(1));
    bench.plainly(2, "{\"card\":1,\"amount\":5}");
    assert!(bench.step(10));
    assert!(bench.post.of(2).contains("\"count\":1"), "the first is not counted: {}", bench.post.of(2));

    let bench = Bench::new(None, |_| {});
    let refused = bench.ask(1, "{\"card\":1,\"amount\":5}", late);
    assert!(matches!(refused, Err(Rejection::Refused(Refusal::Full))), "{refused:?}");
    bench.ask(2, "{\"card\":1,\"amount\":5}", KEYED).expect("there is room");
    assert!(bench.step(10));
    bench.ask(3, "{\"card\":1,\"amount\":5}", Terms { late: true, ..KEYED }).expect("it is known");
    assert!(bench.post.of(3).contains("again") && bench.post.of(3).contains("\"count\":1"), "{}", bench.post.of(3));
}
