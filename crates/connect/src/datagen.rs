//! Made-up rows, with Flink's options: each field is random or a sequence.
//!
//! A row is a function of (seed, row number), but for times, which lie before the clock's `now`, or before
//! `'base-time'` plus the row's share of a second when that is set: then all can be made again.

mod field;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use tidemill_base::options::{self, Options as Pairs};
use tidemill_base::time::{Clock, SystemClock};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::step::BlockRange;
use tidemill_stage::{Cancel, Halt, Sender};

use crate::error::Error;
use crate::pace::Pace;
use crate::source::{Origin, Position, Replay, Source, SourceEvent};
pub(crate) use field::parse_time;
use field::{Batch, Field};

/// Rows a second when nothing is said, as in Flink.
const ROWS_PER_SECOND: u64 = 10_000;

/// What the options of `'connector' = 'datagen'` say.
#[derive(Debug, Clone)]
pub struct Options {
    rows_per_second: u64,
    rows_max: Option<u64>,
    seed: u64,
    base_time: Option<i64>,
    fields: Vec<Field>,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs, columns: &SchemaRef) -> Result<Self, options::Error> {
        let rows_per_second = options.integer("rows-per-second")?.unwrap_or(ROWS_PER_SECOND);
        let rows_max = options.integer("number-of-rows")?;
        let seed = options.integer("seed")?.unwrap_or_default();
        let base_time = options.parse("base-time", "a time like '2024-01-01 00:00:00'", field::parse_time)?;
        let mut fields = Vec::with_capacity(columns.fields().len());
        for column in columns.fields() {
            fields.push(Field::take(options, column.name(), column.data_type())?);
        }
        let rows_max = fields.iter().filter_map(Field::rows_max).chain(rows_max).min();
        Ok(Options { rows_per_second, rows_max, seed, base_time, fields })
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.rows_max.is_some()
    }

    /// Whether the rows can be made again; else what it is that cannot.
    pub(crate) fn check_repeatable(&self) -> Result<(), String> {
        match self.base_time.is_none() && self.fields.iter().any(Field::is_time) {
            true => Err("'datagen' with columns of time but no 'base-time'".to_string()),
            false => Ok(()),
        }
    }
}

/// A generator as a source.
pub struct Datagen {
    table: String,
    options: Options,
    decoded: SchemaRef,
    clock: SystemClock,
    resumed: Option<Position>,
}

impl Datagen {
    pub(crate) fn open(table: &str, options: &Options, decoded: SchemaRef) -> Result<Self, Error> {
        let missing = |name: &str| Error::Schema {
            table: table.to_string(),
            message: format!("'datagen' has no values for column '{name}'"),
            help: "declare it as a physical column of another type than MAP".to_string(),
        };
        let mut options = options.clone();
        let mut fields = Vec::with_capacity(decoded.fields().len());
        for column in decoded.fields() {
            let field = options.fields.iter().find(|field| field.is(column.name()));
            fields.push(field.filter(|field| field.can_make()).cloned().ok_or_else(|| missing(column.name()))?);
        }
        options.fields = fields;
        Ok(Datagen { table: table.to_string(), options, decoded, clock: SystemClock::new(), resumed: None })
    }

    fn block(&self, from: u64, to: u64) -> Result<Block, Error> {
        let now = self.clock.now().millis();
        let time = |row: u64| match self.options.base_time {
            Some(base) => base + (i128::from(row) * 1_000 / i128::from(self.options.rows_per_second.max(1))) as i64,
            None => now,
        };
        let batch = Batch { from, to, seed: self.options.seed, times: (from..to).map(time).collect() };
        let columns = self.options.fields.iter().map(|field| field.make(&batch)).collect::<Result<Vec<_>, _>>();
        let rows = RecordBatchOptions::new().with_row_count(Some((to - from) as usize));
        let made = columns.and_then(|columns| RecordBatch::try_new_with_options(self.decoded.clone(), columns, &rows));
        let made =
            made.map_err(|error| Error::Format { table: self.table.clone(), path: None, error: error.into() })?;
        let data = BlockData::Rows(Delta::inserts(made));
        Ok(Block { partition: 0, from, to, first_record: from, records: (to - from) as u32, data })
    }
}

impl Source for Datagen {
    fn is_bounded(&self) -> bool {
        self.options.is_bounded()
    }

    fn resume(&mut self, positions: &[Position]) -> Result<(), Error> {
        self.options.check_repeatable().map_err(|what| Error::NotResumable { table: self.table.clone(), what })?;
        self.resumed = positions.first().cloned();
        Ok(())
    }

    fn read(self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        let from = match &self.resumed {
            None => {
                events.send(SourceEvent::Opened { partition: 0, origin: Origin::named("datagen") })?;
                0
            }
            Some(position) if position.ended => return Ok(events.send(SourceEvent::Complete)?),
            Some(position) => position.to,
        };
        let pace = Pace::start(Some(self.options.rows_per_second).filter(|rate| *rate > 0), cancel);
        let end = self.options.rows_max.unwrap_or(u64::MAX);
        let mut at = from;
        while at < end {
            let to = (at + pace.batch_rows()).min(end);
            if !pace.wait(to - from) {
                return Ok(());
            }
            events.send(SourceEvent::Block(self.block(at, to)?))?;
            at = to;
        }
        events.send(SourceEvent::Ended { partition: 0 })?;
        Ok(events.send(SourceEvent::Complete)?)
    }

    fn replay(self: Box<Self>, _positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        match self.options.check_repeatable() {
            Ok(()) => Ok(self),
            Err(what) => Err(Error::NotReplayable { table: self.table, what }),
        }
    }
}

impl Replay for Datagen {
    fn block(&mut self, range: &BlockRange) -> Result<Block, Error> {
        Datagen::block(self, range.from, range.to)
    }
}

#[cfg(test)]
mod tests;
