//! [`RingSource`]: reads a ring between processes, keeps what it reads and gives the slots back.
//!
//! Records are taken as they come and gathered into blocks, one as soon as nothing more is waiting. A block is kept in the
//! pipeline's journal before it is handed on, and its slots are released when the journal has it as durably as was asked:
//! until then the ring is where the records are. What is kept says up to which position of which ring it goes, so that
//! after a kill in between no record is taken twice. Without a journal the slots are released when the block is handed on.

mod block;
mod reader;

use std::path::PathBuf;

use tidemill_base::options::{self, Options as Pairs};
use tidemill_format::Format;
use tidemill_journal::ring::{Error as RingError, Shape};

pub use reader::RingSource;

/// What the options of `'connector' = 'ring'` say.
#[derive(Debug, Clone)]
pub struct Options {
    path: PathBuf,
    format: Format,
    measures: Measures,
}

/// What was asked of the ring's shape, each as far as it was.
#[derive(Debug, Clone, Copy)]
struct Measures {
    producers: Option<u32>,
    slots: Option<u32>,
    slot_bytes: Option<u32>,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        let path = PathBuf::from(options.require("path")?);
        // What it says is for whoever keeps what is read.
        options.choice("durability", &[("process", ()), ("flushed", ())])?;
        let measures = Measures {
            producers: small(options.integer("ring.producers")?, "ring.producers")?,
            slots: small(options.integer("ring.slots")?, "ring.slots")?,
            slot_bytes: small(options.size("ring.slot-bytes")?, "ring.slot-bytes")?,
        };
        measures.shape().checked().map_err(misshapen)?;
        let format = Format::from_options(options)?;
        let invalid = |key: &str, value: &str, expected: &str| {
            Err(options::Error::Invalid { key: key.into(), value: value.into(), expected: expected.into() })
        };
        if matches!(format, Format::Parquet) {
            return invalid("format", "parquet", "one of 'json', 'csv', 'debezium-json'");
        }
        if format.has_header() {
            return invalid("csv.header", "true", "'false', for a ring has no first record");
        }
        Ok(Options { path, format, measures })
    }

    pub(crate) fn format(&self) -> &Format {
        &self.format
    }
}

fn small(number: Option<u64>, key: &str) -> Result<Option<u32>, options::Error> {
    let wrong = |number: u64| options::Error::Invalid {
        key: key.to_string(),
        value: number.to_string(),
        expected: "below 4294967296".to_string(),
    };
    number.map(|number| u32::try_from(number).map_err(|_| wrong(number))).transpose()
}

/// The option that no ring can have so.
fn misshapen(error: RingError) -> options::Error {
    let (key, value, expected) = match error {
        RingError::BadShape { field: "producers", value, rule } => ("ring.producers", value.to_string(), rule),
        RingError::BadShape { field: "slot_bytes", value, rule } => ("ring.slot-bytes", value.to_string(), rule),
        RingError::BadShape { field: "slots", value, rule } => ("ring.slots", value.to_string(), rule),
        // What is too much is the three together.
        RingError::BadShape { value, rule, .. } => ("ring.slots", format!("{value} bytes in all"), rule),
        other => ("ring.slots", other.to_string(), "what a ring can have"),
    };
    options::Error::Invalid { key: key.to_string(), value, expected: expected.to_string() }
}

impl Measures {
    /// The shape of a ring that is made.
    fn shape(&self) -> Shape {
        let usual = Shape::default();
        Shape {
            producers: self.producers.unwrap_or(usual.producers),
            slots: self.slots.unwrap_or(usual.slots),
            slot_bytes: self.slot_bytes.unwrap_or(usual.slot_bytes),
        }
    }

    /// The option that asks for something else than a ring has, with what it asks for and what the ring has.
    fn differing(&self, shape: Shape) -> Option<(&'static str, u32, u32)> {
        let asked = [
            ("ring.producers", self.producers, shape.producers),
            ("ring.slots", self.slots, shape.slots),
            ("ring.slot-bytes", self.slot_bytes, shape.slot_bytes),
        ];
        asked
            .into_iter()
            .find_map(|(key, asked, has)| asked.filter(|asked| *asked != has).map(|asked| (key, asked, has)))
    }
}
