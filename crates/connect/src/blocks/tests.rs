use std::io;

use proptest::prelude::*;
use tidemill_format::{CsvCutter, LineCutter};

use super::*;
use crate::pool::LINE_BYTES;

/// Gives its bytes in pieces of the sizes told, in turn, and is interrupted now and then.
struct Choppy {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    turn: usize,
}

impl Choppy {
    fn new(bytes: &[u8], sizes: &[usize]) -> Self {
        Choppy { bytes: bytes.to_vec(), at: 0, sizes: sizes.to_vec(), turn: 0 }
    }
}

impl Read for Choppy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        if self.turn % 7 == 3 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = self.sizes[self.turn % self.sizes.len()].max(1);
        let length = size.min(buffer.len()).min(self.bytes.len() - self.at);
        buffer[..length].copy_from_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

fn place() -> Place {
    Place { table: "t".into(), path: "input".into(), partition: 3 }
}

fn read_all(
    input: impl Read,
    cutter: Box<dyn Cutter>,
    fill: Fill,
    header: Option<Header>,
) -> Result<Vec<Block>, Error> {
    let mut blocks = Blocks::new(input, cutter, Pool::new(LINE_BYTES), place(), fill).with_header(header);
    let mut all = Vec::new();
    while let Some(block) = blocks.next()? {
        all.push(block);
    }
    assert!(blocks.next()?.is_none(), "the end stays the end");
    Ok(all)
}

fn bytes(block: &Block) -> &[u8] {
    match &block.data {
        BlockData::Bytes(bytes) => bytes,
        BlockData::Rows(_) => unreachable!("blocks of bytes"),
    }
}

/// Checks what every reading must give: all bytes in order, whole records, right numbers.
fn check(text: &[u8], blocks: &[Block], records: usize) {
    let all: Vec<u8> = blocks.iter().flat_map(bytes).copied().collect();
    assert_eq!(all, text);
    let (mut at, mut first_record) = (0, 0);
    for (index, block) in blocks.iter().enumerate() {
        assert_eq!((block.partition, block.from, block.first_record), (3, at, first_record));
        assert_eq!(block.to - block.from, bytes(block).len() as u64);
        assert!((1..=RECORDS_MAX as u32).contains(&block.records));
        assert!(bytes(block).ends_with(b"\n") || index + 1 == blocks.len());
        (at, first_record) = (block.to, first_record + u64::from(block.records));
    }
    assert_eq!(first_record, records as u64);
}

proptest! {
    #[test]
    fn any_cut_into_reads_gives_the_same_records_in_order(
        lines in prop::collection::vec("[a-z\u{e9}]{0,30}", 0..300),
        sizes in prop::collection::vec(1_usize..200, 1..5),
        newline_at_end in any::<bool>(),
        fill in prop::sample::select(vec![Fill::Whole, Fill::Whatever]),
    ) {
        let mut text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let mut records = lines.len();
        if !newline_at_end && text.ends_with('\n') {
            text.pop();
            // An empty last line without a newline is none.
            records -= usize::from(text.is_empty() || text.ends_with('\n'));
        }
        let input = Choppy::new(text.as_bytes(), &sizes);
        let blocks = read_all(input, Box::new(LineCutter::default()), fill, None).expect("short lines");
        check(text.as_bytes(), &blocks, records);
    }

    #[test]
    fn quoted_newlines_stay_in_their_record(
        fields in prop::collection::vec("[a-z\n,]{0,20}", 1..100),
        sizes in prop::collection::vec(1_usize..50, 1..5),
    ) {
        let text = fields.iter().map(|field| format!("1,\"{field}\"\n")).collect::<String>();
        let cutter = || Box::new(CsvCutter::new(b',', Some(b'"'), None, None));
        let input = Choppy::new(text.as_bytes(), &sizes);
        let blocks = read_all(input, cutter(), Fill::Whatever, None).expect("short records");
        check(text.as_bytes(), &blocks, fields.len());
        prop_assert!(blocks.iter().all(|block| bytes(block).starts_with(b"1,\"")));
    }
}

#[test]
fn a_block_has_no_more_records_than_a_delta() {
    let text = "1\n".repeat(600_000);
    let blocks = read_all(text.as_bytes(), Box::new(LineCutter::default()), Fill::Whole, None).expect("short lines");
    check(text.as_bytes(), &blocks, 600_000);
    assert!(blocks.iter().any(|block| block.records == RECORDS_MAX as u32));
}

#[test]
fn a_record_longer_than_a_buffer_is_read() {
    let text = format!("a\n{}\nb\n{}", "x".repeat(5 << 20), "y".repeat(3 << 20));
    let blocks =
        read_all(text.as_bytes(), Box::new(LineCutter::default()), Fill::Whole, None).expect("under the limit");
    check(text.as_bytes(), &blocks, 4);
}

#[test]
fn a_record_without_an_end_is_an_error() {
    let endless = io::repeat(b'x').take(RECORD_BYTES_MAX as u64 * 2);
    let input = io::Read::chain(&b"short\n"[..], endless);
    let error = read_all(input, Box::new(LineCutter::default()), Fill::Whole, None).expect_err("it never ends");
    assert_eq!(error.to_string(), "table 't': the record at byte 6 of input is longer than 67108864 bytes");
}

#[test]
fn the_header_is_no_record_and_the_same_everywhere() {
    let header = Header::default();
    let read = |text: &[u8]| {
        let cutter = CsvCutter::new(b',', Some(b'"'), None, None);
        read_all(Choppy::new(text, &[3]), Box::new(cutter), Fill::Whole, Some(header.clone()))
    };
    let blocks = read(b"\r\na,b\r\n1,2\r\n3,4").expect("a header and two records");
    assert_eq!(header.get().map(Vec::as_slice), Some(&b"a,b"[..]));
    assert_eq!(blocks.iter().map(|block| block.records).sum::<u32>(), 2);
    assert_eq!((blocks[0].from, blocks[0].first_record), (7, 0));
    assert!(read(b"a,b").expect("only a header").is_empty());
    assert!(read(b"").expect("nothing at all").is_empty());
    let error = read(b"a,c\n1,2\n").expect_err("another header");
    assert_eq!(error.to_string(), "table 't': the header of input is `a,c`, but that of the first file is `a,b`");
}

#[test]
fn a_failing_read_names_the_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
    }
    let error = read_all(Broken, Box::new(LineCutter::default()), Fill::Whole, None).expect_err("it fails");
    assert_eq!(error.to_string(), "table 't': cannot read input: the disk is on fire");
}
