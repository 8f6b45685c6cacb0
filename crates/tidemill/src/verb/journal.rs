//! `tidemill journal`: the journal in a state folder, looked at and mended.

use std::path::Path;

use tidemill_journal::{Disk, inspect};
use tidemill_node::journal::Teller;

use crate::arguments::{InJournal, Journal, JournalAction};
use crate::console::{self, thousands};
use crate::failure::Failure;
use crate::sheet::Sheet;

/// Does what was asked.
pub(crate) fn run(journal: &Journal) -> Result<(), Failure> {
    match &journal.action {
        JournalAction::Ls(journal) => ls(journal),
        JournalAction::Inspect { journal, segment } => show(journal, *segment),
        JournalAction::Verify(journal) => verify(journal),
        JournalAction::Repair(journal) => repair(journal),
    }
}

/// The journal's own folder: the one that was named, or the one in a state folder.
fn folder(named: &Path) -> std::path::PathBuf {
    let inner = named.join("journal");
    if inner.is_dir() { inner } else { named.to_path_buf() }
}

/// The state folder that a journal is in.
fn state(named: &Path) -> std::path::PathBuf {
    let parent = || named.parent().map(Path::to_path_buf).unwrap_or_default();
    if named.join("journal").is_dir() { named.to_path_buf() } else { parent() }
}

fn view(journal: &InJournal) -> Result<Disk, Failure> {
    Ok(Disk::view(existing(journal)?))
}

/// The journal's own folder, which is there: what looks at a journal never makes one.
fn existing(journal: &InJournal) -> Result<std::path::PathBuf, Failure> {
    let folder = folder(&journal.folder);
    if !folder.is_dir() {
        return Err(Failure::Usage(format!("{} is no folder with a journal", journal.folder.display())));
    }
    Ok(folder)
}

fn failed(error: tidemill_journal::Error) -> Failure {
    Failure::plain(&error)
}

fn ls(journal: &InJournal) -> Result<(), Failure> {
    let mut sheet = Sheet::new(["segment", "first record", "begun", "start", "bytes", "flushed to", "problem"]);
    for segment in inspect::ls(&view(journal)?).map_err(failed)? {
        let header = segment.header;
        let text = |value: Option<String>| value.unwrap_or_default();
        let cells = [
            segment.number.to_string(),
            text(header.map(|header| header.first.to_string())),
            text(header.map(|header| header.created.to_string())),
            text(header.map(|header| header.incarnation.to_string())),
            thousands(segment.bytes),
            thousands(segment.flushed_bytes),
            text(segment.error.map(|error| error.to_string())),
        ];
        sheet.row(cells.iter().map(String::as_str));
    }
    let title = format!("segments in {}", folder(&journal.folder).display());
    Ok(console::put(&sheet.print(&title, journal.output)?)?)
}

fn show(journal: &InJournal, segment: Option<u64>) -> Result<(), Failure> {
    let disk = view(journal)?;
    let segments: Vec<u64> = inspect::ls(&disk).map_err(failed)?.iter().map(|segment| segment.number).collect();
    let (Some(oldest), Some(newest)) = (segments.first(), segments.last()) else {
        console::say("the journal has no segment yet");
        return Ok(());
    };
    let segment = segment.unwrap_or(*newest);
    if !segments.contains(&segment) {
        return Err(Failure::Usage(format!(
            "the journal has no segment {segment}: it has those from {oldest} to {newest}"
        )));
    }
    let mut sheet = Sheet::new(["record", "at", "bytes", "what"]);
    let mut teller = Teller::of(&state(&journal.folder));
    let (end, defect) = inspect::inspect(&disk, segment, |record, payload| {
        let what = match record.void {
            true => "given up".to_string(),
            false => teller.describe(record.kind, record.stream, payload),
        };
        let cells =
            [record.sequence.to_string(), thousands(record.offset), thousands(record.payload_bytes.into()), what];
        sheet.row(cells.iter().map(String::as_str));
    })
    .map_err(failed)?;
    console::put(&sheet.print(&format!("records of segment {segment}"), journal.output)?)?;
    match defect {
        Some(defect) => console::say(&format!("at byte {}: {defect}", thousands(end))),
        None => console::say(&format!("the records end at byte {}", thousands(end))),
    }
    Ok(())
}

fn verify(journal: &InJournal) -> Result<(), Failure> {
    let found = inspect::verify(&view(journal)?).map_err(failed)?;
    for damage in &found.damage {
        let weight = if damage.flushed { "damaged" } else { "not flushed" };
        console::say(&format!("segment {} at byte {}: {weight}: {}", damage.segment, damage.offset, damage.defect));
    }
    let (records, segments, bytes) =
        (thousands(found.records), thousands(found.segments as u64), thousands(found.bytes));
    console::say(&format!(
        "records {} to {}: {records} in {segments} segments, {bytes} bytes",
        found.first, found.last
    ));
    if found.is_whole() {
        console::say("everything that was flushed is there");
        return Ok(());
    }
    Err(Failure::environment(
        "the journal is damaged\n  help: restore the folder from a copy, or run `tidemill journal repair`, which keeps \
         what it cuts off",
    ))
}

fn repair(journal: &InJournal) -> Result<(), Failure> {
    let disk = Disk::open(existing(journal)?).map_err(failed)?;
    let done = inspect::repair(&disk).map_err(failed)?;
    for damage in &done.damage {
        console::say(&format!("segment {} at byte {}: {}", damage.segment, damage.offset, damage.defect));
    }
    for file in &done.cut_files {
        console::say(&format!("what was cut off is in {}", disk.folder().join(file).display()));
    }
    if done.identity {
        console::say("the file 'identity' was written anew");
    }
    if done.damage.is_empty() && !done.identity {
        console::say("nothing had to be mended");
        return Ok(());
    }
    let (lost, bytes) = (thousands(done.lost_records), thousands(done.cut_bytes));
    console::say(&format!(
        "the journal ends with record {} now; {lost} records or more are lost, {bytes} bytes were kept apart",
        done.last
    ));
    console::say(
        "take the state back to a version before that record: tidemill versions ls, tidemill versions rollback",
    );
    Ok(())
}
