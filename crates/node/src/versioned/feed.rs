//! [`Lookups`]: the versioned tables of a pipeline, followed while it runs.
//!
//! Queries read a table through a cell, from which a step takes what was set last and reads that to its end. Here the cells
//! are filled: at the start, after each edit that comes in through this process's door, and from a thread that looks every
//! half second for what others have written. Rows are put in columns and indexed there, never on the driver's thread.
//!
//! Each circuit has cells of its own. While it runs recorded steps again nothing of that reaches them: each step reads the
//! versions its header names.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use tidemill_circuit::lookup::{LookupRows, LookupTable};
use tidemill_circuit::step::TableVersion;
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::TableDef;
use tidemill_state::Version;
use tidemill_state::store::S3;
use tidemill_state::table::{Reader, Snapshot, TableError};

use super::{Place, Table, columns, declare};
use crate::error::Error;
use crate::keep::folder;
use crate::part::Part;

/// How often it is looked for what others have written.
const INTERVAL: Duration = Duration::from_millis(500);

/// The versioned tables of a pipeline.
#[derive(Default)]
pub(crate) struct Lookups {
    tables: BTreeMap<String, Arc<Followed>>,
}

/// A versioned table that a pipeline declares.
pub(crate) struct Followed {
    name: String,
    table: Mutex<Table>,
    reader: Reader,
    /// The circuits that read it.
    readings: Vec<Reading>,
}

/// Where the queries of a circuit read a table.
struct Reading {
    circuit: String,
    cell: Arc<LookupTable>,
    shown: Mutex<Shown>,
}

/// What queries have been shown of a table.
#[derive(Default)]
struct Shown {
    /// Whether they are shown what is newest.
    live: bool,
    version: Option<Version>,
}

impl Lookups {
    /// Opens the versioned tables that a pipeline declares, for `parts` of it to read; `state` is its state folder.
    ///
    /// # Errors
    /// When one is not there, or is another than declared.
    pub(crate) fn open(pipeline: &Pipeline, parts: &[Part], state: Option<&Path>) -> Result<Lookups, Error> {
        let s3 = folder::s3(&pipeline.settings.state)?;
        let mut tables = BTreeMap::new();
        for def in pipeline.tables.iter().filter(|table| table.is_versioned()) {
            let table = open(def, &address(def, state)?, &s3)?;
            let readings = parts.iter().filter_map(|part| {
                let cell = part.cells.iter().find(|cell| cell.name() == def.name)?;
                Some(Reading { circuit: part.name.clone(), cell: cell.clone(), shown: Mutex::default() })
            });
            let followed = Followed {
                name: def.name.clone(),
                reader: table.reader(),
                table: Mutex::new(table),
                readings: readings.collect(),
            };
            tables.insert(def.name.clone(), Arc::new(followed));
        }
        Ok(Lookups { tables })
    }

    /// All of them.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Followed>> {
        self.tables.values()
    }

    /// Lets a circuit read what a step read that is to be run again; a table that its header does not name is read as it
    /// is.
    ///
    /// # Errors
    /// When a version cannot be read any more.
    pub(crate) fn recall(&self, circuit: &str, versions: &[TableVersion]) -> Result<(), Error> {
        for followed in self.tables.values() {
            let Some(reading) = followed.reading(circuit) else { continue };
            let named = versions.iter().find(|read| read.table == followed.name);
            followed.recall(reading, named.map(|read| read.version.as_str()))?;
        }
        Ok(())
    }

    /// Lets a circuit read what is newest, from now on.
    ///
    /// # Errors
    /// When rows cannot be put in columns.
    pub(crate) fn go_live(&self, circuit: &str) -> Result<(), Error> {
        for followed in self.tables.values() {
            let Some(reading) = followed.reading(circuit) else { continue };
            reading.shown().live = true;
            followed.show_in(reading)?;
        }
        Ok(())
    }

    /// Looks for what others write, until the watch is dropped.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<Option<Watch>, Error> {
        if self.tables.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = bounded::<()>(0);
        let lookups = self.clone();
        let look = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                lookups.tables.values().for_each(|followed| followed.look());
            }
        };
        let thread = std::thread::Builder::new().name("tables".to_string()).spawn(look);
        let thread = thread.map_err(|error| Error::Keep(format!("no thread can be started: {error}")))?;
        Ok(Some(Watch { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Followed {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The table, for this caller alone.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a circuit reads it, when it does.
    fn reading(&self, circuit: &str) -> Option<&Reading> {
        self.readings.iter().find(|reading| reading.circuit == circuit)
    }

    /// Lets queries read what is newest, but for circuits that run steps again.
    pub(crate) fn show(&self) -> Result<(), Error> {
        self.readings.iter().try_for_each(|reading| self.show_in(reading))
    }

    fn show_in(&self, reading: &Reading) -> Result<(), Error> {
        // Held to the end, so that what is shown never goes back.
        let mut shown = reading.shown();
        let newest = self.reader.newest();
        if shown.live && shown.version != Some(newest.version()) {
            reading.cell.set(Arc::new(rows(&reading.cell, &newest)?));
            shown.version = Some(newest.version());
        }
        Ok(())
    }

    /// Lets queries read a version.
    fn recall(&self, reading: &Reading, version: Option<&str>) -> Result<(), Error> {
        let there = reading.cell.get();
        if there.as_ref().is_some_and(|there| version.is_none_or(|version| there.version() == version)) {
            return Ok(());
        }
        let lost = |error: Error| Error::TableLost {
            table: self.name.clone(),
            version: version.unwrap_or("newest").to_string(),
            error: Box::new(error),
        };
        let mut table = self.table();
        let version = table.version(version.unwrap_or("newest")).map_err(lost)?;
        let snapshot = table.at(version).map_err(lost)?;
        reading.cell.set(Arc::new(rows(&reading.cell, &snapshot)?));
        Ok(())
    }

    /// Reads what others have written.
    fn look(&self) {
        let refreshed = self.table().refresh();
        if let Err(error) = refreshed.and_then(|_| self.show()) {
            tracing::warn!(table = %self.name, %error, "A versioned table cannot be followed; its last version is read on.");
        }
    }
}

impl Reading {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for what others write until it is dropped.
pub(crate) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// Who makes a table that a pipeline declares.
const AUTHOR: &str = "tidemill run";

/// Where a declared table is kept.
fn address(def: &TableDef, state: Option<&Path>) -> Result<String, Error> {
    if let Some(option) = def.options.iter().find(|option| !matches!(option.key.as_str(), "connector" | "path")) {
        let (table, option, position) = (def.name.clone(), option.key.clone(), Some(option.position));
        return Err(Error::TableOption { table, option, position });
    }
    match (def.option("path"), state) {
        (Some(path), _) => Ok(path.to_string()),
        (None, Some(state)) => Ok(state.display().to_string()),
        (None, None) => Err(Error::TableNowhere { table: def.name.clone(), position: Some(def.position) }),
    }
}

/// Opens a declared table. One that is kept with the pipeline's own state is made when it is not there yet; one that is kept
/// elsewhere is somebody's, and its address may be wrong.
fn open(def: &TableDef, address: &str, s3: &S3) -> Result<Table, Error> {
    let missing = || Error::TableMissing {
        table: def.name.clone(),
        address: address.to_string(),
        command: declare::create_command(def, address),
        position: Some(def.position),
    };
    let table = match Place::open_with(address, s3).and_then(|place| place.table(&def.name)) {
        Err(Error::NoTables { .. } | Error::State(tidemill_state::Error::Table(TableError::NoTable { .. }))) => {
            if def.option("path").is_some() {
                return Err(missing());
            }
            tracing::info!(table = %def.name, address, "A versioned table is made.");
            Place::make(address, s3)?.create(&def.name, &declare::schema_of(def)?, AUTHOR)?
        }
        opened => opened?,
    };
    match declare::difference(def, table.schema()) {
        None => Ok(table),
        Some(difference) => Err(Error::TableDiffers {
            table: def.name.clone(),
            address: address.to_string(),
            difference,
            declaration: declare::declaration(table.schema()),
            position: Some(def.position),
        }),
    }
}

/// A snapshot's rows as queries read them.
fn rows(cell: &LookupTable, snapshot: &Snapshot) -> Result<LookupRows, Error> {
    let broken = |problem| tidemill_circuit::Error::broken("a versioned table", problem);
    let batch = columns::batch(snapshot, cell.schema()).map_err(broken)?;
    Ok(LookupRows::new(cell, &snapshot.version().to_string(), batch)?)
}
