//! DISTINCT: one entry for each different value of a group, shared by all calls on the same argument.
//!
//! An entry counts its rows for each filter (a bit each when no row is ever taken back). When a value comes for the
//! first time or goes for the last, the accumulators within take it or give it back: COUNT(DISTINCT x) is the COUNT of
//! such transitions, SUM(DISTINCT x) their SUM.
//!
//! Entries are saved as a table of their own, each named by its group and its value; where a group's name changes as it
//! grows, as a session's does, they are saved with the group instead.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, UInt32Array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{ArrowError, DataType};
use arrow_select::filter::filter;
use arrow_select::take::take;

use super::accumulator::{Accumulator, Rows, not_alike};
use super::parts::{Parts, Setting};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, Reader, begin_block, end_block, put_block};
use crate::key::{KeyEncoder, KeyIndex, Keys};
use crate::plan::{AggregateCall, AggregateFunction};

/// No entry, no group.
const NONE: u32 = u32::MAX;

/// The different values of all groups.
pub(crate) struct Distinct {
    args: Vec<usize>,
    /// Writes (slot, arguments).
    encoder: KeyEncoder,
    index: KeyIndex,
    tallies: Tallies,
    filters: Vec<Filtered>,
    /// For each call its filter and its place there.
    outputs: Vec<(usize, usize)>,
    links: Option<Links>,
    /// How many entries each group has.
    held: Vec<u32>,
    /// Whether entries are saved with their group.
    inline: bool,
    marks: Marks,
}

/// What the calls of one filter compute.
struct Filtered {
    column: Option<usize>,
    parts: Parts,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// Whether any of them looks at the value.
    reads_values: bool,
}

/// How often each entry's value is there, for each filter.
enum Tallies {
    /// One bit a filter: it has been there.
    Seen(Vec<u64>),
    /// `entry * filters + filter`.
    Counts(Vec<i64>),
}

/// The entries of each group as doubly linked lists, for groups that go while they have entries.
#[derive(Default)]
struct Links {
    heads: Vec<u32>,
    next: Vec<u32>,
    back: Vec<u32>,
    owner: Vec<u32>,
}

impl Distinct {
    /// An accumulator for calls that have the same arguments.
    pub fn new(calls: &[AggregateCall], setting: &Setting) -> Result<Self, String> {
        let args = calls[0].args.clone();
        let types: Vec<DataType> = args.iter().map(|arg| setting.types[*arg].clone()).collect();
        let with_slot = std::iter::once(DataType::UInt32).chain(types.iter().cloned()).collect();
        let encoder = KeyEncoder::new(with_slot).ok_or("DISTINCT of lists, maps or rows")?;
        let mut columns: Vec<Option<usize>> = Vec::new();
        let mut inner: Vec<Vec<AggregateCall>> = Vec::new();
        let mut outputs = Vec::with_capacity(calls.len());
        for call in calls {
            let place = columns.iter().position(|filter| *filter == call.filter).unwrap_or_else(|| {
                columns.push(call.filter);
                inner.push(Vec::new());
                columns.len() - 1
            });
            outputs.push((place, inner[place].len()));
            inner[place].push(within(call));
        }
        let setting_within = Setting { types, append_only: false, ..setting.clone() };
        let make = |(column, calls): (Option<usize>, Vec<AggregateCall>)| {
            let parts = Parts::new(&calls, false);
            let accumulators = parts.make(&setting_within)?;
            let reads_values = calls.iter().any(|call| !call.args.is_empty());
            Ok::<_, String>(Filtered { column, parts, accumulators, reads_values })
        };
        let filters = columns.into_iter().zip(inner).map(make).collect::<Result<Vec<_>, _>>()?;
        let tallies = match setting.append_only && filters.len() <= 64 {
            true => Tallies::Seen(Vec::new()),
            false => Tallies::Counts(Vec::new()),
        };
        let links = setting.retiring.then(Links::default);
        let (mut index, held, marks) = (KeyIndex::default(), Vec::new(), Marks::default());
        index.note_births();
        Ok(Distinct { args, encoder, index, tallies, filters, outputs, links, held, inline: setting.inline, marks })
    }

    /// Takes values: `columns` are the arguments, and `weight` says how often row i counts for a filter.
    fn apply(
        &mut self,
        slots: &[u32],
        columns: &[ArrayRef],
        weight: impl Fn(usize, usize) -> i64,
    ) -> Result<(), ArrowError> {
        let slot_column: ArrayRef = Arc::new(UInt32Array::from(slots.to_vec()));
        let keyed: Vec<ArrayRef> = std::iter::once(slot_column).chain(columns.iter().cloned()).collect();
        let keys = self.encoder.encode(&keyed, slots.len());
        let entries = self.intern(&keys, slots);
        self.touch(&entries);
        let mut gone = Vec::new();
        for place in 0..self.filters.len() {
            let changes = self.tallies.add(&entries, self.filters.len(), place, |row| weight(place, row), &mut gone);
            self.filters[place].take(slots, columns, changes)?;
        }
        for entry in gone {
            // An entry is named once for each row and filter.
            if self.tallies.is_zero(entry, self.filters.len()) && self.index.contains(entry) {
                self.forget(entry);
            }
        }
        Ok(())
    }

    /// The entries of keys; `slots` has the group of each.
    fn intern(&mut self, keys: &Keys, slots: &[u32]) -> Vec<u32> {
        let before = self.index.len();
        let mut entries = Vec::new();
        self.index.intern(keys, &keys.hashes(), &mut entries);
        let count = self.index.slots();
        self.tallies.resize(count, self.filters.len());
        self.marks.resize(count);
        if self.index.len() > before {
            for entry in self.index.take_born() {
                self.marks.born(entry);
                let group = self.group(entry);
                self.held[group as usize] += 1;
            }
        }
        if let Some(links) = &mut self.links {
            links.enter(&entries, slots, count);
        }
        entries
    }

    /// Notes that these entries are about to change.
    fn touch(&mut self, entries: &[u32]) {
        if let Some(mut wanted) = self.marks.touch(entries) {
            while let Some((entry, image)) = wanted.next() {
                self.write_entry(entry, image);
            }
            self.marks.keep(wanted);
        }
    }

    fn forget(&mut self, entry: u32) {
        self.touch(&[entry]);
        let group = self.group(entry);
        self.held[group as usize] -= 1;
        self.index.remove(entry);
        self.tallies.clear(entry, self.filters.len());
        if let Some(links) = &mut self.links {
            links.leave(entry);
        }
    }

    /// The group of an entry.
    pub fn group(&self, entry: u32) -> u32 {
        self.encoder.leading_u32(&self.index, entry)
    }

    fn accumulators(&self) -> impl Iterator<Item = &Box<dyn Accumulator>> {
        self.filters.iter().flat_map(|filter| &filter.accumulators)
    }
}

/// Entries as rows of a table.
impl Distinct {
    /// The number of slots of entries.
    pub fn slots(&self) -> usize {
        self.index.slots()
    }

    /// Whether a slot has an entry.
    pub fn contains(&self, entry: u32) -> bool {
        self.index.contains(entry)
    }

    /// The marks of the entries.
    pub fn marks(&mut self) -> &mut Marks {
        &mut self.marks
    }

    /// Whether a save of the entries is under way.
    pub fn is_saving(&self) -> bool {
        self.marks.is_saving()
    }

    /// Notes changes of entries from now on.
    pub fn keep(&mut self, chunk_slots: usize) {
        // What is saved with its group is marked with its group.
        if !self.inline {
            self.marks = Marks::new(chunk_slots);
        }
    }

    /// Gives new entries these slots as far as they are free; none gives slots as they come.
    pub fn prefer(&mut self, slots: Option<Range<u32>>) {
        self.index.prefer(slots);
    }

    /// The types of the value.
    pub fn value_types(&self) -> &[DataType] {
        &self.encoder.types()[1..]
    }

    /// Appends an entry: the slot of its group, its value, its tallies.
    pub fn write_entry(&self, entry: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.group(entry).to_le_bytes());
        let start = begin_block(out);
        self.write_value(entry, out);
        end_block(out, start);
        self.write_tallies(entry, out);
    }

    /// Appends how often an entry is there.
    pub fn write_tallies(&self, entry: u32, out: &mut Vec<u8>) {
        self.tallies.write(entry, self.filters.len(), out);
    }

    /// Appends the value of an entry.
    pub fn write_value(&self, entry: u32, out: &mut Vec<u8>) {
        let start = out.len();
        self.encoder.pack(&self.index, entry, out);
        // The null bits say nothing, for no value is null, and the group is named otherwise.
        out.drain(start..start + self.head());
    }

    /// The bytes of a key before the value.
    fn head(&self) -> usize {
        self.encoder.types().len().div_ceil(8) + 4
    }

    /// The columns of values, as [`Distinct::write_entry`] wrote each; an error when some are none.
    pub fn value_columns(&self, values: &[&[u8]]) -> Result<Vec<ArrayRef>, Damage> {
        let mut columns = self.encoder.decode(&self.keys(&vec![0; values.len()], values)?);
        columns.remove(0);
        Ok(columns)
    }

    fn keys(&self, groups: &[u32], values: &[&[u8]]) -> Result<Keys, Damage> {
        let nulls = vec![0; self.encoder.types().len().div_ceil(8)];
        let key = |(group, value): (&u32, &&[u8])| [&nulls, group.to_le_bytes().as_slice(), value].concat();
        let keys: Vec<Vec<u8>> = groups.iter().zip(values).map(key).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        self.encoder.unpack(&keys).ok_or_else(|| Damage::of("a value of DISTINCT has other types"))
    }

    /// Puts entries back; the accumulators within are restored with their groups.
    pub fn restore(&mut self, groups: &[u32], values: &[&[u8]], tallies: &mut [Reader<'_>]) -> Result<(), Damage> {
        let keys = self.keys(groups, values)?;
        let entries = self.intern(&keys, groups);
        self.touch(&entries);
        for (entry, reader) in entries.iter().zip(tallies) {
            self.tallies.read(*entry, self.filters.len(), reader)?;
        }
        Ok(())
    }

    /// The entries of a group, by value.
    fn write_inline(&self, slot: u32, out: &mut Vec<u8>) {
        let entries = self.links.as_ref().map(|links| links.entries(slot)).unwrap_or_default();
        let value = |entry: u32| {
            let mut value = Vec::new();
            self.write_value(entry, &mut value);
            (value, entry)
        };
        let mut entries: Vec<(Vec<u8>, u32)> = entries.into_iter().map(value).collect();
        entries.sort();
        out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        for (value, entry) in entries {
            put_block(out, &value);
            self.tallies.write(entry, self.filters.len(), out);
        }
    }

    fn read_inline(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<(), Damage> {
        for _ in 0..from.count(4)? {
            let value = from.block()?;
            let keys = self.keys(&[slot], &[value])?;
            let entries = self.intern(&keys, &[slot]);
            self.tallies.read(entries[0], self.filters.len(), from)?;
        }
        Ok(())
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

impl Filtered {
    /// Hands transitions on: rows, and +1 or -1 for each.
    fn take(&mut self, slots: &[u32], columns: &[ArrayRef], changes: Changes) -> Result<(), ArrowError> {
        if changes.rows.is_empty() {
            return Ok(());
        }
        let slots: Vec<u32> = changes.rows.iter().map(|row| slots[*row as usize]).collect();
        let indices = UInt32Array::from(changes.rows);
        let columns = match self.reads_values {
            true => columns.iter().map(|column| take(column, &indices, None)).collect::<Result<Vec<_>, _>>()?,
            false => Vec::new(),
        };
        let rows = Rows { columns: &columns, weights: Some(&changes.weights) };
        self.accumulators.iter_mut().try_for_each(|inner| inner.update(&slots, &rows))
    }
}

/// Values that came or went.
#[derive(Default)]
struct Changes {
    rows: Vec<u32>,
    weights: Vec<i64>,
}

impl Tallies {
    fn resize(&mut self, entries: usize, filters: usize) {
        match self {
            Tallies::Seen(seen) => seen.resize(entries.max(seen.len()), 0),
            Tallies::Counts(counts) => counts.resize((entries * filters).max(counts.len()), 0),
        }
    }

    fn add(
        &mut self,
        entries: &[u32],
        filters: usize,
        place: usize,
        weight: impl Fn(usize) -> i64,
        gone: &mut Vec<u32>,
    ) -> Changes {
        let mut changes = Changes::default();
        let mut note = |row: usize, weight: i64| {
            changes.rows.push(row as u32);
            changes.weights.push(weight);
        };
        for (row, entry) in entries.iter().enumerate() {
            let weight = weight(row);
            match self {
                Tallies::Seen(seen) => {
                    let seen = &mut seen[*entry as usize];
                    if weight > 0 && *seen & (1 << place) == 0 {
                        *seen |= 1 << place;
                        note(row, 1);
                    }
                }
                Tallies::Counts(counts) => {
                    let count = &mut counts[*entry as usize * filters + place];
                    let (before, after) = (*count > 0, *count + weight > 0);
                    *count += weight;
                    if before != after {
                        note(row, if after { 1 } else { -1 });
                    }
                    if *count == 0 {
                        gone.push(*entry);
                    }
                }
            }
        }
        changes
    }

    fn is_zero(&self, entry: u32, filters: usize) -> bool {
        match self {
            Tallies::Seen(_) => false,
            Tallies::Counts(counts) => {
                counts[entry as usize * filters..(entry as usize + 1) * filters].iter().all(|count| *count == 0)
            }
        }
    }

    fn clear(&mut self, entry: u32, filters: usize) {
        match self {
            Tallies::Seen(seen) => seen[entry as usize] = 0,
            Tallies::Counts(counts) => counts[entry as usize * filters..(entry as usize + 1) * filters].fill(0),
        }
    }

    fn of(&self, entry: u32, filters: usize, place: usize) -> i64 {
        match self {
            Tallies::Seen(seen) => (seen[entry as usize] >> place & 1) as i64,
            Tallies::Counts(counts) => counts[entry as usize * filters + place],
        }
    }

    fn write(&self, entry: u32, filters: usize, out: &mut Vec<u8>) {
        match self {
            Tallies::Seen(seen) => out.extend_from_slice(&seen[entry as usize].to_le_bytes()),
            Tallies::Counts(counts) => counts[entry as usize * filters..(entry as usize + 1) * filters]
                .iter()
                .for_each(|count| out.extend_from_slice(&count.to_le_bytes())),
        }
    }

    fn read(&mut self, entry: u32, filters: usize, from: &mut Reader<'_>) -> Result<(), Damage> {
        match self {
            Tallies::Seen(seen) => seen[entry as usize] = from.u64()?,
            Tallies::Counts(counts) => {
                for count in &mut counts[entry as usize * filters..(entry as usize + 1) * filters] {
                    *count = from.i64()?;
                }
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        8 * match self {
            Tallies::Seen(seen) => seen.capacity(),
            Tallies::Counts(counts) => counts.capacity(),
        }
    }
}

impl Links {
    /// Hangs entries that are not yet in a list into their group's.
    fn enter(&mut self, entries: &[u32], slots: &[u32], count: usize) {
        for list in [&mut self.next, &mut self.back, &mut self.owner] {
            list.resize(count.max(list.len()), NONE);
        }
        for (entry, slot) in entries.iter().zip(slots) {
            let place = *entry as usize;
            if self.owner[place] != NONE {
                continue;
            }
            let head = std::mem::replace(&mut self.heads[*slot as usize], *entry);
            (self.owner[place], self.next[place], self.back[place]) = (*slot, head, NONE);
            if head != NONE {
                self.back[head as usize] = *entry;
            }
        }
    }

    fn leave(&mut self, entry: u32) {
        let place = entry as usize;
        let (next, back, owner) = (self.next[place], self.back[place], self.owner[place]);
        if owner == NONE {
            return;
        }
        match back {
            NONE => self.heads[owner as usize] = next,
            back => self.next[back as usize] = next,
        }
        if next != NONE {
            self.back[next as usize] = back;
        }
        self.owner[place] = NONE;
    }

    /// The entries of a group.
    fn entries(&self, slot: u32) -> Vec<u32> {
        let mut entries = Vec::new();
        let mut entry = self.heads[slot as usize];
        while entry != NONE {
            entries.push(entry);
            entry = self.next[entry as usize];
        }
        entries
    }

    fn bytes(&self) -> usize {
        4 * (self.heads.capacity() + self.next.capacity() + self.back.capacity() + self.owner.capacity())
    }
}

impl Accumulator for Distinct {
    fn resize(&mut self, slots: usize) {
        self.filters.iter_mut().flat_map(|filter| &mut filter.accumulators).for_each(|inner| inner.resize(slots));
        self.held.resize(slots.max(self.held.len()), 0);
        if let Some(links) = &mut self.links {
            links.heads.resize(slots.max(links.heads.len()), NONE);
        }
    }

    fn update(&mut self, slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let valid = rows.mask(&self.args, None);
        let masks: Vec<Option<BooleanBuffer>> =
            self.filters.iter().map(|filter| filter.column.and_then(|column| rows.mask(&[], Some(column)))).collect();
        let any = masks.iter().cloned().reduce(|left, right| Some(&left? | &right?)).flatten();
        let chosen = match (valid, any) {
            (Some(valid), Some(any)) => Some(&valid & &any),
            (valid, any) => valid.or(any),
        };
        let mut columns: Vec<ArrayRef> = self.args.iter().map(|arg| rows.columns[*arg].clone()).collect();
        let weight = |row: usize| rows.weights.map_or(1, |weights| weights[row]);
        let counts = |place: usize, row: usize| masks[place].as_ref().is_none_or(|mask| mask.value(row));
        let Some(chosen) = chosen.filter(|chosen| chosen.count_set_bits() < slots.len()) else {
            return self.apply(slots, &columns, |place, row| if counts(place, row) { weight(row) } else { 0 });
        };
        let at: Vec<usize> = chosen.set_indices().collect();
        let slots: Vec<u32> = at.iter().map(|row| slots[*row]).collect();
        let chosen = BooleanArray::new(chosen, None);
        for column in &mut columns {
            *column = filter(column, &chosen)?;
        }
        self.apply(&slots, &columns, |place, row| if counts(place, at[row]) { weight(at[row]) } else { 0 })
    }

    fn evaluate(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = self.filters.iter().map(|filter| filter.parts.evaluate(&filter.accumulators, slots));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(self.outputs.iter().map(|(filter, place)| columns[*filter][*place].clone()).collect())
    }

    fn merge(&mut self, other: &dyn Accumulator, from: &[u32], to: &[u32]) -> Result<(), ArrowError> {
        let other = other.as_any().downcast_ref::<Self>().ok_or_else(not_alike)?;
        let links = other.links.as_ref().ok_or_else(not_alike)?;
        let (mut entries, mut slots) = (Vec::new(), Vec::new());
        for (from, to) in from.iter().zip(to) {
            entries.extend(links.entries(*from));
            slots.resize(entries.len(), *to);
        }
        if entries.is_empty() {
            return Ok(());
        }
        let columns = self.encoder.decode(&other.index.keys(&entries));
        let filters = self.filters.len();
        self.apply(&slots, &columns[1..], |place, row| other.tallies.of(entries[row], filters, place))
    }

    fn retire(&mut self, slot: u32) {
        let entries = self.links.as_ref().map(|links| links.entries(slot)).unwrap_or_default();
        entries.into_iter().for_each(|entry| self.forget(entry));
        self.reset(slot);
    }

    fn reset(&mut self, slot: u32) {
        self.filters.iter_mut().flat_map(|filter| &mut filter.accumulators).for_each(|inner| inner.retire(slot));
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        let types: Option<Vec<_>> = self.accumulators().map(|inner| inner.partial_types()).collect();
        types.map(|types| types.concat())
    }

    fn partial(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns: Vec<_> = self.accumulators().map(|inner| inner.partial(slots)).collect::<Result<_, _>>()?;
        Ok(columns.concat())
    }

    fn merge_partial(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let mut columns = columns;
        for inner in self.filters.iter_mut().flat_map(|filter| &mut filter.accumulators) {
            let count = inner.partial_types().map_or(0, |types| types.len());
            let (mine, rest) = columns.split_at(count);
            inner.merge_partial(slots, mine)?;
            columns = rest;
        }
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.index.len() as u64 + self.accumulators().map(|inner| inner.entries()).sum::<u64>()
    }

    fn bytes(&self) -> u64 {
        let links = self.links.as_ref().map_or(0, Links::bytes) + 4 * self.held.capacity();
        let inner: u64 = self.accumulators().map(|inner| inner.bytes()).sum();
        self.index.bytes() + (self.tallies.bytes() + links) as u64 + self.marks.bytes() + inner
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.accumulators().try_for_each(|inner| inner.write(slot, out))?;
        if self.inline {
            self.write_inline(slot, out);
        }
        Ok(())
    }

    fn read(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<(), Damage> {
        for inner in self.filters.iter_mut().flat_map(|filter| &mut filter.accumulators) {
            inner.read(slot, from)?;
        }
        if self.inline { self.read_inline(slot, from) } else { Ok(()) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn distinct(&self) -> Option<&Distinct> {
        Some(self)
    }

    fn distinct_mut(&mut self) -> Option<&mut Distinct> {
        Some(self)
    }

    fn held_bytes(&self, slot: u32) -> u64 {
        u64::from(self.held[slot as usize]) * self.bytes() / (self.index.len() as u64).max(1)
    }

    fn holds(&self, slot: u32) -> bool {
        self.held[slot as usize] > 0
    }
}
