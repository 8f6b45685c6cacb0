//! Lookups on their own, and in a circuit while the table changes.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_base::rand::Rng;

use super::*;
use crate::Circuit;
use crate::circuit::Options;
use crate::decode::{Block, BlockData};
use crate::expr::{Expr, OnError, Scalar};
use crate::lookup::LookupTable;
use crate::operators::testing::{Bench, check};
use crate::plan::{Node, OutputSpec, Plan, SourceSpec, Spec};
use crate::step::{SourceInput, StepInput};

/// Rows of a name and a score by (kind, id).
fn table() -> Arc<LookupTable> {
    let fields =
        [("id", DataType::Int64), ("name", DataType::Utf8), ("score", DataType::Int64), ("kind", DataType::Utf8)];
    let fields: Vec<Field> = fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
    Arc::new(LookupTable::new("people", Arc::new(Schema::new(fields)), vec![3, 0]).expect("these can be keys"))
}

type Person = (i64, &'static str, i64, &'static str);

fn fill(table: &LookupTable, version: &str, people: &[Person]) {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(people.iter().map(|person| person.0))),
        Arc::new(StringArray::from_iter_values(people.iter().map(|person| person.1))),
        Arc::new(Int64Array::from_iter_values(people.iter().map(|person| person.2))),
        Arc::new(StringArray::from_iter_values(people.iter().map(|person| person.3))),
    ];
    let rows = RecordBatch::try_new(table.schema().clone(), columns).expect("the table's columns");
    table.set(Arc::new(LookupRows::new(table, version, rows).expect("keys are there once")));
}

fn input() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![field("who", DataType::Int64), field("kind", DataType::Utf8)]))
}

fn batch(rows: &[(Option<i64>, Option<&str>)]) -> RecordBatch {
    let who: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let kind: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>());
    RecordBatch::try_new(input(), vec![who, kind]).expect("columns of the schema")
}

fn output() -> SchemaRef {
    let more = [("name", DataType::Utf8), ("score", DataType::Int64), ("version", DataType::Utf8)];
    let more = more.into_iter().map(|(name, data_type)| Arc::new(Field::new(name, data_type, true)));
    Arc::new(Schema::new(input().fields().iter().cloned().chain(more).collect::<Vec<_>>()))
}

fn spec(table: &Arc<LookupTable>, residual: Option<Expr>, outer: bool) -> LookupSpec {
    let (keys, table_keys, columns) = (vec![1, 0], vec![3, 0], vec![1, 2]);
    LookupSpec { table: table.clone(), keys, table_keys, columns, version: true, residual, outer }
}

/// The same by who alone, of which there may be several.
fn by_who(spec: LookupSpec) -> LookupSpec {
    LookupSpec { keys: vec![0], table_keys: vec![0], ..spec }
}

/// `score < most`, failing on a score of 13.
#[derive(Debug)]
struct Below(i64);

impl Scalar for Below {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let scores = batch.column(3).as_primitive::<arrow_array::types::Int64Type>();
        if scores.iter().flatten().any(|score| score == 13) {
            return Err("13 brings bad luck".to_string());
        }
        Ok(Arc::new(scores.iter().map(|score| score.map(|score| score < self.0)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        format!("score < {}", self.0)
    }
}

const PEOPLE: [Person; 3] = [(1, "ann", 5, "a"), (2, "bob", 50, "a"), (1, "eve", 13, "b")];

const ROWS: [(Option<i64>, Option<&str>); 6] = [
    (Some(2), Some("a")),
    (Some(1), Some("a")),
    (Some(1), None),
    (None, Some("a")),
    (Some(9), Some("a")),
    (Some(2), Some("a")),
];

fn run(residual: Option<Expr>, outer: bool, rows: &[(Option<i64>, Option<&str>)], on_error: OnError) -> Bench {
    let table = table();
    fill(&table, "7", &PEOPLE);
    table.turn();
    let spec = Spec::Lookup(spec(&table, residual, outer));
    let mut bench = Bench::with(spec, input(), output(), true, 1, on_error).expect("supported");
    bench.step(vec![Delta::inserts(batch(rows))], 0, 0).expect("the step runs");
    bench
}

#[test]
fn rows_find_theirs_by_the_whole_key_and_null_finds_none() {
    check(&run(None, false, &ROWS, OnError::Stop).integral, "1 a ann 5 7\n+2 2 a bob 50 7");
}

#[test]
fn an_outer_lookup_keeps_all_rows_and_names_the_version_always() {
    let expected = "1 _ _ _ 7\n1 a ann 5 7\n+2 2 a bob 50 7\n9 a _ _ 7\n_ a _ _ 7";
    check(&run(None, true, &ROWS, OnError::Stop).integral, expected);
}

#[test]
fn the_rest_of_the_condition_is_part_of_the_match() {
    let below = || Some(Arc::new(Below(10)) as Expr);
    check(&run(below(), false, &ROWS, OnError::Stop).integral, "1 a ann 5 7");
    let expected = "1 _ _ _ 7\n1 a ann 5 7\n+2 2 a _ _ 7\n9 a _ _ 7\n_ a _ _ 7";
    check(&run(below(), true, &ROWS, OnError::Stop).integral, expected);
}

#[test]
fn a_row_on_which_the_condition_fails_is_treated_as_on_error_says() {
    let rows = [(Some(1), Some("b")), (Some(1), Some("a")), (Some(3), Some("b"))];
    let run = |on_error| run(Some(Arc::new(Below(10))), true, &rows, on_error);
    let buried = run(OnError::DeadLetter);
    check(&buried.integral, "1 a ann 5 7\n3 b _ _ 7");
    assert_eq!((buried.said.dead_rows, buried.said.side.len()), (1, 1));
    check(&run(OnError::Null).integral, "1 a ann 5 7\n1 b _ _ 7\n3 b _ _ 7");
}

#[test]
fn by_other_columns_than_the_key_every_row_is_found_in_the_order_of_the_table() {
    let table = table();
    fill(&table, "7", &[(1, "eve", 50, "b"), (2, "bob", 50, "a"), (1, "ann", 5, "a"), (1, "ann", 6, "c")]);
    table.turn();
    let found = |residual, outer| {
        let spec = Spec::Lookup(by_who(spec(&table, residual, outer)));
        let mut bench = Bench::new(spec, input(), output(), true, 1).expect("supported");
        let rows = Delta::weighted(batch(&ROWS), vec![1, 1, 2, 1, 1, 1]);
        let rows = bench.step(vec![rows], 0, 0).expect("the step runs");
        let lines = |delta: &Delta| {
            (0..)
                .zip(crate::operators::testing::lines(delta.batch()))
                .map(|(row, line)| format!("{:+} {line}", delta.weight(row)))
                .collect::<Vec<_>>()
        };
        rows.iter().flat_map(lines).collect::<Vec<_>>()
    };
    let all = [
        "+1 2 a bob 50 7",
        "+1 1 a eve 50 7",
        "+1 1 a ann 5 7",
        "+1 1 a ann 6 7",
        "+2 1 _ eve 50 7",
        "+2 1 _ ann 5 7",
        "+2 1 _ ann 6 7",
        "+1 2 a bob 50 7",
    ];
    assert_eq!(found(None, false), all);
    let below = || Some(Arc::new(Below(10)) as Expr);
    assert_eq!(found(below(), false), [&all[2..4], &all[5..7]].concat());
    let alone = ["+1 2 a _ _ 7", "+1 _ a _ _ 7", "+1 9 a _ _ 7", "+1 2 a _ _ 7"];
    assert_eq!(found(below(), true), [&alone[..1], &all[2..4], &all[5..7], &alone[1..]].concat());
}

#[test]
fn rows_leave_in_the_order_they_came() {
    let table = table();
    fill(&table, "7", &PEOPLE);
    table.turn();
    let spec = Spec::Lookup(spec(&table, Some(Arc::new(Below(10))), true));
    let mut bench = Bench::new(spec, input(), output(), true, 1).expect("supported");
    let rows = bench.step(vec![Delta::inserts(batch(&ROWS))], 0, 0).expect("the step runs");
    let who = rows[0].column(0).as_primitive::<arrow_array::types::Int64Type>();
    assert_eq!(who.iter().collect::<Vec<_>>(), ROWS.map(|row| row.0));
}

#[test]
fn a_table_that_was_never_filled_is_an_error() {
    let mut bench =
        Bench::new(Spec::Lookup(spec(&table(), None, true)), input(), output(), true, 1).expect("supported");
    let error = bench.step(vec![Delta::inserts(batch(&ROWS))], 0, 0).expect_err("there is nothing to read");
    assert_eq!(error.to_string(), "the versioned table 'people' cannot be read: no version of it has been read yet");
}

#[test]
fn rows_that_may_be_taken_back_are_refused() {
    let refused = Bench::new(Spec::Lookup(spec(&table(), None, true)), input(), output(), false, 1);
    let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.starts_with("looking up rows in people for rows that may be taken back"), "{error}");
}

fn plan(spec: LookupSpec) -> Plan {
    let mut plan = Plan::default();
    let node = |spec, inputs, schema| Node { spec, inputs, schema, position: None, on_error: OnError::Stop };
    let (name, decoded) = ("rows".to_string(), input());
    let source = SourceSpec { name, decoded, origin: false, computed: None, watermark: None, append_only: true };
    plan.add(node(Spec::Source(source), vec![], input()));
    plan.add(node(Spec::Lookup(spec), vec![0], output()));
    plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![1], output()));
    plan
}

/// Random rows through a circuit, while the table changes between steps, against a search through all of its rows.
fn against_a_search(seed: u64, lanes: usize, outer: bool, every: bool) {
    let mut rng = Rng::seeded(seed);
    let table = table();
    let below = rng.chance(1, 2).then_some(7);
    let spec = spec(&table, below.map(|most| Arc::new(Below(most)) as Expr), outer);
    let spec = if every { by_who(spec) } else { spec };
    let options = Options { lanes, ..Options::default() };
    let mut circuit = Circuit::new(&plan(spec), &BTreeMap::new(), options).expect("supported");
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    let mut people: Vec<Person> = Vec::new();
    let mut row = 0;
    for step in 1..=12_u64 {
        if step == 1 || rng.chance(2, 3) {
            let all =
                (0..6).flat_map(|id| ["a", "b"].map(|kind| (id, ["ann", "bob"][id as usize % 2], step as i64, kind)));
            people = all.filter(|_| rng.chance(1, 2)).collect();
            fill(&table, &step.to_string(), &people);
        }
        let version = table.get().map(|rows| rows.version().to_string()).unwrap_or_default();
        let rows: Vec<(Option<i64>, Option<&str>)> = (0..rng.below(400))
            .map(|_| {
                (rng.chance(9, 10).then(|| rng.below(8) as i64), [Some("a"), Some("b"), None][rng.below(3) as usize])
            })
            .collect();
        for (who, kind) in &rows {
            let same = |person: &&Person| Some(person.0) == *who && (every || Some(person.3) == *kind);
            let wanted = |person: &&Person| same(person) && below.is_none_or(|most| person.2 < most);
            let shown = |value: Option<String>| value.unwrap_or_else(|| "_".to_string());
            let mut found: Vec<Option<&Person>> = people.iter().filter(wanted).map(Some).collect();
            if found.is_empty() && outer {
                found.push(None);
            }
            for person in found {
                expected.push(format!(
                    "{} {} {} {} {version}",
                    shown(who.map(|who| who.to_string())),
                    shown(kind.map(str::to_string)),
                    shown(person.map(|person| person.1.to_string())),
                    shown(person.map(|person| person.2.to_string())),
                ));
            }
        }
        let block = |rows: &[(Option<i64>, Option<&str>)], first| Block {
            partition: 0,
            from: first,
            to: first + rows.len() as u64,
            first_record: first,
            records: rows.len() as u32,
            data: BlockData::Rows(Delta::inserts(batch(rows))),
        };
        let blocks = rows.chunks(90).map(|chunk| {
            row += chunk.len() as u64;
            block(chunk, row - chunk.len() as u64)
        });
        let opened = if step == 1 { vec![0] } else { vec![] };
        let news =
            SourceInput { source: "rows".to_string(), blocks: blocks.collect(), opened, ..SourceInput::default() };
        let said = circuit.step(StepInput { now: 0, sources: vec![news] }).expect("the step runs");
        let read: Vec<_> = said.header.tables.iter().map(|read| (read.table.as_str(), read.version.as_str())).collect();
        assert_eq!(read, [("people", version.as_str())], "the header names what was read");
        found.extend(
            said.outputs.iter().flat_map(|out| &out.deltas).flat_map(|d| crate::operators::testing::lines(d.batch())),
        );
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "seed {seed}");
}

#[test]
fn a_table_that_changes_between_steps_gives_what_a_search_through_it_gives() {
    for seed in 0..40 {
        against_a_search(seed, 1 + seed as usize % 3, seed % 2 == 0, seed % 4 < 2);
    }
}

#[test]
fn headers_without_tables_are_written_as_before() {
    let header = r#"{"step":1,"now":2,"last":false,"seed":3,"lanes":4,"sources":[]}"#;
    let read: crate::step::StepHeader = serde_json::from_str(header).expect("a header of an earlier build");
    assert_eq!(serde_json::to_string(&read).expect("a header"), header);
}
