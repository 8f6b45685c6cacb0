//! The line on the terminal that tells how far a run has come.

use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tidemill_base::Timestamp;
use tidemill_base::time::Stopwatch;
use tidemill_node::Progress;
use tidemill_stage::Cancel;

use crate::console::{is_watched, thousands};

/// How often the line is written.
const INTERVAL: Duration = Duration::from_millis(500);

/// A line that is written until it is told to end.
pub(crate) struct Line {
    end: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// Begins to write, when somebody watches.
    pub(crate) fn begin(progress: Arc<Progress>) -> Line {
        let end = Cancel::new();
        let stop = end.clone();
        let write = move || {
            let stopwatch = Stopwatch::start();
            let mut last = (Duration::ZERO, 0);
            while stop.sleep(INTERVAL) {
                let (at, standing) = (stopwatch.elapsed(), progress.standing());
                let seconds = (at - last.0).as_secs_f64().max(0.001);
                let rate = (standing.records.saturating_sub(last.1)) as f64 / seconds;
                last = (at, standing.records);
                let mut text =
                    format!("\r\x1b[K{} rows, {} rows/s", thousands(standing.records), thousands(rate as u64));
                if standing.watermark != Timestamp::MIN {
                    text.push_str(&format!(", watermark {}", standing.watermark));
                }
                let mut stderr = std::io::stderr().lock();
                let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
            }
            let _ = std::io::stderr().lock().write_all(b"\r\x1b[K");
        };
        let thread = is_watched().then(|| std::thread::Builder::new().name("progress".to_string()).spawn(write).ok());
        Line { end, thread: thread.flatten() }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end.drain();
        if let Some(thread) = self.thread.take() {
            // A progress line that panicked is no reason to fail.
            let _ = thread.join();
        }
    }
}
