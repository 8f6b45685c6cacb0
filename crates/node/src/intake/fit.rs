//! [`fit`]: the columns that a circuit's plan names, out of all those that a door decodes for several circuits.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::SchemaRef;
use tidemill_circuit::Delta;

/// Rows with the columns of `columns`, taken by name; a ROW keeps the fields that are asked for.
pub(crate) fn fit(rows: Delta, columns: &SchemaRef) -> Result<Delta, String> {
    let schema = rows.schema();
    if Arc::ptr_eq(&schema, columns) || schema == *columns {
        return Ok(rows);
    }
    let mut fitted: Vec<ArrayRef> = Vec::with_capacity(columns.fields().len());
    for field in columns.fields() {
        let column = rows.batch().column_by_name(field.name());
        let column = column.ok_or_else(|| format!("its rows have no column '{}'", field.name()))?;
        fitted.push(match column.data_type() == field.data_type() {
            true => column.clone(),
            false => cast(column, field.data_type()).map_err(|error| error.to_string())?,
        });
    }
    let batch = RecordBatch::try_new(columns.clone(), fitted).map_err(|error| error.to_string())?;
    Ok(rows.with_batch(batch))
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray, StructArray};
    use arrow_schema::{DataType, Field, Fields, Schema};

    use super::*;

    #[test]
    fn columns_are_taken_by_name_and_rows_keep_the_fields_that_are_asked_for() {
        let long = Fields::from(vec![
            Field::new("city", DataType::Utf8, true),
            Field::new("zip", DataType::Int64, true),
            Field::new("street", DataType::Utf8, true),
        ]);
        let short = Fields::from(vec![Field::new("zip", DataType::Int64, true)]);
        let place = StructArray::new(
            long.clone(),
            vec![
                Arc::new(StringArray::from(vec!["Zürich"])),
                Arc::new(Int64Array::from(vec![8001])),
                Arc::new(StringArray::from(vec!["Limmatquai"])),
            ],
            None,
        );
        let wide = Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("place", DataType::Struct(long), true),
        ]);
        let batch = RecordBatch::try_new(Arc::new(wide), vec![Arc::new(Int64Array::from(vec![1])), Arc::new(place)]);
        let rows = Delta::weighted(batch.expect("two columns"), vec![-1]);
        let narrow: SchemaRef = Arc::new(Schema::new(vec![Field::new("place", DataType::Struct(short), true)]));
        let fitted = fit(rows.clone(), &narrow).expect("it has them");
        assert_eq!((fitted.schema(), fitted.weights()), (narrow, Some(&[-1][..])));
        let missing: SchemaRef = Arc::new(Schema::new(vec![Field::new("b", DataType::Int64, true)]));
        assert!(fit(rows, &missing).is_err_and(|problem| problem.contains("'b'")));
    }
}
