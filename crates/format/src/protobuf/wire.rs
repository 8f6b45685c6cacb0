//! The wire format: tags, varints and fixed words, read and written.
//!
//! A [`Reader`] is a window on a body; it knows where it stands in the whole, so that every fault names its byte. Nothing
//! is read past the window's end, however long a length says that it is.

use std::ops::Range;

/// The deepest nesting of unknown groups that is passed over.
const GROUP_DEPTH_MAX: usize = 64;

/// What is wrong at a byte of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: String,
}

#[cold]
#[inline(never)]
pub(super) fn fault<T>(at: usize, reason: impl Into<String>) -> Result<T, Box<Fault>> {
    Err(Box::new(Fault { at, reason: reason.into() }))
}

/// How the value behind a tag is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Length,
    GroupStart,
    GroupEnd,
    Fixed32,
}

impl Wire {
    /// The name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Wire::Varint => "a varint",
            Wire::Fixed64 => "eight bytes",
            Wire::Length => "bytes with their length",
            Wire::GroupStart | Wire::GroupEnd => "a group",
            Wire::Fixed32 => "four bytes",
        }
    }
}

/// A window on a body.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Reader { body, at: 0, end: body.len() }
    }

    /// The same body, seen through another window.
    pub(super) fn window(&self, range: Range<usize>) -> Self {
        Reader { body: self.body, at: range.start, end: range.end }
    }

    /// Where the next byte stands in the body.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// The bytes up to the window's end.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.body[self.at..self.end]
    }

    /// The next tag: a field's number and how its value is written.
    #[inline(always)]
    pub(super) fn tag(&mut self) -> Result<(u32, Wire), Box<Fault>> {
        let at = self.at;
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Length,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            other => return fault(at, format!("expected a field, found the wire type {other}, which there is not")),
        };
        match u32::try_from(tag >> 3) {
            Ok(number @ 1..=0x1FFF_FFFF) => Ok((number, wire)),
            _ => fault(at, format!("{} is no number of a field", tag >> 3)),
        }
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, Box<Fault>> {
        match self.body[..self.end].get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Box<Fault>> {
        let bytes = &self.body[self.at.min(self.end)..self.end];
        let mut value = 0;
        for (index, &byte) in bytes.iter().take(10).enumerate() {
            // The tenth byte holds the highest of 64 bits.
            if index == 9 && byte > 1 {
                return fault(self.at, "a varint is longer than 64 bits");
            }
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        if bytes.len() < 10 {
            self.broken_off(bytes.len() + 1)
        } else {
            fault(self.at, "a varint is longer than 64 bits")
        }
    }

    #[inline(always)]
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Box<Fault>> {
        match self.body[..self.end].get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => self.broken_off(N),
        }
    }

    /// A length, and the range of the bytes behind it.
    #[inline(always)]
    pub(super) fn length(&mut self) -> Result<Range<usize>, Box<Fault>> {
        let length = self.varint()?;
        let left = self.end - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                let range = self.at..self.at + length;
                self.at = range.end;
                Ok(range)
            }
            _ => {
                fault(self.at, format!("a field is {length} bytes long, and its message ends {left} bytes further on"))
            }
        }
    }

    #[cold]
    fn broken_off<T>(&self, wanted: usize) -> Result<T, Box<Fault>> {
        let left = self.end.saturating_sub(self.at);
        fault(self.at, format!("the message breaks off: {wanted} bytes or more are due, {left} are left"))
    }

    /// Passes over the value of an unknown field.
    pub(super) fn skip(&mut self, number: u32, wire: Wire) -> Result<(), Box<Fault>> {
        self.skip_at(number, wire, 0)
    }

    fn skip_at(&mut self, number: u32, wire: Wire, depth: usize) -> Result<(), Box<Fault>> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.fixed::<8>().map(drop),
            Wire::Length => self.length().map(drop),
            Wire::Fixed32 => self.fixed::<4>().map(drop),
            Wire::GroupEnd => fault(self.at, format!("group {number} ends without a beginning")),
            Wire::GroupStart if depth >= GROUP_DEPTH_MAX => {
                fault(self.at, format!("groups are nested deeper than {GROUP_DEPTH_MAX} levels"))
            }
            Wire::GroupStart => loop {
                match self.tag()? {
                    (end, Wire::GroupEnd) if end == number => return Ok(()),
                    (inner, wire) => self.skip_at(inner, wire, depth + 1)?,
                }
            },
        }
    }
}

/// Appends a varint.
pub(super) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag.
pub(super) fn write_tag(number: u32, wire: Wire, out: &mut Vec<u8>) {
    let wire = match wire {
        Wire::Varint => 0,
        Wire::Fixed64 => 1,
        Wire::Length => 2,
        Wire::GroupStart => 3,
        Wire::GroupEnd => 4,
        Wire::Fixed32 => 5,
    };
    write_varint(u64::from(number) << 3 | wire, out);
}

/// Appends the bytes of a field, which `write` appends, with its tag and length.
pub(super) fn write_length(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    write_tag(number, Wire::Length, out);
    let start = out.len();
    // Nearly always one byte will do; when it does not, what was written moves up.
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    write_varint(length as u64, &mut prefix);
    out.splice(start..=start, prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_the_way_there_and_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), i64::MAX as u64, u64::MAX] {
            let mut bytes = Vec::new();
            write_varint(value, &mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn nothing_is_read_past_the_window() {
        let check = |bytes: &[u8], part: &str| {
            let mut whole = bytes.to_vec();
            whole.extend_from_slice(&[0; 16]);
            let mut reader = Reader::new(&whole).window(0..bytes.len());
            let read = reader.tag().and_then(|(number, wire)| reader.skip(number, wire));
            let fault = read.expect_err(part);
            assert!(fault.reason.contains(part), "{}", fault.reason);
        };
        check(&[], "breaks off");
        check(&[0x80], "breaks off");
        check(&[0x08], "breaks off");
        check(&[0x08, 0x80, 0x80], "breaks off");
        check(&[0x09, 1, 2, 3], "8 bytes or more are due, 3 are left");
        check(&[0x0D, 1, 2], "4 bytes or more are due, 2 are left");
        check(&[0x0A, 3, 1, 2], "3 bytes long, and its message ends 2 bytes further on");
        check(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], "is 18446744073709551615 bytes long");
        check(&[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2], "longer than 64 bits");
        check(&[0x0E], "the wire type 6");
        check(&[0x00], "0 is no number");
        check(&[0x0C], "ends without a beginning");
        check(&[0x0B, 0x14], "ends without a beginning");
        check(&[0x0B].repeat(100), "nested deeper");
    }

    #[test]
    fn unknown_groups_are_passed_over() {
        let bytes = [0x0B, 0x10, 0x05, 0x1B, 0x1C, 0x0C, 0x10];
        let mut reader = Reader::new(&bytes);
        let (number, wire) = reader.tag().expect("a group");
        reader.skip(number, wire).expect("it ends");
        assert_eq!(reader.at(), 6);
    }

    #[test]
    fn long_fields_have_long_lengths() {
        for length in [0, 127, 128, 20_000] {
            let mut out = Vec::new();
            write_length(3, &mut out, |out| out.resize(out.len() + length, 7));
            let mut reader = Reader::new(&out);
            assert_eq!(reader.tag(), Ok((3, Wire::Length)));
            assert_eq!(reader.length().map(|range| range.len()), Ok(length));
            assert!(reader.is_empty());
        }
    }
}
