//! Events by their number.

use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Auction, Event, Person};

use super::bid::{Bid, Bids};

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Auction,
    Bid,
}

/// How many of each kind follow each other, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(super) person: u64,
    pub(super) auction: u64,
    pub(super) bid: u64,
}

impl Shares {
    pub(super) fn total(&self) -> u64 {
        self.person + self.auction + self.bid
    }

    pub(super) fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Person => self.person,
            Kind::Auction => self.auction,
            Kind::Bid => self.bid,
        }
    }
}

/// An event as it was made, until the next one.
pub(super) enum Made<'a> {
    Person(&'a Person),
    Auction(&'a Auction),
    Bid(&'a Bid),
}

/// Makes events.
pub(super) struct Events {
    generator: EventGenerator,
    last: Option<Event>,
    bids: Bids,
    shares: Shares,
    group: u64,
}

impl Events {
    /// Events from `base_time` on, `rate` a second of event time, each `group` of them in another order. `with_extra`: whether
    /// the `extra` of bids is needed.
    pub(super) fn new(base_time: u64, rate: u64, group: u64, shares: Shares, with_extra: bool) -> Self {
        let config = NexmarkConfig {
            base_time,
            first_rate: rate as usize,
            next_rate: rate as usize,
            person_proportion: shares.person as usize,
            auction_proportion: shares.auction as usize,
            bid_proportion: shares.bid as usize,
            ..NexmarkConfig::default()
        };
        let bids = Bids::new(&config, with_extra);
        Events { generator: EventGenerator::new(config), last: None, bids, shares, group }
    }

    /// The number of the event that comes at `place`.
    pub(super) fn shuffled(&self, place: u64) -> u64 {
        if self.group <= 1 {
            return place;
        }
        let within = (u128::from(place) * 953 % u128::from(self.group)) as u64;
        place / self.group * self.group + within
    }

    /// The kind of event `number`.
    pub(super) fn kind(&self, number: u64) -> Kind {
        let place = number % self.shares.total();
        if place < self.shares.person {
            Kind::Person
        } else if place < self.shares.person + self.shares.auction {
            Kind::Auction
        } else {
            Kind::Bid
        }
    }

    /// Event `number`.
    pub(super) fn make(&mut self, number: u64) -> Made<'_> {
        if self.kind(number) == Kind::Bid {
            return Made::Bid(self.bids.make(number as usize));
        }
        if self.generator.offset() != number {
            self.generator = std::mem::take(&mut self.generator).with_offset(number);
        }
        self.last = self.generator.next();
        match &self.last {
            Some(Event::Person(person)) => Made::Person(person),
            Some(Event::Auction(auction)) => Made::Auction(auction),
            Some(Event::Bid(_)) | None => unreachable!("the generator never ends, and agrees on kinds"),
        }
    }
}
