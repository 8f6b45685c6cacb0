//! Side outputs: rows that came too late, rows that failed, records that could not be read, as rows of a table.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_circuit::operator::{SideKind, SideRow};

use crate::error::Error;

/// The columns that a table of a side output may have.
pub(crate) const COLUMNS: [&str; 4] = ["kind STRING", "operator STRING", "reason STRING", "row STRING"];

/// Which sinks take which rows.
#[derive(Debug, Default)]
pub(crate) struct Sides {
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    kind: SideKind,
    sink: usize,
    schema: SchemaRef,
}

impl Sides {
    /// Sends rows of `kind` to a sink, whose columns must be some of [`COLUMNS`].
    pub(crate) fn add(
        &mut self,
        kind: SideKind,
        setting: &'static str,
        table: &str,
        sink: usize,
        schema: SchemaRef,
    ) -> Result<(), Error> {
        for field in schema.fields() {
            let known = ["kind", "operator", "reason", "row"].contains(&field.name().as_str());
            if !known || *field.data_type() != DataType::Utf8 {
                let problem = format!("its column '{}' is none that a side output has", field.name());
                return Err(Error::Side { setting, table: table.to_string(), problem });
            }
        }
        self.routes.push(Route { kind, sink, schema });
        Ok(())
    }

    /// The rows for each sink.
    pub(crate) fn rows(&self, side: &[SideRow]) -> Result<Vec<(usize, Vec<Delta>)>, Error> {
        if side.is_empty() {
            return Ok(Vec::new());
        }
        let mut parcels = Vec::new();
        for route in &self.routes {
            let rows: Vec<&SideRow> = side.iter().filter(|row| row.kind == route.kind).collect();
            if !rows.is_empty() {
                parcels.push((route.sink, vec![Delta::inserts(batch(&route.schema, &rows)?)]));
            }
        }
        Ok(parcels)
    }
}

fn batch(schema: &SchemaRef, rows: &[&SideRow]) -> Result<RecordBatch, Error> {
    let column = |name: &str| -> ArrayRef {
        let value = |row: &&SideRow| match name {
            "kind" => row.kind.as_str().to_string(),
            "operator" => row.operator.clone(),
            "reason" => row.reason.clone(),
            _ => row.row.clone(),
        };
        Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
    };
    let columns = schema.fields().iter().map(|field| column(field.name())).collect();
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|error| tidemill_circuit::Error::broken("a side output", error).into())
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_schema::{Field, Schema};

    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn each_kind_goes_to_its_sink() {
        let mut sides = Sides::default();
        let columns = schema(&[("row", DataType::Utf8), ("reason", DataType::Utf8)]);
        sides.add(SideKind::Late, "side-output.late", "late", 3, columns).expect("two of the columns");
        let row = |kind, row: &str| SideRow {
            kind,
            operator: "Aggregate".to_string(),
            node: 2,
            reason: "its window has closed".to_string(),
            row: row.to_string(),
            origin: None,
        };
        let parcels = sides.rows(&[row(SideKind::Late, "{1}"), row(SideKind::BadRecord, "{2}")]).expect("strings");
        assert_eq!(parcels.len(), 1);
        let (sink, deltas) = &parcels[0];
        assert_eq!((*sink, deltas[0].rows()), (3, 1));
        assert_eq!(deltas[0].column(0).as_string::<i32>().value(0), "{1}");
    }

    #[test]
    fn refuses_columns_that_it_cannot_fill() {
        let add = |columns| Sides::default().add(SideKind::Late, "side-output.late", "late", 0, columns);
        assert!(add(schema(&[("row", DataType::Int64)])).is_err());
        assert!(add(schema(&[("why", DataType::Utf8)])).is_err());
    }
}
