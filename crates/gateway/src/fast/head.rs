//! The head of an HTTP/1.1 request: read by httparse where it stands, and judged as RFC 9112 has it.
//!
//! Where the RFC lets a server choose, this one refuses: two readers that make two different requests of the same bytes
//! is how requests are smuggled past a proxy. Every refusal beyond hyper's is a [`Fault`] that says why.
//! Nothing is copied: a [`Head`] is a set of places in the bytes, and outlives their being moved.

use std::mem::MaybeUninit;

use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use httparse::{Error, Header, Request, Status};

use crate::asked::{self, IDEMPOTENCY_KEY, PREFER};

/// The longest head.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;

/// The most header lines.
pub(super) const LINES_MAX: usize = 100;

/// A part of the bytes of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u16,
    end: u16,
}

// A head is shorter than a span can say.
const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize);

impl Span {
    /// Where `part` is in `whole`, of which it is a slice.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Span { start: start as u16, end: (start + part.len()) as u16 }
    }

    fn in_bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// It is so long.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// A head that is in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Its length.
    pub length: usize,
    /// Whether the method is POST and the target a plain path: what this stack answers by itself.
    pub plain_post: bool,
    /// Whether the client speaks HTTP/1.1 and not 1.0.
    pub is_11: bool,
    /// Whether the connection is to stay open after the answer.
    pub keep_alive: bool,
    /// Whether the client waits for a word before it sends the body.
    pub expects: bool,
    /// How the end of the body is found.
    pub framing: Framing,
    target: Span,
    lines: Lines,
}

/// The first of each kind of line that somebody asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    content_type: Option<Span>,
    content_encoding: Option<Span>,
    idempotency_key: Option<Span>,
    prefer: Option<Span>,
    authorization: Option<Span>,
}

/// What the bytes of a connection begin with.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Part of a head.
    Partial,
    /// A head.
    Head(Head),
    /// No request.
    Fault(Fault),
}

/// Why a request is refused before anybody looks at what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not HTTP/1.
    Syntax,
    /// There are too many lines, or they are too long.
    TooLong,
    /// A line ends in LF alone.
    BareLineFeed,
    /// Host is missing, there twice, or no host.
    Host,
    /// There are several Content-Length.
    Lengths,
    /// Content-Length is no number.
    Length,
    /// Both Content-Length and Transfer-Encoding are there.
    LengthAndEncoding,
    /// HTTP/1.0 has no Transfer-Encoding.
    EncodingIn10,
    /// Transfer-Encoding does not end in chunked, or says it twice.
    Encoding,
    /// Transfer-Encoding names what nobody here undoes.
    EncodingUnknown,
    /// A chunk is not what RFC 9112 has.
    Chunk,
    /// A line behind the last chunk is no header line.
    Trailer,
}

impl Fault {
    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Fault::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Fault::EncodingUnknown => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What is wrong.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Fault::Syntax => "the bytes are no HTTP/1.1 request",
            Fault::TooLong => "the head of the request is longer than 16 KiB, or has more than 100 lines",
            Fault::BareLineFeed => "a line of the head ends in LF without CR",
            Fault::Host => "the head has no Host, several, or one that is no host",
            Fault::Lengths => "the head has several Content-Length lines",
            Fault::Length => "Content-Length is no number",
            Fault::LengthAndEncoding => "the head has both Content-Length and Transfer-Encoding",
            Fault::EncodingIn10 => "HTTP/1.0 has no Transfer-Encoding",
            Fault::Encoding => "Transfer-Encoding does not end in one chunked",
            Fault::EncodingUnknown => "Transfer-Encoding is not chunked alone",
            Fault::Chunk => "the body broke off: a chunk is not what its size says, or its size no number",
            Fault::Trailer => "the body broke off: a line after the last chunk is no header line",
        }
    }
}

/// Reads the head that `bytes` begin with.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; LINES_MAX];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(Status::Complete(length)) if length > HEAD_BYTES_MAX => Parsed::Fault(Fault::TooLong),
        Ok(Status::Complete(length)) => match judge(&bytes[..length], &request) {
            Ok(head) => Parsed::Head(head),
            Err(fault) => Parsed::Fault(fault),
        },
        Ok(Status::Partial) if bytes.len() > HEAD_BYTES_MAX => Parsed::Fault(Fault::TooLong),
        Ok(Status::Partial) => Parsed::Partial,
        Err(Error::TooManyHeaders) => Parsed::Fault(Fault::TooLong),
        Err(_) => Parsed::Fault(Fault::Syntax),
    }
}

/// Whether new bytes may have brought the end of a head: there is no use in parsing before.
pub(super) fn may_end(bytes: &[u8], known: usize) -> bool {
    let new = &bytes[known.saturating_sub(3)..];
    bytes.len() > HEAD_BYTES_MAX
        || memchr::memmem::find(new, b"\n\r\n").is_some()
        || new.windows(2).any(|two| two == b"\n\n")
}

fn judge(bytes: &[u8], request: &Request<'_, '_>) -> Result<Head, Fault> {
    if memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes[at - 1] != b'\r') {
        return Err(Fault::BareLineFeed);
    }
    let target = request.path.unwrap_or_default().as_bytes();
    let is_11 = request.version == Some(1);
    let mut seen = Seen { keep_alive: is_11, ..Seen::default() };
    for line in request.headers.iter() {
        seen.line(line, bytes)?;
    }
    if seen.hosts > 1 || (seen.hosts == 0 && is_11) {
        return Err(Fault::Host);
    }
    Ok(Head {
        length: bytes.len(),
        plain_post: request.method == Some("POST") && is_plain(target),
        is_11,
        keep_alive: seen.keep_alive && !seen.close,
        expects: seen.expects && is_11,
        framing: seen.framing(is_11)?,
        target: Span::of(target, bytes),
        lines: seen.lines,
    })
}

/// A path of characters that mean themselves, or are percent-encoded: no scheme, no fragment, nothing to be judged.
fn is_plain(target: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let known = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@%/?";
        let mut at = 0;
        while at < known.len() {
            plain[known[at] as usize] = true;
            at += 1;
        }
        plain
    };
    target.first() == Some(&b'/') && target.iter().all(|byte| PLAIN[usize::from(*byte)])
}

/// What the lines said so far.
#[derive(Debug, Default)]
struct Seen<'a> {
    hosts: usize,
    keep_alive: bool,
    close: bool,
    expects: bool,
    lengths: usize,
    length: Option<u64>,
    encodings: usize,
    encoding: &'a [u8],
    lines: Lines,
}

impl<'a> Seen<'a> {
    fn line(&mut self, line: &Header<'a>, bytes: &[u8]) -> Result<(), Fault> {
        let Header { name, value } = *line;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // The length tells most names apart.
        match name.len() {
            4 if is("host") => {
                self.hosts += 1;
                if !is_host(value) {
                    return Err(Fault::Host);
                }
            }
            6 if is("expect") => self.expects = value.eq_ignore_ascii_case(b"100-continue"),
            6 if is("prefer") => keep(&mut self.lines.prefer, value, bytes),
            10 if is("connection") => self.connection(value),
            12 if is("content-type") => keep(&mut self.lines.content_type, value, bytes),
            13 if is("authorization") => keep(&mut self.lines.authorization, value, bytes),
            14 if is("content-length") => {
                self.lengths += 1;
                self.length = number(value);
            }
            15 if is("idempotency-key") => keep(&mut self.lines.idempotency_key, value, bytes),
            16 if is("content-encoding") => keep(&mut self.lines.content_encoding, value, bytes),
            17 if is("transfer-encoding") => {
                self.encodings += 1;
                self.encoding = value;
            }
            _ => {}
        }
        Ok(())
    }

    /// `close` wins over `keep-alive`, on whichever line it stands.
    fn connection(&mut self, value: &[u8]) {
        let Ok(text) = std::str::from_utf8(value) else { return };
        for word in text.split(',').map(str::trim) {
            self.close |= word.eq_ignore_ascii_case("close");
            self.keep_alive |= word.eq_ignore_ascii_case("keep-alive");
        }
    }

    fn framing(&self, is_11: bool) -> Result<Framing, Fault> {
        match (self.encodings, self.lengths) {
            (0, 0) => Ok(Framing::None),
            (0, 1) => self.length.map(Framing::Length).ok_or(Fault::Length),
            (0, _) => Err(Fault::Lengths),
            _ if !is_11 => Err(Fault::EncodingIn10),
            (1, lengths) => self.chunked(lengths),
            _ => Err(Fault::Encoding),
        }
    }

    fn chunked(&self, lengths: usize) -> Result<Framing, Fault> {
        let last = self.encoding.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        if !last.eq_ignore_ascii_case(b"chunked") {
            Err(Fault::Encoding)
        } else if lengths > 0 {
            Err(Fault::LengthAndEncoding)
        } else if !self.encoding.eq_ignore_ascii_case(b"chunked") {
            Err(Fault::EncodingUnknown)
        } else {
            Ok(Framing::Chunked)
        }
    }
}

fn keep(line: &mut Option<Span>, value: &[u8], bytes: &[u8]) {
    line.get_or_insert_with(|| Span::of(value, bytes));
}

/// Digits alone, and no more than a length can be.
fn number(value: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let add = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    value.first().and_then(digit)?;
    value.iter().try_fold(0, add)
}

/// A name or an address and perhaps a port, by the characters that they have.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%[]".contains(byte))
}

impl Head {
    /// The path and the query, as they were sent.
    pub(super) fn target<'a>(&self, bytes: &'a [u8]) -> (&'a str, Option<&'a str>) {
        let target = std::str::from_utf8(self.target.in_bytes(bytes)).unwrap_or_default();
        match memchr::memchr(b'?', target.as_bytes()) {
            Some(end) => (&target[..end], Some(&target[end + 1..])),
            None => (target, None),
        }
    }

    /// Whether the target begins so.
    pub(super) fn target_starts_with(&self, bytes: &[u8], beginning: &str) -> bool {
        self.target.in_bytes(bytes).starts_with(beginning.as_bytes())
    }

    /// Whether the head announces no body at all, not even an empty one.
    pub(super) fn is_bodiless(&self) -> bool {
        self.framing == Framing::None
    }

    /// The lines of the head, which stands in `bytes`.
    pub(super) fn view<'a>(&'a self, bytes: &'a [u8]) -> View<'a> {
        View { head: self, bytes: &bytes[..self.length] }
    }
}

/// A head beside its bytes.
pub(super) struct View<'a> {
    head: &'a Head,
    bytes: &'a [u8],
}

impl asked::Head for View<'_> {
    fn value(&self, name: &HeaderName) -> Option<&[u8]> {
        let lines = &self.head.lines;
        let span = match name {
            name if name == CONTENT_TYPE => lines.content_type,
            name if name == CONTENT_ENCODING => lines.content_encoding,
            name if name == AUTHORIZATION => lines.authorization,
            name if name == PREFER => lines.prefer,
            name if name == IDEMPOTENCY_KEY => lines.idempotency_key,
            _ => return None,
        };
        span.map(|span| span.in_bytes(self.bytes))
    }

    fn each(&self, name: &HeaderName, see: &mut dyn FnMut(&[u8])) {
        // Most heads have none of what is asked for line by line.
        if self.value(name).is_none() {
            return;
        }
        let lines = self.bytes.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        });
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_str().as_bytes()))
            .for_each(|(_, value)| see(value));
    }
}

#[cfg(test)]
mod tests {
    use asked::Head as _;

    use super::*;

    fn head(text: &str) -> Head {
        match parse(text.as_bytes()) {
            Parsed::Head(head) => head,
            other => panic!("{other:?}: {text}"),
        }
    }

    fn fault(lines: &str, expected: Fault) {
        let text = format!("POST /v1/sources/s HTTP/1.1\r\n{lines}\r\n");
        assert!(matches!(parse(text.as_bytes()), Parsed::Fault(fault) if fault == expected), "{lines:?}: {expected:?}");
    }

    fn post(lines: &str) -> Head {
        head(&format!("POST /v1/sources/s?a=b HTTP/1.1\r\nHost: localhost:80\r\n{lines}\r\n"))
    }

    #[test]
    fn reads_what_is_asked_for() {
        let text = "POST /v1/sources/s?a=b HTTP/1.1\r\nHost: x\r\nContent-TYPE:application/json \r\nPrefer: a\r\n\
                    prefer:  wait=1\t\r\nIdempotency-Key: k\r\nContent-Length: 12\r\n\r\nbody";
        let head = head(text);
        assert_eq!((head.length, head.plain_post, head.is_11, head.keep_alive), (text.len() - 4, true, true, true));
        assert_eq!((head.framing, head.target(text.as_bytes())), (Framing::Length(12), ("/v1/sources/s", Some("a=b"))));
        let view = head.view(text.as_bytes());
        assert_eq!(view.value(&CONTENT_TYPE), Some(&b"application/json"[..]));
        assert_eq!((view.value(&IDEMPOTENCY_KEY), view.value(&CONTENT_ENCODING)), (Some(&b"k"[..]), None));
        let mut preferred = Vec::new();
        view.each(&PREFER, &mut |value| preferred.push(String::from_utf8_lossy(value).to_string()));
        assert_eq!(preferred, ["a", "wait=1"]);
    }

    #[test]
    fn finds_the_end_of_the_body() {
        let check = |lines: &str, expected| assert_eq!(post(lines).framing, expected, "{lines}");
        check("", Framing::None);
        check("Content-Length: 0\r\n", Framing::Length(0));
        check("Content-Length: 0012\r\n", Framing::Length(12));
        check("Transfer-Encoding: Chunked\r\n", Framing::Chunked);
    }

    #[test]
    fn knows_whether_the_connection_stays_open() {
        let check = |lines: &str, expected| assert_eq!(post(lines).keep_alive, expected, "{lines}");
        check("", true);
        check("Connection: close\r\n", false);
        check("Connection: x, CLOSE\r\nConnection: keep-alive\r\n", false);
        let old = |lines: &str| head(&format!("POST / HTTP/1.0\r\n{lines}\r\n")).keep_alive;
        assert_eq!((old(""), old("Connection: keep-alive\r\n")), (false, true));
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        let host = "Host: x\r\n";
        fault("", Fault::Host);
        fault("Host: x\r\nHost: x\r\n", Fault::Host);
        fault("Host: x/y\r\n", Fault::Host);
        fault("Host: x y\r\n", Fault::Host);
        fault("Host: x\nContent-Length: 1\r\n", Fault::BareLineFeed);
        fault(&format!("{host}Content-Length: 1\r\nContent-Length: 1\r\n"), Fault::Lengths);
        for bad in ["", "+1", "-1", "1 1", "1, 1", "0x1", "18446744073709551616"] {
            fault(&format!("{host}Content-Length: {bad}\r\n"), Fault::Length);
        }
        fault(&format!("{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), Fault::LengthAndEncoding);
        fault(&format!("{host}Transfer-Encoding: identity\r\n"), Fault::Encoding);
        fault(&format!("{host}Transfer-Encoding: chunked, identity\r\n"), Fault::Encoding);
        fault(&format!("{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Fault::Encoding);
        fault(&format!("{host}Transfer-Encoding: gzip, chunked\r\n"), Fault::EncodingUnknown);
        fault(&format!("{host}Content-Length : 1\r\n"), Fault::Syntax);
        fault(&format!("{host}X: a\r\n b\r\n"), Fault::Syntax);
        fault(&format!("{host}X: a\rb\r\n"), Fault::Syntax);
        fault(&format!("{host}X: a\0b\r\n"), Fault::Syntax);
        fault(&format!("{host}{}", "X: y\r\n".repeat(LINES_MAX)), Fault::TooLong);
        fault(&format!("{host}X: {}\r\n", "y".repeat(HEAD_BYTES_MAX)), Fault::TooLong);
        assert!(matches!(
            parse(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Parsed::Fault(Fault::EncodingIn10)
        ));
    }

    #[test]
    fn what_it_does_not_answer_itself_is_known_by_method_and_target() {
        let plain = |line: &str| head(&format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n")).plain_post;
        assert!(plain("POST /v1/endpoints/a%20b?c=d"));
        for other in ["GET /", "post /", "POST http://x/", "OPTIONS *", "POST /a#b", "POST /{a}"] {
            assert!(!plain(other), "{other}");
        }
    }

    #[test]
    fn a_head_that_comes_in_parts_is_waited_for() {
        let text = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(parse(&text[..end]), Parsed::Partial), "{end}");
            for known in 0..end {
                assert!(!may_end(&text[..end], known) && may_end(text, known));
            }
        }
        assert!(matches!(parse(&[b'A'; HEAD_BYTES_MAX + 1]), Parsed::Fault(Fault::TooLong)));
    }
}
