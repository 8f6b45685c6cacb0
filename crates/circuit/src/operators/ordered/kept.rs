//! What [`Ordered`] keeps, as tables that are saved. Table 0 has the rows, each named by its key, with its weight and its
//! values. Table 1 says, where keys have a time to live, when a row came to each.

use std::ops::Range;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::ArrowError;

use super::Ordered;
use crate::keep::keeper::{Keeper, Progress, Route, name_of};
use crate::keep::marks::Marks;
use crate::keep::value::Builder;
use crate::keep::wire::{Damage, begin_block, end_block};
use crate::key::{KeyEncoder, Keys};

const ROWS: u16 = 0;
const KEYS: u16 = 1;

/// No row is there more often; what says so is damaged.
const WEIGHT_MAX: i64 = u32::MAX as i64;

impl Ordered {
    /// Appends a row as it is saved.
    pub(super) fn write_row(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let record = self.store.get(slot);
        let start = begin_block(out);
        self.layout.encoder.pack(&self.index, record.key, out);
        end_block(out, start);
        out.extend_from_slice(&record.weight.to_le_bytes());
        self.store.write(slot, out)
    }

    fn keys_of(&self, rows: &[&[u8]]) -> Result<Keys, Damage> {
        let names = rows.iter().map(|row| Ok(name_of(row)?.0)).collect::<Result<Vec<_>, Damage>>()?;
        self.layout.encoder.unpack(&names).ok_or_else(|| Damage::of("a key has other types"))
    }

    /// Takes the times at which rows came to keys; without a time to live nobody asks for them.
    fn restore_times(&mut self, keys: &Keys, rows: &[&[u8]]) -> Result<(), Damage> {
        if self.ttl.is_none() {
            return Ok(());
        }
        let mut slots = Vec::new();
        self.index.intern(keys, &keys.hashes(), &mut slots);
        self.welcome(&slots, None);
        self.note_keys(&slots);
        for (slot, row) in slots.into_iter().zip(rows) {
            let (_, mut time) = name_of(row)?;
            let changed = time.i64()?;
            time.end()?;
            if let Some(ttl) = &mut self.ttl {
                ttl.restore(slot, Some(changed));
            }
        }
        Ok(())
    }

    /// The weights and the columns of saved rows.
    fn read(&self, rows: &[&[u8]]) -> Result<(Vec<i64>, Vec<ArrayRef>), Damage> {
        let types = self.layout.schema.fields().iter().map(|field| field.data_type());
        let mut builders = types.map(Builder::new).collect::<Result<Vec<_>, _>>()?;
        let mut weights = Vec::with_capacity(rows.len());
        for row in rows {
            let (_, mut values) = name_of(row)?;
            weights.push(values.i64()?);
            builders.iter_mut().try_for_each(|builder| builder.read(&mut values))?;
            values.end()?;
        }
        let sound = |weight: i64| match self.layout.cut {
            Some(_) => (1..=WEIGHT_MAX).contains(&weight),
            None => weight != 0 && (-WEIGHT_MAX..=WEIGHT_MAX).contains(&weight),
        };
        if let Some(other) = weights.iter().find(|weight| !sound(**weight)) {
            return Err(Damage(format!("a row is there {other} times")));
        }
        Ok((weights, builders.into_iter().map(Builder::finish).collect::<Result<_, _>>()?))
    }
}

impl Keeper for Ordered {
    fn tables(&self) -> Vec<u16> {
        if self.ttl.is_some() { vec![ROWS, KEYS] } else { vec![ROWS] }
    }

    fn slots(&self, table: u16) -> usize {
        if table == KEYS { self.index.slots() } else { self.store.slots() }
    }

    fn marks(&mut self, table: u16) -> Option<&mut Marks> {
        Some(if table == KEYS { &mut self.key_marks } else { &mut self.marks })
    }

    fn write(&self, table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        if table == KEYS {
            return Ok(self.write_key(slot, out));
        }
        let there = self.store.contains(slot);
        if there {
            self.write_row(slot, out)?;
        }
        Ok(there)
    }

    fn route(&self, _table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        let keys = self.keys_of(rows)?;
        let routing = self.layout.routing.unwrap_or(self.layout.keys.len());
        if routing == 0 {
            return Ok(Route::First);
        }
        if routing == self.layout.keys.len() {
            return Ok(Route::ByHash(keys.hashes()));
        }
        let types = self.layout.encoder.types()[..routing].to_vec();
        let encoder = KeyEncoder::new(types).ok_or_else(|| Damage::of("a key that is none"))?;
        let columns = self.layout.encoder.decode(&keys);
        Ok(Route::ByHash(encoder.encode(&columns[..routing], rows.len()).hashes()))
    }

    fn restore(&mut self, table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        let encoded = self.keys_of(rows)?;
        if table == KEYS {
            return self.restore_times(&encoded, rows);
        }
        let (weights, columns) = self.read(rows)?;
        let batch = RecordBatch::try_new(self.layout.schema.clone(), columns)?;
        let mut keys = Vec::new();
        self.index.intern(&encoded, &encoded.hashes(), &mut keys);
        self.welcome(&keys, self.times(&batch).as_deref());
        self.note_keys(&keys);
        if let Some(ttl) = &mut self.ttl {
            // Their times come in another table, or are not known.
            let unknown = keys.iter().copied().filter(|key| ttl.changed(*key).is_none()).collect::<Vec<_>>();
            unknown.into_iter().for_each(|key| ttl.restore(key, None));
        }
        let prefixes = self.layout.order.prefixes(batch.columns(), rows.len());
        let chunk = self.store.open(batch.columns().to_vec(), rows.len());
        for (row, (key, weight)) in keys.iter().zip(weights).enumerate() {
            if self.search(*key, prefixes[row], chunk, row).is_ok() {
                return Err(Damage::of("a row is there twice"));
            }
            self.take(*key, prefixes[row], chunk, row, weight)?;
        }
        self.store.close(chunk)?;
        Ok(Ordered::settle(self)?)
    }

    fn prefer(&mut self, table: u16, slots: Option<Range<u32>>) {
        match table {
            KEYS => self.index.prefer(slots),
            _ => self.store.prefer(slots),
        }
    }

    fn settle(&mut self) {
        let expired = self.take_expired();
        // What cannot be imaged would be lost to a save under way, and there is none.
        self.forget(&expired).unwrap_or_default();
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn resume(&mut self, progress: Progress) {
        self.progress = progress;
    }

    fn keep(&mut self, chunk_slots: usize) {
        self.marks = Marks::new(chunk_slots);
        if self.ttl.is_some() {
            self.index.note_births();
            self.key_marks = Marks::new(chunk_slots);
        }
    }

    fn saved(&mut self) {
        self.store.written();
    }
}
