//! [`FileSink`]: writes rows to files in a folder, or in a folder for each value of the `PARTITIONED BY` columns.
//!
//! A file gets its name when it is whole: when it has grown to `'sink.rolling-policy.file-size'`, or at the end. What an
//! aborted run leaves is whole files only. In a pipeline that keeps state a whole file waits, under its temporary name,
//! until the version that it belongs to is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{Array, StringArray, UInt32Array};
use arrow_schema::{DataType, SchemaRef};
use tidemill_circuit::Delta;

use super::part::{self, Part};
use super::staging::Staging;
use crate::catalogue::Table;
use crate::changelog::Changelog;
use crate::error::{Error, Role};
use crate::sink::{self, Delivery, Sink, SinkSummary, Staged};

/// The most files that are being written at a time; beyond, the one longest unused is completed.
const OPEN_MAX: usize = 256;

/// A folder as a sink.
pub struct FileSink {
    table: String,
    options: super::Options,
    /// The columns that make the folder, by index.
    partitioned_by: Vec<usize>,
    /// The columns that are written, by index, and their schema.
    written: Vec<usize>,
    schema: SchemaRef,
    open: BTreeMap<PathBuf, Open>,
    /// The number of the next file in each folder that rows went to.
    numbers: BTreeMap<PathBuf, u32>,
    writes: u64,
    /// How rows that are taken back are told; none when rows only come.
    changelog: Option<Changelog>,
    staging: Option<Staging>,
    summary: SinkSummary,
}

struct Open {
    part: Part,
    last_write: u64,
}

impl FileSink {
    pub(crate) fn open(
        table: &Table,
        options: &super::Options,
        rows: SchemaRef,
        changelog: Option<Changelog>,
    ) -> Result<Self, Error> {
        let partitioned_by = partition_columns(table, &rows)?;
        let written: Vec<usize> = (0..rows.fields().len()).filter(|index| !partitioned_by.contains(index)).collect();
        let wrong = |error| Error::Format { table: table.name.clone(), path: None, error };
        let schema: SchemaRef = rows.project(&written).map_err(|error| wrong(error.into()))?.into();
        options.format.encoder(schema.clone()).map_err(wrong)?;
        prepare(&table.name, &options.path)?;
        Ok(FileSink {
            table: table.name.clone(),
            options: options.clone(),
            partitioned_by,
            written,
            schema,
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            writes: 0,
            changelog,
            staging: None,
            summary: SinkSummary::default(),
        })
    }

    fn write_to(&mut self, folder: PathBuf, delta: &Delta) -> Result<(), Error> {
        self.writes += 1;
        if !self.open.contains_key(&folder) {
            self.make_room()?;
            let part = self.create(&folder)?;
            self.open.insert(folder.clone(), Open { part, last_write: 0 });
        }
        let Some(open) = self.open.get_mut(&folder) else { return Ok(()) };
        open.last_write = self.writes;
        let batch = delta.batch().project(&self.written).map_err(|error| Error::Format {
            table: self.table.clone(),
            path: None,
            error: error.into(),
        })?;
        open.part.write(&batch, delta.weights())?;
        if open.part.bytes() >= self.options.roll_bytes {
            self.complete(&folder)?;
        }
        Ok(())
    }

    fn create(&mut self, folder: &Path) -> Result<Part, Error> {
        if !self.partitioned_by.is_empty() {
            let made = fs::create_dir_all(folder);
            made.map_err(|error| Error::io(&self.table, Role::Sink, "create", folder, error))?;
        }
        let number = self.numbers.entry(folder.to_path_buf()).or_default();
        if let Some(staging) = &self.staging {
            let name = staging.name(number);
            return Part::stage(&self.table, folder, &name, &self.options.format, &self.schema);
        }
        Part::create(&self.table, folder, number, &self.options.format, &self.schema)
    }

    fn make_room(&mut self) -> Result<(), Error> {
        if self.open.len() < OPEN_MAX {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.last_write).map(|(folder, _)| folder.clone());
        oldest.map_or(Ok(()), |folder| self.complete(&folder))
    }

    fn complete(&mut self, folder: &Path) -> Result<(), Error> {
        let Some(Open { mut part, .. }) = self.open.remove(folder) else { return Ok(()) };
        part.seal()?;
        match &mut self.staging {
            Some(staging) => staging.add(part),
            None => {
                self.summary.bytes += part.publish()?;
                self.summary.pieces += 1;
            }
        }
        Ok(())
    }

    fn roll_by_age(&mut self) -> Result<(), Error> {
        let Some(limit) = self.options.roll_after else { return Ok(()) };
        let old = self.open.iter().filter(|(_, open)| open.part.age() >= limit);
        let old: Vec<_> = old.map(|(folder, _)| folder.clone()).collect();
        old.iter().try_for_each(|folder| self.complete(folder))
    }

    /// The rows of each folder, in their order.
    fn by_folder(&self, delta: &Delta) -> Result<BTreeMap<PathBuf, Vec<u32>>, Error> {
        let text = |index: &usize| arrow_cast::cast(delta.column(*index), &DataType::Utf8);
        let columns = self.partitioned_by.iter().map(text).collect::<Result<Vec<_>, _>>();
        let columns =
            columns.map_err(|error| Error::Format { table: self.table.clone(), path: None, error: error.into() })?;
        let texts: Vec<&StringArray> = columns.iter().map(|column| column.as_string()).collect();
        let same = |row, other| texts.iter().all(|text| value(text, row) == value(text, other));
        let mut folders: BTreeMap<PathBuf, Vec<u32>> = BTreeMap::new();
        let mut first = 0;
        // Rows that follow each other mostly go to one folder.
        while first < delta.rows() {
            let next = (first + 1..delta.rows()).find(|row| !same(first, *row)).unwrap_or(delta.rows());
            let rows = folders.entry(self.folder(delta, &texts, first)).or_default();
            rows.extend(first as u32..next as u32);
            first = next;
        }
        Ok(folders)
    }

    /// The folder of a row.
    fn folder(&self, delta: &Delta, texts: &[&StringArray], row: usize) -> PathBuf {
        let mut folder = self.options.path.clone();
        for (index, text) in self.partitioned_by.iter().zip(texts) {
            let value = value(text, row).map_or_else(|| self.options.default_partition.clone(), escape);
            folder.push(format!("{}={value}", escape(delta.schema().field(*index).name())));
        }
        folder
    }

    fn write_success_files(&self) -> Result<(), Error> {
        let Some(name) = &self.options.success_file else { return Ok(()) };
        let folders: BTreeSet<_> = self.numbers.keys().collect();
        for path in folders.into_iter().map(|folder| folder.join(name)) {
            let made = File::create(&path).and_then(|file| file.sync_all());
            made.map_err(|error| Error::io(&self.table, Role::Sink, "create", &path, error))?;
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, _step: u64, rows: &[Delta]) -> Result<(), Error> {
        let told = match &self.changelog {
            Some(changelog) => vec![changelog.told(&self.table, rows)?],
            None => {
                sink::refuse_retractions(&self.table, &part::what(&self.options.format), rows)?;
                rows.to_vec()
            }
        };
        for delta in told.iter().filter(|delta| !delta.is_empty()) {
            if self.partitioned_by.is_empty() {
                self.write_to(self.options.path.clone(), delta)?;
                continue;
            }
            for (folder, rows) in self.by_folder(delta)? {
                let taken =
                    if rows.len() == delta.rows() { Ok(delta.clone()) } else { delta.take(&UInt32Array::from(rows)) };
                let taken = taken.map_err(|error| Error::Format {
                    table: self.table.clone(),
                    path: None,
                    error: error.into(),
                })?;
                self.write_to(folder, &taken)?;
            }
        }
        self.summary.rows += sink::entries(rows);
        self.roll_by_age()
    }

    fn stage(&mut self, owner: &str, start: u64, kept: &Staged) -> Result<Delivery, Error> {
        self.staging = Some(Staging::begin(&self.table, &self.options.path, owner, start, kept)?);
        Ok(Delivery::ExactlyOnce)
    }

    fn prepare(&mut self) -> Result<Staged, Error> {
        let folders: Vec<_> = self.open.keys().cloned().collect();
        folders.iter().try_for_each(|folder| self.complete(folder))?;
        self.numbers.values_mut().for_each(|number| *number = 0);
        match &mut self.staging {
            Some(staging) => staging.prepare(&self.table, &self.options.path),
            None => Ok(Staged::default()),
        }
    }

    fn restage(&mut self, staged: Staged) {
        if let Some(staging) = &mut self.staging {
            staging.restage(staged);
        }
    }

    fn publish(&mut self, staged: &Staged) -> Result<(), Error> {
        let shown = super::staging::publish(&self.table, staged)?;
        self.summary.bytes += shown.bytes;
        self.summary.pieces += shown.files;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary, Error> {
        // All are made durable before the first gets its name, so that a full disk leaves none or all of the last ones.
        for open in self.open.values_mut() {
            open.part.seal()?;
        }
        for (_, Open { part, .. }) in std::mem::take(&mut self.open) {
            self.summary.bytes += part.publish()?;
            self.summary.pieces += 1;
        }
        self.write_success_files()?;
        Ok(self.summary)
    }

    fn abort(self: Box<Self>) {}
}

fn partition_columns(table: &Table, rows: &SchemaRef) -> Result<Vec<usize>, Error> {
    // Rows come with the table's columns in order; a query may call them otherwise.
    let find = |name: &String| {
        let index = table.columns.index_of(name).ok().filter(|index| *index < rows.fields().len());
        index.ok_or_else(|| Error::Schema {
            table: table.name.clone(),
            message: format!("there is no column '{name}' to partition by"),
            help: "name columns of the table in PARTITIONED BY".to_string(),
        })
    };
    let columns = table.partitioned_by.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    if !columns.is_empty() && columns.len() >= rows.fields().len() {
        return Err(Error::Schema {
            table: table.name.clone(),
            message: "all columns are in PARTITIONED BY, so that nothing is left to write".to_string(),
            help: "leave out at least one column".to_string(),
        });
    }
    Ok(columns)
}

/// Makes sure that `folder` is there and can be written to, before any row comes.
fn prepare(table: &str, folder: &Path) -> Result<(), Error> {
    let failed = |action, path: &Path, error| Error::io(table, Role::Sink, action, path, error);
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let error = io::Error::new(io::ErrorKind::NotADirectory, "it is a file, and a sink's 'path' is a folder");
            return Err(failed("write files to", folder, error));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(failed("create", folder.parent().unwrap_or(folder), error));
            }
            made => made.map_err(|error| failed("create", folder, error))?,
        },
        Err(error) => return Err(failed("write files to", folder, error)),
    }
    let probe = folder.join(".tidemill-probe.tmp");
    match File::options().write(true).create_new(true).open(&probe) {
        Ok(_) => fs::remove_file(&probe).map_err(|error| failed("write files to", folder, error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("write files to", folder, error)),
    }
}

/// The value that a folder is for; none has the default partition's.
fn value(text: &StringArray, row: usize) -> Option<&str> {
    (!text.is_null(row)).then(|| text.value(row)).filter(|value| !value.is_empty())
}

/// A name or value as part of a path: what a path or Hive could misread becomes `%XX`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        let special = character.is_ascii_control() || "\"#%'*/:=?\\{}[]^".contains(character);
        if special || (escaped.is_empty() && character == '.') {
            escaped.push_str(&format!("%{:02X}", character as u32));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_path_could_misread() {
        let check = |text: &str, expected: &str| assert_eq!(escape(text), expected);
        check("2024-01-01", "2024-01-01");
        check("a/b=c", "a%2Fb%3Dc");
        check("00:15", "00%3A15");
        check("..", "%2E.");
        check("Zürich", "Zürich");
    }
}
