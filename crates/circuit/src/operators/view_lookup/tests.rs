//! Lookups in views in a circuit, against the view computed anew after each step and searched.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use tidemill_base::rand::Rng;

use super::*;
use crate::Circuit;
use crate::circuit::Options;
use crate::decode::{Block, BlockData};
use crate::expr::{Expr, OnError, Scalar};
use crate::operators::testing::lines;
use crate::plan::{AggregateCall, AggregateFunction, AggregateSpec, Emit, Node, OutputSpec, Plan, SourceSpec, Spec};
use crate::step::{SourceInput, StepInput};

/// Who asks, and about what; each with a number of its own.
type Ask = (i64, Option<i64>, Option<&'static str>);

/// What is known of (who, what): a value and a text.
type Fact = (Option<i64>, Option<&'static str>, Option<i64>, &'static str);

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn asks() -> SchemaRef {
    schema(&[("id", DataType::Int64), ("who", DataType::Int64), ("what", DataType::Utf8)])
}

fn facts() -> SchemaRef {
    let texts = [("what", DataType::Utf8), ("value", DataType::Int64), ("text", DataType::Utf8)];
    schema(&[[("who", DataType::Int64)].as_slice(), &texts].concat())
}

fn ask_rows(asked: &[Ask]) -> Delta {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(asked.iter().map(|ask| ask.0)));
    let who: ArrayRef = Arc::new(asked.iter().map(|ask| ask.1).collect::<Int64Array>());
    let what: ArrayRef = Arc::new(asked.iter().map(|ask| ask.2).collect::<StringArray>());
    Delta::inserts(RecordBatch::try_new(asks(), vec![ids, who, what]).expect("columns of the schema"))
}

fn fact_rows(rows: &[(Fact, i64)]) -> Delta {
    let who: ArrayRef = Arc::new(rows.iter().map(|(fact, _)| fact.0).collect::<Int64Array>());
    let what: ArrayRef = Arc::new(rows.iter().map(|(fact, _)| fact.1).collect::<StringArray>());
    let value: ArrayRef = Arc::new(rows.iter().map(|(fact, _)| fact.2).collect::<Int64Array>());
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(fact, _)| fact.3)));
    let batch = RecordBatch::try_new(facts(), vec![who, what, value, text]).expect("columns of the schema");
    Delta::weighted(batch, rows.iter().map(|(_, weight)| *weight).collect())
}

/// `value < most` over the fourth column, failing on 13.
#[derive(Debug)]
struct Below(i64);

impl Scalar for Below {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let values = batch.column(3).as_primitive::<arrow_array::types::Int64Type>();
        if values.iter().flatten().any(|value| value == 13) {
            return Err("13 brings bad luck".to_string());
        }
        Ok(Arc::new(values.iter().map(|value| value.map(|value| value < self.0)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        format!("value < {}", self.0)
    }
}

/// A circuit of asks and facts, the view of them, and the lookup.
struct Rig {
    circuit: Circuit,
    rows: [u64; 2],
}

/// How the view comes from the facts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ViewOf {
    /// As they are, by (what, who).
    Facts,
    /// The sum of values by who, and the greatest text.
    Sums,
    /// The greatest of the sums, without a key; two exchanges later than the asks.
    Greatest,
    /// As they are, by who: every one of them, some of which are there several times.
    Every,
}

impl Rig {
    fn new(view: ViewOf, residual: Option<Expr>, outer: bool, on_error: OnError, lanes: usize) -> Result<Self, Error> {
        let mut plan = Plan::default();
        let node = |spec, inputs, schema| Node { spec, inputs, schema, position: None, on_error };
        let source = |name: &str, decoded, append_only| {
            let name = name.to_string();
            Spec::Source(SourceSpec { name, decoded, origin: false, computed: None, watermark: None, append_only })
        };
        let asked = plan.add(node(source("asks", asks(), true), vec![], asks()));
        let mut from = plan.add(node(source("facts", facts(), false), vec![], facts()));
        let call = |function, column, result| AggregateCall {
            function,
            args: vec![column],
            filter: None,
            distinct: false,
            result,
        };
        let max = AggregateFunction::Max;
        let group = |keys, calls| {
            Spec::Aggregate(AggregateSpec {
                keys,
                window: None,
                calls,
                emit: Emit::Changes,
                allowed_lateness_ms: 0,
                expiry: None,
            })
        };
        if !matches!(view, ViewOf::Facts | ViewOf::Every) {
            let calls = vec![call(AggregateFunction::Sum, 2, DataType::Int64), call(max, 3, DataType::Utf8)];
            let columns = schema(&[("who", DataType::Int64), ("sum", DataType::Int64), ("text", DataType::Utf8)]);
            from = plan.add(node(group(vec![0], calls), vec![from], columns));
        }
        if view == ViewOf::Greatest {
            let calls = vec![call(max, 1, DataType::Int64), call(max, 2, DataType::Utf8)];
            let columns = schema(&[("sum", DataType::Int64), ("text", DataType::Utf8)]);
            from = plan.add(node(group(vec![], calls), vec![from], columns));
        }
        let (keys, view_keys, columns) = match view {
            ViewOf::Facts => (vec![2, 1], vec![1, 0], vec![2, 3]),
            ViewOf::Sums => (vec![1], vec![0], vec![1, 2]),
            ViewOf::Greatest => (vec![], vec![], vec![0, 1]),
            ViewOf::Every => (vec![1], vec![0], vec![2, 3]),
        };
        let unique = view != ViewOf::Every;
        let more = [Field::new("value", DataType::Int64, true), Field::new("text", DataType::Utf8, true)];
        let answer = asks().fields().iter().cloned().chain(more.into_iter().map(Arc::new)).collect::<Vec<_>>();
        let answer = Arc::new(Schema::new(answer));
        let spec = ViewLookupSpec { keys, view_keys, unique, columns, residual, outer };
        let looked = plan.add(node(Spec::ViewLookup(spec), vec![asked, from], answer.clone()));
        plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![looked], answer));
        let options = Options { lanes, ..Options::default() };
        Ok(Rig { circuit: Circuit::new(&plan, &BTreeMap::new(), options)?, rows: [0, 0] })
    }

    /// Runs a step of asks and changes of facts, each in blocks of some rows, and returns the answers as text.
    fn step(&mut self, asked: &[Ask], changes: &[(Fact, i64)]) -> Result<Vec<String>, Error> {
        let deltas =
            [asked.chunks(70).map(ask_rows).collect::<Vec<_>>(), changes.chunks(70).map(fact_rows).collect::<Vec<_>>()];
        let first = self.circuit.steps() == 0;
        let mut sources = Vec::new();
        for ((name, deltas), from) in ["asks", "facts"].into_iter().zip(deltas).zip(&mut self.rows) {
            let block = |delta: Delta| {
                let (first_record, records) = (*from, delta.rows() as u32);
                *from += u64::from(records);
                Block {
                    partition: 0,
                    from: first_record,
                    to: *from,
                    first_record,
                    records,
                    data: BlockData::Rows(delta),
                }
            };
            let blocks = deltas.into_iter().map(block).collect();
            let opened = if first { vec![0] } else { vec![] };
            sources.push(SourceInput { source: name.to_string(), blocks, opened, ..SourceInput::default() });
        }
        let said = self.circuit.step(StepInput { now: 0, sources })?;
        let deltas = || said.outputs.iter().flat_map(|output| &output.deltas);
        assert!(deltas().all(|delta| delta.weights().is_none()), "rows come one by one");
        Ok(deltas().flat_map(|delta| lines(delta.batch())).collect())
    }
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or("_".to_string(), |value| value.to_string())
}

/// The rows of the view for an ask in their order, by a search through all facts.
fn search(view: ViewOf, facts: &[Fact], ask: &Ask) -> Vec<(Option<i64>, String)> {
    let sum = |facts: &[&Fact]| facts.iter().filter_map(|fact| fact.2).reduce(|a, b| a + b);
    let text = |facts: &[&Fact]| facts.iter().map(|fact| fact.3).max().unwrap_or_default().to_string();
    let theirs = || facts.iter().filter(|fact| fact.0.is_some() && fact.0 == ask.1);
    let row = |fact: &Fact| (fact.2, fact.3.to_string());
    match view {
        ViewOf::Facts => theirs().find(|fact| fact.1.is_some() && fact.1 == ask.2).map(row).into_iter().collect(),
        ViewOf::Every => {
            let mut all: Vec<_> = theirs().map(row).collect();
            all.sort();
            all
        }
        ViewOf::Sums => {
            let theirs: Vec<&Fact> = theirs().collect();
            if theirs.is_empty() { vec![] } else { vec![(sum(&theirs), text(&theirs))] }
        }
        ViewOf::Greatest => {
            let people: std::collections::BTreeSet<Option<i64>> = facts.iter().map(|fact| fact.0).collect();
            let theirs = |who| facts.iter().filter(|fact| fact.0 == who).collect::<Vec<_>>();
            let all: Vec<&Fact> = facts.iter().collect();
            let greatest = people.into_iter().filter_map(|who| sum(&theirs(who))).max();
            vec![(greatest, if all.is_empty() { "_".to_string() } else { text(&all) })]
        }
    }
}

/// Changes of facts, of which each (who, what) has one at most when all are taken, unless they may be `many`; in any order.
fn random_changes(rng: &mut Rng, facts: &mut Vec<Fact>, many: bool) -> Vec<(Fact, i64)> {
    let mut changes = Vec::new();
    for _ in 0..rng.below(200) {
        let who = rng.chance(9, 10).then(|| rng.below(12) as i64);
        let what = [Some("a"), Some("b"), None][rng.below(3) as usize];
        let goes = !many || rng.chance(1, 2);
        if let Some(at) = facts.iter().position(|fact| goes && (fact.0, fact.1) == (who, what)) {
            changes.push((facts.swap_remove(at), -1));
        }
        if rng.chance(3, 4) {
            let value = rng.chance(5, 6).then(|| rng.below(40) as i64 - 20);
            let fact = (who, what, value, ["", "x", "a longer text", "ä"][rng.below(4) as usize]);
            let times = if many { 1 + rng.below(2) as usize } else { 1 };
            facts.extend(std::iter::repeat_n(fact, times));
            changes.push((fact, times as i64));
        }
    }
    if rng.chance(1, 2) {
        (1..changes.len()).for_each(|at| changes.swap(at, rng.below(at as u64 + 1) as usize));
    }
    changes
}

fn against_a_search(seed: u64, view: ViewOf, lanes: usize, outer: bool) {
    let mut rng = Rng::seeded(seed);
    let residual = rng.chance(1, 2).then(|| Arc::new(Below(9)) as Expr);
    let mut rig = Rig::new(view, residual.clone(), outer, OnError::Null, lanes).expect("supported");
    let (mut facts, mut asked) = (Vec::new(), 0);
    for step in 0..12 {
        let changes = random_changes(&mut rng, &mut facts, view == ViewOf::Every);
        let asks: Vec<Ask> = (0..rng.below(300))
            .map(|_| {
                asked += 1;
                let who = rng.chance(9, 10).then(|| rng.below(14) as i64);
                (asked, who, [Some("a"), Some("b"), None][rng.below(3) as usize])
            })
            .collect();
        let mut expected = Vec::new();
        for ask in &asks {
            let below = |found: &(Option<i64>, String)| found.0.is_some_and(|value| value < 9);
            let mut found = search(view, &facts, ask);
            found.retain(|found| residual.is_none() || below(found));
            if found.is_empty() && outer {
                found.push((None, "_".to_string()));
            }
            for (value, text) in found {
                expected.push(format!("{} {} {} {} {text}", ask.0, shown(ask.1), shown(ask.2), shown(value)));
            }
        }
        let mut answers = rig.step(&asks, &changes).unwrap_or_else(|error| panic!("{error}"));
        if lanes > 1 {
            expected.sort();
            answers.sort();
        }
        assert_eq!(answers, expected, "seed {seed}, {view:?} over {lanes} lanes, step {step}");
    }
}

#[test]
fn every_ask_is_answered_from_the_view_after_its_step() {
    for seed in 0..80 {
        let view = [ViewOf::Facts, ViewOf::Sums, ViewOf::Greatest, ViewOf::Every][seed as usize % 4];
        against_a_search(seed, view, 1 + (seed / 4) as usize % 3, (seed / 12) % 2 == 0);
    }
}

fn rig(on_error: OnError, residual: Option<Expr>) -> Rig {
    Rig::new(ViewOf::Facts, residual, true, on_error, 1).expect("supported")
}

const ANN: Fact = (Some(1), Some("a"), Some(5), "ann");
const BOB: Fact = (Some(1), Some("a"), Some(6), "bob");

#[test]
fn a_row_may_find_more_than_a_chunk_holds() {
    for (outer, below) in [(false, None), (true, None), (false, Some(-1)), (true, Some(8_000)), (true, Some(-1))] {
        let residual = below.map(|most| Arc::new(Below(most)) as Expr);
        let mut rig = Rig::new(ViewOf::Every, residual, outer, OnError::Null, 1).expect("supported");
        let many = (100..8_800).map(|value| ((Some(1), None, Some(value), ""), 1));
        let many: Vec<_> = many.chain([((Some(1), None, Some(8_800), ""), 8_500)]).collect();
        rig.step(&[], &many).expect("it runs");
        let found = rig.step(&[(7, Some(1), None), (8, Some(2), None), (9, Some(1), None)], &[]).expect("it runs");
        let of = |id: i64, who: i64| {
            let values = (100..8_800).chain(std::iter::repeat_n(8_800, 8_500));
            let values = values.filter(move |value| who == 1 && below.is_none_or(|most| *value < most));
            let lines: Vec<_> = values.map(|value| format!("{id} {who} _ {value} ")).collect();
            if lines.is_empty() && outer { vec![format!("{id} {who} _ _ _")] } else { lines }
        };
        assert!(found == [of(7, 1), of(8, 2), of(9, 1)].concat(), "outer {outer}, below {below:?}");
    }
}

#[test]
fn a_row_may_come_and_go_within_a_step_in_any_order() {
    let mut rig = rig(OnError::Stop, None);
    let ask = |id| [(id, Some(1), Some("a"))];
    assert_eq!(rig.step(&ask(1), &[(ANN, -1), (BOB, 1), (ANN, 1)]).expect("it settles"), ["1 1 a 6 bob"]);
    assert_eq!(rig.step(&ask(2), &[(ANN, 1), (BOB, -1)]).expect("it settles"), ["2 1 a 5 ann"]);
    assert_eq!(rig.step(&ask(3), &[(BOB, 2), (ANN, -1), (BOB, -2)]).expect("it settles"), ["3 1 a _ _"]);
    let left: u64 = rig.circuit.state().iter().map(|(_, size)| size.entries).sum();
    assert_eq!(left, 0, "nothing is left of a key without a row");
}

fn breaks(changes: &[(Fact, i64)], message: &str) {
    let error = rig(OnError::Stop, None).step(&[], changes).expect_err("the promise is broken").to_string();
    assert_eq!(error, format!("ViewLookup: {message}"));
}

#[test]
fn a_view_that_breaks_the_promise_of_its_key_stops_the_circuit() {
    let key = r#"{"what": "a", "who": 1}"#;
    let several = format!("more than one row with the key {key}, by which rows are looked up, is not supported");
    breaks(&[(ANN, 1), (BOB, 1)], &several);
    breaks(&[(ANN, 2)], &several);
    breaks(&[(ANN, 1), (BOB, 1), (ANN, 1)], &several);
    breaks(&[(ANN, -1)], &format!("the view takes back a row that it has not, with the key {key}"));
}

#[test]
fn a_row_on_which_the_condition_fails_is_treated_as_on_error_says() {
    let unlucky = [((Some(1), Some("b"), Some(13), "eve"), 1), (ANN, 1)];
    let asked = [(1, Some(1), Some("b")), (2, Some(1), Some("a")), (3, Some(7), Some("b"))];
    let run = |on_error| rig(on_error, Some(Arc::new(Below(10)))).step(&asked, &unlucky);
    assert_eq!(run(OnError::DeadLetter).expect("a row is left out"), ["2 1 a 5 ann", "3 7 b _ _"]);
    assert_eq!(run(OnError::Null).expect("a row is not found"), ["1 1 b _ _", "2 1 a 5 ann", "3 7 b _ _"]);
    assert!(run(OnError::Stop).is_err());
}

#[test]
fn of_several_found_those_are_left_out_on_which_the_condition_fails() {
    let fact = |value, text| ((Some(1), None, Some(value), text), 1);
    let asked = [(1, Some(1), None), (2, Some(2), None)];
    let run = |on_error, facts: &[(Fact, i64)]| {
        let residual: Option<Expr> = Some(Arc::new(Below(10)));
        Rig::new(ViewOf::Every, residual, true, on_error, 1).expect("supported").step(&asked, facts)
    };
    let some = [fact(13, "eve"), fact(5, "ann"), fact(12, "bob")];
    assert_eq!(run(OnError::DeadLetter, &some).expect("a pair is left out"), ["1 1 _ 5 ann", "2 2 _ _ _"]);
    assert_eq!(run(OnError::Null, &some).expect("a pair does not match"), ["1 1 _ 5 ann", "2 2 _ _ _"]);
    let none = [fact(13, "eve"), fact(12, "bob")];
    assert_eq!(run(OnError::DeadLetter, &none).expect("a row is left out"), ["2 2 _ _ _"]);
    assert_eq!(run(OnError::Null, &none).expect("a row finds none"), ["1 1 _ _ _", "2 2 _ _ _"]);
    assert!(run(OnError::Stop, &none).is_err());
}

/// A lookup of `left` in `right`, by the first column of each.
fn refused(append_only: bool, left: DataType, right: DataType) -> String {
    let (rows, view) = (schema(&[("key", left.clone())]), schema(&[("key", right.clone()), ("value", right.clone())]));
    let output = schema(&[("key", left), ("value", right)]);
    let (keys, view_keys, columns) = (vec![0], vec![0], vec![1]);
    let spec = ViewLookupSpec { keys, view_keys, unique: true, columns, residual: None, outer: false };
    let spec = Spec::ViewLookup(spec);
    let node = Node { spec, inputs: vec![0, 1], schema: output, position: None, on_error: OnError::Stop };
    let (input_schemas, appends, name) = (&[rows, view], &[append_only, false], "ViewLookup".to_string());
    let (inputs, ttl_ms, lanes) = (&[0, 1], None, 1);
    let singles = &[false; 2];
    let lowering =
        Lowering { node: &node, id: 2, inputs, input_schemas, appends, singles, append_only, ttl_ms, lanes, name };
    crate::operators::lower(&mut Graph::default(), &lowering).err().map_or("nothing".to_string(), |e| e.to_string())
}

#[test]
fn what_cannot_be_looked_up_is_refused() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let starts = |message: String, start: &str| assert!(message.starts_with(start), "{message}");
    starts(
        refused(false, DataType::Int64, DataType::Int64),
        "looking up rows in a view for rows that may be taken back",
    );
    starts(refused(true, DataType::Int32, DataType::Int64), "looking up rows in a view by columns of other types");
    starts(refused(true, list.clone(), list), "looking up rows by lists, maps or rows");
}

#[test]
fn only_the_rows_decide_whether_the_answers_are_taken_back() {
    let (from, schema) = (vec![0, 1], asks());
    let source = |append_only| {
        let (name, decoded) = ("rows".to_string(), asks());
        Spec::Source(SourceSpec { name, decoded, origin: false, computed: None, watermark: None, append_only })
    };
    let (keys, view_keys, columns) = (vec![0], vec![0], vec![]);
    let spec = ViewLookupSpec { keys, view_keys, unique: true, columns, residual: None, outer: false };
    let node = |spec, inputs| Node { spec, inputs, schema: schema.clone(), position: None, on_error: OnError::Stop };
    let nodes = vec![node(source(true), vec![]), node(source(false), vec![]), node(Spec::ViewLookup(spec), from)];
    assert_eq!(Plan { nodes, ..Plan::default() }.append_only(), [true, false, true]);
}
