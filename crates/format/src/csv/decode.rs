//! CSV to columns. Records are taken apart by `csv-core`; their fields are read as JSON's strings are.

use arrow_schema::{Schema, SchemaRef};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::CsvOptions;
use crate::batch::{Batches, Decoded, Place};
use crate::column::{Column, Span, Values};
use crate::cut::Cutter;
use crate::error::Error;
use crate::format::Decoder;
use crate::json::parse::misfit_reason;

const FORMAT: &str = "csv";

/// Decodes CSV into the columns of a schema.
pub struct CsvDecoder {
    batches: Batches,
    options: CsvOptions,
    /// The column of each field; unknown until the header is read, when there is one.
    fields: Option<Vec<Option<usize>>>,
    splitter: Splitter,
}

impl CsvDecoder {
    /// A decoder of records whose fields are exactly the columns of `schema`.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] for ROW, ARRAY and MAP.
    pub fn new(options: CsvOptions, schema: SchemaRef) -> Result<Self, Error> {
        let declared = schema.clone();
        CsvDecoder::projected(options, &declared, schema)
    }

    /// A decoder of records whose fields are the columns of `declared`, of which `schema` are needed.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] for ROW, ARRAY and MAP; [`Error::MissingColumn`] for a needed column not declared.
    pub fn projected(options: CsvOptions, declared: &Schema, schema: SchemaRef) -> Result<Self, Error> {
        if let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
            let (column, data_type) = (field.name().clone(), field.data_type().clone());
            return Err(Error::UnsupportedType { format: FORMAT, column, data_type });
        }
        let names: Vec<&str> = declared.fields().iter().map(|field| field.name().as_str()).collect();
        let fields = if options.header { None } else { Some(match_fields(&schema, &names)?) };
        let splitter = Splitter::new(&options);
        Ok(CsvDecoder { batches: Batches::new(schema, false, FORMAT)?, options, fields, splitter })
    }

    fn read_header(&mut self, record: &str, ends: &[usize]) -> Result<(), Error> {
        let names: Vec<&str> = split(record, ends).map(str::trim).collect();
        self.fields = Some(match_fields(self.batches.schema(), &names)?);
        Ok(())
    }
}

/// The column of each field, by name.
fn match_fields(schema: &Schema, names: &[&str]) -> Result<Vec<Option<usize>>, Error> {
    if let Some(field) = schema.fields().iter().find(|field| !names.contains(&field.name().as_str())) {
        let found = names.iter().map(|name| name.to_string()).collect();
        return Err(Error::MissingColumn { format: FORMAT, column: field.name().clone(), found });
    }
    Ok(names.iter().map(|name| schema.fields().iter().position(|field| field.name() == name)).collect())
}

impl Decoder for CsvDecoder {
    fn header(&mut self, record: &[u8]) -> Result<(), Error> {
        if !self.options.header {
            return Ok(());
        }
        let mut place = Place::default();
        let start = self.splitter.skip_blank(record, 0);
        self.splitter.next(record, start);
        match self.splitter.text() {
            Ok(_) => {
                let (text, ends) = self.splitter.take();
                self.read_header(&text, &ends)
            }
            Err(reason) => {
                let at = Box::new(place.reject(record, start, record.len(), start, reason));
                Err(Error::BadRecord { format: FORMAT, at })
            }
        }
    }

    fn decode(&mut self, block: &[u8], out: &mut Decoded) -> Result<(), Error> {
        crate::json::lines::check_size(block)?;
        let mut place = Place::default();
        let mut at = self.splitter.skip_blank(block, 0);
        if self.fields.is_none() && at < block.len() {
            let end = self.splitter.next(block, at);
            self.header(&block[at..end])?;
            at = self.splitter.skip_blank(block, end);
        }
        let mut result = Ok(());
        while at < block.len() && result.is_ok() {
            let end = self.splitter.next(block, at);
            let rows = self.batches.record.rows;
            match self.read_record(&block[at..end], end == block.len()) {
                Ok(()) => {
                    self.batches.record.rows += 1;
                    self.batches.commit(place.record, &[1], "", out)?;
                }
                Err((field, reason)) => {
                    self.batches.undo(rows);
                    let fault_at = at + self.field_start(&block[at..end], field);
                    let rejected = place.reject(block, at, end, fault_at, reason);
                    if self.options.ignore_parse_errors {
                        out.rejected.push(rejected);
                    } else {
                        result = Err(Error::BadRecord { format: FORMAT, at: Box::new(rejected) });
                    }
                }
            }
            place.record += 1;
            at = self.splitter.skip_blank(block, end);
        }
        self.batches.flush("");
        self.batches.emit(out)?;
        result
    }
}

impl CsvDecoder {
    /// Reads the record that was split last; a fault names its field.
    fn read_record(&mut self, raw: &[u8], is_last: bool) -> Result<(), (usize, String)> {
        if is_last && self.is_open(raw) {
            return Err((0, "a quoted field has no closing quote".into()));
        }
        let text = self.splitter.text().map_err(|reason| (0, reason))?;
        let fields = self.fields.as_deref().unwrap_or_default();
        let found = self.splitter.ends.len();
        if found != fields.len() {
            return Err((found.min(fields.len()), format!("expected {} fields, found {found}", fields.len())));
        }
        let Batches { record, arena, .. } = &mut self.batches;
        for (index, (column, field)) in fields.iter().zip(split(text, &self.splitter.ends)).enumerate() {
            if let Some(column) = column {
                let column = &mut record.columns[*column];
                push_field(column, field, self.options.null_literal.as_deref(), arena).map_err(|why| (index, why))?;
            }
        }
        Ok(())
    }

    /// Whether a record that ends with the block is within quotes.
    fn is_open(&self, raw: &[u8]) -> bool {
        let mut closed = raw.to_vec();
        closed.push(b'\n');
        self.options.cutter().cut(&closed, 1).end == 0
    }

    /// Where the field of an index begins in its record.
    fn field_start(&self, raw: &[u8], field: usize) -> usize {
        let mut quoted = false;
        let mut delimiters = raw.iter().enumerate().filter(|&(_, &byte)| {
            quoted ^= Some(byte) == self.options.quote;
            !quoted && byte == self.options.delimiter
        });
        match field.checked_sub(1) {
            None => 0,
            Some(before) => delimiters.nth(before).map_or(0, |(at, _)| at + 1),
        }
    }
}

fn push_field(column: &mut Column, field: &str, null: Option<&str>, arena: &mut String) -> Result<(), String> {
    let is_string = matches!(column.values, Values::Strings(_));
    if null == Some(field) || (!is_string && field.trim().is_empty()) {
        if !column.field.is_nullable() {
            return Err(format!("column '{}' is NOT NULL, found no value", column.path));
        }
        column.push_null();
        return Ok(());
    }
    if is_string {
        let start = arena.len();
        arena.push_str(field);
        column.push_span(Span::arena(start, arena.len()));
        return Ok(());
    }
    column.push_text(field.trim()).map_err(|misfit| misfit_reason(column, misfit, &format!("'{}'", field.trim())))
}

fn split<'a>(text: &'a str, ends: &'a [usize]) -> impl Iterator<Item = &'a str> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    // A delimiter is ASCII, but bytes that are no UTF-8 by themselves could have been put together.
    starts.zip(ends).map(|(start, &end)| text.get(start..end).unwrap_or_default())
}

/// Takes records apart into fields.
struct Splitter {
    reader: Reader,
    comment: Option<u8>,
    bytes: Vec<u8>,
    length: usize,
    ends: Vec<usize>,
}

impl Splitter {
    fn new(options: &CsvOptions) -> Self {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(options.delimiter).escape(options.escape);
        match options.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        Splitter {
            reader: builder.build(),
            comment: options.comment(),
            bytes: vec![0; 1024],
            length: 0,
            ends: Vec::new(),
        }
    }

    /// Where the next record begins, behind blank lines and comments.
    fn skip_blank(&self, block: &[u8], mut at: usize) -> usize {
        loop {
            match block.get(at) {
                Some(b'\n' | b'\r') => at += 1,
                Some(byte) if Some(*byte) == self.comment => {
                    at = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |length| at + length + 1);
                }
                _ => return at,
            }
        }
    }

    /// Splits the record at `at` and returns where it ends.
    fn next(&mut self, block: &[u8], at: usize) -> usize {
        self.length = 0;
        self.ends.clear();
        self.ends.resize(self.ends.capacity().max(16), 0);
        let (mut from, mut fields) = (at, 0);
        loop {
            let (result, read, written, ended) =
                self.reader.read_record(&block[from..], &mut self.bytes[self.length..], &mut self.ends[fields..]);
            from += read;
            self.length += written;
            fields += ended;
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
            }
        }
        self.ends.truncate(fields);
        // The reader leaves the second byte of "\r\n" for the next record.
        if block[at..from].ends_with(b"\r") && block.get(from) == Some(&b'\n') { from + 1 } else { from }
    }

    /// The fields of the record, one behind another.
    fn text(&self) -> Result<&str, String> {
        simdutf8::basic::from_utf8(&self.bytes[..self.length]).map_err(|_| "the record is not valid UTF-8".to_string())
    }

    fn take(&self) -> (String, Vec<usize>) {
        (self.text().unwrap_or_default().to_string(), self.ends.clone())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
