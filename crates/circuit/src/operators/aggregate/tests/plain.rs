//! Aggregates without windows.

use super::reference::table;
use super::*;

/// Runs `rows` cut into steps at `cuts` and compares with the reference after each step.
fn follow(case: &Case, rows: &[(Row, i64)], cuts: &[usize], chunk: usize, lanes: usize) -> Result<(), TestCaseError> {
    let mut bench = case.bench(lanes).expect("the aggregate is supported");
    let mut from = 0;
    for cut in cuts.iter().map(|cut| cut % (rows.len() + 1)).chain([rows.len()]) {
        let to = cut.max(from);
        let deltas = rows[from..to].chunks(chunk).map(delta).collect();
        bench.step(deltas, i64::MIN, 0).expect("the step runs");
        prop_assert_eq!(&bench.integral, &table(case, &left(&rows[..to])), "after {} rows", to);
        from = to;
    }
    if !case.append_only {
        let back: Vec<(Row, i64)> = left(rows).into_iter().map(|row| (row, -1)).collect();
        let deltas = back.chunks(chunk).map(delta).collect();
        bench.step(deltas, i64::MIN, 0).expect("the step runs");
        prop_assert_eq!(&bench.integral, &table(case, &[]));
        let groups = u64::from(case.keys.is_empty());
        prop_assert_eq!(bench.size().entries, groups, "nothing is kept of what was taken back");
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_function_equals_a_recomputation(
        rows in rows(false), cuts in prop::collection::vec(0_usize..50, 0..5), chunk in 1_usize..20, lanes in 1_usize..4,
    ) {
        let mut cuts = cuts;
        cuts.sort();
        follow(&Case::plain(all_calls()), &rows, &cuts, chunk, lanes)?;
    }

    #[test]
    fn every_function_equals_a_recomputation_over_inserts(
        rows in rows(true), cuts in prop::collection::vec(0_usize..50, 0..5), chunk in 1_usize..20, lanes in 1_usize..4,
    ) {
        let mut cuts = cuts;
        cuts.sort();
        follow(&Case { append_only: true, ..Case::plain(all_calls()) }, &rows, &cuts, chunk, lanes)?;
    }

    #[test]
    fn each_function_alone_equals_a_recomputation(
        rows in rows(false), call in prop::sample::select(all_calls()), global in any::<bool>(), lanes in 1_usize..4,
    ) {
        let keys = if global { vec![] } else { vec![KEY] };
        follow(&Case { keys, ..Case::plain(vec![call]) }, &rows, &[7, 20], 5, lanes)?;
    }

    #[test]
    fn states_that_travel_between_lanes_equal_a_recomputation(
        rows in rows(false), calls in prop::sample::subsequence(travelling(false), 1..20), global in any::<bool>(),
        lanes in 2_usize..5,
    ) {
        let keys = if global { vec![] } else { vec![KEY] };
        let case = Case { keys, ..Case::plain(calls) };
        prop_assert!(case.bench(lanes).expect("supported").tasks() > 2, "summed where the rows are");
        follow(&case, &rows, &[7, 20], 5, lanes)?;
    }

    #[test]
    fn states_over_inserts_that_travel_between_lanes_equal_a_recomputation(
        rows in rows(true), calls in prop::sample::subsequence(travelling(true), 1..20), global in any::<bool>(),
        lanes in 2_usize..5,
    ) {
        let keys = if global { vec![] } else { vec![KEY] };
        let case = Case { keys, append_only: true, ..Case::plain(calls) };
        prop_assert!(case.bench(lanes).expect("supported").tasks() > 2, "summed where the rows are");
        follow(&case, &rows, &[7, 20], 5, lanes)?;
    }

    #[test]
    fn distinct_rows_equal_a_recomputation(rows in rows(false), lanes in 1_usize..4) {
        follow(&Case::plain(Vec::new()), &rows, &[3, 17, 30], 4, lanes)?;
    }
}

#[test]
fn a_global_aggregate_has_its_row_before_any_input() {
    let calls = vec![call(Count, &[], DataType::Int64), call(Sum, &[INT], DataType::Int64)];
    for lanes in [1, 3] {
        let case = Case { keys: Vec::new(), ..Case::plain(calls.clone()) };
        let mut bench = case.bench(lanes).expect("supported");
        assert_eq!(bench.next_due().map(|due| due.millis()), Some(i64::MIN));
        bench.step(Vec::new(), i64::MIN, 0).expect("the step runs");
        check(&bench.integral, "0 _");
        assert_eq!(bench.next_due(), None);
        bench.step(vec![delta(&[(Row::at(1, 0, 4), 1)])], i64::MIN, 0).expect("the step runs");
        check(&bench.integral, "1 4");
    }
}

#[test]
fn a_group_that_stays_equal_says_nothing() {
    let mut bench = Case::plain(vec![call(Max, &[INT], DataType::Int64)]).bench(1).expect("supported");
    let said = |bench: &mut Bench, rows: &[(Row, i64)]| -> Vec<i64> {
        let deltas = bench.step(vec![delta(rows)], i64::MIN, 0).expect("the step runs");
        deltas.iter().flat_map(|delta| (0..delta.rows()).map(|row| delta.weight(row))).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut bench, &[(Row::at(1, 0, 4), 1)]), [1]);
    assert_eq!(said(&mut bench, &[(Row::at(1, 1, 3), 1)]), Vec::<i64>::new());
    assert_eq!(said(&mut bench, &[(Row::at(1, 2, 9), 1), (Row::at(1, 2, 9), -1)]), Vec::<i64>::new());
    assert_eq!(said(&mut bench, &[(Row::at(1, 3, 5), 1)]), [-1, 1]);
    assert_eq!(said(&mut bench, &[(Row::at(1, 3, 5), -1), (Row::at(1, 0, 4), -1), (Row::at(1, 1, 3), -1)]), [-1]);
}

#[test]
fn more_groups_than_a_chunk_leave_in_chunks() {
    let mut bench = Case { keys: vec![INT], ..Case::plain(vec![call(Count, &[], DataType::Int64)]) };
    bench.append_only = true;
    let mut bench = bench.bench(1).expect("supported");
    let rows: Vec<(Row, i64)> = (0..20_000).map(|value| (Row::at(1, 0, value), 1)).collect();
    for times in 1..=2 {
        let deltas = rows.chunks(8_192).map(delta).collect();
        let said = bench.step(deltas, i64::MIN, 0).expect("the step runs");
        assert!(said.iter().all(|delta| delta.rows() <= crate::delta::DELTA_ROWS_MAX));
        assert_eq!(bench.integral.len(), 20_000);
        assert!(bench.integral.iter().all(|(line, weight)| *weight == 1 && line.ends_with(&format!(" {times}"))));
    }
}

#[test]
fn integers_wrap_as_in_flink() {
    let int = DataType::Int64;
    let calls = vec![call(Sum, &[INT], int.clone()), call(Avg, &[INT], int.clone()), call(VarPop, &[INT], int)];
    let mut bench = Case::plain(calls).bench(1).expect("supported");
    let rows = [(Row { decimal: None, ..Row::at(2, 0, i64::MAX / 200) }, 1), (Row::at(2, 1, 1), 1)];
    let mut rows = rows.to_vec();
    rows[0].0.int = Some(i64::MAX);
    bench.step(vec![delta(&rows)], i64::MIN, 0).expect("the step runs");
    check(&bench.integral, "k2 -9223372036854775808 -4611686018427387904 1");
}

#[test]
fn what_is_not_supported_is_said_when_planned() {
    for (calls, what) in [
        (vec![call(Sum, &[TEXT], DataType::Int64)], "Sum of Utf8 is not supported"),
        (vec![call(BoolAnd, &[INT], DataType::Boolean)], "BOOL_AND or BOOL_OR of Int64 is not supported"),
    ] {
        let error = Case::plain(calls).bench(1).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(what));
    }
    let error = Case { emit: Emit::OnClose, ..Case::plain(all_calls()) }.bench(1).err();
    assert!(matches!(error, Some(Error::Unsupported { .. })));
}
