//! [`Retention`]: which of the journal's records the circuits of a pipeline still need.
//!
//! A circuit needs what its newest snapshot does not cover. One that has taken no step since that snapshot needs only the
//! input that it has not taken yet, however old the snapshot is: else a circuit that sleeps would keep what all others
//! write. Nothing goes that any circuit needs, nor what others hold for reasons of their own ([`Journal::retain`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_journal::{Error, Journal, Level, Sequence};

use super::input::Outstanding;

/// What each circuit needs.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    needs: Mutex<BTreeMap<String, Arc<Need>>>,
}

/// What a circuit needs of the journal.
#[derive(Debug)]
pub(crate) struct Need {
    /// The input that it has not taken.
    outstanding: Arc<Outstanding>,
    /// Whether it has taken a step, or is taking one, since its newest snapshot.
    stepped: AtomicBool,
    /// The first record that its newest snapshot does not cover.
    from: AtomicU64,
}

impl Need {
    /// A step is about to run.
    pub(crate) fn step(&self) {
        self.stepped.store(true, Ordering::SeqCst);
    }

    /// A snapshot is durable, which does not cover the records from `from` on; `newest` when no step ran since.
    pub(crate) fn saved(&self, from: Sequence, newest: bool) {
        self.from.store(from.0, Ordering::SeqCst);
        if newest {
            self.stepped.store(false, Ordering::SeqCst);
        }
    }

    /// The first record that the circuit needs, when `next` is the first one that is not there yet.
    fn first(&self, next: Sequence) -> Sequence {
        let from = match self.stepped.load(Ordering::SeqCst) {
            true => Sequence(self.from.load(Ordering::SeqCst)),
            false => next,
        };
        self.outstanding.oldest().map_or(from, |oldest| from.min(Sequence(oldest)))
    }
}

impl Retention {
    /// Keeps what a circuit needs, which begins with a snapshot that does not cover the records from `from` on; `steps`
    /// when some of those are steps of its own.
    pub(crate) fn of(&self, circuit: &str, from: Sequence, steps: bool, outstanding: Arc<Outstanding>) -> Arc<Need> {
        let need = Need { outstanding, stepped: AtomicBool::new(steps), from: AtomicU64::new(from.0) };
        let need = Arc::new(need);
        self.needs.lock().unwrap_or_else(PoisonError::into_inner).insert(circuit.to_string(), need.clone());
        need
    }

    /// Lets the journal go of what no circuit needs.
    ///
    /// # Errors
    /// What the journal's storage says.
    pub(crate) fn let_go(&self, journal: &Journal) -> Result<(), Error> {
        // Looked at first: whatever begins meanwhile stands behind it.
        let next = journal.durable(Level::Process).next();
        let needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        let first = needs.values().map(|need| need.first(next)).min().unwrap_or(next);
        journal.retire(first.min(next).previous()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_that_sleeps_needs_only_what_it_has_not_taken() {
        let outstanding = Arc::new(Outstanding::default());
        let retention = Retention::default();
        let need = retention.of("main", Sequence(10), true, outstanding.clone());
        assert_eq!(need.first(Sequence(50)), Sequence(10));
        need.saved(Sequence(40), true);
        assert_eq!(need.first(Sequence(50)), Sequence(50));
        outstanding.add("clicks", 7, 45);
        assert_eq!(need.first(Sequence(50)), Sequence(45));
        need.step();
        assert_eq!(need.first(Sequence(50)), Sequence(40));
        need.saved(Sequence(44), false);
        assert_eq!(need.first(Sequence(50)), Sequence(44), "steps have run since");
    }
}
