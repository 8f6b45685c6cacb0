//! ARRAY_AGG and LISTAGG: all values of a group, in the order of a column.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field};

use super::accumulator::{Family, Rows};
use super::extreme::{add, tree_bytes};
use super::value::{AnyRow, Codec, Words, finish};
use crate::keep::wire::{Damage, Reader};

/// What a collection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A list, nulls kept; null of no rows.
    Array,
    /// A string: values that are not null, joined by the separator column (or a comma).
    Text,
}

/// Collected values in order.
pub(super) struct Collect {
    form: Form,
    /// The value and, for text, the separator.
    columns: Vec<usize>,
    order: Option<(usize, Words)>,
    filter: Option<usize>,
    distinct: bool,
    codec: AnyRow,
    result: DataType,
}

/// What is asked of a collection.
pub(super) struct Ask<'a> {
    /// The form of the result.
    pub form: Form,
    /// Value, separator if any, order if any.
    pub args: &'a [usize],
    /// The columns' types.
    pub types: &'a [DataType],
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// Whether only the first of equal values counts.
    pub distinct: bool,
    /// The type of the result.
    pub result: &'a DataType,
}

impl Collect {
    /// The collection that is asked for; none when a type cannot be kept.
    pub fn of(ask: &Ask<'_>) -> Option<Self> {
        let is_text = |column: &usize| ask.types[*column] == DataType::Utf8;
        let mut columns = vec![ask.args[0]];
        let mut rest = &ask.args[1..];
        if let (Form::Text, Some((separator, after))) = (ask.form, rest.split_first().filter(|(s, _)| is_text(s))) {
            columns.push(*separator);
            rest = after;
        }
        let order = match rest.first() {
            Some(order) => Some((*order, Words::of(&ask.types[*order])?)),
            None => None,
        };
        let codec = AnyRow::of(columns.iter().map(|column| ask.types[*column].clone()).collect())?;
        let (form, filter, distinct, result) = (ask.form, ask.filter, ask.distinct, ask.result.clone());
        Some(Collect { form, columns, order, filter, distinct, codec, result })
    }

    /// The values of a group in order, as often as they are there.
    fn values<'a>(&self, state: &'a State) -> Vec<&'a [u8]> {
        let mut seen = BTreeSet::new();
        let mut values = Vec::new();
        for ((_, value), weight) in state {
            let times =
                if self.distinct { usize::from(*weight > 0 && seen.insert(value)) } else { (*weight).max(0) as usize };
            values.extend(std::iter::repeat_n(value.as_ref(), times));
        }
        values
    }

    fn array(&self, states: &[&State]) -> Result<ArrayRef, ArrowError> {
        let groups: Vec<Vec<&[u8]>> = states.iter().map(|state| self.values(state)).collect();
        let values = self.codec.decode_rows(groups.iter().flatten().copied())?[0].clone();
        let item = match &self.result {
            DataType::List(item) => item.clone(),
            _ => Arc::new(Field::new("item", values.data_type().clone(), true)),
        };
        let values = finish(values, item.data_type())?;
        let nulls: NullBuffer = groups.iter().map(|group| !group.is_empty()).collect();
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let list: ArrayRef = Arc::new(ListArray::try_new(item, offsets, values, Some(nulls))?);
        finish(list, &self.result)
    }

    fn text(&self, states: &[&State]) -> Result<ArrayRef, ArrowError> {
        let mut builder = StringBuilder::new();
        for state in states {
            let columns = self.codec.decode_rows(self.values(state).into_iter())?;
            let texts = cast(&columns[0], &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            let separators = columns.get(1).map(|column| column.as_string::<i32>());
            let mut joined: Option<String> = None;
            for row in (0..texts.len()).filter(|row| texts.is_valid(*row)) {
                joined = Some(match joined {
                    None => texts.value(row).to_string(),
                    Some(before) => {
                        let separator = separators.map_or(",", |separators| separators.value(row));
                        before + separator + texts.value(row)
                    }
                });
            }
            builder.append_option(joined);
        }
        finish(Arc::new(builder.finish()), &self.result)
    }
}

/// (order, value) to how often.
type State = BTreeMap<(i64, Box<[u8]>), i64>;

impl Family for Collect {
    type State = State;

    fn update(&self, states: &mut [State], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let needed = if self.form == Form::Text { &self.columns[..1] } else { &[] };
        let mask = rows.mask(needed, self.filter);
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| rows.columns[*column].clone()).collect();
        let values = self.codec.encode_rows(&columns)?;
        let orders = match &self.order {
            Some((column, words)) => words.encode(&rows.columns[*column])?,
            None => vec![0; values.len()],
        };
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            add(&mut states[slot], (orders[row], values[row].clone()), weight);
        });
        Ok(())
    }

    fn merge(&self, into: &mut State, from: &State) {
        from.iter().for_each(|(key, weight)| add(into, key.clone(), *weight));
    }

    fn evaluate(&self, states: &[&State]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![match self.form {
            Form::Array => self.array(states)?,
            Form::Text => self.text(states)?,
        }])
    }

    fn write(&self, state: &State, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&(state.len() as u32).to_le_bytes());
        if state.is_empty() {
            return Ok(());
        }
        let mut entries = state.iter();
        self.codec.write_rows(state.keys().map(|(_, value)| value.as_ref()), |_, write| {
            if let Some(((order, _), weight)) = entries.next() {
                out.extend_from_slice(&order.to_le_bytes());
                out.extend_from_slice(&weight.to_le_bytes());
                write(out);
            }
        })
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<State, Damage> {
        let count = from.count(16)?;
        let entry = |_| {
            let (order, weight) = (from.i64()?, from.i64()?);
            Ok(((order, self.codec.read_row(from)?), weight))
        };
        (0..count).map(entry).collect()
    }

    fn entries(&self, state: &State) -> usize {
        state.len()
    }

    fn heap_bytes(&self, state: &State) -> usize {
        let values: usize = state.keys().map(|(_, value)| value.len()).sum();
        values + tree_bytes::<(i64, Box<[u8]>), i64>(state.len())
    }

    const FLAT: bool = false;
}
