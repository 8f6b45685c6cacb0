//! Whole queries as Flink answered them: names, types and rows of what is recorded in `tests/flink`.
//!
//! Each recorded query is planned as a person would write it, runs on the circuit over the files that Flink read
//! (`tools/flink-record/data`), cut into steps and lanes in several ways, and must end with Flink's rows, as often each
//! and in no order. Floats may differ in the last digit: the circuit rounds a sum once, Flink once a row. What differs on
//! purpose stands in [`differences`] with its reason, and has to differ.

#[path = "flink/differences.rs"]
mod differences;
#[path = "flink/notation.rs"]
mod notation;
#[path = "flink/run.rs"]
mod run;

use arrow_array::RecordBatch;
use serde_json::Value;
use tidemill_sql::types::name_of;

use differences::{DIFFERENCES, known};
use run::{Cut, Setup, root};

/// The recorded families and the time zone of each.
const FAMILIES: [(&str, &str); 6] = [
    ("aggregates", "UTC"),
    ("changes", "UTC"),
    ("queries", "UTC"),
    ("windows", "UTC"),
    ("zone_america", "America/New_York"),
    ("zone_kathmandu", "Asia/Kathmandu"),
];

/// How the rows are cut: all at once, and row by row over lanes.
const CUTS: [Cut; 2] = [Cut { lanes: 1, rows: usize::MAX, seed: 1 }, Cut { lanes: 3, rows: 1, seed: 2 }];

#[test]
fn whole_queries_answer_what_flink_answered() {
    let mut wrong = Vec::new();
    let mut counted = 0;
    for (family, zone) in FAMILIES {
        let setup = Setup::in_zone(zone);
        for record in recordings(family) {
            counted += 1;
            let sql = record["sql"].as_str().unwrap_or_default();
            match (compare(&setup, &record), known(family, sql)) {
                (Err(problem), None) => wrong.push(format!("{family}: {sql}\n    {problem}")),
                (Ok(()), Some(reason)) => {
                    wrong.push(format!("{family}: {sql}\n    is equal now, yet listed: {reason}"))
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {counted} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counted >= 200, "only {counted} recordings were found");
}

#[test]
fn every_difference_is_of_a_recorded_query() {
    let recorded: Vec<Value> = FAMILIES.iter().flat_map(|(family, _)| recordings(family)).collect();
    for (sql, reason) in DIFFERENCES {
        let sql = sql.split_once(": ").map_or(*sql, |(_, sql)| sql);
        assert!(recorded.iter().any(|record| record["sql"] == sql), "nothing is recorded for {sql} ({reason})");
    }
}

fn recordings(family: &str) -> Vec<Value> {
    let path = root().join(format!("tests/flink/{family}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Compares names, types and rows, or that both fail.
fn compare(setup: &Setup, record: &Value) -> Result<(), String> {
    let sql = record["sql"].as_str().unwrap_or_default();
    let pipeline = setup.plan(sql);
    for cut in CUTS {
        let answer = pipeline.as_ref().map_err(String::clone).and_then(|pipeline| run::answer(pipeline, cut));
        match (answer, record["error"].as_str()) {
            (Err(_), Some(_)) => {}
            (Ok(rows), Some(error)) => return Err(format!("has {} rows, Flink fails: {error}", rows.num_rows())),
            (Err(error), None) => return Err(format!("fails: {error}")),
            (Ok(rows), None) => same(&rows, record, sql.starts_with("INSERT"))?,
        }
    }
    Ok(())
}

fn same(ours: &RecordBatch, record: &Value, written: bool) -> Result<(), String> {
    let schema = ours.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if Value::from(names.clone()) != record["names"] {
        return Err(format!("has the columns {names:?}, Flink {}", record["names"]));
    }
    // A table's columns have the types that were declared.
    let types = record["types"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (field, theirs) in schema.fields().iter().zip(types).filter(|_| !written) {
        let (ours, theirs) = (name_of(field.data_type()), theirs.as_str().unwrap_or_default());
        if notation::type_name(&ours) != notation::type_name(theirs) {
            return Err(format!("{} has type {ours}, Flink {theirs}", field.name()));
        }
    }
    let mut expected = integral(record)?;
    let mut surplus = Vec::new();
    for row in 0..ours.num_rows() {
        match expected.iter().position(|other| notation::is_row(ours, row, other)) {
            Some(found) => drop(expected.swap_remove(found)),
            None => surplus.push(notation::row(ours, row)),
        }
    }
    if surplus.is_empty() && expected.is_empty() {
        return Ok(());
    }
    let show = |rows: Vec<Value>| rows.iter().map(|row| format!("\n        {row}")).collect::<String>();
    let expected = expected.into_iter().map(Value::Array).collect();
    Err(format!("has rows that Flink has not:{}\n    has not:{}", show(surplus), show(expected)))
}

/// The rows that are there at the end of a recorded changelog.
fn integral(record: &Value) -> Result<Vec<Vec<Value>>, String> {
    let mut there: Vec<Vec<Value>> = Vec::new();
    for change in record["rows"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let Some((kind, row)) = change.as_array().and_then(|change| change.split_first()) else {
            return Err(format!("{change} is no row"));
        };
        match kind.as_str() {
            Some("+I" | "+U") => there.push(row.to_vec()),
            Some("-U" | "-D") => match there.iter().position(|other| other == row) {
                Some(place) => drop(there.swap_remove(place)),
                None => return Err(format!("{change} takes back what is not there")),
            },
            _ => return Err(format!("{change} has no kind")),
        }
    }
    Ok(there)
}
