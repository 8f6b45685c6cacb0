//! The formats by name, with their options: `'format' = 'json'` and what goes with it.

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use tidemill_base::options::{Error as OptionsError, Options};

use crate::batch::Decoded;
use crate::csv::{CsvDecoder, CsvEncoder, CsvOptions};
use crate::cut::{Cutter, LineCutter};
use crate::encode::{DebeziumEncoder, JsonEncoder, UpsertEncoder};
use crate::error::Error;
use crate::json::{DebeziumDecoder, JsonDecoder, JsonOptions};
use crate::parquet::ParquetEncoder;
use crate::scalar::time::TimestampStandard;

/// Turns blocks of bytes that end at a record's end into columns of a schema.
pub trait Decoder: Send {
    /// Appends every record of `block`, which is whole records: the last may lack its newline, but no other byte.
    ///
    /// # Errors
    /// [`Error::BadRecord`] at the first bad record, unless bad records are to be set aside; the rows before it have been
    /// appended to `out` then.
    fn decode(&mut self, block: &[u8], out: &mut Decoded) -> Result<(), Error>;

    /// Takes a file's first record, when [`Format::has_header`], and not as a part of a block.
    ///
    /// A reader that spreads the blocks of a file over several decoders hands the header to each. A decoder that has not
    /// been given one takes it from the first block.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] when the header does not name a needed column.
    fn header(&mut self, _record: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// Turns batches into bytes.
pub trait Encoder: Send {
    /// Appends the rows of `batch`; `weights` has one entry a row, and `None` means that all are +1.
    ///
    /// # Errors
    /// [`Error::Retraction`] when a weight is negative and the format can only add.
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Appends what stands behind the last row; nothing may be encoded after it.
    ///
    /// # Errors
    /// [`Error::ParquetWrite`] when the file cannot be completed.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error>;
}

/// A format with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// NDJSON: one object a line.
    Json(JsonOptions),
    /// Comma-separated values, RFC 4180.
    Csv(CsvOptions),
    /// Debezium's change records, one a line.
    DebeziumJson(JsonOptions),
    /// NDJSON of a table whose rows have a key: a row in the place of the one with its key, or the key of a row that is
    /// gone. Only written; [`Format::upserting`] makes it.
    UpsertJson(JsonOptions, Vec<String>),
    /// Apache Parquet: read from whole files by [`crate::parquet::read`].
    Parquet,
}

impl Format {
    /// The format that `'format'` names, with its options taken out of `options`.
    ///
    /// # Errors
    /// When `'format'` is missing or no format, or an option's value cannot be read.
    pub fn from_options(options: &mut Options) -> Result<Format, OptionsError> {
        let name = options.require("format")?;
        Format::named(&name, options)?.ok_or_else(|| OptionsError::Invalid {
            key: "format".into(),
            value: name,
            expected: "one of 'json', 'csv', 'debezium-json', 'parquet'".into(),
        })
    }

    /// The format called `name`, with its options taken out of `options`; `None` when there is none of that name.
    ///
    /// # Errors
    /// When an option's value cannot be read.
    pub fn named(name: &str, options: &mut Options) -> Result<Option<Format>, OptionsError> {
        Ok(Some(match name {
            "json" => Format::Json(json_options("json", options)?),
            "debezium-json" => Format::DebeziumJson(json_options("debezium-json", options)?),
            "csv" => Format::Csv(CsvOptions::from_options(options)?),
            "parquet" => Format::Parquet,
            _ => return Ok(None),
        }))
    }

    /// The name in `'format' = '...'`.
    pub fn name(&self) -> &'static str {
        match self {
            Format::Json(_) | Format::UpsertJson(..) => "json",
            Format::Csv(_) => "csv",
            Format::DebeziumJson(_) => "debezium-json",
            Format::Parquet => "parquet",
        }
    }

    /// Whether rows can be taken back: only then may weights be negative.
    pub fn takes_retractions(&self) -> bool {
        matches!(self, Format::DebeziumJson(_) | Format::UpsertJson(..))
    }

    /// The same format for rows that are known by the columns of `key`; none when it has no word for a row that is gone.
    pub fn upserting(&self, key: Vec<String>) -> Option<Format> {
        match self {
            Format::Json(options) | Format::UpsertJson(options, _) => Some(Format::UpsertJson(*options, key)),
            Format::Csv(_) | Format::DebeziumJson(_) | Format::Parquet => None,
        }
    }

    /// Whether bad records are set aside instead of being an error.
    pub fn ignores_parse_errors(&self) -> bool {
        match self {
            Format::Json(options) | Format::DebeziumJson(options) | Format::UpsertJson(options, _) => {
                options.ignore_parse_errors
            }
            Format::Csv(options) => options.ignore_parse_errors,
            Format::Parquet => false,
        }
    }

    /// Whether the first record of a file names the columns.
    pub fn has_header(&self) -> bool {
        matches!(self, Format::Csv(CsvOptions { header: true, .. }))
    }

    /// A decoder into `schema`, the needed columns of a table whose columns are `declared`.
    ///
    /// # Errors
    /// As [`Format::decoder`]; [`Error::MissingColumn`] when a needed column is not declared.
    pub fn decoder_projected(&self, declared: &Schema, schema: SchemaRef) -> Result<Box<dyn Decoder>, Error> {
        match self {
            Format::Csv(options) => Ok(Box::new(CsvDecoder::projected(options.clone(), declared, schema)?)),
            _ => self.decoder(schema),
        }
    }

    /// A decoder into `schema`, which is all the columns of a record.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] for a column the format has no form for, [`Error::NotAStream`] for Parquet.
    pub fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>, Error> {
        Ok(match self {
            Format::Json(options) | Format::UpsertJson(options, _) => Box::new(JsonDecoder::new(*options, schema)?),
            Format::DebeziumJson(options) => Box::new(DebeziumDecoder::new(*options, schema)?),
            Format::Csv(options) => Box::new(CsvDecoder::new(options.clone(), schema)?),
            Format::Parquet => return Err(Error::NotAStream { format: "parquet" }),
        })
    }

    /// An encoder of rows of `schema`.
    ///
    /// # Errors
    /// [`Error::ParquetWrite`] when Parquet has no form for a column.
    pub fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>, Error> {
        Ok(match self {
            Format::Json(options) => Box::new(JsonEncoder::new(*options)),
            Format::DebeziumJson(options) => Box::new(DebeziumEncoder::new(*options)),
            Format::UpsertJson(options, key) => Box::new(UpsertEncoder::new(*options, key.clone())),
            Format::Csv(options) => Box::new(CsvEncoder::new(options.clone(), schema)),
            Format::Parquet => Box::new(ParquetEncoder::new(schema)?),
        })
    }

    /// Finds the ends of records in a stream.
    ///
    /// # Errors
    /// [`Error::NotAStream`] for Parquet.
    pub fn cutter(&self) -> Result<Box<dyn Cutter>, Error> {
        match self {
            Format::Json(_) | Format::DebeziumJson(_) | Format::UpsertJson(..) => Ok(Box::new(LineCutter::default())),
            Format::Csv(options) => Ok(Box::new(options.cutter())),
            Format::Parquet => Err(Error::NotAStream { format: "parquet" }),
        }
    }
}

/// Takes Flink's options of a JSON format. Those that cannot matter here (a key of a MAP is never null, and numbers are
/// always plain) are taken too, so that a table definition need not be changed.
fn json_options(prefix: &str, options: &mut Options) -> Result<JsonOptions, OptionsError> {
    let key = |name: &str| format!("{prefix}.{name}");
    let standards = [("SQL", TimestampStandard::Sql), ("ISO-8601", TimestampStandard::Iso8601)];
    let read = JsonOptions {
        ignore_parse_errors: options.boolean(&key("ignore-parse-errors"))?.unwrap_or_default(),
        fail_on_missing_field: options.boolean(&key("fail-on-missing-field"))?.unwrap_or_default(),
        timestamp_standard: options.choice(&key("timestamp-format.standard"), &standards)?.unwrap_or_default(),
        ignore_null_fields: options.boolean(&key("encode.ignore-null-fields"))?.unwrap_or_default(),
        general_path_only: false,
    };
    if read.ignore_parse_errors && read.fail_on_missing_field {
        return Err(OptionsError::Invalid {
            key: key("fail-on-missing-field"),
            value: "true".into(),
            expected: format!("'false' while '{}' is 'true'", key("ignore-parse-errors")),
        });
    }
    options.boolean(&key("encode.decimal-as-plain-number"))?;
    options.boolean(&key("decode.json-parser.enabled"))?;
    options.boolean(&key("schema-include"))?;
    options.choice(&key("map-null-key.mode"), &[("FAIL", ()), ("DROP", ()), ("LITERAL", ())])?;
    options.take(&key("map-null-key.literal"));
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Format, OptionsError> {
        let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let mut options = Options::new("connector 'test'", pairs);
        let format = Format::from_options(&mut options)?;
        options.finish()?;
        Ok(format)
    }

    #[test]
    fn reads_flinks_options() {
        let format = read(&[
            ("format", "json"),
            ("json.ignore-parse-errors", "true"),
            ("json.timestamp-format.standard", "ISO-8601"),
            ("json.map-null-key.mode", "DROP"),
        ]);
        let expected = JsonOptions {
            ignore_parse_errors: true,
            timestamp_standard: TimestampStandard::Iso8601,
            ..JsonOptions::default()
        };
        assert_eq!(format, Ok(Format::Json(expected)));
        let format = read(&[("format", "csv"), ("csv.field-delimiter", ";"), ("csv.header", "true")]);
        let expected = CsvOptions { delimiter: b';', header: true, ..CsvOptions::default() };
        assert_eq!(format, Ok(Format::Csv(expected)));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let check = |pairs: &[(&str, &str)], part: &str| {
            let error = read(pairs).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        };
        check(&[("format", "avro")], "'format' = 'avro' is not one of 'json'");
        check(&[], "needs the option 'format'");
        check(&[("format", "json"), ("json.ignore-parse-error", "true")], "no option 'json.ignore-parse-error'");
        check(
            &[("format", "json"), ("json.ignore-parse-errors", "true"), ("json.fail-on-missing-field", "true")],
            "is not 'false' while",
        );
        check(&[("format", "csv"), ("csv.field-delimiter", "||")], "one character");
    }
}
