//! Input on its way through the journal: [`InputKeep`] keeps what an inbox or a ring takes, [`Outstanding`] knows what no
//! step has taken yet, or no source let go of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_circuit::step::BlockRange;
use tidemill_connect::{Full, Keep, Note};
use tidemill_gateway::Durable;
use tidemill_journal::{Journal, Level, Sequence};

use super::line::{INPUT, Input, NOTED, stream};
use super::retention::Retention;

/// Input that is in the journal and that a circuit has not taken.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    /// By source the first record and the journal's number of each body, in their order: as it comes and goes in that order
    /// this costs no allocation a body.
    sources: Mutex<BTreeMap<String, VecDeque<(u64, u64)>>>,
    /// The journal's numbers of what its source still has too, and would give again after a restart.
    held: Mutex<BTreeSet<u64>>,
}

impl Outstanding {
    /// Adds input of a source.
    pub(crate) fn add(&self, source: &str, first_record: u64, sequence: u64) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = match sources.get_mut(source) {
            Some(waiting) => waiting,
            None => sources.entry(source.to_string()).or_default(),
        };
        match waiting.binary_search_by_key(&first_record, |(first, _)| *first) {
            Ok(at) => waiting[at].1 = sequence,
            Err(at) => waiting.insert(at, (first_record, sequence)),
        }
    }

    /// Takes away the records of a source that a step has taken, range by range.
    pub(crate) fn remove(&self, source: &str, taken: impl Iterator<Item = Range<u64>>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = sources.get_mut(source) else { return };
        for range in taken {
            let from = waiting.partition_point(|(first, _)| *first < range.start);
            let count = waiting.range(from..).take_while(|(first, _)| *first < range.end).count();
            waiting.drain(from..from + count);
        }
    }

    /// The journal's number of the oldest.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let held = self.held().first().copied();
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.values().filter_map(|waiting| waiting.front().map(|(_, sequence)| *sequence)).chain(held).min()
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records of a block; one of none is at its place too.
pub(crate) fn taken(block: &BlockRange) -> Range<u64> {
    block.from..block.to.max(block.from + 1)
}

/// Takes away what begins in a range.
pub(crate) fn remove<T>(waiting: &mut BTreeMap<u64, T>, range: Range<u64>) {
    while let Some((first, _)) = waiting.range(range.clone()).next() {
        let first = *first;
        waiting.remove(&first);
    }
}

/// Keeps what a source takes.
pub(crate) struct InputKeep {
    journal: Arc<Journal>,
    /// For each circuit that reads the source.
    outstanding: Vec<Arc<Outstanding>>,
    source: String,
    stream: u32,
    /// What its input is to survive before the source lets go of it; none when the source has it no more.
    held_until: Option<Level>,
    /// What else the journal is needed for.
    retention: Option<Arc<Retention>>,
}

impl InputKeep {
    pub(crate) fn new(source: &str, journal: Arc<Journal>, outstanding: Vec<Arc<Outstanding>>) -> Self {
        let (source, stream) = (source.to_string(), stream(source));
        InputKeep { journal, outstanding, source, stream, held_until: None, retention: None }
    }

    /// Has what no circuit needs removed where there is no room: circuits that sleep do not look.
    pub(crate) fn makes_room(self, retention: Arc<Retention>) -> Self {
        InputKeep { retention: Some(retention), ..self }
    }

    /// For a source that holds its input until the journal has it at a level.
    pub(crate) fn held_until(self, level: Level) -> Self {
        InputKeep { held_until: Some(level), ..self }
    }
}

impl Keep for InputKeep {
    fn keep(&self, first_record: u64, records: u32, note: &Note<'_>, body: &[u8]) -> Result<u64, Full> {
        let (plain, noted) = (Input::head(first_record, records), Input::noted_head(first_record, records, note));
        let key = note.key.unwrap_or_default().as_bytes();
        let (kind, head) = match *note == Note::default() {
            true => (INPUT, &plain[..]),
            false => (NOTED, &noted[..]),
        };
        let bytes = head.len() + key.len() + body.len();
        let mut admitted = self.journal.admit(kind, self.stream, bytes);
        if let (Err(error), Some(retention)) = (&admitted, &self.retention)
            && error.is_full()
        {
            let freed = retention.let_go(&self.journal);
            admitted = freed.and_then(|()| self.journal.admit(kind, self.stream, bytes));
        }
        let appended = admitted.and_then(|place| {
            // Known before it can be seen, so that no snapshot is taken as covering it.
            for outstanding in &self.outstanding {
                outstanding.add(&self.source, first_record, place.sequence().0);
                if self.held_until.is_some() {
                    outstanding.held().insert(place.sequence().0);
                }
            }
            place.commit(&[head, key, body])
        });
        match appended {
            Ok(sequence) => {
                if let Some(level) = self.held_until {
                    // The flush begins now; the source looks whether it is done.
                    self.journal.notify(sequence, level, Box::new(|_| {}));
                }
                Ok(sequence.0)
            }
            Err(error) if error.is_full() => {
                tracing::warn!(source = %self.source, %error, "Input is turned away.");
                Err(Full::Waiting { records: 0 })
            }
            Err(tidemill_journal::Error::TooLarge { bytes, .. }) => {
                Err(Full::TooLarge { records: records.into(), bytes })
            }
            Err(error) => {
                tracing::error!(source = %self.source, %error, "Input cannot be kept any more.");
                Err(Full::Lost)
            }
        }
    }

    fn is_durable(&self, place: u64) -> bool {
        self.journal.durable(self.held_until.unwrap_or_default()) >= Sequence(place)
    }

    fn let_go(&self, place: u64) {
        self.outstanding.iter().for_each(|outstanding| {
            outstanding.held().remove(&place);
        });
    }
}

/// Comes to its end when a record has reached a level; none when it has already.
pub(crate) fn durable(journal: &Journal, sequence: u64, level: Level) -> Option<Durable> {
    let sequence = Sequence(sequence);
    if journal.durable(level) >= sequence {
        return None;
    }
    let (told, answer) = tokio::sync::oneshot::channel();
    // Who asked may have hung up.
    journal.notify(sequence, level, Box::new(move |result| drop(told.send(result))));
    Some(Box::pin(async move {
        match answer.await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the journal was closed".to_string()),
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidemill_base::time::SystemClock;
    use tidemill_journal::{Disk, Options};

    use super::super::line::{Line, circuit_stream};
    use super::super::log::{Delivered, Log};
    use super::*;

    const PAGE: [u8; 4_000] = [b' '; 4_000];

    /// A journal of two segments.
    fn tight(folder: &Path) -> Arc<Journal> {
        let disk = Arc::new(Disk::open(folder).expect("the folder is ours"));
        let options = Options { segment_bytes: 64 << 10, quota_bytes: 128 << 10, ..Options::default() };
        Arc::new(Journal::open(disk, options, Arc::new(SystemClock::new())).expect("it is whole").0)
    }

    /// Offers bodies until one is turned away; returns how many were taken.
    fn offer_all(keep: &InputKeep, from: u64) -> u64 {
        let mut next = from;
        loop {
            match keep.keep(next, 1, &Note::default(), &PAGE) {
                Ok(_) => next += 1,
                Err(Full::Waiting { .. }) => return next - from,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Writes a line of a step, which is not to wait.
    fn write(journal: &Arc<Journal>) -> Sequence {
        let log = Log::new(journal.clone(), "main", Delivered::default(), Level::Process);
        let before = journal.left();
        let written = log.write(&Line::Shown { sequence: 1 }).expect("there is room for steps");
        assert!(journal.left() < before, "it stands in the segment that was left");
        written
    }

    #[test]
    fn a_full_journal_starts_again_takes_steps_and_then_input() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let taken = {
            let journal = tight(folder.path());
            let taken = offer_all(&InputKeep::new("clicks", journal.clone(), Vec::new()), 0);
            assert!((10..=16).contains(&taken), "{taken} bodies are in one segment");
            write(&journal);
            taken
        };
        let journal = tight(folder.path());
        let (outstanding, retention) = (Arc::new(Outstanding::default()), Arc::new(Retention::default()));
        let need = retention.of("main", Sequence::FIRST, false, outstanding.clone());
        let mut reader = journal.reader(Sequence::FIRST, Level::Process).expect("nothing is gone");
        let mut found = 0;
        while let Some(record) = reader.next().expect("it is whole") {
            if record.stream != circuit_stream("main") {
                let input = Input::decode(record.kind, &record.payload).expect("it is whole");
                assert_eq!((input.first_record, input.body.len()), (found, PAGE.len()));
                outstanding.add("clicks", found, record.sequence.0);
                found += 1;
            }
        }
        assert_eq!(found, taken, "nothing is lost");

        let keep = InputKeep::new("clicks", journal.clone(), vec![outstanding.clone()]).makes_room(retention.clone());
        assert_eq!(offer_all(&keep, taken), 0);
        need.step();
        let written = write(&journal);
        outstanding.remove("clicks", std::iter::once(0..taken));
        journal.wait(written, Level::Flushed).expect("the disk is well");
        assert_eq!(offer_all(&keep, taken), 0, "its step would have to run again");
        need.saved(written.next(), true);
        assert!(offer_all(&keep, taken) > 0, "a snapshot covers what it was full of");
    }

    #[test]
    fn input_that_its_source_still_has_is_outstanding_though_a_step_has_taken_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Arc::new(Disk::open(folder.path().join("journal")).expect("the folder is ours"));
        let options = Options { segment_bytes: 1 << 20, quota_bytes: 4 << 20, ..Options::default() };
        let (journal, _) = Journal::open(disk, options, Arc::new(SystemClock::new())).expect("it is new");
        let (journal, outstanding) = (Arc::new(journal), Arc::new(Outstanding::default()));
        let inbox = InputKeep::new("inbox", journal.clone(), vec![outstanding.clone()]);
        let ring = InputKeep::new("ring", journal.clone(), vec![outstanding.clone()]).held_until(Level::Flushed);

        let held = ring.keep(0, 1, &Note::default(), b"{}").expect("there is room");
        let taken = inbox.keep(0, 1, &Note::default(), b"{}").expect("there is room");
        assert_eq!(outstanding.oldest(), Some(held));
        outstanding.remove("ring", std::iter::once(0..1));
        outstanding.remove("inbox", std::iter::once(0..1));
        assert_eq!(outstanding.oldest(), Some(held), "a snapshot has to leave it to the next start");
        journal.wait(Sequence(taken), Level::Flushed).expect("the disk is well");
        assert!(ring.is_durable(held));
        ring.let_go(held);
        assert_eq!(outstanding.oldest(), None);
    }
}
