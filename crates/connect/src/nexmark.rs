//! The events of the Nexmark benchmark: an auction site with people, auctions and bids, as the crate `nexmark`
//! makes them.
//!
//! An event is a function of its number and the options. A table is one of the three kinds (`'nexmark.table' = 'bid'`), or
//! all of them as in the public benchmark: `event_type` and the columns `person`, `auction`, `bid` of type ROW, two of
//! which are null. Blocks are ranges of event numbers; only the columns that are needed are kept.

mod bid;
mod columns;
mod events;

use arrow_schema::{DataType, SchemaRef};
use tidemill_base::options::{self, Options as Pairs};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::step::BlockRange;
use tidemill_stage::{Cancel, Halt, Sender};

use crate::catalogue::Table;
use crate::error::Error;
use crate::pace::Pace;
use crate::source::{Origin, Position, Replay, Source, SourceEvent};
use columns::Columns;
use events::{Events, Kind, Shares};

/// The time of the first event when nothing is said: 2024-01-01T00:00:00Z.
const BASE_TIME: i64 = 1_704_067_200_000;

/// Events in a second of event time when nothing is said.
const EVENT_RATE: u64 = 10_000;

/// The most events in a block, so that rare kinds do not make it endless.
const BLOCK_EVENTS_MAX: u64 = 400_000;

/// What the options of `'connector' = 'nexmark'` say.
#[derive(Debug, Clone)]
pub struct Options {
    table: Option<Kind>,
    first_event: u64,
    events: Option<u64>,
    rate: Option<u64>,
    base_time: i64,
    event_rate: u64,
    out_of_order: u64,
    shares: Shares,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        let kinds = [("person", Kind::Person), ("auction", Kind::Auction), ("bid", Kind::Bid)];
        let table = options.choice("nexmark.table", &kinds)?;
        let events = options.integer("events")?;
        let events_flink = options.integer("events.num")?.filter(|events| *events > 0);
        let event_rate = options.integer("event-rate")?;
        let first_rate = options.integer("first-event.rate")?;
        options.integer("next-event.rate")?;
        let base_time = options.parse("base-time", "a time like '2024-01-01 00:00:00'", |text| {
            crate::datagen::parse_time(text).filter(|millis| *millis >= 0)
        })?;
        let positive = |value: Option<u64>, default: u64| value.unwrap_or(default).max(1);
        Ok(Options {
            table,
            first_event: options.integer("first-event")?.unwrap_or_default(),
            events: events.or(events_flink),
            rate: options.integer("rate")?.filter(|rate| *rate > 0),
            base_time: base_time.unwrap_or(BASE_TIME),
            event_rate: positive(event_rate.or(first_rate), EVENT_RATE),
            out_of_order: positive(options.integer("out-of-order")?, 1),
            shares: Shares {
                person: positive(options.integer("person.proportion")?, 1),
                auction: positive(options.integer("auction.proportion")?, 3),
                bid: positive(options.integer("bid.proportion")?, 46),
            },
        })
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.events.is_some()
    }
}

/// The generator as a source.
pub struct Nexmark {
    table: String,
    options: Options,
    /// The kind of event that is a row; none when all are.
    kind: Option<Kind>,
    events: Events,
    columns: Columns,
    resumed: Option<Position>,
}

impl Nexmark {
    pub(crate) fn open(table: &Table, options: &Options, decoded: SchemaRef) -> Result<Self, Error> {
        let is_row = |name: &str| {
            let field = table.columns.field_with_name(name);
            field.is_ok_and(|field| matches!(field.data_type(), DataType::Struct(_)))
        };
        let all_kinds = ["person", "auction", "bid"].into_iter().any(is_row);
        if options.table.is_none() && !all_kinds {
            return Err(Error::Schema {
                table: table.name.clone(),
                message: "it is not said which events are its rows".to_string(),
                help: "set 'nexmark.table' = 'bid', 'auction' or 'person', or declare the columns person, auction and \
                       bid as ROW<..>"
                    .to_string(),
            });
        }
        let kind = options.table;
        let with_extra = Columns::with_bid_extra(&decoded);
        let columns = Columns::new(kind, decoded).map_err(|message| Error::Schema {
            table: table.name.clone(),
            message,
            help: columns::help(kind),
        })?;
        let Options { base_time, event_rate, out_of_order, shares, .. } = *options;
        let events = Events::new(base_time as u64, event_rate, out_of_order, shares, with_extra);
        Ok(Nexmark { table: table.name.clone(), options: options.clone(), kind, events, columns, resumed: None })
    }

    /// Events to make for about `rows` rows.
    fn events_for(&self, rows: u64) -> u64 {
        let shares = &self.options.shares;
        let Some(kind) = self.kind else { return rows };
        // Rounded down, as the events of a kind come in runs and a block must not have too many.
        let runs = (rows / shares.of(kind)).max(1);
        (runs * shares.total()).min(BLOCK_EVENTS_MAX.max(shares.total()))
    }

    fn block(&mut self, from: u64, to: u64, first_record: u64) -> Result<Block, Error> {
        for number in from..to {
            let number = self.events.shuffled(self.options.first_event + number);
            if self.kind.is_none_or(|kind| kind == self.events.kind(number)) {
                self.columns.push(&self.events.make(number));
            }
        }
        let made = self.columns.take();
        let batch =
            made.map_err(|error| Error::Format { table: self.table.clone(), path: None, error: error.into() })?;
        let records = batch.num_rows() as u32;
        let data = BlockData::Rows(Delta::inserts(batch));
        Ok(Block { partition: 0, from, to, first_record, records, data })
    }
}

impl Source for Nexmark {
    fn is_bounded(&self) -> bool {
        self.options.is_bounded()
    }

    fn resume(&mut self, positions: &[Position]) -> Result<(), Error> {
        self.resumed = positions.first().cloned();
        Ok(())
    }

    fn read(mut self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        let (from, mut records) = match &self.resumed {
            None => {
                events.send(SourceEvent::Opened { partition: 0, origin: Origin::named("nexmark") })?;
                (0, 0)
            }
            Some(position) if position.ended => return Ok(events.send(SourceEvent::Complete)?),
            Some(position) => (position.to, position.records),
        };
        let pace = Pace::start(self.options.rate, cancel);
        let length = match self.options.rate {
            // Paced by events, whichever become rows.
            Some(_) => pace.batch_rows(),
            None => self.events_for(pace.batch_rows()),
        };
        let end = self.options.events.unwrap_or(u64::MAX - self.options.first_event);
        let mut at = from;
        while at < end {
            let to = at.saturating_add(length).min(end);
            if !pace.wait(to - from) {
                return Ok(());
            }
            let block = self.block(at, to, records)?;
            records += u64::from(block.records);
            if block.records > 0 {
                events.send(SourceEvent::Block(block))?;
            }
            at = to;
        }
        events.send(SourceEvent::Ended { partition: 0 })?;
        Ok(events.send(SourceEvent::Complete)?)
    }

    fn replay(self: Box<Self>, positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        let records = positions.first().map_or(0, |position| position.records);
        Ok(Box::new(Again { nexmark: *self, records }))
    }
}

struct Again {
    nexmark: Nexmark,
    records: u64,
}

impl Replay for Again {
    fn block(&mut self, range: &BlockRange) -> Result<Block, Error> {
        let block = self.nexmark.block(range.from, range.to, self.records)?;
        self.records += u64::from(block.records);
        Ok(block)
    }
}

#[cfg(test)]
mod tests;
