//! What a step changes in a view: which rows go, and which come in their places.
//!
//! Most changes of a keyed row are one row taken back and then its successor, or one row that comes; those are told by
//! counting. Where rows of one key come and go in another way, the rows themselves are compared and added up.

use std::collections::BTreeMap;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::interleave::interleave;
use arrow_select::take::take_record_batch;
use hashbrown::HashTable;
use tidemill_base::hash;

use super::State;
use super::index::{Identity, Index, NOWHERE, Place, rows_as_bytes};
use crate::delta::Delta;
use crate::key::Keys;

/// A row of a step: which delta, and which row of it.
type Source = (u32, u32);

/// The identities of a step's rows, and their hashes.
pub(super) struct Keyed {
    /// By delta.
    keys: Vec<(Keys, Vec<u64>)>,
}

/// What has been said of one identity in a step.
#[derive(Debug, Clone, Copy)]
struct Touched {
    slot: u32,
    /// The sum of the weights.
    net: i64,
    come: u32,
    gone: u32,
    /// The last row that came, or the first one of any kind where none did.
    last: Source,
    /// Whether a row went after one had come.
    mixed: bool,
}

/// What becomes of one identity.
pub(super) struct Turn {
    /// Its slot.
    pub slot: u32,
    /// Where its row is now, which is gone from this step on.
    pub gone: Option<Place>,
    /// The row that takes its place, and how often it is there.
    pub come: Option<(Source, u32)>,
}

/// Why a step's changes cannot be told.
pub(super) enum Wrong {
    /// A row is taken back that is not there.
    NotThere,
    /// Arrow refused the rows.
    Arrow(ArrowError),
}

impl From<ArrowError> for Wrong {
    fn from(error: ArrowError) -> Self {
        Wrong::Arrow(error)
    }
}

impl Keyed {
    /// The identities of all rows of `deltas`.
    pub fn new(identity: &Identity, deltas: &[Delta]) -> Result<Self, ArrowError> {
        let keyed = |delta: &Delta| {
            let keys = identity.of(delta.batch())?;
            let hashes = keys.hashes();
            Ok((keys, hashes))
        };
        Ok(Keyed { keys: deltas.iter().map(keyed).collect::<Result<_, ArrowError>>()? })
    }

    /// The changes of a step; `by_key` when the identity is a key, under which one row is there at most.
    pub fn turns(&self, deltas: &[Delta], state: &mut State, by_key: bool) -> Result<Vec<Turn>, Wrong> {
        let slots = self.slots(&mut state.index);
        let touched = touched(deltas, &slots);
        let mut turns = Vec::with_capacity(touched.len());
        let mut unclear: BTreeMap<u32, usize> = BTreeMap::new();
        for one in touched {
            let gone = Some(state.index.place(one.slot)).filter(|place| *place != NOWHERE);
            if one.come + one.gone == 0 {
                // Rows of no weight say nothing.
                turns.extend(gone.is_none().then_some(Turn { slot: one.slot, gone, come: None }));
                continue;
            }
            let (come, clear) = match by_key {
                true => one.by_key(deltas, gone.is_some()),
                false => (one.by_values(gone.map_or(0, |place| state.copies(place)))?, true),
            };
            if !clear {
                unclear.insert(one.slot, turns.len());
            }
            // Values that come as often as they go stay where they are.
            if by_key || one.net != 0 || gone.is_none() {
                turns.push(Turn { slot: one.slot, gone, come });
            }
        }
        if !unclear.is_empty() {
            settle(deltas, &slots, &unclear, &mut turns, state)?;
        }
        Ok(turns)
    }

    fn slots(&self, index: &mut Index) -> Vec<Vec<u32>> {
        let slots = |(keys, hashes): &(Keys, Vec<u64>)| {
            let mut slots = Vec::new();
            index.intern(keys, hashes, &mut slots);
            slots
        };
        self.keys.iter().map(slots).collect()
    }
}

impl Touched {
    /// The row that comes under a key, and whether counting tells it.
    fn by_key(&self, deltas: &[Delta], there: bool) -> (Option<(Source, u32)>, bool) {
        let weight = deltas[self.last.0 as usize].weight(self.last.1 as usize);
        let last = Some((self.last, u32::try_from(weight).unwrap_or(1)));
        match (self.come, self.gone) {
            // The row that comes last takes the key's place.
            (_, 0) => (last, true),
            (0, 1) if there => (None, true),
            (1, 1) if there && !self.mixed => (last, true),
            _ => (None, false),
        }
    }

    /// The row that is there when `copies` were.
    fn by_values(&self, copies: i64) -> Result<Option<(Source, u32)>, Wrong> {
        match u32::try_from(copies + self.net) {
            Ok(0) => Ok(None),
            Ok(left) => Ok(Some((self.last, left))),
            Err(_) => Err(Wrong::NotThere),
        }
    }
}

/// What is said of each identity, in the order in which they come.
fn touched(deltas: &[Delta], slots: &[Vec<u32>]) -> Vec<Touched> {
    let mut table: HashTable<u32> = HashTable::new();
    let mut all: Vec<Touched> = Vec::new();
    for (number, (delta, slots)) in deltas.iter().zip(slots).enumerate() {
        for (row, slot) in slots.iter().enumerate() {
            let (weight, source) = (delta.weight(row), (number as u32, row as u32));
            // A row and its successor mostly stand side by side.
            let known = all.len().checked_sub(1).filter(|last| all[*last].slot == *slot);
            let place = known.unwrap_or_else(|| {
                let hash = |place: &u32| hash::word(all[*place as usize].slot.into());
                let entry = table.entry(hash::word((*slot).into()), |place| all[*place as usize].slot == *slot, hash);
                *entry.or_insert(all.len() as u32).get() as usize
            });
            if place == all.len() {
                all.push(Touched { slot: *slot, net: 0, come: 0, gone: 0, last: source, mixed: false });
            }
            let one = &mut all[place];
            one.net += weight;
            match weight {
                0 => {}
                1.. => (one.come, one.last) = (one.come + 1, source),
                _ => (one.gone, one.mixed) = (one.gone + 1, one.mixed || one.come > 0),
            }
        }
    }
    all
}

/// Adds up the rows of the unclear keys, whole row by whole row: one at most is left of each.
fn settle(
    deltas: &[Delta],
    slots: &[Vec<u32>],
    unclear: &BTreeMap<u32, usize>,
    turns: &mut [Turn],
    state: &State,
) -> Result<(), Wrong> {
    /// The net weight of a row, and where it came last; nowhere for the one that is there.
    type Sums = BTreeMap<Vec<u8>, (i64, Option<Source>)>;
    let mut sums: BTreeMap<u32, Sums> = BTreeMap::new();
    for (slot, turn) in unclear {
        let sums = sums.entry(*slot).or_default();
        if let Some(row) = turns[*turn].gone.and_then(|place| state.row(place)) {
            sums.extend(rows_as_bytes(&row, &[0])?.into_iter().map(|bytes| (bytes, (row.weight(0), None))));
        }
    }
    for (number, (delta, slots)) in deltas.iter().zip(slots).enumerate() {
        let rows = (0..delta.rows() as u32).filter(|row| unclear.contains_key(&slots[*row as usize]));
        let rows: Vec<u32> = rows.collect();
        for (row, bytes) in rows.iter().zip(rows_as_bytes(delta, &rows)?) {
            let weight = delta.weight(*row as usize);
            let sum = sums.entry(slots[*row as usize]).or_default().entry(bytes).or_insert((0, None));
            sum.0 += weight;
            if weight > 0 {
                sum.1 = Some((number as u32, *row));
            }
        }
    }
    for (slot, turn) in unclear {
        let turn = &mut turns[*turn];
        let sums = sums.remove(slot).unwrap_or_default();
        if sums.values().any(|(weight, _)| *weight < 0) {
            return Err(Wrong::NotThere);
        }
        // Of more than one the row that came last is there: it took the key's place.
        match sums.into_values().filter(|(weight, _)| *weight > 0).max_by_key(|(_, source)| *source) {
            Some((weight, Some(source))) => turn.come = Some((source, weight as u32)),
            Some((_, None)) => turn.gone = None,
            None => {}
        }
    }
    Ok(())
}

/// The rows that come, one after another.
pub(super) fn gather(schema: &SchemaRef, deltas: &[Delta], rows: &[Source]) -> Result<RecordBatch, ArrowError> {
    if let [only] = deltas {
        let whole = rows.len() == only.rows() && rows.iter().enumerate().all(|(at, (_, row))| at == *row as usize);
        let indices = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        return if whole { Ok(only.batch().clone()) } else { take_record_batch(only.batch(), &indices) };
    }
    let places: Vec<(usize, usize)> = rows.iter().map(|(delta, row)| (*delta as usize, *row as usize)).collect();
    let column = |column: usize| -> Result<ArrayRef, ArrowError> {
        let columns: Vec<&dyn Array> = deltas.iter().map(|delta| delta.column(column).as_ref()).collect();
        interleave(&columns, &places)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}
