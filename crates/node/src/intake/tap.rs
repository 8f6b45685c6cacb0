//! [`Tap`]: where the events of a source come out for one circuit.

use std::collections::VecDeque;
use std::task::Poll;

use arrow_schema::SchemaRef;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_connect::{Puller, SourceEvent};
use tidemill_stage::{Halt, Receiver, Waits};

use super::{Backlog, fit};
use crate::error::Error;

/// A source that a driver asks for its events itself, with no thread between.
pub(crate) trait Pull: Send {
    /// What waits now, of about so many rows at most.
    ///
    /// # Errors
    /// When what waits cannot be had, as from a journal that is damaged.
    fn pull(&mut self, rows: u64, into: &mut VecDeque<Block>) -> Result<(), Error>;

    /// Rings when something may have come since the last pull.
    fn bell(&self) -> &crossbeam_channel::Receiver<()>;

    /// How many records may wait before the source takes no more, where requests wait for what is pulled.
    fn permit(&self, records: u64);

    /// Has the source take nothing from now on; what it has taken still waits.
    fn close(&mut self);
}

impl Pull for Puller {
    fn pull(&mut self, rows: u64, into: &mut VecDeque<Block>) -> Result<(), Error> {
        Ok(Puller::pull(self, rows, into)?)
    }

    fn bell(&self) -> &crossbeam_channel::Receiver<()> {
        Puller::bell(self)
    }

    fn permit(&self, records: u64) {
        Puller::permit(self, records);
    }

    fn close(&mut self) {
        self.inbox().close();
    }
}

/// Where the events of a source come out for one circuit.
pub(crate) struct Tap {
    backlog: Backlog,
    /// Blocks that were pulled and not yet handed on.
    pulled: VecDeque<Block>,
    news: News,
    /// Whether a source that is asked itself takes nothing any more.
    closed: bool,
    /// The columns that rows are fitted to.
    columns: Option<SchemaRef>,
}

/// Where the news of a source comes from.
pub(crate) enum News {
    /// The stage that reads it.
    Stage(Receiver<SourceEvent>),
    /// The source itself.
    Pulled(Box<dyn Pull>),
}

impl Tap {
    /// What comes first, and then the news of a source, its rows fitted to `columns` where that is said.
    pub(crate) fn new(news: News, backlog: Backlog, columns: Option<SchemaRef>) -> Self {
        Tap { backlog, pulled: VecDeque::new(), news, closed: false, columns }
    }

    /// Whether it has to give what was taken before this run yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The next event, waiting for it; ready with none at the end.
    ///
    /// # Errors
    /// Why it cannot be had, or that the run was aborted.
    pub(crate) fn recv(&mut self) -> Result<Option<SourceEvent>, Halt> {
        loop {
            if let Poll::Ready(event) = self.try_recv(1)? {
                return Ok(event);
            }
            match &mut self.news {
                News::Stage(events) => {
                    let event = events.recv()?;
                    return Ok(event.map(|event| self.fitted(event)).transpose()?);
                }
                News::Pulled(source) => {
                    let mut waits = Waits::new();
                    waits.on_bell(source.bell());
                    waits.wait(None);
                }
            }
        }
    }

    /// The next event if there is one now; ready with none at the end. A source that is asked itself is asked for so many
    /// rows.
    ///
    /// # Errors
    /// Why it cannot be had, or that the run was aborted.
    pub(crate) fn try_recv(&mut self, rows: u64) -> Result<Poll<Option<SourceEvent>>, Halt> {
        if let Some(event) = self.backlog.next()? {
            return Ok(Poll::Ready(Some(event)));
        }
        let polled = match &mut self.news {
            News::Stage(events) => events.try_recv()?,
            News::Pulled(source) => {
                // Looked at before: what came until it was closed is pulled once more.
                let last = self.closed;
                if self.pulled.is_empty() {
                    source.pull(rows, &mut self.pulled)?;
                }
                match self.pulled.pop_front() {
                    Some(block) => Poll::Ready(Some(SourceEvent::Block(block))),
                    None if last => Poll::Ready(None),
                    None => Poll::Pending,
                }
            }
        };
        Ok(match polled {
            Poll::Ready(Some(event)) => Poll::Ready(Some(self.fitted(event)?)),
            polled => polled,
        })
    }

    /// The next event if there is one now; of what is news only when `news` says so.
    ///
    /// # Errors
    /// Why it cannot be had, or that the run was aborted.
    pub(crate) fn poll_if(&mut self, news: bool, rows: u64) -> Result<Poll<Option<SourceEvent>>, Halt> {
        match news || self.is_behind() {
            true => self.try_recv(rows),
            false => Ok(Poll::Pending),
        }
    }

    /// What has been pulled and not handed on; a source that is asked itself is not asked again.
    pub(crate) fn pulled(&mut self) -> Result<Option<SourceEvent>, Halt> {
        let block = self.pulled.pop_front();
        Ok(block.map(|block| self.fitted(SourceEvent::Block(block))).transpose()?)
    }

    /// Whether the driver asks the source itself.
    pub(crate) fn is_pulled(&self) -> bool {
        matches!(self.news, News::Pulled(_))
    }

    /// How many records may wait at a source that is asked itself before it takes no more.
    pub(crate) fn permit(&self, records: u64) {
        if let News::Pulled(source) = &self.news {
            source.permit(records);
        }
    }

    /// Has a source that is asked itself take nothing from now on; others see a stop themselves.
    pub(crate) fn close(&mut self) {
        if let News::Pulled(source) = &mut self.news
            && !self.closed
        {
            source.close();
            self.closed = true;
        }
    }

    /// Waits for news of it too.
    pub(crate) fn wait_on<'a>(&'a self, waits: &mut Waits<'a>) {
        match &self.news {
            News::Stage(events) => waits.on(events),
            News::Pulled(source) => waits.on_bell(source.bell()),
        }
    }

    /// An event with the columns of the circuit.
    fn fitted(&self, event: SourceEvent) -> Result<SourceEvent, Error> {
        let Some(columns) = &self.columns else { return Ok(event) };
        let SourceEvent::Block(mut block) = event else { return Ok(event) };
        if let BlockData::Rows(rows) = block.data {
            let broken = |problem| tidemill_circuit::Error::broken("an inbox", problem);
            block.data = BlockData::Rows(fit(rows, columns).map_err(broken)?);
        }
        Ok(SourceEvent::Block(block))
    }
}
