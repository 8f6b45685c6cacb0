//! Ctrl-C: the first stops what runs in order, the second at once, the third ends the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_stage::Cancel;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console;
use crate::failure::Failure;

/// Who hears SIGINT and SIGTERM.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    state: Arc<Mutex<State>>,
}

/// What runs now, and how often it was told to stop.
#[derive(Debug, Default)]
struct State {
    running: Option<Cancel>,
    signals: u32,
}

impl Interrupts {
    /// Hears signals from now on.
    pub(crate) fn listen() -> Result<Interrupts, Failure> {
        let failed = |error: std::io::Error| Failure::environment(format!("signals cannot be received: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
        };
        let interrupts = Interrupts { state: Arc::default() };
        let heard = interrupts.clone();
        let wait = move || {
            runtime.block_on(async {
                loop {
                    either(&mut interrupt, &mut terminate).await;
                    heard.lock().stop();
                }
            });
        };
        std::thread::Builder::new().name("signals".to_string()).spawn(wait).map_err(failed)?;
        Ok(interrupts)
    }

    /// Something begins to run, which signals stop.
    pub(crate) fn begin(&self) -> Cancel {
        let cancel = Cancel::new();
        *self.lock() = State { running: Some(cancel.clone()), signals: 0 };
        cancel
    }

    /// It has ended: a signal ends the process from now on.
    pub(crate) fn end(&self) {
        self.lock().running = None;
    }

    /// Whether what runs, or ran last, was told to stop.
    pub(crate) fn came(&self) -> bool {
        self.lock().signals > 0
    }

    /// Whether what runs, or ran last, was told to stop at once: how it failed then is of no interest.
    pub(crate) fn came_twice(&self) -> bool {
        self.lock().signals > 1
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stop(&mut self) {
        self.signals += 1;
        match (&self.running, self.signals) {
            (Some(running), 1) => {
                console::say("stopping in order; once more to stop at once");
                running.drain();
            }
            (Some(running), 2) => {
                console::say("stopping at once");
                running.abort();
            }
            _ => std::process::exit(130),
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
