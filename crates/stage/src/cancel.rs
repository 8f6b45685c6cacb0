//! [`Cancel`]: how a graph is told to stop, gracefully or at once.

use std::convert::Infallible;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// A handle to stop a graph; clones are the same handle. Each graph has its own.
#[derive(Debug, Clone)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    holds: Mutex<Holds>,
    changed: Condvar,
    drain: Receiver<Infallible>,
    abort: Receiver<Infallible>,
}

/// The ends whose loss is the signal: a channel without senders wakes all who wait on it, and stays awake.
#[derive(Debug)]
struct Holds {
    drain: Option<Sender<Infallible>>,
    abort: Option<Sender<Infallible>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// A handle that has not been used.
    pub fn new() -> Self {
        let (drain_hold, drain) = bounded(0);
        let (abort_hold, abort) = bounded(0);
        let holds = Holds { drain: Some(drain_hold), abort: Some(abort_hold) };
        Cancel { shared: Arc::new(Shared { holds: Mutex::new(holds), changed: Condvar::new(), drain, abort }) }
    }

    /// Asks for a graceful stop: sources end, what they sent is processed, sinks finish.
    pub fn drain(&self) {
        self.holds().drain = None;
        self.shared.changed.notify_all();
    }

    /// Stops everything as soon as possible: what is in flight is dropped, sinks do not finish.
    pub fn abort(&self) {
        let mut holds = self.holds();
        holds.drain = None;
        holds.abort = None;
        drop(holds);
        self.shared.changed.notify_all();
    }

    /// True once a stop of either kind was asked for. Sources look at this between two items.
    pub fn is_draining(&self) -> bool {
        ended(&self.shared.drain)
    }

    /// True once everything is to stop at once.
    pub fn is_aborted(&self) -> bool {
        ended(&self.shared.abort)
    }

    /// Waits until `duration` has passed, or a stop of either kind was asked for; true when it has passed.
    pub fn sleep(&self, duration: Duration) -> bool {
        let waited = self.shared.changed.wait_timeout_while(self.holds(), duration, |holds| holds.drain.is_some());
        let (holds, _) = waited.unwrap_or_else(PoisonError::into_inner);
        holds.drain.is_some()
    }

    /// Waits until `duration` has passed, or everything is to stop at once; true when it has passed.
    pub fn sleep_through_drain(&self, duration: Duration) -> bool {
        let waited = self.shared.changed.wait_timeout_while(self.holds(), duration, |holds| holds.abort.is_some());
        let (holds, _) = waited.unwrap_or_else(PoisonError::into_inner);
        holds.abort.is_some()
    }

    /// A channel that never yields and disconnects when a stop of either kind is asked for, to be selected on.
    pub fn drain_signal(&self) -> &Receiver<Infallible> {
        &self.shared.drain
    }

    /// A channel that never yields and disconnects when everything is to stop at once, to be selected on.
    pub fn abort_signal(&self) -> &Receiver<Infallible> {
        &self.shared.abort
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.shared.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(signal: &Receiver<Infallible>) -> bool {
    matches!(signal.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drains_before_it_aborts() {
        let cancel = Cancel::new();
        assert!(!cancel.is_draining() && !cancel.is_aborted());
        cancel.drain();
        assert!(cancel.is_draining() && !cancel.is_aborted());
        cancel.clone().abort();
        assert!(cancel.is_draining() && cancel.is_aborted());
    }

    #[test]
    fn abort_is_a_stop_of_either_kind() {
        let cancel = Cancel::new();
        cancel.abort();
        assert!(cancel.is_draining());
    }

    #[test]
    fn sleep_ends_early_when_a_stop_is_asked_for() {
        let cancel = Cancel::new();
        let stopper = cancel.clone();
        let thread = std::thread::spawn(move || stopper.drain());
        assert!(!cancel.sleep(Duration::from_secs(600)));
        thread.join().expect("it only drains");
        assert!(!cancel.sleep(Duration::from_secs(600)));
        assert!(cancel.sleep_through_drain(Duration::from_millis(1)));
    }

    #[test]
    fn sleep_passes_when_nobody_stops() {
        assert!(Cancel::new().sleep(Duration::from_millis(1)));
    }
}
