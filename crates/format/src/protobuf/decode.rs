//! [`ProtobufDecoder`]: bodies of rows, each set aside when it is bad.

use arrow_schema::{Schema, SchemaRef};

use super::shape::Row;
use super::values;
use super::wire::{Fault, Reader, Wire, fault};
use super::{FORMAT, ROWS, columns};
use crate::batch::{Batches, Decoded};
use crate::error::{Error, Rejected};
use crate::json::lines::check_size;

/// The most rows of a body.
pub const ROWS_MAX: usize = 1 << 18;

/// The most bad rows of a body that are described.
const REJECTED_MAX: usize = 100;

/// The bytes of a bad row that are shown.
const TEXT_BYTES_MAX: usize = 100;

/// Decodes messages into the columns of a schema; fields that no column has are passed over.
pub struct ProtobufDecoder {
    batches: Batches,
    shape: Row,
}

impl ProtobufDecoder {
    /// A decoder into `schema`, the needed columns of a table whose columns are `declared`.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] when a column's type has no form in Protocol Buffers; [`Error::MissingColumn`] when a
    /// needed column is not declared.
    pub fn new(declared: &Schema, schema: SchemaRef) -> Result<Self, Error> {
        let shape = Row::of(declared.fields(), schema.fields())?;
        Ok(ProtobufDecoder { batches: Batches::new(schema, false, FORMAT)?, shape })
    }

    /// Appends every row of a `<Table>Rows` to `out`; the bad ones are in [`Decoded::rejected`], which ends reading when
    /// they are a hundred.
    ///
    /// # Errors
    /// [`Error::BadMessage`] when the message itself is broken, [`Error::BlockTooLarge`]. `out` may hold rows then.
    pub fn decode_rows(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), Error> {
        check_size(body)?;
        let mut from = Reader::new(body);
        let mut record = 0;
        while let Some(row) = next_row(&mut from).map_err(|fault| self.give_up(*fault))? {
            if record == ROWS_MAX {
                let reason = format!("a message may hold {ROWS_MAX} rows: send the others in another");
                return Err(self.give_up(Fault { at: row.at(), reason }));
            }
            let rows = self.batches.record.rows;
            let Batches { record: columns, arena, .. } = &mut self.batches;
            match values::message(columns, &self.shape, row.clone(), arena) {
                Ok(()) => self.batches.commit(record as u32, &[1], "", out)?,
                Err(wrong) => {
                    self.batches.undo(rows);
                    out.rejected.push(reject(record, &row, *wrong));
                    if out.rejected.len() == REJECTED_MAX {
                        break;
                    }
                }
            }
            record += 1;
        }
        self.batches.flush("");
        self.batches.emit(out)
    }

    /// Appends the rows of a `<Table>Columns` to `out`, all or none.
    ///
    /// # Errors
    /// [`Error::BadMessage`] naming the byte and the column, [`Error::BlockTooLarge`].
    pub fn decode_columns(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), Error> {
        check_size(body)?;
        if let Err(fault) = columns::read(&mut self.batches, &self.shape, body) {
            return Err(self.give_up(*fault));
        }
        self.batches.emit_columns("", out)
    }

    /// Forgets what was read, so that the decoder can be used again.
    #[cold]
    fn give_up(&mut self, Fault { at, reason }: Fault) -> Error {
        // It was made of this schema before.
        if let Ok(batches) = Batches::new(self.batches.schema().clone(), false, FORMAT) {
            self.batches = batches;
        }
        Error::BadMessage { byte: at, reason }
    }
}

/// The next row's window; none at the end.
fn next_row<'a>(from: &mut Reader<'a>) -> Result<Option<Reader<'a>>, Box<Fault>> {
    while !from.is_empty() {
        match from.tag()? {
            (ROWS, Wire::Length) => {
                let range = from.length()?;
                return Ok(Some(from.window(range)));
            }
            (ROWS, wire) => {
                let reason = format!("a row is due, found {}: is this a message of rows?", wire.name());
                return fault(from.at(), reason);
            }
            (number, wire) => from.skip(number, wire)?,
        }
    }
    Ok(None)
}

/// Describes a bad row. It stands for a line, and its bytes for characters.
#[cold]
fn reject(record: usize, row: &Reader<'_>, Fault { at, reason }: Fault) -> Rejected {
    let text = row.rest().iter().take(TEXT_BYTES_MAX).map(|byte| format!("{byte:02x}")).collect();
    let column = at.saturating_sub(row.at()) as u64 + 1;
    Rejected { record: record as u32, line: record as u64 + 1, column, byte: at as u64, reason, text }
}
