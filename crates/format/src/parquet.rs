//! Parquet files to columns of a declared schema and back.
//!
//! Only the declared columns are read, by name. A column whose type differs is cast when no value can be lost by it
//! beyond a timestamp's finer digits; otherwise the error names the column and both types.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_cast::CastOptions;
use arrow_schema::{DataType, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;

use crate::error::Error;
use crate::format::Encoder;

const FORMAT: &str = "parquet";

/// Rows of a group before it is written out: a group is kept in memory, encoded, until then.
const GROUP_ROWS: usize = 128 * 1024;

/// The batches of a Parquet file, in the declared schema.
pub struct ParquetRows {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    rows_total: u64,
}

/// Reads the columns of `schema` from a file (a [`std::fs::File`] or `bytes::Bytes`) in batches of `batch_rows` rows.
///
/// # Errors
/// [`Error::ParquetRead`] for a damaged file, [`Error::MissingColumn`] and [`Error::ColumnType`] when it is another table.
pub fn read<R: ChunkReader + 'static>(file: R, schema: SchemaRef, batch_rows: usize) -> Result<ParquetRows, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(Error::ParquetRead)?;
    check_columns(builder.schema(), &schema)?;
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let roots: Vec<usize> = names.filter_map(|name| builder.schema().index_of(name).ok()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let rows_total = builder.metadata().file_metadata().num_rows().max(0) as u64;
    let builder = builder.with_projection(mask).with_batch_size(batch_rows.max(1));
    Ok(ParquetRows { reader: builder.build().map_err(Error::ParquetRead)?, schema, rows_total })
}

impl ParquetRows {
    /// How many rows the file has in all.
    pub fn rows_total(&self) -> u64 {
        self.rows_total
    }

    fn declare(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let arrays = self.schema.fields().iter().map(|field| {
            let Some(array) = batch.column_by_name(field.name()) else {
                return Err(missing(field.name(), batch.schema().as_ref()));
            };
            if !field.is_nullable() && array.null_count() > 0 {
                return Err(Error::Null { format: FORMAT, column: field.name().clone() });
            }
            cast(array, field.data_type())
        });
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }
}

impl Iterator for ParquetRows {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(batch.map_err(|error| Error::ParquetRead(error.into())).and_then(|batch| self.declare(&batch)))
    }
}

/// The schema of a Parquet file, as Arrow sees it.
///
/// # Errors
/// [`Error::ParquetRead`] for a damaged file.
pub fn schema<R: ChunkReader + 'static>(file: R) -> Result<SchemaRef, Error> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(file).map_err(Error::ParquetRead)?.schema().clone())
}

fn missing(column: &str, found: &Schema) -> Error {
    let found = found.fields().iter().map(|field| field.name().clone()).collect();
    Error::MissingColumn { format: FORMAT, column: column.to_string(), found }
}

fn check_columns(found: &Schema, declared: &Schema) -> Result<(), Error> {
    for field in declared.fields() {
        let Ok(there) = found.field_with_name(field.name()) else { return Err(missing(field.name(), found)) };
        if !fits(there.data_type(), field.data_type()) {
            return Err(Error::ColumnType {
                format: FORMAT,
                column: field.name().clone(),
                declared: Box::new(field.data_type().clone()),
                found: Box::new(there.data_type().clone()),
            });
        }
    }
    Ok(())
}

fn cast(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, Error> {
    if array.data_type() == data_type {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(arrow_cast::cast_with_options(array, data_type, &options)?)
}

/// How many decimal digits an integer type needs.
fn integer_digits(data_type: &DataType) -> Option<u8> {
    match data_type {
        DataType::Int8 | DataType::UInt8 => Some(3),
        DataType::Int16 | DataType::UInt16 => Some(5),
        DataType::Int32 | DataType::UInt32 => Some(10),
        DataType::Int64 => Some(19),
        DataType::UInt64 => Some(20),
        _ => None,
    }
}

/// The bits of a signed integer that a type's values need.
fn signed_bits(data_type: &DataType) -> Option<u32> {
    match data_type {
        DataType::Int8 => Some(8),
        DataType::UInt8 => Some(9),
        DataType::Int16 => Some(16),
        DataType::UInt16 => Some(17),
        DataType::Int32 => Some(32),
        DataType::UInt32 => Some(33),
        DataType::Int64 => Some(64),
        DataType::UInt64 => Some(65),
        _ => None,
    }
}

/// Whether every value of `found` has its place in `declared`.
fn fits(found: &DataType, declared: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal128, Dictionary, FixedSizeBinary, Float16, Float32, Float64,
        LargeBinary, LargeList, LargeUtf8, List, Map, Struct, Time32, Time64, Timestamp, Utf8, Utf8View,
    };
    match (found, declared) {
        _ if found == declared => true,
        (Dictionary(_, value), _) => fits(value, declared),
        (Utf8 | LargeUtf8 | Utf8View, Utf8) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (Date32, Date64) | (Date64, Date32) => true,
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) | (Timestamp(_, None), Timestamp(_, None)) => true,
        (Time32(_) | Time64(_), Time32(_) | Time64(_)) => true,
        (Float16 | Float32, Float64) | (Float16, Float32) => true,
        (Decimal128(precision, scale), Decimal128(wide, wide_scale)) => {
            wide_scale >= scale
                && i16::from(*wide) - i16::from(*wide_scale) >= i16::from(*precision) - i16::from(*scale)
        }
        (_, Decimal128(precision, scale)) => {
            integer_digits(found).is_some_and(|digits| i16::from(*precision) - i16::from(*scale) >= i16::from(digits))
        }
        (_, Float64) => signed_bits(found).is_some_and(|bits| bits <= 33),
        (List(item) | LargeList(item), List(declared)) => fits(item.data_type(), declared.data_type()),
        (Map(entries, _), Map(declared, _)) => fits(entries.data_type(), declared.data_type()),
        (Struct(fields), Struct(declared)) => {
            let by_place = fields.iter().zip(declared.iter());
            fields.len() == declared.len() && by_place.into_iter().all(|(a, b)| fits(a.data_type(), b.data_type()))
        }
        _ => match (signed_bits(found), signed_bits(declared)) {
            (Some(found), Some(declared)) => found <= declared,
            _ => false,
        },
    }
}

/// Writes a Parquet file, compressed by Zstandard; the file is whole only after `finish`.
pub struct ParquetEncoder {
    writer: Option<ArrowWriter<Vec<u8>>>,
}

impl ParquetEncoder {
    /// An encoder of rows of `schema`.
    ///
    /// # Errors
    /// [`Error::ParquetWrite`] when Parquet has no form for a column.
    pub fn new(schema: SchemaRef) -> Result<Self, Error> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(Default::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by("tidemill".to_string())
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(Error::ParquetWrite)?;
        Ok(ParquetEncoder { writer: Some(writer) })
    }
}

impl Encoder for ParquetEncoder {
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error> {
        let batch = repeat_rows(batch, weights)?;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write(&batch).map_err(Error::ParquetWrite)?;
        out.append(writer.inner_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(writer) = self.writer.take() {
            out.append(&mut writer.into_inner().map_err(Error::ParquetWrite)?);
        }
        Ok(())
    }
}

/// Each row as often as its weight says.
fn repeat_rows(batch: &RecordBatch, weights: Option<&[i64]>) -> Result<RecordBatch, Error> {
    let Some(weights) = weights.filter(|weights| weights.iter().any(|&weight| weight != 1)) else {
        return Ok(batch.clone());
    };
    if weights.iter().any(|&weight| weight < 0) {
        return Err(Error::Retraction { format: FORMAT });
    }
    let rows = weights.iter().enumerate();
    let indices = rows.flat_map(|(row, &weight)| std::iter::repeat_n(row as u64, weight as usize));
    let indices = Arc::new(arrow_array::UInt64Array::from_iter_values(indices));
    Ok(arrow_select::take::take_record_batch(batch, indices.as_ref())?)
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, Int32Array, Int64Array, StringArray, TimestampNanosecondArray};
    use arrow_schema::{Field, TimeUnit};
    use bytes::Bytes;

    use super::*;

    fn write(batch: &RecordBatch, weights: Option<&[i64]>) -> Result<Bytes, Error> {
        let mut encoder = ParquetEncoder::new(batch.schema())?;
        let mut out = Vec::new();
        encoder.encode(batch, weights, &mut out)?;
        encoder.finish(&mut out)?;
        Ok(out.into())
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    fn declared(fields: Vec<Field>) -> SchemaRef {
        Arc::new(Schema::new(fields))
    }

    fn sample() -> RecordBatch {
        batch(vec![
            ("id", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]))),
            ("name", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1_000_000, 2_000_001, 3_999_999]))),
        ])
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let batch = sample();
        let file = write(&batch, None).expect("plain columns");
        let mut rows = read(file, batch.schema(), 2).expect("our own file");
        assert_eq!(rows.rows_total(), 3);
        let sizes: Vec<_> = rows.by_ref().map(|batch| batch.expect("our own rows").num_rows()).collect();
        assert_eq!(sizes, [2, 1]);
    }

    #[test]
    fn reads_the_declared_columns_as_declared() {
        let file = write(&sample(), None).expect("plain columns");
        let schema = declared(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            Field::new("id", DataType::Int64, true),
        ]);
        let read: Vec<_> = read(file, schema, 8_192).expect("safe casts").collect::<Result<_, _>>().expect("good rows");
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].column(1).as_ref(), &Int64Array::from(vec![Some(1), None, Some(3)]));
        let at = arrow_array::TimestampMillisecondArray::from(vec![1, 2, 3]);
        assert_eq!(read[0].column(0).as_ref(), &at);
    }

    #[test]
    fn refuses_another_table() {
        let file = write(&sample(), None).expect("plain columns");
        let check = |field: Field, part: &str| {
            let rows = read(file.clone(), declared(vec![field]), 8_192);
            let error = rows.and_then(|mut rows| rows.next().transpose().map(|_| ())).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        };
        check(Field::new("id", DataType::Int16, true), "column 'id' is INT in the parquet file");
        check(Field::new("name", DataType::Int64, true), "does not fit the declared BIGINT");
        check(Field::new("nome", DataType::Utf8, true), "has no column 'nome'; it has 'id', 'name', 'at'");
        check(Field::new("id", DataType::Int32, false), "'id' is declared NOT NULL");
        let error = read(Bytes::from_static(b"PAR1 but not really"), declared(vec![]), 1).err().expect("no file");
        assert!(error.to_string().contains("parquet file cannot be read"), "{error}");
    }

    #[test]
    fn casts_lose_nothing() {
        assert!(fits(&DataType::UInt32, &DataType::Int64));
        assert!(!fits(&DataType::UInt64, &DataType::Int64));
        assert!(fits(&DataType::Int32, &DataType::Float64));
        assert!(!fits(&DataType::Int64, &DataType::Float64));
        assert!(fits(&DataType::Decimal128(10, 2), &DataType::Decimal128(12, 4)));
        assert!(!fits(&DataType::Decimal128(10, 2), &DataType::Decimal128(10, 4)));
        assert!(!fits(&DataType::Float64, &DataType::Float32));
    }

    #[test]
    fn weights_repeat_rows() {
        let one = batch(vec![("x", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0])))]);
        let file = write(&one, Some(&[2, 0, 1])).expect("positive weights");
        let read: Vec<_> = read(file, one.schema(), 10).expect("our file").collect::<Result<_, _>>().expect("rows");
        assert_eq!(read[0].column(0).as_ref(), &Float64Array::from(vec![1.0, 1.0, 3.0]));
        assert!(matches!(write(&one, Some(&[1, -1, 1])), Err(Error::Retraction { .. })));
    }
}
