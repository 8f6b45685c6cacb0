//! [`Guard`]: who may do what, and how often, asked the same way by both stacks and by gRPC.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tidemill_base::time::Clock;

use crate::asked::Head;
use crate::hall::Hall;
use crate::identity::{Digest, Need, Tokens};
use crate::limits::{Limits, Rates};
use crate::problem::Problem;

/// What a door asks of those who come; it can be told anew while they come.
pub(crate) struct Guard {
    rules: RwLock<Rules>,
}

struct Rules {
    tokens: Arc<Tokens>,
    limits: Limits,
}

/// Somebody who came through a door, and what the guard knows of them.
#[derive(Clone)]
pub(crate) struct Caller {
    guard: Arc<Guard>,
    /// The digest of its token, by which it is found among those that are known then.
    token: Option<Digest>,
}

impl Guard {
    /// A guard who knows `tokens` and keeps to `rates`.
    pub(crate) fn new(tokens: Arc<Tokens>, rates: &Rates, hall: &Hall, clock: Arc<dyn Clock>) -> Self {
        let limits = Limits::new(rates, hall, &tokens.digests(), clock);
        Guard { rules: RwLock::new(Rules { tokens, limits }) }
    }

    /// Knows others and keeps to other rates from now on; what was taken from buckets that stay the same stays taken.
    pub(crate) fn renew(&self, tokens: Arc<Tokens>, rates: &Rates, hall: &Hall) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let limits = rules.limits.renewed(rates, hall, &tokens.digests());
        *rules = Rules { tokens, limits };
    }

    /// Lets a request in that needs `need`, unless its caller is not known well enough or comes too often.
    pub(crate) fn admit(&self, address: IpAddr, need: Need<'_>, head: &dyn Head) -> Result<(), Problem> {
        let rules = self.rules();
        rules.limits.address(address)?;
        if need == Need::Nothing {
            return Ok(());
        }
        let token = rules.tokens.known(head)?;
        rules.allow(token, need)
    }

    /// Lets a caller in who will say later what it wants, message by message.
    pub(crate) fn meet(self: &Arc<Self>, address: IpAddr, head: &dyn Head) -> Result<Caller, Problem> {
        let rules = self.rules();
        rules.limits.address(address)?;
        let token = rules.tokens.known(head)?;
        Ok(Caller { guard: self.clone(), token: token.map(|index| rules.tokens.digest(index)) })
    }

    fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn allow(&self, token: Option<usize>, need: Need<'_>) -> Result<(), Problem> {
        self.tokens.allow(token, need)?;
        match need {
            Need::Ingest(name) => self.limits.source(name)?,
            Need::Decide(name) => self.limits.endpoint(name)?,
            _ => {}
        }
        token.map_or(Ok(()), |token| self.limits.identity(token))
    }
}

impl Caller {
    /// Whether the caller may do what a message needs, now.
    pub(crate) fn may(&self, need: Need<'_>) -> Result<(), Problem> {
        let rules = self.guard.rules();
        let token = rules.tokens.again(self.token)?;
        rules.allow(token, need)
    }
}
