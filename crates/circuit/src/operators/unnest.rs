//! Makes one row of each element of a list or map column.
//!
//! A list gives one column (or, of rows, one column a field), a map gives its key and its value. Rows keep their weight
//! and their suspicion.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, UInt32Array};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::take::take;

use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::operator::{Context, Operator, Output};
use crate::plan::UnnestSpec;

/// The most rows made of one input chunk before they are sent on.
const ROWS_MAX: usize = crate::delta::DELTA_ROWS_MAX;

struct Unnest {
    spec: UnnestSpec,
    schema: SchemaRef,
    name: String,
}

/// Which element of which row becomes a row: none for a row that stays without an element.
#[derive(Default)]
struct Picks {
    rows: Vec<u32>,
    elements: Vec<Option<u32>>,
    ordinals: Vec<Option<i32>>,
}

impl Operator for Unnest {
    fn push(&mut self, _port: usize, delta: Delta, _context: &Context, out: &mut Output) -> Result<(), Error> {
        let column = delta.column(self.spec.column).clone();
        let (spans, elements) = self.elements(&column)?;
        let mut picks = Picks::default();
        for (row, span) in spans.into_iter().enumerate() {
            let empty = span.is_empty();
            for (index, element) in span.enumerate() {
                picks.rows.push(row as u32);
                picks.elements.push(Some(element as u32));
                picks.ordinals.push(Some(index as i32 + 1));
                if picks.rows.len() == ROWS_MAX {
                    self.send(&delta, &elements, std::mem::take(&mut picks), out)?;
                }
            }
            if self.spec.outer && empty {
                picks.rows.push(row as u32);
                picks.elements.push(None);
                picks.ordinals.push(None);
            }
        }
        self.send(&delta, &elements, picks, out)
    }
}

impl Unnest {
    /// For each row the range of its elements, and the columns that all elements have.
    fn elements(&self, column: &ArrayRef) -> Result<(Vec<Range<usize>>, Vec<ArrayRef>), Error> {
        let (offsets, columns): (Vec<usize>, Vec<ArrayRef>) = match column.data_type() {
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                (list.value_offsets().iter().map(|offset| *offset as usize).collect(), fields(list.values()))
            }
            DataType::LargeList(_) => {
                let list = column.as_list::<i64>();
                (list.value_offsets().iter().map(|offset| *offset as usize).collect(), fields(list.values()))
            }
            DataType::Map(_, _) => {
                let map = column.as_map();
                let offsets = map.value_offsets().iter().map(|offset| *offset as usize).collect();
                (offsets, map.entries().columns().to_vec())
            }
            other => return Err(Error::broken(&self.name, format!("cannot unnest {other}"))),
        };
        let span = |row: usize| match column.is_null(row) {
            true => 0..0,
            false => offsets[row]..offsets[row + 1],
        };
        Ok(((0..column.len()).map(span).collect(), columns))
    }

    fn send(&self, delta: &Delta, elements: &[ArrayRef], picks: Picks, out: &mut Output) -> Result<(), Error> {
        if picks.rows.is_empty() {
            return Ok(());
        }
        out.emit(self.rows(delta, elements, picks).map_err(|error| Error::broken(&self.name, error))?);
        Ok(())
    }

    fn rows(&self, delta: &Delta, elements: &[ArrayRef], picks: Picks) -> Result<Delta, ArrowError> {
        let taken = delta.take(&UInt32Array::from(picks.rows))?;
        let indices = UInt32Array::from(picks.elements);
        let mut columns = taken.batch().columns().to_vec();
        for element in elements {
            columns.push(take(element, &indices, None)?);
        }
        if self.spec.ordinality {
            let ordinals: ArrayRef = match self.schema.field(columns.len()).data_type() {
                DataType::Int64 => {
                    Arc::new(picks.ordinals.iter().map(|ordinal| ordinal.map(i64::from)).collect::<Int64Array>())
                }
                _ => Arc::new(Int32Array::from(picks.ordinals)),
            };
            columns.push(ordinals);
        }
        for (column, field) in columns.iter_mut().zip(self.schema.fields()) {
            if column.data_type() != field.data_type() {
                *column = cast(column, field.data_type())?;
            }
        }
        Ok(taken.with_batch(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}

/// The columns of a list's elements: a row's fields, or the one there is.
fn fields(values: &ArrayRef) -> Vec<ArrayRef> {
    let Some(rows) = values.as_struct_opt() else { return vec![values.clone()] };
    let Some(nulls) = rows.nulls().filter(|nulls| nulls.null_count() > 0) else { return rows.columns().to_vec() };
    // A null row has null fields.
    let absent = arrow_array::BooleanArray::new(!nulls.inner(), None);
    let clear = |column: &ArrayRef| arrow_select::nullif::nullif(column, &absent);
    rows.columns().iter().map(|column| clear(column).unwrap_or_else(|_| column.clone())).collect()
}

/// One task, on whatever lane the rows are.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &UnnestSpec) -> TaskId {
    let (spec, schema, name) = (spec.clone(), lowering.node.schema.clone(), lowering.name.clone());
    let make = move || {
        let operator = Unnest { spec: spec.clone(), schema: schema.clone(), name: name.clone() };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make)))
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
    use arrow_array::{StructArray, make_array};
    use arrow_data::ArrayData;
    use arrow_schema::{Field, Schema};

    use super::*;
    use crate::operators::testing::{Bench, check};
    use crate::plan::Spec;

    fn run(column: ArrayRef, elements: Vec<Field>, outer: bool, ordinality: bool, expected: &str) {
        let rows = column.len() as i64;
        let names: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=rows));
        let mut fields =
            vec![Field::new("id", DataType::Int64, false), Field::new("list", column.data_type().clone(), true)];
        let input = Arc::new(Schema::new(fields.clone()));
        fields.extend(elements);
        if ordinality {
            fields.push(Field::new("place", DataType::Int32, true));
        }
        let spec = Spec::Unnest(UnnestSpec { column: 1, outer, ordinality });
        let output = Arc::new(Schema::new(fields));
        let mut bench = Bench::new(spec, input.clone(), output, false, 1).expect("supported");
        let batch = RecordBatch::try_new(input, vec![names, column]).expect("columns of the schema");
        bench.step(vec![Delta::weighted(batch, vec![2; rows as usize])], 0, 0).expect("the step runs");
        check(&bench.integral, expected);
    }

    fn lists() -> ArrayRef {
        let mut lists = ListBuilder::new(Int64Builder::new());
        lists.append_value([Some(7), None]);
        lists.append_value([]);
        lists.append_null();
        lists.append_value([Some(9)]);
        Arc::new(lists.finish())
    }

    fn element(name: &str) -> Vec<Field> {
        vec![Field::new(name, DataType::Int64, true)]
    }

    #[test]
    fn each_element_becomes_a_row_with_the_weight_of_its_list() {
        run(lists(), element("e"), false, false, "+2 1 [7, _] 7\n+2 1 [7, _] _\n+2 4 [9] 9");
    }

    #[test]
    fn rows_without_elements_stay_when_outer() {
        let expected = "+2 1 [7, _] 7 1\n+2 1 [7, _] _ 2\n+2 2 [] _ _\n+2 3 _ _ _\n+2 4 [9] 9 1";
        run(lists(), element("e"), true, true, expected);
    }

    #[test]
    fn a_slice_of_lists_gives_its_own_elements() {
        run(lists().slice(3, 1), element("e"), false, true, "+2 1 [9] 9 1");
    }

    #[test]
    fn maps_give_keys_and_values() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        maps.keys().append_value("a");
        maps.values().append_value(1);
        maps.keys().append_value("b");
        maps.values().append_null();
        maps.append(true).expect("as many keys as values");
        let fields = vec![Field::new("k", DataType::Utf8, false), Field::new("v", DataType::Int64, true)];
        run(Arc::new(maps.finish()), fields, false, false, "+2 1 {a: 1, b: _} a 1\n+2 1 {a: 1, b: _} b _");
    }

    #[test]
    fn rows_within_give_their_fields_and_a_null_row_gives_nulls() {
        let (x, y): (ArrayRef, ArrayRef) =
            (Arc::new(Int64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![10, 20])));
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let nulls = arrow_buffer::NullBuffer::from(vec![true, false]);
        let rows = StructArray::new(vec![field("x"), field("y")].into(), vec![x, y], Some(nulls));
        let item = Arc::new(Field::new("item", rows.data_type().clone(), true));
        let data = ArrayData::builder(DataType::List(item))
            .len(1)
            .add_buffer(arrow_buffer::Buffer::from_slice_ref([0_i32, 2]))
            .add_child_data(rows.into_data());
        let list = make_array(data.build().expect("a list of two rows"));
        run(
            list,
            vec![field("x"), field("y")],
            false,
            false,
            "+2 1 [{x: 1, y: 10}, _] 1 10\n+2 1 [{x: 1, y: 10}, _] _ _",
        );
    }
}
