//! Random interleavings of producers, the consumer, their deaths and power cuts, held against a plain list.

#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use tidemill_journal::ring::protocol::{Reader, Writer, in_memory, mend};
use tidemill_journal::ring::{Refused, Shape};

type Words = Arc<[AtomicU64]>;

/// The word of the tail, which is only a hint; the place is told in `ring/shape.rs`.
const TAIL: usize = 16;

#[derive(Debug, Clone)]
enum Step {
    /// A producer appends a record of some length.
    Append { producer: usize, length: usize },
    /// A producer dies before its commit, with a part of the record written.
    DieBefore { producer: usize, length: usize },
    /// A producer dies between its commit and its word on the tail.
    DieAfter { producer: usize, length: usize },
    /// The consumer reads up to some records.
    Read(usize),
    /// The consumer releases some of what it has read.
    Release(u64),
    /// The consumer dies.
    Restart,
}

fn steps(producers: usize, record_bytes_max: usize) -> impl Strategy<Value = Vec<Step>> {
    let (producer, length) = (0..producers, 0..=record_bytes_max + 1);
    let step = prop_oneof![
        8 => (producer.clone(), length.clone()).prop_map(|(producer, length)| Step::Append { producer, length }),
        1 => (producer.clone(), length.clone()).prop_map(|(producer, length)| Step::DieBefore { producer, length }),
        1 => (producer, length).prop_map(|(producer, length)| Step::DieAfter { producer, length }),
        4 => (0..12_usize).prop_map(Step::Read),
        4 => (0..12_u64).prop_map(Step::Release),
        1 => Just(Step::Restart),
    ];
    vec(step, 0..300)
}

fn shapes() -> impl Strategy<Value = Shape> {
    (0..3_u32, 0..4_u32, 1..3_u32).prop_map(|(producers, slots, lines)| Shape {
        producers: 1 << producers,
        slots: 1 << slots,
        slot_bytes: 64 * lines,
    })
}

/// A ring and what must be in it.
struct World {
    shape: Shape,
    words: Words,
    writers: Vec<Writer<Words>>,
    reader: Reader<Words>,
    /// Every record that was committed, by position.
    committed: Vec<(usize, Vec<u8>)>,
    read: u64,
    released: u64,
    records: u64,
}

impl World {
    fn new(shape: Shape) -> World {
        let words = in_memory(shape);
        let writers = (0..shape.producers as usize).map(|at| Writer::attach(words.clone(), shape, at)).collect();
        let reader = Reader::attach(words.clone(), shape);
        World { shape, words, writers, reader, committed: Vec::new(), read: 0, released: 0, records: 0 }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append { producer, length } => self.append(producer, length),
            Step::DieBefore { producer, length } => self.die_before(producer, length),
            Step::DieAfter { producer, length } => {
                let tail = self.words[TAIL].load(Ordering::Relaxed);
                self.append(producer, length);
                self.words[TAIL].store(tail, Ordering::Relaxed);
                self.replace(producer);
            }
            Step::Read(count) => (0..count).for_each(|_| self.read_one()),
            Step::Release(count) => {
                self.released = (self.released + count).min(self.read);
                self.reader.release(self.released);
            }
            Step::Restart => {
                self.reader = Reader::attach(self.words.clone(), self.shape);
                self.read = self.released;
            }
        }
    }

    /// A record like no other, of this length where it can be.
    fn record(&mut self, length: usize) -> Vec<u8> {
        self.records += 1;
        (0..length).map(|at| (self.records.rotate_right(at as u32 * 8) as usize ^ at) as u8).collect()
    }

    fn append(&mut self, producer: usize, length: usize) {
        let record = self.record(length);
        let unreleased = &self.committed[self.released as usize..];
        let full = unreleased.iter().filter(|(by, _)| *by == producer).count() == self.shape.slots as usize;
        let limit = self.shape.record_bytes_max();
        let answer = self.writers[producer].stage(&record).map(|staged| staged.commit());
        let expected = match (length > limit, full) {
            (true, _) => Err(Refused::TooLarge { bytes: length, limit }),
            (false, true) => Err(Refused::Full { slots: self.shape.slots }),
            (false, false) => Ok(self.committed.len() as u64),
        };
        assert_eq!(answer, expected);
        if answer.is_ok() {
            self.committed.push((producer, record));
        }
    }

    fn die_before(&mut self, producer: usize, length: usize) {
        let record = self.record(length);
        drop(self.writers[producer].stage(&record));
        self.replace(producer);
    }

    fn replace(&mut self, producer: usize) {
        self.writers[producer] = Writer::attach(self.words.clone(), self.shape, producer);
    }

    fn read_one(&mut self) {
        let found = self.reader.next().expect("nothing is damaged");
        let expected = self.committed.get(self.read as usize);
        assert_eq!(found.map(|record| (record.producer, record.bytes.to_vec())).as_ref(), expected);
        assert_eq!(found.map(|record| record.position), expected.map(|_| self.read));
        self.read += u64::from(expected.is_some());
    }
}

/// A copy of the words with every sector from one of two times.
fn torn(old: &[u64], words: &Words, new: impl Fn(usize) -> bool) -> Words {
    let now = words.iter().map(|word| word.load(Ordering::Relaxed));
    now.enumerate().map(|(at, word)| AtomicU64::new(if new(at / 64) { word } else { old[at] })).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_repeated_reordered_or_overwritten(
        (shape, steps) in shapes().prop_flat_map(|shape| {
            (Just(shape), steps(shape.producers as usize, shape.record_bytes_max()))
        })
    ) {
        let mut world = World::new(shape);
        steps.iter().for_each(|step| world.take(step));
        while world.read < world.committed.len() as u64 {
            world.read_one();
        }
        world.read_one();
    }

    #[test]
    fn after_a_power_cut_records_are_as_they_were_or_named_and_the_ring_goes_on(
        (shape, before, after) in shapes().prop_flat_map(|shape| {
            let steps = || steps(shape.producers as usize, shape.record_bytes_max());
            (Just(shape), steps(), steps())
        }),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(shape);
        before.iter().for_each(|step| world.take(step));
        let old: Vec<u64> = world.words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        after.iter().for_each(|step| world.take(step));
        let words = torn(&old, &world.words, |sector| tidemill_base::hash::words(seed, sector as u64) & 1 == 0);

        mend(&words, shape);
        let mended: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        mend(&words, shape);
        let again: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        prop_assert_eq!(mended, again, "what is whole stays as it is");

        let mut reader = Reader::attach(words.clone(), shape);
        loop {
            let position = reader.position();
            match reader.next() {
                Ok(Some(record)) => {
                    let found = (record.producer, record.bytes.to_vec());
                    prop_assert_eq!(Some(&found), world.committed.get(position as usize));
                }
                Ok(None) => break,
                Err(damaged) => prop_assert_eq!(damaged.position, position),
            }
        }
        let tail = reader.position();
        reader.release(tail);
        let mut appended = tail;
        for round in 0..2 {
            for producer in 0..shape.producers as usize {
                let mut writer = Writer::attach(words.clone(), shape, producer);
                for _ in 0..shape.slots {
                    prop_assert_eq!(writer.stage(&[round; 5]).map(|staged| staged.commit()), Ok(appended));
                    appended += 1;
                }
                prop_assert_eq!(writer.stage(&[round]).err(), Some(Refused::Full { slots: shape.slots }));
            }
            while reader.position() < appended {
                let record = reader.next().ok().flatten();
                prop_assert_eq!(record.map(|record| record.bytes), Some(&[round; 5][..]));
            }
            reader.release(appended);
        }
    }
}
