//! [`Values`]: the different values of a DISTINCT argument, and in which frames they are.
//!
//! An entry is a value of a key, and has a slot with the state of that value alone. It is in the newest frame as long as one
//! of its times is: then its state is in the running total of the key. The times at which values were seen stand in a list
//! for each key ([`Seen`]), one for each value and time however often it came. A row out of order counts the values of its
//! range one by one.
//!
//! Where a frame has no beginning, times say nothing: entries stay, and are saved as a table of their own; otherwise they
//! are saved with the elements at whose times they were seen.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, DataType};
use arrow_select::take::take;

use super::bank::{Bank, EMPTY, NONE};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, begin_block, end_block, put_block};
use crate::key::{KeyEncoder, KeyIndex, Keys};
use crate::operators::aggregate::accumulator::{How, Rows};
use crate::operators::aggregate::parts::Setting;
use crate::plan::{AggregateCall, AggregateFunction};

/// The values of calls that have the same argument and the same filter.
pub(super) struct Values {
    args: Vec<usize>,
    filter: Option<usize>,
    /// Writes (key's slot, arguments).
    encoder: KeyEncoder,
    index: KeyIndex,
    entries: Vec<Entry>,
    bank: Bank,
    /// Entries that may have no time left.
    emptied: Vec<u32>,
    /// Numbers the rows that were out of order.
    round: u64,
    /// Changes of entries, where they are a table.
    pub marks: Marks,
}

/// A value of a key.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The slot of its state.
    leaf: u32,
    /// How many times it has; where frames have no beginning, 1 once it was seen.
    held: u32,
    /// How many of them are in the newest frame.
    live: u32,
    /// The last of them.
    last: i64,
    /// The last row out of order that counted it.
    round: u64,
}

impl Default for Entry {
    fn default() -> Self {
        Entry { leaf: NONE, held: 0, live: 0, last: i64::MIN, round: 0 }
    }
}

/// When values of a key were seen, in the order of time.
#[derive(Debug)]
pub(super) struct Seen {
    /// The running total.
    total: u32,
    times: VecDeque<(i64, u32)>,
    /// The first time of the newest frame.
    start: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { total: NONE, times: VecDeque::new(), start: 0 }
    }
}

impl Seen {
    /// Bytes held on the heap.
    pub fn bytes(&self) -> u64 {
        (self.times.capacity() * size_of::<(i64, u32)>()) as u64
    }

    fn at(&self, at: i64) -> impl Iterator<Item = u32> {
        let (from, to) = (self.index(at), self.times.partition_point(|(time, _)| *time <= at));
        self.times.range(from..to).map(|(_, entry)| *entry)
    }

    fn index(&self, at: i64) -> usize {
        self.times.partition_point(|(time, _)| *time < at)
    }
}

impl Values {
    /// Values for calls that have the same argument and filter; or what is not supported.
    pub fn new(calls: &[AggregateCall], setting: &Setting) -> Result<Self, String> {
        let (args, filter) = (calls[0].args.clone(), calls[0].filter);
        let types: Vec<DataType> = args.iter().map(|arg| setting.types[*arg].clone()).collect();
        let keyed = std::iter::once(DataType::UInt32).chain(types.iter().cloned()).collect();
        let encoder = KeyEncoder::new(keyed).ok_or("DISTINCT of lists, maps or rows")?;
        let within: Vec<AggregateCall> = calls.iter().map(within).collect();
        let bank = Bank::new(&within, &Setting { types, ..setting.clone() })?;
        if bank.has_plain() {
            return Err(format!("{:?} of DISTINCT values over frames", calls[0].function));
        }
        let mut index = KeyIndex::default();
        index.note_births();
        let (entries, emptied, marks) = (Vec::new(), Vec::new(), Marks::default());
        Ok(Values { args, filter, encoder, index, entries, bank, emptied, round: 0, marks })
    }

    /// The entry of each row, [`NONE`] for a row that does not count; `keys` has the slot of each row's key.
    pub fn entries(&mut self, keys: &[u32], columns: &[ArrayRef]) -> Result<Vec<u32>, ArrowError> {
        let mask = Rows { columns, weights: None }.mask(&self.args, self.filter);
        let args: Vec<ArrayRef> = self.args.iter().map(|arg| columns[*arg].clone()).collect();
        let Some(mask) = mask else { return self.intern(keys, &args) };
        let rows: Vec<u32> = mask.set_indices().map(|row| row as u32).collect();
        let mut entries = vec![NONE; keys.len()];
        if rows.is_empty() {
            return Ok(entries);
        }
        let keys: Vec<u32> = rows.iter().map(|row| keys[*row as usize]).collect();
        let indices = UInt32Array::from(rows);
        let args = args.iter().map(|arg| take(arg, &indices, None)).collect::<Result<Vec<_>, _>>()?;
        let found = self.intern(&keys, &args)?;
        indices.values().iter().zip(found).for_each(|(row, entry)| entries[*row as usize] = entry);
        Ok(entries)
    }

    /// The entries of values, one a row; new ones get the state of their value.
    fn intern(&mut self, keys: &[u32], args: &[ArrayRef]) -> Result<Vec<u32>, ArrowError> {
        let keyed: Vec<ArrayRef> = std::iter::once(Arc::new(UInt32Array::from(keys.to_vec())) as ArrayRef)
            .chain(args.iter().cloned())
            .collect();
        let keys = self.encoder.encode(&keyed, keys.len());
        let mut entries = Vec::new();
        self.index.intern(&keys, &keys.hashes(), &mut entries);
        let born = self.index.take_born();
        if born.is_empty() {
            return Ok(entries);
        }
        self.entries.resize(self.index.slots().max(self.entries.len()), Entry::default());
        self.marks.resize(self.index.slots());
        for entry in &born {
            self.entries[*entry as usize] = Entry { leaf: self.bank.claim(), ..Entry::default() };
            self.marks.born(*entry);
        }
        let (mut rows, mut leaves, mut fresh) = (Vec::new(), Vec::new(), born);
        fresh.sort_unstable();
        for (row, entry) in entries.iter().enumerate() {
            // A value that comes several times is taken once.
            if let Ok(place) = fresh.binary_search(entry) {
                fresh.remove(place);
                rows.push(row as u32);
                leaves.push(self.entries[*entry as usize].leaf);
            }
        }
        let rows = UInt32Array::from(rows);
        let args = args.iter().map(|arg| take(arg, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.bank.take(&leaves, &args)?;
        Ok(entries)
    }

    /// A value comes where frames have no beginning.
    pub fn keep(&mut self, seen: &mut Seen, entry: u32) {
        let known = &mut self.entries[entry as usize];
        if known.held == 0 {
            known.held = 1;
            let total = self.bank.claimed(&mut seen.total);
            self.bank.exact(How::Add, known.leaf, total);
        }
    }

    /// A value comes at `at`, in the newest frame or before it; false when it has come at that time already.
    pub fn insert(&mut self, seen: &mut Seen, at: i64, entry: u32, in_frame: bool) {
        let known = &mut self.entries[entry as usize];
        let index = if known.held == 0 || known.last < at {
            seen.times.partition_point(|(time, _)| *time <= at)
        } else if known.last == at || seen.at(at).any(|other| other == entry) {
            return;
        } else {
            seen.times.partition_point(|(time, _)| *time <= at)
        };
        known.last = if known.held == 0 { at } else { known.last.max(at) };
        known.held += 1;
        seen.times.insert(index, (at, entry));
        if !in_frame {
            seen.start += 1;
            return;
        }
        known.live += 1;
        if known.live == 1 {
            let total = self.bank.claimed(&mut seen.total);
            self.bank.exact(How::Add, known.leaf, total);
        }
    }

    /// The newest frame starts at `least` now.
    pub fn advance(&mut self, seen: &mut Seen, least: i64) {
        while let Some((_, entry)) = seen.times.get(seen.start).filter(|(at, _)| *at < least) {
            leave(&mut self.entries[*entry as usize], seen.total, &mut self.bank);
            seen.start += 1;
        }
    }

    /// Forgets what was seen before `least`.
    pub fn forget(&mut self, seen: &mut Seen, least: i64) {
        while let Some((_, entry)) = seen.times.front().copied().filter(|(at, _)| *at < least) {
            self.pop(seen, entry);
        }
    }

    /// Forgets all that was seen of a key.
    pub fn forget_all(&mut self, seen: &mut Seen) {
        while let Some((_, entry)) = seen.times.front().copied() {
            self.pop(seen, entry);
        }
        self.bank.release(std::mem::replace(&mut seen.total, NONE));
    }

    fn pop(&mut self, seen: &mut Seen, entry: u32) {
        seen.times.pop_front();
        let known = &mut self.entries[entry as usize];
        match seen.start {
            0 => leave(known, seen.total, &mut self.bank),
            _ => seen.start -= 1,
        }
        known.held -= 1;
        if known.held == 0 {
            self.emptied.push(entry);
        }
    }

    /// Answers row `row` from the newest frame.
    pub fn answer(&mut self, seen: &Seen, row: usize) {
        let (out, total) = (self.bank.out(row), if seen.total == NONE { EMPTY } else { seen.total });
        self.bank.exact(How::Set, total, out);
    }

    /// Answers row `row` from what was seen from `from` to `to`.
    pub fn answer_range(&mut self, seen: &Seen, row: usize, from: i64, to: i64) {
        self.round += 1;
        let out = self.bank.out(row);
        self.bank.exact(How::Set, EMPTY, out);
        for (at, entry) in seen.times.range(seen.index(from)..) {
            if *at > to {
                break;
            }
            let known = &mut self.entries[*entry as usize];
            if std::mem::replace(&mut known.round, self.round) != self.round {
                self.bank.exact(How::Add, known.leaf, out);
            }
        }
    }

    /// Runs what was written down.
    pub fn run(&mut self) -> Result<(), ArrowError> {
        self.bank.run()
    }

    /// The calls' columns for the first rows of the chunk.
    pub fn columns(&mut self, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        self.bank.columns(rows)
    }

    /// The chunk is done: values that are seen no more are forgotten.
    pub fn settle(&mut self) {
        for entry in std::mem::take(&mut self.emptied) {
            let known = &mut self.entries[entry as usize];
            if known.held == 0 && known.leaf != NONE {
                self.bank.release(known.leaf);
                *known = Entry::default();
                self.index.remove(entry);
            }
        }
        self.bank.settle();
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let entries = self.entries.capacity() * size_of::<Entry>();
        self.index.bytes() + entries as u64 + self.bank.bytes() + self.marks.bytes()
    }
}

/// A time of an entry leaves the newest frame.
fn leave(entry: &mut Entry, total: u32, bank: &mut Bank) {
    entry.live -= 1;
    if entry.live == 0 {
        bank.exact(How::Take, entry.leaf, total);
    }
}

/// Saving and restoring.
impl Values {
    /// The number of slots of entries.
    pub fn slots(&self) -> usize {
        self.index.slots()
    }

    /// Whether a slot has an entry.
    pub fn contains(&self, entry: u32) -> bool {
        self.index.contains(entry)
    }

    /// Gives new entries these slots as far as they are free; none gives slots as they come.
    pub fn prefer(&mut self, slots: Option<Range<u32>>) {
        self.index.prefer(slots);
    }

    /// The key of an entry.
    pub fn key(&self, entry: u32) -> u32 {
        self.encoder.leading_u32(&self.index, entry)
    }

    /// Appends the value of an entry.
    pub fn write_value(&self, entry: u32, out: &mut Vec<u8>) {
        let start = out.len();
        self.encoder.pack(&self.index, entry, out);
        // The null bits say nothing, for no value is null, and the key is named otherwise.
        out.drain(start..start + self.encoder.types().len().div_ceil(8) + 4);
    }

    /// Appends the values that were seen at `at`, in their order.
    pub fn write_at(&self, seen: &Seen, at: i64, out: &mut Vec<u8>) {
        let value = |entry| {
            let mut value = Vec::new();
            self.write_value(entry, &mut value);
            value
        };
        let mut values: Vec<Vec<u8>> = seen.at(at).map(value).collect();
        values.sort_unstable();
        let start = begin_block(out);
        values.iter().for_each(|value| put_block(out, value));
        end_block(out, start);
    }

    /// The entries of values of keys, as [`Values::write_value`] wrote them.
    pub fn read_values(&mut self, keys: &[u32], values: &[&[u8]]) -> Result<Vec<u32>, Damage> {
        let nulls = vec![0; self.encoder.types().len().div_ceil(8)];
        let key = |(key, value): (&u32, &&[u8])| [&nulls, key.to_le_bytes().as_slice(), value].concat();
        let packed: Vec<Vec<u8>> = keys.iter().zip(values).map(key).collect();
        let packed: Vec<&[u8]> = packed.iter().map(Vec::as_slice).collect();
        let wrong = || Damage::of("a value of DISTINCT has other types");
        let unpacked: Keys = self.encoder.unpack(&packed).ok_or_else(wrong)?;
        let columns = self.encoder.decode(&unpacked);
        Ok(self.intern(keys, &columns[1..])?)
    }

    /// A restored value was seen at `at`; [`Values::rebuild`] follows.
    pub fn restore(&mut self, seen: &mut Seen, at: i64, entry: u32) {
        match seen.times.back() {
            Some(last) if *last > (at, entry) => {
                let place = seen.times.partition_point(|time| *time < (at, entry));
                seen.times.insert(place, (at, entry));
            }
            _ => seen.times.push_back((at, entry)),
        }
    }

    /// Counts what was restored of a key, whose newest frame starts at `least`.
    pub fn rebuild(&mut self, seen: &mut Seen, least: i64) {
        let mut restored = std::mem::take(&mut seen.times);
        for (at, entry) in restored.drain(..) {
            let in_frame = at >= least;
            self.insert(seen, at, entry, in_frame);
        }
    }
}

/// A call over the different values alone.
fn within(call: &AggregateCall) -> AggregateCall {
    let args = match call.function {
        // No value is null here.
        AggregateFunction::Count => Vec::new(),
        _ => (0..call.args.len()).collect(),
    };
    AggregateCall { args, filter: None, distinct: false, ..call.clone() }
}
