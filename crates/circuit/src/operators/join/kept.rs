//! What a join keeps, as tables that are saved.
//!
//! Table 0 has the rows of the left side and table 1 those of the right side, each named by its key; how often it is there
//! where that may be other than once; how many rows of the other side it has met, where that is counted row by row; its
//! values; and when it has changed, where that decides how long it is kept. Of a right side of which nothing else is needed table 1 has the keys, each with the number of its rows.

use std::ops::Range;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::ArrowError;

use super::side::Rows;
use super::state::{State, deadline};
use super::{LEFT, RIGHT};
use crate::delta::NO_SUSPECT;
use crate::keep::keeper::{Keeper, Progress, Route, name_of};
use crate::keep::marks::Marks;
use crate::keep::value::Builder;
use crate::keep::wire::Damage;
use crate::plan::JoinNulls;
use crate::row;

impl State {
    /// Whether a table has the keys of the right side.
    fn is_totals(&self, table: u16) -> bool {
        usize::from(table) == RIGHT && self.design.has_totals_only()
    }

    fn restore_totals(&mut self, rows: &[&[u8]]) -> Result<(), Damage> {
        let mut totals = Vec::with_capacity(rows.len());
        for row in rows {
            let (_, mut rest) = name_of(row)?;
            totals.push(rest.i64()?);
            rest.end()?;
        }
        let slots = self.slots_of(rows)?;
        self.touch_totals(&slots);
        for (slot, total) in slots.into_iter().zip(totals) {
            if !self.add_total(RIGHT, slot, total) {
                return Err(Damage::of("a key has fewer than no rows"));
            }
        }
        Ok(())
    }

    /// The slots of the keys of rows, which are added where they are not there.
    fn slots_of(&mut self, rows: &[&[u8]]) -> Result<Vec<u32>, Damage> {
        let names = rows.iter().map(|row| Ok(name_of(row)?.0)).collect::<Result<Vec<_>, Damage>>()?;
        let slots = self.index.restore(&names, self.design.marks_nulls())?;
        self.welcome();
        Ok(slots)
    }

    /// Notes that numbers of rows are about to change.
    pub fn touch_totals(&mut self, slots: &[u32]) {
        self.total_marks.resize(self.index.slots());
        if let Some(mut wanted) = self.total_marks.touch(slots) {
            while let Some((slot, image)) = wanted.next() {
                self.write_total(slot, image);
            }
            self.total_marks.keep(wanted);
        }
    }

    fn write_total(&self, slot: u32, out: &mut Vec<u8>) -> bool {
        let total = self.totals[RIGHT].get(slot as usize).copied().unwrap_or(0);
        if total == 0 || !self.index.contains(slot) {
            return false;
        }
        self.index.write(slot, out);
        out.extend_from_slice(&total.to_le_bytes());
        true
    }

    fn restore_rows(&mut self, side: usize, rows: &[&[u8]]) -> Result<(), Damage> {
        let (design, shape) = (self.design.clone(), self.sides[side].shape());
        let schema = &design.inputs[side];
        let fields = schema.fields().iter();
        let mut builders = fields.map(|field| Builder::new(field.data_type())).collect::<Result<Vec<_>, _>>()?;
        let (mut weights, mut counts, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let (_, mut rest) = name_of(row)?;
            if shape.merges {
                weights.push(rest.i64()?);
            }
            if shape.counts {
                counts.push(rest.i64()?);
            }
            builders.iter_mut().try_for_each(|builder| builder.read(&mut rest))?;
            // A time is there when it was asked for when the row was saved, or when it was a suspect.
            times.push(if rest.is_empty() { None } else { Some(rest.i64()?) });
            rest.end()?;
        }
        if weights.iter().any(|weight| *weight < 1) {
            return Err(Damage::of("a row is there less than once"));
        }
        let columns = builders.into_iter().map(Builder::finish).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        let slots = self.slots_of(rows)?;
        let deadlines = match design.lifetime(side) {
            Some(lifetime) => {
                times.iter().map(|changed| changed.map_or(i64::MAX, |now| deadline(now, lifetime))).collect()
            }
            None => self.deadlines(side, &batch).map_err(|error| Damage(error.to_string()))?,
        };
        let hashes = if shape.merges { row::hashes(batch.columns(), rows.len()) } else { Vec::new() };
        if design.has_totals(side) {
            for (row, slot) in slots.iter().enumerate() {
                self.add_total(side, *slot, weights.get(row).copied().unwrap_or(1));
            }
        }
        let carried = if shape.suspects {
            times.into_iter().map(|time| time.unwrap_or(NO_SUSPECT)).collect()
        } else {
            Vec::new()
        };
        let rows = Rows { columns: batch.columns().to_vec(), slots, weights, hashes, deadlines, carried };
        let first = self.preferred.take();
        Ok(self.sides[side].restore(&rows, &counts, first)?)
    }
}

impl Keeper for State {
    fn tables(&self) -> Vec<u16> {
        vec![LEFT as u16, RIGHT as u16]
    }

    fn slots(&self, table: u16) -> usize {
        if self.is_totals(table) { self.index.slots() } else { self.sides[usize::from(table)].store.slots() }
    }

    fn marks(&mut self, table: u16) -> Option<&mut Marks> {
        if self.is_totals(table) {
            return Some(&mut self.total_marks);
        }
        self.sides.get_mut(usize::from(table)).map(|side| &mut side.marks)
    }

    fn write(&self, table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        Ok(match self.is_totals(table) {
            true => self.write_total(slot, out),
            false => self.sides[usize::from(table)].write(slot, &self.index, out),
        })
    }

    fn route(&self, _table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        if self.design.spec.left_keys.is_empty() || self.design.spec.nulls == JoinNulls::Unknown {
            return Ok(Route::First);
        }
        let names = rows.iter().map(|row| Ok(name_of(row)?.0)).collect::<Result<Vec<_>, Damage>>()?;
        Ok(Route::ByHash(self.index.hashes(&names)?))
    }

    fn restore(&mut self, table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        match usize::from(table) {
            _ if self.is_totals(table) => self.restore_totals(rows),
            side @ (LEFT | RIGHT) => self.restore_rows(side, rows),
            _ => Err(Damage(format!("there is no table {table}"))),
        }
    }

    fn prefer(&mut self, table: u16, slots: Option<Range<u32>>) {
        if self.is_totals(table) {
            return self.index.prefer(slots);
        }
        if slots.is_none() {
            self.sides[usize::from(table)].store.find_free();
        }
        self.preferred = slots.map(|slots| slots.start);
    }

    fn progress(&self) -> Progress {
        Progress { closed: i64::MIN, started: false }
    }

    fn resume(&mut self, _progress: Progress) {}

    fn keep(&mut self, chunk_slots: usize) {
        self.sides.iter_mut().for_each(|side| side.keep(chunk_slots));
        self.total_marks = Marks::new(chunk_slots);
    }
}
