use std::collections::BTreeMap as Map;

use arrow_array::Int64Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema};
use tidemill_base::rand::Rng;

use super::*;

fn schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![field("k"), field("v")]))
}

fn make(key: Option<Vec<usize>>, append_only: bool) -> (ViewWriter, View) {
    view(ViewSpec { name: "v".to_string(), schema: schema(), key, append_only }).expect("integers can be compared")
}

fn delta(rows: &[(i64, i64, i64)]) -> Delta {
    let column = |pick: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(pick)))
    };
    let batch = RecordBatch::try_new(schema(), vec![column(|row| row.0), column(|row| row.1)]).expect("two columns");
    Delta::weighted(batch, rows.iter().map(|row| row.2).collect())
}

fn rows(snapshot: &Snapshot) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for batch in &snapshot.batches {
        let (keys, values) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        rows.extend(keys.values().iter().copied().zip(values.values().iter().copied()));
    }
    rows.sort();
    rows
}

#[test]
fn a_reader_keeps_the_version_it_pinned() {
    let (mut writer, view) = make(Some(vec![0]), false);
    writer.apply(1, &[delta(&[(1, 10, 1), (2, 20, 1)])]).expect("two rows come");
    let before = view.scan().expect("rows are there");
    writer.apply(2, &[delta(&[(1, 10, -1), (1, 11, 1)])]).expect("one row changes");
    assert_eq!((before.version, rows(&before)), (1, vec![(1, 10), (2, 20)]));
    let after = view.scan().expect("rows are there");
    assert_eq!((after.version, rows(&after)), (2, vec![(1, 11), (2, 20)]));
}

#[test]
fn finds_rows_by_key() {
    let (mut writer, view) = make(Some(vec![0]), false);
    writer.apply(1, &[delta(&[(1, 10, 1), (2, 20, 1)])]).expect("two rows come");
    let key = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    assert_eq!(rows(&view.lookup(&[key(2)]).expect("the key fits")), [(2, 20)]);
    assert_eq!(rows(&view.lookup(&[key(3)]).expect("the key fits")), []);
    assert!(matches!(view.lookup(&[key(1), key(1)]), Err(Error::BadKey { .. })));
    assert!(matches!(make(None, false).1.lookup(&[key(1)]), Err(Error::NoKey { .. })));
}

#[test]
fn equal_rows_are_counted_where_there_is_no_key() {
    let (mut writer, view) = make(None, false);
    writer.apply(1, &[delta(&[(1, 1, 3)])]).expect("three rows come");
    writer.apply(2, &[delta(&[(1, 1, -2), (2, 2, 1), (2, 2, 1)])]).expect("two go, two come");
    assert_eq!(rows(&view.scan().expect("rows are there")), [(1, 1), (2, 2), (2, 2)]);
    assert!(matches!(writer.apply(3, &[delta(&[(9, 9, -1)])]), Err(Error::NotThere { step: 3, .. })));
}

#[test]
fn the_one_row_of_a_global_aggregate_changes() {
    let (mut writer, view) = make(Some(vec![]), false);
    writer.apply(1, &[delta(&[(0, 0, 1)])]).expect("a row comes");
    writer.apply(2, &[delta(&[(0, 0, -1), (3, 7, 1)])]).expect("it changes");
    assert_eq!(rows(&view.scan().expect("a row is there")), [(3, 7)]);
}

#[test]
fn what_comes_and_goes_in_one_step_was_never_there() {
    for key in [None, Some(vec![0])] {
        let (mut writer, view) = make(key, false);
        writer.apply(1, &[delta(&[(1, 2, 1), (1, 1, -1), (1, 1, 1)])]).expect("the step is consistent");
        assert_eq!(rows(&view.scan().expect("rows are there")), [(1, 2)]);
    }
}

#[test]
fn rows_of_one_key_may_come_and_go_in_any_order() {
    let check = |changes: &[(i64, i64, i64)], expected: &[(i64, i64)]| {
        let (mut writer, view) = make(Some(vec![0]), false);
        writer.apply(1, &[delta(&[(1, 10, 1), (2, 20, 1)])]).expect("two rows come");
        let (one, two) = changes.split_at(changes.len() / 2);
        writer.apply(2, &[delta(one), delta(two)]).expect("the step is consistent");
        assert_eq!(rows(&view.scan().expect("rows are there")), expected, "{changes:?}");
    };
    check(&[(1, 10, -1), (1, 11, 1)], &[(1, 11), (2, 20)]);
    check(&[(1, 11, 1), (1, 10, -1)], &[(1, 11), (2, 20)]);
    check(&[(1, 11, 1), (1, 11, -1)], &[(1, 10), (2, 20)]);
    check(&[(1, 12, 1), (1, 11, 1), (1, 10, -1), (1, 12, -1)], &[(1, 11), (2, 20)]);
    check(&[(1, 11, -1), (1, 10, -1), (1, 11, 1), (2, 20, -1)], &[]);
    check(&[(3, 30, -1), (3, 31, 1), (3, 30, 1), (3, 31, -1)], &[(1, 10), (2, 20)]);
    check(&[(3, 30, 0), (1, 10, 0), (3, 31, 0)], &[(1, 10), (2, 20)]);
    check(&[(1, 12, 1), (1, 13, 1)], &[(1, 13), (2, 20)]);
    let (mut writer, _) = make(Some(vec![0]), false);
    assert!(matches!(writer.apply(1, &[delta(&[(1, 1, -1), (1, 2, 1)])]), Err(Error::NotThere { step: 1, .. })));
}

#[test]
fn a_restored_view_goes_on_with_what_is_stored() {
    for key in [None, Some(vec![0])] {
        let (mut writer, view) = make(key.clone(), false);
        writer.apply(1, &[delta(&[(1, 10, 1), (2, 20, 1), (3, 30, 1)])]).expect("rows come");
        writer.apply(2, &[delta(&[(4, 40, 1), (5, 50, 1), (3, 30, -1)])]).expect("rows come and go");
        let mut save = writer.begin_save(false, 7);
        let stored: Vec<_> = std::iter::from_fn(|| save.next_chunk().expect("integers can be written")).collect();
        assert!(save.is_full() && stored.len() == 2);
        let (mut again, other) = make(key, false);
        for chunk in stored.iter().rev() {
            again.restore_stored(2, chunk.id, chunk.rows.as_deref().expect("rows")).expect("the rows are whole");
        }
        assert!(again.resume_saves());
        let scans = [&view, &other].map(|view| rows(&view.scan().expect("rows are there")));
        assert_eq!(scans[0], scans[1]);
        again.apply(3, &[delta(&[(4, 40, -1), (6, 60, 1)])]).expect("rows come and go");
        let mut save = again.begin_save(false, 7);
        let given: Vec<u32> = std::iter::from_fn(|| save.next_chunk().expect("integers can be written"))
            .map(|chunk| chunk.id.chunk)
            .collect();
        assert_eq!((save.is_full(), given), (false, vec![1, 2]), "only what has changed is given");
        let twice = again.restore_stored(3, stored[0].id, stored[0].rows.as_deref().expect("rows"));
        assert!(matches!(twice, Err(Error::Saved { .. })), "a chunk is there once");
    }
}

#[test]
fn equals_a_plain_map_under_random_changes() {
    for seed in 0..30 {
        let mut rng = Rng::seeded(seed);
        let (mut writer, view) = make(Some(vec![0]), false);
        let mut model: Map<i64, i64> = Map::new();
        for step in 1..200 {
            let mut changes = Vec::new();
            for key in (0..60).filter(|_| rng.chance(1, 5)).collect::<Vec<i64>>() {
                if let Some(old) = model.remove(&key) {
                    changes.push((key, old, -1));
                }
                if rng.chance(2, 3) {
                    let value = rng.below(1_000) as i64;
                    changes.push((key, value, 1));
                    model.insert(key, value);
                }
            }
            writer.apply(step, &[delta(&changes)]).expect("the changes are consistent");
            let snapshot = view.scan().expect("rows are there");
            assert_eq!(rows(&snapshot), model.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

/// Rows with a value in a column, as an index finds them.
fn found(view: &View, column: usize, value: i64) -> (u64, Vec<(i64, i64)>) {
    let value: ArrayRef = Arc::new(Int64Array::from(vec![value]));
    let snapshot = view.find(&[column], &[value], usize::MAX).expect("there is such an index");
    (snapshot.version, rows(&snapshot))
}

#[test]
fn an_index_finds_the_rows_that_a_scan_does() {
    for key in [None, Some(vec![0])] {
        let spec = ViewSpec { name: "v".to_string(), schema: schema(), key: key.clone(), append_only: false };
        let indexes = [vec![1], vec![1, 0]];
        let (mut writer, view) = indexed(spec.clone(), &indexes).expect("integers");
        let mut rng = Rng::seeded(7);
        let mut there: Map<i64, i64> = Map::new();
        for step in 1..120 {
            let mut changes = Vec::new();
            for key in (0..40).filter(|_| rng.chance(1, 4)).collect::<Vec<i64>>() {
                changes.extend(there.remove(&key).map(|old| (key, old, -1)));
                if rng.chance(2, 3) {
                    let value = rng.below(5) as i64;
                    changes.push((key, value, 1));
                    there.insert(key, value);
                }
            }
            writer.apply(step, &[delta(&changes)]).expect("the changes are consistent");
            for value in 0..5 {
                let expected = there.iter().filter(|row| *row.1 == value).map(|(key, value)| (*key, *value)).collect();
                assert_eq!(found(&view, 1, value), (step, expected), "value {value} in step {step}");
            }
        }
        let mut save = writer.begin_save(true, 7);
        let (mut again, other) = indexed(spec, &indexes).expect("integers");
        while let Some(chunk) = save.next_chunk().expect("integers can be written") {
            again.restore_chunk(119, chunk.rows.as_deref().expect("rows")).expect("the rows are whole");
        }
        assert_eq!(found(&other, 1, 3), found(&view, 1, 3), "what was restored is found");
        let (row, both) =
            (there.iter().next().expect("a row"), |value: i64| Arc::new(Int64Array::from(vec![value])) as _);
        let snapshot = view.find(&[0, 1], &[both(*row.0), both(*row.1)], 9).expect("columns in whichever order");
        assert_eq!(rows(&snapshot), [(*row.0, *row.1)]);
        assert!(matches!(view.find(&[0], &[both(1)], 9), Err(Error::NoIndex { .. })));
    }
}

#[test]
fn an_index_over_rows_that_only_come_finds_each_as_often_as_it_is_there() {
    let spec = ViewSpec { name: "v".to_string(), schema: schema(), key: None, append_only: true };
    let (mut writer, view) = indexed(spec, &[vec![1]]).expect("integers");
    writer.apply(1, &[delta(&[(1, 7, 1), (2, 7, 1), (1, 7, 1)])]).expect("rows come");
    writer.apply(2, &[delta(&[(1, 7, 1), (3, 8, 1)])]).expect("rows come");
    assert_eq!(found(&view, 1, 7), (2, vec![(1, 7), (1, 7), (1, 7), (2, 7)]));
    assert_eq!(found(&view, 1, 9), (2, vec![]));
}
