//! What a journal looks like on disk; pure functions over bytes.
//!
//! A folder holds one `identity` and segment files, `00000000000000000001.segment` and on. Numbers are little-endian.
//!
//! - A segment is a multiple of 4,096 bytes. Bytes 0..512 hold its [`Header`], which is written once; byte 512 holds its
//!   *flush mark*, one word; records begin at byte 1,024 and fill the rest without gaps. What is not written is zero.
//! - A segment is written by one incarnation of the journal only, so that nothing old can stand where something new is
//!   expected. A start begins a new segment.
//! - The *flush mark* says up to which byte the segment was flushed before the mark was written. A bad record below it
//!   is damage; a bad record beyond it may be what a power cut leaves of a flush that never ended. A segment with a mark
//!   also proves that every segment before it was flushed to its end.
//! - A record is a multiple of 8 bytes: the commit word (length u32, kind u8, flags u8, tag u16), the checksum (CRC-32C)
//!   and stream (u32 each), the sequence (u64), the payload, zeros up to the next 8. The commit word is stored last. The
//!   checksum covers journal, segment, epoch and place too, so that a record is valid in its place only.

use std::fmt;

use tidemill_base::Timestamp;

use crate::level::Sequence;

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// Where the flush mark of a segment is.
pub const MARK_AT: u64 = 512;
/// Where the records of a segment begin.
pub const RECORDS_AT: u64 = 1024;
/// The bytes of a record before its payload.
pub const RECORD_BYTES: u64 = 24;
/// The file that names a journal and counts its starts.
pub const IDENTITY: &str = "identity";

const MAGIC: u64 = u64::from_le_bytes(*b"TMJOURNL");
const HEADER_WORDS: usize = 10;
/// Marks a commit word, so that it is never zero.
const TAG: u64 = 0x7d1a;
const FLAG_VOID: u64 = 1;

/// The name of a segment's file.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}.segment")
}

/// The number of the segment whose file has this name.
pub fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".segment").filter(|number| number.len() == 20)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

/// What is wrong with bytes of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// The header is not one.
    Header,
    /// The header's checksum is wrong.
    HeaderChecksum,
    /// The flush mark is not one.
    Mark,
    /// The file's size is no multiple of 4,096.
    Size {
        /// Its size.
        bytes: u64,
    },
    /// Nothing was written where a record must be.
    Missing,
    /// The word before a record is no commit word.
    Tag,
    /// The record reaches beyond its segment.
    Length {
        /// The bytes of its payload, as it says.
        bytes: u64,
    },
    /// The record has another number than its place demands.
    Sequence {
        /// The number it has.
        found: Sequence,
        /// The number it should have.
        expected: Sequence,
    },
    /// The record's checksum is wrong.
    Checksum {
        /// The sequence it says it has.
        sequence: Sequence,
    },
    /// The segment does not follow the one before.
    Chain {
        /// The segment that it says to follow.
        previous: u64,
    },
    /// Records that were flushed are not there.
    Floor {
        /// The last record that is there.
        last: Sequence,
        /// The record that the journal is known to have reached.
        floor: Sequence,
    },
    /// The segment was written by a start that has not been.
    Epoch {
        /// The start it names.
        found: u64,
        /// The starts there were.
        known: u64,
    },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::Header => write!(f, "this is no header of a segment"),
            Defect::HeaderChecksum => write!(f, "the header's checksum is wrong"),
            Defect::Mark => write!(f, "the flush mark is not one"),
            Defect::Size { bytes } => write!(f, "{bytes} bytes are no multiple of 4,096"),
            Defect::Missing => write!(f, "a record that was flushed is not there"),
            Defect::Tag => write!(f, "this is no record"),
            Defect::Length { bytes } => write!(f, "a record of {bytes} bytes reaches beyond its segment"),
            Defect::Sequence { found, expected } => write!(f, "record {found} stands where {expected} belongs"),
            Defect::Checksum { sequence } => write!(f, "the checksum of record {sequence} is wrong"),
            Defect::Chain { previous } => write!(f, "segment {previous}, which comes before it, is not there"),
            Defect::Floor { last, floor } => write!(f, "the journal ends with record {last}, but had reached {floor}"),
            Defect::Epoch { found, known } => write!(f, "it names start {found}, but there were {known}"),
        }
    }
}

/// The head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The journal it belongs to.
    pub journal: u128,
    /// Its number; later ones are greater.
    pub segment: u64,
    /// The number of the last segment before it that has records, or 0.
    pub previous: u64,
    /// The sequence of its first record.
    pub base: Sequence,
    /// The incarnation of the journal that writes it.
    pub epoch: u64,
    /// When it was begun.
    pub created: Timestamp,
}

/// What the head of a segment file was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A header.
    Written(Header),
    /// Zeros: made ready, and never used or never flushed.
    Blank,
    /// A header of a format that is not known.
    Newer(u32),
    /// Something else.
    Bad(Defect),
}

impl Header {
    /// The header as words, in the order in which they stand.
    pub fn encode(&self) -> [u64; HEADER_WORDS] {
        let mut words = [
            MAGIC,
            u64::from(FORMAT),
            self.journal as u64,
            (self.journal >> 64) as u64,
            self.segment,
            self.previous,
            self.base.0,
            self.epoch,
            self.created.0 as u64,
            0,
        ];
        words[HEADER_WORDS - 1] = checksum(&words[..HEADER_WORDS - 1]);
        words
    }

    /// Reads what stands at the beginning of a segment file.
    pub fn decode(bytes: &[u8]) -> Head {
        if bytes.len() < MARK_AT as usize {
            return Head::Bad(Defect::Header);
        }
        if bytes[..MARK_AT as usize].iter().all(|byte| *byte == 0) {
            return Head::Blank;
        }
        let words: [u64; HEADER_WORDS] = std::array::from_fn(|index| word(bytes, index * 8));
        if words[0] != MAGIC {
            return Head::Bad(Defect::Header);
        }
        match words[1] as u32 {
            0 => return Head::Bad(Defect::Header),
            FORMAT => {}
            newer => return Head::Newer(newer),
        }
        if words[HEADER_WORDS - 1] != checksum(&words[..HEADER_WORDS - 1]) {
            return Head::Bad(Defect::HeaderChecksum);
        }
        Head::Written(Header {
            journal: u128::from(words[2]) | u128::from(words[3]) << 64,
            segment: words[4],
            previous: words[5],
            base: Sequence(words[6]),
            epoch: words[7],
            created: Timestamp(words[8] as i64),
        })
    }

    /// What the checksums in this segment begin with.
    pub fn salt(&self) -> u32 {
        let words = [self.journal as u64, (self.journal >> 64) as u64, self.segment, self.epoch];
        checksum(&words) as u32
    }
}

/// The flush mark that says bytes below `offset` were flushed; `offset` is a multiple of 8 below 32 GiB.
pub fn mark(salt: u32, offset: u64) -> u64 {
    (offset / 8) << 32 | u64::from(crc32c::crc32c_append(salt, &offset.to_le_bytes()))
}

/// Reads a flush mark: `Ok(0)` when none was written.
///
/// # Errors
/// [`Defect::Mark`] when it is not one of this segment.
pub fn read_mark(salt: u32, word: u64) -> Result<u64, Defect> {
    let offset = (word >> 32) * 8;
    match word {
        0 => Ok(0),
        _ if offset >= RECORDS_AT && mark(salt, offset) == word => Ok(offset),
        _ => Err(Defect::Mark),
    }
}

/// The bytes a record takes in its segment.
pub fn record_bytes(payload_bytes: u64) -> u64 {
    RECORD_BYTES + payload_bytes.next_multiple_of(8)
}

/// The commit word of a record; never zero.
pub fn commit_word(kind: u8, void: bool, payload_bytes: u32) -> u64 {
    let flags = if void { FLAG_VOID } else { 0 };
    u64::from(payload_bytes) | u64::from(kind) << 32 | flags << 40 | TAG << 48
}

/// The bytes a record with this commit word takes, if it is one.
pub fn committed_bytes(commit: u64) -> Option<u64> {
    (commit >> 48 == TAG && (commit >> 40) & 0xff <= FLAG_VOID).then(|| record_bytes(commit & 0xffff_ffff))
}

/// The checksum of a record's head; that of its payload is appended to it.
pub fn head_checksum(salt: u32, offset: u64, commit: u64, stream: u32, sequence: Sequence) -> u32 {
    let mut head = [0; 28];
    head[0..8].copy_from_slice(&offset.to_le_bytes());
    head[8..16].copy_from_slice(&commit.to_le_bytes());
    head[16..24].copy_from_slice(&sequence.0.to_le_bytes());
    head[24..28].copy_from_slice(&stream.to_le_bytes());
    crc32c::crc32c_append(salt, &head)
}

/// The second word of a record.
pub fn checksum_word(checksum: u32, stream: u32) -> u64 {
    u64::from(checksum) | u64::from(stream) << 32
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// The commit word.
    pub commit: u64,
    /// The kind that its writer gave it.
    pub kind: u8,
    /// Whether its writer gave it up: it has a number, and nothing to say.
    pub void: bool,
    /// The stream that its writer gave it.
    pub stream: u32,
    /// Its number.
    pub sequence: Sequence,
    /// The bytes of its payload.
    pub payload_bytes: u32,
    /// Its checksum.
    pub checksum: u32,
}

impl RecordHead {
    /// Reads the head of a record from its first [`RECORD_BYTES`]; none when nothing was committed there.
    ///
    /// # Errors
    /// [`Defect::Tag`] when this is no record.
    pub fn decode(bytes: &[u8]) -> Result<Option<RecordHead>, Defect> {
        if bytes.len() < RECORD_BYTES as usize {
            return Err(Defect::Tag);
        }
        let (commit, second) = (word(bytes, 0), word(bytes, 8));
        if commit == 0 {
            return Ok(None);
        }
        committed_bytes(commit).ok_or(Defect::Tag)?;
        Ok(Some(RecordHead {
            commit,
            kind: (commit >> 32) as u8,
            void: (commit >> 40) & FLAG_VOID != 0,
            stream: (second >> 32) as u32,
            sequence: Sequence(word(bytes, 16)),
            payload_bytes: commit as u32,
            checksum: second as u32,
        }))
    }

    /// The bytes the record takes.
    pub fn bytes(&self) -> u64 {
        record_bytes(u64::from(self.payload_bytes))
    }

    /// Whether the payload is what was written at this place.
    pub fn holds(&self, salt: u32, offset: u64, payload: &[u8]) -> bool {
        let head = head_checksum(salt, offset, self.commit, self.stream, self.sequence);
        self.checksum == crc32c::crc32c_append(head, payload)
    }
}

/// The content of the file `identity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The journal's name, drawn when it was made.
    pub journal: u128,
    /// How often it was opened for writing.
    pub incarnation: u64,
    /// The last record it had, and had flushed, when it was opened last.
    pub floor: Sequence,
}

impl Identity {
    /// The content, as text.
    pub fn encode(&self) -> String {
        let Identity { journal, incarnation, floor } = self;
        let body = format!(
            "tidemill journal\nformat {FORMAT}\njournal {journal:032x}\nincarnation {incarnation}\nfloor {floor}\n"
        );
        let checksum = crc32c::crc32c(body.as_bytes());
        format!("{body}checksum {checksum:08x}\n")
    }

    /// Reads the content.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Identity, IdentityDefect> {
        let damaged = |reason: &str| IdentityDefect::Damaged(reason.to_string());
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
        let mut lines = text.lines();
        if lines.next() != Some("tidemill journal") {
            return Err(damaged("it does not begin with 'tidemill journal'"));
        }
        let mut field = |name: &str, radix: u32| {
            let value = lines.next().and_then(|line| line.strip_prefix(name)).and_then(|rest| rest.strip_prefix(' '));
            let value = value.ok_or_else(|| damaged(&format!("the line '{name}' is missing")))?;
            u128::from_str_radix(value, radix).map_err(|_| damaged(&format!("'{name} {value}' holds no number")))
        };
        match field("format", 10)? {
            format if format == u128::from(FORMAT) => {}
            format => return Err(IdentityDefect::Newer(format as u32)),
        }
        let journal = field("journal", 16)?;
        let incarnation = field("incarnation", 10)? as u64;
        let identity = Identity { journal, incarnation, floor: Sequence(field("floor", 10)? as u64) };
        match identity.encode() == text {
            true => Ok(identity),
            false => Err(damaged("its checksum is wrong")),
        }
    }
}

/// Why the file `identity` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityDefect {
    /// It has a format that is not known.
    Newer(u32),
    /// It is not what was written; the sentence says how.
    Damaged(String),
}

/// The word at a byte; zero beyond the end.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    match bytes.get(at..at + 8) {
        Some(found) => word.copy_from_slice(found),
        None => return 0,
    }
    u64::from_le_bytes(word)
}

fn checksum(words: &[u64]) -> u64 {
    u64::from(words.iter().fold(0, |checksum, word| crc32c::crc32c_append(checksum, &word.to_le_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        journal: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        segment: 7,
        previous: 6,
        base: Sequence(1_000),
        epoch: 3,
        created: Timestamp(1_700_000_000_000),
    };

    fn bytes(words: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn a_header_reads_as_it_was_written() {
        assert_eq!(Header::decode(&bytes(&HEADER.encode())), Head::Written(HEADER));
        assert_eq!(Header::decode(&[0; 512]), Head::Blank);
    }

    #[test]
    fn a_header_with_any_byte_changed_is_refused() {
        let good = bytes(&HEADER.encode());
        for at in 0..HEADER_WORDS * 8 {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(!matches!(Header::decode(&bad), Head::Written(_) | Head::Blank), "byte {at}");
        }
    }

    #[test]
    fn the_layout_never_changes() {
        assert_eq!(HEADER.encode()[9], 0xa472_6dd1);
        assert_eq!(HEADER.salt(), 0x36e0_cb79);
        assert_eq!(mark(HEADER.salt(), 2048), 0x100_b090_5f62);
        assert_eq!(commit_word(9, false, 5), 0x7d1a_0009_0000_0005);
        assert_eq!(head_checksum(HEADER.salt(), 1024, commit_word(9, false, 5), 2, Sequence(1_000)), 0x7c67_efce);
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut words = HEADER.encode();
        words[1] = 9;
        assert_eq!(Header::decode(&bytes(&words)), Head::Newer(9));
        let text = IDENTITY_1.encode().replace("format 1", "format 2");
        assert_eq!(Identity::decode(text.as_bytes()), Err(IdentityDefect::Newer(2)));
    }

    #[test]
    fn a_mark_is_valid_in_its_segment_only() {
        let salt = HEADER.salt();
        assert_eq!(read_mark(salt, 0), Ok(0));
        assert_eq!(read_mark(salt, mark(salt, 4096)), Ok(4096));
        assert_eq!(read_mark(salt, mark(salt + 1, 4096)), Err(Defect::Mark));
        assert_eq!(read_mark(salt, mark(salt, 4096) ^ 1 << 33), Err(Defect::Mark));
    }

    const IDENTITY_1: Identity = Identity { journal: 77, incarnation: 12, floor: Sequence(400) };

    #[test]
    fn an_identity_reads_as_it_was_written() {
        let text = IDENTITY_1.encode();
        assert_eq!(Identity::decode(text.as_bytes()), Ok(IDENTITY_1));
        let check = |from: &str, to: &str, reason: &str| {
            let damaged = IdentityDefect::Damaged(reason.to_string());
            assert_eq!(Identity::decode(text.replace(from, to).as_bytes()), Err(damaged), "{from}");
        };
        check("incarnation 12", "incarnation 13", "its checksum is wrong");
        check("incarnation 12", "incarnation x", "'incarnation x' holds no number");
        check("floor", "flour", "the line 'floor' is missing");
        check("tidemill", "windmill", "it does not begin with 'tidemill journal'");
    }

    #[test]
    fn names_and_numbers_are_inverse() {
        assert_eq!(segment_number(&segment_name(42)), Some(42));
        assert_eq!(segment_number("42.segment"), None);
        assert_eq!(segment_number("00000000000000000042.segment.tmp"), None);
    }
}
