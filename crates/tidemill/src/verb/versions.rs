//! `tidemill versions`: the versions of a pipeline's state.

use tidemill_base::Timestamp;
use tidemill_node::versions::{Difference, Listed, Rollback, Shown, Versions};

use crate::arguments::{self, InState, OneVersion, VersionsAction};
use crate::buckets;
use crate::console::{self, thousands};
use crate::failure::Failure;
use crate::sheet::{Sheet, as_json};

/// Does what was asked.
pub(crate) fn run(versions: &arguments::Versions) -> Result<(), Failure> {
    match &versions.action {
        VersionsAction::Ls(state) => ls(state),
        VersionsAction::Show(version) => show(version),
        VersionsAction::Sql(version) => {
            let sql = open(&version.state)?.sql(&version.version).map_err(plain)?;
            Ok(console::put(sql.as_bytes())?)
        }
        VersionsAction::Verify(version) => {
            let (packs, chunks, bytes) = open(&version.state)?.verify(&version.version).map_err(plain)?;
            let (packs, chunks, bytes) = (thousands(packs), thousands(chunks), thousands(bytes));
            console::say(&format!("{chunks} chunks in {packs} packs, {bytes} bytes: every byte is as it was written"));
            Ok(())
        }
        VersionsAction::Diff { state, from, to } => diff(state, from, to),
        VersionsAction::Rollback { version, dry_run, past_damage } => rollback(version, *dry_run, *past_damage),
        VersionsAction::Savepoint { state, name, version: _, drop: true } => {
            open(state)?.forget(name).map_err(plain)?;
            console::say(&format!("savepoint '{name}' is forgotten"));
            Ok(())
        }
        VersionsAction::Savepoint { state, name, version, drop: false } => {
            if tidemill_node::versions::is_taken(name) {
                let problem = format!("a savepoint cannot be named '{name}', which already names a version by itself");
                return Err(Failure::Usage(format!(
                    "{problem}; take a name that is not a number, such as before-{name}"
                )));
            }
            let listed = open(state)?.save(name, version).map_err(plain)?;
            console::say(&format!("version {} ({}) is kept as '{name}'", listed.number, listed.version));
            Ok(())
        }
    }
}

fn open(state: &InState) -> Result<Versions, Failure> {
    let s3 = buckets::s3(&state.buckets)?;
    Versions::open(&state.folder, state.store.as_deref(), &s3, &state.circuit).map_err(plain)
}

fn plain(error: tidemill_node::Error) -> Failure {
    Failure::plain(&error)
}

fn ls(state: &InState) -> Result<(), Failure> {
    let mut listed = Vec::new();
    for version in open(state)?.all().map_err(plain)? {
        match version {
            Ok(version) => listed.push(version),
            Err(error) => console::say(tidemill_sql::error::render(&error, "", "").trim_end()),
        }
    }
    if as_json(&listed, state.output)? {
        return Ok(());
    }
    let mut sheet =
        Sheet::new(["number", "version", "step", "made", "by", "rests on", "content root", "bytes", "name"]);
    for one in &listed {
        let (number, step, made) = (one.number.to_string(), thousands(one.step), made(one));
        let (deps, bytes, names) = (one.deps.join(" "), thousands(one.bytes), one.savepoints.join(" "));
        let root = one.content_root.get(..12).unwrap_or(&one.content_root);
        sheet.row([&*number, &*one.version, &*step, &*made, &*one.cause, &*deps, root, &*bytes, &*names]);
    }
    Ok(console::put(&sheet.print(&format!("versions in {}", state.folder.display()), state.output)?)?)
}

fn made(version: &Listed) -> String {
    Timestamp(version.created_ms).to_string()
}

fn show(version: &OneVersion) -> Result<(), Failure> {
    let shown = open(&version.state)?.show(&version.version).map_err(plain)?;
    let output = version.state.output;
    if as_json(&shown, output)? {
        return Ok(());
    }
    let Shown { listed, pipeline, lanes, finished, sources, operators, files } = &shown;
    let mut sheet = Sheet::new(["", "value"]);
    for (name, value) in [
        ("number", listed.number.to_string()),
        ("version", listed.version.clone()),
        ("rests on", listed.deps.join(" ")),
        ("made", format!("{} by {} ({})", made(listed), listed.cause, listed.build)),
        ("step", thousands(listed.step)),
        ("pipeline", format!("{pipeline} on {lanes} lanes{}", if *finished { ", at its end" } else { "" })),
        ("content root", listed.content_root.clone()),
        ("state hash", listed.state_hash.clone()),
        ("bytes", format!("{}, {} of them written for it", thousands(listed.bytes), thousands(listed.bytes_written))),
        ("savepoints", listed.savepoints.join(" ")),
    ] {
        sheet.row([name, &value]);
    }
    let mut out = sheet.print(&format!("version {}", listed.number), output)?;
    let mut sheet = Sheet::new(["source", "partition", "records", "ended"]);
    for one in sources {
        sheet.row([&*one.source, &*one.origin, &*thousands(one.records), if one.ended { "yes" } else { "no" }]);
    }
    out.extend(sheet.print("how far the sources were taken", output)?);
    let mut sheet = Sheet::new(["operator", "fingerprint", "chunks", "bytes"]);
    for one in operators {
        sheet.row([&*one.title, &*one.fingerprint, &*thousands(one.chunks), &*thousands(one.bytes)]);
    }
    out.extend(sheet.print("what is kept", output)?);
    if !files.is_empty() {
        let mut sheet = Sheet::new(["file"]);
        files.iter().for_each(|file| sheet.row([&*file.display().to_string()]));
        out.extend(sheet.print("files that were shown with it", output)?);
    }
    Ok(console::put(&out)?)
}

fn diff(state: &InState, from: &str, to: &str) -> Result<(), Failure> {
    let difference = open(state)?.diff(from, to).map_err(plain)?;
    if as_json(&difference, state.output)? {
        return Ok(());
    }
    let Difference { from, to, records, operators } = &difference;
    let same = if from.content_root == to.content_root { "the same" } else { "another" };
    console::say(&format!(
        "from version {} to {}: {} steps, {same} content root",
        from.number,
        to.number,
        to.step as i64 - from.step as i64
    ));
    let mut sheet = Sheet::new(["source", "records"]);
    records.iter().for_each(|(source, count)| sheet.row([&**source, &*format!("{count:+}")]));
    let mut out = sheet.print("records taken in between", state.output)?;
    let mut sheet = Sheet::new(["operator", "chunks added", "changed", "removed"]);
    for (title, chunks) in operators {
        let cells = [chunks.added, chunks.changed, chunks.removed].map(thousands);
        sheet.row([&**title, &*cells[0], &*cells[1], &*cells[2]]);
    }
    out.extend(sheet.print("chunks of rows", state.output)?);
    Ok(console::put(&out)?)
}

fn rollback(version: &OneVersion, dry_run: bool, past_damage: bool) -> Result<(), Failure> {
    let rollback = open(&version.state)?.rollback(&version.version, dry_run, past_damage).map_err(plain)?;
    if as_json(&rollback, version.state.output)? {
        return Ok(());
    }
    let Rollback { target, made, steps, records, seen } = &rollback;
    let verb = if made.is_some() { "is" } else { "would be" };
    let (number, steps) = (target.number, thousands(*steps));
    console::say(&format!("the state {verb} that of version {number} ({}), {steps} steps back", target.version));
    for (source, count) in records {
        console::say(&format!("  source '{source}': {} records are taken in again", thousands(*count)));
    }
    for file in seen {
        console::say(&format!("  {} was shown since, and stays", file.display()));
    }
    match made {
        Some(made) => {
            console::say(&format!("version {} ({}) says so; start the pipeline again", made.number, made.version))
        }
        None => console::say("nothing was changed"),
    }
    Ok(())
}
