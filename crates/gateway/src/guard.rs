//! [`Guard`]: who may do what, and how often, asked the same way by both stacks and by gRPC.

use std::net::IpAddr;
use std::sync::Arc;

use tidemill_base::time::Clock;

use crate::asked::Head;
use crate::hall::Hall;
use crate::identity::{Need, Tokens};
use crate::limits::{Limits, Rates};
use crate::problem::Problem;

/// What a door asks of those who come.
pub(crate) struct Guard {
    tokens: Arc<Tokens>,
    limits: Limits,
}

/// Somebody who came through a door, and what the guard knows of them.
#[derive(Clone)]
pub(crate) struct Caller {
    guard: Arc<Guard>,
    token: Option<usize>,
}

impl Guard {
    /// A guard who knows `tokens` and keeps to `rates`.
    pub(crate) fn new(tokens: Arc<Tokens>, rates: &Rates, hall: &Hall, clock: Arc<dyn Clock>) -> Self {
        let limits = Limits::new(rates, hall, tokens.len(), clock);
        Guard { tokens, limits }
    }

    /// Lets a request in that needs `need`, unless its caller is not known well enough or comes too often.
    pub(crate) fn admit(&self, address: IpAddr, need: Need<'_>, head: &dyn Head) -> Result<(), Problem> {
        self.limits.address(address)?;
        if need == Need::Nothing {
            return Ok(());
        }
        let token = self.tokens.known(head)?;
        self.allow(token, need)?;
        token.map_or(Ok(()), |token| self.limits.identity(token))
    }

    /// Lets a caller in who will say later what it wants, message by message.
    pub(crate) fn meet(self: &Arc<Self>, address: IpAddr, head: &dyn Head) -> Result<Caller, Problem> {
        self.limits.address(address)?;
        Ok(Caller { guard: self.clone(), token: self.tokens.known(head)? })
    }

    fn allow(&self, token: Option<usize>, need: Need<'_>) -> Result<(), Problem> {
        self.tokens.allow(token, need)?;
        match need {
            Need::Ingest(name) => self.limits.source(name),
            Need::Decide(name) => self.limits.endpoint(name),
            _ => Ok(()),
        }
    }
}

impl Caller {
    /// Whether the caller may do what a message needs, now.
    pub(crate) fn may(&self, need: Need<'_>) -> Result<(), Problem> {
        self.guard.allow(self.token, need)?;
        self.token.map_or(Ok(()), |token| self.guard.limits.identity(token))
    }
}
