use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;

use crate::circuit::{Circuit, Options};
use crate::decode::{Block, BlockData, Decoders};
use crate::delta::Delta;
use crate::error::Error;
use crate::expr::OnError;
use crate::keep::{Blob, Chunk, ChunkId, PartitionPosition};
use crate::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, Node, NodeId, OutputSpec, Plan, SourceSpec, Spec,
};
use crate::step::{SourceInput, StepInput};

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn node(spec: Spec, inputs: Vec<NodeId>, schema: SchemaRef) -> Node {
    Node { spec, inputs, schema, position: None, on_error: OnError::Stop }
}

/// For each function an output with `SELECT n, FUNCTION(n) FROM numbers GROUP BY n`.
fn grouped(functions: &[AggregateFunction]) -> Plan {
    let mut plan = Plan::default();
    let source = SourceSpec {
        name: "numbers".to_string(),
        decoded: schema(&["n"]),
        origin: false,
        computed: None,
        watermark: None,
        append_only: false,
    };
    let source = plan.add(node(Spec::Source(source), vec![], schema(&["n"])));
    for function in functions {
        let call = AggregateCall {
            function: *function,
            args: vec![0],
            filter: None,
            distinct: false,
            result: DataType::Int64,
        };
        let (window, emit) = (None, Emit::Changes);
        let spec =
            AggregateSpec { keys: vec![0], window, calls: vec![call], emit, allowed_lateness_ms: 0, expiry: None };
        let group = plan.add(node(Spec::Aggregate(spec), vec![source], schema(&["n", "value"])));
        let name = format!("{function:?}");
        plan.add(node(Spec::Output(OutputSpec { name, key: None }), vec![group], schema(&["n", "value"])));
    }
    plan
}

const COUNT: &[AggregateFunction] = &[AggregateFunction::Count];

fn circuit(plan: &Plan, lanes: usize) -> Circuit {
    let options = Options { lanes, keep: true, chunk_slots: 10, ..Options::default() };
    Circuit::new(plan, &Decoders::new(), options).expect("the plan is supported")
}

/// Takes numbers, each with a weight.
fn take(circuit: &mut Circuit, numbers: impl IntoIterator<Item = (i64, i64)>) {
    let (numbers, weights): (Vec<i64>, Vec<i64>) = numbers.into_iter().unzip();
    let records = numbers.len() as u64;
    let column: ArrayRef = Arc::new(Int64Array::from(numbers));
    let batch = RecordBatch::try_new(schema(&["n"]), vec![column]).expect("one column");
    let first = circuit.positions()[0].partitions.first().map_or(0, |partition| partition.next);
    let block = Block {
        partition: 0,
        from: first,
        to: first + records,
        first_record: first,
        records: records as u32,
        data: BlockData::Rows(Delta::weighted(batch, weights)),
    };
    let news = SourceInput { source: "numbers".to_string(), blocks: vec![block], ..SourceInput::default() };
    circuit.step(StepInput { now: 0, sources: vec![news] }).expect("nothing fails");
}

fn chunks_of(circuit: &mut Circuit) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    loop {
        let slice = circuit.save_slice(1).expect("a save is under way");
        assert!(slice.chunks.len() <= circuit.lanes(), "a slice of one byte has a chunk of a lane at most");
        chunks.extend(slice.chunks);
        if slice.done {
            return chunks;
        }
    }
}

/// A save that is stored.
fn save(circuit: &mut Circuit, full: bool) -> (Vec<Blob>, Vec<Chunk>) {
    let start = circuit.begin_save(full).expect("state is kept");
    let chunks = chunks_of(circuit);
    circuit.end_save(true);
    (start.blobs, chunks)
}

fn numbers(chunks: &[Chunk]) -> Vec<u32> {
    chunks.iter().map(|chunk| chunk.id.chunk).collect()
}

#[test]
fn a_save_gives_the_chunks_that_have_changed() {
    let mut circuit = circuit(&grouped(COUNT), 1);
    take(&mut circuit, (0..95).map(|number| (number, 1)));
    assert!(circuit.begin_save(false).expect("state is kept").full, "the first save is a full one");
    assert_eq!(numbers(&chunks_of(&mut circuit)), (0..10).collect::<Vec<_>>());
    circuit.end_save(true);
    assert_eq!(save(&mut circuit, false).1, []);
    take(&mut circuit, [(42, 1), (95, 1), (96, 1), (42, 1)]);
    assert_eq!(numbers(&save(&mut circuit, false).1), [4, 9]);
    assert_eq!(numbers(&save(&mut circuit, true).1).len(), 10);
}

#[test]
fn what_was_not_stored_is_given_again() {
    let mut circuit = circuit(&grouped(COUNT), 1);
    take(&mut circuit, (0..30).map(|number| (number, 1)));
    save(&mut circuit, false);
    take(&mut circuit, [(5, 1)]);
    circuit.begin_save(false).expect("state is kept");
    chunks_of(&mut circuit);
    circuit.end_save(false);
    take(&mut circuit, [(25, 1)]);
    circuit.begin_save(false).expect("state is kept");
    circuit.save_slice(1).expect("a save is under way");
    circuit.end_save(true);
    assert_eq!(numbers(&save(&mut circuit, false).1), [0, 2], "a save that was not finished is not stored");
}

#[test]
fn a_chunk_without_rows_is_to_be_forgotten() {
    let mut circuit = circuit(&grouped(COUNT), 1);
    take(&mut circuit, (0..30).map(|number| (number, 1)));
    save(&mut circuit, false);
    take(&mut circuit, (10..20).map(|number| (number, -1)));
    let (_, chunks) = save(&mut circuit, false);
    assert_eq!((numbers(&chunks), chunks[0].rows.is_none()), (vec![1], true));
}

#[test]
fn a_save_shows_the_step_at_which_it_began() {
    let (mut quiet, mut busy) = (circuit(&grouped(COUNT), 1), circuit(&grouped(COUNT), 1));
    for circuit in [&mut quiet, &mut busy] {
        take(circuit, (0..40).map(|number| (number, 1)));
        circuit.begin_save(true).expect("state is kept");
    }
    let expected = chunks_of(&mut quiet);
    let mut given = busy.save_slice(1).expect("a save is under way").chunks;
    take(&mut busy, (0..60).map(|number| (number, 1)));
    take(&mut busy, (0..35).map(|number| (number, -2)));
    given.extend(busy.save_slice(1).expect("a save is under way").chunks);
    take(&mut busy, (100..150).map(|number| (number, 1)));
    given.extend(chunks_of(&mut busy));
    assert_eq!(given, expected);
}

#[test]
fn a_save_goes_on_within_a_chunk() {
    let mut circuit = circuit(&grouped(COUNT), 1);
    take(&mut circuit, (0..10).map(|number| (number, 1)));
    let mut slices = 0;
    circuit.begin_save(true).expect("state is kept");
    while !circuit.save_slice(1).expect("a save is under way").done {
        slices += 1;
        take(&mut circuit, [(slices, 1)]);
    }
    assert!(slices >= 9, "each slice has a row at least, and no more than fits: {slices}");
}

#[test]
fn state_moves_to_another_number_of_lanes() {
    let plan = grouped(&[AggregateFunction::Sum, AggregateFunction::Max]);
    let mut one = circuit(&plan, 1);
    take(&mut one, (0..500).map(|number| (number % 90, 1)));
    let (blobs, chunks) = save(&mut one, true);
    let mut three = circuit(&plan, 3);
    let restored = three.restore(&blobs).expect("the blobs are whole");
    assert_eq!((restored.step, restored.kept, restored.fresh), (1, vec![1, 3], vec![]));
    let position = PartitionPosition { partition: 0, next: 500, records: 500, ended: false };
    assert_eq!(restored.sources[0].partitions, [position]);
    for chunk in &chunks {
        assert!(three.restore_chunk(chunk.id, chunk.rows.as_ref().expect("rows")).expect("the rows are whole"));
    }
    assert_eq!(three.state()[0].1.entries, 90);
    assert_eq!(three.roots().expect("state is kept"), one.roots().expect("state is kept"));
    for circuit in [&mut one, &mut three] {
        take(circuit, (0..50).map(|number| (number, -1)));
    }
    assert_eq!(three.roots().expect("state is kept"), one.roots().expect("state is kept"));
}

#[test]
fn a_restored_circuit_goes_on_with_what_is_stored() {
    for lanes in [1, 3] {
        let plan = grouped(COUNT);
        let mut before = circuit(&plan, lanes);
        take(&mut before, (0..200).map(|number| (number, 1)));
        // Groups that went have left gaps.
        take(&mut before, (40..120).filter(|number| number % 3 > 0).map(|number| (number, -1)));
        let (blobs, chunks) = save(&mut before, true);
        let stored: Vec<_> =
            chunks.iter().rev().map(|chunk| (chunk.id, Bytes::from(chunk.rows.clone().unwrap_or_default()))).collect();
        let mut after = circuit(&plan, lanes);
        after.restore(&blobs).expect("the blobs are whole");
        after.restore_chunks(&stored).expect("the rows are whole");
        assert!(after.resume_saves());
        assert_eq!(save(&mut after, false).1, [], "nothing has changed");
        take(&mut after, [(7, 1), (41, 1)]);
        let roots = after.roots().expect("state is kept");
        let start = after.begin_save(false).expect("state is kept");
        let given = chunks_of(&mut after);
        assert!(!start.full && (1..=2).contains(&given.len()), "only what has changed is given: {given:?}");
        given.iter().for_each(|chunk| start.digests.put(chunk));
        assert_eq!(start.digests.roots(), roots, "the digests of what was restored are known");
        let mut other = circuit(&plan, 2);
        other.restore(&blobs).expect("the blobs are whole");
        other.restore_chunks(&stored).expect("the rows are whole");
        assert!(!other.resume_saves(), "on other lanes chunks are others");
        assert!(other.begin_save(false).expect("state is kept").full);
    }
}

#[test]
fn a_changed_plan_keeps_what_it_still_computes() {
    use AggregateFunction::{Count, Max, Sum};
    let mut before = circuit(&grouped(&[Count, Sum]), 1);
    take(&mut before, (0..30).map(|number| (number, 1)));
    let dropped = before.fingerprints()[3];
    let (blobs, chunks) = save(&mut before, true);
    let mut after = circuit(&grouped(&[Max, Count]), 2);
    let restored = after.restore(&blobs).expect("the blobs are whole");
    assert_eq!((restored.kept, restored.fresh, restored.dropped), (vec![3], vec![1], vec![dropped]));
    for chunk in &chunks {
        let kept = after.restore_chunk(chunk.id, chunk.rows.as_ref().expect("rows")).expect("the rows are whole");
        assert_eq!(kept, chunk.id.operator != dropped);
    }
    let sizes: Vec<_> = after.state().into_iter().map(|(node, size)| (node, size.entries)).collect();
    assert_eq!(sizes.iter().find(|(node, _)| *node == 3), Some(&(3, 30)));
    assert_eq!(sizes.iter().find(|(node, entries)| *node == 1 && *entries > 0), None);
}

#[test]
fn damaged_or_newer_state_is_refused() {
    let plan = grouped(COUNT);
    let mut circuit_before = circuit(&plan, 1);
    take(&mut circuit_before, [(1, 1)]);
    let (blobs, chunks) = save(&mut circuit_before, true);
    let rows = chunks[0].rows.as_ref().expect("rows");
    let refused = |id: ChunkId, rows: &[u8]| {
        let mut fresh = circuit(&plan, 1);
        fresh.restore(&blobs).expect("the blobs are whole");
        fresh.restore_chunk(id, rows).expect_err("it is damaged").to_string()
    };
    let id = chunks[0].id;
    let text = refused(id, &rows[..rows.len() - 1]);
    assert!(text.starts_with("the saved state of Aggregate cannot be restored: "), "{text}");
    let newer = [&3_u16.to_le_bytes(), &rows[2..]].concat();
    assert!(refused(id, &newer).ends_with("its format is 3, and this build reads up to 2"));
    assert!(refused(ChunkId { table: 7, ..id }, rows).ends_with("it keeps no table 7"));
    let newer = |blob: &Blob| {
        let text = String::from_utf8_lossy(&blob.bytes).replace("\"format\":1", "\"format\":2");
        Blob { name: blob.name.clone(), bytes: text.into_bytes() }
    };
    let newer: Vec<Blob> = blobs.iter().map(newer).collect();
    let error = circuit(&plan, 1).restore(&newer).expect_err("it is newer").to_string();
    assert!(error.contains("its format is 2"), "{error}");
    let error = circuit(&plan, 1).restore(&blobs[1..]).expect_err("a blob is missing").to_string();
    assert!(error.ends_with("there is no blob 'circuit'"), "{error}");
}

#[test]
fn what_is_not_kept_cannot_be_saved() {
    let options = Options::default();
    let mut circuit = Circuit::new(&grouped(COUNT), &Decoders::new(), options).expect("the plan is supported");
    assert!(matches!(circuit.begin_save(true), Err(Error::Broken { .. })));
    assert!(matches!(circuit.save_slice(1), Err(Error::Broken { .. })));
    assert!(matches!(circuit.roots(), Err(Error::Broken { .. })));
    take(&mut circuit, [(1, 1)]);
    assert!(matches!(circuit.restore(&[]), Err(Error::Broken { .. })), "it has run already");
}
