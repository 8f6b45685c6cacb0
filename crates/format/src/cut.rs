//! Where records end, so that a stream of bytes can be cut into blocks.
//!
//! The one idea: a cutter is shown the bytes behind the last cut, again and longer until it finds an end; it remembers how
//! far it has looked, so that every byte is looked at once.

/// How much of the bytes shown is whole records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// Where the last whole record ends; 0 when none does.
    pub end: usize,
    /// How many lines or records end before it, blank lines included.
    pub records: usize,
}

/// Finds where records end.
///
/// A reader keeps the bytes behind the last cut in a buffer, appends what it reads, and asks again:
///
/// ```
/// use tidemill_format::{Cut, Cutter, LineCutter};
///
/// let mut cutter = LineCutter::default();
/// assert_eq!(cutter.cut(b"{\"a\":1", 100), Cut { end: 0, records: 0 });
/// assert_eq!(cutter.cut(b"{\"a\":1}\n{\"a\":2}\n{\"a\"", 100), Cut { end: 16, records: 2 });
/// // The next call begins behind the cut: with `{"a"` and whatever was read since. What is left
/// // when the stream ends is the last record, which needs no newline.
/// assert_eq!(cutter.cut(b"{\"a\":3}\n", 100), Cut { end: 8, records: 1 });
/// ```
pub trait Cutter: Send {
    /// Finds the end of at most `records_max` whole records in `bytes`, which begins where the last cut ended.
    fn cut(&mut self, bytes: &[u8], records_max: usize) -> Cut;
}

/// Records that are lines.
#[derive(Debug, Default)]
pub struct LineCutter {
    looked: usize,
}

impl Cutter for LineCutter {
    fn cut(&mut self, bytes: &[u8], records_max: usize) -> Cut {
        let from = self.looked.min(bytes.len());
        let fresh = &bytes[from..];
        // Counting is far quicker than finding each, and nearly always there are fewer than may be taken.
        let records = memchr::memchr_iter(b'\n', fresh).count().min(records_max);
        let last = if records < records_max {
            memchr::memrchr(b'\n', fresh)
        } else {
            memchr::memchr_iter(b'\n', fresh).take(records).last()
        };
        let cut = last.map_or(Cut::default(), |newline| Cut { end: from + newline + 1, records });
        // After a full cut the bytes behind it have not been looked at.
        self.looked = if cut.records == records_max { 0 } else { bytes.len() - cut.end };
        cut
    }
}

/// Records of CSV: lines, but for the newlines within quotes.
#[derive(Debug)]
pub struct CsvCutter {
    quote: Option<u8>,
    delimiter: u8,
    escape: Option<u8>,
    comment: Option<u8>,
    state: CsvState,
}

#[derive(Debug, Clone, Copy, Default)]
struct CsvState {
    looked: usize,
    quoted: bool,
    /// The index behind a closing quote: another quote there is a quote within the field.
    closed: Option<usize>,
    /// The index behind an escape character, whose byte means nothing.
    escaped: Option<usize>,
}

impl CsvCutter {
    /// A cutter for the given special characters.
    pub fn new(delimiter: u8, quote: Option<u8>, escape: Option<u8>, comment: Option<u8>) -> Self {
        CsvCutter { quote, delimiter, escape, comment, state: CsvState::default() }
    }

    /// Whether a quote at `at` opens a quoted field of the record that begins at `start`.
    fn opens(&self, bytes: &[u8], start: usize, at: usize) -> bool {
        at == start || bytes[at - 1] == self.delimiter || self.state.closed == Some(at)
    }

    fn is_comment(&self, bytes: &[u8], start: usize) -> bool {
        self.comment.is_some() && bytes.get(start).copied() == self.comment
    }
}

impl Cutter for CsvCutter {
    fn cut(&mut self, bytes: &[u8], records_max: usize) -> Cut {
        let mut cut = Cut::default();
        let (quote, escape) = (self.quote.unwrap_or(b'\n'), self.escape.unwrap_or(b'\n'));
        let from = self.state.looked.min(bytes.len());
        for at in memchr::memchr3_iter(b'\n', quote, escape, &bytes[from..]).map(|at| from + at) {
            if self.state.escaped == Some(at) {
                continue;
            }
            match bytes[at] {
                b'\n' if !self.state.quoted => {
                    cut = Cut { end: at + 1, records: cut.records + 1 };
                    if cut.records == records_max {
                        self.state = CsvState::default();
                        return cut;
                    }
                }
                b'\n' => {}
                _ if self.is_comment(bytes, cut.end) => {}
                byte if byte == quote && self.state.quoted => {
                    self.state.quoted = false;
                    self.state.closed = Some(at + 1);
                }
                byte if byte == quote => self.state.quoted = self.opens(bytes, cut.end, at),
                _ if self.state.quoted => self.state.escaped = Some(at + 1),
                _ => {}
            }
        }
        self.state.looked = bytes.len() - cut.end;
        self.state.closed = self.state.closed.and_then(|at| at.checked_sub(cut.end));
        self.state.escaped = self.state.escaped.and_then(|at| at.checked_sub(cut.end));
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `text` shown in pieces of every size; the records must be the same each time.
    fn check(mut cutter: impl FnMut() -> Box<dyn Cutter>, text: &str, expected: &[&str]) {
        for piece in 1..=text.len() {
            for records_max in 1..=3 {
                let mut cutter = cutter();
                let (mut start, mut shown, mut records) = (0, 0, Vec::new());
                loop {
                    let cut = cutter.cut(&text.as_bytes()[start..shown], records_max);
                    assert!(cut.records <= records_max);
                    if cut.records > 0 {
                        records.push((cut.records, &text[start..start + cut.end]));
                        start += cut.end;
                    } else if shown == text.len() {
                        break;
                    } else {
                        shown = (shown + piece).min(text.len());
                    }
                }
                let count: usize = records.iter().map(|(count, _)| count).sum();
                assert_eq!(count, expected.len(), "{text:?} in pieces of {piece}");
                let all: String = records.iter().map(|(_, text)| *text).collect();
                assert_eq!(all, expected.concat());
                if records_max == 1 {
                    let each: Vec<_> = records.iter().map(|(_, text)| *text).collect();
                    assert_eq!(each, expected, "{text:?} in pieces of {piece}");
                }
            }
        }
    }

    #[test]
    fn lines_end_at_newlines() {
        check(|| Box::new(LineCutter::default()), "a\n\nbc\nd", &["a\n", "\n", "bc\n"]);
    }

    #[test]
    fn newlines_in_quotes_end_no_record() {
        let csv = || Box::new(CsvCutter::new(b',', Some(b'"'), None, None)) as Box<dyn Cutter>;
        check(csv, "1,\"a\nb\",2\n3\n", &["1,\"a\nb\",2\n", "3\n"]);
        check(csv, "\"a\"\"\nb\"\n\"\"\n\"\"\"\n\"\n", &["\"a\"\"\nb\"\n", "\"\"\n", "\"\"\"\n\"\n"]);
        // A quote in the middle of a field is a quote.
        check(csv, "5\" pipe\n6\" pipe\n", &["5\" pipe\n", "6\" pipe\n"]);
    }

    #[test]
    fn escapes_hide_quotes_and_comments_hide_everything() {
        let csv = || Box::new(CsvCutter::new(b';', Some(b'\''), Some(b'\\'), Some(b'#'))) as Box<dyn Cutter>;
        check(csv, "'a\\'\nb';1\n# it;'s\n2\n", &["'a\\'\nb';1\n", "# it;'s\n", "2\n"]);
    }
}
