//! INTERSECT and EXCEPT over rows that are all there: each row counted on both sides.

use std::collections::BTreeMap;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::LogicalPlan;

use crate::plan::set_operation::SetOperation;

/// The rows of the operation, and a plan that reads them from the table `name`.
pub(super) fn relational(
    operation: &SetOperation,
    left: &[RecordBatch],
    right: &[RecordBatch],
    name: &str,
) -> Result<(RecordBatch, LogicalPlan)> {
    let SetOperation { left: of_left, right: of_right, intersect, all, schema } = operation;
    let (left, right) = (super::together(of_left.schema(), left)?, super::together(of_right.schema(), right)?);
    let (ours, theirs) = (counted(&left)?, counted(&right)?);
    let mut rows: Vec<u32> = Vec::new();
    for (row, places) in &ours {
        let (here, there) = (places.len(), theirs.get(row).map_or(0, Vec::len));
        let count = match (intersect, all) {
            (true, true) => here.min(there),
            (false, true) => here.saturating_sub(there),
            (true, false) => usize::from(there > 0),
            (false, false) => usize::from(there == 0),
        };
        rows.extend(&places[..count]);
    }
    let rows = take_record_batch(&left, &UInt32Array::from(rows))?;
    let rows = super::numbered(rows.columns().to_vec(), rows.num_rows())?;
    let plan = super::named(&rows, name, schema)?;
    Ok((rows, plan))
}

/// Where each row is.
fn counted(rows: &RecordBatch) -> Result<BTreeMap<String, Vec<u32>>> {
    let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let values = rows.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
        let values = values.collect::<Result<Vec<_>>>()?;
        places.entry(format!("{values:?}")).or_default().push(row as u32);
    }
    Ok(places)
}
