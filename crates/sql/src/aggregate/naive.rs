//! The naive twin: an accumulator that keeps every row and folds them at the end.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use tidemill_circuit::plan::AggregateFunction;

use super::fold;

/// All rows of one group; one list an argument.
#[derive(Debug)]
pub(super) struct Naive {
    function: AggregateFunction,
    distinct: bool,
    types: Vec<DataType>,
    result: DataType,
    columns: Vec<Vec<ScalarValue>>,
}

impl Naive {
    pub(super) fn new(function: AggregateFunction, distinct: bool, types: Vec<DataType>, result: DataType) -> Self {
        let columns = types.iter().map(|_| Vec::new()).collect();
        Naive { function, distinct, types, result, columns }
    }

    /// The rows that count: no argument null (unless the function keeps nulls), each once when DISTINCT.
    fn rows(&self) -> Vec<Vec<ScalarValue>> {
        let count = self.columns.first().map_or(0, Vec::len);
        let keeps_nulls = self.function == AggregateFunction::ArrayAgg;
        let mut rows: Vec<Vec<ScalarValue>> = (0..count)
            .map(|row| self.columns.iter().map(|column| column[row].clone()).collect::<Vec<_>>())
            .filter(|row| keeps_nulls || !row.iter().any(ScalarValue::is_null))
            .collect();
        if self.distinct {
            let mut seen = std::collections::HashSet::new();
            rows.retain(|row| seen.insert(row.clone()));
        }
        rows
    }
}

impl Accumulator for Naive {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (column, array) in self.columns.iter_mut().zip(values) {
            for row in 0..array.len() {
                column.push(ScalarValue::try_from_array(array, row)?);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (column, lists) in self.columns.iter_mut().zip(states) {
            let lists = lists.as_list::<i32>();
            for list in lists.iter().flatten() {
                for row in 0..list.len() {
                    column.push(ScalarValue::try_from_array(&list, row)?);
                }
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let lists = self.columns.iter().zip(&self.types);
        Ok(lists
            .map(|(column, data_type)| ScalarValue::List(ScalarValue::new_list_nullable(column, data_type)))
            .collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        fold::fold(self.function, &self.rows(), &self.types, &self.result)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.columns.iter().map(|column| column.len() * size_of::<ScalarValue>()).sum::<usize>()
    }
}
