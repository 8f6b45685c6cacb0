//! Endpoints on their own circuits: each request is answered as if requests had come one by one.
//!
//! Rows come in random steps over one to three lanes, some of them asked for. A request's answer has to be what the query
//! gives for it in batch over the rows that came up to it (for views that are looked up: up to the end of its step), and
//! rows that nobody asked for are answered by nothing.

#[path = "oracle/value.rs"]
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use chrono::DateTime;
use serde_json::{Value, json};
use tidemill_base::rand::Rng;
use tidemill_circuit::Delta;
use tidemill_circuit::circuit::{Circuit, Options};
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::lookup::LookupRows;
use tidemill_circuit::plan::{SourceSpec, Spec};
use tidemill_circuit::row::to_json;
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_sql::batch::answers;
use tidemill_sql::pipeline::{ASKED, Decisions};
use tidemill_sql::{PlanOptions, plan};
use value::Object;

const COLUMNS: &str = "id BIGINT, card STRING, device INT, amount DOUBLE, ts TIMESTAMP(3)";
const WATERMARK: &str = "WATERMARK FOR ts AS ts - INTERVAL '5' SECOND";
const BLOCKLIST: &str = "CREATE TABLE blocklist (card STRING, reason STRING, PRIMARY KEY (card) NOT ENFORCED) WITH ('connector' = 'versioned');";

/// What the rows mean of which a request sees those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// Those up to the request.
    UpToItself,
    /// Those up to the end of its step.
    ItsStep,
}

fn declared(views: &str) -> String {
    format!(
        "CREATE TABLE payments ({COLUMNS}, seen AS PROCTIME(), {WATERMARK}) WITH ('connector' = 'http');{BLOCKLIST}{views}"
    )
}

/// The same with the processing time of each row's step in a column.
fn replayed(views: &str) -> String {
    format!(
        "CREATE TABLE payments ({COLUMNS}, seen TIMESTAMP_LTZ(3), {WATERMARK}) WITH ('connector' = 'x');{BLOCKLIST}{views}"
    )
}

fn time(millis: i64) -> Value {
    json!(DateTime::from_timestamp_millis(millis).unwrap_or_default().format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// A row, its event time at most the watermark's delay behind the greatest so far.
fn row(rng: &mut Rng, id: usize, greatest: &mut i64, now: i64) -> Object {
    *greatest += [0, 300, 1_000, 7_000, 40_000][rng.below(5) as usize];
    let at = *greatest - rng.below(5_000) as i64;
    let mut row = Object::new();
    row.insert("id".to_string(), json!(id));
    let mut put = |name: &str, values: &[Value], rng: &mut Rng| {
        let value = &values[rng.below(values.len() as u64) as usize];
        if !value.is_null() {
            row.insert(name.to_string(), value.clone());
        }
    };
    put("card", &[json!("a"), json!("b"), json!("c"), Value::Null], rng);
    put("device", &[json!(1), json!(2), json!(3)], rng);
    put("amount", &[json!(1.5), json!(0.25), json!(100.0), json!(-3.0), Value::Null], rng);
    row.insert("ts".to_string(), time(at));
    row.insert("seen".to_string(), json!(format!("{}Z", time(now).as_str().unwrap_or_default())));
    row
}

fn decoded(source: &SourceSpec, rows: &[Object], asked: &[bool]) -> RecordBatch {
    let objects: Vec<&Object> = rows.iter().collect();
    let mut columns: Vec<ArrayRef> = value::batch(&source.decoded, &objects).columns().to_vec();
    if let Ok(place) = source.decoded.index_of(ASKED) {
        assert_eq!(place, columns.len() - 1, "it is the last of the decoded columns");
        columns[place] = Arc::new(BooleanArray::from(asked.to_vec()));
    }
    RecordBatch::try_new(source.decoded.clone(), columns).expect("the decoded columns")
}

fn block(from: usize, rows: RecordBatch) -> Block {
    let (from, records) = (from as u64, rows.num_rows() as u64);
    let data = BlockData::Rows(Delta::inserts(rows));
    Block { partition: 0, from, to: from + records, first_record: from, records: records as u32, data }
}

/// The answers of a step by the row of the request.
fn answered(batches: &[Delta], found: &mut BTreeMap<usize, Vec<String>>) {
    for delta in batches {
        let batch = delta.batch();
        let last = batch.num_columns() - 1;
        assert_eq!(batch.schema().field(last).name(), "$origin");
        let origins = batch.column(last).as_primitive::<UInt64Type>();
        let rows = batch.project(&(0..last).collect::<Vec<_>>()).expect("the answer's columns");
        for row in 0..rows.num_rows() {
            assert!(delta.weight(row) > 0, "an answer is never taken back");
            let answers = found.entry(origins.value(row) as usize & ((1 << 40) - 1)).or_default();
            answers.extend(std::iter::repeat_n(to_json(&rows, row), delta.weight(row) as usize));
        }
    }
}

/// What the query gives in batch for one request over rows.
fn expected(text: &str, schema: &SchemaRef, rows: &[Object], blocklist: &RecordBatch, id: usize) -> Vec<String> {
    let batch = value::batch(schema, &rows.iter().collect::<Vec<_>>());
    let tables = BTreeMap::from([("payments".to_string(), batch), ("blocklist".to_string(), blocklist.clone())]);
    let found = answers(text, &tables).unwrap_or_else(|error| panic!("{text}: {error}"));
    let rows = found["answer"].iter().flat_map(|batch| (0..batch.num_rows()).map(|row| to_json(batch, row)));
    let own = format!("{{\"id\": {id}");
    rows.filter(|row| row.starts_with(&format!("{own},")) || row.starts_with(&format!("{own}}}"))).collect()
}

fn check_at(views: &str, query: &str, sees: Sees, seed: u64, rules: bool) -> usize {
    let mut rng = Rng::seeded(seed);
    let text = format!("{}CREATE ENDPOINT score WITH ('record' = 'payments') AS {query};", declared(views));
    let reference = format!(
        "{}CREATE MATERIALIZED VIEW answer AS {query};",
        replayed(views).replace("PROCTIME()", "payments.seen")
    );
    let reference = reference.replace("AS OF payments.seen", "AS OF PROCTIME()");
    let pipeline = plan(&text, PlanOptions { rules }).unwrap_or_else(|error| panic!("{query}: {error}"));
    let tables = plan(&replayed(""), PlanOptions::default()).expect("the tables are declared");
    let schema = tables.table("payments").expect("it is declared").schema.clone();
    let [decisions]: &[Decisions; 1] = pipeline.decisions.as_slice().try_into().expect("one circuit");
    let blocked = ["a", "c"]
        .map(|card| Object::from_iter([("card", card), ("reason", "x")].map(|(k, v)| (k.to_string(), json!(v)))));
    let blocklist = &pipeline.table("blocklist").expect("it is declared").schema;
    let blocklist = value::batch(blocklist, &blocked[..1 + rng.below(2) as usize].iter().collect::<Vec<_>>());
    for lookup in &pipeline.lookups {
        let rows = LookupRows::new(&lookup.cell, "1", blocklist.clone()).expect("each key is there once");
        lookup.cell.set(Arc::new(rows));
    }
    let options = Options { lanes: 1 + seed as usize % 3, ..Options::default() };
    let mut circuit =
        Circuit::new(&decisions.plan, &Decoders::new(), options).unwrap_or_else(|e| panic!("{query}: {e}"));
    let source = decisions.plan.nodes.iter().find_map(|node| match &node.spec {
        Spec::Source(source) if source.name == "payments" => Some(source),
        _ => None,
    });
    let source = source.expect("it reads payments");
    let (mut all, mut greatest, mut now, mut compared) =
        (Vec::<Object>::new(), 1_700_000_000_000, 1_700_000_000_000, 0);
    for step in 0..10 {
        now += rng.below(30_000) as i64;
        let from = all.len();
        let count = [1, 1, 2, 7][rng.below(4) as usize];
        let rows: Vec<Object> = (0..count).map(|index| row(&mut rng, from + index, &mut greatest, now)).collect();
        let asked: Vec<bool> = rows.iter().map(|_| rng.chance(2, 3)).collect();
        let blocks = vec![block(from, decoded(source, &rows, &asked))];
        let opened = if step == 0 { vec![0] } else { vec![] };
        let news = SourceInput { source: "payments".to_string(), blocks, opened, ..SourceInput::default() };
        decisions.session.step.set(now, 7);
        let output = circuit.step(StepInput { now, sources: vec![news] }).unwrap_or_else(|e| panic!("{query}: {e}"));
        let mut found = BTreeMap::new();
        for rows in &output.outputs {
            assert_eq!(rows.name, decisions.endpoints[0].output);
            answered(&rows.deltas, &mut found);
        }
        all.extend(rows);
        for (index, asked) in asked.iter().enumerate() {
            let id = from + index;
            let mut found = found.remove(&id).unwrap_or_default();
            let seen = if sees == Sees::UpToItself { &all[..=id] } else { &all[..] };
            let mut expected = match asked {
                true => expected(&reference, &schema, seen, &blocklist, id),
                false => vec![],
            };
            found.sort();
            expected.sort();
            compared += expected.len();
            assert_eq!(
                found, expected,
                "{query}\nseed {seed}, rules {rules}, step {step}, request {id}: {:?}",
                all[id]
            );
        }
        assert!(found.is_empty(), "{query}: answers to nobody: {found:?}");
    }
    compared
}

fn check(views: &str, query: &str, sees: Sees) {
    let compared: usize = (0..3).map(|seed| check_at(views, query, sees, seed, seed % 2 == 0)).sum();
    assert!(compared > 3, "{query}: only {compared} answers were compared");
}

#[test]
fn requests_are_filtered_projected_and_looked_up() {
    check("", "SELECT id, UPPER(card) AS c, amount * 2 AS twice FROM payments", Sees::UpToItself);
    check(
        "",
        "SELECT id, CASE WHEN amount > 1 THEN 'review' ELSE 'allow' END AS d FROM payments WHERE card <> 'b'",
        Sees::UpToItself,
    );
    check(
        "",
        "SELECT id, b.reason FROM payments AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON b.card = p.card",
        Sees::UpToItself,
    );
    check("", "SELECT id, e FROM payments CROSS JOIN UNNEST(ARRAY[amount, 1e0]) AS u (e)", Sees::UpToItself);
    check(
        "CREATE VIEW big AS SELECT id, card FROM payments WHERE amount > 1;",
        "SELECT id, card FROM big",
        Sees::UpToItself,
    );
}

fn over(calls: &str, window: &str) -> String {
    format!("SELECT id, {calls} FROM payments WINDOW w AS ({window})")
}

#[test]
fn features_by_raw_time_count_the_request_once_and_what_came_before() {
    let minute = "PARTITION BY card ORDER BY ts RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW";
    check("", &over("COUNT(*) OVER w AS n, SUM(amount) OVER w AS s", minute), Sees::UpToItself);
    check(
        "",
        &over("AVG(amount) OVER w AS a, MIN(amount) OVER w AS l, MAX(device) OVER w AS m", minute),
        Sees::UpToItself,
    );
    check(
        "",
        &over("COUNT(DISTINCT device) OVER w AS d, COUNT(amount) FILTER (WHERE device > 1) OVER w AS f", minute),
        Sees::UpToItself,
    );
    check(
        "",
        &over("COUNT(*) OVER w AS n, MAX(amount) OVER w AS m", "PARTITION BY card, device ORDER BY ts"),
        Sees::UpToItself,
    );
    check(
        "",
        &over("SUM(amount) OVER w AS s", "ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW"),
        Sees::UpToItself,
    );
}

#[test]
fn features_by_processing_time_see_the_steps_before_and_their_own() {
    let window = |size: &str| {
        format!("PARTITION BY card ORDER BY seen RANGE BETWEEN INTERVAL '{size}' SECOND PRECEDING AND CURRENT ROW")
    };
    check("", &over("COUNT(*) OVER w AS n, SUM(amount) OVER w AS s", &window("20")), Sees::UpToItself);
    check("", &over("MAX(amount) OVER w AS m", &window("60")), Sees::UpToItself);
}

#[test]
fn features_in_rings_are_those_of_truncated_times() {
    for (time, unit, size) in [
        ("ts", "SECOND", "60' SECOND"),
        ("ts", "MINUTE", "5' MINUTE"),
        ("seen", "SECOND", "30' SECOND"),
        ("ts", "HOUR", "24' HOUR"),
    ] {
        let window = format!(
            "PARTITION BY card ORDER BY FLOOR({time} TO {unit}) RANGE BETWEEN INTERVAL '{size} PRECEDING AND CURRENT ROW"
        );
        check(
            "",
            &over("COUNT(*) OVER w AS n, SUM(amount) OVER w AS s, COUNT(DISTINCT device) OVER w AS d", &window),
            Sees::UpToItself,
        );
    }
}

#[test]
fn rows_before_are_counted_as_they_came() {
    // By processing time the order of rows is that of their arrival.
    let rows = "PARTITION BY card ORDER BY seen ROWS BETWEEN 2 PRECEDING AND CURRENT ROW";
    check(
        "",
        &over("SUM(amount) OVER w AS s, COUNT(*) OVER w AS n, FIRST_VALUE(device) OVER w AS f", rows),
        Sees::UpToItself,
    );
    check(
        "",
        &over(
            "ROW_NUMBER() OVER w AS n, LAG(amount) OVER w AS l, LAG(device, 2, 0) OVER w AS m",
            "PARTITION BY card ORDER BY seen",
        ),
        Sees::UpToItself,
    );
    check("", &over("LAST_VALUE(amount) OVER w AS l, BOOL_OR(amount > 1) OVER w AS o", rows), Sees::UpToItself);
}

#[test]
fn features_of_several_keys_stand_side_by_side_and_feed_conditions() {
    check(
        "",
        "SELECT id, n, s FROM (SELECT id, amount, \
           COUNT(*) OVER (PARTITION BY card ORDER BY ts RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW) AS n, \
           SUM(amount) OVER (PARTITION BY device ORDER BY FLOOR(ts TO SECOND) RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW) AS s \
         FROM payments WHERE amount > 0) AS f WHERE n > 1 OR s > 100",
        Sees::UpToItself,
    );
    check(
        "CREATE VIEW featured AS SELECT id, card, COUNT(*) OVER (PARTITION BY card ORDER BY ts RANGE BETWEEN INTERVAL '2' MINUTE PRECEDING AND CURRENT ROW) AS n FROM payments;",
        "SELECT f.id, f.n, b.reason FROM featured AS f LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON b.card = f.card WHERE f.n < 9",
        Sees::UpToItself,
    );
}

#[test]
fn views_are_read_as_they_stand_after_the_step() {
    let view = "CREATE VIEW cards AS SELECT card, COUNT(*) AS n, SUM(amount) AS s FROM payments GROUP BY card;";
    let join = "cards FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.card = p.card";
    check(view, &format!("SELECT p.id, c.n, c.s FROM payments AS p LEFT JOIN {join}"), Sees::ItsStep);
    check(
        view,
        &format!("SELECT p.id, c.n FROM payments AS p JOIN {join} AND c.n > 2 WHERE p.amount > 0"),
        Sees::ItsStep,
    );
    check(
        &format!(
            "{view}CREATE VIEW devices AS SELECT device, COUNT(DISTINCT card) AS cards FROM payments WHERE amount > 0 GROUP BY device;"
        ),
        &format!(
            "SELECT p.id, c.s, d.cards FROM payments AS p LEFT JOIN {join} AND c.n > p.device \
             LEFT JOIN devices FOR SYSTEM_TIME AS OF PROCTIME() AS d ON d.device = p.device"
        ),
        Sees::ItsStep,
    );
}

#[test]
fn an_answer_has_a_row_for_each_that_is_found() {
    let view = "CREATE VIEW devices AS SELECT card, device, COUNT(*) AS n FROM payments GROUP BY card, device;";
    let join = "devices FOR SYSTEM_TIME AS OF PROCTIME() AS d ON d.card = p.card";
    check(view, &format!("SELECT p.id, d.device, d.n FROM payments AS p JOIN {join}"), Sees::ItsStep);
    check(view, &format!("SELECT p.id, d.device FROM payments AS p LEFT JOIN {join} AND d.n > 2"), Sees::ItsStep);
    let all = "CREATE VIEW seen AS SELECT card, device FROM payments WHERE amount > 0;";
    let join = join.replace("devices", "seen");
    check(all, &format!("SELECT p.id, d.device FROM payments AS p JOIN {join}"), Sees::ItsStep);
    let by_reason =
        "SELECT p.id, b.card FROM payments AS p JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON b.reason = 'x'";
    check("", by_reason, Sees::UpToItself);
}

#[test]
fn a_total_is_looked_up_without_a_key() {
    let view = "CREATE VIEW total AS SELECT COUNT(*) AS n, MAX(amount) AS m FROM payments;";
    let query = "SELECT p.id, t.n, t.m FROM payments AS p JOIN total FOR SYSTEM_TIME AS OF PROCTIME() AS t ON TRUE";
    check(view, query, Sees::ItsStep);
    check(view, &format!("{query} WHERE t.n > 2"), Sees::ItsStep);
}

#[test]
fn a_declared_key_is_what_rows_are_looked_up_by() {
    let text = format!(
        "{}CREATE MATERIALIZED VIEW latest (PRIMARY KEY (card) NOT ENFORCED) AS SELECT card, device, amount FROM payments;
           CREATE ENDPOINT score WITH ('record' = 'payments') AS SELECT p.id, l.amount FROM payments AS p
           LEFT JOIN latest FOR SYSTEM_TIME AS OF p.seen AS l ON l.card = p.card AND l.device < 3;",
        declared("")
    );
    let pipeline = plan(&text, PlanOptions::default()).expect("it is planned");
    let spec = pipeline.decisions[0].plan.nodes.iter().find_map(|node| match &node.spec {
        Spec::ViewLookup(spec) => Some(spec),
        _ => None,
    });
    let spec = spec.expect("it looks rows up");
    assert_eq!((spec.view_keys.as_slice(), spec.outer, spec.residual.is_some()), (&[0][..], true, true));
}

#[test]
fn a_view_that_is_looked_up_is_not_on_the_way_from_a_request_to_its_answer() {
    let text = format!(
        "{}CREATE VIEW per_card AS SELECT card, COUNT(*) AS n FROM payments GROUP BY card;
           CREATE ENDPOINT score WITH ('record' = 'payments') AS SELECT p.id, v.n FROM payments AS p
           LEFT JOIN per_card FOR SYSTEM_TIME AS OF p.seen AS v ON v.card = p.card;",
        declared("")
    );
    let pipeline = plan(&text, PlanOptions::default()).expect("it is planned");
    let plan = &pipeline.decisions[0].plan;
    let path = plan.row_path(plan.nodes.len() - 1);
    let titles = |on_path: bool| -> Vec<&str> {
        let nodes = plan.nodes.iter().enumerate().filter(|(node, _)| path.contains(node) == on_path);
        nodes.map(|(_, node)| node.title()).collect()
    };
    let (on, off) = (titles(true), titles(false));
    assert!(on.contains(&"Source") && on.contains(&"ViewLookup") && on.contains(&"Output"), "{on:?}");
    assert!(off.contains(&"Aggregate") && !on.contains(&"Aggregate"), "{off:?}");
}

#[test]
fn endpoints_of_one_source_share_a_circuit_and_others_do_not() {
    let text = format!(
        "{}CREATE ENDPOINT a WITH ('record' = 'payments') AS SELECT id FROM payments;
           CREATE ENDPOINT b (amount DOUBLE) AS SELECT amount FROM request;
           CREATE ENDPOINT c (id BIGINT, card STRING) WITH ('record' = 'payments') AS SELECT card FROM payments;
           CREATE MATERIALIZED VIEW n AS SELECT card, COUNT(*) AS n FROM payments GROUP BY card;",
        declared("")
    );
    let pipeline = plan(&text, PlanOptions::default()).expect("it is planned");
    let names: Vec<_> = pipeline.decisions.iter().map(|decisions| decisions.name.as_str()).collect();
    assert_eq!(names, ["payments", "request.b"], "a circuit is named after what takes its requests");
    let [first, second] = pipeline.decisions.as_slice() else { panic!("two circuits") };
    assert_eq!(first.endpoints[1].request.fields().len(), 2);
    assert!(first.endpoints[0].recorded && !second.endpoints[0].recorded);
    assert_eq!(second.endpoints[0].source, "request.b");
    assert!(!Arc::ptr_eq(&first.session, &second.session) && !Arc::ptr_eq(&first.session, &pipeline.session));
    let titles: Vec<_> = pipeline.plan.nodes.iter().map(|node| node.title()).collect();
    assert_eq!(titles, ["Source", "Aggregate", "Project", "Output"], "endpoints are apart from the rest");
    assert!(pipeline.table("payments").is_some_and(|table| table.is_source));
}

#[test]
fn a_rule_is_named_by_what_makes_its_answers() {
    let rule = |views: &str, query: &str| {
        let text = format!("{}CREATE ENDPOINT score WITH ('record' = 'payments') AS {query};", declared(views));
        let pipeline = plan(&text, PlanOptions::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
        pipeline.decisions[0].endpoints[0].rule.clone()
    };
    let big = |more: &str| format!("CREATE VIEW big AS SELECT id, card FROM payments WHERE amount > {more};");
    let first = rule(&big("1"), "SELECT id FROM big");
    assert_eq!(first.len(), 16);
    assert_eq!(first, rule(&big("1"), "SELECT id FROM big"));
    assert_eq!(first, rule(&format!("{}CREATE VIEW other AS SELECT 1 AS x;", big("1")), "SELECT id FROM big"));
    assert_ne!(first, rule(&big("2"), "SELECT id FROM big"), "a view that it reads says something else");
    assert_ne!(first, rule(&big("1"), "SELECT id FROM big WHERE id > 1"));
}

#[test]
fn the_functions_of_a_circuit_read_its_own_clock() {
    let text = "CREATE ENDPOINT at (id BIGINT) AS SELECT id, CURRENT_TIMESTAMP AS t, UUID() AS u FROM request;";
    let pipeline = plan(text, PlanOptions::default()).expect("it is planned");
    let decisions = &pipeline.decisions[0];
    let mut circuit = Circuit::new(&decisions.plan, &Decoders::new(), Options::default()).expect("it runs");
    let Spec::Source(source) = &decisions.plan.nodes[0].spec else { panic!("the first node is the source") };
    let rows = [1, 2].map(|id| Object::from_iter([("id".to_string(), json!(id))]));
    pipeline.session.step.set(5, 5);
    decisions.session.step.set(1_700_000_000_123, 7);
    let news = SourceInput {
        source: "request.at".to_string(),
        blocks: vec![block(0, decoded(source, &rows, &[true, true]))],
        opened: vec![0],
        ..SourceInput::default()
    };
    let output = circuit.step(StepInput { now: 1_700_000_000_123, sources: vec![news] }).expect("a good step");
    let mut found = BTreeMap::new();
    output.outputs.iter().for_each(|rows| answered(&rows.deltas, &mut found));
    let texts: Vec<&String> = found.values().flatten().collect();
    assert_eq!(texts.len(), 2);
    assert!(texts.iter().all(|text| text.contains("2023-11-14T22:13:20.123Z")), "{texts:?}");
    let ids: Vec<_> = texts.iter().map(|text| text.rsplit_once("\"u\": ").map(|(_, id)| id)).collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn the_fallback_is_a_whole_answer_in_its_order() {
    let text = "CREATE ENDPOINT score (id BIGINT) WITH ('fallback' = '{\"why\": \"late\", \"decision\": \"review\"}', \
                'deadline' = '5 ms', 'shed' = 'fallback', 'durability' = 'process', 'waiting.max' = '10', 'lag.max' = '1 ms', \
                'idempotency.window' = '1 min', 'idempotency.bytes' = '1 MiB') \
                AS SELECT 'allow' AS decision, id, CAST(NULL AS STRING) AS why FROM request;";
    let pipeline = plan(text, PlanOptions::default()).expect("it is planned");
    let options = &pipeline.decisions[0].endpoints[0].options;
    assert_eq!(options.fallback.as_deref(), Some(r#"{"decision":"review","id":null,"why":"late"}"#));
    assert_eq!((options.deadline.as_millis(), options.waiting_max, options.sheds_to_fallback), (5, 10, true));
    assert_eq!((options.lag_max.as_micros(), options.durability.as_deref()), (1_000, Some("process")));
    assert_eq!((options.idempotency_window.as_secs(), options.idempotency_bytes), (60, 1 << 20));
}

#[test]
fn the_example_of_card_payments_is_planned() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/risk.sql");
    let text = std::fs::read_to_string(path).expect("the example is kept");
    let pipeline = plan(&text, PlanOptions::default())
        .unwrap_or_else(|error| panic!("{}", tidemill_sql::error::render(&error, "risk.sql", &text)));
    let decisions = &pipeline.decisions[0];
    let count = |title: &str| decisions.plan.nodes.iter().filter(|node| node.title() == title).count();
    assert_eq!((count("Lookup"), count("ViewLookup")), (3, 1));
    assert_eq!(count("Over"), 9, "one for each window");
    Circuit::new(&decisions.plan, &Decoders::new(), Options::default()).expect("it runs");
    let warned: Vec<_> = pipeline.warnings.iter().filter(|warning| warning.text.starts_with("Over")).collect();
    assert_eq!(warned.len(), 1, "only LAG keeps something of every card: {warned:?}");
}
