//! A pipeline through several lives: input and steps in a journal, state in snapshots, rows in a sink. Whatever fails and
//! whenever it ends, each acknowledged event is counted once, and the state is that of a run that nothing disturbed.
//!
//! The process keeps to the rules of [`tidemill_journal`] and [`tidemill_circuit::keep`]: a step's header is in the
//! journal before the step runs and durable before its rows leave; a snapshot covers only what has left; a segment goes
//! only when a snapshot covers it; recovery runs the recorded steps again and shows only what the sink has not shown.

mod life;
mod pipeline;
mod recover;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_journal::{Journal, Level, Options, Recovery, Sequence};
use tidemill_state::Instance;

use self::life::Life;
use self::pipeline::{Counts, Sink, counts};
use super::{Violation, promise};
use crate::storage::{Crash, Faults, SimStorage, Tally};
use crate::store::{SimStore, StoreFaults};
use crate::world::World;

/// Processes of one run.
const LIVES: u64 = 4;
/// How often a start is tried while faults come.
const STARTS: usize = 4;

pub(super) fn run(world: &World) -> Result<(), Violation> {
    let mut site = Site::new(world)?;
    for life in 1..=LIVES {
        let last = life == LIVES;
        let process = site.start(last)?;
        match last {
            false => process.run()?,
            true => process.finish()?,
        }
        let failed = site.storage.tally().flushes > site.before.flushes;
        site.outside.ended(site.storage.down(), failed);
        site.storage.restart();
    }
    site.damage()
}

/// The machine, its disk, the store and the world outside.
struct Site {
    world: World,
    storage: SimStorage,
    store: SimStore,
    instance: Instance,
    options: Options,
    faults: (Faults, StoreFaults),
    outside: Outside,
    /// What had gone wrong before this life.
    before: Tally,
}

impl Site {
    fn new(world: &World) -> Result<Self, Violation> {
        let storage = SimStorage::new(world.clone(), 1 << 20);
        let store = SimStore::new(world.clone(), storage.clone());
        let instance = Instance::new(Arc::new(store.clone()), "main").map_err(|error| error.to_string())?;
        let options = Options {
            segment_bytes: 4_096,
            quota_bytes: 1 << 19,
            retain_age: Duration::ZERO,
            retain_bytes: 0,
            flusher: false,
            seed: Some(world.below(u64::MAX)),
            ..Options::default()
        };
        let some = |rate: u32| if world.chance(350) { rate } else { 0 };
        let faults = Faults {
            kill: some(6),
            power_cut: some(6),
            flush: some(15),
            names: some(10),
            replace: some(60),
            read: some(6),
            full: 0,
            write_back: some(100),
        };
        let store_faults = StoreFaults {
            lost: some(60),
            unheard: some(60),
            read: some(20),
            kill: some(30),
            power_cut: some(30),
            interruption: 0,
        };
        let (faults, outside) = ((faults, store_faults), Outside::default());
        Ok(Site { world: world.clone(), before: storage.tally(), storage, store, instance, options, faults, outside })
    }

    /// Starts a process and recovers; only a fault that was injected may prevent that, and in `peace` there is none.
    fn start(&mut self, peace: bool) -> Result<Life<'_>, Violation> {
        for attempt in 1..=STARTS {
            let (faults, store_faults) = match peace || attempt == STARTS {
                true => (Faults::default(), StoreFaults::default()),
                false => self.faults.clone(),
            };
            self.storage.set_faults(faults);
            self.store.set_faults(store_faults);
            self.before = self.storage.tally();
            let failures = self.store.failures();
            match self.recover()? {
                Ok(recovered) => return Ok(Life::new(self, recovered)),
                Err(error) => {
                    let excused = self.storage.tally() != self.before || self.store.failures() != failures;
                    promise!(excused, "nothing has failed, but the pipeline does not start: {error}");
                    self.world.note(format_args!("not started: {error}"));
                    let failed = self.storage.tally().flushes > self.before.flushes;
                    self.outside.ended(self.storage.down(), failed);
                    self.storage.restart();
                }
            }
        }
        Err("the pipeline does not start although nothing fails".to_string())
    }

    /// Turns bits over in the store: a snapshot that is damaged is refused by name, or what is damaged is not needed.
    fn damage(&mut self) -> Result<(), Violation> {
        let names = self.store.names();
        for _ in 0..if names.is_empty() { 0 } else { 3 } {
            let name = self.world.pick(&names).clone();
            let bit = self.world.below(8 * 600);
            if !self.store.flip(&name, bit) {
                continue;
            }
            match self.restore()? {
                Ok((newest, _)) => self.world.note(format_args!("restored {:?}", newest.map(|newest| newest.sequence))),
                Err(error) => {
                    promise!(error.contains(&name), "bit {bit} of {name} is turned over, and told is: {error}");
                    self.world.note(format_args!("refused: {error}"));
                }
            }
            self.store.flip(&name, bit);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(Journal, Recovery), tidemill_journal::Error> {
        Journal::open(Arc::new(self.storage.clone()), self.options.clone(), self.world.clock())
    }
}

/// What is known outside of the process: the events that were sent, and what the sink shows.
#[derive(Default)]
struct Outside {
    /// The keys of each input record, by its number.
    inputs: BTreeMap<u64, Vec<u8>>,
    /// Up to where records were acknowledged at each level.
    acknowledged: [u64; 2],
    sink: Sink,
    incarnation: u64,
    /// How processes have ended since the journal was last open.
    power_cut: bool,
    failed: bool,
}

impl Outside {
    fn ended(&mut self, crash: Option<Crash>, failed: bool) {
        self.power_cut |= crash == Some(Crash::PowerCut);
        self.failed |= failed;
    }

    fn acknowledge(&mut self, level: Level, sequence: Sequence) {
        let at = &mut self.acknowledged[level as usize];
        *at = (*at).max(sequence.0);
    }

    /// The journal has been opened again; what it has lost had not been acknowledged.
    fn reopened(&mut self, found: &Recovery) -> Result<(), Violation> {
        let (last, [process, flushed]) = (found.last.0, self.acknowledged);
        promise!(found.incarnation > self.incarnation, "incarnation {} comes again", found.incarnation);
        promise!(last >= flushed, "record {flushed} was flushed, but the journal ends with {last}");
        let survives = !self.power_cut && !self.failed;
        promise!(!survives || last >= process, "record {process} was acknowledged, but the journal ends with {last}");
        self.inputs.split_off(&(last + 1));
        self.acknowledged = [last; 2];
        (self.incarnation, self.power_cut, self.failed) = (found.incarnation, false, false);
        Ok(())
    }

    /// The answer to the first records up to one.
    fn counts(&self, last: Sequence) -> Counts {
        counts(self.inputs.range(..=last.0).map(|(_, keys)| keys))
    }
}
