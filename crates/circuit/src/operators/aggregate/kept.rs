//! [`Kept`]: groups by key, and by window or pane where there are any, as tables that are saved.
//!
//! Table 0 has the groups: key and span, weight, states. Table 1 + p has the different values of DISTINCT part p, each
//! under its group's name. With several lanes an aggregate is two tasks or more: the one that gives rows keeps table 0,
//! and each that tells values apart keeps the table of its part, so a table has one keeper on every number of lanes.
//!
//! Whatever changes a group or a value says so first, with [`Kept::update`] and its like.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};

use super::accumulator::Rows;
use super::distinct::Distinct;
use super::feed::{KeyColumns, Taken};
use super::groups::{Groups, Recipe};
use super::packed::Packed;
use super::windows::{Frames, Span};
use crate::keep::keeper::{Keeper, Progress, Route, name_of};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, Reader, begin_block, end_block, put_block};
use crate::key::KeyEncoder;
use crate::operator::{Context, KeySize, StateSize};
use crate::operators::ttl::Ttl;
use crate::row;

/// The bytes of a span at the end of a name.
const SPAN_BYTES: usize = 16;

/// Which tables an operator keeps.
#[derive(Debug, Clone)]
pub(super) enum Tables {
    /// Groups and the different values of these parts: everything is on one lane.
    All(Vec<usize>),
    /// Groups alone.
    Groups,
    /// The different values of the only part, which is this one of the aggregate's.
    Values(usize),
}

/// Groups, and the windows or panes they are in.
pub(super) struct Kept {
    pub groups: Groups,
    pub frames: Frames,
    /// How far the operator has come.
    pub progress: Progress,
    key_types: Vec<DataType>,
    framed: bool,
    /// Whether changes leave before a window closes, so that it counts as fired from the start.
    live: bool,
    /// Slots that hang in a frame.
    hung: Vec<bool>,
    tables: Tables,
    /// When groups were last changed, where they are forgotten by that.
    ttl: Option<Ttl>,
    marks: Marks,
    /// The names of groups that went while a save is under way.
    departed: BTreeMap<u32, Vec<u8>>,
}

impl Kept {
    /// No groups yet; or what is not supported.
    pub fn new(
        recipe: &Arc<Recipe>,
        key_types: &[DataType],
        framed: bool,
        live: bool,
        tables: Tables,
    ) -> Result<Self, String> {
        let mut types = key_types.to_vec();
        if framed {
            types.push(DataType::UInt32);
        }
        Ok(Kept {
            groups: recipe.groups(types)?,
            frames: Frames::default(),
            progress: Progress { closed: i64::MIN, started: false },
            key_types: key_types.to_vec(),
            framed,
            live,
            hung: Vec::new(),
            tables,
            ttl: None,
            marks: Marks::default(),
            departed: BTreeMap::new(),
        })
    }

    /// The same, forgetting groups that have not changed for so long.
    pub fn expiring(self, ttl_ms: Option<i64>) -> Self {
        Kept { ttl: ttl_ms.map(Ttl::new), ..self }
    }

    /// Goes on to a step's time.
    pub fn advance(&mut self, context: &Context) -> Result<(), ArrowError> {
        let Some(ttl) = &mut self.ttl else { return Ok(()) };
        ttl.advance(context);
        let unknown = ttl.take_unknown();
        self.touch(&unknown)
    }

    /// Whether groups are forgotten that have not changed for long.
    pub fn expires(&self) -> bool {
        self.ttl.is_some()
    }

    /// Lets the groups begin anew that have expired.
    pub fn renew_expired(&mut self, slots: &[u32]) -> Result<(), ArrowError> {
        let Some(ttl) = &self.ttl else { return Ok(()) };
        let mut expired: Vec<u32> = slots.iter().copied().filter(|slot| ttl.has_expired(*slot)).collect();
        if expired.is_empty() {
            return Ok(());
        }
        expired.sort_unstable();
        expired.dedup();
        self.touch(&expired)?;
        expired.into_iter().for_each(|slot| self.groups.renew(slot));
        Ok(())
    }

    /// Forgets groups that have expired, about `most` of them.
    pub fn sweep(&mut self, most: usize) -> Result<(), ArrowError> {
        let expired = self.ttl.as_mut().map(|ttl| ttl.take_passed(most)).unwrap_or_default();
        self.forget_all(expired)
    }

    fn forget_all(&mut self, slots: Vec<u32>) -> Result<(), ArrowError> {
        for slot in slots {
            if self.groups.contains(slot) {
                self.forget(slot)?;
            }
        }
        Ok(())
    }

    /// The slots of rows or states, and their frames when there are windows.
    pub fn slots_for(&mut self, keys: &KeyColumns, spans: &[Span], rows: usize) -> (Vec<u32>, Option<Vec<u32>>) {
        match keys {
            KeyColumns::Plain(keys) => self.intern(keys, spans, rows),
            // There are no windows then.
            KeyColumns::Packed(packed) => (self.intern_written(packed), None),
        }
    }

    /// The slots of keys that are written already, where there are no windows.
    pub fn intern_written(&mut self, packed: &Packed) -> Vec<u32> {
        let slots = self.groups.intern_written(packed);
        self.note_births();
        slots
    }

    /// The slots of rows, and their frames when there are windows.
    pub fn intern(&mut self, keys: &[ArrayRef], spans: &[Span], rows: usize) -> (Vec<u32>, Option<Vec<u32>>) {
        if !self.framed {
            let slots = self.groups.intern(keys, rows);
            self.note_births();
            return (slots, None);
        }
        let ids = self.frames.ids(spans, self.live);
        let mut keys = keys.to_vec();
        keys.push(Arc::new(UInt32Array::from(ids.clone())));
        let slots = self.groups.intern(&keys, rows);
        self.note_births();
        self.hang(&slots, &ids);
        (slots, Some(ids))
    }

    fn note_births(&mut self) {
        self.marks.births(self.groups.slots(), self.groups.take_born());
    }

    /// Hangs slots into their frames.
    fn hang(&mut self, slots: &[u32], ids: &[u32]) {
        self.hung.resize(self.groups.slots().max(self.hung.len()), false);
        for (slot, id) in slots.iter().zip(ids) {
            if !std::mem::replace(&mut self.hung[*slot as usize], true) {
                self.frames.get_mut(*id).slots.push(*slot);
            }
        }
    }

    /// Notes that groups are about to change.
    fn touch(&mut self, slots: &[u32]) -> Result<(), ArrowError> {
        self.image(slots)?;
        if let Some(ttl) = &mut self.ttl {
            ttl.touch(slots);
        }
        Ok(())
    }

    /// Keeps what a save under way still needs of groups that are about to change.
    fn image(&mut self, slots: &[u32]) -> Result<(), ArrowError> {
        if let Some(mut wanted) = self.marks.touch(slots) {
            while let Some((slot, image)) = wanted.next() {
                self.write_group(slot, image)?;
            }
            self.marks.keep(wanted);
        }
        Ok(())
    }

    /// Adds rows to their groups.
    pub fn update(&mut self, slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        self.touch(slots)?;
        self.groups.update(slots, rows)
    }

    /// Adds rows or partial states to their groups.
    pub fn take(&mut self, slots: &[u32], taken: &Taken) -> Result<(), ArrowError> {
        match taken {
            Taken::Rows { delta, .. } => {
                self.update(slots, &Rows { columns: delta.batch().columns(), weights: delta.weights() })
            }
            Taken::Partials { weights, parts, columns, .. } => {
                self.touch(slots)?;
                self.groups.merge_partial(slots, weights.as_deref(), parts, columns)
            }
        }
    }

    /// Forgets a group.
    pub fn forget(&mut self, slot: u32) -> Result<(), ArrowError> {
        self.image(&[slot])?;
        if self.is_naming() && !self.departed.contains_key(&slot) {
            let mut name = Vec::new();
            self.write_name(slot, &mut name);
            self.departed.insert(slot, name);
        }
        self.groups.retire(slot);
        if self.framed {
            self.hung[slot as usize] = false;
        }
        Ok(())
    }

    /// Forgets a window or pane and all its groups.
    pub fn forget_frame(&mut self, id: u32) -> Result<(), ArrowError> {
        let slots = std::mem::take(&mut self.frames.get_mut(id).slots);
        slots.into_iter().try_for_each(|slot| self.forget(slot))?;
        self.frames.remove(id);
        Ok(())
    }

    /// The key columns of groups, and their spans when there are windows.
    pub fn keys(&self, slots: &[u32]) -> (Vec<ArrayRef>, Option<Vec<Span>>) {
        let mut keys = self.groups.keys(slots);
        if !self.framed {
            return (keys, None);
        }
        let ids = keys.pop();
        let ids = ids.as_ref().and_then(|ids| ids.as_any().downcast_ref::<UInt32Array>());
        (keys, ids.map(|ids| ids.values().iter().map(|id| self.frames.get(*id).span).collect()))
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let (mut size, (_, frames)) = (self.groups.size(), self.frames.size());
        let ttl = self.ttl.as_ref().map_or(0, Ttl::bytes);
        size.bytes += frames + self.hung.capacity() as u64 + self.marks.bytes() + ttl;
        size
    }

    /// The groups that take most, the largest first; windows of one key are groups of their own. `schema` begins with the
    /// key's columns.
    pub fn largest_keys(&self, schema: &SchemaRef, most: usize) -> Result<Vec<KeySize>, ArrowError> {
        let (mut sizes, mut scratch) = (Vec::new(), Vec::new());
        for slot in (0..self.groups.slots() as u32).filter(|slot| self.groups.contains(*slot)) {
            sizes.push((self.groups.bytes_of(slot, &mut scratch)?, slot));
        }
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        sizes.truncate(most);
        let slots: Vec<u32> = sizes.iter().map(|(_, slot)| *slot).collect();
        let (mut columns, _) = self.keys(&slots);
        columns.truncate(self.key_types.len());
        let fields: Vec<_> = schema.fields().iter().take(columns.len()).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        let key = |(row, (bytes, _)): (usize, &(u64, u32))| KeySize { key: row::to_json(&batch, row), bytes: *bytes };
        Ok(sizes.iter().enumerate().map(key).collect())
    }

    /// Whether a save of different values is under way, to which departed groups lend their names.
    fn is_naming(&self) -> bool {
        let saving = |part: &usize| self.groups.distinct(*part).is_some_and(Distinct::is_saving);
        match &self.tables {
            Tables::All(parts) => parts.iter().any(saving),
            Tables::Groups => false,
            Tables::Values(_) => saving(&0),
        }
    }

    fn has_groups(&self) -> bool {
        !matches!(self.tables, Tables::Values(_))
    }

    /// The part whose different values are a table.
    fn part(&self, table: u16) -> Option<usize> {
        let part = usize::from(table.checked_sub(1)?);
        match &self.tables {
            Tables::All(parts) => parts.contains(&part).then_some(part),
            Tables::Groups => None,
            Tables::Values(only) => (part == *only).then_some(0),
        }
    }

    /// A group's key, and its span where there are windows: frames have other numbers elsewhere.
    fn write_name(&self, slot: u32, out: &mut Vec<u8>) {
        self.groups.write_key(slot, out);
        if self.framed {
            let at = out.len().saturating_sub(4);
            let id = out.get(at..).and_then(|bytes| bytes.first_chunk::<4>()).map_or(0, |id| u32::from_le_bytes(*id));
            out.truncate(at);
            let (first, second) = self.frames.get(id).span;
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&second.to_le_bytes());
        }
    }

    fn write_group(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let start = begin_block(out);
        self.write_name(slot, out);
        end_block(out, start);
        self.groups.write_state(slot, out)?;
        if let Some(changed) = self.ttl.as_ref().and_then(|ttl| ttl.changed(slot)) {
            out.extend_from_slice(&changed.to_le_bytes());
        }
        Ok(())
    }

    /// Writes a value as it is.
    fn write_value(&self, distinct: &Distinct, entry: u32, out: &mut Vec<u8>) {
        let start = begin_block(out);
        let inner = begin_block(out);
        self.write_name(distinct.group(entry), out);
        end_block(out, inner);
        distinct.write_value(entry, out);
        end_block(out, start);
        distinct.write_tallies(entry, out);
    }

    /// Writes a value from the form that [`Distinct::write_entry`] gave when the save had begun.
    fn write_value_image(&self, image: &[u8], out: &mut Vec<u8>) -> Result<(), Damage> {
        let mut reader = Reader::new(image);
        let (slot, value) = (reader.u32()?, reader.block()?);
        let start = begin_block(out);
        match self.departed.get(&slot) {
            Some(name) => put_block(out, name),
            None => {
                let inner = begin_block(out);
                self.write_name(slot, out);
                end_block(out, inner);
            }
        }
        out.extend_from_slice(value);
        end_block(out, start);
        out.extend_from_slice(reader.rest());
        Ok(())
    }

    /// The slots of named groups, which are added when they are not there.
    fn slots_of(&mut self, names: &[&[u8]]) -> Result<Vec<u32>, Damage> {
        if !self.framed {
            let slots = self.groups.intern_packed(names)?;
            self.note_births();
            return Ok(slots);
        }
        // Frames have other numbers here than where the rows were saved.
        let (mut keys, mut ids) = (Vec::with_capacity(names.len()), Vec::with_capacity(names.len()));
        for name in names {
            let at = name.len().checked_sub(SPAN_BYTES).ok_or_else(|| Damage::of("a name without a window"))?;
            let mut reader = Reader::new(&name[at..]);
            let span = (reader.i64()?, reader.i64()?);
            // A window fires in the step that passes its end, however late its rows come.
            let id = self.frames.ids(&[span], self.live || span.0 <= self.progress.closed)[0];
            keys.push([&name[..at], &id.to_le_bytes()].concat());
            ids.push(id);
        }
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let slots = self.groups.intern_packed(&keys)?;
        self.note_births();
        self.hang(&slots, &ids);
        Ok(slots)
    }

    /// The key columns of named groups, without their windows.
    fn key_columns(&self, names: &[&[u8]]) -> Result<Vec<ArrayRef>, Damage> {
        let strip = |name: &&[u8]| -> Result<Vec<u8>, Damage> {
            if !self.framed {
                return Ok(name.to_vec());
            }
            let at = name.len().checked_sub(SPAN_BYTES).ok_or_else(|| Damage::of("a name without a window"))?;
            Ok([&name[..at], &[0; 4]].concat())
        };
        let keys: Vec<Vec<u8>> = names.iter().map(strip).collect::<Result<_, _>>()?;
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut columns = self.groups.key_columns(&keys)?;
        columns.truncate(self.key_types.len());
        Ok(columns)
    }

    fn hashes(types: Vec<DataType>, columns: &[ArrayRef], rows: usize) -> Result<Route, Damage> {
        if types.is_empty() {
            return Ok(Route::First);
        }
        let encoder = KeyEncoder::new(types).ok_or_else(|| Damage::of("a key that cannot be one"))?;
        Ok(Route::ByHash(encoder.encode(columns, rows).hashes()))
    }
}

/// The group and the value that name a row of a table of different values, and the tallies.
fn split_value(row: &[u8]) -> Result<(&[u8], &[u8], Reader<'_>), Damage> {
    let (name, tallies) = name_of(row)?;
    let mut name = Reader::new(name);
    let group = name.block()?;
    Ok((group, name.rest(), tallies))
}

impl Keeper for Kept {
    fn tables(&self) -> Vec<u16> {
        let number = |part: &usize| 1 + *part as u16;
        match &self.tables {
            Tables::All(parts) => std::iter::once(0).chain(parts.iter().map(number)).collect(),
            Tables::Groups => vec![0],
            Tables::Values(part) => vec![number(part)],
        }
    }

    fn slots(&self, table: u16) -> usize {
        match self.part(table) {
            Some(part) => self.groups.distinct(part).map_or(0, |distinct| distinct.slots()),
            None => self.groups.slots(),
        }
    }

    fn marks(&mut self, table: u16) -> Option<&mut Marks> {
        match self.part(table) {
            Some(part) => self.groups.distinct_mut(part).map(|distinct| distinct.marks()),
            None => Some(&mut self.marks),
        }
    }

    fn write(&self, table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        let Some(part) = self.part(table) else {
            let there = self.groups.contains(slot);
            if there {
                self.write_group(slot, out)?;
            }
            return Ok(there);
        };
        let distinct = self.groups.distinct(part).filter(|distinct| distinct.contains(slot));
        if let Some(distinct) = distinct {
            self.write_value(distinct, slot, out);
        }
        Ok(distinct.is_some())
    }

    fn write_image(&self, table: u16, image: &[u8], out: &mut Vec<u8>) {
        match self.part(table) {
            None => out.extend_from_slice(image),
            // An image has the form that was just written.
            Some(_) => self.write_value_image(image, out).unwrap_or_default(),
        }
    }

    fn saved(&mut self) {
        self.departed.clear();
    }

    fn route(&self, table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        let Some(part) = self.part(table) else {
            let names = rows.iter().map(|row| Ok(name_of(row)?.0)).collect::<Result<Vec<_>, Damage>>()?;
            return Kept::hashes(self.key_types.clone(), &self.key_columns(&names)?, rows.len());
        };
        let split = rows.iter().map(|row| split_value(row)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&[u8]> = split.iter().map(|(name, _, _)| *name).collect();
        let (mut types, mut columns) = (self.key_types.clone(), self.key_columns(&names)?);
        // Where values are told apart on their own, they are spread by value too.
        if let (Tables::Values(_), Some(distinct)) = (&self.tables, self.groups.distinct(part)) {
            let values: Vec<&[u8]> = split.iter().map(|(_, value, _)| *value).collect();
            types.extend_from_slice(distinct.value_types());
            columns.extend(distinct.value_columns(&values)?);
        }
        Kept::hashes(types, &columns, rows.len())
    }

    fn restore(&mut self, table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        let Some(part) = self.part(table) else {
            let split = rows.iter().map(|row| name_of(row)).collect::<Result<Vec<_>, _>>()?;
            let names: Vec<&[u8]> = split.iter().map(|(name, _)| *name).collect();
            let slots = self.slots_of(&names)?;
            self.image(&slots)?;
            for (slot, (_, mut state)) in slots.into_iter().zip(split) {
                self.groups.read_state(slot, &mut state)?;
                // A time is there when it was asked for when the row was saved.
                let changed = if state.is_empty() { None } else { Some(state.i64()?) };
                state.end()?;
                if let Some(ttl) = &mut self.ttl {
                    ttl.restore(slot, changed);
                }
            }
            return Ok(());
        };
        let split = rows.iter().map(|row| split_value(row)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&[u8]> = split.iter().map(|(name, _, _)| *name).collect();
        let values: Vec<&[u8]> = split.iter().map(|(_, value, _)| *value).collect();
        let slots = self.slots_of(&names)?;
        let mut tallies: Vec<Reader<'_>> = split.into_iter().map(|(_, _, tallies)| tallies).collect();
        if let Some(distinct) = self.groups.distinct_mut(part) {
            distinct.restore(&slots, &values, &mut tallies)?;
        }
        tallies.iter().try_for_each(Reader::end)
    }

    fn prefer(&mut self, table: u16, slots: Option<Range<u32>>) {
        match self.part(table) {
            None => self.groups.prefer(slots),
            Some(part) => {
                if let Some(distinct) = self.groups.distinct_mut(part) {
                    distinct.prefer(slots);
                }
            }
        }
    }

    fn settle(&mut self) {
        let expired = self.ttl.as_mut().map(Ttl::take_expired).unwrap_or_default();
        // What cannot be imaged would be lost to a save under way, and there is none.
        self.forget_all(expired).unwrap_or_default();
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn resume(&mut self, progress: Progress) {
        self.progress = progress;
    }

    fn keep(&mut self, chunk_slots: usize) {
        if self.has_groups() {
            self.marks = Marks::new(chunk_slots);
        }
        self.groups.keep(chunk_slots);
        self.note_births();
    }
}
