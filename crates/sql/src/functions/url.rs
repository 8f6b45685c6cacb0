//! Parts of URLs, and text in URLs.

use arrow_array::ArrayRef;
use datafusion::common::Result;

use super::call::Call;
use super::function::Function;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "parse_url",
        "PARSE_URL(STRING, STRING[, STRING]) -> STRING",
        "A part of a URL: HOST, PATH, QUERY, REF, PROTOCOL, FILE, AUTHORITY or USERINFO; with QUERY, the value of a key.",
        &[
            ("PARSE_URL('http://example.com/p/a.html?k1=v1&k2=v2', 'HOST')", "example.com"),
            ("PARSE_URL('http://example.com/p/a.html?k1=v1&k2=v2', 'QUERY', 'k2')", "v2"),
        ],
        parse_url,
    ),
    Function::new(
        "url_encode",
        "URL_ENCODE(STRING) -> STRING",
        "As `application/x-www-form-urlencoded`.",
        &[("URL_ENCODE('a b&c=é')", "a+b%26c%3D%C3%A9")],
        url_encode,
    ),
    Function::new(
        "url_decode",
        "URL_DECODE(STRING) -> STRING",
        "From `application/x-www-form-urlencoded`; NULL when an escape is malformed.",
        &[("URL_DECODE('a+b%26c')", "a b&c")],
        url_decode,
    ),
];

/// The parts of a URL, as `java.net.URL` cuts it.
struct Url<'a> {
    protocol: &'a str,
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    reference: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (protocol, rest) = text.trim().split_once(':')?;
        let known = ["http", "https", "ftp", "file", "jar", "mailto", "jrt", "jmod"];
        if !known.iter().any(|name| protocol.eq_ignore_ascii_case(name)) {
            return None;
        }
        let (rest, reference) = split_at_char(rest, '#');
        let (rest, query) = split_at_char(rest, '?');
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        Some(Url { protocol, authority, path, query, reference })
    }

    fn part(&self, name: &str, key: Option<&str>) -> Option<&'a str> {
        if let Some(key) = key {
            let pairs = (name == "QUERY").then_some(self.query?)?.split('&');
            return pairs
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value);
        }
        let (user, host) = match self.authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, self.authority),
        };
        match name {
            "HOST" => Some(host.rsplit_once(':').map_or(host, |(host, _)| host)),
            "PATH" => Some(self.path),
            "QUERY" => self.query,
            "REF" => self.reference,
            "PROTOCOL" => Some(self.protocol),
            "AUTHORITY" => Some(self.authority),
            "USERINFO" => user,
            _ => None,
        }
    }
}

fn split_at_char(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn parse_url(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, name) = (call.text(0)?, call.text(1)?);
    let key = if call.count() > 2 { Some(call.text(2)?) } else { None };
    let write = |row: usize, out: &mut String| -> Option<()> {
        let (url, name) = (Url::parse(text.get(row)?)?, name.get(row)?);
        let key = match &key {
            Some(key) => Some(key.get(row)?),
            None => None,
        };
        if name == "FILE" && key.is_none() {
            out.push_str(url.path);
            if let Some(query) = url.query {
                out.push('?');
                out.push_str(query);
            }
            return Some(());
        }
        out.push_str(url.part(name, key)?);
        Some(())
    };
    call.write_text(|row, out| Ok(write(row, out)))
}

fn url_encode(call: &Call<'_>) -> Result<ArrayRef> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let text = call.text(0)?;
    call.write_text(|row, out| {
        let Some(text) = text.get(row) else { return Ok(None) };
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(byte)),
                b' ' => out.push('+'),
                _ => {
                    out.push('%');
                    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                    out.push(char::from(DIGITS[usize::from(byte & 15)]));
                }
            }
        }
        Ok(Some(()))
    })
}

fn url_decode(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.write_text(|row, out| {
        Ok(text.get(row).and_then(decode).map(|bytes| out.push_str(&String::from_utf8_lossy(&bytes))))
    })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).map(|digit| digit as u8);
                digit()? << 4 | digit()?
            }
            other => other,
        });
    }
    Some(out)
}
