//! The connectors by name: a table's `WITH` options become a [`Connector`].
//!
//! Every option is understood here, before anything is opened: an unknown connector or option is an error that suggests
//! the right one, whatever the table will be used as.

use std::fmt;

use arrow_schema::SchemaRef;
use tidemill_base::options::Options;
use tidemill_base::suggest;
use tidemill_circuit::key::KeyEncoder;
use tidemill_format::Format;
use tidemill_format::encode::UPSERT_OP;
use tidemill_stage::Cancel;

use crate::changelog::{Changelog, Telling};
use crate::error::{Error, Role};
use crate::sink::{Delivery, Rows, Sink};
use crate::source::Source;
use crate::{blackhole, datagen, filesystem, http, nexmark, print, ring, stdin};

/// The connectors there are.
pub const NAMES: [&str; 8] = ["filesystem", "stdin", "http", "ring", "datagen", "nexmark", "print", "blackhole"];

/// The word for tables that nothing connects to: queries look rows up in them, and nobody asks for them here.
const VERSIONED: &str = "versioned";

/// Connectors that will come.
const PLANNED: [&str; 8] =
    ["kafka", "upsert-kafka", "jdbc", "pulsar", "kinesis", "elasticsearch-7", "mongodb", "mysql-cdc"];

/// A table as it was declared.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its physical columns: neither computed nor metadata.
    pub columns: SchemaRef,
    /// The columns of `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
    /// The options of its `WITH` clause.
    pub options: Vec<(String, String)>,
}

/// What of an updating query a sink can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: its rows only come.
    Inserts,
    /// What became of each key of the table.
    Upserts,
    /// Each row that goes and each that comes.
    Changes,
}

/// A table's connector, its options understood.
#[derive(Clone)]
pub struct Connector {
    name: &'static str,
    table: Table,
    /// The columns of `PRIMARY KEY`.
    primary_key: Vec<String>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Filesystem(filesystem::Options),
    Stdin(stdin::Options),
    Inbox(http::inbox::Options),
    Push(http::push::Options),
    Ring(ring::Options),
    Datagen(datagen::Options),
    Nexmark(nexmark::Options),
    Print(print::Options),
    Blackhole(blackhole::Options),
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).field("table", &self.table.name).finish_non_exhaustive()
    }
}

impl Connector {
    /// Understands a table's options.
    ///
    /// # Errors
    /// When the connector or an option is unknown, missing or wrong.
    pub fn new(table: Table) -> Result<Connector, Error> {
        let wrong = |error| Error::Options { table: table.name.clone(), error };
        let mut options = Options::new(format!("table '{}'", table.name), table.options.iter().cloned());
        let written = options.require("connector").map_err(wrong)?;
        let Some(name) = NAMES.into_iter().find(|name| *name == written) else {
            return Err(unknown(&table.name, written));
        };
        options.rename(format!("connector '{name}'"));
        let kind = match name {
            "filesystem" => filesystem::Options::take(&mut options).map(Kind::Filesystem),
            "stdin" => stdin::Options::take(&mut options).map(Kind::Stdin),
            "http" if table.options.iter().any(|(key, _)| key == "url") => {
                http::push::Options::take(&mut options).map(Kind::Push)
            }
            "http" => http::inbox::Options::take(&mut options).map(Kind::Inbox),
            "ring" => ring::Options::take(&mut options).map(Kind::Ring),
            "datagen" => datagen::Options::take(&mut options, &table.columns).map(Kind::Datagen),
            "nexmark" => nexmark::Options::take(&mut options).map(Kind::Nexmark),
            "print" => print::Options::take(&mut options).map(Kind::Print),
            _ => blackhole::Options::take(&mut options).map(Kind::Blackhole),
        };
        let kind = kind.map_err(wrong)?;
        options.finish().map_err(wrong)?;
        Ok(Connector { name, table, primary_key: Vec::new(), kind })
    }

    /// The same for a table whose rows these columns name.
    pub fn keyed_by(self, primary_key: Vec<String>) -> Connector {
        Connector { primary_key, ..self }
    }

    /// Its name, such as `filesystem`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The table it was made for.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether it can be read from.
    pub fn is_source(&self) -> bool {
        !matches!(self.kind, Kind::Push(_) | Kind::Print(_) | Kind::Blackhole(_))
    }

    /// Whether it can be written to.
    pub fn is_sink(&self) -> bool {
        matches!(self.kind, Kind::Filesystem(_) | Kind::Push(_) | Kind::Print(_) | Kind::Blackhole(_))
    }

    /// Whether reading it comes to an end by itself.
    pub fn is_bounded(&self) -> bool {
        match &self.kind {
            Kind::Filesystem(options) => options.is_bounded(),
            Kind::Stdin(_) => true,
            Kind::Datagen(options) => options.is_bounded(),
            Kind::Nexmark(options) => options.is_bounded(),
            Kind::Inbox(_) | Kind::Ring(_) | Kind::Push(_) | Kind::Print(_) | Kind::Blackhole(_) => false,
        }
    }

    /// Whether no row read from it is ever taken back.
    pub fn is_append_only(&self) -> bool {
        match &self.kind {
            Kind::Filesystem(options) => !options.format().takes_retractions(),
            Kind::Stdin(options) => !options.format().takes_retractions(),
            Kind::Inbox(options) => !options.format().takes_retractions(),
            Kind::Ring(options) => !options.format().takes_retractions(),
            _ => true,
        }
    }

    /// What of an updating query it can be told as a sink.
    pub fn takes(&self) -> Takes {
        match &self.kind {
            Kind::Print(_) | Kind::Blackhole(_) => Takes::Changes,
            Kind::Filesystem(_) | Kind::Push(_) => match self.written() {
                Some(format) if format.takes_retractions() => Takes::Changes,
                Some(_) if self.upserting().is_some() => Takes::Upserts,
                _ => Takes::Inserts,
            },
            Kind::Stdin(_) | Kind::Inbox(_) | Kind::Ring(_) | Kind::Datagen(_) | Kind::Nexmark(_) => Takes::Inserts,
        }
    }

    /// The format that it writes.
    fn written(&self) -> Option<&Format> {
        match &self.kind {
            Kind::Filesystem(options) => Some(options.format()),
            Kind::Push(options) => Some(options.format()),
            _ => None,
        }
    }

    /// The format of upserts by the table's key, when there are both.
    fn upserting(&self) -> Option<Format> {
        let key = &self.primary_key;
        self.written().filter(|_| !key.is_empty())?.upserting(key.clone())
    }

    /// Checks that it can be told of rows that are taken back.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check_updates(&self) -> Result<(), Error> {
        let table = &self.table;
        match self.takes() {
            Takes::Changes => return Ok(()),
            Takes::Upserts => {}
            Takes::Inserts => {
                let format = self.written().map_or("none", Format::name);
                let what = format!("'{}' with 'format' = '{format}'", self.name);
                return Err(Error::Retraction { table: table.name.clone(), what });
            }
        }
        let wrong = |message, help| Error::Schema { table: table.name.clone(), message, help };
        if table.columns.index_of(UPSERT_OP).is_ok() {
            let message = format!("an upsert says in '{UPSERT_OP}' what it does, and so is called a column");
            return Err(wrong(message, "give the column another name".to_string()));
        }
        if let Some(column) = table.partitioned_by.iter().find(|column| !self.primary_key.contains(column)) {
            let message = format!("a row whose '{column}' changes would stay in the folder where it was");
            return Err(wrong(message, format!("add '{column}' to the PRIMARY KEY, or do not partition by it")));
        }
        let type_of = |name: &String| table.columns.field_with_name(name).ok().map(|field| field.data_type().clone());
        match self.primary_key.iter().map(type_of).collect::<Option<Vec<_>>>().and_then(KeyEncoder::new) {
            Some(_) => Ok(()),
            None => {
                let message = "rows cannot be told apart by the PRIMARY KEY".to_string();
                Err(wrong(message, "use columns of numbers, texts, times or bytes".to_string()))
            }
        }
    }

    /// How often a row arrives there when the pipeline keeps state.
    pub fn delivery(&self) -> Delivery {
        match &self.kind {
            Kind::Filesystem(_) => Delivery::ExactlyOnce,
            _ => Delivery::AtLeastOnce,
        }
    }

    /// Whether it can go on where an earlier run stopped; else what it is.
    pub fn check_resumable(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Stdin(_) => Err("standard input".to_string()),
            Kind::Datagen(options) => options.check_repeatable(),
            _ => Ok(()),
        }
    }

    /// Opens it to be read; `decoded` are those of the table's columns that its blocks or decoders have to yield.
    ///
    /// # Errors
    /// When it is no source, or cannot be one with these columns.
    pub fn source(&self, decoded: SchemaRef) -> Result<Box<dyn Source>, Error> {
        let table = self.table.name.as_str();
        Ok(match &self.kind {
            Kind::Filesystem(options) => Box::new(filesystem::Files::open(&self.table, options, decoded)?),
            Kind::Stdin(options) => Box::new(stdin::Stdin::open(&self.table, options, decoded)?),
            Kind::Inbox(options) => Box::new(http::inbox::Inbox::open(&self.table, options, decoded)?),
            Kind::Ring(options) => Box::new(ring::RingSource::open(&self.table, options, decoded)?),
            Kind::Datagen(options) => Box::new(datagen::Datagen::open(table, options, decoded)?),
            Kind::Nexmark(options) => Box::new(nexmark::Nexmark::open(&self.table, options, decoded)?),
            Kind::Push(_) => return Err(self.wrong_role("'http' with a 'url'", Role::Source)),
            Kind::Print(_) | Kind::Blackhole(_) => {
                return Err(self.wrong_role(&format!("'{}'", self.name), Role::Source));
            }
        })
    }

    /// Opens it to be written. `cancel` ends waits for the other side.
    ///
    /// # Errors
    /// When it is no sink, cannot take these rows, or cannot be written to.
    pub fn sink(&self, rows: Rows, cancel: &Cancel) -> Result<Box<dyn Sink>, Error> {
        let name = self.table.name.as_str();
        let mut kind = self.kind.clone();
        let mut changelog = None;
        if self.is_sink() && rows.updating {
            self.check_updates()?;
            changelog = Some(match self.takes() {
                Takes::Upserts => {
                    kind = self.told_in_upserts();
                    Changelog::new(&rows, Telling::Upserts)
                }
                _ => Changelog::new(&rows, Telling::Changes),
            });
        }
        Ok(match &kind {
            Kind::Filesystem(options) => {
                Box::new(filesystem::FileSink::open(&self.table, options, rows.schema, changelog)?)
            }
            Kind::Push(options) => Box::new(http::push::Push::open(name, options, rows.schema, changelog, cancel)?),
            Kind::Print(options) => Box::new(print::Print::open(name, options, rows)?),
            Kind::Blackhole(options) => Box::new(blackhole::Blackhole::open(options)),
            Kind::Inbox(_) => return Err(self.wrong_role("'http' without a 'url'", Role::Sink)),
            Kind::Stdin(_) | Kind::Ring(_) | Kind::Datagen(_) | Kind::Nexmark(_) => {
                return Err(self.wrong_role(&format!("'{}'", self.name), Role::Sink));
            }
        })
    }

    /// The same connector, writing upserts.
    fn told_in_upserts(&self) -> Kind {
        match (&self.kind, self.upserting()) {
            (Kind::Filesystem(options), Some(format)) => Kind::Filesystem(options.clone().writing(format)),
            (Kind::Push(options), Some(format)) => Kind::Push(options.clone().writing(format)),
            (kind, _) => kind.clone(),
        }
    }

    fn wrong_role(&self, what: &str, role: Role) -> Error {
        Error::WrongRole { table: self.table.name.clone(), what: what.to_string(), role }
    }
}

fn unknown(table: &str, connector: String) -> Error {
    let table = table.to_string();
    if PLANNED.contains(&connector.as_str()) {
        return Error::NotBuiltYet { table, connector };
    }
    let names = NAMES.into_iter().chain([VERSIONED]);
    let suggestion = suggest::nearest(&connector, names).map(str::to_string);
    Error::UnknownConnector { table, connector, suggestion }
}
