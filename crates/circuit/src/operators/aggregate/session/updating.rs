//! [`Updating`]: sessions over rows that can be taken back, or that are said before they close.
//!
//! Each key keeps its times in order, a state each; a session is a run of times without a gap, and its row is their
//! states merged. Whatever a step touches is said anew: old sessions that are not there any more are retracted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, UInt32Array, UInt64Array};
use arrow_schema::{ArrowError, DataType};
use arrow_select::take::take;
use tidemill_base::Timestamp;

use super::{admit, intern, parts, passed, route};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::keep::keeper::{Keeper, Progress, Route};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, begin_block, end_block};
use crate::key::{KeyEncoder, KeyIndex};
use crate::operator::{Context, Flush, Operator, Output, StateSize};
use crate::operators::aggregate::Design;
use crate::operators::aggregate::accumulator::Rows;
use crate::operators::aggregate::changes::changes;
use crate::operators::aggregate::groups::Groups;
use crate::operators::aggregate::windows::Span;
use crate::operators::time::read_times;
use crate::plan::{Emit, TimeDomain};

/// Keys evaluated at once when a step is flushed.
const KEYS_MAX: usize = 1_024;

/// Times by key.
pub(super) struct Updating {
    design: Arc<Design>,
    time: usize,
    gap: i64,
    encoder: KeyEncoder,
    keys: KeyIndex,
    /// For each key its times and the slots of their states.
    times: Vec<BTreeMap<i64, u32>>,
    /// States by (key's slot, time).
    states: Groups,
    /// When to look at a key again.
    due: BinaryHeap<Reverse<(i64, u32)>>,
    /// Keys touched in this step, and the sessions that they had said before.
    touched: BTreeSet<u32>,
    before: Vec<Said>,
    /// Keys that are still to be said in this step.
    pending: Option<Vec<u32>>,
    ready: VecDeque<Delta>,
    marks: Marks,
    progress: Progress,
}

/// Sessions and their rows.
struct Said {
    /// For each row its key and its window.
    sessions: Vec<(u32, Span)>,
    columns: Vec<ArrayRef>,
}

impl Updating {
    /// No sessions yet; or what is not supported.
    pub fn new(design: Arc<Design>) -> Result<Self, Error> {
        let (time, gap) = design.session().unwrap_or((0, 0));
        let encoder = KeyEncoder::new(design.key_types.clone());
        let encoder = encoder.ok_or_else(|| design.unsupported.error("grouping by lists, maps or rows"))?;
        let states = design.groups(vec![DataType::UInt32, DataType::Int64])?;
        Ok(Updating {
            time,
            gap,
            encoder,
            keys: KeyIndex::default(),
            times: Vec::new(),
            states,
            due: BinaryHeap::new(),
            touched: BTreeSet::new(),
            before: Vec::new(),
            pending: None,
            ready: VecDeque::new(),
            marks: Marks::default(),
            progress: Progress { closed: i64::MIN, started: false },
            design,
        })
    }

    /// The sessions of a key: window and the slots of its times.
    fn sessions(&self, key: u32) -> Vec<(Span, Vec<u32>)> {
        let mut sessions: Vec<(Span, Vec<u32>)> = Vec::new();
        let times = &self.times[key as usize];
        for (time, slot) in times.iter().filter(|(_, slot)| self.states.weight(**slot) > 0) {
            let end = time.saturating_add(self.gap);
            match sessions.last_mut() {
                Some((span, slots)) if *time <= span.0 => {
                    span.0 = end;
                    slots.push(*slot);
                }
                _ => sessions.push(((end, *time), vec![*slot])),
            }
        }
        sessions
    }

    /// The rows of the sessions of `keys` that are to be seen when the watermark is at `clock`.
    fn say(&self, keys: &[u32], clock: i64) -> Result<Said, ArrowError> {
        let (mut said, mut from, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            for (span, slots) in self.sessions(*key) {
                if self.design.emit == Emit::Changes || passed(span.0, clock) {
                    numbers.resize(numbers.len() + slots.len(), said.len() as u64);
                    from.extend(slots);
                    said.push((*key, span));
                }
            }
        }
        let merged = self.design.groups(vec![DataType::UInt64]);
        let mut merged = merged.map_err(|error| ArrowError::ComputeError(error.to_string()))?;
        let rows = numbers.len();
        let to = merged.intern(&[Arc::new(UInt64Array::from(numbers)) as ArrayRef], rows);
        merged.merge(&self.states, &from, &to)?;
        let slots: Vec<u32> = (0..said.len() as u32).collect();
        Ok(Said { sessions: said, columns: merged.evaluate(&slots)? })
    }

    fn take(&mut self, delta: &Delta, times: &[i64]) -> Result<(), ArrowError> {
        let keys = self.encoder.encode_batch(delta.batch(), &self.design.keys);
        let mut slots = Vec::new();
        self.keys.intern(&keys, &keys.hashes(), &mut slots);
        self.times.resize_with(self.keys.slots().max(self.times.len()), BTreeMap::new);
        let fresh: Vec<u32> = slots.iter().copied().filter(|key| self.touched.insert(*key)).collect();
        let before = self.say(&fresh, self.progress.closed)?;
        self.before.push(before);
        let columns: [ArrayRef; 2] =
            [Arc::new(UInt32Array::from(slots.clone())), Arc::new(Int64Array::from(times.to_vec()))];
        let states = self.states.intern(&columns, delta.rows());
        self.note_births();
        self.touch(&states)?;
        for ((key, time), state) in slots.iter().zip(times).zip(&states) {
            if self.times[*key as usize].insert(*time, *state).is_none() {
                self.due.push(Reverse((time.saturating_add(self.gap), *key)));
            }
        }
        self.states.update(&states, &Rows { columns: delta.batch().columns(), weights: delta.weights() })
    }

    fn note_births(&mut self) {
        self.marks.births(self.states.slots(), self.states.take_born());
    }

    /// Notes that states are about to change.
    fn touch(&mut self, slots: &[u32]) -> Result<(), ArrowError> {
        if let Some(mut wanted) = self.marks.touch(slots) {
            while let Some((slot, image)) = wanted.next() {
                self.write(0, slot, image)?;
            }
            self.marks.keep(wanted);
        }
        Ok(())
    }

    /// The keys that have something to say in this step: those touched, and those with a time that is passed.
    fn pending(&mut self, clock: i64) -> Vec<u32> {
        let mut keys = self.touched.clone();
        while let Some(Reverse((end, key))) = self.due.peek().copied() {
            let kept = end.saturating_add(self.design.lateness);
            if !passed(end, clock) && !passed(kept, clock) {
                break;
            }
            self.due.pop();
            if !self.times.get(key as usize).is_none_or(BTreeMap::is_empty) {
                keys.insert(key);
            }
        }
        keys.into_iter().collect()
    }

    /// Says what has changed for `keys`.
    fn changes(&mut self, keys: &[u32], clock: i64) -> Result<(), ArrowError> {
        let untouched: Vec<u32> = keys.iter().copied().filter(|key| !self.touched.contains(key)).collect();
        let late = self.say(&untouched, self.progress.closed)?;
        let wanted: BTreeSet<u32> = keys.iter().copied().collect();
        let new = self.say(keys, clock)?;
        let mut places: BTreeMap<(u32, Span), (Option<u32>, Option<u32>)> = BTreeMap::new();
        let mut old_columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); new.columns.len()];
        let mut count = 0;
        for said in self.before.iter().chain([&late]) {
            let rows: Vec<u32> = (0..said.sessions.len() as u32)
                .filter(|row| wanted.contains(&said.sessions[*row as usize].0))
                .collect();
            for row in &rows {
                places.entry(said.sessions[*row as usize]).or_default().0 = Some(count);
                count += 1;
            }
            let indices = UInt32Array::from(rows);
            for (list, column) in old_columns.iter_mut().zip(&said.columns) {
                list.push(take(column, &indices, None)?);
            }
        }
        for (row, session) in new.sessions.iter().enumerate() {
            places.entry(*session).or_default().1 = Some(row as u32);
        }
        let old = old_columns.iter().map(|list| {
            let list: Vec<&dyn Array> = list.iter().map(AsRef::as_ref).collect();
            arrow_select::concat::concat(&list)
        });
        let old = old.collect::<Result<Vec<_>, _>>()?;
        let (was, is): (Vec<_>, Vec<_>) = places.values().copied().unzip();
        let sessions: Vec<(u32, Span)> = places.into_keys().collect();
        let changes = changes(&old, &was, &new.columns, &is)?;
        let rows = changes.groups.iter().map(|group| sessions[*group as usize]);
        let (row_keys, spans): (Vec<u32>, Vec<Span>) = rows.unzip();
        let columns = self.encoder.decode(&self.keys.keys(&row_keys));
        let delta = self.design.rows(columns, Some(&spans), changes.columns, Some(changes.weights), row_keys.len())?;
        for offset in (0..delta.rows()).step_by(DELTA_ROWS_MAX) {
            self.ready.push_back(delta.slice(offset, DELTA_ROWS_MAX.min(delta.rows() - offset)));
        }
        keys.iter().try_for_each(|key| self.forget(*key, clock))
    }

    /// Forgets what can change no more: sessions passed by more than the lateness, and times without rows.
    fn forget(&mut self, key: u32, clock: i64) -> Result<(), ArrowError> {
        let mut gone: Vec<i64> = Vec::new();
        let times = &self.times[key as usize];
        gone.extend(times.iter().filter(|(_, slot)| self.states.weight(**slot) == 0).map(|(time, _)| *time));
        let mut again = None;
        for (span, slots) in self.sessions(key) {
            let kept = span.0.saturating_add(self.design.lateness);
            if passed(kept, clock) {
                gone.extend(
                    times.range(span.1..=span.0).filter(|(_, slot)| slots.contains(slot)).map(|(time, _)| *time),
                );
            } else {
                // Looked at again when it is passed, and when its lateness is.
                again = again.into_iter().chain([if passed(span.0, clock) { kept } else { span.0 }]).min();
            }
        }
        for time in gone {
            if let Some(slot) = self.times[key as usize].remove(&time) {
                self.touch(&[slot])?;
                self.states.retire(slot);
            }
        }
        match again {
            Some(at) => self.due.push(Reverse((at, key))),
            None if self.times[key as usize].is_empty() => self.keys.remove(key),
            None => {}
        }
        Ok(())
    }

    fn step(&mut self, clock: i64, out: &mut Output) -> Result<Flush, ArrowError> {
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => self.pending(clock),
        };
        while self.ready.is_empty() && !pending.is_empty() {
            let keys = pending.split_off(pending.len().saturating_sub(KEYS_MAX));
            self.changes(&keys, clock)?;
        }
        if let Some(delta) = self.ready.pop_front() {
            out.emit(delta);
            self.pending = Some(pending);
            return Ok(Flush::More);
        }
        self.touched.clear();
        self.before.clear();
        self.progress = Progress { closed: self.progress.closed.max(clock), started: true };
        Ok(Flush::Done)
    }
}

impl Operator for Updating {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (delta, times) = read_times(&self.design.guard, delta, self.time, context, out)?;
        let (delta, times) = admit(&self.design, delta, times, self.progress.closed, context, out)?;
        self.take(&delta, &times).map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        self.step(self.design.clock(context), out).map_err(|error| self.design.guard.broken(error))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = self.due.peek().map(|Reverse((end, _))| Timestamp(end.saturating_add(1)));
        due.filter(|_| self.design.domain == TimeDomain::Processing)
    }

    fn state_size(&self) -> StateSize {
        let mut size = self.states.size();
        let times: usize = self.times.iter().map(|times| times.len() * 20).sum();
        let heads = self.times.capacity() * size_of::<BTreeMap<i64, u32>>();
        size.entries += self.keys.len() as u64;
        size.bytes += self.keys.bytes() + (times + heads + self.due.capacity() * 16) as u64 + self.marks.bytes();
        size
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(self)
    }
}

/// One table: the state of a time of a key.
impl Keeper for Updating {
    fn tables(&self) -> Vec<u16> {
        vec![0]
    }

    fn slots(&self, _table: u16) -> usize {
        self.states.slots()
    }

    fn marks(&mut self, _table: u16) -> Option<&mut Marks> {
        Some(&mut self.marks)
    }

    fn write(&self, _table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        if !self.states.contains(slot) {
            return Ok(false);
        }
        // A state's own key is one byte of null bits, the slot of the key and the time.
        let mut own = Vec::new();
        self.states.write_key(slot, &mut own);
        let broken = || ArrowError::ComputeError("the state of a session has no key and time".to_string());
        let key = own.get(1..5).and_then(|bytes| bytes.first_chunk::<4>()).ok_or_else(broken)?;
        let time = own.get(5..13).ok_or_else(broken)?;
        let start = begin_block(out);
        self.encoder.pack(&self.keys, u32::from_le_bytes(*key), out);
        out.extend_from_slice(time);
        end_block(out, start);
        self.states.write_state(slot, out)?;
        Ok(true)
    }

    fn route(&self, _table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        route(&self.encoder, rows, 8)
    }

    fn restore(&mut self, _table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        let (keys, times, states) = parts(rows, 8)?;
        let keys = intern(&self.encoder, &mut self.keys, &keys)?;
        self.times.resize_with(self.keys.slots().max(self.times.len()), BTreeMap::new);
        let times = times.into_iter().map(|mut times| times.i64()).collect::<Result<Vec<_>, _>>()?;
        let columns: [ArrayRef; 2] =
            [Arc::new(UInt32Array::from(keys.clone())), Arc::new(Int64Array::from(times.clone()))];
        let slots = self.states.intern(&columns, rows.len());
        self.note_births();
        self.touch(&slots)?;
        for (((key, time), slot), mut state) in keys.into_iter().zip(times).zip(slots).zip(states) {
            if self.times[key as usize].insert(time, slot).is_none() {
                self.due.push(Reverse((time.saturating_add(self.gap), key)));
            }
            self.states.read_state(slot, &mut state)?;
            state.end()?;
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn resume(&mut self, progress: Progress) {
        self.progress = progress;
    }

    fn keep(&mut self, chunk_slots: usize) {
        self.marks = Marks::new(chunk_slots);
        self.states.keep(chunk_slots);
    }
}
