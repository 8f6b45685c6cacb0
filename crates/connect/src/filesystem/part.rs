//! [`Part`]: one file of a sink, under a hidden temporary name until it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use tidemill_base::time::Stopwatch;
use tidemill_format::{Encoder, Format};

use crate::error::{Error, Role};
use crate::sink::StagedFile;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// The most numbers that are tried for a new file's name.
const NUMBERS_MAX: u32 = 10_000_000;

/// A file that is being written. Dropped before it was published, it leaves nothing behind.
pub(super) struct Part {
    table: String,
    format: Format,
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    encoder: Box<dyn Encoder>,
    buffer: Vec<u8>,
    bytes: u64,
    opened: Stopwatch,
    published: bool,
}

impl Part {
    /// Begins a file in `folder`, named by the first number from `number` that is free; `number` becomes the next one.
    pub(super) fn create(
        table: &str,
        folder: &Path,
        number: &mut u32,
        format: &Format,
        schema: &SchemaRef,
    ) -> Result<Part, Error> {
        while *number < NUMBERS_MAX {
            let name = format!("part-{:05}.{}", *number, extension(format));
            *number += 1;
            let (target, temporary) = (folder.join(&name), folder.join(format!(".{name}.tmp")));
            if target.exists() {
                continue;
            }
            match File::options().write(true).create_new(true).open(&temporary) {
                // The temporary name reserves the target's, unless it was published in between.
                Ok(_) if target.exists() => remove(&temporary),
                Ok(file) => return Part::new(table, file, temporary, target, format, schema),
                // Another run is writing it, or has died while it did.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(table, Role::Sink, "create", &temporary, error)),
            }
        }
        let error = io::Error::other("the folder holds too many files");
        Err(Error::io(table, Role::Sink, "create files in", folder, error))
    }

    /// Begins a file that is staged: `name` is nobody else's.
    pub(super) fn stage(
        table: &str,
        folder: &Path,
        name: &str,
        format: &Format,
        schema: &SchemaRef,
    ) -> Result<Part, Error> {
        let name = format!("{name}.{}", extension(format));
        let (target, temporary) = (folder.join(&name), folder.join(format!(".{name}.tmp")));
        let file =
            File::create(&temporary).map_err(|error| Error::io(table, Role::Sink, "create", &temporary, error))?;
        Part::new(table, file, temporary, target, format, schema)
    }

    fn new(
        table: &str,
        file: File,
        temporary: PathBuf,
        target: PathBuf,
        format: &Format,
        schema: &SchemaRef,
    ) -> Result<Part, Error> {
        let wrong = |error| {
            remove(&temporary);
            Error::Format { table: table.to_string(), path: None, error }
        };
        let encoder = format.encoder(schema.clone()).map_err(wrong)?;
        Ok(Part {
            table: table.to_string(),
            format: format.clone(),
            file,
            temporary,
            target,
            encoder,
            buffer: Vec::new(),
            bytes: 0,
            opened: Stopwatch::start(),
            published: false,
        })
    }

    /// The bytes written, those that wait included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.buffer.len() as u64
    }

    /// How long ago it was begun.
    pub(super) fn age(&self) -> std::time::Duration {
        self.opened.elapsed()
    }

    pub(super) fn write(&mut self, batch: &RecordBatch, weights: Option<&[i64]>) -> Result<(), Error> {
        self.encoder.encode(batch, weights, &mut self.buffer).map_err(|error| self.failed(error))?;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what is left and makes it durable.
    pub(super) fn seal(&mut self) -> Result<(), Error> {
        self.encoder.finish(&mut self.buffer).map_err(|error| self.failed(error))?;
        self.flush()?;
        self.file.sync_all().map_err(|error| Error::io(&self.table, Role::Sink, "write", &self.target, error))
    }

    /// Leaves a sealed file under its temporary name.
    pub(super) fn keep_staged(mut self) -> StagedFile {
        self.published = true;
        StagedFile { temporary: self.temporary.clone(), target: self.target.clone(), bytes: self.bytes }
    }

    /// Gives a sealed file its name.
    pub(super) fn publish(mut self) -> Result<u64, Error> {
        let failed = |error| Error::io(&self.table, Role::Sink, "create", &self.target, error);
        fs::rename(&self.temporary, &self.target).map_err(failed)?;
        self.published = true;
        let folder = self.target.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(self.bytes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.file.write_all(&self.buffer);
        written.map_err(|error| Error::io(&self.table, Role::Sink, "write", &self.target, error))?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn failed(&self, error: tidemill_format::Error) -> Error {
        let table = self.table.clone();
        match error {
            tidemill_format::Error::Retraction { .. } => Error::Retraction { table, what: what(&self.format) },
            error => Error::Format { table, path: Some(self.target.clone()), error },
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.published {
            remove(&self.temporary);
        }
    }
}

/// What a sink of `format` is called in errors.
pub(super) fn what(format: &Format) -> String {
    format!("'filesystem' with 'format' = '{}'", format.name())
}

pub(super) fn remove(path: &Path) {
    // Nothing more can be done about a file that will not go; its name says that it is no result.
    let _ = fs::remove_file(path);
}

fn extension(format: &Format) -> &'static str {
    match format {
        Format::Json(_) | Format::DebeziumJson(_) | Format::UpsertJson(..) => "json",
        Format::Csv(_) => "csv",
        Format::Parquet => "parquet",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};
    use tidemill_base::Explain;

    use super::*;

    #[test]
    fn a_full_disk_is_told_with_the_path() {
        let column = Arc::new(Int64Array::from_iter_values(0..100_000));
        let batch = RecordBatch::try_from_iter([("a", column as _)]).expect("one column");
        let format = Format::Json(Default::default());
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        let (temporary, target) = (PathBuf::from("/nowhere/.part.tmp"), PathBuf::from("/data/out/part-00000.json"));
        let mut part = Part::new("t", full, temporary, target, &format, &batch.schema()).expect("a plain encoder");
        let error = part.write(&batch, None).expect_err("the device is full");
        assert_eq!(error.to_string(), "table 't': no space left to write /data/out/part-00000.json");
        assert_eq!(error.code(), "TM3009");
        assert_eq!(error.help().as_deref(), Some("make room or choose another 'path': df -h '/data/out'"));
    }
}
