//! Measures what an append to a ring costs: `ring_append [RECORDS] [BYTES] [FOLDER]`.
//!
//! First alone, the ring being emptied in between; then with a reader on another thread. FOLDER is `/dev/shm` unless
//! told otherwise. Each time includes reading the clock, about 20 ns, which is measured and told.

#![cfg(not(loom))]
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill_base::time::Stopwatch;
use tidemill_journal::ring::{Consumer, Producer, Refused, Ring, Shape};

const SLOTS: u32 = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let records = arguments.next().map_or(Ok(1_000_000), |text| text.parse::<usize>())?;
    let bytes = arguments.next().map_or(Ok(100), |text| text.parse::<usize>())?;
    let folder = arguments.next().unwrap_or_else(|| "/dev/shm".into());
    let slot_bytes = u32::try_from((bytes + 16).next_multiple_of(64))?;
    let path = std::path::Path::new(&folder).join(format!("ring_append.{}", std::process::id()));
    let consumer = Ring::create(&path, Shape { producers: 1, slots: SLOTS, slot_bytes })?.consumer()?;
    let producer = Ring::open(&path)?.producer();
    // The mappings live on without the name.
    std::fs::remove_file(&path)?;
    measure(consumer, producer?, records, &vec![7; bytes])
}

fn measure(
    mut consumer: Consumer,
    mut producer: Producer,
    records: usize,
    record: &[u8],
) -> Result<(), Box<dyn Error>> {
    report("reading the clock", &mut (0..10_000).map(|_| Stopwatch::start().elapsed()).collect::<Vec<_>>());

    let mut times = Vec::with_capacity(records);
    while times.len() < records {
        for _ in 0..SLOTS {
            let one = Stopwatch::start();
            producer.try_append(record)?;
            times.push(one.elapsed());
        }
        empty(&mut consumer)?;
    }
    report("alone", &mut times);

    let (mut total, rounds) = (Duration::ZERO, records.div_ceil(SLOTS as usize) as u32);
    for _ in 0..rounds {
        let many = Stopwatch::start();
        for _ in 0..SLOTS {
            producer.try_append(record)?;
        }
        total += many.elapsed();
        empty(&mut consumer)?;
    }
    println!("{:<25} mean {:>5} ns", "alone, clock not read", (total / rounds / SLOTS).as_nanos());

    let done = AtomicBool::new(false);
    let (mut times, full) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) && empty(&mut consumer).is_ok() {
                std::hint::spin_loop();
            }
        });
        let measured = beside_a_reader(&mut producer, records, record);
        done.store(true, Ordering::Release);
        measured
    })?;
    report("beside a reading thread", &mut times);
    println!("refused because it was full: {full}");
    Ok(())
}

fn empty(consumer: &mut Consumer) -> tidemill_journal::ring::Result<()> {
    while consumer.next()?.is_some() {}
    consumer.release(consumer.position());
    Ok(())
}

/// The times of the appends that were taken, and how many were refused.
fn beside_a_reader(producer: &mut Producer, records: usize, record: &[u8]) -> Result<(Vec<Duration>, u64), Refused> {
    let (mut times, mut full) = (Vec::with_capacity(records), 0);
    while times.len() < records {
        let one = Stopwatch::start();
        match producer.try_append(record) {
            Ok(_) => times.push(one.elapsed()),
            Err(Refused::Full { .. }) => {
                full += 1;
                std::thread::yield_now();
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok((times, full))
}

fn report(what: &str, times: &mut [Duration]) {
    let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| percentile(times, percent));
    println!("{what:<25} p50 {p50:>6} ns   p99 {p99:>6} ns   p99.9 {p999:>6} ns   ({} records)", times.len());
}

fn percentile(times: &mut [Duration], percent: f64) -> u128 {
    times.sort_unstable();
    let at = (times.len() as f64 * percent / 100.0) as usize;
    times.get(at.min(times.len().saturating_sub(1))).map_or(0, Duration::as_nanos)
}
