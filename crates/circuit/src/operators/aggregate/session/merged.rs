//! [`Merged`]: sessions over rows that are never taken back, one merged state each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt64Array};
use arrow_schema::{ArrowError, DataType};
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
use crate::operators::aggregate::groups::Groups;
use crate::operators::aggregate::windows::Span;
use crate::operators::time::read_times;
use crate::plan::TimeDomain;

/// A session of a key.
#[derive(Debug, Clone, Copy)]
struct Session {
    first: i64,
    last: i64,
    /// Names its state.
    id: u64,
    /// The slot of its state; [`NO_SLOT`] until the chunk that opened it is taken.
    slot: u32,
}

const NO_SLOT: u32 = u32::MAX;

/// Sessions that have closed: the key, the window and the state of each.
#[derive(Default)]
struct Closed {
    keys: Vec<u32>,
    spans: Vec<Span>,
    slots: Vec<u32>,
}

/// Sessions by key.
pub(super) struct Merged {
    design: Arc<Design>,
    time: usize,
    gap: i64,
    encoder: KeyEncoder,
    keys: KeyIndex,
    /// The open sessions of each key, by first row.
    sessions: Vec<Vec<Session>>,
    /// The states, by the sessions' ids.
    states: Groups,
    next_id: u64,
    /// For each session when to look at it again: (end, key, id).
    due: BinaryHeap<Reverse<(i64, u32, u64)>>,
    /// The key of each state.
    owners: Vec<u32>,
    marks: Marks,
    progress: Progress,
}

impl Merged {
    /// No sessions yet; or what is not supported.
    pub fn new(design: Arc<Design>) -> Result<Self, Error> {
        let (time, gap) = design.session().unwrap_or((0, 0));
        let encoder = KeyEncoder::new(design.key_types.clone());
        let encoder = encoder.ok_or_else(|| design.unsupported.error("grouping by lists, maps or rows"))?;
        let states = design.groups(vec![DataType::UInt64])?;
        Ok(Merged {
            time,
            gap,
            encoder,
            keys: KeyIndex::default(),
            sessions: Vec::new(),
            states,
            next_id: 0,
            due: BinaryHeap::new(),
            owners: Vec::new(),
            marks: Marks::default(),
            progress: Progress { closed: i64::MIN, started: false },
            design,
        })
    }

    /// The session that takes a row; those that it joins to it are noted in `joined`.
    fn place(&mut self, key: u32, time: i64, joined: &mut BTreeMap<u64, u64>) -> Result<u64, ArrowError> {
        let gap = self.gap;
        let list = &self.sessions[key as usize];
        let touches =
            |session: &Session| time <= session.last.saturating_add(gap) && session.first <= time.saturating_add(gap);
        // Sessions do not overlap, so those that the row touches lie side by side.
        let from = list.partition_point(|session| session.last.saturating_add(gap) < time);
        let count = list[from..].iter().take_while(|session| touches(session)).count();
        // The image of a session tells its rows' times; what else is noted can wait for the whole chunk.
        if self.marks.is_saving() {
            let slots: Vec<u32> = list[from..from + count].iter().map(|session| session.slot).collect();
            self.touch(&slots)?;
        }
        let list = &mut self.sessions[key as usize];
        if count == 0 {
            let id = self.next_id;
            self.next_id += 1;
            list.insert(from, Session { first: time, last: time, id, slot: NO_SLOT });
            self.due.push(Reverse((time.saturating_add(gap), key, id)));
            return Ok(id);
        }
        let last = list[from + count - 1].last.max(time);
        let id = list[from].id;
        for other in list.drain(from + 1..from + count) {
            joined.insert(other.id, id);
        }
        let session = &mut list[from];
        (session.first, session.last) = (session.first.min(time), last);
        Ok(id)
    }

    /// Notes that sessions are about to change; those that are just being opened are left out.
    fn touch(&mut self, slots: &[u32]) -> Result<(), ArrowError> {
        let slots: Vec<u32> = slots.iter().copied().filter(|slot| *slot != NO_SLOT).collect();
        if let Some(mut wanted) = self.marks.touch(&slots) {
            while let Some((slot, image)) = wanted.next() {
                self.write(0, slot, image)?;
            }
            self.marks.keep(wanted);
        }
        Ok(())
    }

    fn take(&mut self, delta: &Delta, times: &[i64]) -> Result<(), ArrowError> {
        let keys = self.encoder.encode_batch(delta.batch(), &self.design.keys);
        let mut slots = Vec::new();
        self.keys.intern(&keys, &keys.hashes(), &mut slots);
        self.sessions.resize_with(self.keys.slots().max(self.sessions.len()), Vec::new);
        let new_from = self.next_id;
        let mut joined = BTreeMap::new();
        let ids = slots.iter().zip(times).map(|(key, time)| self.place(*key, *time, &mut joined));
        let mut ids: Vec<u64> = ids.collect::<Result<_, _>>()?;
        if !joined.is_empty() {
            ids.iter_mut().for_each(|id| *id = root(&joined, *id));
            self.join(&joined, new_from)?;
        }
        let states = self.slots(&ids);
        self.settle(&slots, &ids, &states, new_from);
        self.touch(&states)?;
        self.states.update(&states, &Rows { columns: delta.batch().columns(), weights: delta.weights() })
    }

    /// Tells sessions that the chunk has opened the slots of their states.
    fn settle(&mut self, keys: &[u32], ids: &[u64], states: &[u32], new_from: u64) {
        for ((key, id), slot) in keys.iter().zip(ids).zip(states).filter(|((_, id), _)| **id >= new_from) {
            self.owners[*slot as usize] = *key;
            let list = &mut self.sessions[*key as usize];
            if let Some(session) = list.iter_mut().find(|session| session.id == *id) {
                session.slot = *slot;
            }
        }
    }

    /// Merges the states of sessions that were there before this chunk and have been joined.
    fn join(&mut self, joined: &BTreeMap<u64, u64>, new_from: u64) -> Result<(), ArrowError> {
        let old: Vec<(u64, u64)> =
            joined.keys().filter(|id| **id < new_from).map(|id| (*id, root(joined, *id))).collect();
        if old.is_empty() {
            return Ok(());
        }
        let from = self.slots(&old.iter().map(|(from, _)| *from).collect::<Vec<_>>());
        let to = self.slots(&old.iter().map(|(_, to)| *to).collect::<Vec<_>>());
        // A state cannot be merged within its own groups: it goes by other ones.
        let mut moved =
            self.design.groups(vec![DataType::UInt64]).map_err(|error| ArrowError::ComputeError(error.to_string()))?;
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(old.iter().map(|(from, _)| *from)));
        let between = moved.intern(&[numbers], old.len());
        self.touch(&from)?;
        moved.merge(&self.states, &from, &between)?;
        self.states.merge(&moved, &between, &to)?;
        from.into_iter().for_each(|slot| self.states.retire(slot));
        Ok(())
    }

    /// The slots of sessions' states.
    fn slots(&mut self, ids: &[u64]) -> Vec<u32> {
        let slots = self.states.intern(&[Arc::new(UInt64Array::from(ids.to_vec())) as ArrayRef], ids.len());
        self.owners.resize(self.states.slots().max(self.owners.len()), 0);
        self.marks.births(self.states.slots(), self.states.take_born());
        slots
    }

    /// Takes out the sessions whose end a watermark has passed, at most a chunk of them; their states stay.
    fn close(&mut self, clock: i64) -> Result<Closed, ArrowError> {
        let mut closed = Closed::default();
        let Closed { keys, spans, slots } = &mut closed;
        while let Some(Reverse((end, key, id))) = self.due.peek().copied().filter(|_| slots.len() < DELTA_ROWS_MAX) {
            if !passed(end, clock) {
                break;
            }
            self.due.pop();
            let list = &self.sessions[key as usize];
            let Some(at) = list.iter().position(|session| session.id == id) else { continue };
            let session = list[at];
            let end = session.last.saturating_add(self.gap);
            if passed(end, clock) {
                self.touch(&[session.slot])?;
                self.sessions[key as usize].remove(at);
                keys.push(key);
                spans.push((end, session.first));
                slots.push(session.slot);
            } else {
                self.due.push(Reverse((end, key, id)));
            }
        }
        Ok(closed)
    }

    fn step(&mut self, clock: i64, out: &mut Output) -> Result<Flush, ArrowError> {
        let Closed { keys, spans, slots } = self.close(clock)?;
        if slots.is_empty() {
            self.progress = Progress { closed: self.progress.closed.max(clock), started: true };
            return Ok(Flush::Done);
        }
        let columns = self.encoder.decode(&self.keys.keys(&keys));
        let calls = self.states.evaluate(&slots)?;
        out.emit(self.design.rows(columns, Some(&spans), calls, None, slots.len())?);
        slots.into_iter().for_each(|slot| self.states.retire(slot));
        keys.into_iter().for_each(|key| self.forget_if_empty(key));
        Ok(Flush::More)
    }

    fn forget_if_empty(&mut self, key: u32) {
        if self.sessions[key as usize].is_empty() {
            self.keys.remove(key);
        }
    }
}

/// The session that `id` has been joined to in the end.
fn root(joined: &BTreeMap<u64, u64>, id: u64) -> u64 {
    let mut id = id;
    while let Some(next) = joined.get(&id) {
        id = *next;
    }
    id
}

impl Operator for Merged {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (delta, times) = read_times(&self.design.guard, delta, self.time, context, out)?;
        let (delta, times) = admit(&self.design, delta, times, self.progress.closed, context, out)?;
        self.take(&delta, &times).map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        self.step(self.design.clock(context), out).map_err(|error| self.design.guard.broken(error))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = self.due.peek().map(|Reverse((end, _, _))| Timestamp(end.saturating_add(1)));
        due.filter(|_| self.design.domain == TimeDomain::Processing)
    }

    fn state_size(&self) -> StateSize {
        let mut size = self.states.size();
        let lists: usize = self.sessions.iter().map(|list| list.capacity() * size_of::<Session>()).sum();
        let heads = self.sessions.capacity() * size_of::<Vec<Session>>();
        size.entries += self.keys.len() as u64;
        size.bytes +=
            self.keys.bytes() + (lists + heads + self.due.capacity() * 24 + self.owners.capacity() * 4) as u64;
        size.bytes += self.marks.bytes();
        size
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(self)
    }
}

/// One table: a session is named by its key, its first and its last row.
impl Keeper for Merged {
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
        let key = self.owners[slot as usize];
        let Some(session) = self.sessions[key as usize].iter().find(|session| session.slot == slot) else {
            return Ok(false);
        };
        let start = begin_block(out);
        self.encoder.pack(&self.keys, key, out);
        out.extend_from_slice(&session.first.to_le_bytes());
        out.extend_from_slice(&session.last.to_le_bytes());
        end_block(out, start);
        self.states.write_state(slot, out)?;
        Ok(true)
    }

    fn route(&self, _table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        route(&self.encoder, rows, 16)
    }

    fn restore(&mut self, _table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        let (keys, times, states) = parts(rows, 16)?;
        let keys = intern(&self.encoder, &mut self.keys, &keys)?;
        self.sessions.resize_with(self.keys.slots().max(self.sessions.len()), Vec::new);
        let ids: Vec<u64> = (self.next_id..).take(rows.len()).collect();
        self.next_id += rows.len() as u64;
        let slots = self.slots(&ids);
        self.touch(&slots)?;
        for ((((key, id), slot), mut times), mut state) in keys.into_iter().zip(ids).zip(slots).zip(times).zip(states) {
            let (first, last) = (times.i64()?, times.i64()?);
            self.owners[slot as usize] = key;
            let list = &mut self.sessions[key as usize];
            let at = list.partition_point(|session| session.first < first);
            list.insert(at, Session { first, last, id, slot });
            self.due.push(Reverse((last.saturating_add(self.gap), key, id)));
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
