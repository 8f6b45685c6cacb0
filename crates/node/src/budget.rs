//! [`Budget`]: how much state a pipeline may hold, and what becomes of one that holds more.
//!
//! Every circuit is weighed now and then, between steps: what its operators and views hold, by their own account. All circuits
//! of a pipeline share one budget. At 80 % a warning is logged, once. At 100 % the circuit that finds it out saves its state
//! and stops the pipeline with an error that names what holds most in any of them, so nothing is lost: started again with a
//! larger budget, it goes on from there. To find the largest keys all that an operator keeps is read, which another circuit
//! cannot do for it: near the budget each notes its own now and then. Whoever has no budget of its own gets most of what the machine has, for a stop in order is better
//! than being killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_base::Position;
use tidemill_circuit::operator::{KeySize, StateSize};
use tidemill_circuit::plan::NodeId;
use tidemill_stage::{Halt, Sender};

use crate::driver::Driver;
use crate::error::Error;
use crate::outputs::Work;

/// The share of the budget at which a warning is logged, in percent.
const WARNED_PERCENT: u64 = 80;

/// The share of the machine's memory that state may take when nothing is said, in percent.
const MACHINE_PERCENT: u64 = 75;

/// A circuit is weighed when it has taken so many records since it was weighed last,
const RECORDS: u64 = 16_384;

/// or after this time.
const INTERVAL: Duration = Duration::from_millis(500);

/// How many of the largest keys are named.
const KEYS_NAMED: usize = 3;

/// Largest keys are noted again when their operator has grown by this share, in percent.
const NOTED_PERCENT: u64 = 5;

/// What all circuits of a pipeline may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    /// What each circuit holds.
    held: Mutex<BTreeMap<String, Held>>,
    warned: AtomicBool,
}

/// What a circuit holds.
#[derive(Debug, Clone, Default)]
struct Held {
    bytes: u64,
    /// What holds most of it.
    largest: Largest,
}

/// An operator or view that holds most, and its largest keys.
#[derive(Debug, Clone, Default, PartialEq)]
struct Largest {
    name: String,
    position: Option<Position>,
    size: StateSize,
    /// They as they were noted, when that was nearby, and how much was held then.
    keys: String,
    noted: u64,
}

impl Budget {
    /// `limit` bytes, or most of what the machine has.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let limit = limit.or_else(|| machine_bytes().map(|bytes| bytes / 100 * MACHINE_PERCENT)).unwrap_or(u64::MAX);
        Budget { limit, held: Mutex::default(), warned: AtomicBool::new(false) }
    }

    /// Takes what a circuit holds, and returns what all of them hold. Keys that were noted of the same operator stay noted.
    fn total(&self, circuit: &str, bytes: u64, largest: Largest) -> u64 {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = held.entry(circuit.to_string()).or_default();
        let (keys, noted) = match (mine.largest.name == largest.name, mine.largest.position == largest.position) {
            (true, true) => (std::mem::take(&mut mine.largest.keys), mine.largest.noted),
            _ => Default::default(),
        };
        *mine = Held { bytes, largest: Largest { keys, noted, ..largest } };
        held.values().map(|held| held.bytes).sum()
    }

    /// Whether the largest keys of a circuit's largest operator are to be noted, when all hold so much.
    fn is_worth_a_note(&self, circuit: &str, total: u64) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let grown =
            |largest: &Largest| largest.size.bytes >= largest.noted.saturating_add(largest.noted / 100 * NOTED_PERCENT);
        total >= self.warned_at() && held.get(circuit).is_some_and(|held| total >= self.limit || grown(&held.largest))
    }

    fn note(&self, circuit: &str, keys: String) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Held { largest, .. }) = held.get_mut(circuit) {
            (largest.keys, largest.noted) = (keys, largest.size.bytes);
        }
    }

    /// The circuit with the operator that holds most, and that.
    fn largest(&self) -> Option<(String, Largest)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let largest = held.iter().max_by_key(|(_, held)| held.largest.size.bytes);
        largest.map(|(circuit, held)| (circuit.clone(), held.largest.clone()))
    }

    fn warned_at(&self) -> u64 {
        self.limit / 100 * WARNED_PERCENT
    }

    /// Whether so much is to be warned of, for the first time.
    fn is_worth_a_warning(&self, total: u64) -> bool {
        total >= self.warned_at() && !self.warned.swap(true, Ordering::Relaxed)
    }
}

/// The bytes of memory that this process may take: the machine's, or its control group's.
fn machine_bytes() -> Option<u64> {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_bytes(&text));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    total.into_iter().chain(group).min()
}

fn meminfo_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// When a circuit is weighed.
#[derive(Debug)]
pub(crate) struct Scale {
    budget: Arc<Budget>,
    records: u64,
    at: Duration,
}

impl Scale {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Scale { budget: budget.clone(), records: 0, at: Duration::ZERO }
    }

    fn is_due(&mut self, records: u64, now: Duration) -> bool {
        self.records = self.records.saturating_add(records);
        if self.records < RECORDS && now.saturating_sub(self.at) < INTERVAL {
            return false;
        }
        (self.records, self.at) = (0, now);
        true
    }
}

/// What holds state.
#[derive(Debug)]
struct Holder {
    name: String,
    position: Option<Position>,
    /// The operator; none of a view.
    node: Option<NodeId>,
    size: StateSize,
}

impl Driver {
    /// Weighs the circuit after steps of so many records, and stops when the pipeline holds more than it may.
    pub(crate) fn weigh(&mut self, records: u64, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let now = self.clock.monotonic();
        if !self.scale.is_due(records, now) {
            return Ok(());
        }
        let holders = self.holders();
        let budget = self.scale.budget.clone();
        let largest = largest(&holders);
        let of = |holder: &Holder| Largest {
            name: holder.name.clone(),
            position: holder.position,
            size: holder.size,
            ..Largest::default()
        };
        let bytes = holders.iter().map(|holder| holder.size.bytes).sum();
        let total = budget.total(&self.name, bytes, largest.map(of).unwrap_or_default());
        if budget.is_worth_a_note(&self.name, total) {
            let node = largest.and_then(|holder| holder.node);
            budget.note(&self.name, node.map(|node| self.largest_keys(node)).unwrap_or_default());
        }
        if total >= budget.limit {
            let error = self.too_much(&budget, total);
            self.release(true, sinks)?;
            self.save_now(sinks)?;
            return Err(error.into());
        }
        if budget.is_worth_a_warning(total) {
            let largest = budget.largest().map(|(_, largest)| largest.name).unwrap_or_default();
            let (held, limit) = (shown(total), shown(budget.limit));
            tracing::warn!(held, limit, largest, "State comes near to 'state.memory', at which the pipeline stops.");
        }
        Ok(())
    }

    fn holders(&self) -> Vec<Holder> {
        let operators = self.circuit.state().into_iter().map(|(node, size)| {
            let (name, position) = self.circuit.called(node);
            Holder { name, position, node: Some(node), size }
        });
        let views = self.outputs.views.iter().map(|view| Holder {
            name: format!("view '{}'", view.spec().name),
            position: None,
            node: None,
            size: view.size(),
        });
        operators.chain(views).collect()
    }

    fn largest_keys(&self, node: NodeId) -> String {
        let mut keys = String::new();
        for (number, KeySize { key, bytes }) in self.circuit.largest_keys(node, KEYS_NAMED).iter().enumerate() {
            let before = if number == 0 { ", its largest keys" } else { "," };
            let _ = write!(keys, "{before} {key} ({})", shown(*bytes));
        }
        keys
    }

    fn too_much(&self, budget: &Budget, total: u64) -> Error {
        let (circuit, largest) = budget.largest().unwrap_or_default();
        let (mut most, position) = (String::new(), largest.position);
        if !largest.name.is_empty() {
            let Largest { name, size: StateSize { entries, bytes }, keys, .. } = largest;
            let of = if circuit == self.name { String::new() } else { format!(" of circuit '{circuit}'") };
            let _ = write!(most, "; most is held by {name}{of}: {} in {entries} entries{keys}", shown(bytes));
        }
        let (held, limit) = (shown(total), shown(budget.limit));
        Error::OverBudget { held, limit, most, step: self.circuit.steps(), position }
    }
}

fn largest(holders: &[Holder]) -> Option<&Holder> {
    holders.iter().max_by_key(|holder| holder.size.bytes)
}

/// Bytes for people.
fn shown(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} bytes");
    }
    let (mut value, mut unit) = (bytes as f64 / 1_024.0, 0);
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1_024.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuits_share_a_budget_and_are_warned_of_once() {
        let budget = Budget::new(Some(1_000));
        let total = |circuit, bytes| budget.total(circuit, bytes, Largest::default());
        assert_eq!((total("a", 400), total("b", 390)), (400, 790));
        assert!(!budget.is_worth_a_warning(790));
        assert_eq!(total("a", 420), 810);
        assert!(budget.is_worth_a_warning(810) && !budget.is_worth_a_warning(900));
    }

    #[test]
    fn the_operator_that_holds_most_is_known_to_all_circuits() {
        let budget = Budget::new(Some(1_000));
        let largest = |name: &str, bytes| Largest {
            name: name.to_string(),
            size: StateSize { entries: 1, bytes },
            ..Largest::default()
        };
        let said = || budget.largest().map(|(circuit, largest)| (circuit, largest.name, largest.keys));
        let is = |circuit: &str, name: &str, keys: &str| {
            assert_eq!(said(), Some((circuit.to_string(), name.to_string(), keys.to_string())));
        };
        budget.total("main", 600, largest("Join", 200));
        budget.total("request.r", 310, largest("Over", 300));
        is("request.r", "Over", "");
        assert!(budget.is_worth_a_note("request.r", 910) && !budget.is_worth_a_note("request.r", 790));
        budget.note("request.r", "k".to_string());
        budget.total("request.r", 314, largest("Over", 304));
        is("request.r", "Over", "k");
        assert!(!budget.is_worth_a_note("request.r", 914), "it has hardly grown");
        assert!(budget.is_worth_a_note("request.r", 1_000), "the pipeline stops");
        budget.total("request.r", 330, largest("Over", 320));
        assert!(budget.is_worth_a_note("request.r", 930));
        budget.total("request.r", 350, largest("Rank", 320));
        is("request.r", "Rank", "");
        budget.total("main", 900, largest("Join", 500));
        is("main", "Join", "");
    }

    #[test]
    fn a_circuit_is_weighed_after_rows_or_a_while() {
        let mut scale = Scale::new(&Arc::new(Budget::new(Some(1))));
        let at = |millis| Duration::from_millis(millis);
        assert!(!scale.is_due(1, at(1)) && !scale.is_due(16_382, at(2)) && scale.is_due(1, at(3)));
        assert!(!scale.is_due(1, at(502)) && scale.is_due(1, at(503)) && !scale.is_due(1, at(504)));
        assert!(scale.is_due(u64::MAX, at(505)));
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(meminfo_bytes("MemTotal:       16 kB\nMemFree: 3 kB\n"), Some(16_384));
        assert_eq!(meminfo_bytes("nothing of the kind"), None);
    }

    #[test]
    fn bytes_are_shown_for_people() {
        let check = |bytes, expected: &str| assert_eq!(shown(bytes), expected);
        check(1_023, "1023 bytes");
        check(1_536, "1.5 KiB");
        check(3 << 30, "3.0 GiB");
        check(u64::MAX, "16777216.0 TiB");
    }
}
