//! MIN and MAX, FIRST_VALUE and LAST_VALUE.
//!
//! Over rows that are never taken back one value a group is enough ([`Best`]); otherwise all values are kept in order
//! with their weights ([`Sorted`]), and MIN and MAX of one argument share them. FIRST_VALUE and LAST_VALUE are the least
//! and the greatest pair (order, value).

use std::collections::BTreeMap;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Accumulator, Cells, Family, Rows};
use super::value::{AnyRow, Codec, Decimals, Texts, Words};
use crate::keep::wire::{Damage, Reader};

/// Reads what is compared.
pub(super) trait Subject: Send + 'static {
    /// What is compared.
    type Value: Ord + Clone + Send + 'static;

    /// The columns that must not be null.
    fn args(&self) -> &[usize];

    /// The value of each row.
    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Value>, ArrowError>;

    /// The result of values.
    fn result(&self, values: Vec<Option<Self::Value>>) -> Result<ArrayRef, ArrowError>;

    /// Bytes that a value holds on the heap.
    fn heap_bytes(&self, value: &Self::Value) -> usize;

    /// The column of a value on its way to another lane, when it has the column's own form.
    fn partial_type(&self) -> Option<DataType>;

    /// Appends a value in its canonical form.
    fn write(&self, value: &Self::Value, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// Reads what [`Subject::write`] wrote.
    fn read_value(&self, from: &mut Reader<'_>) -> Result<Self::Value, Damage>;
}

/// A column compared by its values.
pub(super) struct ByValue<C> {
    arg: [usize; 1],
    data_type: DataType,
    codec: C,
}

impl<C: Codec> Subject for ByValue<C> {
    type Value = C::Value;

    fn args(&self) -> &[usize] {
        &self.arg
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<C::Value>, ArrowError> {
        self.codec.encode(&columns[self.arg[0]])
    }

    fn result(&self, values: Vec<Option<C::Value>>) -> Result<ArrayRef, ArrowError> {
        self.codec.decode(values)
    }

    fn heap_bytes(&self, value: &C::Value) -> usize {
        self.codec.heap_bytes(value)
    }

    fn partial_type(&self) -> Option<DataType> {
        Some(self.data_type.clone())
    }

    fn write(&self, value: &C::Value, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.codec.write(value, out)
    }

    fn read_value(&self, from: &mut Reader<'_>) -> Result<C::Value, Damage> {
        Codec::read(&self.codec, from)
    }
}

/// A column whose values come in the order of another column.
pub(super) struct ByOrder {
    args: Vec<usize>,
    order: Option<Words>,
    codec: AnyRow,
}

impl Subject for ByOrder {
    type Value = (i64, Box<[u8]>);

    fn args(&self) -> &[usize] {
        &self.args[..1]
    }

    fn read(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Value>, ArrowError> {
        let values = self.codec.encode(&columns[self.args[0]])?;
        let orders = match &self.order {
            Some(order) => order.encode(&columns[self.args[1]])?,
            None => vec![0; values.len()],
        };
        Ok(orders.into_iter().zip(values).collect())
    }

    fn result(&self, values: Vec<Option<Self::Value>>) -> Result<ArrayRef, ArrowError> {
        self.codec.decode(values.into_iter().map(|value| value.map(|(_, value)| value)).collect())
    }

    fn heap_bytes(&self, value: &Self::Value) -> usize {
        value.1.len()
    }

    fn partial_type(&self) -> Option<DataType> {
        None
    }

    fn write(&self, (order, value): &Self::Value, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&order.to_le_bytes());
        self.codec.write(value, out)
    }

    fn read_value(&self, from: &mut Reader<'_>) -> Result<Self::Value, Damage> {
        Ok((from.i64()?, Codec::read(&self.codec, from)?))
    }
}

/// The best value so far, of rows that are never taken back.
pub(super) struct Best<S: Subject> {
    subject: S,
    filter: Option<usize>,
    greatest: bool,
}

impl<S: Subject> Best<S> {
    #[inline]
    fn offer(&self, best: &mut Option<S::Value>, value: &S::Value) {
        let better = match best {
            None => true,
            Some(best) if self.greatest => value > best,
            Some(best) => value < best,
        };
        if better {
            *best = Some(value.clone());
        }
    }
}

impl<S: Subject> Family for Best<S> {
    type State = Option<S::Value>;

    fn update(&self, states: &mut [Self::State], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(self.subject.args(), self.filter);
        let values = self.subject.read(rows.columns)?;
        rows.each(slots, mask.as_ref(), |row, slot, _| self.offer(&mut states[slot], &values[row]));
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) {
        if let Some(value) = from {
            self.offer(into, value);
        }
    }

    fn evaluate(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![self.subject.result(states.iter().map(|state| (*state).clone()).collect())?])
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        self.subject.partial_type().map(|data_type| vec![data_type])
    }

    fn partial(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.evaluate(states)
    }

    fn merge_partial(&self, states: &mut [Self::State], slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let column = &columns[0];
        // The partial column stands where the argument does.
        let arguments = vec![column.clone(); self.subject.args()[0] + 1];
        let values = self.subject.read(&arguments)?;
        let rows = Rows { columns: &arguments, weights: None };
        let mask = rows.mask(self.subject.args(), None);
        rows.each(slots, mask.as_ref(), |row, slot, _| self.offer(&mut states[slot], &values[row]));
        Ok(())
    }

    fn write(&self, state: &Self::State, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.push(u8::from(state.is_some()));
        state.as_ref().map_or(Ok(()), |value| self.subject.write(value, out))
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Self::State, Damage> {
        if from.u8()? == 0 { Ok(None) } else { self.subject.read_value(from).map(Some) }
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, |value| self.subject.heap_bytes(value))
    }

    const FLAT: bool = false;
}

/// [`Best`] of strings: a row is compared where it lies, and copied only when it is better.
struct BestText {
    arg: usize,
    filter: Option<usize>,
    greatest: bool,
    data_type: DataType,
}

impl BestText {
    #[inline]
    fn offer(&self, best: &mut Option<Box<[u8]>>, value: &[u8]) {
        let better = match best {
            None => true,
            Some(best) if self.greatest => value > best.as_ref(),
            Some(best) => value < best.as_ref(),
        };
        if better {
            *best = Some(value.into());
        }
    }

    fn take(
        &self,
        states: &mut [Option<Box<[u8]>>],
        slots: &[u32],
        rows: &Rows<'_>,
        arg: usize,
        filter: Option<usize>,
    ) {
        let mask = rows.mask(&[arg], filter);
        match self.data_type {
            DataType::Utf8 => {
                let values = rows.columns[arg].as_string::<i32>();
                rows.each(slots, mask.as_ref(), |row, slot, _| {
                    self.offer(&mut states[slot], values.value(row).as_bytes());
                });
            }
            _ => {
                let values = rows.columns[arg].as_binary::<i32>();
                rows.each(slots, mask.as_ref(), |row, slot, _| self.offer(&mut states[slot], values.value(row)));
            }
        }
    }
}

impl Family for BestText {
    type State = Option<Box<[u8]>>;

    fn update(&self, states: &mut [Self::State], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        self.take(states, slots, rows, self.arg, self.filter);
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) {
        if let Some(value) = from {
            self.offer(into, value);
        }
    }

    fn evaluate(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![Texts(self.data_type.clone()).column(states.iter().map(|state| state.as_deref()))?])
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![self.data_type.clone()])
    }

    fn partial(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.evaluate(states)
    }

    fn merge_partial(&self, states: &mut [Self::State], slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.take(states, slots, &Rows { columns, weights: None }, 0, None);
        Ok(())
    }

    fn write(&self, state: &Self::State, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.push(u8::from(state.is_some()));
        state.as_ref().map_or(Ok(()), |value| Texts(self.data_type.clone()).write(value, out))
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Self::State, Damage> {
        if from.u8()? == 0 { Ok(None) } else { Codec::read(&Texts(self.data_type.clone()), from).map(Some) }
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, |value| value.len())
    }

    const FLAT: bool = false;
}

/// All values in order, with their weights.
pub(super) struct Sorted<S: Subject> {
    subject: S,
    filter: Option<usize>,
    /// For each call whether it asks for the greatest.
    greatest: Vec<bool>,
}

impl<S: Subject> Family for Sorted<S> {
    type State = BTreeMap<S::Value, i64>;

    fn update(&self, states: &mut [Self::State], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(self.subject.args(), self.filter);
        let values = self.subject.read(rows.columns)?;
        rows.each(slots, mask.as_ref(), |row, slot, weight| add(&mut states[slot], values[row].clone(), weight));
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) {
        from.iter().for_each(|(value, weight)| add(into, value.clone(), *weight));
    }

    fn evaluate(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError> {
        let pick = |state: &Self::State, greatest: bool| {
            let present = |(value, weight): (&S::Value, &i64)| (*weight > 0).then(|| value.clone());
            if greatest { state.iter().rev().find_map(present) } else { state.iter().find_map(present) }
        };
        let column = |greatest: &bool| self.subject.result(states.iter().map(|state| pick(state, *greatest)).collect());
        self.greatest.iter().map(column).collect()
    }

    fn write(&self, state: &Self::State, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&(state.len() as u32).to_le_bytes());
        state.iter().try_for_each(|(value, weight)| {
            out.extend_from_slice(&weight.to_le_bytes());
            self.subject.write(value, out)
        })
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Self::State, Damage> {
        let count = from.count(8)?;
        let entry = |_| {
            let weight = from.i64()?;
            Ok((self.subject.read_value(from)?, weight))
        };
        (0..count).map(entry).collect()
    }

    fn entries(&self, state: &Self::State) -> usize {
        state.len()
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        let heap: usize = state.keys().map(|value| self.subject.heap_bytes(value)).sum();
        heap + tree_bytes::<S::Value, i64>(state.len())
    }

    const FLAT: bool = false;
}

/// Adds `weight` to an entry, which goes when nothing is left of it.
pub(super) fn add<K: Ord>(map: &mut BTreeMap<K, i64>, key: K, weight: i64) {
    use std::collections::btree_map::Entry;
    match map.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(weight);
        }
        Entry::Occupied(mut entry) => {
            *entry.get_mut() += weight;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// About what a B-tree of so many entries takes: nodes hold 11 and are two thirds full on average.
pub(super) fn tree_bytes<K, V>(entries: usize) -> usize {
    entries * (size_of::<K>() + size_of::<V>()) * 3 / 2 + entries / 7 * 16
}

/// What is asked of MIN / MAX or FIRST_VALUE / LAST_VALUE.
pub(super) struct Ask<'a> {
    /// The argument, and the order's column for first and last.
    pub args: &'a [usize],
    /// The columns' types.
    pub types: &'a [DataType],
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// For each call whether it asks for the greatest or last.
    pub greatest: Vec<bool>,
    /// Whether no row is ever taken back; then there is one call.
    pub append_only: bool,
}

impl Ask<'_> {
    fn with<S: Subject>(&self, subject: S) -> Box<dyn Accumulator> {
        if self.append_only {
            Box::new(Cells::new(Best { subject, filter: self.filter, greatest: self.greatest[0] }))
        } else {
            Box::new(Cells::new(Sorted { subject, filter: self.filter, greatest: self.greatest.clone() }))
        }
    }

    /// MIN and MAX; none when the type has no order.
    pub fn by_value(&self) -> Option<Box<dyn Accumulator>> {
        let (arg, data_type) = ([self.args[0]], self.types[self.args[0]].clone());
        let (word, text) = (Words::of(&data_type), matches!(data_type, DataType::Utf8 | DataType::Binary));
        Some(match (word, &data_type) {
            (Some(codec), _) => self.with(ByValue { arg, codec, data_type }),
            (_, DataType::Decimal128(_, _)) => {
                self.with(ByValue { arg, codec: Decimals(data_type.clone()), data_type })
            }
            _ if text && self.append_only => Box::new(Cells::new(BestText {
                arg: arg[0],
                filter: self.filter,
                greatest: self.greatest[0],
                data_type,
            })),
            _ if text => self.with(ByValue { arg, codec: Texts(data_type.clone()), data_type }),
            _ => self.with(ByValue { arg, codec: AnyRow::of(vec![data_type.clone()])?, data_type }),
        })
    }

    /// FIRST_VALUE and LAST_VALUE; none when a type cannot be kept.
    pub fn by_order(&self) -> Option<Box<dyn Accumulator>> {
        let order = match self.args.get(1) {
            Some(order) => Some(Words::of(&self.types[*order])?),
            None => None,
        };
        let codec = AnyRow::of(vec![self.types[self.args[0]].clone()])?;
        Some(self.with(ByOrder { args: self.args.to_vec(), order, codec }))
    }
}
