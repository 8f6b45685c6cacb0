//! The formats' decoders as the circuit's lanes want them.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Decode, Decoded, DecodedDelta, MakeDecoder, RejectedRecord};
use tidemill_format::{CsvDecoder, DecodedBatch, Decoder, Format};

use crate::blocks::Header;
use crate::catalogue::Table;
use crate::error::Error;

/// Where the header of `format`'s files goes, when they have one.
pub(crate) fn header(format: &Format) -> Option<Header> {
    matches!(format, Format::Csv(options) if options.header).then(Header::default)
}

/// Makes decoders of `format` into `schema`, after one has been made to see that it works.
pub(crate) fn decoder(
    table: &Table,
    format: &Format,
    schema: &SchemaRef,
    header: Option<Header>,
) -> Result<MakeDecoder, Error> {
    let wrong = |error| Error::Format { table: table.name.clone(), path: None, error };
    make(format, &table.columns, schema).map_err(wrong)?;
    let (format, declared, schema) = (format.clone(), table.columns.clone(), schema.clone());
    Ok(Arc::new(move || {
        let decoder = make(&format, &declared, &schema).map_err(|error| error.to_string())?;
        let lines_before = u64::from(header.is_some());
        Ok(Box::new(FormatDecode { decoder, header: header.clone(), lines_before }) as Box<dyn Decode>)
    }))
}

fn make(format: &Format, declared: &SchemaRef, schema: &SchemaRef) -> Result<Box<dyn Decoder>, tidemill_format::Error> {
    match format {
        Format::Csv(options) => {
            Ok(Box::new(CsvDecoder::projected(options.clone(), declared.as_ref(), schema.clone())?))
        }
        _ => format.decoder(schema.clone()),
    }
}

struct FormatDecode {
    decoder: Box<dyn Decoder>,
    /// The header that the decoder has not been shown yet.
    header: Option<Header>,
    lines_before: u64,
}

impl Decode for FormatDecode {
    fn decode(&mut self, bytes: &[u8], first_record: u64, out: &mut Decoded) -> Result<(), String> {
        if let Some(header) = self.header.as_ref().and_then(|header| header.get()) {
            self.decoder.header(header).map_err(|error| error.to_string())?;
            self.header = None;
        }
        // Lines are counted as records, blank ones included: exact but for quoted newlines in CSV.
        let lines_before = first_record + self.lines_before;
        let mut decoded = tidemill_format::Decoded::default();
        let result = self.decoder.decode(bytes, &mut decoded);
        let mut row_first = 0;
        for batch in decoded.batches {
            let rows = batch.batch.num_rows() as u32;
            out.deltas.push(delta(batch, row_first));
            row_first += rows;
        }
        out.rejected.extend(decoded.rejected.into_iter().map(|rejected| RejectedRecord {
            record: rejected.record,
            reason: format!("line {}, column {}: {}", rejected.line + lines_before, rejected.column, rejected.reason),
            text: rejected.text,
        }));
        result.map_err(|error| error.shift(0, lines_before, 0).to_string())
    }
}

/// A batch as a delta; `row_first` is the number of rows before it, by which its records are numbered when not told.
fn delta(decoded: DecodedBatch, row_first: u32) -> DecodedDelta {
    let DecodedBatch { batch, weights, record_first, records } = decoded;
    let rows = batch.num_rows() as u32;
    let records = match records {
        None if record_first != row_first => Some((record_first..record_first + rows).collect()),
        records => records,
    };
    let delta = match weights {
        Some(weights) => Delta::weighted(batch, weights),
        None => Delta::inserts(batch),
    };
    DecodedDelta { delta, records }
}
