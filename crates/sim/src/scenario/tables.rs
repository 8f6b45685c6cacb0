//! A versioned table with several writers in one store that fails, times out and lets others in between: what was
//! accepted is there, once; every version has the content that plain maps give it; who was fenced commits no more.

mod judge;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidemill_base::time::Clock;
use tidemill_state::submit::{Accepted, Rollback, Submit};
use tidemill_state::table::{Answer, Change, Column, Merge, Schema, TableError, TableStore, Ticket, Type, Value};
use tidemill_state::{Error, Replica, Version};

use self::judge::Model;
use super::{Violation, promise};
use crate::storage::{Crash, SimStorage};
use crate::store::{SimStore, StoreFaults};
use crate::world::World;

/// The table's name.
const TABLE: &str = "rules";
/// Keys that are changed; few, so that writers meet.
const KEYS: u64 = 6;
/// The most turns of a run.
const TURNS: u64 = 40;
/// Versions that writers' clients name are counted by nodes from here on.
const CLIENTS: u64 = 100;

pub(super) fn run(world: &World) -> Result<(), Violation> {
    let desk = Arc::new(Desk::new(world));
    let count = world.between(2, 3);
    let writers: Vec<Arc<Mutex<Writer>>> =
        (1..=count).map(|node| Arc::new(Mutex::new(Writer::new(node, &desk)))).collect();
    for writer in &writers {
        let others: Vec<Weak<Mutex<Writer>>> =
            writers.iter().filter(|other| !Arc::ptr_eq(other, writer)).map(Arc::downgrade).collect();
        let (view, world) = (lock(writer).view.clone(), world.clone());
        view.set_interruption(Some(Box::new(move || {
            // One who is being interrupted himself, further out, does not act.
            let other = world.pick(&others).upgrade();
            if let Some(mut other) = other.as_ref().and_then(|other| other.try_lock().ok()) {
                other.turn();
            }
        })));
    }
    for _ in 0..world.between(5, TURNS) {
        let writer: &Arc<Mutex<Writer>> = world.pick(&writers);
        lock(writer).turn();
        desk.check()?;
        world.pass(Duration::from_millis(700));
    }
    for writer in &writers {
        lock(writer).settle()?;
    }
    judge::end(&desk, &writers)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a submit asked for, by key; none takes the row away.
type Changes = BTreeMap<i64, Option<i64>>;

/// What all writers have in common, and what is known of what they did.
struct Desk {
    world: World,
    store: SimStore,
    schema: Schema,
    faults: StoreFaults,
    told: Mutex<Told>,
    /// What the versions must hold.
    model: Mutex<Model>,
}

/// What was asked and answered.
#[derive(Default)]
struct Told {
    /// Every submit: its changes and its epoch. Its index is its message.
    asked: Vec<(Changes, u64)>,
    accepted: Vec<(usize, Accepted)>,
    /// An epoch that began, and the last record when that was told.
    fences: Vec<(u64, u64)>,
    violation: Option<Violation>,
}

impl Desk {
    fn new(world: &World) -> Self {
        let sums = world.chance(500);
        let value = Column::new("v", Type::BigInt);
        let value = if sums { value.merged(Merge::Sum) } else { value };
        let columns = vec![Column::new("k", Type::BigInt), value];
        let some = |rate: u32| if world.chance(400) { rate } else { 0 };
        let faults = StoreFaults {
            lost: some(50),
            unheard: some(80),
            read: some(30),
            kill: some(20),
            power_cut: 0,
            interruption: some(250),
        };
        let store = SimStore::new(world.clone(), SimStorage::new(world.clone(), 0));
        // The schema's columns are sound, as any run shows.
        let schema = Schema::new(columns, vec!["k".to_string()]).unwrap_or_else(|error| panic!("{error}"));
        let model = Mutex::new(Model::new(sums));
        Desk { world: world.clone(), store, schema, faults, told: Mutex::default(), model }
    }

    fn check(&self) -> Result<(), Violation> {
        lock(&self.told).violation.take().map_or(Ok(()), Err)
    }

    /// The epoch that has begun for sure.
    fn epoch(&self) -> u64 {
        lock(&self.told).fences.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0)
    }

    fn change(&self, key: i64, value: Option<i64>) -> Change {
        let made = match value {
            Some(value) => self.schema.row(&[Value::Integer(key), Value::Integer(value)]).map(Change::Put),
            None => self.schema.key(&[Value::Integer(key)]).map(Change::Delete),
        };
        made.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A process that writes to the table.
struct Writer {
    desk: Arc<Desk>,
    node: u64,
    machine: SimStorage,
    view: SimStore,
    table: Option<TableStore>,
    /// Its starts so far, and the versions its clients have named.
    starts: u64,
    named: u64,
    epoch: u64,
    /// Submits that name their version, to be sent again or sent late.
    sent: Vec<Submit>,
    late: Vec<Submit>,
    waiting: BTreeMap<Ticket, usize>,
}

impl Writer {
    fn new(node: u64, desk: &Arc<Desk>) -> Self {
        let machine = SimStorage::new(desk.world.clone(), 0);
        let view = desk.store.of(machine.clone());
        view.set_faults(desk.faults.clone());
        Writer {
            desk: desk.clone(),
            node,
            machine,
            view,
            table: None,
            starts: 0,
            named: 0,
            epoch: 0,
            sent: Vec::new(),
            late: Vec::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Does one thing; what is not as promised is told to the desk.
    fn turn(&mut self) {
        if let Err(violation) = self.act() {
            lock(&self.desk.told).violation.get_or_insert(violation);
        }
    }

    fn act(&mut self) -> Result<(), Violation> {
        if self.machine.down().is_some() {
            self.machine.restart();
            self.table = None;
            self.waiting.clear();
        }
        if self.table.is_none() {
            return self.open();
        }
        match self.desk.world.below(100) {
            0..45 => self.submit(),
            45..55 => self.send_again(),
            55..63 => self.send_late(),
            63..72 => self.roll_back(),
            72..77 => self.fence(),
            77..82 => {
                self.epoch = self.desk.epoch();
                Ok(())
            }
            82..87 => {
                self.machine.crash(Crash::Kill);
                Ok(())
            }
            87..92 => self.with(|table, _| table.refresh().map(drop)),
            92..94 => self.prune(),
            _ => self.poll(),
        }
    }

    fn open(&mut self) -> Result<(), Violation> {
        self.starts += 1;
        let replica = replica(self.node, self.starts);
        let store = Arc::new(self.view.clone());
        let now = self.desk.world.clock().now();
        match TableStore::create(store, TABLE, &self.desk.schema, replica, "writer", now) {
            Ok(table) => {
                let head = table.table().history().head().version;
                self.desk.world.note(format_args!("writer {} opens at {head}", self.node));
                self.table = Some(table);
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// Runs something on the table whose errors only need an excuse.
    fn with(&mut self, work: impl FnOnce(&mut TableStore, &World) -> Result<(), Error>) -> Result<(), Violation> {
        let Some(table) = &mut self.table else { return Ok(()) };
        match work(table, &self.desk.world) {
            Ok(()) => Ok(()),
            Err(error) => self.excuse(&error),
        }
    }

    /// A version that a client names, later than these.
    fn name(&mut self, deps: &[Version]) -> Version {
        let latest = deps.iter().map(|dep| dep.lamport).max().unwrap_or(0);
        self.named = self.named.max(latest) + 1;
        Version::new(self.named, replica(CLIENTS + self.node, 1))
    }

    /// A new submit on these versions.
    fn draw(&mut self, deps: Vec<Version>, named: bool) -> Submit {
        let world = &self.desk.world;
        let index = lock(&self.desk.told).asked.len();
        let mut changes = Changes::new();
        for _ in 0..world.between(1, 3) {
            let value = if world.chance(800) { Some(world.below(1_000) as i64) } else { None };
            changes.insert(world.below(KEYS) as i64, value);
        }
        let asked = changes.iter().map(|(key, value)| self.desk.change(*key, *value)).collect();
        let merge = world.chance(600);
        lock(&self.desk.told).asked.push((changes, self.epoch));
        let version = named.then(|| self.name(&deps));
        let (author, message) = (format!("writer {}", self.node), index.to_string());
        Submit { version, deps, epoch: self.epoch, changes: asked, merge, author, message }
    }

    fn submit(&mut self) -> Result<(), Violation> {
        let Some(table) = &self.table else { return Ok(()) };
        let world = self.desk.world.clone();
        let head = table.table().history().head().clone();
        let deps = match world.below(10) {
            0..5 => vec![head.version],
            5..7 => {
                let log = table.log(8);
                vec![world.pick(&log).version]
            }
            7..9 => head.deps,
            _ => {
                // The first is sent after the one that rests on it, or never.
                let first = self.draw(vec![head.version], true);
                let deps = first.version.into_iter().collect();
                self.late.push(first);
                deps
            }
        };
        let named = world.chance(500);
        let submit = self.draw(deps, named);
        if named {
            self.sent.push(submit.clone());
        }
        self.send(submit)
    }

    fn send_again(&mut self) -> Result<(), Violation> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let submit = self.desk.world.pick(&self.sent).clone();
        self.send(submit)
    }

    fn send_late(&mut self) -> Result<(), Violation> {
        match self.late.pop() {
            Some(submit) => self.send(submit),
            None => Ok(()),
        }
    }

    fn send(&mut self, submit: Submit) -> Result<(), Violation> {
        let index = submit.message.parse().unwrap_or(usize::MAX);
        let named = submit.version;
        let now = self.desk.world.clock().now();
        let Some(table) = &mut self.table else { return Ok(()) };
        match table.submit(submit, now) {
            Ok(Answer::Accepted(accepted)) => {
                promise!(named.is_none_or(|named| named == accepted.version), "submit {index} has another version");
                self.accept(index, accepted);
                Ok(())
            }
            Ok(Answer::Parked { ticket, deadline, .. }) => {
                self.desk.world.note(format_args!("submit {index} waits until {deadline}"));
                self.waiting.insert(ticket, index);
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    fn accept(&self, index: usize, accepted: Accepted) {
        let Accepted { version, head, root, merged } = accepted;
        self.desk.world.note(format_args!("submit {index} is {version}, head {head} {root}, merged: {merged}"));
        lock(&self.desk.told).accepted.push((index, accepted));
    }

    fn poll(&mut self) -> Result<(), Violation> {
        let now = self.desk.world.clock().now();
        let Some(table) = &mut self.table else { return Ok(()) };
        let due = table.deadline().is_some_and(|deadline| deadline <= now);
        let answers = match table.poll(now) {
            Ok(answers) => answers,
            Err(error) => return self.excuse(&error),
        };
        promise!(table.deadline().is_none_or(|deadline| deadline > now), "a submit waits beyond its deadline");
        promise!(!due || !answers.is_empty(), "a submit is not answered at its deadline");
        for (ticket, answer) in answers {
            let index = self.waiting.remove(&ticket);
            promise!(index.is_some(), "somebody is answered who does not wait");
            match (index, answer) {
                (Some(index), Ok(accepted)) => self.accept(index, accepted),
                (_, Err(error)) => self.excuse(&error)?,
                (None, Ok(_)) => {}
            }
        }
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), Violation> {
        let Some(table) = &mut self.table else { return Ok(()) };
        let world = &self.desk.world;
        let log = table.log(6);
        let head = table.table().history().head().version;
        let rollback = Rollback {
            target: world.pick(&log).version,
            head: world.chance(500).then_some(head),
            epoch: self.epoch,
            author: format!("writer {}", self.node),
            message: String::new(),
        };
        match table.roll_back(&rollback, world.clock().now()) {
            Ok(accepted) => {
                world.note(format_args!("back to {}: {} {}", rollback.target, accepted.head, accepted.root));
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// Forgets what is older than some version, once it has been judged.
    fn prune(&mut self) -> Result<(), Violation> {
        judge::judge(&self.desk)?;
        lock(&self.desk.model).pruned = true;
        self.with(|table, world| {
            let boundary = world.pick(&table.log(12)).version;
            let removed = table.prune(boundary, "writer", world.clock().now())?;
            world.note(format_args!("{removed} records before {boundary} are gone"));
            Ok(())
        })
    }

    /// Takes the table over.
    fn fence(&mut self) -> Result<(), Violation> {
        let epoch = self.epoch.max(self.desk.epoch()) + 1;
        let now = self.desk.world.clock().now();
        let Some(table) = &mut self.table else { return Ok(()) };
        match table.fence(epoch, "writer", now) {
            Ok(()) => {
                let sequence = table.table().sequence();
                self.desk.world.note(format_args!("epoch {epoch} has begun at record {sequence}"));
                lock(&self.desk.told).fences.push((epoch, sequence));
                self.epoch = epoch;
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// An error is as it should be when there was a reason for it.
    fn excuse(&self, error: &Error) -> Result<(), Violation> {
        match error {
            Error::Store(_) => {
                let failed = self.machine.down().is_some() || self.view.failures() > 0;
                promise!(failed, "nothing has failed, but: {error}");
            }
            Error::Table(TableError::Conflict(_) | TableError::Busy { .. } | TableError::NoVersion { .. }) => {}
            Error::Table(TableError::Pruned { .. } | TableError::VersionTooEarly { .. }) => {
                promise!(lock(&self.desk.model).pruned, "nobody has pruned, but: {error}");
            }
            error => return Err(format!("unexpected: {error}")),
        }
        self.desk.world.note(format_args!("writer {}: {error}", self.node));
        Ok(())
    }

    /// Starts again if need be, and reads everything, with nothing failing.
    fn settle(&mut self) -> Result<(), Violation> {
        self.view.set_faults(StoreFaults::default());
        self.view.set_interruption(None);
        if self.machine.down().is_some() {
            self.machine.restart();
            self.table = None;
        }
        if self.table.is_none() {
            self.open()?;
        }
        self.with(|table, _| table.refresh().map(drop))
    }
}

fn replica(node: u64, incarnation: u64) -> Replica {
    Replica::new(node, incarnation).unwrap_or_default()
}
