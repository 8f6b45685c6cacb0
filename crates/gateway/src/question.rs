//! A request that a rule answers while it is open, apart from how it travels: what is checked before the body is read,
//! and what its answer looks like.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::asked::{self, Asked, Encoding, Head};
use crate::hall::{Answered, Endpoint, Hall, Question, Terms, Ticket};
use crate::problem::Problem;

/// The header that says why the fallback answered and not the rule.
pub(crate) const FALLBACK: &str = "tidemill-fallback";

/// The header that says that a request with the same idempotency key was answered so before.
pub(crate) const REPLAYED: &str = "idempotency-replayed";

/// A request for a decision whose head is in order.
pub(crate) struct Decision<'a> {
    /// The endpoint's name.
    pub name: &'a str,
    /// The endpoint.
    pub endpoint: &'a Arc<dyn Endpoint>,
    /// What is asked for.
    pub asked: Asked<'a>,
    /// How the body is packed.
    pub encoding: Encoding,
    /// How long the request waits for its answer, counted from when it came.
    pub deadline: Duration,
}

impl<'a> Decision<'a> {
    /// Looks at a request's head; `bodiless` when the request announces no body at all.
    pub(crate) fn begin(
        hall: &'a Hall,
        name: &'a str,
        query: Option<&str>,
        head: &'a dyn Head,
        bodiless: bool,
    ) -> Result<Self, Problem> {
        if hall.is_draining() {
            return Err(Problem::draining());
        }
        let endpoint = hall.endpoint(name).map_err(|missing| Problem::not_found("endpoint", name, missing.help))?;
        let asked = Asked::with_question(query, head)?;
        asked::check_json(head)?;
        let encoding = Encoding::of(head)?;
        if bodiless {
            return Err(Problem::length_required());
        }
        let longest = endpoint.deadline();
        let deadline = asked.wait.map_or(longest, |wait| wait.min(longest));
        Ok(Decision { name, endpoint, asked, encoding, deadline })
    }

    /// Hands the request over; the answer comes through `ticket`.
    pub(crate) fn ask(&self, body: &[u8], ticket: Ticket) -> Result<Question, Problem> {
        self.ask_as(body, self.asked.terms(), ticket)
    }

    /// The same; whoever calls sees to [`Endpoint::wake`]. A request that is `late` is not taken in.
    pub(crate) fn ask_quietly(&self, body: &[u8], ticket: Ticket, late: bool) -> Result<Question, Problem> {
        self.ask_as(body, Terms { quiet: true, late, ..self.asked.terms() }, ticket)
    }

    fn ask_as(&self, body: &[u8], terms: Terms<'_>, ticket: Ticket) -> Result<Question, Problem> {
        let question = self.endpoint.ask(body, terms, ticket);
        question.map_err(|rejection| Problem::rejected(rejection, "endpoint", self.name))
    }
}

/// The headers that an answer has beside its type and length.
pub(crate) fn headers(answered: &Answered<'_>) -> impl Iterator<Item = (&'static str, &'static str)> {
    let fallback = answered.fallback.map(|fallback| (FALLBACK, fallback.as_str()));
    let replayed = answered.repeated.then_some((REPLAYED, "true"));
    fallback.into_iter().chain(replayed)
}

/// The problem of an answer that has none of its own: a refusal without a body.
pub(crate) fn problem(answered: &Answered<'_>, name: &str) -> Option<Problem> {
    let wordless = answered.status >= 400 && answered.body.is_empty();
    wordless.then(|| match StatusCode::from_u16(answered.status) {
        Ok(StatusCode::GATEWAY_TIMEOUT) => Problem::deadline(name),
        Ok(StatusCode::TOO_MANY_REQUESTS) => Problem::overloaded(name),
        Ok(StatusCode::SERVICE_UNAVAILABLE) => Problem::draining(),
        _ => Problem::internal(format!("endpoint '{name}' failed on this request")),
    })
}

/// The type of an answer's body.
pub(crate) fn content_type(answered: &Answered<'_>) -> &'static str {
    if answered.status >= 400 { "application/problem+json" } else { "application/json" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hall::Fallback;

    const PLAIN: Answered<'static> =
        Answered { status: 200, body: b"{}", fallback: None, rule: "9f3a", version: 7, repeated: false };

    #[test]
    fn says_in_headers_what_kind_of_answer_it_is() {
        let check = |answered: Answered<'_>, expected: &[(&str, &str)]| {
            assert_eq!(headers(&answered).collect::<Vec<_>>(), expected);
        };
        check(PLAIN, &[]);
        let late = Answered { fallback: Some(Fallback::Deadline), ..PLAIN };
        check(late, &[("tidemill-fallback", "deadline")]);
        let again = Answered { repeated: true, ..late };
        check(again, &[("tidemill-fallback", "deadline"), ("idempotency-replayed", "true")]);
    }

    #[test]
    fn a_refusal_without_words_becomes_a_problem() {
        let status = |status, body| problem(&Answered { status, body, ..PLAIN }, "score").map(|p| p.reply().status);
        assert_eq!(status(200, b""), None);
        assert_eq!(status(504, b"{\"code\":1}"), None, "the desk has said it");
        assert_eq!(status(504, b""), Some(StatusCode::GATEWAY_TIMEOUT));
        assert_eq!(status(429, b""), Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(status(503, b""), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(status(500, b""), Some(StatusCode::INTERNAL_SERVER_ERROR));
    }
}
