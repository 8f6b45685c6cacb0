//! `examples/flights.sql` answers what DataFusion's batch engine answers over the same files.
//!
//! The example runs twice: as it stands, and with whole views printed in the place of its last SELECTs. Of both runs
//! every row is compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// A row as text, cell by cell.
type Row = Vec<String>;

/// Each view of the example: what a SELECT of it prints, and the same asked of DataFusion.
const VIEWS: [(&str, &str); 5] = [
    (
        "SELECT carrier, window_start, departures, mean_delay, worst_delay FROM departures",
        "SELECT carrier, date_trunc('hour', sched_dep), count(dep_time), avg(dep_delay), max(dep_delay)
         FROM flights GROUP BY 1, 2",
    ),
    (
        "SELECT origin, window_end, flights, late, worst_delay FROM rolling_delay",
        "SELECT origin, date_bin(INTERVAL '30 minutes', sched_dep) + ahead, count(*),
                count(*) FILTER (WHERE dep_delay > 60), max(dep_delay)
         FROM flights CROSS JOIN (VALUES
             (INTERVAL '30 minutes'), (INTERVAL '60 minutes'), (INTERVAL '90 minutes'),
             (INTERVAL '120 minutes'), (INTERVAL '150 minutes'), (INTERVAL '180 minutes')) AS pane (ahead)
         GROUP BY 1, 2",
    ),
    (
        "SELECT tailnum, window_start, window_end, departures, miles FROM aircraft_sessions",
        "SELECT tailnum, min(sched_dep), max(sched_dep) + INTERVAL '12 hours', count(*), sum(distance)
         FROM (
             SELECT *, sum(opens) OVER (PARTITION BY tailnum ORDER BY sched_dep) AS session
             FROM (
                 SELECT tailnum, sched_dep, distance, CASE WHEN sched_dep - lag(sched_dep)
                     OVER (PARTITION BY tailnum ORDER BY sched_dep) > INTERVAL '12 hours' THEN 1 ELSE 0 END AS opens
                 FROM flights WHERE tailnum IS NOT NULL
             )
         )
         GROUP BY tailnum, session",
    ),
    (
        "SELECT origin, flight_date, scheduled, cancelled FROM cancelled",
        "SELECT origin, flight_date, count(*), count(*) FILTER (WHERE dep_time IS NULL) FROM flights GROUP BY 1, 2",
    ),
    (
        "SELECT sight, airport_hours, flights, delay, departed FROM delay_by_sight",
        "SELECT sight, count(*), sum(scheduled), sum(delay), sum(departed)
         FROM (
             SELECT scheduled, delay, departed,
                 CASE WHEN visib < 1 THEN '1 fog: under a mile' WHEN visib < 3 THEN '2 poor: 1 to 3 miles'
                      WHEN visib < 7 THEN '3 hazy: 3 to 7 miles' ELSE '4 clear' END AS sight
             FROM (SELECT origin, date_trunc('hour', sched_dep) AS hour, count(*) AS scheduled,
                          count(dep_time) AS departed, sum(dep_delay) AS delay FROM flights GROUP BY 1, 2) AS hours
             JOIN weather ON weather.origin = hours.origin AND weather.time_hour = hours.hour
             WHERE visib IS NOT NULL
         )
         GROUP BY sight",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a pipeline from the project's root and returns what it prints as NDJSON.
fn printed(pipeline: &Path) -> String {
    let binary = env!("CARGO_BIN_EXE_tidemill");
    let run = Command::new(binary).args(["run", "-o", "ndjson"]).arg(pipeline).current_dir(root()).output();
    let run = run.expect("the binary was built for this test");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("NDJSON is UTF-8")
}

/// The names and cells of each record, by name.
fn records(ndjson: &str) -> Vec<BTreeMap<String, String>> {
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let record = |line| {
        let record: BTreeMap<String, Value> = serde_json::from_str(line).expect("each line is an object");
        record.into_iter().map(|(name, value)| (name, plain(&text(value)))).collect()
    };
    ndjson.lines().map(record).collect()
}

/// The rows that one SELECT of plain columns printed among others, sorted. Its columns tell them apart.
fn rows_of(select: &str, records: &[BTreeMap<String, String>]) -> Vec<Row> {
    let (names, _) = select.trim_start_matches("SELECT ").split_once(" FROM ").expect("a SELECT of columns");
    let names: Vec<&str> = names.split(", ").collect();
    let row = |record: &BTreeMap<String, String>| names.iter().map(|name| record.get(*name).cloned()).collect();
    let same_size = records.iter().filter(|record| record.len() == names.len());
    let mut rows: Vec<Row> = same_size.filter_map(row).collect();
    rows.sort();
    rows
}

/// One way to write a cell: numbers as doubles to 14 digits (the JSON reader of this test loses the last bit), times
/// with a blank and no empty fraction.
fn plain(cell: &str) -> String {
    if let Ok(number) = cell.parse::<f64>() {
        return format!("{number:.13e}");
    }
    let is_time = cell.len() >= 19 && cell.as_bytes()[4] == b'-' && matches!(cell.as_bytes()[10], b'T' | b' ');
    if is_time { cell.replacen('T', " ", 1).trim_end_matches(".000").to_owned() } else { cell.to_owned() }
}

fn read(table: &str) -> MemTable {
    let file = fs::File::open(root().join(format!("examples/data/{table}.parquet"))).expect("the data is kept");
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).expect("it is Parquet").build().expect("it can be read");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("each row group is whole")).collect();
    MemTable::try_new(batches[0].schema(), vec![batches]).expect("all batches share a schema")
}

/// What DataFusion answers, as sorted rows.
fn batch(queries: impl IntoIterator<Item = &'static str>) -> Vec<Vec<Row>> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    for table in ["flights", "weather"] {
        session.register_table(table, std::sync::Arc::new(read(table))).expect("the name is free");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let answer = |sql| {
        let batches = runtime.block_on(async { session.sql(sql).await?.collect().await });
        let mut rows: Vec<Row> = batches.expect("the batch form is valid").iter().flat_map(rows).collect();
        rows.sort();
        rows
    };
    queries.into_iter().map(answer).collect()
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let options = FormatOptions::default().with_null("null");
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns: Vec<_> = columns.collect::<Result<_, _>>().expect("each type can be written");
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| plain(&c.value(row).to_string())).collect()).collect()
}

#[test]
fn whole_views_equal_the_batch_answer() {
    let example = fs::read_to_string(root().join("examples/flights.sql")).expect("the example is kept");
    let (views, _) =
        example.split_once("-- What the views hold at the end.").expect("the example says where it prints");
    let folder = tempfile::tempdir().expect("a folder for the pipeline");
    let pipeline = folder.path().join("views.sql");
    let selects: String = VIEWS.iter().map(|(select, _)| format!("{select};\n")).collect();
    fs::write(&pipeline, format!("{views}{selects}")).expect("the folder can be written");
    let records = records(&printed(&pipeline));
    for ((select, _), expected) in VIEWS.iter().zip(batch(VIEWS.map(|(_, batch)| batch))) {
        let actual = rows_of(select, &records);
        assert_eq!(actual.len(), expected.len(), "{select}");
        for (actual, expected) in actual.iter().zip(&expected) {
            assert_eq!(actual, expected, "{select}");
        }
    }
}

#[test]
fn the_example_prints_its_answers() {
    let golden = fs::read_to_string(root().join("examples/flights.golden.ndjson")).expect("the golden file is kept");
    let answers = printed(&root().join("examples/flights.sql"));
    assert_eq!(records(&answers), records(&golden));
}
