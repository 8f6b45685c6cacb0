//! Aggregates in windows.

use super::reference::{key_text, line};
use super::*;
use crate::operators::time::windows_of;

/// A key, a window (start, end), and the rows in it.
type Windowed = (Vec<String>, (i64, i64), Vec<Row>);

/// All windows that have rows.
fn windows(case: &Case, rows: &[Row]) -> Vec<Windowed> {
    let Some(WindowKey::Time { window, .. }) = &case.window else { return Vec::new() };
    let mut found: std::collections::BTreeMap<(String, i64, i64), Vec<Row>> = Default::default();
    if let Window::Session { gap } = window {
        let mut sorted = rows.to_vec();
        sorted.sort_by_key(|row| (key_text(row), row.time));
        let mut open: Option<(String, i64, i64)> = None;
        let mut group: Vec<Row> = Vec::new();
        for row in sorted {
            let key = key_text(&row);
            match &mut open {
                Some((k, _, last)) if *k == key && row.time - *last <= *gap => *last = row.time,
                _ => {
                    if let Some((k, first, last)) = open.take() {
                        found.insert((k, first, last + gap), std::mem::take(&mut group));
                    }
                    open = Some((key, row.time, row.time));
                }
            }
            group.push(row);
        }
        if let Some((k, first, last)) = open {
            found.insert((k, first, last + gap), group);
        }
    } else {
        for row in rows {
            windows_of(window, row.time, |start, end| {
                found.entry((key_text(row), start, end)).or_default().push(row.clone());
            });
        }
    }
    let finish = |((key, start, end), mut rows): ((String, i64, i64), Vec<Row>)| {
        rows.sort_by_key(|row| row.origin);
        (vec![key], (start, end), rows)
    };
    found.into_iter().map(finish).collect()
}

/// The table of the windows whose end `seen` accepts.
fn table(case: &Case, rows: &[Row], seen: impl Fn(i64) -> bool) -> Table {
    let mut table = Table::new();
    for (mut head, (start, end), rows) in windows(case, rows).into_iter().filter(|(_, (_, end), _)| seen(*end)) {
        head.extend([start, end, end - 1].map(|time| time.to_string()));
        table.insert(line(head, &case.calls, &rows), 1);
    }
    table
}

fn some_calls() -> Vec<AggregateCall> {
    all_calls().into_iter().filter(|call| call.function != ApproxQuantile(0.5)).collect()
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1_i64..20, -5_i64..5).prop_map(|(size, offset)| Window::Tumble { size, offset }),
        (1_i64..6, 1_i64..5, -5_i64..5).prop_map(|(slide, times, offset)| Window::Hop {
            slide,
            size: slide * times,
            offset
        }),
        (1_i64..6, 1_i64..5, -5_i64..5).prop_map(|(step, times, offset)| Window::Cumulate {
            step,
            max: step * times,
            offset
        }),
        (0_i64..8).prop_map(|gap| Window::Session { gap }),
    ]
}

/// Sorts by time, so that the watermark can follow without late rows; a retraction follows its insertion at once.
fn in_order(rows: Vec<(Row, i64)>) -> Vec<(Row, i64)> {
    let mut rows = rows;
    rows.sort_by_key(|(row, _)| row.time);
    rows
}

fn follow(case: &Case, rows: Vec<(Row, i64)>, cuts: &[usize], lanes: usize) -> Result<(), TestCaseError> {
    let rows = in_order(rows);
    let session = matches!(case.window, Some(WindowKey::Time { window: Window::Session { .. }, .. }));
    let mut bench = case.bench(lanes).expect("the aggregate is supported");
    let mut from = 0;
    for cut in cuts.iter().map(|cut| cut % (rows.len() + 1)) {
        let to = cut.max(from);
        let deltas = rows[from..to].chunks(7).map(delta).collect();
        let watermark = rows.get(to).map_or(i64::MAX - 1, |(row, _)| row.time);
        bench.step(deltas, watermark, 0).expect("the step runs");
        let seen = |end: i64| match case.emit {
            Emit::Changes => true,
            Emit::OnClose if session => end < watermark,
            Emit::OnClose => end <= watermark,
        };
        prop_assert_eq!(&bench.integral, &table(case, &left(&rows[..to]), seen), "watermark {}", watermark);
        from = to;
    }
    let deltas = rows[from..].chunks(7).map(delta).collect();
    bench.step(deltas, i64::MAX, i64::MAX).expect("the step runs");
    prop_assert_eq!(&bench.integral, &table(case, &left(&rows), |_| true));
    prop_assert_eq!(bench.said.late_rows, 0);
    prop_assert_eq!(bench.size().entries, 0, "closed windows keep nothing");
    Ok(())
}

proptest! {
    #[test]
    fn windows_equal_a_recomputation(
        rows in rows(false), window in window(), changes in any::<bool>(), lateness in prop_oneof![Just(0_i64), 1_i64..30],
        cuts in prop::collection::vec(0_usize..50, 0..6), lanes in 1_usize..4,
    ) {
        let mut cuts = cuts;
        cuts.sort();
        let emit = if changes { Emit::Changes } else { Emit::OnClose };
        follow(&Case { emit, lateness, ..Case::windowed(window, some_calls()) }, rows, &cuts, lanes)?;
    }

    #[test]
    fn windows_over_inserts_equal_a_recomputation(
        rows in rows(true), window in window(), cuts in prop::collection::vec(0_usize..50, 0..6),
        calls in prop::sample::subsequence(some_calls(), 0..8), lanes in 1_usize..4,
    ) {
        let mut cuts = cuts;
        cuts.sort();
        follow(&Case { append_only: true, ..Case::windowed(window, calls) }, rows, &cuts, lanes)?;
    }

    #[test]
    fn windows_summed_where_the_rows_are_equal_a_recomputation(
        rows in rows(false), window in window(), changes in any::<bool>(), lateness in prop_oneof![Just(0_i64), 1_i64..30],
        cuts in prop::collection::vec(0_usize..50, 0..6), lanes in 2_usize..4,
        calls in prop::sample::subsequence(travelling(false), 1..12),
    ) {
        let mut cuts = cuts;
        cuts.sort();
        let emit = if changes { Emit::Changes } else { Emit::OnClose };
        let case = Case { emit, lateness, ..Case::windowed(window, calls) };
        let stages = case.bench(lanes).expect("supported").tasks();
        prop_assert_eq!(stages > 2, !matches!(window, Window::Session { .. }));
        follow(&case, rows, &cuts, lanes)?;
    }

    #[test]
    fn lateness_does_not_depend_on_steps_or_lanes(
        rows in rows(true), window in window(), delay in 0_i64..20, lateness in prop_oneof![Just(0_i64), 1_i64..20],
        cuts in prop::collection::vec(0_usize..50, 0..6), lanes in 1_usize..4, distinct in any::<bool>(),
    ) {
        let mut cuts = cuts;
        cuts.sort();
        let mut calls = vec![call(Count, &[], DataType::Int64), call(Sum, &[INT], DataType::Int64)];
        if distinct {
            calls.push(AggregateCall { distinct, ..call(Count, &[INT], DataType::Int64) });
        }
        let case = Case { append_only: true, lateness, ..Case::windowed(window, calls) };
        let rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
        let once = late_run(&case, &rows, delay, &[], 1);
        let each: Vec<usize> = (0..rows.len()).collect();
        prop_assert_eq!(&once, &late_run(&case, &rows, delay, &each, 1));
        prop_assert_eq!(&once, &late_run(&case, &rows, delay, &cuts, lanes));
    }
}

/// Runs rows of one partition in their order, with suspects marked; the integral and the number of late rows.
fn late_run(case: &Case, rows: &[Row], delay: i64, cuts: &[usize], lanes: usize) -> (Table, u64) {
    let mut bench = case.bench(lanes).expect("the aggregate is supported");
    let (mut from, mut watermark) = (0, i64::MIN);
    for cut in cuts.iter().copied().chain([rows.len()]) {
        let to = cut.clamp(from, rows.len());
        let mut deltas = Vec::new();
        for row in &rows[from..to] {
            let carried = if row.time < watermark { watermark } else { NO_SUSPECT };
            deltas.push(Delta::inserts(batch(std::slice::from_ref(row))).with_carried(Some(vec![carried])));
            watermark = watermark.max(row.time - delay);
        }
        bench.step(deltas, watermark, 0).expect("the step runs");
        from = to;
    }
    bench.step(Vec::new(), i64::MAX, i64::MAX).expect("the step runs");
    (bench.integral, bench.said.late_rows)
}

fn count() -> Vec<AggregateCall> {
    vec![call(Count, &[], DataType::Int64)]
}

fn inserts(times: &[i64]) -> Delta {
    delta(&times.iter().map(|time| (Row::at(1, *time, *time), 1)).collect::<Vec<_>>())
}

#[test]
fn fires_when_watermark_reaches_end() {
    let mut bench = Case::windowed(Window::Tumble { size: 10, offset: 0 }, count()).bench(1).expect("supported");
    bench.step(vec![inserts(&[1, 9, 11])], 9, 0).expect("the step runs");
    check(&bench.integral, "");
    bench.step(Vec::new(), 10, 0).expect("the step runs");
    check(&bench.integral, "k1 0 10 9 2");
    bench.step(Vec::new(), i64::MAX, 0).expect("the step runs");
    check(&bench.integral, "k1 0 10 9 2\nk1 10 20 19 1");
}

#[test]
fn a_late_row_is_counted_and_sent_aside() {
    let mut bench = Case::windowed(Window::Tumble { size: 10, offset: 0 }, count()).bench(1).expect("supported");
    let late = inserts(&[3, 12]).with_carried(Some(vec![15, 15]));
    bench.step(vec![inserts(&[15]), late], 15, 0).expect("the step runs");
    bench.step(Vec::new(), i64::MAX, 0).expect("the step runs");
    check(&bench.integral, "k1 10 20 19 2");
    assert_eq!((bench.said.late_rows, bench.said.side.len()), (1, 1));
}

#[test]
fn a_row_late_for_some_windows_counts_in_the_others() {
    let hop = Window::Hop { slide: 5, size: 10, offset: 0 };
    let mut bench = Case::windowed(hop, count()).bench(1).expect("supported");
    let late = inserts(&[7]).with_carried(Some(vec![12]));
    bench.step(vec![inserts(&[7, 12]), late], 9, 0).expect("the step runs");
    bench.step(Vec::new(), i64::MAX, 0).expect("the step runs");
    check(&bench.integral, "k1 0 10 9 1\nk1 10 20 19 1\nk1 5 15 14 3");
}

#[test]
fn late_rows_within_the_lateness_correct_the_window() {
    let case = Case { lateness: 10, ..Case::windowed(Window::Tumble { size: 10, offset: 0 }, count()) };
    let mut bench = case.bench(1).expect("supported");
    bench.step(vec![inserts(&[1, 15])], 15, 0).expect("the step runs");
    check(&bench.integral, "k1 0 10 9 1");
    let said = bench.step(vec![inserts(&[2]).with_carried(Some(vec![15]))], 15, 0).expect("the step runs");
    check(&bench.integral, "k1 0 10 9 2");
    assert_eq!(said[0].weights(), Some([-1, 1].as_slice()));
    bench.step(vec![inserts(&[3]).with_carried(Some(vec![20]))], 20, 0).expect("the step runs");
    check(&bench.integral, "k1 0 10 9 2\nk1 10 20 19 1");
    assert_eq!(bench.said.late_rows, 1);
}

#[test]
fn a_watermark_that_jumps_by_years_fires_only_windows_with_rows() {
    let hop = Window::Hop { slide: 1, size: 1_000, offset: 0 };
    let mut bench = Case::windowed(hop, count()).bench(1).expect("supported");
    let year = 365 * 86_400_000;
    bench.step(vec![inserts(&[0])], 1, 0).expect("the step runs");
    bench.step(vec![inserts(&[80 * year])], 80 * year, 0).expect("the step runs");
    assert_eq!(bench.integral.len(), 1_000);
    bench.step(Vec::new(), i64::MAX, 0).expect("the step runs");
    assert_eq!(bench.integral.len(), 2_000);
}

#[test]
fn processing_time_windows_are_due_at_their_end() {
    for window in [Window::Tumble { size: 10, offset: 0 }, Window::Hop { slide: 10, size: 20, offset: 0 }] {
        let mut case = Case::windowed(window, count());
        case.window = Some(WindowKey::Time { time: TIME, window, domain: TimeDomain::Processing });
        let mut bench = case.bench(1).expect("supported");
        bench.step(vec![inserts(&[3])], i64::MIN, 3).expect("the step runs");
        assert_eq!(bench.next_due().map(|due| due.millis()), Some(10));
        bench.step(Vec::new(), i64::MIN, 10).expect("the step runs");
        assert_eq!(bench.integral.len(), 1);
    }
}

#[test]
fn sessions_that_a_row_joins_become_one() {
    let session = Window::Session { gap: 5 };
    for append_only in [true, false] {
        let case = Case { append_only, ..Case::windowed(session, count()) };
        let mut bench = case.bench(1).expect("supported");
        bench.step(vec![inserts(&[0, 10])], 0, 0).expect("the step runs");
        bench.step(vec![inserts(&[5, 16])], 15, 0).expect("the step runs");
        check(&bench.integral, "");
        bench.step(Vec::new(), 16, 0).expect("the step runs");
        check(&bench.integral, "k1 0 15 14 3");
        bench.step(Vec::new(), i64::MAX, 0).expect("the step runs");
        check(&bench.integral, "k1 0 15 14 3\nk1 16 21 20 1");
    }
}

#[test]
fn a_session_splits_when_its_bridge_is_taken_back() {
    let case = Case { emit: Emit::Changes, ..Case::windowed(Window::Session { gap: 5 }, count()) };
    let mut bench = case.bench(1).expect("supported");
    bench.step(vec![inserts(&[0, 4, 8])], 0, 0).expect("the step runs");
    check(&bench.integral, "k1 0 13 12 3");
    bench.step(vec![delta(&[(Row::at(1, 4, 4), -1)])], 0, 0).expect("the step runs");
    check(&bench.integral, "k1 0 5 4 1\nk1 8 13 12 1");
}

#[test]
fn rows_that_carry_their_windows_close_by_them() {
    let case = Case {
        window: Some(WindowKey::Columns { start: INT, end: TIME, domain: TimeDomain::Event }),
        ..Case::windowed(Window::Tumble { size: 1, offset: 0 }, count())
    };
    for lanes in [1, 2] {
        let mut bench = case.bench(lanes).expect("supported");
        let rows = [(Row::at(1, 10, 0), 1), (Row::at(1, 10, 0), 1), (Row::at(2, 20, 10), 1)];
        bench.step(vec![delta(&rows)], 10, 0).expect("the step runs");
        check(&bench.integral, "k1 0 10 9 2");
        bench.step(Vec::new(), i64::MAX, 0).expect("the step runs");
        check(&bench.integral, "k1 0 10 9 2\nk2 10 20 19 1");
    }
}
