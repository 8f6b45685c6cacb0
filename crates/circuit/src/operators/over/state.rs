//! [`State`]: what is known of each key, and how a row changes it and is answered.
//!
//! Rows come in the order in which they are answered. A row is [inserted](State::insert) into the frames of its key, and
//! [answered](State::answer) from them; where rows of one time see each other, all of them are inserted first.
//!
//! Three kinds of frames are kept in three ways. Where frames have no beginning and rows come in order, a running total is
//! enough. Where they have one, what is in them stands in a [`Line`], a running total follows the newest frame, and what
//! has left it goes at once. Event time that is answered on arrival comes out of order: then what has left the newest frame
//! stays until the watermark says that no row can ask for it, and a row that is not the newest of its key is answered from
//! the total by what lies between; frames without a beginning keep, besides, the total of all that the watermark has passed.

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;

use super::bank::{Bank, EMPTY, NONE};
use super::calendar::Calendar;
use super::distinct::{Seen, Values};
use super::lags::{Lags, Tail};
use super::line::{Element, Line, Place};
use super::waiting::Waiting;
use crate::keep::keeper::Progress;
use crate::keep::marks::Marks;
use crate::key::{KeyEncoder, KeyIndex};
use crate::operator::StateSize;
use crate::operators::aggregate::accumulator::How;
use crate::operators::census::Census;
use crate::operators::time::floor;
use crate::plan::{Frame, OverCall, OverSpec, OverTurn, TimeDomain};

/// What frames are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whether they count rows instead of time.
    pub rows: bool,
    /// How far they reach back; none means to the beginning.
    pub preceding: Option<i64>,
    /// To what times are truncated.
    pub unit: i64,
    /// Whether rows are answered in the order of their times, once the watermark has passed them.
    pub waits: bool,
    /// Whether a row may come whose time is below that of another one that was there.
    pub disordered: bool,
}

impl Shape {
    /// The shape of a specification.
    pub fn of(spec: &OverSpec) -> Self {
        let waits = spec.turn == OverTurn::Watermark;
        let framed = spec.calls.iter().any(|call| matches!(call, OverCall::Aggregate(_)));
        let (rows, preceding, unit) = match (spec.frame, spec.order) {
            // Nothing looks at frames.
            _ if !framed => (true, None, 1),
            (Frame::Rows { preceding }, _) => (true, preceding.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)), 1),
            (Frame::Range { .. }, None) => (true, None, 1),
            (Frame::Range { preceding_ms, unit_ms }, Some(_)) => (false, preceding_ms, unit_ms.unwrap_or(1)),
        };
        let disordered = !rows && !waits && spec.domain == TimeDomain::Event;
        Shape { rows, preceding, unit, waits, disordered }
    }

    /// Whether what is in frames stands in lines.
    pub fn has_lines(&self) -> bool {
        self.preceding.is_some() || self.disordered
    }

    /// Whether rows of one time see each other.
    pub fn has_peers(&self) -> bool {
        self.waits && !self.rows
    }

    /// The start of the frame that ends at `at`.
    fn start(&self, at: i64) -> i64 {
        self.preceding.map_or(i64::MIN, |preceding| at.saturating_sub(preceding))
    }

    /// The time up to which nothing is asked for any more once the clock stands there: elements before it can go.
    fn bound(&self, clock: i64) -> i64 {
        match clock {
            i64::MIN | i64::MAX => clock,
            _ => self.truncate(clock).saturating_sub(self.reach()),
        }
    }

    /// How far frames reach back, in what they count.
    fn reach(&self) -> i64 {
        self.preceding.unwrap_or(0)
    }

    /// A time, truncated to its unit.
    pub fn truncate(&self, time: i64) -> i64 {
        if self.unit <= 1 { time } else { floor(time, self.unit, 0) }
    }
}

/// What is known of a key.
#[derive(Debug)]
pub(super) struct Track {
    /// Its rows so far.
    pub count: u64,
    /// The running total: of the newest frame, or of all rows.
    pub total: u32,
    /// The total of what the watermark has passed, where frames have no beginning and rows come out of order.
    pub base: u32,
    pub line: Line,
    /// For each list of different values when they were seen.
    pub seen: Vec<Seen>,
    pub tail: Tail,
    /// The time under which it is listed as having something that can go.
    due: i64,
}

impl Default for Track {
    fn default() -> Self {
        let (line, seen, tail) = (Line::default(), Vec::new(), Tail::new());
        Track { count: 0, total: NONE, base: NONE, line, seen, tail, due: i64::MAX }
    }
}

/// The rows of a chunk, as states in slots.
#[derive(Default)]
pub(super) struct Chunk {
    /// The slot of each row's key.
    pub keys: Vec<u32>,
    /// Their times.
    pub times: Vec<i64>,
    /// The slot of each row's state.
    leaves: Vec<u32>,
    /// For each list of different values the entry of each row.
    entries: Vec<Vec<u32>>,
    /// Each row's number within its key.
    pub numbers: Vec<i64>,
}

/// What is known of all keys.
pub(super) struct State {
    pub shape: Shape,
    /// Whether rows are numbered.
    pub numbered: bool,
    pub encoder: KeyEncoder,
    pub index: KeyIndex,
    pub tracks: Vec<Track>,
    /// What the tracks hold on the heap.
    heap: Census,
    pub bank: Bank,
    /// For each slot of the bank that is an element its key and time.
    pub owners: Vec<(u32, i64)>,
    pub values: Vec<Values>,
    pub lags: Option<Lags>,
    pub waiting: Option<Waiting>,
    /// Keys by the time of their first element.
    due: Calendar,
    elements: u64,
    pub key_marks: Marks,
    pub element_marks: Marks,
    pub progress: Progress,
    /// Whether lines and totals are to be made of what was restored.
    pub restored: bool,
}

impl State {
    /// Nothing is known yet.
    pub fn new(
        shape: Shape,
        numbered: bool,
        encoder: KeyEncoder,
        bank: Bank,
        values: Vec<Values>,
        lags: Option<Lags>,
        waiting: Option<Waiting>,
    ) -> Self {
        State {
            shape,
            numbered,
            encoder,
            index: KeyIndex::default(),
            tracks: Vec::new(),
            heap: Census::default(),
            bank,
            owners: Vec::new(),
            values,
            lags,
            waiting,
            due: Calendar::new(shape.reach()),
            elements: 0,
            key_marks: Marks::default(),
            element_marks: Marks::default(),
            progress: Progress { closed: i64::MIN, started: false },
            restored: false,
        }
    }

    /// Whether something of a key has to be known besides its elements.
    pub fn has_keys(&self) -> bool {
        self.numbered || self.lags.is_some() || self.shape.preceding.is_none()
    }

    /// Whether different values have to be known besides the elements' own.
    pub fn has_values(&self) -> bool {
        !self.shape.has_lines()
    }

    /// The slots of keys that were just interned.
    pub fn welcome(&mut self) {
        let (slots, lists) = (self.index.slots(), self.values.len());
        while self.tracks.len() < slots {
            self.tracks.push(Track { seen: (0..lists).map(|_| Seen::default()).collect(), ..Track::default() });
        }
        self.key_marks.births(slots, self.index.take_born());
    }

    /// Turns rows into states.
    pub fn fill(
        &mut self,
        chunk: &mut Chunk,
        columns: &[ArrayRef],
        keys: &[usize],
        times: Vec<i64>,
    ) -> Result<(), ArrowError> {
        let rows = times.len();
        chunk.times = times;
        let keys: Vec<ArrayRef> = keys.iter().map(|key| columns[*key].clone()).collect();
        let encoded = self.encoder.encode(&keys, rows);
        self.index.intern(&encoded, &encoded.hashes(), &mut chunk.keys);
        self.welcome();
        chunk.leaves.clear();
        chunk.leaves.extend((0..rows).map(|_| self.bank.claim()));
        self.bank.take(&chunk.leaves, columns)?;
        chunk.entries.clear();
        for values in &mut self.values {
            chunk.entries.push(values.entries(&chunk.keys, columns)?);
        }
        if let Some(lags) = &mut self.lags {
            lags.take(rows, columns)?;
        }
        chunk.numbers.clear();
        chunk.numbers.resize(rows, 0);
        Ok(())
    }

    /// Inserts row `row`.
    pub fn insert(&mut self, chunk: &mut Chunk, row: usize) -> Result<(), ArrowError> {
        let key = chunk.keys[row];
        if self.has_keys() {
            self.touch_key(key)?;
        }
        let track = &mut self.tracks[key as usize];
        track.count = track.count.saturating_add(1);
        let number = i64::try_from(track.count).unwrap_or(i64::MAX);
        chunk.numbers[row] = number;
        if let Some(lags) = &mut self.lags {
            lags.next(&mut track.tail, row);
        }
        if self.shape.rows {
            chunk.times[row] = number;
        }
        if self.shape.has_lines() {
            return self.insert_element(chunk, row);
        }
        let (leaf, total) = (chunk.leaves[row], self.bank.claimed(&mut track.total));
        self.bank.both(How::Add, leaf, total);
        self.bank.release(leaf);
        for (list, values) in self.values.iter_mut().enumerate() {
            let entry = chunk.entries[list][row];
            if entry != NONE {
                values.keep(&mut track.seen[list], entry);
            }
        }
        Ok(())
    }

    fn insert_element(&mut self, chunk: &Chunk, row: usize) -> Result<(), ArrowError> {
        let (key, at, leaf) = (chunk.keys[row] as usize, chunk.times[row], chunk.leaves[row]);
        let shape = self.shape;
        let newest = self.tracks[key].line.last().map_or(at, |last| last.at.max(at));
        let in_frame = at >= shape.start(newest);
        let place = self.tracks[key].line.place(at);
        let slot = match place {
            Place::There(index) => self.tracks[key].line.get(index).slot,
            Place::Before(_) => leaf,
        };
        match place {
            Place::There(_) => self.touch_element(slot)?,
            Place::Before(_) => self.own(slot, key as u32, at),
        }
        let track = &mut self.tracks[key];
        match place {
            Place::There(index) => {
                self.bank.both(How::Add, leaf, slot);
                track.line.add_over(index, leaf, &mut self.bank);
                self.bank.release(leaf);
            }
            Place::Before(index) => track.line.insert(index, Element { at, slot }, in_frame, &mut self.bank),
        }
        if in_frame {
            let total = self.bank.claimed(&mut track.total);
            self.bank.exact(How::Add, leaf, total);
            if shape.preceding.is_none() {
                self.bank.plain(How::Add, leaf, total);
            }
        }
        for (list, values) in self.values.iter_mut().enumerate() {
            let entry = chunk.entries[list][row];
            if entry != NONE {
                values.insert(&mut track.seen[list], at, entry, in_frame);
            }
        }
        self.move_frame(key, shape.start(newest))?;
        self.list(key as u32);
        Ok(())
    }

    /// The newest frame of a key starts at `least` now.
    fn move_frame(&mut self, key: usize, least: i64) -> Result<(), ArrowError> {
        let track = &mut self.tracks[key];
        while track.line.start() < track.line.len() && track.line.get(track.line.start()).at < least {
            self.bank.exact(How::Take, track.line.get(track.line.start()).slot, track.total);
            track.line.advance();
        }
        for (values, seen) in self.values.iter_mut().zip(&mut track.seen) {
            values.advance(seen, least);
        }
        if self.shape.disordered {
            return Ok(());
        }
        while let Some(first) = self.tracks[key].line.first().filter(|first| first.at < least) {
            self.drop_element(key, first)?;
        }
        let track = &mut self.tracks[key];
        for (values, seen) in self.values.iter_mut().zip(&mut track.seen) {
            values.forget(seen, least);
        }
        Ok(())
    }

    /// Takes away the first element of a key.
    fn drop_element(&mut self, key: usize, element: Element) -> Result<(), ArrowError> {
        self.touch_element(element.slot)?;
        self.tracks[key].line.pop(&mut self.bank);
        self.owners[element.slot as usize].0 = NONE;
        self.elements -= 1;
        self.bank.release(element.slot);
        Ok(())
    }

    /// Answers row `row`, which was inserted.
    pub fn answer(&mut self, chunk: &Chunk, row: usize) {
        let (key, at, shape) = (chunk.keys[row] as usize, chunk.times[row], self.shape);
        let track = &self.tracks[key];
        let out = self.bank.out(row);
        let total = if track.total == NONE { EMPTY } else { track.total };
        let newest = !shape.disordered || track.line.last().is_none_or(|last| last.at == at);
        self.bank.exact(How::Set, total, out);
        if newest && shape.preceding.is_none() {
            self.bank.plain(How::Set, total, out);
        } else if self.bank.has_plain() {
            self.answer_plain(key, at, out);
        }
        if !newest {
            self.answer_between(key, at, out);
        }
        let track = &self.tracks[key];
        for (values, seen) in self.values.iter_mut().zip(&track.seen) {
            match newest {
                true => values.answer(seen, row),
                false => values.answer_range(seen, row, shape.start(at), at),
            }
        }
    }

    /// The sum of the frame that ends at `at`, for states that cannot be taken back.
    fn answer_plain(&mut self, key: usize, at: i64, out: u32) {
        let track = &self.tracks[key];
        let base = if track.base == NONE { EMPTY } else { track.base };
        self.bank.plain(How::Set, base, out);
        let to = match track.line.place(at) {
            Place::There(index) => index + 1,
            Place::Before(index) => index,
        };
        let from = if self.shape.disordered { track.line.index(self.shape.start(at)) } else { track.line.start() };
        let bank = &mut self.bank;
        track.line.cover(from, to, |slot| bank.plain(How::Add, slot, out));
    }

    /// Moves the total of the newest frame to the one that ends at `at`.
    fn answer_between(&mut self, key: usize, at: i64, out: u32) {
        let line = &self.tracks[key].line;
        let (from, to) = (line.index(self.shape.start(at)), line.index(at.saturating_add(1)));
        (from..line.start().min(to)).for_each(|index| self.bank.exact(How::Add, line.get(index).slot, out));
        (to.max(line.start())..line.len()).for_each(|index| self.bank.exact(How::Take, line.get(index).slot, out));
    }

    /// The clock stands at `clock` now: what nothing can ask for any more goes, about so many elements of it.
    pub fn sweep(&mut self, clock: i64, elements_max: usize) -> Result<(), ArrowError> {
        if self.shape.rows || !self.shape.has_lines() {
            return Ok(());
        }
        let (bound, before) = (self.shape.bound(clock), self.elements);
        while before - self.elements < elements_max as u64 {
            let Some((due, key)) = self.due.pop(bound) else { break };
            if self.tracks[key as usize].due == due {
                self.tracks[key as usize].due = i64::MAX;
                self.sweep_key(key, bound)?;
            }
        }
        if self.elements == before {
            return Ok(());
        }
        self.run()?;
        self.settle();
        Ok(())
    }

    fn sweep_key(&mut self, key: u32, bound: i64) -> Result<(), ArrowError> {
        let (place, all) = (key as usize, bound == i64::MAX);
        while let Some(first) = self.tracks[place].line.first().filter(|first| first.at < bound || all) {
            if self.shape.preceding.is_none() {
                self.touch_key(key)?;
                let base = self.bank.claimed(&mut self.tracks[place].base);
                self.bank.both(How::Add, first.slot, base);
            } else if self.tracks[place].line.start() == 0 {
                self.bank.exact(How::Take, first.slot, self.tracks[place].total);
            }
            self.drop_element(place, first)?;
        }
        let has_keys = self.has_keys();
        let track = &mut self.tracks[place];
        for (values, seen) in self.values.iter_mut().zip(&mut track.seen) {
            if all { values.forget_all(seen) } else { values.forget(seen, bound) }
        }
        if track.line.len() > 0 || has_keys {
            self.list(key);
            return Ok(());
        }
        for (values, seen) in self.values.iter_mut().zip(&mut track.seen) {
            values.forget_all(seen);
        }
        let seen = std::mem::take(&mut track.seen);
        self.bank.release(track.total);
        *track = Track { seen, ..Track::default() };
        self.index.remove(key);
        Ok(())
    }

    /// Lists a key by the time of its first element.
    fn list(&mut self, key: u32) {
        let track = &mut self.tracks[key as usize];
        if self.shape.rows {
            return;
        }
        if let Some(first) = track.line.first().filter(|first| first.at < track.due) {
            track.due = first.at;
            self.due.push(first.at, key);
        }
    }

    /// A slot of the bank is an element now.
    pub fn own(&mut self, slot: u32, key: u32, at: i64) {
        if self.owners.len() <= slot as usize {
            self.owners.resize(self.bank.slots(), (NONE, 0));
        }
        self.owners[slot as usize] = (key, at);
        self.elements += 1;
        self.element_marks.resize(self.owners.len());
        self.element_marks.born(slot);
    }

    /// Notes that an element is about to change.
    fn touch_element(&mut self, slot: u32) -> Result<(), ArrowError> {
        if let Some(mut wanted) = self.element_marks.touch(&[slot]) {
            while let Some((slot, image)) = wanted.next() {
                self.write_element(slot, image)?;
            }
            self.element_marks.keep(wanted);
        }
        Ok(())
    }

    /// Notes that what is known of a key is about to change.
    fn touch_key(&mut self, key: u32) -> Result<(), ArrowError> {
        if let Some(mut wanted) = self.key_marks.touch(&[key]) {
            while let Some((key, image)) = wanted.next() {
                self.write_key(key, image)?;
            }
            self.key_marks.keep(wanted);
        }
        Ok(())
    }

    /// Runs what was written down.
    pub fn run(&mut self) -> Result<(), ArrowError> {
        self.bank.run()?;
        self.values.iter_mut().try_for_each(Values::run)
    }

    /// The chunk is done.
    pub fn settle(&mut self) {
        self.bank.settle();
        self.values.iter_mut().for_each(Values::settle);
        if let Some(lags) = &mut self.lags {
            lags.settle();
        }
    }

    /// Makes lines and totals of what was restored.
    pub fn rebuild(&mut self) -> Result<(), ArrowError> {
        if !std::mem::take(&mut self.restored) {
            return Ok(());
        }
        for key in (0..self.tracks.len() as u32).filter(|key| self.index.contains(*key)).collect::<Vec<_>>() {
            self.rebuild_key(key);
        }
        if self.has_values() {
            for (list, values) in self.values.iter_mut().enumerate() {
                for entry in (0..values.slots() as u32).filter(|entry| values.contains(*entry)).collect::<Vec<_>>() {
                    let key = values.key(entry) as usize;
                    values.keep(&mut self.tracks[key].seen[list], entry);
                }
            }
        }
        self.run()?;
        self.settle();
        Ok(())
    }

    fn rebuild_key(&mut self, key: u32) {
        let (track, shape, mut merged) = (&mut self.tracks[key as usize], self.shape, Vec::new());
        track.line.rebuild(shape.preceding, &mut self.bank, &mut merged);
        for slot in merged {
            // Only damage names a time twice.
            self.owners[slot as usize].0 = NONE;
            self.elements -= 1;
            self.bank.release(slot);
        }
        let newest = track.line.last().map_or(i64::MIN, |last| last.at);
        if shape.rows {
            track.count = track.count.max(u64::try_from(newest).unwrap_or(0));
        }
        if track.line.len() > 0 {
            let total = self.bank.claimed(&mut track.total);
            if track.base != NONE {
                self.bank.both(How::Add, track.base, total);
            }
            for index in track.line.start()..track.line.len() {
                self.bank.exact(How::Add, track.line.get(index).slot, total);
                if shape.preceding.is_none() {
                    self.bank.plain(How::Add, track.line.get(index).slot, total);
                }
            }
        } else if shape.disordered && track.base != NONE {
            let total = self.bank.claimed(&mut track.total);
            self.bank.both(How::Set, track.base, total);
        }
        for (values, seen) in self.values.iter_mut().zip(&mut track.seen) {
            values.rebuild(seen, shape.start(newest));
        }
        self.list(key);
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let waiting = self.waiting.as_ref().map_or((0, 0), |waiting| (waiting.len() as u64, waiting.bytes()));
        let values: u64 = self.values.iter().map(|values| values.len() as u64).sum();
        let heap = |track: &Track| {
            let seen: u64 = track.seen.iter().map(Seen::bytes).sum();
            track.line.bytes() + seen + (4 * track.tail.capacity() + track.seen.capacity() * size_of::<Seen>()) as u64
        };
        let tracks: u64 = self.heap.sum(&self.tracks, heap);
        let flat = self.tracks.capacity() * size_of::<Track>() + self.owners.capacity() * 16 + self.index.len() * 24;
        let bytes = self.index.bytes() + self.bank.bytes() + self.values.iter().map(Values::bytes).sum::<u64>();
        StateSize {
            entries: self.index.len() as u64 + self.elements + values + waiting.0,
            bytes: bytes
                + tracks
                + flat as u64
                + self.lags.as_ref().map_or(0, Lags::bytes)
                + self.key_marks.bytes()
                + self.element_marks.bytes()
                + self.due.bytes()
                + waiting.1,
        }
    }
}
