//! [`Coming`]: a request whose body is on its way.
//!
//! A short body stays where it was read, behind its head in the connection's block; what comes in chunks is moved
//! together there. A body that does not fit gets memory of its own, paid for out of the budget of all bodies.

use tidemill_journal::pool::Block;

use super::chunks::Chunks;
use super::connection::BLOCK_BYTES;
use super::head::{Framing, Head};
use super::service::{Admitted, Content, within};
use crate::body::Body;
use crate::door::Door;
use crate::problem::Problem;

/// How full a block is when a body in chunks leaves it, since nobody knows how much is still to come.
const FULL_BYTES: usize = BLOCK_BYTES / 4 * 3;

/// A request whose body is on its way. The connection's block begins with its head.
pub(super) struct Coming {
    /// The head.
    pub head: Head,
    /// What it asks for.
    pub admitted: Admitted,
    /// When it began to come, in milliseconds.
    pub began: u64,
    end: End,
    /// The bytes of the body that lie behind the head.
    have: usize,
    /// Those before them, when the body does not fit into the block.
    long: Option<Body>,
}

/// How the end of the body is found.
enum End {
    Length(usize),
    Chunks(Chunks),
}

impl Coming {
    /// A body of which nothing has been looked at. It fails when the body is longer than the door allows or can hold.
    pub(super) fn new(head: Head, admitted: Admitted, door: &Door, began: u64) -> Result<Self, Problem> {
        let (end, length) = match head.framing {
            Framing::Chunked => (End::Chunks(Chunks::new()), 0),
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                (End::Length(length), length)
            }
            Framing::None => (End::Length(0), 0),
        };
        within(length, door)?;
        let fits = head.length + length <= BLOCK_BYTES;
        let long = if fits { None } else { Some(Body::with_room(length, &door.budget)?) };
        Ok(Coming { head, admitted, began, end, have: 0, long })
    }

    /// Takes what has come into `block`; gives where the request ends in it once all of it has come.
    pub(super) fn take(&mut self, block: &mut Block, door: &Door) -> Result<Option<usize>, Problem> {
        let end = self.cut(block)?;
        let length = self.long.as_ref().map_or(0, |long| long.bytes.len()) + self.have;
        within(length, door)?;
        let full = matches!(self.end, End::Chunks(_)) && end.is_none() && block.bytes().len() > FULL_BYTES;
        if self.long.is_some() || full {
            let long = match &mut self.long {
                Some(long) => long,
                none => none.insert(Body::with_room(0, &door.budget)?),
            };
            long.add(&block.bytes()[self.head.length..][..self.have], &door.budget, door.options.body_bytes_max)?;
            if end.is_none() {
                block.truncate(self.head.length);
            }
            self.have = 0;
        }
        Ok(end)
    }

    /// Finds the body's bytes among those behind the head, moves them together, and gives where the request ends.
    fn cut(&mut self, block: &mut Block) -> Result<Option<usize>, Problem> {
        let begin = self.head.length;
        match &mut self.end {
            End::Length(length) => {
                let before = self.long.as_ref().map_or(0, |long| long.bytes.len());
                self.have = (*length - before).min(block.bytes().len() - begin);
                Ok((before + self.have == *length).then_some(begin + self.have))
            }
            End::Chunks(chunks) => {
                let mut at = begin + self.have;
                while at < block.bytes().len() && !chunks.is_over() {
                    let step = chunks.step(&block.bytes()[at..]);
                    let step = step.map_err(|fault| Problem::bad_body(fault.detail()))?;
                    let (data, to) = (at + step.data.start..at + step.data.end, begin + self.have);
                    self.have += data.len();
                    block.bytes_mut().copy_within(data, to);
                    at += step.consumed;
                }
                if chunks.is_over() {
                    return Ok(Some(at));
                }
                block.truncate(begin + self.have);
                Ok(None)
            }
        }
    }

    /// The head, what it asks for, and the whole body, which may lie in `bytes`, the block's.
    pub(super) fn into_parts(self, bytes: &[u8]) -> (Head, Admitted, Content<'_>) {
        let Coming { head, admitted, have, long, .. } = self;
        let content = match long {
            Some(long) => Content::Long(long),
            None => Content::Short(&bytes[head.length..][..have]),
        };
        (head, admitted, content)
    }
}
