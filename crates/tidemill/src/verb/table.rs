//! `tidemill table`: versioned tables, made and edited by hand.

use std::io::Read;

use serde_json::{Map, Value as Json};
use tidemill_node::Error;
use tidemill_node::versioned::{Difference, Place, Return, Submission, Table, declared};
use tidemill_state::submit::Accepted;
use tidemill_state::table::{Checkpoint, Conflict, Kind, TableError};

use crate::arguments::{self, ByHand, InTables, OneChange, OneTable, Output, TableAction};
use crate::buckets;
use crate::console::{self, thousands};
use crate::failure::Failure;
use crate::sheet::{Sheet, as_json};

/// Does what was asked.
pub(crate) fn run(table: &arguments::Table) -> Result<(), Failure> {
    match &table.action {
        TableAction::Create { table, columns, key, merge } => create(table, columns, key, merge),
        TableAction::Ls(place) => ls(place),
        TableAction::Show { table, at } => show(table, at),
        TableAction::Insert { change, values, json } => insert(change, values, json.as_deref()),
        TableAction::Delete { change, key } => delete(change, key),
        TableAction::Import { change, file } => {
            let mut table = open(&change.by.table)?;
            let (rows, accepted) = table.import(file, &submission(&table, change)?).map_err(refused)?;
            told(&accepted, &count(rows, "row put", "rows put"), change.by.table.place.output)
        }
        TableAction::Log { table, limit } => log(table, *limit),
        TableAction::Diff { table, range } => diff(table, range),
        TableAction::Merge { by, version } => {
            let mut table = open(&by.table)?;
            let version = table.version(version).map_err(plain)?;
            let accepted = table.merge(version, &by_hand(by)).map_err(refused)?;
            told(&accepted, &format!("version {version} merged"), by.table.place.output)
        }
        TableAction::Rollback { by, version, dry_run } => rollback(by, version, *dry_run),
        TableAction::Prune { table, version, dry_run } => prune(table, version, *dry_run),
    }
}

fn open(table: &OneTable) -> Result<Table, Failure> {
    place(&table.place)?.table(&table.name).map_err(plain)
}

fn place(place: &InTables) -> Result<Place, Failure> {
    Place::open_with(&place.folder, &buckets::s3(&place.buckets)?).map_err(plain)
}

fn plain(error: Error) -> Failure {
    Failure::plain(&error)
}

/// Why a change is refused; of an overlap the keys are told too, with the rows of both sides.
fn refused(error: Error) -> Failure {
    if let Error::State(tidemill_state::Error::Table(TableError::Conflict(Conflict::Overlap { keys, .. }))) = &error {
        for overlap in keys {
            console::say(&format!("key {}", text(&overlap.key)));
            for (side, row) in [("at first", &overlap.base), ("newest", &overlap.head), ("yours", &overlap.submitted)] {
                let row = row.as_ref().map_or_else(|| "no row".to_string(), text);
                console::say(&format!("  {side}: {row}"));
            }
        }
    }
    plain(error)
}

fn text(object: &Map<String, Json>) -> String {
    Json::Object(object.clone()).to_string()
}

/// Who asks.
fn author() -> String {
    std::env::var("USER").unwrap_or_else(|_| "unknown".to_string())
}

/// Prints the version that a change made.
fn told(accepted: &Accepted, what: &str, output: Output) -> Result<(), Failure> {
    if as_json(accepted, output)? {
        return Ok(());
    }
    let Accepted { version, head, merged, .. } = accepted;
    let line = match merged {
        true => format!("version {version}: {what}, merged into {head}\n"),
        false => format!("version {version}: {what}\n"),
    };
    Ok(console::put(line.as_bytes())?)
}

fn create(table: &OneTable, columns: &str, key: &[String], merge: &[String]) -> Result<(), Failure> {
    let schema = declared(columns, key, merge).map_err(plain)?;
    let place = Place::make(&table.place.folder, &buckets::s3(&table.place.buckets)?).map_err(plain)?;
    let made = place.create(&table.name, &schema, &author()).map_err(plain)?;
    let (version, rows) = (made.head().version(), thousands(made.head().count()));
    if as_json(&serde_json::json!({ "table": table.name, "version": version, "schema": schema }), table.place.output)? {
        return Ok(());
    }
    Ok(console::put(format!("table '{}' at version {version}, {rows} rows\n", table.name).as_bytes())?)
}

fn ls(place: &InTables) -> Result<(), Failure> {
    let opened = self::place(place)?;
    let mut tables = Vec::new();
    for name in opened.names().map_err(plain)? {
        match opened.table(&name) {
            Ok(table) => tables.push(table),
            Err(error) => console::say(tidemill_sql::error::render(&error, "", "").trim_end()),
        }
    }
    let listed = tables.iter().map(|table| {
        let (head, schema) = (table.head(), table.schema());
        serde_json::json!({ "table": table.name(), "version": head.version(), "rows": head.count(), "schema": schema })
    });
    if as_json(&listed.collect::<Vec<_>>(), place.output)? {
        return Ok(());
    }
    let mut sheet = Sheet::new(["table", "version", "rows", "columns", "key"]);
    for table in &tables {
        let (head, schema) = (table.head(), table.schema());
        let columns: Vec<String> =
            schema.columns().iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
        let (version, rows) = (head.version().to_string(), thousands(head.count()));
        sheet.row([table.name(), &version, &rows, &columns.join(", "), &schema.key_names().join(", ")]);
    }
    Ok(console::put(&sheet.print(&format!("versioned tables in {}", place.folder), place.output)?)?)
}

fn show(table: &OneTable, at: &str) -> Result<(), Failure> {
    let opened = open(table)?;
    let version = opened.version(at).map_err(plain)?;
    let found = opened.rows(version, &[], usize::MAX).map_err(plain)?;
    match table.place.output {
        Output::Ndjson => {
            let lines: String = found.rows.iter().map(|row| text(row) + "\n").collect();
            return Ok(console::put(lines.as_bytes())?);
        }
        output if as_json(&found.rows, output)? => return Ok(()),
        _ => {}
    }
    let names: Vec<&str> = opened.schema().columns().iter().map(|column| column.name.as_str()).collect();
    let mut sheet = Sheet::new(names.iter().copied());
    for row in &found.rows {
        let cells: Vec<String> = names.iter().map(|name| cell(row.get(*name), table.place.output)).collect();
        sheet.row(cells.iter().map(String::as_str));
    }
    Ok(console::put(&sheet.print(&format!("{} at version {version}", table.name), table.place.output)?)?)
}

/// A value as it stands in a sheet.
fn cell(value: Option<&Json>, output: Output) -> String {
    match value {
        Some(Json::String(text)) => text.clone(),
        None | Some(Json::Null) if output == Output::Csv => String::new(),
        None | Some(Json::Null) => "NULL".to_string(),
        Some(other) => other.to_string(),
    }
}

/// A change of nothing yet, by who asks.
fn by_hand(by: &ByHand) -> Submission {
    Submission { epoch: by.epoch, author: author(), message: by.message.clone(), ..Submission::default() }
}

/// A change of nothing yet, that rests on what was said.
fn submission(table: &Table, change: &OneChange) -> Result<Submission, Failure> {
    let on = change.on.as_deref().map(|name| table.version(name)).transpose().map_err(plain)?;
    Ok(Submission { deps: on.map(|version| vec![version]), merge: change.merge, ..by_hand(&change.by) })
}

fn insert(change: &OneChange, values: &[String], json: Option<&str>) -> Result<(), Failure> {
    let mut table = open(&change.by.table)?;
    let puts = match json {
        Some(json) => rows_of(json)?,
        None => vec![row_of(&table, values)?],
    };
    let what = count(puts.len(), "row put", "rows put");
    let submission = Submission { puts, ..submission(&table, change)? };
    told(&table.submit(&submission).map_err(refused)?, &what, change.by.table.place.output)
}

fn delete(change: &OneChange, key: &[String]) -> Result<(), Failure> {
    let mut table = open(&change.by.table)?;
    let parts: Vec<(Option<&str>, &str)> = key.iter().map(|part| key_part(&table, part)).collect();
    let deletes = vec![table.key_object(&parts).map_err(plain)?];
    let submission = Submission { deletes, ..submission(&table, change)? };
    told(&table.submit(&submission).map_err(refused)?, "1 row removed", change.by.table.place.output)
}

fn count(rows: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(rows as u64), if rows == 1 { one } else { many })
}

/// `COLUMN=VALUE` where that is a column of the key, else a value.
fn key_part<'a>(table: &Table, part: &'a str) -> (Option<&'a str>, &'a str) {
    match part.split_once('=') {
        Some((name, value)) if table.schema().key_names().iter().any(|key| key == name) => (Some(name), value),
        _ => (None, part),
    }
}

/// A row of `COLUMN=VALUE`s.
fn row_of(table: &Table, values: &[String]) -> Result<Map<String, Json>, Failure> {
    let mut row = Map::new();
    for text in values {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::Usage(format!("'{text}' is not written as COLUMN=VALUE")));
        };
        let column = table.schema().columns().iter().find(|column| column.name == name);
        // Booleans and arrays have no form as text in JSON.
        let value = match column.map(|column| column.kind.to_string()) {
            Some(kind) if kind == "BOOLEAN" || kind.starts_with("ARRAY") => {
                serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.to_string()))
            }
            _ => Json::String(value.to_string()),
        };
        if row.insert(name.to_string(), value).is_some() {
            return Err(Failure::Usage(format!("column '{name}' is given twice")));
        }
    }
    Ok(row)
}

/// Rows of JSON: an object, or an array of objects.
fn rows_of(json: &str) -> Result<Vec<Map<String, Json>>, Failure> {
    let mut text = json.to_string();
    if json == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::Usage(format!("stdin: {error}")))?;
    }
    let wrong = |why: String| Failure::Usage(format!("--json wants an object or an array of objects: {why}"));
    match serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))? {
        Json::Object(row) => Ok(vec![row]),
        Json::Array(rows) => rows
            .into_iter()
            .map(|row| match row {
                Json::Object(row) => Ok(row),
                other => Err(wrong(format!("found {other}"))),
            })
            .collect(),
        other => Err(wrong(format!("found {other}"))),
    }
}

fn log(table: &OneTable, limit: usize) -> Result<(), Failure> {
    let versions = open(table)?.log(limit);
    if as_json(&versions, table.place.output)? {
        return Ok(());
    }
    let mut sheet = Sheet::new(["version", "rests on", "made", "by", "kind", "put", "removed", "rows", "message"]);
    for one in &versions {
        let deps: Vec<String> = one.deps.iter().map(ToString::to_string).collect();
        let (version, made) = (one.version.to_string(), one.time().to_string());
        let counts = [one.puts, one.deletes, one.rows].map(thousands);
        let made = if one.kind == Kind::Genesis { "" } else { &made };
        sheet.row([
            &*version,
            &deps.join(" "),
            made,
            &one.author,
            &kind(one),
            &counts[0],
            &counts[1],
            &counts[2],
            &one.message,
        ]);
    }
    Ok(console::put(&sheet.print(&format!("versions of {}", table.name), table.place.output)?)?)
}

fn kind(checkpoint: &Checkpoint) -> String {
    match checkpoint.kind {
        Kind::Genesis => "empty".to_string(),
        Kind::Commit => "change".to_string(),
        Kind::Merge => "merge".to_string(),
        Kind::Rollback { target } => format!("rollback to {target}"),
    }
}

fn diff(table: &OneTable, range: &str) -> Result<(), Failure> {
    let Some((from, to)) = range.split_once("..") else {
        return Err(Failure::Usage(format!("'{range}' does not name two versions, as A..B does")));
    };
    let opened = open(table)?;
    let version = |name: &str| opened.version(name).map_err(plain);
    let difference = opened.diff(version(from)?, version(to)?).map_err(plain)?;
    let title = format!("{} from version {} to {}", table.name, difference.from, difference.to);
    differences(&difference, &title, table.place.output)
}

fn differences(difference: &Difference, title: &str, output: Output) -> Result<(), Failure> {
    if as_json(difference, output)? {
        return Ok(());
    }
    let mut sheet = Sheet::new(["key", "before", "after"]);
    let side = |row: &Option<Map<String, Json>>| row.as_ref().map_or_else(|| "no row".to_string(), text);
    for one in &difference.changes {
        sheet.row([&*text(&one.key), &side(&one.before), &side(&one.after)]);
    }
    Ok(console::put(&sheet.print(title, output)?)?)
}

fn rollback(by: &ByHand, version: &str, dry_run: bool) -> Result<(), Failure> {
    let mut table = open(&by.table)?;
    let (head, target) = (table.head().version(), table.version(version).map_err(plain)?);
    if dry_run {
        let difference = table.diff(head, target).map_err(plain)?;
        let title = format!("what a return to version {target} would change; nothing was changed");
        return differences(&difference, &title, by.table.place.output);
    }
    let Submission { epoch, author, message, .. } = by_hand(by);
    let accepted = table.roll_back(&Return { version: target, head: None, epoch, author, message }).map_err(refused)?;
    told(&accepted, &format!("the rows are those of version {target}"), by.table.place.output)
}

fn prune(named: &OneTable, version: &str, dry_run: bool) -> Result<(), Failure> {
    let mut table = open(named)?;
    let boundary = table.version(version).map_err(plain)?;
    let pruned = table.prune(boundary, &author(), dry_run).map_err(plain)?;
    if as_json(&pruned, named.place.output)? {
        return Ok(());
    }
    let forgotten = count(pruned.forgotten, "version", "versions");
    let line = match dry_run {
        true => format!("{forgotten} would be forgotten; nothing was changed\n"),
        false => format!("{forgotten} forgotten, {} kept from {} on\n", thousands(pruned.kept as u64), pruned.oldest),
    };
    Ok(console::put(line.as_bytes())?)
}
