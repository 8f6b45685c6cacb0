//! Looking at a journal without opening it, and mending one that will not open.
//!
//! [`ls`], [`inspect`] and [`verify`] change nothing and may be used beside a running journal, whose newest records then
//! count as not flushed. [`repair`] needs the folder for itself.

use bytes::Bytes;
use tidemill_base::Timestamp;
use tidemill_base::storage::Storage;

use crate::error::{Error, Result};
use crate::format::{self, Defect, Head, Header, IDENTITY, Identity, RECORDS_AT};
use crate::level::Sequence;
use crate::map::PAGE_BYTES;
use crate::recovery::{self, File, Survey, survey};
use crate::scan::{Scan, Step};

/// A segment file, as its first bytes describe it.
#[derive(Debug, Clone)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub name: String,
    /// The file's size.
    pub bytes: u64,
    /// Up to where it was flushed for sure, in bytes; 0 when that is not written down.
    pub flushed_bytes: u64,
    /// What its header says, when it has one.
    pub header: Option<SegmentHeader>,
    /// What is wrong with it, as far as its first bytes tell.
    pub error: Option<Error>,
}

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The number of its first record.
    pub first: Sequence,
    /// The incarnation of the journal that wrote it.
    pub incarnation: u64,
    /// When it was begun.
    pub created: Timestamp,
}

/// A record, as its head describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordInfo {
    /// Where it begins, in bytes from the start of the segment.
    pub offset: u64,
    /// Its number.
    pub sequence: Sequence,
    /// Its kind.
    pub kind: u8,
    /// Its stream.
    pub stream: u32,
    /// Whether its writer gave it up.
    pub void: bool,
    /// The bytes of its payload.
    pub payload_bytes: u32,
}

/// A place where a journal is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment; 0 when none is there.
    pub segment: u64,
    /// The byte in it.
    pub offset: u64,
    /// What is wrong.
    pub defect: Defect,
    /// Whether it was flushed. If not, opening the journal cuts it off, as nobody was told that it is there.
    pub flushed: bool,
}

/// What a whole journal was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Segment files.
    pub segments: usize,
    /// Valid records.
    pub records: u64,
    /// Bytes of segment files.
    pub bytes: u64,
    /// The oldest record.
    pub first: Sequence,
    /// The newest record before any damage.
    pub last: Sequence,
    /// The newest valid record, damage before it or not.
    pub newest: Sequence,
    /// What is wrong, in the order in which it stands.
    pub damage: Vec<Damage>,
}

impl Verified {
    /// What is known of segments before their records are looked at.
    fn from(first: Sequence, files: &[File]) -> Verified {
        Verified {
            segments: files.len(),
            records: 0,
            bytes: files.iter().map(|file| file.bytes).sum(),
            first,
            last: first.previous(),
            newest: first.previous(),
            damage: Vec::new(),
        }
    }

    /// Whether everything that was flushed is there.
    pub fn is_whole(&self) -> bool {
        self.damage.iter().all(|damage| !damage.flushed)
    }
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was mended, in order.
    pub damage: Vec<Damage>,
    /// The files that hold what was cut off.
    pub cut_files: Vec<String>,
    /// The bytes in them.
    pub cut_bytes: u64,
    /// The newest record that is left.
    pub last: Sequence,
    /// Records that are known to have been there and are lost; a record after them may be too.
    pub lost_records: u64,
    /// Whether the file `identity` was written anew.
    pub identity: bool,
}

/// The segments of a journal, oldest first.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn ls(storage: &dyn Storage) -> Result<Vec<SegmentInfo>> {
    let Survey { files, identity, .. } = survey(storage)?;
    let identity = identity.and_then(Result::ok);
    Ok(files.iter().map(|file| describe(file, identity.as_ref())).collect())
}

fn describe(file: &File, identity: Option<&Identity>) -> SegmentInfo {
    let header = file.header().map(|header| SegmentHeader {
        first: header.base,
        incarnation: header.epoch,
        created: header.created,
    });
    let marked = file.marked();
    let checked = identity.map_or(Ok(()), |identity| file.check(identity));
    SegmentInfo {
        number: file.number,
        name: file.name.clone(),
        bytes: file.bytes,
        flushed_bytes: *marked.as_ref().unwrap_or(&0),
        header,
        error: checked.err().or(marked.err()),
    }
}

/// Shows every record of a segment to `visit`, payload and all, and returns where they end and what is wrong there.
///
/// # Errors
/// When there is no such segment, or it has no header, or it cannot be read.
pub fn inspect(
    storage: &dyn Storage,
    segment: u64,
    mut visit: impl FnMut(RecordInfo, &Bytes),
) -> Result<(u64, Option<Defect>)> {
    let Survey { files, .. } = survey(storage)?;
    let name = format::segment_name(segment);
    let missing = || Error::io("find", &name)(std::io::ErrorKind::NotFound.into());
    let file = files.iter().find(|file| file.number == segment).ok_or_else(missing)?;
    let header = match &file.head {
        Head::Written(header) => header,
        Head::Newer(found) => return Err(Error::Format { path: name, found: *found, known: format::FORMAT }),
        Head::Bad(defect) => return Err(Error::Corrupt { segment, offset: 0, defect: defect.clone() }),
        Head::Blank => return Ok((RECORDS_AT, None)),
    };
    let mut scan = Scan::new(header);
    loop {
        match scan.step(file.bytes, file.fetch(storage)).map_err(Error::io("read", &file.name))? {
            Step::Record(found) => {
                let head = found.head;
                let info = RecordInfo {
                    offset: found.offset,
                    sequence: head.sequence,
                    kind: head.kind,
                    stream: head.stream,
                    void: head.void,
                    payload_bytes: head.payload_bytes,
                };
                visit(info, &found.payload);
            }
            Step::End => return Ok((scan.offset(), None)),
            Step::Bad(defect) => return Ok((scan.offset(), Some(defect))),
        }
    }
}

/// Checks every record of every segment.
///
/// # Errors
/// When something cannot be read at all, was written by a later version, or belongs to another journal.
pub fn verify(storage: &dyn Storage) -> Result<Verified> {
    let survey = survey(storage)?;
    let identity = match &survey.identity {
        Some(identity) => identity.clone()?,
        None if survey.files.is_empty() => Identity { journal: 0, incarnation: 0, floor: Sequence::NONE },
        None => return Err(Error::Identity { reason: "there are segments, but no file 'identity'".to_string() }),
    };
    check(storage, &survey, &identity)
}

fn check(storage: &dyn Storage, survey: &Survey, identity: &Identity) -> Result<Verified> {
    let files = &survey.files;
    let proven = files.iter().rposition(|file| file.mark != 0);
    let first = files.iter().find_map(File::header).map_or(Sequence::FIRST, |header| header.base);
    let mut found = Verified::from(first, files);
    for (index, file) in files.iter().enumerate() {
        let before = proven.is_some_and(|proven| index < proven);
        let within = proven.is_some_and(|proven| index <= proven);
        let mark = match file.check(identity).and_then(|()| file.marked()) {
            Ok(mark) => mark,
            Err(Error::Corrupt { segment, offset, defect }) => {
                found.damage.push(Damage { segment, offset, defect, flushed: true });
                0
            }
            Err(error) => return Err(error),
        };
        let Some(header) = file.header() else {
            let told = found.damage.last().is_some_and(|damage| damage.segment == file.number);
            // A blank segment at the end was made ready and not used.
            if !told && (within || file.head != Head::Blank) {
                let defect = if let Head::Bad(defect) = &file.head { defect.clone() } else { Defect::Header };
                found.damage.push(Damage { segment: file.number, offset: 0, defect, flushed: within });
            }
            continue;
        };
        if found.damage.is_empty() && header.base != found.last.next() {
            let defect = Defect::Chain { previous: header.previous };
            found.damage.push(Damage { segment: file.number, offset: 0, defect, flushed: within });
        }
        let next = files.get(index + 1).and_then(File::header);
        // One without records is no link of the chain, and may be there until the start after it is done.
        let follows = |next: &&Header| next.previous == file.number || next.base == header.base;
        let until = next.filter(follows).map(|next| next.base);
        let (end, defect) = walk(storage, file, header, until, &mut found)?;
        if let Some(defect) = defect.or((end < mark).then_some(Defect::Missing)) {
            let flushed = before || end < mark;
            found.damage.push(Damage { segment: file.number, offset: end, defect, flushed });
        }
    }
    if found.is_whole() && found.last < identity.floor {
        let defect = Defect::Floor { last: found.last, floor: identity.floor };
        let segment = files.last().map_or(0, |file| file.number);
        found.damage.push(Damage { segment, offset: 0, defect, flushed: true });
    }
    Ok(found)
}

/// Walks a segment up to the record before `until`; returns where it ends and what is wrong there.
fn walk(
    storage: &dyn Storage,
    file: &File,
    header: &Header,
    until: Option<Sequence>,
    found: &mut Verified,
) -> Result<(u64, Option<Defect>)> {
    let mut scan = Scan::new(header);
    let whole = found.damage.is_empty();
    loop {
        if until.is_some_and(|until| scan.next_sequence() >= until) {
            return Ok((scan.offset(), None));
        }
        match scan.step(file.bytes, file.fetch(storage)).map_err(Error::io("read", &file.name))? {
            Step::Record(record) => {
                found.records += 1;
                found.newest = found.newest.max(record.head.sequence);
                if whole {
                    found.last = record.head.sequence;
                }
            }
            Step::End => return Ok((scan.offset(), until.map(|_| Defect::Missing))),
            Step::Bad(defect) => return Ok((scan.offset(), Some(defect))),
        }
    }
}

/// Makes a journal that will not open one that does: it ends before the first damage then.
///
/// What is cut off stays in files ending in `.cut`. The numbers of lost records are given again to others, so whatever
/// was derived from them must be restored to before [`Repaired::last`] too.
///
/// # Errors
/// When something cannot be read or written; doing it again goes on from there.
pub fn repair(storage: &dyn Storage) -> Result<Repaired> {
    let mut repaired = Repaired::default();
    let mut reached = Sequence::NONE;
    loop {
        let survey = survey(storage)?;
        let identity = match &survey.identity {
            Some(Ok(identity)) => *identity,
            None if survey.files.is_empty() => return Ok(repaired),
            Some(Err(error @ (Error::Format { .. } | Error::Io { .. }))) => return Err(error.clone()),
            None | Some(Err(_)) => {
                repaired.identity = true;
                let identity = guess_identity(&survey.files)?;
                write_identity(storage, &identity)?;
                identity
            }
        };
        let found = check(storage, &survey, &identity)?;
        reached = reached.max(identity.floor).max(found.newest);
        repaired.last = found.last;
        repaired.lost_records = reached.0.saturating_sub(found.last.0);
        let Some(damage) = found.damage.into_iter().find(|damage| damage.flushed) else { return Ok(repaired) };
        mend(storage, &survey.files, &identity, &damage, &mut repaired)?;
        repaired.damage.push(damage);
    }
}

/// What the segments tell of their journal.
fn guess_identity(files: &[File]) -> Result<Identity> {
    let headers = || files.iter().filter_map(File::header);
    let reason = || Error::Identity { reason: "no segment has a header that tells it".to_string() };
    let journal = headers().next().ok_or_else(reason)?.journal;
    // Segments that were removed or never written may have had later ones.
    let incarnation = headers().map(|header| header.epoch).max().unwrap_or(0) + 1_000;
    Ok(Identity { journal, incarnation, floor: Sequence::NONE })
}

fn write_identity(storage: &dyn Storage, identity: &Identity) -> Result<()> {
    storage.replace(IDENTITY, identity.encode().as_bytes()).map_err(Error::io("write", IDENTITY))
}

fn mend(
    storage: &dyn Storage,
    files: &[File],
    identity: &Identity,
    damage: &Damage,
    repaired: &mut Repaired,
) -> Result<()> {
    if let Defect::Floor { last, .. } = damage.defect {
        return write_identity(storage, &Identity { floor: last, ..*identity });
    }
    if let Defect::Epoch { found, .. } = damage.defect {
        return write_identity(storage, &Identity { incarnation: found, ..*identity });
    }
    let index = files.iter().position(|file| file.number == damage.segment).unwrap_or(files.len());
    let Some((file, later)) = files[index..].split_first() else { return Ok(()) };
    if let (Defect::Mark, Some(header)) = (&damage.defect, file.header()) {
        let mut scanned = Verified::from(header.base, std::slice::from_ref(file));
        let (end, _) = walk(storage, file, header, None, &mut scanned)?;
        let region = storage.open(&file.name).map_err(Error::io("open", &file.name))?;
        return recovery::write_mark(region.as_ref(), header, end, &file.name);
    }
    for file in later.iter().rev() {
        set_aside(storage, file, repaired)?;
    }
    match file.header() {
        Some(header) if damage.offset >= RECORDS_AT => {
            keep_cut(storage, file, damage.offset, repaired)?;
            recovery::shorten(storage, header, &file.name, damage.offset)
        }
        _ => set_aside(storage, file, repaired),
    }
}

/// Takes a whole segment out of the journal.
fn set_aside(storage: &dyn Storage, file: &File, repaired: &mut Repaired) -> Result<()> {
    let name = free_name(storage, &file.name)?;
    storage.rename(&file.name, &name).map_err(Error::io("rename", &file.name))?;
    storage.sync_folder("").map_err(Error::io("flush the names in", "its folder"))?;
    repaired.cut_files.push(name);
    repaired.cut_bytes += file.bytes;
    Ok(())
}

/// Keeps the bytes of a segment from `offset` on.
fn keep_cut(storage: &dyn Storage, file: &File, offset: u64, repaired: &mut Repaired) -> Result<()> {
    let bytes = recovery::written(storage, file, offset)?;
    if bytes == 0 {
        return Ok(());
    }
    let name = free_name(storage, &file.name)?;
    let region = recovery::create(storage, &name, bytes.next_multiple_of(PAGE_BYTES))?;
    recovery::copy(storage, &file.name, offset, offset + bytes, region.as_ref())?;
    region.flush(0, bytes).map_err(Error::io("flush", &name))?;
    storage.sync_folder("").map_err(Error::io("flush the names in", "its folder"))?;
    repaired.cut_files.push(name);
    repaired.cut_bytes += bytes;
    Ok(())
}

/// A name for what is cut off a segment that nothing has yet.
fn free_name(storage: &dyn Storage, name: &str) -> Result<String> {
    let taken = storage.list("").map_err(Error::io("list", "its folder"))?;
    let mut free = format!("{name}.cut");
    let mut tries = 1;
    while taken.contains(&free) {
        tries += 1;
        free = format!("{name}.{tries}.cut");
    }
    Ok(free)
}
