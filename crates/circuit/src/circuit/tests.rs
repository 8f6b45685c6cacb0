use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::*;
use crate::decode::BlockData;
use crate::delta::Delta;
use crate::expr::{Column, Expr, OnError, Scalar};
use crate::plan::{OutputSpec, SourceSpec};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

fn rows(values: &[i64]) -> Delta {
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    Delta::inserts(RecordBatch::try_new(schema(), vec![column]).expect("one column of one schema"))
}

fn node(spec: Spec, inputs: Vec<NodeId>) -> Node {
    Node { spec, inputs, schema: schema(), position: None, on_error: OnError::Stop }
}

/// `SELECT n FROM numbers WHERE predicate`.
fn filtered(predicate: Expr, on_error: OnError) -> Plan {
    let mut plan = Plan::default();
    let source = SourceSpec {
        name: "numbers".to_string(),
        decoded: schema(),
        origin: false,
        computed: None,
        watermark: None,
        append_only: true,
    };
    let source = plan.add(node(Spec::Source(source), vec![]));
    let filter = plan.add(Node { on_error, ..node(Spec::Filter(predicate), vec![source]) });
    plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![filter]));
    plan
}

fn input(ordinal: u64, values: &[i64], complete: bool) -> StepInput {
    let block = Block {
        partition: 0,
        from: ordinal,
        to: ordinal + values.len() as u64,
        first_record: ordinal,
        records: values.len() as u32,
        data: BlockData::Rows(rows(values)),
    };
    let news = SourceInput {
        source: "numbers".to_string(),
        blocks: vec![block],
        opened: if ordinal == 0 { vec![0] } else { vec![] },
        ended: if complete { vec![0] } else { vec![] },
        idle: vec![],
        complete,
    };
    StepInput { now: 1_000, sources: vec![news] }
}

/// True for even numbers; fails on 13 and panics on 99.
#[derive(Debug)]
struct Even;

impl Scalar for Even {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let values = batch.column(0).as_any().downcast_ref::<Int64Array>().ok_or("not a number")?;
        if values.values().contains(&13) {
            return Err("13 is unlucky".to_string());
        }
        assert!(!values.values().contains(&99), "99 is a bug");
        Ok(Arc::new(values.values().iter().map(|n| Some(n % 2 == 0)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        "n is even".to_string()
    }
}

fn circuit(plan: &Plan, lanes: usize) -> Circuit {
    let options = Options { lanes, digests: true, ..Options::default() };
    Circuit::new(plan, &Decoders::new(), options).expect("the plan is supported")
}

fn values(output: &StepOutput) -> Vec<i64> {
    let deltas = output.outputs.iter().flat_map(|output| &output.deltas);
    deltas
        .flat_map(|delta| delta.column(0).as_any().downcast_ref::<Int64Array>().map(|c| c.values().to_vec()))
        .flatten()
        .collect()
}

#[test]
fn filters_on_any_number_of_lanes() {
    let numbers: Vec<i64> = (1_000..2_000).collect();
    let mut digests = Vec::new();
    for lanes in 1..=4 {
        let mut circuit = circuit(&filtered(Arc::new(Even), OnError::Stop), lanes);
        let output = circuit.step(input(0, &numbers, true)).expect("nothing fails");
        assert_eq!(values(&output), (1_000..2_000).step_by(2).collect::<Vec<_>>());
        assert!(output.header.last);
        digests.push(output.trailer.outputs[0].digest.clone());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "the digest does not depend on lanes");
}

#[test]
fn stops_at_a_failing_row_and_names_it() {
    let mut circuit = circuit(&filtered(Arc::new(Even), OnError::Stop), 1);
    let error = circuit.step(input(0, &[2, 13, 4], false)).expect_err("13 fails");
    assert_eq!(error.to_string(), r#"Filter failed on row {"n": 13}: 13 is unlucky"#);
    let error = circuit.step(input(3, &[6], true)).expect_err("it has stopped");
    assert!(matches!(error, Error::Stopped));
}

#[test]
fn a_failing_row_can_be_left_out() {
    for on_error in [OnError::DeadLetter, OnError::Null] {
        let mut circuit = circuit(&filtered(Arc::new(Even), on_error), 2);
        let output = circuit.step(input(0, &[2, 13, 4], true)).expect("13 is left out");
        assert_eq!(values(&output), [2, 4]);
        assert_eq!(output.trailer.dead_rows, u64::from(on_error == OnError::DeadLetter));
    }
}

#[test]
fn catches_a_panic_on_every_lane() {
    let numbers: Vec<i64> = (14..99).chain(100..400).chain([99]).collect();
    for lanes in [1, 3] {
        let mut circuit = circuit(&filtered(Arc::new(Even), OnError::Stop), lanes);
        let error = circuit.step(input(0, &numbers, true)).expect_err("99 panics");
        assert!(
            matches!(&error, Error::Panic { operator, message, .. } if operator == "Filter" && message.contains("99"))
        );
    }
}

#[test]
fn an_unknown_source_is_refused() {
    let predicate = Column::new(0, "n", DataType::Int64);
    let mut circuit = circuit(&filtered(predicate, OnError::Stop), 1);
    let mut input = input(0, &[1], true);
    input.sources[0].source = "letters".to_string();
    let error = circuit.step(input).expect_err("there is no such source");
    assert!(error.to_string().contains("letters"));
}
