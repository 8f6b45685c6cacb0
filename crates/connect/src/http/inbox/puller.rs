//! [`Puller`]: a reader of an inbox; each has a place of its own.
//!
//! Blocks are shared by all readers. One that others do not wait for, and that falls far behind, holds places in the
//! journal instead of blocks, and reads their bodies again when it comes to them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crossbeam_channel::{Receiver, Sender as Bell, bounded};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_format::Error as FormatError;

use super::intake::{Intake, Part, Progress, Sealed, Watched};
use super::keep::Reread;
use super::{InboxHandle, Shared};
use crate::error::Error;

/// Rows that are read again at once.
const REREAD_ROWS: u64 = 4_096;

/// What requests wait for, and what may be behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Requests wait for it: when it is behind, no more is taken in.
    Deciding,
    /// It follows: where events are kept and others decide, it may be behind as far as it is.
    Following,
}

/// A reader of an inbox.
pub struct Puller {
    inbox: InboxHandle,
    id: usize,
    bell: Receiver<()>,
    progress: Arc<Progress>,
    reread: Option<Box<dyn Reread>>,
}

/// What waits for the readers.
#[derive(Default)]
pub(super) struct Queues {
    readers: Vec<Queue>,
    /// Taken over from the intake, to be sealed.
    parts: Vec<Part>,
    next_id: usize,
}

/// What waits for a reader.
struct Queue {
    id: usize,
    pieces: VecDeque<Piece>,
    /// Records that are held as blocks.
    records: u64,
    /// Bytes of their bodies.
    bytes: u64,
    reading: Reading,
}

enum Piece {
    Block(Sealed),
    /// Records that are kept, the first of them at `place`.
    Kept {
        records: Range<u64>,
        place: u64,
        bytes: u64,
    },
}

impl Queue {
    fn push(&mut self, sealed: Sealed, (records_max, bytes_max): (u64, u64), rereads: bool) {
        let over = self.records + sealed.records() > records_max || self.bytes + sealed.bytes > bytes_max;
        if let (true, true, Some(place)) = (over, rereads && self.reading == Reading::Following, sealed.place) {
            match self.pieces.back_mut() {
                Some(Piece::Kept { records, bytes, .. }) if records.end == sealed.from => {
                    records.end = sealed.to();
                    *bytes += sealed.bytes;
                }
                _ => {
                    let records = sealed.from..sealed.to();
                    self.pieces.push_back(Piece::Kept { records, place, bytes: sealed.bytes });
                }
            }
            return;
        }
        self.records += sealed.records();
        self.bytes += sealed.bytes;
        self.pieces.push_back(Piece::Block(sealed));
    }

    /// The next piece, of at most so many rows; a body that has more by itself only when it `may`.
    fn pop(&mut self, rows: u64, may: bool) -> Option<Piece> {
        if let (false, Some(Piece::Block(next))) = (may, self.pieces.front())
            && next.ends.first().is_some_and(|end| u64::from(*end) > rows)
        {
            return None;
        }
        Some(match self.pieces.pop_front()? {
            Piece::Block(sealed) => {
                let (first, rest) = sealed.divide(rows);
                if let Some(rest) = rest {
                    self.pieces.push_front(Piece::Block(rest));
                }
                self.records -= first.records();
                self.bytes -= first.bytes;
                Piece::Block(first)
            }
            kept => kept,
        })
    }
}

impl Queues {
    /// Takes over what came in, and hands it to every reader.
    fn collect(&mut self, shared: &Shared) -> Result<(), FormatError> {
        let Some(columns) = shared.columns.get() else {
            let mut intake = shared.lock();
            std::mem::swap(&mut self.parts, &mut intake.parts);
            drop(intake);
            return self.hand_out(shared, |_| None);
        };
        let mut intake = shared.lock();
        intake.close_chunk(columns)?;
        std::mem::swap(&mut self.parts, &mut intake.parts);
        drop(intake);
        let mut empty = Vec::new();
        let mut failed = None;
        self.hand_out(shared, |mut chunk| {
            let sealed = chunk.seal(columns).map_err(|error| failed = Some(error)).ok();
            empty.push(chunk);
            sealed
        })?;
        shared.lock().spares.append(&mut empty);
        failed.map_or(Ok(()), Err)
    }

    fn hand_out(
        &mut self,
        shared: &Shared,
        mut seal: impl FnMut(super::intake::Chunk) -> Option<Sealed>,
    ) -> Result<(), FormatError> {
        let rereads = shared.rereads.get().is_some();
        for part in self.parts.drain(..) {
            let sealed = match part {
                Part::Whole(sealed) => Some(sealed),
                Part::Gathered(chunk) => seal(chunk),
            };
            let (Some(sealed), Some((last, others))) = (sealed, self.readers.split_last_mut()) else { continue };
            others.iter_mut().for_each(|reader| reader.push(sealed.clone(), shared.limits, rereads));
            last.push(sealed, shared.limits, rereads);
        }
        Ok(())
    }

    fn of(&mut self, id: usize) -> Option<&mut Queue> {
        self.readers.iter_mut().find(|queue| queue.id == id)
    }

    /// Puts a block before whatever comes, for every reader.
    pub fn put_back(&mut self, sealed: &Sealed) {
        for queue in &mut self.readers {
            queue.records += sealed.records();
            queue.bytes += sealed.bytes;
            queue.pieces.push_back(Piece::Block(sealed.clone()));
        }
    }
}

impl Puller {
    /// A reader of what no reader has been handed yet, and of what comes in from now on.
    pub(super) fn new(inbox: InboxHandle, reading: Reading) -> Self {
        let (ring, bell) = bounded(1);
        let progress = Arc::new(Progress::default());
        let mut queues = inbox.shared.queues();
        let id = queues.next_id;
        queues.next_id += 1;
        queues.readers.push(Queue { id, pieces: VecDeque::new(), records: 0, bytes: 0, reading });
        let mut intake = inbox.shared.lock();
        let (records, bytes) = intake.waiting();
        progress.records.store(intake.accepted.saturating_sub(records), Ordering::Release);
        progress.bytes.store(intake.bytes.saturating_sub(bytes), Ordering::Release);
        progress.permit.store(u64::MAX, Ordering::Relaxed);
        let decides = reading == Reading::Deciding;
        intake.readers.push(Watched { id, progress: progress.clone(), bell: ring, decides });
        intake.bells = bells(&intake);
        drop(intake);
        drop(queues);
        Puller { inbox, id, bell, progress, reread: None }
    }

    /// Hands over what waits, of `rows` rows at most but at least one body.
    ///
    /// # Errors
    /// [`Error::Format`] when rows cannot be made blocks, [`Error::NotReread`] when the journal does not have what it kept.
    pub fn pull(&mut self, rows: u64, into: &mut VecDeque<Block>) -> Result<(), Error> {
        // Who rings from now on may mean what is not pulled here.
        let _ = self.bell.try_recv();
        let (mut left, mut first) = (rows.max(1), true);
        while left > 0 {
            let mut queues = self.inbox.shared.queues();
            if first {
                let wrong = |error| Error::Format { table: self.inbox.shared.table.clone(), path: None, error };
                queues.collect(&self.inbox.shared).map_err(wrong)?;
            }
            let Some(piece) = queues.of(self.id).and_then(|queue| queue.pop(left, first)) else { break };
            drop(queues);
            first = false;
            let block = match piece {
                Piece::Block(sealed) => {
                    self.progress.bytes.fetch_add(sealed.bytes, Ordering::AcqRel);
                    sealed.block()
                }
                Piece::Kept { records, place, bytes } => self.read_again(records, place, bytes, left)?,
            };
            self.progress.records.fetch_add(u64::from(block.records), Ordering::AcqRel);
            left = left.saturating_sub(u64::from(block.records));
            into.push_back(block);
        }
        Ok(())
    }

    /// The first block of what is kept; the rest waits on.
    fn read_again(&mut self, records: Range<u64>, place: u64, bytes: u64, rows: u64) -> Result<Block, Error> {
        let rows = rows.min(REREAD_ROWS);
        let (mut at, mut deltas) = (records.start, Vec::new());
        while at < records.end && at - records.start < rows {
            let rows = self.next_kept(at, place)?;
            at += rows.rows() as u64;
            deltas.push(rows);
        }
        if at < records.end {
            let rest = Piece::Kept { records: at..records.end, place, bytes };
            let mut queues = self.inbox.shared.queues();
            if let Some(queue) = queues.of(self.id) {
                queue.pieces.push_front(rest);
            }
        } else {
            self.progress.bytes.fetch_add(bytes, Ordering::AcqRel);
            // What comes next may be far from here.
            self.reread = None;
        }
        let wrong = |error: FormatError| Error::Format { table: self.inbox.shared.table.clone(), path: None, error };
        let schema = deltas.first().map(Delta::schema);
        let schema = schema.ok_or_else(|| self.not_reread("nothing is kept there".to_string()))?;
        let delta = Delta::concat(&schema, &deltas).map_err(|error| wrong(error.into()))?;
        let (from, count) = (records.start, (at - records.start) as u32);
        Ok(Block { partition: 0, from, to: at, first_record: from, records: count, data: BlockData::Rows(delta) })
    }

    /// The rows of the body that begins with record `at`, which is kept at `place` or after it.
    fn next_kept(&mut self, at: u64, place: u64) -> Result<Delta, Error> {
        loop {
            let next = match (&mut self.reread, self.inbox.shared.rereads.get()) {
                (Some(reread), _) => reread.next(),
                (None, Some(rereads)) => match rereads.from(place) {
                    Ok(reread) => self.reread.insert(reread).next(),
                    Err(problem) => Err(problem),
                },
                (None, None) => Err("it was not kept".to_string()),
            };
            match next.map_err(|problem| self.not_reread(problem))? {
                Some(kept) if kept.first_record < at => {}
                Some(kept) if kept.first_record == at => return Ok(kept.rows),
                _ => return Err(self.not_reread(format!("record {at} is not there any more"))),
            }
        }
    }

    fn not_reread(&self, problem: String) -> Error {
        Error::NotReread { table: self.inbox.shared.table.clone(), problem }
    }

    /// Rings when something may have come since the last [`Puller::pull`].
    pub fn bell(&self) -> &Receiver<()> {
        &self.bell
    }

    /// How many records it may be behind before no more are taken in; only for one that decides.
    pub fn permit(&self, records: u64) {
        self.progress.permit.store(records, Ordering::Relaxed);
    }

    /// The inbox.
    pub fn inbox(&self) -> &InboxHandle {
        &self.inbox
    }
}

impl Drop for Puller {
    /// Nobody reads what would wait for it; an inbox without readers takes nothing.
    fn drop(&mut self) {
        let mut queues = self.inbox.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.readers.retain(|queue| queue.id != self.id);
        let mut intake = self.inbox.shared.lock();
        intake.readers.retain(|reader| reader.id != self.id);
        intake.bells = bells(&intake);
        intake.closed |= intake.readers.is_empty();
    }
}

fn bells(intake: &Intake) -> Arc<[Bell<()>]> {
    intake.readers.iter().map(|reader| reader.bell.clone()).collect()
}
