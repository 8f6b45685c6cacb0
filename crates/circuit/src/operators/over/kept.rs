//! What `OVER` keeps, as tables that are saved.
//!
//! Table 0 has the keys, where something is known of them besides what is in their frames: how many rows they had, the
//! total of frames without a beginning, the values that LAG looks back at. Table 1 has the elements, each named by its key
//! and its time, with the different values that were seen then. Table 2 has the rows that wait. Table 3 + n has the
//! different values of list n, where frames have no beginning. Running totals, partial states and orders are made again.

use std::ops::Range;

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;

use super::bank::NONE;
use super::line::Element;
use super::state::State;
use crate::keep::keeper::{Keeper, Progress, Route, name_of};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, Reader, begin_block, end_block};
use crate::key::Keys;

const KEYS: u16 = 0;
const ELEMENTS: u16 = 1;
const WAITING: u16 = 2;
const VALUES: u16 = 3;

/// The bytes of a time at the end of an element's name.
const TIME_BYTES: usize = 8;

impl State {
    /// Writes what is known of a key.
    pub fn write_key(&self, key: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let start = begin_block(out);
        self.encoder.pack(&self.index, key, out);
        end_block(out, start);
        let track = &self.tracks[key as usize];
        out.extend_from_slice(&track.count.to_le_bytes());
        if self.shape.preceding.is_none() {
            self.bank.write(if self.shape.disordered { track.base } else { track.total }, out)?;
        }
        self.lags.as_ref().map_or(Ok(()), |lags| lags.write(&track.tail, out))
    }

    fn read_key(&mut self, key: u32, from: &mut Reader<'_>) -> Result<(), Damage> {
        let track = &mut self.tracks[key as usize];
        track.count = from.u64()?;
        if self.shape.preceding.is_none() {
            let slot = if self.shape.disordered { &mut track.base } else { &mut track.total };
            let slot = self.bank.claimed(slot);
            self.bank.read(slot, from)?;
        }
        self.lags.as_mut().map_or(Ok(()), |lags| lags.read(&mut track.tail, from))?;
        from.end()
    }

    /// Writes an element.
    pub fn write_element(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let (key, at) = self.owners[slot as usize];
        let start = begin_block(out);
        self.encoder.pack(&self.index, key, out);
        out.extend_from_slice(&at.to_le_bytes());
        end_block(out, start);
        self.bank.write(slot, out)?;
        for (values, seen) in self.values.iter().zip(&self.tracks[key as usize].seen) {
            values.write_at(seen, at, out);
        }
        Ok(())
    }

    fn read_element(&mut self, key: u32, at: i64, from: &mut Reader<'_>) -> Result<(), Damage> {
        let slot = self.bank.claim();
        self.own(slot, key, at);
        self.tracks[key as usize].line.restore(Element { at, slot });
        self.bank.read(slot, from)?;
        for (list, values) in self.values.iter_mut().enumerate() {
            let mut block = Reader::new(from.block()?);
            let mut seen = Vec::new();
            while !block.is_empty() {
                seen.push(block.block()?);
            }
            for entry in values.read_values(&vec![key; seen.len()], &seen)? {
                values.restore(&mut self.tracks[key as usize].seen[list], at, entry);
            }
        }
        from.end()
    }

    /// The slots of keys, which are added when they are not there.
    fn slots_of(&mut self, keys: &[&[u8]]) -> Result<Vec<u32>, Damage> {
        let keys = self.encoder.unpack(keys).ok_or_else(|| Damage::of("a key has other types"))?;
        let mut slots = Vec::new();
        self.index.intern(&keys, &keys.hashes(), &mut slots);
        self.welcome();
        Ok(slots)
    }

    /// The bytes of the key in the name of a row.
    fn key_of<'a>(&self, table: u16, row: &'a [u8]) -> Result<&'a [u8], Damage> {
        let (name, _) = name_of(row)?;
        match table {
            ELEMENTS => Ok(split_time(name)?.0),
            VALUES.. => Reader::new(name).block(),
            _ => Ok(name),
        }
    }

    fn list_of(&self, table: u16) -> Option<usize> {
        let list = usize::from(table.checked_sub(VALUES)?);
        (self.has_values() && list < self.values.len()).then_some(list)
    }

    fn routed(&self, keys: &Keys) -> Route {
        if self.encoder.types().is_empty() { Route::First } else { Route::ByHash(keys.hashes()) }
    }

    fn restore_values(&mut self, list: usize, rows: &[&[u8]]) -> Result<(), Damage> {
        let (mut keys, mut values) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            let (name, rest) = name_of(row)?;
            let mut name = Reader::new(name);
            keys.push(name.block()?);
            values.push(name.rest());
            rest.end()?;
        }
        let keys = self.slots_of(&keys)?;
        let entries = self.values[list].read_values(&keys, &values)?;
        self.values[list].marks.touch(&entries);
        Ok(())
    }
}

/// The name of an element as its key and its time.
fn split_time(name: &[u8]) -> Result<(&[u8], i64), Damage> {
    let (key, time) = name.split_last_chunk::<TIME_BYTES>().ok_or_else(|| Damage::of("a name without a time"))?;
    Ok((key, i64::from_le_bytes(*time)))
}

impl Keeper for State {
    fn tables(&self) -> Vec<u16> {
        let mut tables = Vec::new();
        if self.has_keys() {
            tables.push(KEYS);
        }
        if self.shape.has_lines() {
            tables.push(ELEMENTS);
        }
        if self.waiting.is_some() {
            tables.push(WAITING);
        }
        if self.has_values() {
            tables.extend((0..self.values.len()).map(|list| VALUES + list as u16));
        }
        tables
    }

    fn slots(&self, table: u16) -> usize {
        match (table, self.list_of(table)) {
            (_, Some(list)) => self.values[list].slots(),
            (KEYS, _) => self.index.slots(),
            (ELEMENTS, _) => self.owners.len(),
            _ => self.waiting.as_ref().map_or(0, |waiting| waiting.slots()),
        }
    }

    fn marks(&mut self, table: u16) -> Option<&mut Marks> {
        match (table, self.list_of(table)) {
            (_, Some(list)) => Some(&mut self.values[list].marks),
            (KEYS, _) => Some(&mut self.key_marks),
            (ELEMENTS, _) => Some(&mut self.element_marks),
            _ => self.waiting.as_mut().map(|waiting| &mut waiting.marks),
        }
    }

    fn write(&self, table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        if let Some(list) = self.list_of(table) {
            let values = &self.values[list];
            let there = values.contains(slot);
            if there {
                let start = begin_block(out);
                let inner = begin_block(out);
                self.encoder.pack(&self.index, values.key(slot), out);
                end_block(out, inner);
                values.write_value(slot, out);
                end_block(out, start);
            }
            return Ok(there);
        }
        match table {
            KEYS if self.index.contains(slot) => self.write_key(slot, out).map(|()| true),
            ELEMENTS if self.owners[slot as usize].0 != NONE => self.write_element(slot, out).map(|()| true),
            WAITING => Ok(self.waiting.as_ref().is_some_and(|waiting| waiting.write(slot, out))),
            _ => Ok(false),
        }
    }

    fn route(&self, table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        if let (WAITING, Some(waiting)) = (table, &self.waiting) {
            let columns = waiting.columns(rows)?;
            let keys: Vec<ArrayRef> = waiting.keys().iter().map(|key| columns[*key].clone()).collect();
            return Ok(self.routed(&self.encoder.encode(&keys, rows.len())));
        }
        let keys = rows.iter().map(|row| self.key_of(table, row)).collect::<Result<Vec<_>, _>>()?;
        let keys = self.encoder.unpack(&keys).ok_or_else(|| Damage::of("a key has other types"))?;
        Ok(self.routed(&keys))
    }

    fn restore(&mut self, table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        self.restored = true;
        if let Some(list) = self.list_of(table) {
            return self.restore_values(list, rows);
        }
        if let (WAITING, Some(waiting)) = (table, &mut self.waiting) {
            return waiting.restore(rows);
        }
        let keys = rows.iter().map(|row| self.key_of(table, row)).collect::<Result<Vec<_>, _>>()?;
        let keys = self.slots_of(&keys)?;
        if table == KEYS {
            self.key_marks.touch(&keys);
        }
        for (key, row) in keys.into_iter().zip(rows) {
            let (name, mut rest) = name_of(row)?;
            match table {
                KEYS => self.read_key(key, &mut rest)?,
                _ => self.read_element(key, split_time(name)?.1, &mut rest)?,
            }
        }
        Ok(())
    }

    fn prefer(&mut self, table: u16, slots: Option<Range<u32>>) {
        match (table, self.list_of(table)) {
            (_, Some(list)) => self.values[list].prefer(slots),
            (KEYS, _) => self.index.prefer(slots),
            (ELEMENTS, _) => self.bank.prefer(slots),
            // Rows that wait leave soon.
            _ => {}
        }
    }

    fn settle(&mut self) {
        // What cannot be computed now is told when a step comes to it.
        let _ = self.sweep(self.progress.closed, usize::MAX);
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn resume(&mut self, progress: Progress) {
        self.progress = progress;
    }

    fn keep(&mut self, chunk_slots: usize) {
        if self.has_keys() {
            self.index.note_births();
            self.key_marks = Marks::new(chunk_slots);
        }
        if self.shape.has_lines() {
            self.element_marks = Marks::new(chunk_slots);
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.marks = Marks::new(chunk_slots);
        }
        if self.has_values() {
            self.values.iter_mut().for_each(|values| values.marks = Marks::new(chunk_slots));
        }
    }
}
