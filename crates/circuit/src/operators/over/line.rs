//! [`Line`]: what is kept of one key in the order of its frames, with partial results over runs of it.
//!
//! An element is a row, or all rows of one time (or one unit of time), and its slot has their state. Elements come at the
//! end nearly always, in the middle when a row comes out of order, and go from the front. Over each full run of [`FAN`]
//! elements stands a partial state, over [`FAN`] of those another, and so on: any range is the sum of O(log n) states. Runs
//! are counted from the first element there ever was, so that neither end moves them; an element that comes in the middle
//! does, and the partial states behind it are made again.
//!
//! States that can be taken back need no partial states: a running total over the newest frame is enough. Its start is
//! [`Line::start`].

use std::collections::VecDeque;

use super::bank::{Bank, NONE};
use crate::operators::aggregate::accumulator::How;
use crate::plan::OverSpec;

/// The states under a partial state.
const FAN: u64 = OverSpec::RUN;

/// A row, or the rows of one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operators) struct Element {
    /// Its time, or its number among the rows of its key.
    pub at: i64,
    /// Its state.
    pub slot: u32,
}

/// Where an element is, or belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operators) enum Place {
    /// It is there.
    There(usize),
    /// It belongs there.
    Before(usize),
}

/// The elements of a key.
#[derive(Debug, Default)]
pub(in crate::operators) struct Line {
    elements: Elements,
    /// How many elements have gone from the front.
    gone: u64,
    /// The first element of the newest frame.
    start: usize,
    levels: Vec<Level>,
}

/// Elements in order. Most keys have few at a time, which lie here without memory of their own.
#[derive(Debug)]
enum Elements {
    Few([Element; FEW], usize),
    Many(VecDeque<Element>),
}

/// As many elements lie in the line itself.
const FEW: usize = 2;

impl Default for Elements {
    fn default() -> Self {
        Elements::Few([Element { at: 0, slot: NONE }; FEW], 0)
    }
}

impl Elements {
    fn len(&self) -> usize {
        match self {
            Elements::Few(_, count) => *count,
            Elements::Many(elements) => elements.len(),
        }
    }

    fn get(&self, index: usize) -> Option<Element> {
        match self {
            Elements::Few(elements, count) => elements[..*count].get(index).copied(),
            Elements::Many(elements) => elements.get(index).copied(),
        }
    }

    /// The first element that is not before `at`.
    fn index(&self, at: i64) -> usize {
        match self {
            Elements::Few(elements, count) => elements[..*count].partition_point(|element| element.at < at),
            Elements::Many(elements) => elements.partition_point(|element| element.at < at),
        }
    }

    fn insert(&mut self, index: usize, element: Element) {
        match self {
            Elements::Few(elements, count) if *count < FEW => {
                elements[index..=*count].rotate_right(1);
                elements[index] = element;
                *count += 1;
            }
            Elements::Few(elements, _) => {
                let mut many = VecDeque::with_capacity(2 * FEW);
                many.extend(elements.iter().copied());
                many.insert(index, element);
                *self = Elements::Many(many);
            }
            Elements::Many(elements) if index == elements.len() => elements.push_back(element),
            Elements::Many(elements) => elements.insert(index, element),
        }
    }

    fn pop(&mut self) -> Option<Element> {
        match self {
            Elements::Few(elements, count) => {
                let first = elements[..*count].first().copied()?;
                elements.rotate_left(1);
                *count -= 1;
                Some(first)
            }
            Elements::Many(elements) => elements.pop_front(),
        }
    }
}

/// Partial states over runs of the level below.
#[derive(Debug, Default)]
struct Level {
    /// The number of the first run.
    first: u64,
    slots: VecDeque<u32>,
}

impl Level {
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }
}

impl Line {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// An element.
    pub fn get(&self, index: usize) -> Element {
        self.elements.get(index).unwrap_or(Element { at: i64::MAX, slot: NONE })
    }

    /// The first element.
    pub fn first(&self) -> Option<Element> {
        self.elements.get(0)
    }

    /// The last element.
    pub fn last(&self) -> Option<Element> {
        self.elements.get(self.elements.len().wrapping_sub(1))
    }

    /// The first element of the newest frame.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Where an element of `at` is or belongs.
    pub fn place(&self, at: i64) -> Place {
        match self.last() {
            None => Place::Before(0),
            Some(last) if last.at < at => Place::Before(self.elements.len()),
            Some(last) if last.at == at => Place::There(self.elements.len() - 1),
            Some(_) => {
                let index = self.index(at);
                if self.get(index).at == at { Place::There(index) } else { Place::Before(index) }
            }
        }
    }

    /// The first element that is not before `at`.
    pub fn index(&self, at: i64) -> usize {
        self.elements.index(at)
    }

    /// Puts an element where it belongs; it counts in the newest frame unless it lies before that.
    pub fn insert(&mut self, index: usize, element: Element, in_frame: bool, bank: &mut Bank) {
        if index < self.elements.len() {
            self.unseal(self.gone + index as u64, bank);
        }
        self.elements.insert(index, element);
        if !in_frame {
            self.start += 1;
        }
        self.seal(bank);
    }

    /// Adds a state to the partial states over an element.
    pub fn add_over(&self, index: usize, slot: u32, bank: &mut Bank) {
        let mut run = self.gone + index as u64;
        for level in &self.levels {
            run /= FAN;
            if let Some(partial) = run.checked_sub(level.first).and_then(|place| level.slots.get(place as usize)) {
                bank.plain(How::Add, slot, *partial);
            }
        }
    }

    /// Starts the newest frame one element later.
    pub fn advance(&mut self) {
        self.start += 1;
    }

    /// Takes the first element away.
    pub fn pop(&mut self, bank: &mut Bank) -> Option<Element> {
        let element = self.elements.pop()?;
        let (mut place, mut borders) = (self.gone, true);
        self.gone += 1;
        self.start = self.start.saturating_sub(1);
        for level in &mut self.levels {
            // A run that has lost an element is never read again.
            borders &= place % FAN == 0;
            place /= FAN;
            if borders
                && level.first == place
                && let Some(slot) = level.slots.pop_front()
            {
                level.first += 1;
                bank.release(slot);
            }
        }
        Some(element)
    }

    /// Calls `each` with the slots of states that make up the elements `from..to`.
    pub fn cover(&self, from: usize, to: usize, mut each: impl FnMut(u32)) {
        let (mut low, mut high) = (self.gone + from as u64, self.gone + to as u64);
        for height in 0..=self.levels.len() {
            let (inner_low, inner_high) = (low.div_ceil(FAN), high / FAN);
            let above = self
                .levels
                .get(height)
                .filter(|level| inner_low < inner_high && level.first <= inner_low && inner_high <= level.end());
            if above.is_none() {
                return (low..high).for_each(|place| each(self.slot(height, place)));
            }
            (low..inner_low * FAN).for_each(|place| each(self.slot(height, place)));
            (inner_high * FAN..high).for_each(|place| each(self.slot(height, place)));
            (low, high) = (inner_low, inner_high);
        }
    }

    /// The slot of a run of the level `height - 1`, or of an element.
    fn slot(&self, height: usize, place: u64) -> u32 {
        match height.checked_sub(1) {
            None => self.get((place - self.gone) as usize).slot,
            Some(level) => self.levels[level].slots[(place - self.levels[level].first) as usize],
        }
    }

    /// Makes the partial states of runs that are full.
    fn seal(&mut self, bank: &mut Bank) {
        if !bank.has_plain() {
            return;
        }
        for height in 0.. {
            let (first, end) = match height {
                0 => (self.gone, self.gone + self.elements.len() as u64),
                _ => (self.levels[height - 1].first, self.levels[height - 1].end()),
            };
            if self.levels.len() == height {
                if end / FAN <= first.div_ceil(FAN) {
                    return;
                }
                self.levels.push(Level { first: first.div_ceil(FAN), slots: VecDeque::new() });
            }
            if self.levels[height].slots.is_empty() {
                self.levels[height].first = self.levels[height].first.max(first.div_ceil(FAN));
            }
            for run in self.levels[height].end()..end / FAN {
                let partial = bank.claim();
                (run * FAN..(run + 1) * FAN).for_each(|place| bank.plain(How::Add, self.slot(height, place), partial));
                self.levels[height].slots.push_back(partial);
            }
        }
    }

    /// Drops the partial states of runs that reach beyond an element.
    fn unseal(&mut self, place: u64, bank: &mut Bank) {
        let mut whole = place;
        for level in &mut self.levels {
            whole /= FAN;
            while level.end() > whole.max(level.first) {
                level.slots.pop_back().into_iter().for_each(|slot| bank.release(slot));
            }
        }
    }

    /// Puts an element at the end, wherever it belongs; [`Line::rebuild`] follows.
    pub fn restore(&mut self, element: Element) {
        self.elements.insert(self.elements.len(), element);
    }

    /// Orders restored elements, adds up those of one time, and starts the newest frame `preceding` before the last.
    pub fn rebuild(&mut self, preceding: Option<i64>, bank: &mut Bank, merged: &mut Vec<u32>) {
        let mut elements: Vec<Element> = (0..self.len()).map(|index| self.get(index)).collect();
        elements.sort_by_key(|element| element.at);
        let of_one_time = elements.chunk_by(|one, other| one.at == other.at).map(|same| {
            for other in &same[1..] {
                bank.both(How::Add, other.slot, same[0].slot);
                merged.push(other.slot);
            }
            same[0]
        });
        let mut ordered = Elements::default();
        of_one_time.for_each(|element| ordered.insert(ordered.len(), element));
        self.elements = ordered;
        let newest = self.last().map_or(i64::MIN, |last| last.at);
        self.start = preceding.map_or(0, |preceding| self.index(newest.saturating_sub(preceding)));
        self.seal(bank);
    }

    /// Bytes held on the heap.
    pub fn bytes(&self) -> u64 {
        let levels: usize = self.levels.iter().map(|level| size_of::<Level>() + 4 * level.slots.capacity()).sum();
        let elements = match &self.elements {
            Elements::Few(..) => 0,
            Elements::Many(elements) => elements.capacity() * size_of::<Element>(),
        };
        (elements + levels) as u64
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;
    use tidemill_base::rand::Rng;

    use super::*;
    use crate::operators::aggregate::parts::Setting;
    use crate::plan::{AggregateCall, AggregateFunction};

    /// A bank whose states cannot be taken back.
    fn bank() -> Bank {
        let (function, result) = (AggregateFunction::Max, DataType::Int64);
        let call = AggregateCall { function, args: vec![0], filter: None, distinct: false, result };
        let setting = Setting { types: vec![DataType::Int64], append_only: true, retiring: false, inline: false };
        Bank::new(&[call], &setting).expect("integers have an order")
    }

    /// A line whose elements come and go, as a list of times.
    fn check(seed: u64) {
        let mut rng = Rng::seeded(seed);
        let (mut bank, mut line, mut times) = (bank(), Line::default(), Vec::<i64>::new());
        let disorder = [0, 3, 40][rng.below(3) as usize];
        let mut newest = 0;
        for _ in 0..1_500 {
            if rng.chance(2, 5) && !times.is_empty() {
                let popped = line.pop(&mut bank).map(|element| element.at);
                assert_eq!(popped, Some(times.remove(0)));
                continue;
            }
            newest += 1 + rng.below(3) as i64;
            let at = newest - rng.below(disorder + 1) as i64;
            match line.place(at) {
                Place::There(index) => assert_eq!(line.get(index).at, at),
                Place::Before(index) => {
                    let slot = bank.claim();
                    line.insert(index, Element { at, slot }, true, &mut bank);
                    times.insert(times.partition_point(|other| *other < at), at);
                }
            }
            let (from, to) = (rng.below(times.len() as u64 + 1) as usize, rng.below(times.len() as u64 + 1) as usize);
            let (from, to) = (from.min(to), from.max(to));
            let mut states = 0;
            line.cover(from, to, |_| states += 1);
            let levels = (to - from + 2).ilog(FAN as usize) as usize + 1;
            assert!(states <= 2 * FAN as usize * levels, "seed {seed}: {states} states for {} elements", to - from);
        }
        let kept: Vec<i64> = (0..line.len()).map(|index| line.get(index).at).collect();
        assert_eq!(kept, times, "seed {seed}");
    }

    #[test]
    fn a_range_of_many_elements_is_few_states() {
        (0..20).for_each(check);
    }
}
