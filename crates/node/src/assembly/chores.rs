//! [`Chores`]: what is to be done now and then while a pipeline runs, though nothing comes in.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::endpoint::{Desks, Doors};
use crate::error::Error;

/// How often it is looked whether requests' keys may be forgotten.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who has something to do now and then.
pub(super) struct Chores {
    pub(super) inboxes: Arc<Doors>,
    pub(super) desks: Arc<Desks>,
}

/// Does them until it is dropped.
pub(super) struct Doing {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Chores {
    /// Begins to do them, on a thread; none when there are none.
    pub(super) fn begin(self) -> Result<Option<Doing>, Error> {
        let Chores { inboxes, desks } = self;
        if inboxes.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = bounded::<()>(0);
        let work = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                desks.tend(&inboxes);
            }
        };
        let thread = std::thread::Builder::new().name("chores".to_string()).spawn(work);
        let thread = thread.map_err(|error| Error::Keep(format!("no thread can be started: {error}")))?;
        Ok(Some(Doing { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
