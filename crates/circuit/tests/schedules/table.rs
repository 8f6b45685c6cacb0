//! The script's table: its columns, and expressions over them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType, UInt64Type};
use arrow_array::{ArrayRef, BooleanArray, Decimal128Array, Int64Array, ListArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_circuit::expr::{Expr, Scalar};
use tidemill_circuit::plan::Expiry;

/// The columns of the source: key, text, number, float, flag, time and `$origin`.
pub(crate) const KEY: usize = 0;
pub(crate) const TEXT: usize = 1;
pub(crate) const NUMBER: usize = 2;
pub(crate) const FLOAT: usize = 3;
pub(crate) const FLAG: usize = 4;
pub(crate) const TIME: usize = 5;
pub(crate) const ORIGIN: usize = 6;

/// How far rows may come out of order, in milliseconds.
pub(crate) const DELAY: i64 = 50;

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// The source's columns, `$origin` left out.
pub(crate) fn decoded() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("time", time_type(), true),
    ]))
}

pub(crate) fn with(schema: &SchemaRef, fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let all = schema.fields().iter().map(|field| field.as_ref().clone()).chain(fields);
    Arc::new(Schema::new(all.collect::<Vec<_>>()))
}

pub(crate) fn key_fields(schema: &SchemaRef, keys: &[usize]) -> Vec<Field> {
    keys.iter().map(|key| schema.field(*key).clone()).collect()
}

pub(crate) fn window_fields() -> [Field; 3] {
    ["window_start", "window_end", "window_time"].map(|name| Field::new(name, time_type(), false))
}

/// `column + millis`, of time.
#[derive(Debug)]
pub(crate) struct Shifted {
    pub(crate) column: usize,
    pub(crate) millis: i64,
}

impl Scalar for Shifted {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let times = batch.column(self.column).as_primitive::<TimestampMillisecondType>();
        Ok(Arc::new(times.unary::<_, TimestampMillisecondType>(|time| time + self.millis)))
    }

    fn data_type(&self) -> DataType {
        time_type()
    }

    fn print(&self) -> String {
        format!("time + {}", self.millis)
    }
}

/// `number > least`.
#[derive(Debug)]
pub(crate) struct Above(pub(crate) i64);

impl Scalar for Above {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let numbers = batch.column(NUMBER).as_primitive::<Int64Type>();
        Ok(Arc::new(numbers.iter().map(|number| number.map(|number| number > self.0)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        format!("number > {}", self.0)
    }
}

/// The list of the numbers from 0 to `number`, null of a null.
#[derive(Debug)]
pub(crate) struct Upto;

pub(crate) fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))
}

impl Scalar for Upto {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let numbers = batch.column(NUMBER).as_primitive::<Int64Type>();
        let lists = numbers.iter().map(|number| number.map(|number| (0..number).map(Some).collect::<Vec<_>>()));
        Ok(Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)))
    }

    fn data_type(&self) -> DataType {
        list_type()
    }

    fn print(&self) -> String {
        "upto(number)".to_string()
    }
}

/// The partition that a row came from.
#[derive(Debug)]
pub(crate) struct Partition;

impl Scalar for Partition {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let origins = batch.column(ORIGIN).as_primitive::<UInt64Type>();
        Ok(Arc::new(origins.iter().map(|origin| origin.map(|origin| (origin >> 40) as i64)).collect::<Int64Array>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Int64
    }

    fn print(&self) -> String {
        "partition".to_string()
    }

    fn columns(&self) -> Option<Vec<usize>> {
        Some(vec![ORIGIN])
    }
}

pub(crate) const DECIMAL: DataType = DataType::Decimal128(10, 2);

/// `number` as a decimal.
#[derive(Debug)]
pub(crate) struct AsDecimal;

impl Scalar for AsDecimal {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let numbers = batch.column(NUMBER).as_primitive::<Int64Type>();
        let decimals: Decimal128Array = numbers.iter().map(|number| number.map(|n| i128::from(n) * 125)).collect();
        decimals.with_precision_and_scale(10, 2).map(|column| Arc::new(column) as ArrayRef).map_err(|e| e.to_string())
    }

    fn data_type(&self) -> DataType {
        DECIMAL
    }

    fn print(&self) -> String {
        "CAST(number AS DECIMAL(10, 2))".to_string()
    }
}

/// A condition of a join over a number or a time of each side, in this order.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) columns: [usize; 2],
    pub(crate) holds: fn(i64, i64) -> bool,
    pub(crate) printed: &'static str,
}

impl Scalar for Both {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let [left, right] = self.columns.map(|column| {
            let column = arrow_cast::cast(batch.column(column), &DataType::Int64).map_err(|error| error.to_string())?;
            Ok::<_, String>(column.as_primitive::<Int64Type>().clone())
        });
        let (left, right) = (left?, right?);
        let pairs = left.iter().zip(right.iter()).map(|pair| match pair {
            (Some(left), Some(right)) => Some((self.holds)(left, right)),
            _ => None,
        });
        Ok(Arc::new(pairs.collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        self.printed.to_string()
    }

    fn columns(&self) -> Option<Vec<usize>> {
        Some(self.columns.to_vec())
    }
}

/// The columns of the table without `$origin`, which a row that is taken back does not have from the row that came.
pub(crate) const PLAIN: usize = ORIGIN;

/// `left.number <= right.number`.
pub(crate) fn less() -> Option<Expr> {
    less_beside(PLAIN)
}

/// The same, beside rows of so many columns.
pub(crate) fn less_beside(width: usize) -> Option<Expr> {
    Some(Arc::new(Both { columns: [NUMBER, width + NUMBER], holds: |l, r| l <= r, printed: "number <= number" }))
}

/// `right.time BETWEEN left.time - 20 AND left.time + 30`.
pub(crate) fn near() -> Option<Expr> {
    Some(Arc::new(Both { columns: [TIME, PLAIN + TIME], holds: is_near, printed: "time near time" }))
}

/// `left.time >= right.time - 5`: the rows of the left side expire, those of the right side never.
pub(crate) fn not_before() -> Option<Expr> {
    let holds = |left, right| left >= right - 5;
    Some(Arc::new(Both { columns: [TIME, PLAIN + TIME], holds, printed: "time not before time" }))
}

/// Whether a time of the right side is near one of the left side.
pub(crate) fn is_near(left: i64, right: i64) -> bool {
    left - 20 <= right && right <= left + 30
}

/// When rows expire that meet others [`near`] to them.
pub(crate) fn nearby() -> [Option<Expiry>; 2] {
    [30, 20].map(|after_ms| Some(Expiry { time: TIME, after_ms }))
}
