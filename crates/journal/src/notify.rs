//! Those who wait for a watermark: callbacks by level and sequence, called once each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::level::{Level, Sequence};

/// What is called when a record has reached its level, or never will.
pub type Callback = Box<dyn FnOnce(Result<()>) + Send>;

#[derive(Default)]
pub(crate) struct Waiters {
    /// How many wait at level `process`, so that an append need not look when nobody does.
    process: AtomicUsize,
    queues: Mutex<[Queue; 2]>,
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<(Sequence, u64), Callback>,
    registered: u64,
}

impl Waiters {
    /// Registers a callback. Whoever calls this looks at the watermark again afterwards and calls [`Waiters::reached`],
    /// for it may have passed meanwhile.
    pub fn register(&self, sequence: Sequence, level: Level, callback: Callback) {
        let mut queues = lock(&self.queues);
        let queue = &mut queues[level as usize];
        queue.registered += 1;
        queue.waiting.insert((sequence, queue.registered), callback);
        if level == Level::Process {
            self.process.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether anybody waits at level `process`.
    pub fn at_process(&self) -> bool {
        self.process.load(Ordering::SeqCst) > 0
    }

    /// Calls those who wait for records up to `sequence`.
    pub fn reached(&self, level: Level, sequence: Sequence) {
        let reached = {
            let mut queues = lock(&self.queues);
            let waiting = &mut queues[level as usize].waiting;
            let later = waiting.split_off(&(sequence.next(), 0));
            std::mem::replace(waiting, later)
        };
        if level == Level::Process {
            self.process.fetch_sub(reached.len(), Ordering::SeqCst);
        }
        for callback in reached.into_values() {
            callback(Ok(()));
        }
    }

    /// Calls everybody with an error.
    pub fn fail(&self, error: &Error) {
        let queues = std::mem::take(&mut *lock(&self.queues));
        self.process.fetch_sub(queues[Level::Process as usize].waiting.len(), Ordering::SeqCst);
        for callback in queues.into_iter().flat_map(|queue| queue.waiting.into_values()) {
            callback(Err(error.clone()));
        }
    }
}

/// Takes a lock; a thread that panicked with it left nothing half done, for every change under it is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
