//! The answers of bare SELECTs, once a run has ended.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use tidemill_circuit::view::View;
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::{OutputKind, SelectDef, SelectKind};

use crate::error::Error;

/// The rows of a bare SELECT of `pipeline`, from what `views` hold, by the outputs' names.
///
/// # Errors
/// When an expression above the kept rows fails.
pub fn answer(pipeline: &Pipeline, select: &SelectDef, views: &BTreeMap<String, View>) -> Result<RecordBatch, Error> {
    match &select.kind {
        SelectKind::Circuit { output, tail } => {
            let output = &pipeline.outputs[*output];
            Ok(tail.rows(&rows(views, &output.name, &output.schema)?)?)
        }
        SelectKind::Views(query) => {
            let mut read = BTreeMap::new();
            for output in &pipeline.outputs {
                let OutputKind::MaterializedView { name } = &output.kind else { continue };
                if query.views().contains(name) {
                    read.insert(name.clone(), rows(views, &output.name, &output.schema)?);
                }
            }
            Ok(query.rows(&read)?)
        }
    }
}

/// All rows of a view as one batch.
fn rows(views: &BTreeMap<String, View>, name: &str, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let Some(view) = views.get(name) else { return Ok(RecordBatch::new_empty(schema.clone())) };
    let snapshot = view.scan()?;
    concat_batches(schema, &snapshot.batches).map_err(|error| tidemill_circuit::Error::broken(name, error).into())
}
