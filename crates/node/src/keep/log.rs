//! [`Log`]: writes each step into the journal, its header before it runs and its trailer after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender as Bell, bounded};
use tidemill_base::time::Stopwatch;
use tidemill_circuit::step::{StepHeader, StepInput, StepLog, StepTrailer};
use tidemill_journal::{Journal, Level, Sequence};

use super::line::{LINE, Line, circuit_stream};

/// How long a line waits for room in the journal.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before looking for room again.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// How far sinks that show rows at once have shown them, one counter a sink.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delivered {
    sinks: Vec<Arc<AtomicU64>>,
}

impl Delivered {
    /// Counts a sink in, which had delivered up to `step`.
    pub(crate) fn add(&mut self, counter: Arc<AtomicU64>, step: u64) {
        counter.store(step, Ordering::Release);
        self.sinks.push(counter);
    }

    /// The step up to which all have; `last` when there are none.
    pub(crate) fn step(&self, last: u64) -> u64 {
        self.sinks.iter().map(|sink| sink.load(Ordering::Acquire)).min().unwrap_or(last)
    }
}

/// Writes the lines of a circuit into a journal; clones write into the same one.
#[derive(Clone)]
pub(crate) struct Log {
    journal: Arc<Journal>,
    /// The number by which the journal names the circuit.
    stream: u32,
    delivered: Delivered,
    level: Level,
    /// The newest header.
    header: Arc<AtomicU64>,
    /// Rings when a header has become durable, or never will.
    bell: Bell<()>,
    rung: Receiver<()>,
}

impl Log {
    /// A circuit's log, whose headers are on their way to `level` while their steps run.
    pub(crate) fn new(journal: Arc<Journal>, circuit: &str, delivered: Delivered, level: Level) -> Self {
        let (bell, rung) = bounded(1);
        Log { journal, stream: circuit_stream(circuit), delivered, level, header: Arc::default(), bell, rung }
    }

    /// Rings when a header has become durable, or never will, since [`Log::hush`].
    pub(crate) fn bell(&self) -> &Receiver<()> {
        &self.rung
    }

    /// Ends the ringing, for somebody looks at what is durable now.
    pub(crate) fn hush(&self) {
        let _ = self.rung.try_recv();
    }

    /// What the input of rows survives when they leave.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// The newest header: when it is durable, so is all the input that it names.
    pub(crate) fn header(&self) -> Sequence {
        Sequence(self.header.load(Ordering::Acquire))
    }

    /// Whether less than half a segment is left where the next line goes.
    pub(crate) fn is_short(&self) -> bool {
        self.journal.left() < self.journal.segment_bytes() / 2
    }

    /// Writes a line; waits a while for room where there is none.
    pub(crate) fn write(&self, line: &Line) -> Result<Sequence, String> {
        let bytes = line.encode()?;
        let stopwatch = Stopwatch::start();
        loop {
            match self.journal.append(LINE, self.stream, &[&bytes]) {
                Err(error) if error.is_full() && stopwatch.elapsed() < ROOM_TIMEOUT => thread::sleep(ROOM_PAUSE),
                written => return written.map_err(|error| error.to_string()),
            }
        }
    }
}

impl StepLog for Log {
    fn header(&mut self, header: &StepHeader, _input: &StepInput) -> Result<(), String> {
        let delivered = self.delivered.step(header.step.saturating_sub(1));
        let sequence = self.write(&Line::Step { header: header.clone(), delivered })?;
        self.header.store(sequence.0, Ordering::Release);
        // The flush begins while the step runs. A bell that rings already needs no second ring.
        let bell = self.bell.clone();
        self.journal.notify(
            sequence,
            self.level,
            Box::new(move |_| {
                let _ = bell.try_send(());
            }),
        );
        Ok(())
    }

    fn trailer(&mut self, trailer: &StepTrailer) -> Result<(), String> {
        self.write(&Line::Done(trailer.clone())).map(|_| ())
    }
}
