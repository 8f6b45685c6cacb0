//! Events that somebody sends to a source, apart from how they travel: what is checked before the body is read, and what
//! becomes of the body.
//!
//! A request is taken whole or not at all, unless it says `?on_error=skip`. The inbox is asked for room before the body
//! is read and takes the rows after the last record has been understood, so that a 202 means what it says.

use std::sync::Arc;

use crate::asked::{self, Asked, Encoding, Head};
use crate::hall::{Durable, Hall, Inbox, Receipt, Taken, Terms};
use crate::problem::Problem;

/// The longest body that is decoded on the thread that serves connections.
pub(crate) const SHORT_BYTES_MAX: usize = 64 << 10;

/// The longest body with an idempotency key: it is taken in one turn.
const KEYED_BYTES_MAX: usize = 1 << 20;

/// A request with events whose head is in order.
pub(crate) struct Events<'a> {
    /// The source's name.
    pub name: &'a str,
    /// The source.
    pub inbox: &'a Arc<dyn Inbox>,
    /// What is asked for.
    pub asked: Asked<'a>,
    /// How the body is packed.
    pub encoding: Encoding,
}

impl<'a> Events<'a> {
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
        let inbox = hall.inbox(name).map_err(|missing| Problem::not_found("source", name, missing.help))?;
        let asked = Asked::with_events(query, head)?;
        asked::check_json(head)?;
        let encoding = Encoding::of(head)?;
        if bodiless {
            return Err(Problem::length_required());
        }
        inbox.room().map_err(|refusal| Problem::refused(refusal, "source", name))?;
        Ok(Events { name, inbox, asked, encoding })
    }

    /// Whether a body of so many bytes is taken at once, by [`Events::take`].
    pub(crate) fn is_short(&self, bytes: usize) -> bool {
        bytes <= SHORT_BYTES_MAX && self.encoding == Encoding::Identity
    }

    /// Takes a short body, which is not packed; it does not wait.
    pub(crate) fn take(&self, body: &[u8]) -> Result<Receipt, Problem> {
        self.take_as(body, self.asked.terms())
    }

    /// The same; whoever calls sees to [`Inbox::wake`].
    pub(crate) fn take_quietly(&self, body: &[u8]) -> Result<Receipt, Problem> {
        self.take_as(body, Terms { quiet: true, ..self.asked.terms() })
    }

    fn take_as(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Problem> {
        self.inbox.take(body, terms).map_err(|rejection| Problem::rejected(rejection, "source", self.name))
    }

    /// The same request for a thread of its own.
    pub(crate) fn long(&self) -> LongEvents {
        let Events { name, inbox, asked, .. } = *self;
        let key = asked.key.map(str::to_string);
        LongEvents { name: name.to_string(), inbox: inbox.clone(), asked: Asked { key: None, ..asked }, key }
    }
}

/// A request with many events.
pub(crate) struct LongEvents {
    name: String,
    inbox: Arc<dyn Inbox>,
    asked: Asked<'static>,
    key: Option<String>,
}

impl LongEvents {
    /// Takes a body that is unpacked already. What it gives beside the receipt is waited for before the answer.
    pub(crate) fn take(&self, body: &[u8]) -> Result<(Receipt, Option<Durable>), Problem> {
        let LongEvents { name, inbox, asked, key } = self;
        if key.is_some() && body.len() > KEYED_BYTES_MAX {
            let detail = format!("a body with an Idempotency-Key may be {KEYED_BYTES_MAX} bytes long");
            return Err(Problem::too_large(detail));
        }
        if key.is_some() || body.len() <= SHORT_BYTES_MAX {
            let asked = Asked { key: key.as_deref(), ..*asked };
            let taken = inbox.take(body, asked.terms());
            return Ok((taken.map_err(|rejection| Problem::rejected(rejection, "source", name))?, None));
        }
        let decoded = inbox.decode(body).map_err(Problem::bad_body)?;
        if !decoded.rejected.is_empty() && (!asked.skip_bad || decoded.stopped) {
            return Err(Problem::bad_records(decoded.rejected, decoded.stopped));
        }
        let accepted = decoded.count();
        let taken = inbox.offer(decoded.rows, body, asked.durability);
        let Taken { offset, durability, durable } =
            taken.map_err(|refusal| Problem::refused(refusal, "source", name))?;
        let (durability, rejected) = (Some(durability), decoded.rejected);
        Ok((Receipt { accepted, rejected, offset, durability, place: None, repeated: false }, durable))
    }

    /// What was asked for.
    pub(crate) fn skips_bad(&self) -> bool {
        self.asked.skip_bad
    }

    /// The source.
    pub(crate) fn inbox(&self) -> &Arc<dyn Inbox> {
        &self.inbox
    }
}
