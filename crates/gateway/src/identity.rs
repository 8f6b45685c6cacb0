//! [`Tokens`]: who calls, and what they may do.
//!
//! A token is a random text that only its owner has; here is its SHA-256. A caller sends it as
//! `Authorization: Bearer TOKEN`, and may do what the token's scopes say. All tokens are compared every time, each in
//! constant time, so that how long it takes tells nothing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tidemill_base::suggest;

use crate::asked::Head;
use crate::problem::Problem;
use crate::route::{OfTable, Route};

/// How each token begins, so that one that lies about is recognised.
const TOKEN_PREFIX: &str = "tm_";

/// The random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// The SHA-256 of a token.
pub(crate) type Digest = [u8; 32];

/// Somebody who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the caller is called in logs.
    pub name: String,
    /// The SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// Something that a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Send events to the sources of this name; `*` at its end stands for anything.
    Ingest(String),
    /// Ask the endpoints of this name.
    Decide(String),
    /// Read the views and versioned tables of this name.
    Read(String),
    /// Edit the versioned tables of this name.
    Edit(String),
    /// Everything.
    Admin,
}

impl Scope {
    /// Reads `ingest:NAME`, `decide:NAME`, `read:NAME`, `edit:NAME` or `admin`.
    ///
    /// # Errors
    /// How to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let verbs = ["ingest", "decide", "read", "edit", "admin"];
        let (verb, name) = text.split_once(':').map_or((text, None), |(verb, name)| (verb, Some(name.to_string())));
        match (verb, name) {
            ("admin", None) => Ok(Scope::Admin),
            (_, Some(name)) if name.is_empty() => Err(format!("name what may be done: '{verb}:NAME' or '{verb}:*'")),
            ("ingest", Some(name)) => Ok(Scope::Ingest(name)),
            ("decide", Some(name)) => Ok(Scope::Decide(name)),
            ("read", Some(name)) => Ok(Scope::Read(name)),
            ("edit", Some(name)) => Ok(Scope::Edit(name)),
            ("ingest" | "decide" | "read" | "edit", None) => Err(format!("write '{verb}:NAME' or '{verb}:*'")),
            _ => Err(match suggest::nearest(verb, verbs) {
                Some(near) => format!("did you mean '{near}'?"),
                None => "write ingest:SOURCE, decide:ENDPOINT, read:VIEW, edit:TABLE or admin".to_string(),
            }),
        }
    }

    fn allows(&self, need: &Need<'_>) -> bool {
        match (self, need) {
            (Scope::Admin, _) => true,
            (Scope::Ingest(pattern), Need::Ingest(name))
            | (Scope::Decide(pattern), Need::Decide(name))
            | (Scope::Read(pattern), Need::Read(name))
            | (Scope::Edit(pattern), Need::Edit(name)) => fits(pattern, name),
            _ => false,
        }
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// What a request needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need<'a> {
    /// Nothing.
    Nothing,
    /// To be known.
    Known,
    /// To send events to a source.
    Ingest(&'a str),
    /// To ask an endpoint.
    Decide(&'a str),
    /// To read a view or a versioned table.
    Read(&'a str),
    /// To edit a versioned table.
    Edit(&'a str),
    /// To see the versions of the pipeline's state.
    Admin,
}

impl<'a> Need<'a> {
    /// What a request for `route` needs.
    pub(crate) fn of(route: &'a Route<'_>) -> Self {
        match route {
            Route::Health => Need::Nothing,
            Route::Names(_) => Need::Known,
            Route::Events(name) => Need::Ingest(name),
            Route::Question(name) => Need::Decide(name),
            Route::Rows(name) | Route::Changes(name) => Need::Read(name),
            Route::Table(name, OfTable::Submit | OfTable::RollBack) => Need::Edit(name),
            Route::Table(name, OfTable::List | OfTable::At(_) | OfTable::Diff(_)) => Need::Read(name),
            Route::Versions(_) => Need::Admin,
        }
    }
}

impl fmt::Display for Need<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Nothing | Need::Known => f.write_str("any"),
            Need::Ingest(name) => write!(f, "ingest:{name}"),
            Need::Decide(name) => write!(f, "decide:{name}"),
            Need::Read(name) => write!(f, "read:{name}"),
            Need::Edit(name) => write!(f, "edit:{name}"),
            Need::Admin => f.write_str("admin"),
        }
    }
}

/// Everybody who may call; when nobody is named, anybody may.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Vec<Token>);

impl Tokens {
    /// The callers there are.
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        Tokens(tokens)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The digests of all tokens, in their order.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.0.iter().map(|token| token.sha256).collect()
    }

    /// The digest of a token.
    pub(crate) fn digest(&self, index: usize) -> Digest {
        self.0[index].sha256
    }

    /// The token of somebody who was known by its digest before, perhaps among others; none when nobody is asked.
    pub(crate) fn again(&self, digest: Option<Digest>) -> Result<Option<usize>, Problem> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let index = digest.and_then(|digest| self.0.iter().position(|token| token.sha256 == digest));
        index.map(Some).ok_or_else(|| Problem::unknown_caller(digest.is_some()))
    }

    /// The token that a request brings, by its index; none when nobody is asked.
    pub(crate) fn known(&self, head: &dyn Head) -> Result<Option<usize>, Problem> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let value = head.value(&AUTHORIZATION).ok_or_else(|| Problem::unknown_caller(false))?;
        let index = bearer(value).and_then(|token| self.find(token));
        index.map(Some).ok_or_else(|| Problem::unknown_caller(true))
    }

    /// Whether the bringer of a token may do what is needed.
    pub(crate) fn allow(&self, token: Option<usize>, need: Need<'_>) -> Result<(), Problem> {
        let Some(token) = token.map(|index| &self.0[index]) else { return Ok(()) };
        let allowed = need == Need::Known || token.scopes.iter().any(|scope| scope.allows(&need));
        if allowed { Ok(()) } else { Err(Problem::forbidden(&token.name, &need.to_string())) }
    }

    fn find(&self, token: &[u8]) -> Option<usize> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (index, known) in self.0.iter().enumerate() {
            if bool::from(known.sha256.ct_eq(&digest)) {
                found = Some(index);
            }
        }
        found
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Makes a token: the text for its owner, and its SHA-256 in hexadecimal for the configuration.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_token() -> Result<(String, String), String> {
    let mut bytes = [0; TOKEN_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_string())?;
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    Ok((token, digest.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Reads a SHA-256 in hexadecimal.
pub(crate) fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::HeaderValue;

    use super::*;

    fn tokens() -> (Tokens, String) {
        let (token, sha256) = new_token().expect("the system has random bytes");
        let scopes = ["ingest:clicks", "read:top_*"].map(|scope| Scope::parse(scope).expect("a scope"));
        let sha256 = parse_sha256(&sha256).expect("it was just written");
        let other = Token { name: "other".to_string(), sha256: [7; 32], scopes: vec![Scope::Admin] };
        (Tokens::new(vec![other, Token { name: "web".to_string(), sha256, scopes: scopes.to_vec() }]), token)
    }

    fn status(tokens: &Tokens, authorization: Option<&str>, need: Need<'_>) -> u16 {
        let head: HeaderMap = authorization
            .map(|value| (AUTHORIZATION, HeaderValue::from_str(value).expect("ASCII")))
            .into_iter()
            .collect();
        admit(tokens, &head, need).map_or_else(|problem| problem.reply().status.as_u16(), |()| 200)
    }

    fn admit(tokens: &Tokens, head: &HeaderMap, need: Need<'_>) -> Result<(), Problem> {
        tokens.known(head).and_then(|token| tokens.allow(token, need))
    }

    #[test]
    fn a_caller_may_do_what_its_token_says() {
        let (tokens, token) = tokens();
        let bearer = format!("Bearer {token}");
        let check = |need, expected| assert_eq!(status(&tokens, Some(&bearer), need), expected, "{need}");
        check(Need::Ingest("clicks"), 200);
        check(Need::Ingest("clicks2"), 403);
        check(Need::Read("top_pages"), 200);
        check(Need::Read("clicks"), 403);
        check(Need::Edit("clicks"), 403);
        check(Need::Admin, 403);
        check(Need::Known, 200);
    }

    #[test]
    fn who_is_not_known_may_do_nothing() {
        let (tokens, token) = tokens();
        let wrong = [None, Some("Bearer"), Some("Bearer tm_wrong"), Some("Basic dTpw"), Some(token.as_str())];
        for authorization in wrong {
            assert_eq!(status(&tokens, authorization, Need::Known), 401, "{authorization:?}");
        }
        assert_eq!(status(&tokens, Some(&format!("bearer  {token}")), Need::Known), 200);
        assert_eq!(status(&Tokens::default(), None, Need::Admin), 200, "nobody is asked");
    }

    #[test]
    fn a_problem_says_how_to_be_known() {
        let (tokens, token) = tokens();
        let challenge = |authorization: Option<&str>, need| {
            let head: HeaderMap = authorization
                .map(|value| (AUTHORIZATION, HeaderValue::from_str(value).expect("ASCII")))
                .into_iter()
                .collect();
            let reply = admit(&tokens, &head, need).expect_err("it is refused").reply();
            let found = reply.headers.iter().find(|(name, _)| name == "www-authenticate");
            found.and_then(|(_, value)| value.to_str().ok().map(str::to_string)).unwrap_or_default()
        };
        assert_eq!(challenge(None, Need::Admin), "Bearer realm=\"tidemill\"");
        assert_eq!(challenge(Some("Bearer x"), Need::Admin), "Bearer realm=\"tidemill\", error=\"invalid_token\"");
        let scope = "Bearer realm=\"tidemill\", error=\"insufficient_scope\", scope=\"decide:score\"";
        assert_eq!(challenge(Some(&format!("Bearer {token}")), Need::Decide("score")), scope);
    }

    #[test]
    fn scopes_are_read_or_mended() {
        assert_eq!(Scope::parse("decide:*"), Ok(Scope::Decide("*".to_string())));
        assert_eq!(Scope::parse("admin"), Ok(Scope::Admin));
        let wrong = |text: &str, part: &str| {
            let help = Scope::parse(text).expect_err(text);
            assert!(help.contains(part), "{text}: {help}");
        };
        wrong("ingst:clicks", "did you mean 'ingest'?");
        wrong("ingest", "ingest:NAME");
        wrong("read:", "read:*");
        wrong("fly:high", "decide:ENDPOINT");
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        assert_eq!(parse_sha256(&"0f".repeat(32)), Some([15; 32]));
        for bad in ["", "0f", &"0g".repeat(32), &"0".repeat(65)] {
            assert_eq!(parse_sha256(bad), None, "{bad}");
        }
    }
}
