//! Ctrl-C: the first stops a run in order, the second at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_stage::Cancel;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console;
use crate::failure::Failure;

/// Whether someone asked for a stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// Whether someone did.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lets SIGINT and SIGTERM stop what `cancel` stops, from now on.
pub(crate) fn listen(cancel: &Cancel) -> Result<Interrupted, Failure> {
    let failed = |error: std::io::Error| Failure::environment(format!("signals cannot be received: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    let interrupted = Interrupted::default();
    let (cancel, seen) = (cancel.clone(), interrupted.clone());
    let wait = move || {
        runtime.block_on(async {
            either(&mut interrupt, &mut terminate).await;
            seen.0.store(true, Ordering::Relaxed);
            console::say("stopping in order; once more to stop at once");
            cancel.drain();
            either(&mut interrupt, &mut terminate).await;
            console::say("stopping at once");
            cancel.abort();
            either(&mut interrupt, &mut terminate).await;
            std::process::exit(130);
        });
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(wait).map_err(failed)?;
    Ok(interrupted)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
