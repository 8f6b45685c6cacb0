//! Opening what is on disk: [`survey`] reads what there is, [`judge`] says how far it is whole, [`start`] makes that the
//! journal again.
//!
//! Segments before the last one with a flush mark were flushed to their end: only their headers are looked at here, and
//! each record is checked when it is read. From that segment on every record is checked, up to the first that is not
//! whole. If a flush mark lies beyond it, something durable is damaged, and opening fails; else it is what a power cut
//! left of a flush that never ended: it was never acknowledged, and the journal ends before it.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use tidemill_base::Timestamp;
use tidemill_base::planted::{self, Bug};
use tidemill_base::rand::Rng;
use tidemill_base::storage::{Region, Storage};

use crate::error::{Error, Result};
use crate::format::{self, Defect, Head, Header, IDENTITY, Identity, IdentityDefect, MARK_AT, RECORDS_AT};
use crate::level::Sequence;
use crate::map::PAGE_BYTES;
use crate::options::Options;
use crate::scan::{Scan, Step};
use crate::segment::Segment;
use crate::segments::Entry;

/// The ending of a file that is not complete yet.
pub(crate) const TEMPORARY: &str = ".tmp";
/// Bytes of zeros after which nothing more is looked for behind the end of the records.
const ZEROS_BYTES: u64 = 1 << 20;

/// What was found when a journal was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How often the journal was opened, this time included.
    pub incarnation: u64,
    /// The oldest record; one after [`Recovery::last`] when there is none.
    pub first: Sequence,
    /// The newest record; [`Sequence::NONE`] when there was never one.
    pub last: Sequence,
    /// Segments that were kept.
    pub segments: usize,
    /// Records that were checked, those behind the last flush mark among them.
    pub checked: u64,
    /// What was cut off, because a flush never ended.
    pub torn: Option<Torn>,
}

/// The end of a journal that was being written when the power went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The segment in which the first bad record is.
    pub segment: u64,
    /// Where it is.
    pub offset: u64,
    /// What is wrong with it.
    pub defect: Defect,
    /// Bytes from there on that are not zero, in this segment and those after it.
    pub bytes: u64,
    /// Later segments that were dropped with it.
    pub segments: usize,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recovery { incarnation, first, last, segments, checked, torn } = self;
        write!(f, "start {incarnation}: records {first} to {last} in {segments} segments, {checked} checked")?;
        match torn {
            Some(Torn { segment, offset, bytes, defect, .. }) => {
                write!(f, "; {bytes} bytes never flushed were cut off at byte {offset} of segment {segment}: {defect}")
            }
            None => Ok(()),
        }
    }
}

/// A segment file as it stands.
pub(crate) struct File {
    pub number: u64,
    pub name: String,
    pub bytes: u64,
    pub head: Head,
    pub mark: u64,
}

impl File {
    pub fn header(&self) -> Option<&Header> {
        match &self.head {
            Head::Written(header) => Some(header),
            _ => None,
        }
    }

    fn corrupt(&self, offset: u64, defect: Defect) -> Error {
        Error::Corrupt { segment: self.number, offset, defect }
    }

    /// Up to where the segment was flushed for sure; 0 when it has no mark.
    pub fn marked(&self) -> Result<u64> {
        match (&self.head, self.mark) {
            (Head::Newer(found), _) => {
                Err(Error::Format { path: self.name.clone(), found: *found, known: format::FORMAT })
            }
            (_, 0) => Ok(0),
            (Head::Written(header), mark) => {
                format::read_mark(header.salt(), mark).map_err(|defect| self.corrupt(MARK_AT, defect))
            }
            (Head::Bad(defect), _) => Err(self.corrupt(0, defect.clone())),
            (Head::Blank, _) => Err(self.corrupt(0, Defect::Header)),
        }
    }

    /// Refuses a segment that cannot be this journal's.
    pub fn check(&self, identity: &Identity) -> Result<()> {
        let Some(header) = self.header() else { return Ok(()) };
        if header.journal != identity.journal {
            let (path, found) = (self.name.clone(), header.journal);
            return Err(Error::Foreign { path, found, expected: identity.journal });
        }
        if !self.bytes.is_multiple_of(PAGE_BYTES) {
            return Err(self.corrupt(0, Defect::Size { bytes: self.bytes }));
        }
        // Numbers begin with 1: a segment whose first record had none could never go on.
        if header.segment != self.number || header.base == Sequence::NONE {
            return Err(self.corrupt(0, Defect::Header));
        }
        if header.epoch > identity.incarnation {
            return Err(self.corrupt(0, Defect::Epoch { found: header.epoch, known: identity.incarnation }));
        }
        Ok(())
    }

    /// Reads from the segment, for a [`Scan`].
    pub fn fetch<'a>(&'a self, storage: &'a dyn Storage) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> + 'a {
        move |offset, length| storage.read(&self.name, offset, length)
    }
}

/// All that is in the folder of a journal.
pub(crate) struct Survey {
    /// None in a folder without an identity.
    pub identity: Option<Result<Identity>>,
    /// Segments in the order of their numbers.
    pub files: Vec<File>,
    /// Files that were never completed.
    pub leftovers: Vec<String>,
}

/// Reads what there is, and changes nothing.
pub(crate) fn survey(storage: &dyn Storage) -> Result<Survey> {
    let names = storage.list("").map_err(Error::io("list", "its folder"))?;
    let mut files = Vec::new();
    for name in &names {
        let Some(number) = format::segment_number(name) else { continue };
        let bytes = storage.size(name).map_err(Error::io("tell the size of", name))?;
        let start = storage.read(name, 0, bytes.min(RECORDS_AT) as usize).map_err(Error::io("read", name))?;
        let mark = format::word(&start, MARK_AT as usize);
        files.push(File { number, name: name.clone(), bytes, head: Header::decode(&start), mark });
    }
    files.sort_by_key(|file| file.number);
    let leftovers = names.iter().filter(|name| name.ends_with(TEMPORARY)).cloned().collect();
    let identity = match names.iter().any(|name| name == IDENTITY) {
        true => Some(read_identity(storage)),
        false => None,
    };
    Ok(Survey { identity, files, leftovers })
}

fn read_identity(storage: &dyn Storage) -> Result<Identity> {
    let bytes = storage.size(IDENTITY).map_err(Error::io("tell the size of", IDENTITY))?.min(4096);
    let content = storage.read(IDENTITY, 0, bytes as usize).map_err(Error::io("read", IDENTITY))?;
    Identity::decode(&content).map_err(|defect| match defect {
        IdentityDefect::Newer(found) => Error::Format { path: IDENTITY.to_string(), found, known: format::FORMAT },
        IdentityDefect::Damaged(reason) => Error::Identity { reason },
    })
}

/// How far a journal is whole.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// How many segments, from the oldest on, are kept.
    pub kept: usize,
    /// The first of them whose records were checked.
    pub unproven: usize,
    /// Where the records of each checked segment end.
    pub ends: Vec<u64>,
    /// The record after the newest.
    pub next: Sequence,
    pub checked: u64,
    pub torn: Option<Torn>,
}

/// Says how far the journal is whole.
///
/// # Errors
/// [`Error::Corrupt`] when something that was flushed is not.
pub(crate) fn judge(storage: &dyn Storage, survey: &Survey, identity: &Identity) -> Result<Judgement> {
    let files = &survey.files;
    let mut unproven = 0;
    let mut marks = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        file.check(identity)?;
        marks.push(file.marked()?);
        if marks[index] > 0 {
            unproven = index;
        }
    }
    let base =
        check_chain(&files[..(unproven + 1).min(files.len())], marks.get(unproven).is_some_and(|mark| *mark > 0))?;
    let mut judged = Judgement { unproven, kept: unproven, next: base, ..Judgement::default() };
    for file in &files[unproven..] {
        let Some(header) = file.header().filter(|header| header.base == judged.next) else { break };
        let mark = marks[judged.kept];
        let (end, defect) = walk(storage, file, header, &mut judged)?;
        if end < mark {
            return Err(file.corrupt(end, defect.unwrap_or(Defect::Missing)));
        }
        judged.kept += 1;
        judged.ends.push(end);
        // A segment that goes on with the very next record says that the journal was cut here before.
        let goes_on = files.get(judged.kept).and_then(File::header).is_some_and(|next| next.base == judged.next);
        if let Some(defect) = defect.filter(|_| !goes_on) {
            judged.torn = Some(Torn { segment: file.number, offset: end, defect, bytes: 0, segments: 0 });
            break;
        }
    }
    if judged.next.previous() < identity.floor {
        let at = files.get(judged.kept.saturating_sub(1));
        let defect = Defect::Floor { last: judged.next.previous(), floor: identity.floor };
        let (segment, offset) = (at.map_or(0, |file| file.number), judged.ends.last().copied().unwrap_or(0));
        return Err(Error::Corrupt { segment, offset, defect });
    }
    measure_torn(storage, files, &mut judged)?;
    Ok(judged)
}

/// Checks that each of these segments follows the one before; returns the base of the last.
fn check_chain(files: &[File], proven: bool) -> Result<Sequence> {
    let mut last_with_records: Option<&Header> = None;
    let mut before: Option<&Header> = None;
    for file in files {
        let header = match &file.head {
            Head::Written(header) => header,
            Head::Bad(defect) if proven => return Err(file.corrupt(0, defect.clone())),
            _ if proven => return Err(file.corrupt(0, Defect::Header)),
            _ => return Ok(Sequence::FIRST),
        };
        // One without records may be gone, so that its number does not count.
        if before.is_some_and(|before| before.base < header.base) {
            last_with_records = before;
        }
        let expected = last_with_records.map_or(header.previous, |last| last.segment);
        if header.previous != expected || before.is_some_and(|before| before.base > header.base) {
            return Err(file.corrupt(0, Defect::Chain { previous: header.previous }));
        }
        before = Some(header);
    }
    Ok(before.map_or(Sequence::FIRST, |header| header.base))
}

/// Walks a segment; returns where its whole records end, and what is wrong there if anything is.
fn walk(storage: &dyn Storage, file: &File, header: &Header, judged: &mut Judgement) -> Result<(u64, Option<Defect>)> {
    let mut scan = Scan::new(header).trusting(planted::is(Bug::TrustTornRecord));
    loop {
        match scan.step(file.bytes, file.fetch(storage)).map_err(Error::io("read", &file.name))? {
            Step::Record(_) => {
                judged.checked += 1;
                judged.next = scan.next_sequence();
            }
            Step::End => return Ok((scan.offset(), None)),
            Step::Bad(defect) => return Ok((scan.offset(), Some(defect))),
        }
    }
}

/// Counts what stands behind the end of the journal and was never flushed.
fn measure_torn(storage: &dyn Storage, files: &[File], judged: &mut Judgement) -> Result<()> {
    let mut bytes = 0;
    let mut at = None;
    if let (Some(file), Some(end)) = (judged.kept.checked_sub(1).and_then(|last| files.get(last)), judged.ends.last()) {
        bytes += written(storage, file, *end)?;
        at = Some((file.number, *end));
    }
    for file in &files[judged.kept..] {
        bytes += written(storage, file, RECORDS_AT.min(file.bytes))?;
        at = at.or(Some((file.number, 0)));
    }
    let Some((segment, offset)) = at.filter(|_| bytes > 0) else { return Ok(()) };
    let segments = files.len() - judged.kept;
    let defect = judged.torn.take().map_or(Defect::Missing, |torn| torn.defect);
    judged.torn = Some(Torn { segment, offset, defect, bytes, segments });
    Ok(())
}

/// The bytes from `from` to the last one that is not zero, looking no further than a long run of zeros.
pub(crate) fn written(storage: &dyn Storage, file: &File, from: u64) -> Result<u64> {
    let mut at = from;
    let mut last = from;
    while at < file.bytes && at - last <= ZEROS_BYTES {
        let length = (file.bytes - at).min(ZEROS_BYTES) as usize;
        let bytes = storage.read(&file.name, at, length).map_err(Error::io("read", &file.name))?;
        if let Some(index) = bytes.iter().rposition(|byte| *byte != 0) {
            last = at + index as u64 + 1;
        }
        at += length as u64;
    }
    Ok(last - from)
}

/// A journal that is ready to go on.
pub(crate) struct Start {
    pub identity: Identity,
    pub entries: VecDeque<Entry>,
    /// The segment that this start writes; its header is flushed.
    pub segment: Segment,
    pub recovery: Recovery,
}

/// Makes what is on disk the journal again: what is kept is flushed, what is not is removed, and a new segment begins.
///
/// Each step leaves a folder from which this can be done again.
pub(crate) fn start(storage: &dyn Storage, options: &Options, now: Timestamp) -> Result<Start> {
    let mut survey = survey(storage)?;
    let identity = match survey.identity.take() {
        Some(identity) => identity?,
        None if survey.files.is_empty() => new_identity(options),
        None => return Err(Error::Identity { reason: "there are segments, but no file 'identity'".to_string() }),
    };
    let judged = judge(storage, &survey, &identity)?;
    let incarnation =
        identity.incarnation + u64::from(!planted::is(Bug::ReuseIncarnation) || identity.incarnation == 0);
    let number = survey.files.last().map_or(1, |file| file.number + 1);
    let dropped = survey.files.split_off(judged.kept);
    remove_all(storage, survey.leftovers.iter())?;
    for (file, end) in survey.files[judged.unproven..].iter_mut().zip(&judged.ends) {
        settle(storage, file, *end)?;
    }
    let identity = Identity { incarnation, floor: judged.next.previous(), ..identity };
    let replaced = storage.replace(IDENTITY, identity.encode().as_bytes());
    replaced.map_err(Error::io("write", IDENTITY))?;

    let (kept, empty) = split_empty(survey.files, judged.next);
    let previous = kept.last().map_or(0, |file| file.number);
    let header = Header {
        journal: identity.journal,
        segment: number,
        previous,
        base: judged.next,
        epoch: incarnation,
        created: now,
    };
    let segment = begin(storage, header, options)?;
    remove_all(storage, dropped.iter().chain(&empty).map(|file| &file.name))?;

    let entries: VecDeque<Entry> = kept.into_iter().filter_map(entry).collect();
    let first = entries.front().map_or(judged.next, |entry| entry.header.base);
    let recovery = Recovery {
        incarnation,
        first,
        last: judged.next.previous(),
        segments: entries.len(),
        checked: judged.checked,
        torn: judged.torn,
    };
    Ok(Start { identity, entries, segment, recovery })
}

fn new_identity(options: &Options) -> Identity {
    let mut draws = match options.seed {
        Some(seed) => Rng::seeded(seed),
        None => Rng::seeded(RandomState::new().hash_one(std::process::id())),
    };
    let journal = u128::from(draws.next_u64()) << 64 | u128::from(draws.next_u64());
    Identity { journal, incarnation: 0, floor: Sequence::NONE }
}

/// Flushes a segment up to its end and writes down that it is; gives back the room behind when most of it is unused.
fn settle(storage: &dyn Storage, file: &mut File, end: u64) -> Result<()> {
    let Some(header) = file.header().copied() else { return Ok(()) };
    if file.marked()? < end {
        let region = storage.open(&file.name).map_err(Error::io("open", &file.name))?;
        region.flush(0, end).map_err(Error::io("flush", &file.name))?;
        write_mark(region.as_ref(), &header, end, &file.name)?;
    }
    let used = end.next_multiple_of(PAGE_BYTES);
    if used <= file.bytes / 2 {
        match shorten(storage, &header, &file.name, end) {
            Ok(()) => file.bytes = used,
            // Giving room back needs a little first; a full disk keeps the segment as it is.
            Err(Error::NoSpace { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes into a segment flushed up to `end` that it is.
pub(crate) fn write_mark(region: &dyn Region, header: &Header, end: u64, name: &str) -> Result<()> {
    let mark = format::mark(header.salt(), end).to_le();
    region.words()[(MARK_AT / 8) as usize].store(mark, std::sync::atomic::Ordering::Relaxed);
    region.flush(0, RECORDS_AT).map_err(Error::io("flush", name))
}

/// Puts in the place of a segment a copy of its first `end` bytes, all of them flushed.
pub(crate) fn shorten(storage: &dyn Storage, header: &Header, name: &str, end: u64) -> Result<()> {
    let temporary = format!("{name}{TEMPORARY}");
    if storage.size(&temporary).is_ok() {
        storage.remove(&temporary).map_err(Error::io("remove", &temporary))?;
    }
    let region = create(storage, &temporary, end.next_multiple_of(PAGE_BYTES))?;
    copy(storage, name, 0, end, region.as_ref())?;
    // The mark may stand already, for the copy has no name yet under which it counts.
    write_mark(region.as_ref(), header, end, &temporary)?;
    region.flush(0, end).map_err(Error::io("flush", &temporary))?;
    storage.rename(&temporary, name).map_err(Error::io("rename", &temporary))?;
    storage.sync_folder("").map_err(Error::io("flush the names in", "its folder"))
}

/// Copies bytes of a file to the start of a region.
pub(crate) fn copy(storage: &dyn Storage, from: &str, start: u64, end: u64, to: &dyn Region) -> Result<()> {
    const BYTES: u64 = 1 << 20;
    let mut at = start;
    while at < end {
        let length = BYTES.min(end - at);
        let bytes = storage.read(from, at, length as usize).map_err(Error::io("read", from))?;
        let words = &to.words()[((at - start) / 8) as usize..];
        for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(whole), std::sync::atomic::Ordering::Relaxed);
        }
        at += length;
    }
    Ok(())
}

/// Begins the segment of this start: its header and its name are durable when this returns.
fn begin(storage: &dyn Storage, header: Header, options: &Options) -> Result<Segment> {
    let name = format::segment_name(header.segment);
    let segment = Segment::begin(header, create(storage, &name, options.segment_bytes)?);
    segment.region.flush(0, RECORDS_AT).map_err(Error::io("flush", &name))?;
    if !planted::is(Bug::SkipFolderSync) {
        storage.sync_folder("").map_err(Error::io("flush the names in", "its folder"))?;
    }
    Ok(segment)
}

/// Makes a segment file; a full disk is told apart from other trouble.
pub(crate) fn create(storage: &dyn Storage, name: &str, bytes: u64) -> Result<Arc<dyn Region>> {
    storage.create(name, bytes).map_err(|cause| match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { bytes, cause: Arc::new(cause) },
        _ => Error::io("create", name)(cause),
    })
}

/// Segments with records and segments without, the latter to be removed.
fn split_empty(files: Vec<File>, next: Sequence) -> (Vec<File>, Vec<File>) {
    let bases: Vec<_> = files.iter().filter_map(File::header).map(|header| header.base).collect();
    let ends = bases.iter().skip(1).copied().chain([next]).collect::<Vec<_>>();
    let mut ends = bases.iter().zip(ends);
    files.into_iter().partition(|_| ends.next().is_some_and(|(base, end)| *base < end))
}

fn remove_all<'a>(storage: &dyn Storage, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut removed = false;
    for name in names {
        storage.remove(name).map_err(Error::io("remove", name))?;
        removed = true;
    }
    match removed {
        true => storage.sync_folder("").map_err(Error::io("flush the names in", "its folder")),
        false => Ok(()),
    }
}

fn entry(file: File) -> Option<Entry> {
    let header = *file.header()?;
    Some(Entry { header, name: file.name, bytes: file.bytes, live: None })
}
