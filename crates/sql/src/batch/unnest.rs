//! UNNEST over rows that are all there: each row once for each of its elements, put together row by row.
//!
//! Like the windows next door this is the definition written down once more, apart from the circuit's.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch, UInt32Array, new_null_array};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat;
use arrow_select::take::take;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::LogicalPlan;

use super::named;
use crate::expr::compile_in_order;
use crate::plan::unnest::Unnest;

/// The rows with their elements, and a plan that reads them from the table `name`.
pub(super) fn relational(unnest: &Unnest, input: &[RecordBatch], name: &str) -> Result<(RecordBatch, LogicalPlan)> {
    let Unnest { input: below, list, outer, ordinality, schema, .. } = unnest;
    let rows = super::together(below.schema(), input)?;
    let lists = compile_in_order(list, below.schema())?.evaluate(&rows);
    let lists = lists.map_err(datafusion::common::DataFusionError::Execution)?;
    let width = below.schema().fields().len();
    let types: Vec<DataType> = schema.fields().iter().skip(width).map(|field| field.data_type().clone()).collect();
    let elements = types.len() - usize::from(*ordinality);
    let mut from: Vec<u32> = Vec::new();
    let mut places: Vec<Option<i32>> = Vec::new();
    let mut parts: Vec<Vec<ArrayRef>> = types[..elements].iter().map(|one| vec![new_null_array(one, 0)]).collect();
    for row in 0..rows.num_rows() {
        let columns = elements_of(&lists, row)?;
        let count = columns.first().map_or(0, |column| column.len());
        if count == 0 && *outer {
            from.push(row as u32);
            places.push(None);
            parts.iter_mut().zip(&types).for_each(|(part, one)| part.push(new_null_array(one, 1)));
        }
        from.extend(std::iter::repeat_n(row as u32, count));
        places.extend((1..=count).map(|place| Some(place as i32)));
        parts.iter_mut().zip(columns).for_each(|(part, column)| part.push(column));
    }
    let from = UInt32Array::from(from);
    let mut columns = rows.columns().iter().map(|column| take(column, &from, None)).collect::<Result<Vec<_>, _>>()?;
    for part in &parts {
        columns.push(concat(&part.iter().map(AsRef::as_ref).collect::<Vec<_>>())?);
    }
    if *ordinality {
        columns.push(Arc::new(Int32Array::from(places)));
    }
    let field = |(index, column): (usize, &ArrayRef)| Field::new(format!("c{index}"), column.data_type().clone(), true);
    let table = Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
    let rows = RecordBatch::try_new(table, columns)?;
    let plan = named(&rows, name, schema)?;
    Ok((rows, plan))
}

/// The elements of one row, a column for each column that an element has; none of a row without a list.
fn elements_of(lists: &ArrayRef, row: usize) -> Result<Vec<ArrayRef>> {
    if lists.is_null(row) {
        return Ok(vec![]);
    }
    match lists.data_type() {
        DataType::List(_) => {
            let items = lists.as_list::<i32>().value(row);
            match items.as_struct_opt() {
                Some(rows) => {
                    let within = |column: &ArrayRef| {
                        let valid: Vec<Option<u32>> =
                            (0..rows.len()).map(|item| rows.is_valid(item).then_some(item as u32)).collect();
                        Ok(take(column, &UInt32Array::from(valid), None)?)
                    };
                    rows.columns().iter().map(within).collect()
                }
                None => Ok(vec![items]),
            }
        }
        DataType::Map(..) => Ok(lists.as_map().value(row).columns().to_vec()),
        other => exec_err!("{other} has no elements"),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{Int64Builder, ListBuilder};
    use tidemill_circuit::row::to_json;

    use super::*;
    use crate::BatchSession;

    fn check(query: &str, expected: &[&str]) {
        let mut lists = ListBuilder::new(Int64Builder::new());
        lists.append_value([Some(7), None]);
        lists.append_value([]);
        let lists: ArrayRef = Arc::new(lists.finish());
        let mut session = BatchSession::new(&Arc::default());
        let rows = RecordBatch::try_from_iter_with_nullable([("l", lists, true)]).expect("one column");
        session.register("kept", rows);
        let rows = session.select(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let found: Vec<_> = (0..rows.num_rows()).map(|row| to_json(&rows, row)).collect();
        assert_eq!(found, expected, "{query}");
    }

    #[test]
    fn elements_become_rows() {
        check("SELECT e FROM kept CROSS JOIN UNNEST(l) AS x (e)", &[r#"{"e": 7}"#, r#"{"e": null}"#]);
        check(
            "SELECT e, n FROM kept LEFT JOIN UNNEST(l) WITH ORDINALITY AS x (e, n) ON TRUE",
            &[r#"{"e": 7, "n": 1}"#, r#"{"e": null, "n": 2}"#, r#"{"e": null, "n": null}"#],
        );
        check("SELECT COUNT(*) AS c FROM kept CROSS JOIN UNNEST(ARRAY[1, 2]) AS x (e)", &[r#"{"c": 4}"#]);
        check("SELECT SUM(e) AS s FROM kept CROSS JOIN UNNEST(l) AS x (e) WHERE e > 7", &[r#"{"s": null}"#]);
    }
}
