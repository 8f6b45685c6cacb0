//! What arrives and when: rows of several partitions, cut into steps and blocks, some of it too late.
//!
//! The script also knows what lateness means, by the definition: row by row down each partition, apart from steps, blocks
//! and lanes. The reference reads it from the columns `mark` and `gone`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemill_base::rand::Rng;

use super::table::{Table, wall};
use super::value::Object;

/// A row that comes (weight 1) or goes (-1).
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The table's place among the query's tables.
    pub(crate) table: usize,
    pub(crate) partition: u32,
    pub(crate) weight: i64,
    pub(crate) time: i64,
    pub(crate) values: Object,
    /// Whether a new block starts with it.
    pub(crate) cut: bool,
}

/// What becomes of a partition in a step: (table, partition).
pub(crate) type Place = (usize, u32);

/// One step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub(crate) events: Vec<Event>,
    pub(crate) now: i64,
    pub(crate) opened: Vec<Place>,
    pub(crate) ended: Vec<Place>,
    pub(crate) idle: Vec<Place>,
}

/// How a script is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Whether rows may come below the watermark, and partitions fall silent or come later.
    pub(crate) late: bool,
    /// Whether there are thousands of rows.
    pub(crate) large: bool,
    /// Whether all rows of the second table come before those of the first.
    pub(crate) second_first: bool,
}

/// All steps of a case.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) lanes: usize,
}

/// Which rows a reference is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The rows that are there: what was taken back is not.
    There,
    /// The same, with `mark` and `gone` where some windows do not know of a row or of its going.
    Marked,
    /// A row for each that came and each that went, with its `mark`.
    Every,
}

const START: i64 = 1_700_000_000_000;

impl Script {
    pub(crate) fn draw(rng: &mut Rng, tables: &[Table], manner: Manner) -> Script {
        let mut events = events(rng, tables, manner);
        if manner.second_first {
            events.sort_by_key(|event| std::cmp::Reverse(event.table));
        }
        let every = if manner.large { 300 } else { 6 };
        let mut now = START;
        let mut steps = vec![Step { now, ..Step::default() }];
        for event in events {
            while rng.chance(1, every) {
                now += rng.below(3_000) as i64;
                steps.push(Step { now, ..Step::default() });
            }
            if let Some(step) = steps.last_mut() {
                step.events.push(event);
            }
        }
        let mut script = Script { steps, lanes: 1 + rng.below(4) as usize };
        script.place_partitions(rng, tables, manner);
        script
    }

    /// Says when partitions open, end and fall silent.
    fn place_partitions(&mut self, rng: &mut Rng, tables: &[Table], manner: Manner) {
        let last = self.steps.len() - 1;
        for table in 0..tables.len() {
            for partition in 0..PARTITIONS {
                let place = (table, partition);
                let uses = |step: &Step| step.events.iter().any(|event| (event.table, event.partition) == place);
                let Some(first_use) = self.steps.iter().position(uses) else { continue };
                let last_use = self.steps.iter().rposition(uses).unwrap_or(first_use);
                let opened = if manner.late && rng.chance(1, 4) { rng.below(first_use as u64 + 1) as usize } else { 0 };
                let ended = last_use + rng.below((last - last_use) as u64 + 1) as usize;
                let ended = if rng.chance(1, 3) { ended } else { last };
                self.steps[opened].opened.push(place);
                self.steps[ended].ended.push(place);
                if manner.late && rng.chance(1, 4) {
                    let idle = opened + rng.below((ended - opened) as u64 + 1) as usize;
                    self.steps[idle].idle.push(place);
                }
            }
        }
    }

    /// Without events that take back what is not there.
    pub(crate) fn sound(mut self) -> Script {
        let mut there: Vec<Event> = Vec::new();
        for step in &mut self.steps {
            step.events.retain(|event| match found(&there, event) {
                _ if event.weight > 0 => {
                    there.push(event.clone());
                    true
                }
                Some(at) => {
                    there.swap_remove(at);
                    true
                }
                None => false,
            });
        }
        self
    }

    /// The number of events.
    pub(crate) fn len(&self) -> usize {
        self.steps.iter().map(|step| step.events.len()).sum()
    }

    /// What the events and watermarks come to; `lateness` milliseconds are taken off what late rows came below.
    pub(crate) fn history(&self, tables: &[Table], lateness: i64) -> History {
        let mut clocks: Vec<Clock> = tables.iter().map(|table| Clock::new(table.delay)).collect();
        let mut history = History { entries: Vec::new(), watermarks: Vec::new(), lateness };
        let mut ordinals: BTreeMap<Place, u64> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            step.opened.iter().for_each(|(table, partition)| clocks[*table].open(*partition));
            for event in &step.events {
                let mark = clocks[event.table].pass(event.partition, event.time);
                let ordinal = ordinals.entry((event.table, event.partition)).or_default();
                *ordinal += 1;
                let entry = Entry { event: event.clone(), step: index, now: step.now, ordinal: *ordinal, mark };
                history.entries.push(entry);
            }
            step.idle.iter().for_each(|(table, partition)| clocks[*table].idle(*partition));
            step.ended.iter().for_each(|(table, partition)| clocks[*table].end(*partition));
            history.watermarks.push(clocks.iter_mut().map(Clock::watermark).collect());
        }
        history.entries.sort_by_key(|entry| (entry.event.partition, entry.ordinal));
        history
    }
}

const PARTITIONS: u32 = 3;

fn events(rng: &mut Rng, tables: &[Table], manner: Manner) -> Vec<Event> {
    let count = if manner.large { 1_500 + rng.below(2_500) } else { rng.below(60) };
    let partitions = u64::from(PARTITIONS);
    let partitions: Vec<u64> = tables.iter().map(|_| 1 + rng.below(partitions)).collect();
    let mut events: Vec<Event> = Vec::new();
    let mut there: Vec<Event> = Vec::new();
    let mut clock = START;
    for _ in 0..count {
        clock += rng.below(if manner.large { 40 } else { 1_500 }) as i64;
        let table = rng.below(tables.len() as u64) as usize;
        let Table { delay, updating, .. } = tables[table];
        let cut = rng.chance(1, 4);
        if updating && rng.chance(1, 4) {
            let can_go = |event: &Event| event.table == table && (manner.late || event.time >= clock - delay);
            let near: Vec<usize> = (0..there.len()).filter(|index| can_go(&there[*index])).collect();
            if !near.is_empty() {
                let taken = there.swap_remove(near[rng.below(near.len() as u64) as usize]);
                events.push(Event { weight: -1, cut, ..taken });
                continue;
            }
        }
        let behind = if manner.late { delay * 3 } else { delay + 1 };
        let time = clock - rng.below(behind as u64) as i64;
        let partition = rng.below(partitions[table]) as u32;
        let event = Event { table, partition, weight: 1, time, values: tables[table].row(rng, time), cut };
        there.push(event.clone());
        events.push(event);
    }
    events
}

fn found(there: &[Event], event: &Event) -> Option<usize> {
    let same = |other: &Event| {
        (other.table, other.partition) == (event.table, event.partition) && other.values == event.values
    };
    there.iter().position(same)
}

/// What events come to.
pub(crate) struct History {
    /// The events by partition, in its order.
    entries: Vec<Entry>,
    /// After each step, the watermark of each table.
    pub(crate) watermarks: Vec<Vec<i64>>,
    lateness: i64,
}

struct Entry {
    event: Event,
    step: usize,
    now: i64,
    ordinal: u64,
    /// The watermark that it came below.
    mark: Option<i64>,
}

impl Entry {
    /// The row with the hidden columns.
    fn object(&self, lateness: i64) -> Object {
        let mut object = self.event.values.clone();
        object.insert("at_now".to_string(), json!(format!("{}Z", wall(self.now))));
        object.insert("ordinal".to_string(), json!((u64::from(self.event.partition) << 40) | self.ordinal));
        if let Some(mark) = self.mark {
            object.insert("mark".to_string(), json!(wall(mark - lateness)));
        }
        object
    }
}

impl History {
    /// The rows of a table after a step.
    pub(crate) fn rows(&self, table: usize, step: usize, which: Which) -> Vec<Object> {
        let entries = self.entries.iter().filter(|entry| entry.event.table == table && entry.step <= step);
        let mut rows: Vec<(&Entry, Object)> = Vec::new();
        for entry in entries {
            if entry.event.weight > 0 || which == Which::Every {
                rows.push((entry, entry.object(self.lateness)));
                continue;
            }
            let same = |(other, object): &(&Entry, Object)| {
                !object.contains_key("gone")
                    && other.event.partition == entry.event.partition
                    && other.event.values == entry.event.values
            };
            let at = rows.iter().position(same).expect("what goes was there");
            match entry.mark.filter(|_| which == Which::Marked) {
                None => drop(rows.remove(at)),
                Some(mark) => {
                    rows[at].1.insert("gone".to_string(), json!(wall(mark - self.lateness)));
                }
            }
        }
        let mut rows: Vec<Object> = rows.into_iter().map(|(_, object)| object).collect();
        if which == Which::There {
            rows.iter_mut().for_each(|row| drop(row.insert("mark".to_string(), Value::Null)));
        }
        rows
    }
}

/// The watermark of a table: the least over its partitions.
struct Clock {
    delay: i64,
    partitions: BTreeMap<u32, (i64, bool)>,
    watermark: i64,
}

impl Clock {
    fn new(delay: i64) -> Self {
        Clock { delay, partitions: BTreeMap::new(), watermark: i64::MIN }
    }

    fn open(&mut self, partition: u32) {
        self.partitions.insert(partition, (self.watermark, false));
    }

    /// A row goes by; the partition's watermark before it when that is above the row.
    fn pass(&mut self, partition: u32, time: i64) -> Option<i64> {
        let (bound, idle) = self.partitions.get_mut(&partition).expect("a partition opens before its rows");
        if std::mem::replace(idle, false) {
            *bound = (*bound).max(self.watermark);
        }
        let mark = (time < *bound).then_some(*bound);
        *bound = (*bound).max(time - self.delay);
        mark
    }

    fn idle(&mut self, partition: u32) {
        if let Some((_, idle)) = self.partitions.get_mut(&partition) {
            *idle = true;
        }
    }

    fn end(&mut self, partition: u32) {
        self.partitions.remove(&partition);
    }

    fn watermark(&mut self) -> i64 {
        let least = self.partitions.values().filter(|(_, idle)| !idle).map(|(bound, _)| *bound).min();
        self.watermark = self.watermark.max(least.unwrap_or(i64::MIN));
        self.watermark
    }
}
