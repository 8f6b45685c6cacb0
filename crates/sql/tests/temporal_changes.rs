//! Joins as of event time with a table whose rows are updated and deleted, against its history read record by record.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidemill_base::Explain;
use tidemill_base::rand::Rng;
use tidemill_circuit::Delta;
use tidemill_circuit::circuit::{Circuit, Options};
use tidemill_circuit::decode::{Block, BlockData, Decode, Decoded, DecodedDelta, Decoders};
use tidemill_circuit::plan::{SourceSpec, Spec};
use tidemill_circuit::row::to_json;
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_sql::{Pipeline, PlanOptions, plan};

#[path = "oracle/value.rs"]
mod value;

use value::Object;

const TABLES: &str = "
    CREATE TABLE orders (id BIGINT, currency STRING, amount INT, ts TIMESTAMP(3),
        WATERMARK FOR ts AS ts - INTERVAL '0.003' SECOND) WITH ('connector' = 'x');
    CREATE TABLE rate (at TIMESTAMP(3), rate INT, currency STRING, twice AS rate * 2,
        WATERMARK FOR at AS at - INTERVAL '0.002' SECOND, PRIMARY KEY (currency) NOT ENFORCED)
        WITH ('connector' = 'x', 'changelog' = 'true');
";

/// A row of the table: currency, rate and time.
type Rate = (&'static str, i64, i64);

/// A record of changes: the row before, and after.
type Change = (Option<Rate>, Option<Rate>);

/// An order: number, currency, amount and time.
type Order = (i64, &'static str, i64, i64);

/// What comes in a step, block by block.
type Step = (Vec<Vec<Order>>, Vec<Vec<Change>>);

fn wall(millis: i64) -> String {
    format!("1970-01-01T00:00:{:02}.{:03}", millis / 1_000, millis % 1_000)
}

/// Reads records of rows before and after, a few rows a piece.
struct Changes {
    source: SourceSpec,
    piece: usize,
}

impl Decode for Changes {
    fn decode(&mut self, bytes: &[u8], _: u64, out: &mut Decoded) -> Result<(), String> {
        let records: Vec<(Option<Object>, Option<Object>)> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let rows = (0_u32..).zip(records).flat_map(|(record, (before, after))| {
            let before = before.map(|row| (row, -1, record));
            before.into_iter().chain(after.map(|row| (row, 1, record)))
        });
        for rows in rows.collect::<Vec<_>>().chunks(self.piece) {
            let objects: Vec<&Object> = rows.iter().map(|(row, _, _)| row).collect();
            let batch = value::batch(&self.source.decoded, &objects);
            let delta = Delta::weighted(batch, rows.iter().map(|(_, weight, _)| *weight).collect());
            out.deltas.push(DecodedDelta { delta, records: Some(rows.iter().map(|(_, _, record)| *record).collect()) });
        }
        Ok(())
    }
}

fn object((currency, rate, at): Rate) -> Value {
    json!({"currency": currency, "rate": rate, "at": wall(at)})
}

fn source(pipeline: &Pipeline, name: &str) -> SourceSpec {
    let mut sources = pipeline.plan.nodes.iter().filter_map(|node| match &node.spec {
        Spec::Source(source) if source.name == name => Some(source.clone()),
        _ => None,
    });
    sources.next().expect("it is read")
}

/// Runs a query over orders and changes, block by block, and returns the rows of its result.
fn run(query: &str, steps: &[Step], lanes: usize, piece: usize) -> Vec<String> {
    let text = format!("{TABLES}{query};");
    let pipeline =
        plan(&text, PlanOptions::default()).unwrap_or_else(|error| panic!("{query}: {error} {:?}", error.help()));
    let rate = source(&pipeline, "rate");
    let decoded = source(&pipeline, "orders").decoded;
    let make = move || Ok(Box::new(Changes { source: rate.clone(), piece }) as Box<dyn Decode>);
    let decoders = Decoders::from([("rate".to_string(), Arc::new(make) as _)]);
    let options = Options { lanes, ..Options::default() };
    let mut circuit = Circuit::new(&pipeline.plan, &decoders, options).expect("it runs");
    let (mut found, mut passed) = (BTreeMap::<String, i64>::new(), [0_u64; 2]);
    for (index, (orders, changes)) in steps.iter().enumerate() {
        let mut block = |source: usize, records: usize, data| {
            let from = passed[source];
            passed[source] += records as u64;
            Block { partition: 0, from, to: passed[source], first_record: from, records: records as u32, data }
        };
        let orders = orders.iter().map(|orders| {
            let object = |(id, currency, amount, ts): &Order| {
                let row = json!({"id": id, "currency": currency, "amount": amount, "ts": wall(*ts)});
                row.as_object().cloned().unwrap_or_default()
            };
            let objects: Vec<Object> = orders.iter().map(object).collect();
            let rows = value::batch(&decoded, &objects.iter().collect::<Vec<_>>());
            block(0, orders.len(), BlockData::Rows(Delta::inserts(rows)))
        });
        let orders: Vec<Block> = orders.collect();
        let changes = changes.iter().map(|changes| {
            let records: Vec<_> =
                changes.iter().map(|(before, after)| (before.map(object), after.map(object))).collect();
            let bytes = serde_json::to_vec(&records).expect("plain values");
            block(1, changes.len(), BlockData::Bytes(bytes.into()))
        });
        let changes: Vec<Block> = changes.collect();
        let (first, last) = (index == 0, index + 1 == steps.len());
        let news = [("orders", orders), ("rate", changes)].map(|(name, blocks)| SourceInput {
            source: name.to_string(),
            blocks,
            opened: if first { vec![0] } else { vec![] },
            ended: if last { vec![0] } else { vec![] },
            complete: last,
            ..SourceInput::default()
        });
        let output = circuit.step(StepInput { now: 0, sources: Vec::from(news) });
        let output = output.unwrap_or_else(|error| panic!("{query}: {error}"));
        for delta in output.outputs.iter().flat_map(|rows| &rows.deltas) {
            for row in 0..delta.rows() {
                *found.entry(to_json(delta.batch(), row)).or_default() += delta.weight(row);
            }
        }
    }
    found.into_iter().flat_map(|(row, times)| std::iter::repeat_n(row, times as usize)).collect()
}

/// What was valid, by currency and time, as the records say one after the other.
#[derive(Default)]
struct History {
    versions: BTreeMap<(&'static str, i64), Option<i64>>,
    watermark: i64,
}

impl History {
    /// A row goes by: the watermark that it came below.
    fn pass(&mut self, at: i64) -> Option<i64> {
        let below = (at < self.watermark).then_some(self.watermark);
        self.watermark = self.watermark.max(at - 2);
        below
    }

    fn take(&mut self, (before, after): Change) {
        if let Some((currency, _, at)) = before {
            let below = self.pass(at);
            if after.is_none_or(|(other, ..)| other != currency) {
                self.versions.insert((currency, below.unwrap_or(at)), None);
            }
        }
        if let Some((currency, rate, at)) = after
            && self.pass(at).is_none()
        {
            self.versions.insert((currency, at), Some(rate));
        }
    }

    fn valid(&self, currency: &'static str, ts: i64) -> Option<(i64, i64)> {
        let ((_, at), rate) = self.versions.range((currency, i64::MIN)..=(currency, ts)).next_back()?;
        rate.map(|rate| (rate, *at))
    }
}

const LEFT: &str = "SELECT o.id, r.rate, r.twice, r.at FROM orders AS o \
                    LEFT JOIN rate FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency";

/// What comes out of all orders.
fn expected(steps: &[Step], outer: bool, least: Option<i64>) -> Vec<String> {
    let (mut history, mut all, mut watermark) = (History::default(), Vec::new(), i64::MIN);
    for (orders, changes) in steps {
        changes.iter().flatten().for_each(|change| history.take(*change));
        for order in orders.iter().flatten() {
            if order.3 >= watermark {
                all.push(*order);
            }
            watermark = watermark.max(order.3 - 3);
        }
    }
    let mut rows = Vec::new();
    for (id, currency, _, ts) in all {
        let found = history.valid(currency, ts).filter(|(rate, _)| least.is_none_or(|least| *rate > least));
        match found {
            Some((rate, at)) => {
                let at = wall(at);
                rows.push(format!("{{\"id\": {id}, \"rate\": {rate}, \"twice\": {}, \"at\": \"{at}\"}}", 2 * rate));
            }
            None if outer => rows.push(format!("{{\"id\": {id}, \"rate\": null, \"twice\": null, \"at\": null}}")),
            None => {}
        }
    }
    rows.sort();
    rows
}

/// Orders a millisecond apart, over the changes, in one step.
fn check(changes: &[Change], found: &[(i64, Option<i64>)]) {
    let orders: Vec<Order> = found.iter().map(|(ts, _)| (*ts, "EUR", 0, *ts)).collect();
    let query = LEFT.replace(", r.twice, r.at", "");
    let mut rows: Vec<String> = found
        .iter()
        .map(|(ts, rate)| {
            format!("{{\"id\": {ts}, \"rate\": {}}}", rate.map_or("null".to_string(), |rate| rate.to_string()))
        })
        .collect();
    rows.sort();
    assert_eq!(run(&query, &[(vec![orders], vec![changes.to_vec()])], 1, 100), rows, "{changes:?}");
}

const EUR: Rate = ("EUR", 10, 5);

#[test]
fn an_update_begins_a_version_and_leaves_what_was_before_it() {
    let later = ("EUR", 20, 8);
    check(&[(None, Some(EUR)), (Some(EUR), Some(later))], &[(4, None), (5, Some(10)), (7, Some(10)), (8, Some(20))]);
    let corrected = ("EUR", 30, 5);
    check(&[(None, Some(EUR)), (Some(EUR), Some(corrected))], &[(4, None), (5, Some(30)), (9, Some(30))]);
}

#[test]
fn a_deleted_row_ends_what_was_valid_at_its_time() {
    let ended = ("EUR", 10, 8);
    check(&[(None, Some(EUR)), (Some(ended), None)], &[(5, Some(10)), (7, Some(10)), (8, None), (9, None)]);
    check(&[(None, Some(EUR)), (Some(EUR), None)], &[(5, None), (9, None)]);
    let again = ("EUR", 40, 9);
    check(&[(None, Some(EUR)), (Some(EUR), None), (None, Some(again))], &[(5, None), (8, None), (9, Some(40))]);
    let renamed = ("USD", 10, 7);
    check(&[(None, Some(EUR)), (Some(("EUR", 10, 7)), Some(renamed))], &[(6, Some(10)), (7, None)]);
}

#[test]
fn a_row_that_is_deleted_with_the_time_at_which_it_came_ends_at_the_watermark() {
    // The dollar moves the watermark to 18.
    let (dollar, other) = ((None, Some(("USD", 1, 20))), [(17, Some(10)), (18, None), (25, None)]);
    check(&[(None, Some(EUR)), dollar, (Some(EUR), None)], &other);
}

#[test]
fn any_history_is_read_record_by_record() {
    for seed in 0..120 {
        let mut rng = Rng::seeded(seed);
        let (mut now, mut there) = ([10_i64, 10], BTreeMap::<&'static str, Rate>::new());
        let mut steps = Vec::new();
        let mut id = 0;
        for _ in 0..1 + rng.below(8) {
            let (mut orders, mut changes) = (Vec::new(), Vec::new());
            for _ in 0..rng.below(12) {
                now[0] += rng.below(3) as i64;
                id += 1;
                let currency = ["EUR", "USD", "YEN"][rng.below(3) as usize];
                orders.push((id, currency, rng.below(9) as i64, now[0] - rng.below(5) as i64));
            }
            for _ in 0..rng.below(12) {
                now[1] += rng.below(4) as i64;
                let at = now[1] - rng.below(4) as i64;
                let currency = ["EUR", "USD", "YEN"][rng.below(3) as usize];
                let row = (currency, rng.below(9) as i64, at);
                // Of a row that is there the record has what it was, or the same at the time of the change.
                let before = there.get(currency).map(|row| if rng.chance(1, 3) { (row.0, row.1, at) } else { *row });
                let after = if before.is_some() && rng.chance(1, 3) { None } else { Some(row) };
                match after {
                    Some(row) => there.insert(currency, row),
                    None => there.remove(currency),
                };
                changes.push((before, after));
            }
            let cut = 1 + rng.below(4) as usize;
            steps.push((
                orders.chunks(4).map(<[Order]>::to_vec).collect(),
                changes.chunks(cut).map(<[Change]>::to_vec).collect(),
            ));
        }
        let (lanes, piece) = (1 + rng.below(3) as usize, 1 + rng.below(4) as usize);
        let inner = LEFT.replace("LEFT ", "");
        for (query, outer, least) in [
            (LEFT.to_string(), true, None),
            (format!("{LEFT} AND r.rate > 3"), true, Some(3)),
            (format!("{inner} WHERE r.rate > 2"), false, Some(2)),
        ] {
            let mut found = run(&query, &steps, lanes, piece);
            found.sort();
            assert_eq!(found, expected(&steps, outer, least), "{query}\nseed {seed}: {steps:?}");
        }
    }
}

#[test]
fn what_is_no_table_with_a_key_says_why() {
    let refused = |text: &str| {
        let error = plan(text, PlanOptions::default()).expect_err(text);
        (error.to_string(), error.help().unwrap_or_default().to_string())
    };
    let (message, _) = refused(&format!("{}{LEFT};", TABLES.replace(", PRIMARY KEY (currency) NOT ENFORCED", "")));
    assert!(message.starts_with("nothing makes a row of rate unique at a time"), "{message}");
    let view = format!(
        "{TABLES}CREATE VIEW high AS SELECT * FROM rate WHERE rate > 3; {};",
        LEFT.replace("rate FOR", "high FOR")
    );
    let (message, help) = refused(&view);
    assert!(message.starts_with("high takes rows back and does not keep what they were"), "{message}");
    assert!(help.starts_with("join a table with a primary key and a watermark, or a view"), "{help}");
}
