//! What queries keep over input that goes on: as much after many rows as after few, where `explain` says so.

use serde_json::{Value, json};
use tidemill_base::rand::Rng;
use tidemill_circuit::Delta;
use tidemill_circuit::circuit::{Circuit, Options};
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::plan::Spec;
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_sql::{PlanOptions, plan};

#[path = "oracle/value.rs"]
mod value;

use value::Object;

const TABLES: &str = "
    CREATE TABLE auction (id BIGINT, category BIGINT, ts TIMESTAMP(3), expires TIMESTAMP(3),
        WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'x');
    CREATE TABLE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3),
        WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'x');
    CREATE VIEW offer AS SELECT a.id, a.category, a.expires, b.price, b.ts FROM auction AS a
        JOIN bid AS b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires;
";

/// Steps of a run; in each come so many auctions and bids, over so many milliseconds.
const STEPS: i64 = 60;
const AUCTIONS: i64 = 20;
const BIDS: i64 = 200;
const STEP_MS: i64 = 2_000;

fn wall(millis: i64) -> String {
    let seconds = millis / 1_000;
    format!("1970-01-01T00:{:02}:{:02}.{:03}", seconds / 60, seconds % 60, millis % 1_000)
}

/// The rows of both tables in a step.
fn rows(rng: &mut Rng, step: i64) -> [Vec<Value>; 2] {
    let at = |row: i64, of: i64| step * STEP_MS + row * STEP_MS / of;
    let auction = |row: i64| {
        let (id, ts) = (step * AUCTIONS + row, at(row, AUCTIONS));
        json!({"id": id, "category": id % 5, "ts": wall(ts), "expires": wall(ts + 3_000)})
    };
    let auctions = (0..AUCTIONS).map(auction).collect();
    let mut bid = |row: i64| {
        let newest = step * AUCTIONS + row * AUCTIONS / BIDS;
        let auction = (newest - rng.below(20) as i64).max(0);
        json!({"auction": auction, "price": rng.below(1_000), "ts": wall(at(row, BIDS))})
    };
    [auctions, (0..BIDS).map(&mut bid).collect()]
}

/// Runs a query: the most entries that were kept after a step in the first third, and in the last; views not counted.
fn kept(query: &str) -> [u64; 2] {
    let text = format!("{TABLES}{query};");
    let pipeline = plan(&text, PlanOptions::default()).unwrap_or_else(|error| panic!("{query}: {error}"));
    let schema = |name: &str| {
        let sources = pipeline.plan.nodes.iter().find_map(|node| match &node.spec {
            Spec::Source(source) if source.name == name => Some(source.decoded.clone()),
            _ => None,
        });
        sources.map(|schema| (name.to_string(), schema))
    };
    let tables = ["auction", "bid"].map(schema);
    let options = Options { lanes: 2, ..Options::default() };
    let mut circuit = Circuit::new(&pipeline.plan, &Decoders::new(), options).expect("it runs");
    let (mut rng, mut most) = (Rng::seeded(7), [0, 0]);
    for step in 0..STEPS {
        let mut sources = Vec::new();
        for (table, rows) in tables.iter().zip(rows(&mut rng, step)) {
            let Some((name, schema)) = table else { continue };
            let objects: Vec<Object> = rows.iter().filter_map(Value::as_object).cloned().collect();
            let batch = value::batch(schema, &objects.iter().collect::<Vec<_>>());
            let (from, records) = (step as u64, objects.len() as u32);
            let data = BlockData::Rows(Delta::inserts(batch));
            let blocks = vec![Block { partition: 0, from, to: from + 1, first_record: 0, records, data }];
            let opened = if step == 0 { vec![0] } else { vec![] };
            sources.push(SourceInput { source: name.clone(), blocks, opened, ..SourceInput::default() });
        }
        circuit.step(StepInput { now: 0, sources }).unwrap_or_else(|error| panic!("{query}: {error}"));
        let entries: u64 = circuit.state().iter().map(|(_, size)| size.entries).sum();
        if step < STEPS / 3 {
            most[0] = entries.max(most[0]);
        } else if step >= STEPS * 2 / 3 {
            most[1] = entries.max(most[1]);
        }
    }
    most
}

#[test]
fn what_is_kept_does_not_grow_with_the_input() {
    let check = |query: &str, most: u64| {
        let [early, late] = kept(query);
        assert!(late <= early + early / 4 && late <= most, "{query}: {early} entries, and then {late}");
    };
    check("SELECT id, expires, MAX(price) AS final FROM offer GROUP BY id, expires", 1_200);
    check(
        "SELECT category, AVG(final) AS average FROM (SELECT category, id, expires, MAX(price) AS final FROM offer \
         GROUP BY category, id, expires) GROUP BY category",
        1_200,
    );
    check("SELECT DISTINCT id, expires FROM offer", 1_200);
    check("SELECT expires, price, SUM(price) OVER (PARTITION BY expires ORDER BY price) AS s FROM offer", 2_000);
    check("SELECT price, LEAD(price) OVER (PARTITION BY MOD(auction, 7) ORDER BY ts) AS next FROM bid", 400);
    check("SELECT price, AVG(price) OVER (ORDER BY ts ROWS BETWEEN 5 PRECEDING AND 5 FOLLOWING) AS a FROM bid", 400);
}

#[test]
fn rows_that_have_met_one_are_not_kept() {
    // A bid may come before its auction; the auctions stay, and of the bids those alone that meet none.
    let (auctions, bids) = ((STEPS * AUCTIONS) as u64, (STEPS * BIDS) as u64);
    let [_, kept] = kept("SELECT price FROM bid WHERE auction IN (SELECT id FROM auction)");
    assert!(kept <= auctions, "{kept} entries of {auctions} auctions and {bids} bids");
}

#[test]
fn what_nothing_bounds_grows() {
    let [early, late] = kept("SELECT id, MAX(price) AS final FROM offer GROUP BY id");
    assert!(late > 2 * early, "{early} entries, and then {late}: nothing says that an id does not come again");
}
