//! [`Chunks`]: a body in chunks, byte by byte, as RFC 9112 section 7.1 has it.
//!
//! The decoder keeps no bytes: it says which of those it is shown are the body's. It takes what the RFC's grammar has and
//! no more: a chunk's size ends in CRLF or in `;` and an extension, lines never end in LF alone, and what comes after the
//! last chunk are header lines, which are passed over.

use std::ops::Range;

use super::head::{Fault, LINES_MAX};

/// The most bytes of extensions in a body.
const EXTENSION_BYTES_MAX: usize = 16 << 10;

/// The most bytes after the last chunk.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// How far a body in chunks has come.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    state: State,
    /// What is left of the chunk, or its size as far as it was read.
    left: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_lines: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first digit of a size.
    Start,
    /// Behind a digit.
    Size,
    /// In the space between the size and the extension.
    Space,
    /// In an extension.
    Extension,
    /// Behind the CR of a size line.
    SizeEnd,
    /// In the data.
    Data,
    /// Behind the data.
    DataCr,
    /// Behind the CR of the data.
    DataEnd,
    /// At the beginning of a line after the last chunk.
    Line,
    /// In the name of a trailer.
    Name,
    /// In its value.
    Value,
    /// Behind its CR.
    ValueEnd,
    /// Behind the CR of the last line.
    LastEnd,
    /// Behind everything.
    End,
}

/// What some bytes of a body were.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// How many were looked at.
    pub consumed: usize,
    /// Which of them are data.
    pub data: Range<usize>,
}

impl Chunks {
    /// Before the first chunk.
    pub(super) fn new() -> Self {
        Chunks { state: State::Start, left: 0, extension_bytes: 0, trailer_bytes: 0, trailer_lines: 0 }
    }

    /// Whether the body has ended.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::End
    }

    /// Looks at bytes up to the end of the next data in them, of the body, or of the bytes.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::End {
            if self.state == State::Data {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= count as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step { consumed: at + count, data: at..at + count });
            }
            self.state = self.next(bytes[at])?;
            at += 1;
        }
        Ok(Step { consumed: at, data: at..at })
    }

    fn next(&mut self, byte: u8) -> Result<State, Fault> {
        let next = match (self.state, byte) {
            (State::Start | State::Size, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left.checked_mul(16).ok_or(Fault::Chunk)? | u64::from(digit);
                State::Size
            }
            (State::Size | State::Space, b' ' | b'\t') => State::Space,
            (State::Size | State::Space, b';') => State::Extension,
            (State::Size | State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, byte) if is_text(byte) => {
                self.extension_bytes += 1;
                if self.extension_bytes >= EXTENSION_BYTES_MAX {
                    return Err(Fault::Chunk);
                }
                State::Extension
            }
            (State::SizeEnd, b'\n') if self.left == 0 => State::Line,
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Start,
            (State::Line, b'\r') => State::LastEnd,
            (State::Line | State::Name, byte) if is_token(byte) => State::Name,
            (State::Name, b':') => State::Value,
            (State::Value, b'\r') => State::ValueEnd,
            (State::Value, byte) if is_text(byte) => State::Value,
            (State::ValueEnd, b'\n') => {
                self.trailer_lines += 1;
                State::Line
            }
            (State::LastEnd, b'\n') => State::End,
            (State::Line | State::Name | State::Value | State::ValueEnd | State::LastEnd, _) => {
                return Err(Fault::Trailer);
            }
            _ => return Err(Fault::Chunk),
        };
        if matches!(next, State::Name | State::Value | State::ValueEnd) {
            self.trailer_bytes += 1;
        }
        if self.trailer_bytes >= TRAILER_BYTES_MAX || self.trailer_lines > LINES_MAX {
            return Err(Fault::Trailer);
        }
        Ok(next)
    }
}

/// What a value may have in it.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// What a name may have in it.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that comes in pieces of `size` bytes, and what is left behind it.
    fn read(bytes: &[u8], size: usize) -> Result<(String, usize, bool), Fault> {
        let (mut chunks, mut data, mut consumed) = (Chunks::new(), Vec::new(), 0);
        for piece in bytes.chunks(size) {
            let mut at = 0;
            while at < piece.len() && !chunks.is_over() {
                let step = chunks.step(&piece[at..])?;
                data.extend_from_slice(&piece[at..][step.data]);
                at += step.consumed;
            }
            consumed += at;
        }
        Ok((String::from_utf8_lossy(&data).to_string(), bytes.len() - consumed, chunks.is_over()))
    }

    fn check(bytes: &str, expected: Result<(&str, usize, bool), Fault>) {
        for size in 1..=bytes.len() {
            let found = read(bytes.as_bytes(), size);
            let found = found.as_ref().map(|(data, left, over)| (data.as_str(), *left, *over)).map_err(|fault| *fault);
            assert_eq!(found, expected, "{bytes:?} in pieces of {size}");
        }
    }

    #[test]
    fn the_data_of_all_chunks_is_the_body() {
        check("0\r\n\r\n", Ok(("", 0, true)));
        check("5\r\nhello\r\n0\r\n\r\nGET", Ok(("hello", 3, true)));
        check("a;x=\"y\"\r\n0123456789\r\n00B ; x\r\n0123456789a\r\n0\r\n\r\n", Ok(("01234567890123456789a", 0, true)));
        check("1\r\na\r\n0\r\nX-Sum: 1 2\r\ny:\r\n\r\n", Ok(("a", 0, true)));
        check("5\r\nhel", Ok(("hel", 0, false)));
    }

    #[test]
    fn what_the_grammar_does_not_have_is_refused() {
        for bad in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1\n",
            "1 \r\n",
            "1 2\r\n",
            "1\ra",
            "1;\n",
            "1;\0\r\n",
            "10000000000000000\r\n",
        ] {
            check(bad, Err(Fault::Chunk));
        }
        for bad in ["1\r\nab\r\n", "1\r\na\n0\r\n", "2\r\nabc", "1\r\na0\r\n"] {
            check(bad, Err(Fault::Chunk));
        }
        for bad in [" a: b\r\n", "a b: c\r\n", ": b\r\n", "a: b\n", "a: \0\r\n", "\n", "\ra"] {
            check(&format!("0\r\n{bad}"), Err(Fault::Trailer));
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = |count: usize| "x".repeat(count);
        assert!(read(format!("1;{}\r\na\r\n0\r\n\r\n", long(16_000)).as_bytes(), 999).is_ok());
        assert_eq!(read(format!("1;{}\r\na\r\n0\r\n\r\n", long(17_000)).as_bytes(), 999), Err(Fault::Chunk));
        assert_eq!(read(format!("0\r\na: {}\r\n\r\n", long(17_000)).as_bytes(), 999), Err(Fault::Trailer));
        assert_eq!(read(format!("0\r\n{}\r\n", "a:b\r\n".repeat(101)).as_bytes(), 999), Err(Fault::Trailer));
        assert!(read(format!("0\r\n{}\r\n", "a:b\r\n".repeat(100)).as_bytes(), 999).is_ok());
    }
}
