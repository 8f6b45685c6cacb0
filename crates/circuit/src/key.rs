//! Keys: the canonical bytes of grouping columns, their stable hash, and an index from key to group.
//!
//! A key is written the same way on every machine and in every version: fixed-width values little-endian, strings with
//! their length, one null bit a column. Keys of at most 8 or 16 bytes are held as one integer, longer ones as bytes.
//! [`KeyEncoder`] writes the keys of a batch, [`KeyIndex`] numbers the distinct ones, [`KeyEncoder::decode`] turns them
//! back into columns.

use std::sync::Arc;

use arrow_array::builder::BooleanBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray, downcast_primitive_array, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_data::ArrayData;
use arrow_schema::DataType;
use tidemill_base::hash;

mod index;

pub use index::KeyIndex;

/// The keys of a batch's rows.
#[derive(Debug, Clone)]
pub enum Keys {
    /// At most 8 bytes each.
    Word(Vec<u64>),
    /// At most 16 bytes each.
    Wide(Vec<u128>),
    /// Any length: row i is `data[offsets[i]..offsets[i + 1]]`.
    Bytes {
        /// The keys one after another.
        data: Vec<u8>,
        /// Where each starts, and the end.
        offsets: Vec<usize>,
    },
}

impl Keys {
    /// The number of keys.
    pub fn len(&self) -> usize {
        match self {
            Keys::Word(keys) => keys.len(),
            Keys::Wide(keys) => keys.len(),
            Keys::Bytes { offsets, .. } => offsets.len() - 1,
        }
    }

    /// True when there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stable hash of each key.
    pub fn hashes(&self) -> Vec<u64> {
        match self {
            Keys::Word(keys) => keys.iter().map(|key| hash::word(*key)).collect(),
            Keys::Wide(keys) => keys.iter().map(|key| hash_wide(*key)).collect(),
            Keys::Bytes { data, offsets } => {
                offsets.windows(2).map(|ends| hash::bytes(&data[ends[0]..ends[1]])).collect()
            }
        }
    }
}

fn hash_wide(key: u128) -> u64 {
    hash::words(key as u64, (key >> 64) as u64)
}

/// The hash of a key that is one value of 8 bytes: a byte of null bits, and the value.
pub(crate) fn hash_word(word: Option<u64>) -> u64 {
    hash_wide(word.map_or(1, |word| u128::from(word) << 8))
}

/// The same of a DOUBLE.
pub(crate) fn hash_f64(value: f64) -> u64 {
    hash_word(Some(canonical_f64(value.to_le_bytes())))
}

/// How one column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// So many little-endian bytes.
    Fixed(usize),
    /// One byte, 0 or 1.
    Boolean,
    /// A 4-byte length and the bytes.
    Variable,
}

/// Writes the keys of batches; made once for the types of the key columns.
#[derive(Debug, Clone)]
pub struct KeyEncoder {
    types: Vec<DataType>,
    parts: Vec<Part>,
    width: Option<usize>,
}

impl KeyEncoder {
    /// An encoder for columns of these types; none when one of them cannot be a key.
    pub fn new(types: Vec<DataType>) -> Option<Self> {
        let parts = types.iter().map(part).collect::<Option<Vec<_>>>()?;
        let fixed: Option<usize> = parts
            .iter()
            .map(|part| match part {
                Part::Fixed(bytes) => Some(*bytes),
                Part::Boolean => Some(1),
                Part::Variable => None,
            })
            .sum();
        let width = fixed.map(|fixed| fixed + types.len().div_ceil(8)).filter(|width| *width <= 16);
        Some(KeyEncoder { types, parts, width })
    }

    /// The types of the key columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The keys of each row; `columns` have the encoder's types, and `rows` values each.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Keys {
        debug_assert!(columns.iter().zip(&self.types).all(|(column, data_type)| column.data_type() == data_type));
        match self.width {
            Some(width) if width <= 8 && !self.types.is_empty() => {
                Keys::Word(self.encode_wide(columns, rows).into_iter().map(|key| key as u64).collect())
            }
            Some(0) => Keys::Word(vec![0; rows]),
            Some(_) => Keys::Wide(self.encode_wide(columns, rows)),
            None => self.encode_bytes(columns, rows),
        }
    }

    /// [`KeyEncoder::encode`] of some columns of a batch.
    pub fn encode_batch(&self, batch: &RecordBatch, columns: &[usize]) -> Keys {
        let columns: Vec<ArrayRef> = columns.iter().map(|column| batch.column(*column).clone()).collect();
        self.encode(&columns, batch.num_rows())
    }

    /// Null bits lowest, then the values in order: the little-endian bytes are those of the byte form.
    fn encode_wide(&self, columns: &[ArrayRef], rows: usize) -> Vec<u128> {
        let mut keys = vec![0_u128; rows];
        let mut shift = 8 * self.types.len().div_ceil(8);
        for (index, (column, part)) in columns.iter().zip(&self.parts).enumerate() {
            fill_wide(&mut keys, column, *part, shift);
            if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
                let width = part_width(*part);
                let mask = !((if width == 16 { u128::MAX } else { (1 << (8 * width)) - 1 }) << shift);
                for (row, key) in keys.iter_mut().enumerate() {
                    if nulls.is_null(row) {
                        *key = (*key & mask) | (1 << index);
                    }
                }
            }
            shift += 8 * part_width(*part);
        }
        keys
    }

    fn encode_bytes(&self, columns: &[ArrayRef], rows: usize) -> Keys {
        let columns: Vec<Reader<'_>> = columns.iter().zip(&self.parts).map(|(c, part)| Reader::new(c, *part)).collect();
        let null_bytes = self.types.len().div_ceil(8);
        let mut data = Vec::with_capacity(rows * null_bytes + columns.iter().map(|c| c.bytes_max(rows)).sum::<usize>());
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        for row in 0..rows {
            let start = data.len();
            data.resize(start + null_bytes, 0);
            for (index, column) in columns.iter().enumerate() {
                if !column.write(row, &mut data) {
                    data[start + index / 8] |= 1 << (index % 8);
                }
            }
            offsets.push(data.len());
        }
        Keys::Bytes { data, offsets }
    }

    /// Whether keys are of any length.
    pub(crate) fn is_long(&self) -> bool {
        self.width.is_none()
    }

    /// The hashes of keys whose first columns are `written`, by an encoder of those alone that writes as many null bytes;
    /// `more` are the other columns.
    pub(crate) fn hashes_after(&self, written: &BinaryArray, more: &[ArrayRef]) -> Vec<u64> {
        let first = self.types.len() - more.len();
        let columns = more.iter().zip(&self.parts[first..]).map(|(column, part)| Reader::new(column, *part));
        let columns: Vec<Reader<'_>> = columns.collect();
        let mut key = Vec::new();
        let hash = |row: usize| {
            key.clear();
            key.extend_from_slice(written.value(row));
            for (index, column) in (first..).zip(&columns) {
                if !column.write(row, &mut key) {
                    key[index / 8] |= 1 << (index % 8);
                }
            }
            hash::bytes(&key)
        };
        (0..written.len()).map(hash).collect()
    }

    /// The columns of `keys`, which this encoder (or one of equal types) has written.
    pub fn decode(&self, keys: &Keys) -> Vec<ArrayRef> {
        let mut columns: Vec<Writer> =
            self.types.iter().zip(&self.parts).map(|(t, part)| Writer::new(t, *part)).collect();
        let null_bytes = self.types.len().div_ceil(8);
        let mut read = |bytes: &[u8]| {
            let mut at = null_bytes;
            for (index, column) in columns.iter_mut().enumerate() {
                let null = bytes[index / 8] & (1 << (index % 8)) != 0;
                at += column.read(&bytes[at..], null, self.width.is_some());
            }
        };
        match keys {
            _ if self.types.is_empty() => {}
            Keys::Word(keys) => keys.iter().for_each(|key| read(&key.to_le_bytes())),
            Keys::Wide(keys) => keys.iter().for_each(|key| read(&key.to_le_bytes())),
            Keys::Bytes { data, offsets } => offsets.windows(2).for_each(|ends| read(&data[ends[0]..ends[1]])),
        }
        columns.into_iter().map(Writer::finish).collect()
    }
}

impl KeyEncoder {
    /// Appends the bytes of the key in `slot` of an index that holds this encoder's keys.
    pub fn pack(&self, index: &KeyIndex, slot: u32, out: &mut Vec<u8>) {
        index.with_bytes(slot, |bytes| out.extend_from_slice(&bytes[..self.width.unwrap_or(bytes.len())]));
    }

    /// The first column of a key, which is a `UInt32` that is not null.
    pub(crate) fn leading_u32(&self, index: &KeyIndex, slot: u32) -> u32 {
        let nulls = self.types.len().div_ceil(8);
        index.with_bytes(slot, |bytes| bytes[nulls..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    /// The keys of bytes that [`KeyEncoder::pack`] gave; none when some are no key of this encoder.
    pub fn unpack(&self, packed: &[&[u8]]) -> Option<Keys> {
        if !packed.iter().all(|key| self.is_key(key)) {
            return None;
        }
        let wide = |key: &&[u8]| {
            let mut bytes = [0; 16];
            bytes[..key.len()].copy_from_slice(key);
            u128::from_le_bytes(bytes)
        };
        Some(match self.width {
            Some(width) if width <= 8 => Keys::Word(packed.iter().map(|key| wide(key) as u64).collect()),
            Some(_) => Keys::Wide(packed.iter().map(wide).collect()),
            None => {
                let mut offsets = Vec::with_capacity(packed.len() + 1);
                offsets.push(0);
                let mut data = Vec::with_capacity(packed.iter().map(|key| key.len()).sum());
                for key in packed {
                    data.extend_from_slice(key);
                    offsets.push(data.len());
                }
                Keys::Bytes { data, offsets }
            }
        })
    }

    /// Whether these are the bytes of a key.
    fn is_key(&self, bytes: &[u8]) -> bool {
        if let Some(width) = self.width {
            return bytes.len() == width;
        }
        let Some((nulls, mut rest)) = bytes.split_at_checked(self.types.len().div_ceil(8)) else { return false };
        for (index, part) in self.parts.iter().enumerate() {
            if nulls[index / 8] & (1 << (index % 8)) != 0 {
                continue;
            }
            let length = match part {
                Part::Fixed(width) => Some(*width),
                Part::Boolean => Some(1),
                Part::Variable => variable(rest, false).map(|value| 4 + value.len()),
            };
            match length.and_then(|length| rest.split_at_checked(length)) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

fn part(data_type: &DataType) -> Option<Part> {
    use DataType::*;
    Some(match data_type {
        Boolean => Part::Boolean,
        Int8 | UInt8 => Part::Fixed(1),
        Int16 | UInt16 | Float16 => Part::Fixed(2),
        Int32 | UInt32 | Float32 | Date32 | Time32(_) => Part::Fixed(4),
        Int64 | UInt64 | Float64 | Date64 | Time64(_) | Timestamp(_, _) | Duration(_) => Part::Fixed(8),
        Decimal128(_, _) => Part::Fixed(16),
        Utf8 | Binary => Part::Variable,
        _ => return None,
    })
}

fn part_width(part: Part) -> usize {
    match part {
        Part::Fixed(width) => width,
        Part::Boolean => 1,
        Part::Variable => 0,
    }
}

/// Adds a column's values, little-endian, to `keys` from bit `shift` on.
fn fill_wide(keys: &mut [u128], column: &ArrayRef, part: Part, shift: usize) {
    if part == Part::Boolean {
        for (key, value) in keys.iter_mut().zip(column.as_boolean().values()) {
            *key |= u128::from(value) << shift;
        }
        return;
    }
    let width = part_width(part);
    let buffer = bytes_of(column, width);
    let bytes = &buffer.as_slice()[..keys.len() * width];
    match (column.data_type(), width) {
        (DataType::Float32, _) => fill(keys, bytes, shift, |value: [u8; 4]| canonical_f32(value).into()),
        (DataType::Float64, _) => fill(keys, bytes, shift, |value: [u8; 8]| canonical_f64(value).into()),
        (_, 1) => fill(keys, bytes, shift, |value: [u8; 1]| value[0].into()),
        (_, 2) => fill(keys, bytes, shift, |value| u16::from_le_bytes(value).into()),
        (_, 4) => fill(keys, bytes, shift, |value| u32::from_le_bytes(value).into()),
        (_, 8) => fill(keys, bytes, shift, |value| u64::from_le_bytes(value).into()),
        _ => fill(keys, bytes, shift, u128::from_le_bytes),
    }
}

/// The bytes of a column of values of `width` bytes, from its first row on.
fn bytes_of(column: &ArrayRef, width: usize) -> Buffer {
    let column = column.as_ref();
    downcast_primitive_array!(
        column => column.values().inner().clone(),
        _ => {
            let data = column.to_data();
            data.buffers()[0].slice(data.offset() * width)
        }
    )
}

fn fill<const N: usize>(keys: &mut [u128], bytes: &[u8], shift: usize, read: impl Fn([u8; N]) -> u128) {
    let (values, _) = bytes.as_chunks::<N>();
    for (key, value) in keys.iter_mut().zip(values) {
        *key |= read(*value) << shift;
    }
}

/// The bits of a float that stand for it in a key: one zero and one NaN.
fn canonical_f64(bytes: [u8; 8]) -> u64 {
    let value = f64::from_le_bytes(bytes);
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

fn canonical_f32(bytes: [u8; 4]) -> u32 {
    let value = f32::from_le_bytes(bytes);
    if value.is_nan() { f32::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

/// Reads one column's values as key bytes.
enum Reader<'a> {
    Fixed { width: usize, float: bool, buffer: Buffer, nulls: Option<&'a NullBuffer> },
    Boolean(&'a arrow_array::BooleanArray),
    Text(&'a arrow_array::StringArray),
    Binary(&'a arrow_array::BinaryArray),
}

impl<'a> Reader<'a> {
    fn new(column: &'a ArrayRef, part: Part) -> Self {
        match (part, column.data_type()) {
            (Part::Boolean, _) => Reader::Boolean(column.as_boolean()),
            (Part::Variable, DataType::Utf8) => Reader::Text(column.as_string()),
            (Part::Variable, _) => Reader::Binary(column.as_binary()),
            (Part::Fixed(width), data_type) => {
                let data = column.to_data();
                let buffer = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                let float = matches!(data_type, DataType::Float32 | DataType::Float64);
                Reader::Fixed { width, float, buffer, nulls: column.nulls() }
            }
        }
    }

    /// The most bytes that `rows` values take.
    fn bytes_max(&self, rows: usize) -> usize {
        match self {
            Reader::Fixed { width, .. } => rows * width,
            Reader::Boolean(_) => rows,
            Reader::Text(values) => 4 * rows + variable_bytes(values.value_offsets()),
            Reader::Binary(values) => 4 * rows + variable_bytes(values.value_offsets()),
        }
    }

    /// Appends the value of `row`; false when it is null, and then nothing was appended.
    fn write(&self, row: usize, out: &mut Vec<u8>) -> bool {
        match self {
            Reader::Fixed { width, float, buffer, nulls } => {
                if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                    return false;
                }
                let value = &buffer.as_slice()[row * width..(row + 1) * width];
                // What is so many bytes for all rows is copied faster when that is known here.
                match (width, value.first_chunk::<8>(), value.first_chunk::<4>()) {
                    (8, Some(value), _) if *float => out.extend_from_slice(&canonical_f64(*value).to_le_bytes()),
                    (4, _, Some(value)) if *float => out.extend_from_slice(&canonical_f32(*value).to_le_bytes()),
                    (8, Some(value), _) => out.extend_from_slice(value),
                    (4, _, Some(value)) => out.extend_from_slice(value),
                    _ => out.extend_from_slice(value),
                }
            }
            Reader::Boolean(values) => {
                if values.is_null(row) {
                    return false;
                }
                out.push(u8::from(values.value(row)));
            }
            Reader::Text(values) => return write_variable(values.is_null(row), values.value(row).as_bytes(), out),
            Reader::Binary(values) => return write_variable(values.is_null(row), values.value(row), out),
        }
        true
    }
}

fn variable_bytes(offsets: &[i32]) -> usize {
    offsets.first().zip(offsets.last()).map_or(0, |(first, last)| (last - first) as usize)
}

fn write_variable(null: bool, value: &[u8], out: &mut Vec<u8>) -> bool {
    if !null {
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(value);
    }
    !null
}

/// Collects one column's values from key bytes.
enum Writer {
    Fixed { data_type: DataType, width: usize, values: Vec<u8>, valid: Vec<bool> },
    Boolean(BooleanBuilder),
    Text(Variable),
    Binary(Variable),
}

/// Values of any length, one after another.
#[derive(Default)]
struct Variable {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    valid: Vec<bool>,
}

impl Writer {
    fn new(data_type: &DataType, part: Part) -> Self {
        match (part, data_type) {
            (Part::Boolean, _) => Writer::Boolean(BooleanBuilder::new()),
            (Part::Variable, DataType::Utf8) => Writer::Text(Variable::default()),
            (Part::Variable, _) => Writer::Binary(Variable::default()),
            (Part::Fixed(width), data_type) => {
                Writer::Fixed { data_type: data_type.clone(), width, values: Vec::new(), valid: Vec::new() }
            }
        }
    }

    /// Reads a value and returns its length; with `padded` a null takes its place as well.
    fn read(&mut self, bytes: &[u8], null: bool, padded: bool) -> usize {
        match self {
            Writer::Fixed { width, values, valid, .. } => {
                valid.push(!null);
                if null {
                    values.resize(values.len() + *width, 0);
                    return if padded { *width } else { 0 };
                }
                values.extend_from_slice(&bytes[..*width]);
                *width
            }
            Writer::Boolean(builder) => {
                builder.append_option((!null).then(|| bytes[0] != 0));
                usize::from(!null || padded)
            }
            Writer::Text(values) | Writer::Binary(values) => values.push(variable(bytes, null)),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Writer::Boolean(mut builder) => Arc::new(builder.finish()),
            Writer::Text(values) => {
                let (offsets, bytes, nulls) = values.parts();
                match StringArray::try_new(offsets.clone(), bytes.clone(), nulls.clone()) {
                    Ok(texts) => Arc::new(texts),
                    // Damaged state alone has keys that are no text.
                    Err(_) => Arc::new(
                        BinaryArray::new(offsets, bytes, nulls)
                            .iter()
                            .map(|value| value.map(String::from_utf8_lossy))
                            .collect::<StringArray>(),
                    ),
                }
            }
            Writer::Binary(values) => {
                let (offsets, bytes, nulls) = values.parts();
                Arc::new(BinaryArray::new(offsets, bytes, nulls))
            }
            Writer::Fixed { data_type, values, valid, .. } => fixed_column(data_type, values, valid),
        }
    }
}

impl Variable {
    /// Adds a value, and returns its length in a key.
    fn push(&mut self, value: Option<&[u8]>) -> usize {
        self.valid.push(value.is_some());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.offsets.push(self.bytes.len() as i32);
        value.map_or(0, |value| 4 + value.len())
    }

    fn parts(self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let nulls = NullBuffer::from(self.valid);
        let offsets: Vec<i32> = std::iter::once(0).chain(self.offsets).collect();
        (OffsetBuffer::new(offsets.into()), self.bytes.into(), (nulls.null_count() > 0).then_some(nulls))
    }
}

fn variable(bytes: &[u8], null: bool) -> Option<&[u8]> {
    if null {
        return None;
    }
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.get(..u32::from_le_bytes(*length) as usize)
}

fn fixed_column(data_type: DataType, values: Vec<u8>, valid: Vec<bool>) -> ArrayRef {
    let rows = valid.len();
    let nulls = NullBuffer::new(BooleanBuffer::from(valid));
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    // `Buffer::from_slice_ref` copies into memory aligned for every type.
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .add_buffer(Buffer::from_slice_ref(&values))
        .nulls(nulls)
        .build();
    match data {
        Ok(data) => make_array(data),
        Err(_) => arrow_array::new_null_array(&data_type, rows),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};

    use super::*;

    fn round_trip(columns: Vec<ArrayRef>) -> Keys {
        let encoder = KeyEncoder::new(columns.iter().map(|column| column.data_type().clone()).collect());
        let encoder = encoder.expect("these types can be keys");
        let rows = columns[0].len();
        let keys = encoder.encode(&columns, rows);
        assert_eq!(keys.len(), rows);
        assert_eq!(encoder.decode(&keys), columns);
        let mut index = KeyIndex::default();
        let mut slots = Vec::new();
        index.intern(&keys, &keys.hashes(), &mut slots);
        assert_eq!(encoder.decode(&index.keys(&slots)), columns);
        keys
    }

    #[test]
    fn short_keys_are_words() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(-1), Some(0)]));
        assert!(matches!(round_trip(vec![column]), Keys::Word(keys) if keys[1] != keys[3]));
    }

    #[test]
    fn a_nullable_long_is_wide() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(-1)]));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
        assert!(matches!(round_trip(vec![column, flags]), Keys::Wide(_)));
    }

    #[test]
    fn strings_are_bytes_and_keep_their_borders() {
        let left: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), Some("a"), None, Some("")]));
        let right: ArrayRef = Arc::new(StringArray::from(vec![Some("c"), Some("bc"), Some(""), None]));
        let keys = round_trip(vec![left, right]);
        let hashes = keys.hashes();
        assert!((1..4).all(|row| hashes[row] != hashes[0]));
    }

    #[test]
    fn a_key_goes_on_where_its_first_columns_end() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), None, Some("")]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(-1), None]));
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![None, Some(true), Some(false)]));
        let encoder = |columns: &[ArrayRef]| {
            let types = columns.iter().map(|column| column.data_type().clone()).collect();
            KeyEncoder::new(types).expect("these types can be keys")
        };
        let Keys::Bytes { data, offsets } = encoder(std::slice::from_ref(&text)).encode(std::slice::from_ref(&text), 3)
        else {
            panic!("texts are bytes");
        };
        let written: BinaryArray = offsets.windows(2).map(|ends| Some(&data[ends[0]..ends[1]])).collect();
        let all = [text, number, flag];
        assert_eq!(encoder(&all).hashes_after(&written, &all[1..]), encoder(&all).encode(&all, 3).hashes());
    }

    #[test]
    fn zeros_and_nans_are_one_key_each() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
        let encoder = KeyEncoder::new(vec![DataType::Float64]).expect("floats can be keys");
        let hashes = encoder.encode(&[column], 4).hashes();
        assert_eq!(hashes[0], hashes[1]);
        assert_eq!(hashes[2], hashes[3]);
    }

    #[test]
    fn removed_slots_are_given_again() {
        let encoder = KeyEncoder::new(vec![DataType::Utf8]).expect("strings can be keys");
        let mut index = KeyIndex::default();
        let mut slots = Vec::new();
        let mut intern = |index: &mut KeyIndex, words: Vec<&str>| {
            let column: ArrayRef = Arc::new(StringArray::from(words));
            let keys = encoder.encode(std::slice::from_ref(&column), column.len());
            index.intern(&keys, &keys.hashes(), &mut slots);
            slots.clone()
        };
        assert_eq!(intern(&mut index, vec!["a", "b", "a"]), [0, 1, 0]);
        index.remove(0);
        assert_eq!(intern(&mut index, vec!["c", "b", "a"]), [0, 1, 2]);
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn slices_are_read_from_their_offset() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]).slice(1, 2));
        let encoder = KeyEncoder::new(vec![DataType::Int64]).expect("integers can be keys");
        let keys = encoder.encode(std::slice::from_ref(&column), 2);
        assert_eq!(encoder.decode(&keys), vec![column]);
    }
}
