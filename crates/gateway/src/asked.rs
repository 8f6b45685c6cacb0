//! What a request asks for besides its body: its query and its headers, read the same way whichever stack carried it.
//!
//! A stack shows its headers through [`Head`]; nothing here knows how they arrived, and nothing is copied.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};

use crate::hall::{BodyKind, Durability, Terms};
use crate::problem::Problem;
use crate::query;

/// Names a request that may be sent again (draft-ietf-httpapi-idempotency-key-header).
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the client would like (RFC 7240).
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 255;

/// The longest time that `Prefer: wait` can say; longer is this.
const WAIT_SECONDS_MAX: f64 = 86_400.0;

/// The headers of a request, whoever holds them.
pub(crate) trait Head {
    /// The first value of a header.
    fn value(&self, name: &HeaderName) -> Option<&[u8]>;

    /// Shows every value of a header, in their order.
    fn each(&self, name: &HeaderName, see: &mut dyn FnMut(&[u8]));
}

impl Head for HeaderMap {
    fn value(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(|value| value.as_bytes())
    }

    fn each(&self, name: &HeaderName, see: &mut dyn FnMut(&[u8])) {
        self.get_all(name).iter().for_each(|value| see(value.as_bytes()));
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// Whether bad records are left out instead of refusing all.
    pub skip_bad: bool,
    /// What its events are to survive before they are acknowledged.
    pub durability: Option<Durability>,
    /// What names the request when it is sent again.
    pub key: Option<&'a str>,
    /// How long it wants to wait at most.
    pub wait: Option<Duration>,
}

impl<'a> Asked<'a> {
    /// What a request with events asks for.
    pub(crate) fn with_events(query: Option<&str>, head: &'a dyn Head) -> Result<Self, Problem> {
        let mut asked = Asked { key: key(head)?, ..Asked::default() };
        for pair in query::pairs(query) {
            let (name, value) = pair?;
            match (name.as_ref(), value.as_ref()) {
                ("on_error", "reject") => asked.skip_bad = false,
                ("on_error", "skip") => asked.skip_bad = true,
                ("on_error", other) => {
                    let detail = format!("on_error={other} is not known");
                    return Err(Problem::bad_query(detail, "on_error is 'reject' (the default) or 'skip'"));
                }
                ("durability", word) => asked.durability = Some(durability(word)?),
                (name, _) => return Err(query::unknown(name, &["on_error", "durability"])),
            }
        }
        Ok(asked)
    }

    /// What a request for a decision asks for.
    pub(crate) fn with_question(query: Option<&str>, head: &'a dyn Head) -> Result<Self, Problem> {
        let mut asked = Asked { key: key(head)?, wait: wait(head), ..Asked::default() };
        for pair in query::pairs(query) {
            let (name, value) = pair?;
            match name.as_ref() {
                "durability" => asked.durability = Some(durability(&value)?),
                name => return Err(query::unknown(name, &["durability"])),
            }
        }
        Ok(asked)
    }

    /// What is told the source or the endpoint of it.
    pub(crate) fn terms(&self) -> Terms<'a> {
        let Asked { skip_bad, durability, key, .. } = *self;
        Terms { durability, skip_bad, idempotency_key: key, kind: BodyKind::Json, ..Terms::default() }
    }
}

fn durability(word: &str) -> Result<Durability, Problem> {
    match Durability::named(word) {
        Some(level @ (Durability::Process | Durability::Flushed)) => Ok(level),
        Some(Durability::Memory) | None => {
            let detail = format!("durability={word} cannot be asked for");
            Err(Problem::bad_query(detail, "durability is 'process' or 'flushed'"))
        }
    }
}

/// The idempotency key, without its quotes when it has any.
fn key(head: &dyn Head) -> Result<Option<&str>, Problem> {
    let Some(value) = head.value(&IDEMPOTENCY_KEY) else { return Ok(None) };
    let mut count = 0;
    head.each(&IDEMPOTENCY_KEY, &mut |_| count += 1);
    let text = std::str::from_utf8(value).unwrap_or_default().trim_matches([' ', '\t']);
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let readable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match text.len() {
        1..=KEY_BYTES_MAX if readable && count == 1 => Ok(Some(text)),
        _ => Err(Problem::bad_header("Idempotency-Key", "send one key of 1 to 255 visible ASCII characters")),
    }
}

/// `Prefer: wait=SECONDS`, fractions allowed; what cannot be read is no preference, as RFC 7240 has it.
fn wait(head: &dyn Head) -> Option<Duration> {
    let mut wait = None;
    head.each(&PREFER, &mut |value| {
        let text = std::str::from_utf8(value).unwrap_or_default();
        for preference in text.split(',') {
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or_default();
            if wait.is_none() && name.trim().eq_ignore_ascii_case("wait") {
                let seconds = value.trim().trim_matches('"').parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
                wait = seconds.map(|seconds| Duration::from_secs_f64(seconds.min(WAIT_SECONDS_MAX)));
            }
        }
    });
    wait
}

/// Fails unless the body is JSON, an object a line or not, in UTF-8: how the objects stand in it is seen from the body.
pub(crate) fn check_json(head: &dyn Head) -> Result<(), Problem> {
    let Some(value) = head.value(&CONTENT_TYPE) else {
        return Err(Problem::media_type("the request does not say what its body is"));
    };
    // What nearly all say, as they say it.
    if value == b"application/json" || value == b"application/x-ndjson" {
        return Ok(());
    }
    let text = String::from_utf8_lossy(value);
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let charset = parameters
        .split(';')
        .filter_map(|one| one.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    if let Some((_, charset)) = charset
        && !charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    {
        return Err(Problem::media_type(format!("JSON is UTF-8, not {}", charset.trim())));
    }
    let kind = kind.trim();
    let known = ["application/json", "application/x-ndjson", "application/ndjson", "application/jsonl"];
    if known.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(Problem::media_type(format!("a body of type '{}' cannot be read", kind.to_ascii_lowercase())))
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// What `Content-Encoding` says.
    pub(crate) fn of(head: &dyn Head) -> Result<Self, Problem> {
        let Some(value) = head.value(&CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
        let text = String::from_utf8_lossy(value);
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Encoding::Identity),
            "gzip" | "x-gzip" => Ok(Encoding::Gzip),
            "zstd" => Ok(Encoding::Zstd),
            _ => Err(Problem::encoding(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn head(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(name.clone(), HeaderValue::from_static(value));
        }
        head
    }

    #[test]
    fn reads_an_idempotency_key_with_or_without_quotes() {
        let check = |lines: &[&'static str], expected: Option<&str>| {
            let lines: Vec<_> = lines.iter().map(|line| (IDEMPOTENCY_KEY, *line)).collect();
            assert_eq!(key(&head(&lines)).expect("it is well formed"), expected, "{lines:?}");
        };
        check(&[], None);
        check(&["8e03978e"], Some("8e03978e"));
        check(&["\"8e03 978e\" "], Some("8e03 978e"));
        for bad in [&[""][..], &["\"\""], &["a", "b"], &["a\tb"]] {
            let lines: Vec<_> = bad.iter().map(|line| (IDEMPOTENCY_KEY, *line)).collect();
            assert!(key(&head(&lines)).is_err(), "{bad:?}");
        }
        let long = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_bytes(&[b'k'; 256]).expect("ASCII"))]);
        assert!(key(&long).is_err());
    }

    #[test]
    fn reads_how_long_a_client_would_wait() {
        let check = |lines: &[&'static str], expected: Option<u64>| {
            let lines: Vec<_> = lines.iter().map(|line| (PREFER, *line)).collect();
            assert_eq!(wait(&head(&lines)), expected.map(Duration::from_millis), "{lines:?}");
        };
        check(&[], None);
        check(&["wait=2"], Some(2_000));
        check(&["respond-async, Wait = 0.005; x=y"], Some(5));
        check(&["respond-async", "wait=\"1\""], Some(1_000));
        check(&["wait=1e9"], Some(86_400_000));
        for nothing in ["wait", "wait=", "wait=-1", "wait=soon", "wait=NaN", "waiting=1"] {
            check(&[nothing], None);
        }
    }

    #[test]
    fn each_kind_of_request_has_parameters_of_its_own() {
        let head = HeaderMap::new();
        let skip = Asked::with_events(Some("on_error=skip&durability=flushed"), &head).ok();
        let expected = Asked { skip_bad: true, durability: Some(Durability::Flushed), ..Asked::default() };
        assert_eq!(skip, Some(expected));
        assert!(Asked::with_question(Some("on_error=skip"), &head).is_err());
        assert!(Asked::with_question(Some("durability=process"), &head).is_ok());
        for bad in ["durability=memory", "durability=", "on_error=drop", "onerror=skip"] {
            assert!(Asked::with_events(Some(bad), &head).is_err(), "{bad}");
        }
    }
}
