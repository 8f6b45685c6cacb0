//! Lookups in versioned tables that change while a pipeline runs: each step gives what a search through the tables, as
//! they are in that step, gives for its rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use tidemill_base::rand::Rng;
use tidemill_circuit::circuit::{Circuit, Options};
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::lookup::LookupRows;
use tidemill_circuit::plan::Spec;
use tidemill_circuit::row::to_json;
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Delta, Plan};
use tidemill_sql::batch::answers;
use tidemill_sql::{Pipeline, PlanOptions, plan};

const TABLES: &str = "
    CREATE TABLE payments (id BIGINT, ip STRING, port INT, amount BIGINT, p AS PROCTIME()) WITH ('connector' = 'x');
    CREATE TABLE blocklist (reason STRING, port SMALLINT, ip STRING, score INT, PRIMARY KEY (ip, port) NOT ENFORCED)
        WITH ('connector' = 'versioned');
    CREATE TABLE people (id INT, name STRING, ip STRING, PRIMARY KEY (id) NOT ENFORCED)
        WITH ('connector' = 'versioned');
";

/// Everything a circuit needs of a random moment: payments, and what the tables hold.
struct Moment {
    version: u64,
    payments: RecordBatch,
    blocklist: RecordBatch,
    people: RecordBatch,
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema.clone(), columns).expect("the table's columns")
}

fn names(rng: &mut Rng) -> Option<&'static str> {
    [Some("a"), Some("b"), Some("c"), Some(""), None][rng.below(5) as usize]
}

/// The schema of a declared table.
fn schema(pipeline: &Pipeline, table: &str) -> SchemaRef {
    pipeline.table(table).expect("it is declared").schema.clone()
}

impl Moment {
    fn random(rng: &mut Rng, pipeline: &Pipeline, before: Option<&Moment>) -> Moment {
        let rows = rng.below(30) as usize;
        let mut number = |most: u64| -> Option<i64> { (rng.below(8) > 0).then(|| rng.below(most) as i64 - 1) };
        let ids: Vec<_> = (0..rows).map(|_| number(6)).collect();
        let ports: Vec<_> =
            (0..rows).map(|_| number(4).map(|port| if port < 0 { 70_000 } else { port as i32 })).collect();
        let amounts: Vec<_> = (0..rows).map(|_| number(9)).collect();
        let ips: StringArray = (0..rows).map(|_| names(rng)).collect();
        let payments = batch(
            &schema(pipeline, "payments"),
            vec![
                Arc::new(Int64Array::from(ids)),
                Arc::new(ips),
                Arc::new(Int32Array::from(ports)),
                Arc::new(Int64Array::from(amounts)),
            ],
        );
        if let Some(before) = before.filter(|_| rng.chance(1, 3)) {
            let (blocklist, people) = (before.blocklist.clone(), before.people.clone());
            return Moment { version: before.version, payments, blocklist, people };
        }
        let version = before.map_or(1, |before| before.version + 1);
        let keys = ["a", "b", "c", ""].into_iter().flat_map(|ip| (0..3_i16).map(move |port| (ip, port)));
        let keys: Vec<_> = keys.filter(|_| rng.chance(1, 2)).collect();
        let blocklist = batch(
            &schema(pipeline, "blocklist"),
            vec![
                Arc::new(keys.iter().map(|_| names(rng)).collect::<StringArray>()),
                Arc::new(keys.iter().map(|(_, port)| Some(*port)).collect::<Int16Array>()),
                Arc::new(keys.iter().map(|(ip, _)| Some(*ip)).collect::<StringArray>()),
                Arc::new(keys.iter().map(|_| rng.chance(4, 5).then(|| rng.below(5) as i32)).collect::<Int32Array>()),
            ],
        );
        let ids: Vec<i32> = (-1..5).filter(|_| rng.chance(1, 2)).collect();
        let people = batch(
            &schema(pipeline, "people"),
            vec![
                Arc::new(Int32Array::from(ids.clone())),
                Arc::new(ids.iter().map(|_| names(rng)).collect::<StringArray>()),
                Arc::new(ids.iter().map(|_| names(rng)).collect::<StringArray>()),
            ],
        );
        Moment { version, payments, blocklist, people }
    }

    fn table(&self, name: &str) -> &RecordBatch {
        match name {
            "payments" => &self.payments,
            "blocklist" => &self.blocklist,
            _ => &self.people,
        }
    }

    /// What the query gives for the payments of this moment, by a search through the tables.
    fn expected(&self, text: &str) -> Vec<String> {
        let version = HashMap::from([("version".to_string(), self.version.to_string())]);
        let named = |name: &str| {
            let rows = self.table(name);
            let schema = rows.schema().as_ref().clone().with_metadata(version.clone());
            let rows = RecordBatch::try_new(Arc::new(schema), rows.columns().to_vec()).expect("the same columns");
            (name.to_string(), rows)
        };
        let tables = BTreeMap::from(["payments", "blocklist", "people"].map(named));
        let answers = answers(text, &tables).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut rows: Vec<_> = answers.values().flatten().flat_map(shown).collect();
        rows.sort();
        rows
    }
}

fn shown(batch: &RecordBatch) -> Vec<String> {
    (0..batch.num_rows()).map(|row| to_json(batch, row)).collect()
}

/// The decoded columns of the payments.
fn decoded(plan: &Plan, rows: &RecordBatch) -> RecordBatch {
    let source = plan.nodes.iter().find_map(|node| match &node.spec {
        Spec::Source(source) => Some(source.decoded.clone()),
        _ => None,
    });
    let source = source.expect("it reads payments");
    let places: Vec<usize> =
        source.fields().iter().map(|f| rows.schema().index_of(f.name()).expect("a column")).collect();
    let columns = rows.project(&places).expect("these are there").columns().to_vec();
    batch(&source, columns)
}

fn check_at(query: &str, seed: u64, lanes: usize, rules: bool) {
    let mut rng = Rng::seeded(seed);
    let text = format!("{TABLES}{query};");
    let pipeline = plan(&text, PlanOptions { rules }).unwrap_or_else(|error| panic!("{query}: {error}"));
    let options = Options { lanes, ..Options::default() };
    let mut circuit = Circuit::new(&pipeline.plan, &Decoders::new(), options).expect("it runs");
    let (mut moment, mut from) = (None, 0);
    for step in 0..8 {
        let now = Moment::random(&mut rng, &pipeline, moment.as_ref());
        for lookup in &pipeline.lookups {
            let rows = LookupRows::new(&lookup.cell, &now.version.to_string(), now.table(&lookup.table).clone());
            lookup.cell.set(Arc::new(rows.expect("keys are there once")));
        }
        let rows = decoded(&pipeline.plan, &now.payments);
        let records = rows.num_rows() as u64;
        let data = BlockData::Rows(Delta::inserts(rows));
        let block = Block { partition: 0, from, to: from + records, first_record: from, records: records as u32, data };
        from += records;
        let opened = if step == 0 { vec![0] } else { vec![] };
        let news =
            SourceInput { source: "payments".to_string(), blocks: vec![block], opened, ..SourceInput::default() };
        pipeline.session.step.set(1_000, 7);
        let output = circuit.step(StepInput { now: 1_000, sources: vec![news] });
        let output = output.unwrap_or_else(|error| panic!("{query}: {error}"));
        let read: Vec<_> = output.header.tables.iter().map(|read| read.table.as_str()).collect();
        let mut looked: Vec<_> = pipeline.lookups.iter().map(|lookup| lookup.table.as_str()).collect();
        looked.sort_unstable();
        assert_eq!(read, looked, "{query}");
        let deltas = output.outputs.iter().flat_map(|rows| &rows.deltas);
        let mut found: Vec<_> = deltas.flat_map(|delta| shown(delta.batch())).collect();
        found.sort();
        assert_eq!(found, now.expected(&text), "{query}\nseed {seed}, {lanes} lanes, rules {rules}, step {step}");
        moment = Some(now);
    }
}

fn check(query: &str) {
    for seed in 0..6 {
        check_at(query, seed, 1 + seed as usize % 3, seed % 2 == 0);
    }
}

const INNER: &str =
    "FROM payments AS p JOIN blocklist FOR SYSTEM_TIME AS OF p.p AS b ON p.ip = b.ip AND p.port = b.port";
const LEFT: &str =
    "FROM payments AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON p.ip = b.ip AND b.port = p.port";

#[test]
fn rows_are_looked_up_by_the_whole_key() {
    check(&format!("SELECT p.id, p.ip, b.ip AS theirs, b.port, reason, score {INNER}"));
    check(&format!("SELECT p.id, p.ip, b.ip AS theirs, b.port, reason, score {LEFT}"));
    check(
        "SELECT * FROM (SELECT id, ip, port FROM payments) AS q JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() \
           ON q.ip = blocklist.ip AND CAST(q.port AS SMALLINT) = blocklist.port WHERE q.port < 1000",
    );
}

#[test]
fn keys_are_computed_from_the_left_side() {
    check("SELECT payments.id, name FROM payments JOIN people FOR SYSTEM_TIME AS OF p AS h ON h.id = amount - 2");
    check("SELECT amount, name FROM payments LEFT JOIN people FOR SYSTEM_TIME AS OF p AS h ON h.id = 3");
    check("SELECT amount, name FROM payments LEFT JOIN people FOR SYSTEM_TIME AS OF p AS h ON amount * 0.5 = h.id");
    check(
        "SELECT amount, name FROM payments JOIN people FOR SYSTEM_TIME AS OF p AS h ON h.id = payments.id * 4000000000",
    );
    check(
        "SELECT payments.id, b.score FROM payments LEFT JOIN blocklist FOR SYSTEM_TIME AS OF p AS b \
           ON b.ip = LOWER(UPPER(payments.ip)) AND b.port = MOD(payments.port, 3)",
    );
}

#[test]
fn the_rest_of_the_condition_filters_or_is_part_of_the_match() {
    check(&format!("SELECT p.id, b.score {INNER} AND b.score < p.amount AND p.id > 1"));
    check(&format!("SELECT p.id, b.score {LEFT} AND b.score < p.amount AND p.id > 1"));
    check(&format!("SELECT p.id {LEFT} AND b.reason IS NOT NULL WHERE b.score IS NULL"));
    check(&format!("SELECT p.id, b.score {LEFT} WHERE b.score > 1 OR p.amount > 5"));
    check(&format!("SELECT p.id, b.score {LEFT} WHERE p.amount > 3 AND p.ip = 'a'"));
    check(&format!("SELECT p.id, b.score {INNER} AND b.ip = 'a' WHERE b.port = 1"));
}

const BY_IP: &str = "FROM payments AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON p.ip = b.ip";

#[test]
fn by_less_than_the_whole_key_every_row_is_found() {
    check(&format!("SELECT p.id, p.ip, b.port, b.reason, b.score {BY_IP}"));
    check(&format!("SELECT p.id, b.port {}", BY_IP.replace("LEFT ", "")));
    check(&format!("SELECT p.id, b.port, TABLE_VERSION(b) AS v {BY_IP} AND b.port > p.port AND b.score < p.amount"));
    check(&format!("SELECT p.id, b.port {} AND b.port > p.port WHERE b.score > 1", BY_IP.replace("LEFT ", "")));
}

#[test]
fn by_other_columns_than_the_key_every_row_is_found() {
    let on = |on: &str| format!("FROM payments AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF p.p AS b ON {on}");
    check(&format!("SELECT p.id, b.ip, b.port {}", on("b.reason = p.ip")));
    check(&format!("SELECT p.id, b.ip, b.port {}", on("b.score = p.amount")));
    check(&format!("SELECT p.id, b.ip, b.port {}", on("b.score = p.amount AND b.ip = p.ip AND b.reason <> 'a'")));
    check(&format!("SELECT p.id, b.ip {}", on("b.score = 3 AND p.id > 2")));
    check(
        "SELECT p.id, h.id AS other, b.port FROM payments AS p JOIN people FOR SYSTEM_TIME AS OF p.p AS h ON h.name = p.ip \
           LEFT JOIN blocklist FOR SYSTEM_TIME AS OF p.p AS b ON b.ip = h.ip AND b.port = h.id",
    );
}

#[test]
fn the_version_that_was_read_is_named() {
    check(&format!("SELECT p.id, TABLE_VERSION(b) AS v {INNER}"));
    check(&format!("SELECT p.id, table_version(b) AS v, b.score {LEFT} WHERE TABLE_VERSION(b) <> '3'"));
    let left = LEFT.replace("FROM payments", "FROM (SELECT id, ip, port FROM payments)");
    check(&format!("SELECT *, CONCAT('v', TABLE_VERSION(b)) AS v {left} AND TABLE_VERSION(b) <> '2'"));
    check(&format!("SELECT v, id FROM (SELECT TABLE_VERSION(b) AS v, p.id {LEFT}) AS q WHERE id > 0"));
}

#[test]
fn lookups_follow_one_another() {
    check(&format!(
        "SELECT p.id, b.score, h.name, TABLE_VERSION(b) AS v, TABLE_VERSION(h) AS w {LEFT} \
         JOIN people FOR SYSTEM_TIME AS OF p.p AS h ON b.score = h.id AND h.name <> p.ip"
    ));
    check(
        "SELECT p.id, h.name, b.reason FROM payments AS p \
         LEFT JOIN people FOR SYSTEM_TIME AS OF PROCTIME() AS h ON p.id = h.id \
         LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON h.ip = b.ip AND p.port = b.port AND b.score > h.id",
    );
    check(
        "SELECT one.name, two.name AS other FROM payments AS p \
         JOIN people FOR SYSTEM_TIME AS OF PROCTIME() AS one ON p.id = one.id \
         LEFT JOIN people FOR SYSTEM_TIME AS OF PROCTIME() AS two ON p.amount = two.id",
    );
}

#[test]
fn lookups_stand_in_views_and_unions_and_under_unnest() {
    let view = format!("CREATE VIEW checked AS SELECT p.id, p.ip, b.score, TABLE_VERSION(b) AS v {LEFT}; ");
    check(&format!("{view}SELECT id, v FROM checked WHERE score IS NULL"));
    check(&format!("{view}SELECT id, ip FROM checked UNION ALL SELECT id, 'x' FROM payments"));
    check(&format!("{view}CREATE MATERIALIZED VIEW kept AS SELECT * FROM checked"));
    check(&format!(
        "{view}SELECT c.id, h.name, c.v FROM checked AS c JOIN people FOR SYSTEM_TIME AS OF PROCTIME() AS h ON c.score = h.id"
    ));
    check(&format!("SELECT p.id, b.score, e {LEFT} CROSS JOIN UNNEST(ARRAY[b.score, 1]) AS u (e) WHERE e > 0"));
}

#[test]
fn what_is_found_is_grouped_like_any_row() {
    let text = format!(
        "{TABLES}SELECT b.reason, TABLE_VERSION(b) AS v, COUNT(*) AS n {LEFT} GROUP BY b.reason, TABLE_VERSION(b);"
    );
    let pipeline = plan(&text, PlanOptions::default()).expect("it is planned");
    let titles: Vec<_> = pipeline.plan.nodes.iter().map(|node| node.title()).collect();
    assert!(titles.contains(&"Lookup") && titles.contains(&"Aggregate"), "{titles:?}");
    let output = &pipeline.outputs[0];
    assert_eq!(
        output.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
        ["reason", "v", "n"]
    );
}

#[test]
fn what_follows_the_order_of_a_source_follows_it_through_a_lookup() {
    for query in [
        format!("SELECT p.ip, FIRST_VALUE(b.reason) AS r {LEFT} GROUP BY p.ip"),
        format!("SELECT p.id, b.score, UUID() AS u {INNER} WHERE RAND() < 0.5"),
        "WITH blocklist AS (SELECT id FROM payments) SELECT id FROM blocklist".to_string(),
    ] {
        let planned = plan(&format!("{TABLES}{query};"), PlanOptions::default());
        planned.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[test]
fn one_cell_serves_all_lookups_of_a_table() {
    let text = format!("{TABLES}SELECT p.id {INNER}; SELECT p.amount, score {LEFT}; SELECT id FROM payments;");
    let pipeline = plan(&text, PlanOptions::default()).expect("it is planned");
    let tables: Vec<_> = pipeline.lookups.iter().map(|lookup| lookup.table.as_str()).collect();
    assert_eq!(tables, ["blocklist"]);
    assert_eq!(pipeline.lookups[0].cell.key(), [2, 1], "the key's columns in its order");
    assert!(
        pipeline.tables.iter().filter(|table| table.is_versioned()).all(|table| !table.is_source && !table.is_sink)
    );
}
