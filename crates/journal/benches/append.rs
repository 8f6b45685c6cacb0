//! What a record costs: appended to the journal at each level, and by the usual means, in one run.
//!
//! `cargo bench -p tidemill-journal --bench append -- [SECONDS] [FOLDER] [WORDS]` prints a table, of the rows whose name
//! has those words. Each row runs for the same time with records of the same size; percentiles are of single calls,
//! timed one by one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_base::time::{Stopwatch, SystemClock};
use tidemill_journal::{Disk, Journal, Level, Options, Sequence};

const RECORD: [u8; 100] = [7; 100];
/// Records between two flushes where a group is flushed by hand.
const GROUP: usize = 1_000;
/// Threads that wait for flushes at once.
const THREADS: usize = 64;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let seconds = args.next().map_or(Ok(2.0), |text| text.parse())?;
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let words = args.next().unwrap_or_default();
    let folder = folder.join(format!("tidemill-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let time = Duration::from_secs_f64(seconds);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} bytes a record, {seconds} s a row, in {}\n", RECORD.len(), folder.display())?;
    writeln!(out, "{:44} {:>9} {:>9} {:>9} {:>12}", "way", "p50 us", "p99 us", "p99.9 us", "records/s")?;
    for (name, run) in ROWS.into_iter().filter(|(name, _)| name.contains(&words)) {
        let measured = run(&folder, time)?;
        writeln!(out, "{name:44} {measured}")?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

type Row = (&'static str, fn(&Path, Duration) -> Result<String, Error>);

const ROWS: [Row; 7] = [
    ("journal, process, one thread", |folder, time| journal(folder, |journal| timed(time, || process(journal)))),
    ("journal, flushed, one thread waits for each", |folder, time| {
        journal(folder, |journal| timed(time, || flushed(journal)))
    }),
    ("journal, flushed, 64 threads wait for each", |folder, time| {
        journal(folder, |journal| {
            let each = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| timed(time, || flushed(journal)))).collect();
                threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")).collect::<Vec<_>>()
            });
            let mut all = Times { nanos: Vec::new(), total: Duration::ZERO };
            for times in each {
                let times = times??;
                all.nanos.extend(times.nanos);
                all.total = all.total.max(times.total);
            }
            Ok(all)
        })
    }),
    ("journal, flushed, all waited for at the end", |folder, time| {
        journal(folder, |journal| {
            let watch = Stopwatch::start();
            let mut times = timed(time, || process(journal))?;
            journal.wait(journal.durable(Level::Process), Level::Flushed)?;
            times.total = watch.elapsed();
            Ok(times)
        })
    }),
    ("write(2) a record", |folder, time| {
        let mut file = file(folder)?;
        Ok(timed(time, || Ok(file.write_all(&RECORD)?))?.row())
    }),
    ("write(2) and fdatasync a record", |folder, time| {
        let mut file = file(folder)?;
        let both = || {
            file.write_all(&RECORD)?;
            Ok(file.sync_data()?)
        };
        Ok(timed(time, both)?.row())
    }),
    ("write(2) a record, fdatasync every 1,000", |folder, time| {
        let mut file = file(folder)?;
        let mut written = 0;
        let grouped = || {
            file.write_all(&RECORD)?;
            written += 1;
            match written % GROUP {
                0 => Ok(file.sync_data()?),
                _ => Ok(()),
            }
        };
        Ok(timed(time, grouped)?.row())
    }),
];

fn process(journal: &Journal) -> Result<(), Error> {
    journal.append_blocking(1, 0, &[&RECORD])?;
    Ok(())
}

fn flushed(journal: &Journal) -> Result<(), Error> {
    let sequence = journal.append_blocking(1, 0, &[&RECORD])?;
    Ok(journal.wait(sequence, Level::Flushed)?)
}

fn journal(folder: &Path, run: impl FnOnce(&Journal) -> Result<Times, Error>) -> Result<String, Error> {
    let folder = folder.join("journal");
    let options = Options { retain_age: Duration::ZERO, ..Options::default() };
    let disk = Arc::new(Disk::open(&folder)?);
    let (journal, _) = Journal::open(disk, options, Arc::new(SystemClock::new()))?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let times = std::thread::scope(|scope| {
        // Room is given back as a pipeline with snapshots would.
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                let _ = journal.retire(Sequence::MAX);
            }
        });
        let times = run(&journal);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        times
    })?;
    journal.close()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(times.row())
}

fn file(folder: &Path) -> Result<File, Error> {
    Ok(OpenOptions::new().create(true).write(true).truncate(true).open(folder.join("file"))?)
}

struct Times {
    nanos: Vec<u32>,
    total: Duration,
}

/// Calls `once` for as long as asked, and times each call.
fn timed(time: Duration, mut once: impl FnMut() -> Result<(), Error>) -> Result<Times, Error> {
    let mut nanos = Vec::with_capacity(1 << 24);
    let watch = Stopwatch::start();
    let mut before = Duration::ZERO;
    while before < time {
        once()?;
        let now = watch.elapsed();
        nanos.push((now - before).as_nanos().min(u128::from(u32::MAX)) as u32);
        before = now;
    }
    Ok(Times { nanos, total: before })
}

impl Times {
    fn row(mut self) -> String {
        self.nanos.sort_unstable();
        let at = |share: f64| {
            let index = ((self.nanos.len() as f64 * share) as usize).min(self.nanos.len().saturating_sub(1));
            self.nanos.get(index).copied().map_or(0.0, |nanos| f64::from(nanos) / 1e3)
        };
        let rate = self.nanos.len() as f64 / self.total.as_secs_f64();
        format!("{:9.2} {:9.2} {:9.2} {rate:12.0}", at(0.5), at(0.99), at(0.999))
    }
}
