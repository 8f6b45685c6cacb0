//! NDJSON to columns: our decoder beside arrow-json's, on generated Nexmark bids, all seven columns.
//!
//! Both read the same blocks of 1 MiB cut at line ends into batches of up to 8,192 rows, in turns (A B A B), on one
//! thread. What counts is the thread's CPU time, user and system, as the kernel measures it. Three texts: the bids as
//! they are generated; the same with nulls, missing keys, escapes and non-ASCII in some of them; and the same with the
//! keys in a random order. `cargo bench -p tidemill-format [-- ROUNDS]`.

#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Bid, Event};
use tidemill_base::rand::Rng;
use tidemill_format::{BATCH_ROWS, Cutter, Decoded, Decoder, JsonDecoder, JsonOptions, LineCutter};

const BIDS: usize = 500_000;
const BLOCK_BYTES: usize = 1 << 20;
const BASE_MS: u64 = 1_704_067_200_000;

fn schema() -> SchemaRef {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        column("auction", DataType::Int64),
        column("bidder", DataType::Int64),
        column("price", DataType::Int64),
        column("channel", DataType::Utf8),
        column("url", DataType::Utf8),
        column("dateTime", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("extra", DataType::Utf8),
    ]))
}

fn bids() -> Vec<Bid> {
    let config =
        NexmarkConfig { base_time: BASE_MS, first_rate: 10_000, next_rate: 10_000, ..NexmarkConfig::default() };
    let events = EventGenerator::new(config).filter_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        _ => None,
    });
    events.take(BIDS).collect()
}

fn timestamp(millis: u64) -> String {
    let text = tidemill_base::Timestamp(millis as i64).to_string();
    text.trim_end_matches('Z').to_string()
}

fn fields(bid: &Bid) -> Vec<(&'static str, String)> {
    vec![
        ("auction", bid.auction.to_string()),
        ("bidder", bid.bidder.to_string()),
        ("price", bid.price.to_string()),
        ("channel", format!("\"{}\"", bid.channel)),
        ("url", format!("\"{}\"", bid.url)),
        ("dateTime", format!("\"{}\"", timestamp(bid.date_time))),
        ("extra", format!("\"{}\"", bid.extra)),
    ]
}

/// One line of each bid; `change` may change its fields.
fn text(bids: &[Bid], mut change: impl FnMut(&mut Vec<(&'static str, String)>)) -> Vec<u8> {
    let mut out = Vec::new();
    for bid in bids {
        let mut fields = fields(bid);
        change(&mut fields);
        let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        out.extend_from_slice(format!("{{{}}}\n", fields.join(",")).as_bytes());
    }
    out
}

/// A null in one record of eight, a missing key in another, an escape in another, non-ASCII in another.
fn uneven(rng: &mut Rng, fields: &mut Vec<(&'static str, String)>) {
    let at = rng.below(fields.len() as u64) as usize;
    match rng.below(8) {
        0 => fields[at].1 = "null".into(),
        1 => drop(fields.remove(at)),
        2 => fields[3].1 = "\"a \\\"channel\\\" \\u00e9\"".into(),
        3 => fields[4].1 = "\"https://example.org/größe/ツ\"".into(),
        _ => {}
    }
}

fn shuffle(rng: &mut Rng, fields: &mut [(&'static str, String)]) {
    for at in (1..fields.len()).rev() {
        fields.swap(at, rng.below(at as u64 + 1) as usize);
    }
}

fn blocks(text: &[u8]) -> Vec<&[u8]> {
    let (mut cutter, mut blocks, mut rest) = (LineCutter::default(), Vec::new(), text);
    while !rest.is_empty() {
        let shown = &rest[..rest.len().min(BLOCK_BYTES)];
        let cut = cutter.cut(shown, usize::MAX);
        blocks.push(&rest[..cut.end]);
        rest = &rest[cut.end..];
        cutter = LineCutter::default();
    }
    blocks
}

/// CPU time of this thread, in nanoseconds.
fn cpu_nanos() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?)
}

fn ours(options: JsonOptions, blocks: &[&[u8]]) -> Result<usize, Box<dyn Error>> {
    let mut decoder = JsonDecoder::new(options, schema())?;
    let mut rows = 0;
    for block in blocks {
        let mut out = Decoded::default();
        decoder.decode(block, &mut out)?;
        rows += std::hint::black_box(&out).rows();
    }
    Ok(rows)
}

fn arrow_json(blocks: &[&[u8]]) -> Result<usize, Box<dyn Error>> {
    let mut decoder = arrow_json::ReaderBuilder::new(schema()).with_batch_size(BATCH_ROWS).build_decoder()?;
    let mut rows = 0;
    for block in blocks {
        let mut rest = *block;
        while !rest.is_empty() {
            rest = &rest[decoder.decode(rest)?..];
            if !rest.is_empty() {
                rows += std::hint::black_box(decoder.flush()?).map_or(0, |batch| batch.num_rows());
            }
        }
        rows += std::hint::black_box(decoder.flush()?).map_or(0, |batch| batch.num_rows());
    }
    Ok(rows)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(name: &str, text: &[u8], rounds: usize) -> Result<(), Box<dyn Error>> {
    let blocks = blocks(text);
    let general = JsonOptions { general_path_only: true, ..JsonOptions::default() };
    let timed = |run: &dyn Fn() -> Result<usize, Box<dyn Error>>| -> Result<f64, Box<dyn Error>> {
        let start = cpu_nanos()?;
        let rows = run()?;
        assert_eq!(rows, BIDS, "every bid is a row");
        Ok((cpu_nanos()? - start) as f64 / rows as f64)
    };
    let (mut fast, mut slow, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        fast.push(timed(&|| ours(JsonOptions::default(), &blocks))?);
        theirs.push(timed(&|| arrow_json(&blocks))?);
        slow.push(timed(&|| ours(general, &blocks))?);
        ratios.push(theirs[theirs.len() - 1] / fast[fast.len() - 1]);
    }
    let bytes = text.len() as f64 / BIDS as f64;
    let nanos = median(&mut fast);
    println!(
        "{name:<9} ours {nanos:6.1} ns/row ({:.2} GB/s)  general path {:6.1}  arrow-json {:6.1}  ratio {:.2} ({:.2}-{:.2})",
        bytes / nanos,
        median(&mut slow),
        median(&mut theirs),
        median(&mut ratios),
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(7);
    let bids = bids();
    let mut rng = Rng::seeded(7);
    println!("{BIDS} bids, 7 columns, {rounds} rounds; CPU time of one thread, user and system, medians");
    measure("as made", &text(&bids, |_| {}), rounds)?;
    measure("uneven", &text(&bids, |fields| uneven(&mut rng, fields)), rounds)?;
    measure("shuffled", &text(&bids, |fields| shuffle(&mut rng, fields)), rounds)
}
