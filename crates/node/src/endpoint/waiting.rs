//! [`Waiting`]: the requests that wait for an answer, in the order of their rows.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_gateway::Ticket;

/// A request that waits.
pub(super) struct Slot {
    /// The row that it became.
    pub(super) offset: u64,
    /// Where its answer goes; none for a request of an earlier run.
    pub(super) ticket: Option<Ticket>,
    /// Whether its answer may leave only when its step survives a power cut.
    pub(super) flushed: bool,
    /// What names it when it is sent again.
    pub(super) key: Option<Arc<str>>,
    /// Whether it has been answered, though its row has not.
    pub(super) done: bool,
}

/// The requests that wait.
#[derive(Default)]
pub(super) struct Waiting {
    slots: VecDeque<Slot>,
    /// How many have no answer.
    live: usize,
    closed: bool,
}

impl Waiting {
    /// How many have no answer.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Whether nothing will be answered any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A request waits; its row stands behind those of all before.
    pub(super) fn push(&mut self, slot: Slot) {
        debug_assert!(self.slots.back().is_none_or(|last| last.offset < slot.offset));
        self.live += 1;
        self.slots.push_back(slot);
    }

    /// Takes a request that is to be answered before its row is, if it has no answer yet. Unless that is `decided` a request
    /// with a key waits on, for who sends it again.
    pub(super) fn take(&mut self, offset: u64, decided: bool) -> Option<Slot> {
        let at = self.slots.binary_search_by_key(&offset, |slot| slot.offset).ok()?;
        let slot = self.slots.get_mut(at).filter(|slot| !slot.done)?;
        let (ticket, key) = (slot.ticket.take(), slot.key.clone());
        if decided || key.is_none() {
            slot.done = true;
            self.live -= 1;
        }
        Some(Slot { offset, ticket, flushed: slot.flushed, key, done: true })
    }

    /// Takes those without an answer whose rows stand before `end`.
    pub(super) fn take_before(&mut self, end: u64, due: &mut Vec<Slot>) {
        while self.slots.front().is_some_and(|slot| slot.offset < end) {
            let Some(slot) = self.slots.pop_front() else { break };
            if !slot.done {
                self.live -= 1;
                due.push(slot);
            }
        }
    }

    /// Takes all: nothing will be answered any more.
    pub(super) fn close(&mut self, due: &mut Vec<Slot>) {
        self.closed = true;
        self.take_before(u64::MAX, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(offset: u64) -> Slot {
        Slot { offset, ticket: None, flushed: false, key: None, done: false }
    }

    #[test]
    fn each_request_is_taken_once() {
        let mut waiting = Waiting::default();
        [3, 5, 9].into_iter().for_each(|offset| waiting.push(slot(offset)));
        assert!(waiting.take(4, true).is_none());
        assert_eq!(waiting.take(5, false).map(|slot| slot.offset), Some(5));
        assert!(waiting.take(5, true).is_none());
        assert_eq!(waiting.live(), 2);
        let mut due = Vec::new();
        waiting.take_before(9, &mut due);
        assert_eq!((due.len(), due[0].offset, waiting.live()), (1, 3, 1));
        assert!(waiting.take(3, true).is_none());
        waiting.close(&mut due);
        assert_eq!((due.len(), waiting.live(), waiting.is_closed()), (2, 0, true));
    }
}
