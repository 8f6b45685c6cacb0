//! Ctrl-C: the first stops what runs in order, the second at once, the third ends the process. SIGHUP has what runs read
//! its configuration again; where there is none it is heard like Ctrl-C.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_stage::Cancel;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console;
use crate::failure::Failure;

/// Who hears SIGINT, SIGTERM and SIGHUP.
#[derive(Clone)]
pub(crate) struct Interrupts {
    state: Arc<Mutex<State>>,
}

/// What runs now, and how often it was told to stop.
#[derive(Default)]
struct State {
    running: Option<Cancel>,
    signals: u32,
    reload: Option<Reloading>,
}

/// Reads a configuration again.
type Reloading = Arc<dyn Fn() + Send + Sync>;

impl Interrupts {
    /// Hears signals from now on.
    pub(crate) fn listen() -> Result<Interrupts, Failure> {
        let failed = |error: std::io::Error| Failure::environment(format!("signals cannot be received: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _entered = runtime.enter();
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [interrupt, terminate, hangup] = kinds.map(signal);
            (interrupt.map_err(failed)?, terminate.map_err(failed)?, hangup.map_err(failed)?)
        };
        let interrupts = Interrupts { state: Arc::default() };
        let heard = interrupts.clone();
        let wait = move || {
            runtime.block_on(async {
                loop {
                    let reload = match next(&mut interrupt, &mut terminate, &mut hangup).await {
                        Heard::Hangup => heard.lock().reload.clone(),
                        Heard::Stop => None,
                    };
                    match reload {
                        Some(reload) => reload(),
                        None => heard.lock().stop(),
                    }
                }
            });
        };
        std::thread::Builder::new().name("signals".to_string()).spawn(wait).map_err(failed)?;
        Ok(interrupts)
    }

    /// Something begins to run, which signals stop.
    pub(crate) fn begin(&self) -> Cancel {
        let cancel = Cancel::new();
        *self.lock() = State { running: Some(cancel.clone()), signals: 0, reload: None };
        cancel
    }

    /// What SIGHUP has what runs do.
    pub(crate) fn on_hangup(&self, reload: impl Fn() + Send + Sync + 'static) {
        self.lock().reload = Some(Arc::new(reload));
    }

    /// It has ended: a signal ends the process from now on.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        (state.running, state.reload) = (None, None);
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

/// What a signal asks for.
enum Heard {
    Stop,
    Hangup,
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) -> Heard {
    tokio::select! {
        _ = interrupt.recv() => Heard::Stop,
        _ = terminate.recv() => Heard::Stop,
        _ = hangup.recv() => Heard::Hangup,
    }
}
