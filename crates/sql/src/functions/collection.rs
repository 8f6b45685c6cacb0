//! Arrays and maps: making them, reading elements, comparing elements.
//!
//! Nothing looks at element types: elements move by index (`take`, `interleave`) and meet through Arrow's comparators, in
//! which NULL equals NULL.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapFieldNames, StringBuilder, UInt32Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_ord::ord::{DynComparator, make_comparator};
use arrow_schema::{DataType, Field, Fields, SortOptions};
use arrow_select::interleave::interleave;
use arrow_select::take::take;
use datafusion::common::{Result, exec_err, internal_err, plan_err};

use super::call::{Call, Text};
use super::cast::write_value;
use super::function::Function;
use super::signature::common_type;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "array",
        "ARRAY(T...) -> ARRAY",
        "An array. SQL: `ARRAY[a, b]`.",
        &[("ARRAY[1, 2, 3]", "[1, 2, 3]")],
        array,
    )
    .shown("ARRAY[T, ...]")
    .aliases(&["make_array"])
    .returns(|types| Ok(list_of(types.first().cloned().unwrap_or(DataType::Null)))),
    Function::new(
        "map",
        "MAP(ANY...) -> MAP",
        "A map of keys and values in turn; the last of equal keys counts. SQL: `MAP['a', 1, 'b', 2]`.",
        &[("MAP['a', 1, 'b', 2]", "{a=1, b=2}")],
        map,
    )
    .shown("MAP[key, value, ...]")
    .returns(map_type),
    Function::new("row", "ROW(ANY...) -> ROW", "A row of unnamed fields.", &[("ROW(1, 'a')", "(1, a)")], |call| {
        let DataType::Struct(fields) = call.result else { return internal_err!("ROW answers {}", call.result) };
        let columns = (0..call.count()).map(|index| call.array(index)).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StructArray::try_new(fields.clone(), columns, None)?))
    })
    .returns(|types| {
        let field =
            |(index, data_type): (usize, &DataType)| Field::new(format!("EXPR${index}"), data_type.clone(), true);
        Ok(DataType::Struct(types.iter().enumerate().map(field).collect()))
    }),
    Function::new(
        "$item",
        "$item(ARRAY, INT) -> ANY; $item(MAP, ANY) -> ANY",
        "An element of an array, from 1, or the value of a key; NULL when there is none. SQL: `a[1]`, `m['k']`.",
        &[("ARRAY[1, 2, 3][2]", "2"), ("MAP['a', 1]['z']", "NULL")],
        item,
    )
    .shown("ARRAY[INT]; MAP[ANY]")
    .returns(|types| match &types[0] {
        DataType::Map(..) => Ok(entry_type(&types[0], 1)),
        other => element_type(other),
    }),
    Function::new(
        "cardinality",
        "CARDINALITY(ARRAY) -> INT; CARDINALITY(MAP) -> INT",
        "The number of elements.",
        &[("CARDINALITY(ARRAY[1, 2, 3])", "3")],
        |call| {
            let values = call.array(0)?;
            let (offsets, nulls) = shape(&values)?;
            call.build_numbers::<Int32Type>(|row| Ok(valid(&nulls, row).then(|| offsets[row + 1] - offsets[row])))
        },
    ),
    Function::new(
        "element",
        "ELEMENT(ARRAY) -> ANY",
        "The only element; NULL of an empty array, an error when there are more.",
        &[("ELEMENT(ARRAY[5])", "5")],
        element,
    )
    .returns(|types| element_type(&types[0])),
    Function::new(
        "array_contains",
        "ARRAY_CONTAINS(ARRAY, ANY) -> BOOLEAN",
        "Whether there is such an element; NULL finds NULL.",
        &[("ARRAY_CONTAINS(ARRAY[1, 2], 2)", "true")],
        |call| {
            let search = Search::new(call)?;
            call.build_flags(|row| Ok(search.list.range(row).map(|mut range| range.any(|at| search.equal(at, row)))))
        },
    ),
    Function::new(
        "array_position",
        "ARRAY_POSITION(ARRAY, ANY) -> INT",
        "Where the first such element is, from 1; 0 when nowhere.",
        &[("ARRAY_POSITION(ARRAY[7, 8], 8)", "2")],
        |call| {
            let search = Search::new(call)?;
            call.build_numbers::<Int32Type>(|row| {
                let place = |mut range: std::ops::Range<usize>| range.position(|at| search.equal(at, row));
                Ok(search.list.range(row).map(|range| place(range).map_or(0, |at| at as i32 + 1)))
            })
        },
    ),
    Function::new(
        "array_remove",
        "ARRAY_REMOVE(ARRAY, ANY) -> ARRAY",
        "Without such elements.",
        &[("ARRAY_REMOVE(ARRAY[1, 2, 1], 1)", "[2]")],
        |call| {
            let search = Search::new(call)?;
            search.list.select(call.rows, |row, range| range.filter(|at| !search.equal(*at, row)).collect())
        },
    )
    .returns(|types| Ok(types[0].clone())),
    Function::new(
        "array_distinct",
        "ARRAY_DISTINCT(ARRAY) -> ARRAY",
        "Each element once, where it first was.",
        &[("ARRAY_DISTINCT(ARRAY[1, 2, 1, 3])", "[1, 2, 3]")],
        distinct,
    )
    .returns(|types| Ok(types[0].clone())),
    Function::new(
        "array_reverse",
        "ARRAY_REVERSE(ARRAY) -> ARRAY",
        "The elements from last to first.",
        &[("ARRAY_REVERSE(ARRAY[1, 2, 3])", "[3, 2, 1]")],
        |call| List::new(&call.array(0)?)?.select(call.rows, |_, range| range.rev().collect()),
    )
    .returns(|types| Ok(types[0].clone())),
    Function::new(
        "array_join",
        "ARRAY_JOIN(ARRAY, STRING[, STRING]) -> STRING",
        "The elements as text between delimiters; NULLs are left out or replaced by the third argument.",
        &[("ARRAY_JOIN(ARRAY['a', 'b'], '-')", "a-b")],
        join,
    ),
    Function::new(
        "array_max",
        "ARRAY_MAX(ARRAY) -> ANY",
        "The greatest element that is not NULL.",
        &[("ARRAY_MAX(ARRAY[1, 3, 2])", "3")],
        |call| extreme(call, Ordering::Greater),
    )
    .returns(|types| element_type(&types[0])),
    Function::new(
        "array_min",
        "ARRAY_MIN(ARRAY) -> ANY",
        "The least element that is not NULL.",
        &[("ARRAY_MIN(ARRAY[1, 3, 2])", "1")],
        |call| extreme(call, Ordering::Less),
    )
    .returns(|types| element_type(&types[0])),
    Function::new(
        "map_keys",
        "MAP_KEYS(MAP) -> ARRAY",
        "The keys of a map.",
        &[("MAP_KEYS(MAP['a', 1, 'b', 2])", "[a, b]")],
        |call| entries(call, 0),
    )
    .returns(|types| Ok(list_of(entry_type(&types[0], 0)))),
    Function::new(
        "map_values",
        "MAP_VALUES(MAP) -> ARRAY",
        "The values of a map.",
        &[("MAP_VALUES(MAP['a', 1, 'b', 2])", "[1, 2]")],
        |call| entries(call, 1),
    )
    .returns(|types| Ok(list_of(entry_type(&types[0], 1)))),
];

/// ARRAY of a type, as columns have it.
pub(super) fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", element, true)))
}

/// MAP of two types, as columns have it.
pub(super) fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

pub(super) fn map_names() -> MapFieldNames {
    MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() }
}

pub(super) fn text_list_builder() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(Arc::new(Field::new("item", DataType::Utf8, true)))
}

fn element_type(list: &DataType) -> Result<DataType> {
    match list {
        DataType::List(field) => Ok(field.data_type().clone()),
        other => plan_err!("an array is needed, not {}", crate::types::name_of(other)),
    }
}

fn entry_type(map: &DataType, index: usize) -> DataType {
    match map {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields[index].data_type().clone(),
            _ => DataType::Null,
        },
        _ => DataType::Null,
    }
}

fn map_type(types: &[DataType]) -> Result<DataType> {
    let side = |skip: usize| common_type(&types.iter().skip(skip).step_by(2).cloned().collect::<Vec<_>>());
    match (types.len() % 2, side(0), side(1)) {
        (0, Some(key), Some(value)) => Ok(map_of(key, value)),
        (1, ..) => plan_err!("MAP needs keys and values in turn, not {} arguments", types.len()),
        _ => plan_err!("the keys of a MAP, and its values, need one type each"),
    }
}

/// Offsets and validity of an array or map column.
fn shape(values: &ArrayRef) -> Result<(OffsetBuffer<i32>, Option<NullBuffer>)> {
    if let Some(list) = values.as_list_opt::<i32>() {
        return Ok((list.offsets().clone(), list.nulls().cloned()));
    }
    match values.as_map_opt() {
        Some(map) => Ok((map.offsets().clone(), map.nulls().cloned())),
        None => internal_err!("{} is neither array nor map", values.data_type()),
    }
}

fn valid(nulls: &Option<NullBuffer>, row: usize) -> bool {
    nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
}

/// An array column taken apart.
struct List {
    field: Arc<Field>,
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    values: ArrayRef,
}

impl List {
    fn new(array: &ArrayRef) -> Result<Self> {
        let Some(list) = array.as_list_opt::<i32>() else { return internal_err!("{} is no array", array.data_type()) };
        let (field, offsets, values, nulls) = list.clone().into_parts();
        Ok(List { field, offsets, nulls, values })
    }

    /// Where a row's elements are; `None` for NULL.
    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        valid(&self.nulls, row).then(|| self.offsets[row] as usize..self.offsets[row + 1] as usize)
    }

    /// Keeps the chosen elements of each row.
    fn select(&self, rows: usize, choose: impl Fn(usize, std::ops::Range<usize>) -> Vec<usize>) -> Result<ArrayRef> {
        let mut indices = UInt32Builder::new();
        let mut lengths = Vec::with_capacity(rows);
        for row in 0..rows {
            let chosen = self.range(row).map_or_else(Vec::new, |range| choose(row, range));
            lengths.push(chosen.len());
            chosen.iter().for_each(|at| indices.append_value(*at as u32));
        }
        let values = take(&self.values, &indices.finish(), None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(Arc::clone(&self.field), offsets, values, self.nulls.clone())?))
    }
}

/// An array column and an element to look for in each row.
struct Search {
    list: List,
    compare: DynComparator,
}

impl Search {
    fn new(call: &Call<'_>) -> Result<Self> {
        let list = List::new(&call.array(0)?)?;
        let wanted = cast(&call.array(1)?, list.values.data_type())?;
        let compare = make_comparator(&list.values, &wanted, SortOptions::default())?;
        Ok(Search { list, compare })
    }

    fn equal(&self, at: usize, row: usize) -> bool {
        (self.compare)(at, row).is_eq()
    }
}

fn array(call: &Call<'_>) -> Result<ArrayRef> {
    let DataType::List(field) = call.result else { return internal_err!("ARRAY answers {}", call.result) };
    let columns = (0..call.count()).map(|index| call.array(index)).collect::<Result<Vec<_>>>()?;
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(columns.len(), call.rows));
    let values = if columns.is_empty() {
        arrow_array::new_empty_array(field.data_type())
    } else {
        let places: Vec<_> =
            (0..call.rows).flat_map(|row| (0..columns.len()).map(move |column| (column, row))).collect();
        interleave(&columns.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &places)?
    };
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, None)?))
}

fn map(call: &Call<'_>) -> Result<ArrayRef> {
    let DataType::Map(entries, _) = call.result else { return internal_err!("MAP answers {}", call.result) };
    let DataType::Struct(fields) = entries.data_type() else { return internal_err!("MAP of {entries}") };
    let side = |skip: usize, data_type: &DataType| -> Result<Vec<ArrayRef>> {
        (skip..call.count()).step_by(2).map(|index| Ok(cast(&call.array(index)?, data_type)?)).collect()
    };
    let (keys, values) = (side(0, fields[0].data_type())?, side(1, fields[1].data_type())?);
    if keys.iter().any(|key| key.logical_null_count() > 0) {
        return exec_err!("a key of a MAP is NULL");
    }
    let mut same = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        for later in &keys[index + 1..] {
            same.push((index, make_comparator(key, later, SortOptions::default())?));
        }
    }
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(call.rows));
    for row in 0..call.rows {
        let before = places.len();
        let replaced = |pair: usize| same.iter().any(|(index, compare)| *index == pair && compare(row, row).is_eq());
        places.extend((0..keys.len()).filter(|pair| !replaced(*pair)).map(|pair| (pair, row)));
        lengths.push(places.len() - before);
    }
    let gather = |columns: &[ArrayRef], field: &Field| -> Result<ArrayRef> {
        if columns.is_empty() {
            return Ok(arrow_array::new_empty_array(field.data_type()));
        }
        Ok(interleave(&columns.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &places)?)
    };
    let columns = vec![gather(&keys, &fields[0])?, gather(&values, &fields[1])?];
    let pairs = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), OffsetBuffer::from_lengths(lengths), pairs, None, false)?))
}

fn item(call: &Call<'_>) -> Result<ArrayRef> {
    let container = call.array(0)?;
    if let Some(map) = container.as_map_opt() {
        let wanted = cast(&call.array(1)?, map.keys().data_type())?;
        let compare = make_comparator(map.keys(), &wanted, SortOptions::default())?;
        let find = |row: usize| {
            let range = map.offsets()[row] as usize..map.offsets()[row + 1] as usize;
            if map.is_null(row) || wanted.is_null(row) {
                None
            } else {
                range.into_iter().find(|at| compare(*at, row).is_eq())
            }
        };
        let indices: UInt32Array = (0..call.rows).map(|row| find(row).map(|at| at as u32)).collect();
        return Ok(take(map.values(), &indices, None)?);
    }
    let (list, index) = (List::new(&container)?, call.numbers::<Int32Type>(1)?);
    let mut indices = UInt32Builder::with_capacity(call.rows);
    for row in 0..call.rows {
        let (Some(range), Some(index)) = (list.range(row), index.get(row)) else {
            indices.append_null();
            continue;
        };
        if index < 1 {
            return exec_err!("the elements of an array are counted from 1, not {index}");
        }
        let at = range.start + index as usize - 1;
        indices.append_option((at < range.end).then_some(at as u32));
    }
    Ok(take(&list.values, &indices.finish(), None)?)
}

fn element(call: &Call<'_>) -> Result<ArrayRef> {
    let list = List::new(&call.array(0)?)?;
    let mut indices = UInt32Builder::with_capacity(call.rows);
    for row in 0..call.rows {
        match list.range(row) {
            Some(range) if range.len() > 1 => return exec_err!("ELEMENT of an array of {} elements", range.len()),
            Some(range) if range.len() == 1 => indices.append_value(range.start as u32),
            _ => indices.append_null(),
        }
    }
    Ok(take(&list.values, &indices.finish(), None)?)
}

fn distinct(call: &Call<'_>) -> Result<ArrayRef> {
    let list = List::new(&call.array(0)?)?;
    let compare = make_comparator(&list.values, &list.values, SortOptions::default())?;
    list.select(call.rows, |_, range| {
        let mut sorted: Vec<usize> = range.collect();
        sorted.sort_by(|left, right| compare(*left, *right).then(left.cmp(right)));
        sorted.dedup_by(|later, first| compare(*later, *first).is_eq());
        sorted.sort_unstable();
        sorted
    })
}

fn join(call: &Call<'_>) -> Result<ArrayRef> {
    let (list, delimiter) = (List::new(&call.array(0)?)?, call.text(1)?);
    let replacement = if call.count() > 2 { Some(call.text(2)?) } else { None };
    call.write_text(|row, out| {
        let (Some(range), Some(delimiter)) = (list.range(row), delimiter.get(row)) else { return Ok(None) };
        let replacement = match &replacement {
            Some(replacement) => match Text::get(replacement, row) {
                Some(text) => Some(text),
                None => return Ok(None),
            },
            None => None,
        };
        let mut first = true;
        for at in range {
            if list.values.is_null(at) && replacement.is_none() {
                continue;
            }
            if !first {
                out.push_str(delimiter);
            }
            first = false;
            match replacement {
                Some(text) if list.values.is_null(at) => out.push_str(text),
                _ => write_value(&list.values, at, call.session.zone, out)?,
            }
        }
        Ok(Some(()))
    })
}

fn extreme(call: &Call<'_>, wanted: Ordering) -> Result<ArrayRef> {
    let list = List::new(&call.array(0)?)?;
    let compare = make_comparator(&list.values, &list.values, SortOptions::default())?;
    let best = |row: usize| {
        let elements = list.range(row)?.filter(|at| list.values.is_valid(*at));
        elements.reduce(|best, next| if compare(next, best) == wanted { next } else { best })
    };
    let indices: UInt32Array = (0..call.rows).map(|row| best(row).map(|at| at as u32)).collect();
    Ok(take(&list.values, &indices, None)?)
}

fn entries(call: &Call<'_>, side: usize) -> Result<ArrayRef> {
    let container = call.array(0)?;
    let (Some(map), DataType::List(field)) = (container.as_map_opt(), call.result) else {
        return internal_err!("MAP_KEYS of {} answers {}", container.data_type(), call.result);
    };
    let values = Arc::clone(map.entries().column(side));
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), map.offsets().clone(), values, map.nulls().cloned())?))
}
