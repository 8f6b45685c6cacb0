//! What a block of a ring holds: [`Gather`] puts it together, [`RingDecode`] takes it apart.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | the ring's id |
//! | 8..16 | the position behind the block's last record |
//! | 16..20 | the records in the text at the end |
//! | 20..24 | how many damaged records follow |
//! | 24.. | the position of each damaged one, 8 bytes |
//! | then | the text: records of the table's format, each with its newline |
//!
//! All numbers are little-endian. The journal keeps a block as it is, so that it says how far the ring has been read.

use bytes::Bytes;
use tidemill_circuit::decode::{Decode, Decoded, MakeDecoder, RejectedRecord};
use tidemill_format::{Cutter, Error, Format};

use crate::blocks::RECORDS_MAX;

/// Bytes before the positions of damaged records.
const HEAD: usize = 24;

/// The text after which a block is closed; one record may go beyond it.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// The damaged records after which a block is closed.
const DAMAGED_MAX: usize = 1_024;

/// Up to which position a ring has been kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The ring's id.
    pub(super) ring: u64,
    /// The position behind the last record kept.
    pub(super) next: u64,
}

impl Mark {
    /// What the beginning of a block says.
    pub(super) fn of(block: &[u8]) -> Option<Mark> {
        Some(Mark { ring: number(block, 0)?, next: number(block, 8)? })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn count(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// A block while it is put together, or one that is closed.
#[derive(Debug, Default)]
pub(super) struct Piece {
    text: Vec<u8>,
    records: u32,
    damaged: Vec<u64>,
    /// The position behind the last record.
    next: u64,
}

impl Piece {
    /// The records of the format in it, bad ones counted.
    pub(super) fn records(&self) -> u32 {
        self.records + self.damaged.len() as u32
    }

    /// The position behind its last record.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The block's bytes.
    pub(super) fn encode(&self, ring: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(HEAD + 8 * self.damaged.len() + self.text.len());
        bytes.extend_from_slice(&ring.to_le_bytes());
        bytes.extend_from_slice(&self.next.to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&(self.damaged.len() as u32).to_le_bytes());
        self.damaged.iter().for_each(|position| bytes.extend_from_slice(&position.to_le_bytes()));
        bytes.extend_from_slice(&self.text);
        bytes.into()
    }

    fn is_full(&self) -> bool {
        self.text.len() >= TEXT_BYTES_MAX || self.records as usize >= RECORDS_MAX || self.damaged.len() >= DAMAGED_MAX
    }
}

/// Gathers records of a ring into pieces.
pub(super) struct Gather {
    format: Format,
    cutter: Box<dyn Cutter>,
    piece: Piece,
    closed: Vec<Piece>,
    seen: bool,
}

impl Gather {
    pub(super) fn new(format: &Format) -> Result<Gather, Error> {
        let (piece, closed) = (Piece::default(), Vec::new());
        Ok(Gather { format: format.clone(), cutter: format.cutter()?, piece, closed, seen: false })
    }

    /// Takes a record of the ring, which holds none, one or more of the format.
    pub(super) fn add(&mut self, position: u64, record: &[u8]) -> Result<(), Error> {
        (self.piece.next, self.seen) = (position + 1, true);
        if record.is_empty() {
            return Ok(());
        }
        let start = self.piece.text.len();
        self.piece.text.extend_from_slice(record);
        if !record.ends_with(b"\n") {
            self.piece.text.push(b'\n');
        }
        let cut = self.cutter.cut(&self.piece.text[start..], usize::MAX);
        if start + cut.end == self.piece.text.len() {
            self.piece.records += cut.records as u32;
            return Ok(());
        }
        // A quote stands open: what others send behind it is not drawn into it.
        self.cutter = self.format.cutter()?;
        let text = self.piece.text.split_off(start);
        if self.piece.records() > 0 {
            self.piece.next = position;
            self.close();
        }
        self.piece = Piece { text, records: cut.records as u32 + 1, damaged: Vec::new(), next: position + 1 };
        self.close();
        Ok(())
    }

    /// Takes note of a damaged record.
    pub(super) fn add_damaged(&mut self, position: u64) {
        (self.piece.next, self.seen) = (position + 1, true);
        self.piece.damaged.push(position);
    }

    /// Whether enough has been gathered.
    pub(super) fn is_full(&self) -> bool {
        !self.closed.is_empty() || self.piece.is_full()
    }

    /// What has been gathered, in order; the last may have no records.
    pub(super) fn take(&mut self) -> Vec<Piece> {
        if std::mem::take(&mut self.seen) {
            self.close();
        }
        std::mem::take(&mut self.closed)
    }

    fn close(&mut self) {
        let next = self.piece.next;
        self.closed.push(std::mem::replace(&mut self.piece, Piece { next, ..Piece::default() }));
    }
}

/// Decodes blocks of a ring with the decoder of their text.
struct RingDecode {
    text: Box<dyn Decode>,
}

/// Makes decoders of blocks from those of their text.
pub(super) fn decoder(text: MakeDecoder) -> MakeDecoder {
    std::sync::Arc::new(move || Ok(Box::new(RingDecode { text: text()? }) as Box<dyn Decode>))
}

impl Decode for RingDecode {
    fn decode(&mut self, bytes: &[u8], first_record: u64, out: &mut Decoded) -> Result<(), String> {
        let short = || format!("a block of a ring has {} bytes, which is too few", bytes.len());
        let records = count(bytes, 16).ok_or_else(short)?;
        let damaged = count(bytes, 20).ok_or_else(short)?;
        let text = bytes.get(HEAD + 8 * damaged as usize..).ok_or_else(short)?;
        self.text.decode(text, first_record, out)?;
        for index in 0..damaged {
            let position = number(bytes, HEAD + 8 * index as usize).ok_or_else(short)?;
            out.rejected.push(RejectedRecord {
                record: records + index,
                reason: format!("the ring's record at position {position} is damaged"),
                text: String::new(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidemill_format::CsvOptions;

    use super::*;

    /// The text, the records and the position behind each piece of these records of a CSV ring.
    fn gathered(records: &[&str]) -> Vec<(String, u32, u64)> {
        let mut gather = Gather::new(&Format::Csv(CsvOptions::default())).expect("CSV is a stream");
        for (position, record) in records.iter().enumerate() {
            gather.add(position as u64, record.as_bytes()).expect("CSV is a stream");
        }
        let text = |piece: &Piece| String::from_utf8(piece.text.clone()).expect("it was text");
        gather.take().iter().map(|piece| (text(piece), piece.records(), piece.next())).collect()
    }

    #[test]
    fn each_record_ends_with_its_newline() {
        assert_eq!(gathered(&["1,a", "2,b\n", "3,c\n4,d"]), [("1,a\n2,b\n3,c\n4,d\n".to_string(), 4, 3)]);
        assert_eq!(gathered(&["", "1,\"a\nb\""]), [("1,\"a\nb\"\n".to_string(), 1, 2)]);
        assert_eq!(gathered(&[""]), [(String::new(), 0, 1)], "what is empty is passed");
        assert_eq!(gathered(&[]), []);
    }

    #[test]
    fn an_open_quote_takes_nothing_of_what_others_send() {
        let expected = [("1,a\n".to_string(), 1, 1), ("2,\"b\n".to_string(), 1, 2), ("3,c\n".to_string(), 1, 3)];
        assert_eq!(gathered(&["1,a", "2,\"b", "3,c"]), expected);
    }

    #[test]
    fn a_block_says_how_far_its_ring_was_read() {
        let mut gather = Gather::new(&Format::Csv(CsvOptions::default())).expect("CSV is a stream");
        gather.add(6, b"1").expect("CSV is a stream");
        gather.add_damaged(7);
        let pieces = gather.take();
        let block = pieces[0].encode(99);
        assert_eq!((Mark::of(&block), pieces[0].records()), (Some(Mark { ring: 99, next: 8 }), 2));
        assert_eq!(Mark::of(&block[..15]), None);
    }
}
