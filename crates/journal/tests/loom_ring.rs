//! The ring under loom: commit, release and death in every order in which loads and stores may take effect.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p tidemill-journal --release --test loom_ring`, or `make loom`.

#![cfg(loom)]
#![allow(unsafe_code)]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use tidemill_journal::ring::protocol::{Memory, Reader, Writer, in_memory};
use tidemill_journal::ring::{Refused, Shape};

/// The ring's words, and a cell for each slot, by which loom sees whether a use of the slot comes after the one before.
///
/// The words of a slot are atomic, and loom never has an atomic load see a store that comes later in its order of
/// execution: without the cells a release that orders nothing would pass.
#[derive(Clone)]
struct Words {
    words: Arc<[AtomicU64]>,
    slots: Arc<[Cell]>,
}

struct Cell(UnsafeCell<()>);

// SAFETY: there is nothing in the cell; loom fails the test when two threads use it at once.
unsafe impl Sync for Cell {}
// SAFETY: as above.
unsafe impl Send for Cell {}

impl Memory for Words {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn writes(&self, slot: usize) {
        self.slots[slot].0.with_mut(|_| ());
    }

    fn reads(&self, slot: usize) {
        self.slots[slot].0.with(|_| ());
    }
}

fn ring(shape: Shape) -> Words {
    let slots = (0..shape.producers * shape.slots).map(|_| Cell(UnsafeCell::new(()))).collect();
    Words { words: in_memory(shape), slots }
}

/// Runs `body` in all orders with up to `preemptions` switches that nobody waits for.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// Slots of one word of payload.
fn shape(producers: u32, slots: u32) -> Shape {
    Shape { producers, slots, slot_bytes: 24 }
}

fn append(writer: &mut Writer<Words>, record: u64) -> u64 {
    loop {
        match writer.stage(&record.to_le_bytes()) {
            Ok(staged) => return staged.commit(),
            Err(Refused::Full { .. }) => thread::yield_now(),
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// Reads and releases `count` records one by one: their producers and numbers, in order.
fn read(reader: &mut Reader<Words>, count: usize) -> Vec<(usize, u64)> {
    let mut found = Vec::new();
    while found.len() < count {
        let position = reader.position();
        match reader.next().expect("no record is damaged") {
            Some(record) => {
                assert_eq!(record.position, position);
                let bytes = record.bytes.try_into().expect("records are whole");
                found.push((record.producer, u64::from_le_bytes(bytes)));
                reader.release(position + 1);
            }
            None => thread::yield_now(),
        }
    }
    assert!(reader.next().expect("no record is damaged").is_none(), "there are no more than were appended");
    found
}

/// What a producer appended, in the order in which it was read.
fn of(producer: usize, found: &[(usize, u64)]) -> Vec<u64> {
    found.iter().filter(|record| record.0 == producer).map(|record| record.1).collect()
}

#[test]
fn a_slot_is_used_again_after_its_release_alone() {
    model(4, || {
        let (words, shape) = (ring(shape(1, 1)), shape(1, 1));
        let shared = words.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(shared, shape, 0);
            (0..3).map(|record| append(&mut writer, record)).collect::<Vec<_>>()
        });
        let mut reader = Reader::attach(words, shape);
        assert_eq!(of(0, &read(&mut reader, 3)), [0, 1, 2]);
        assert_eq!(producer.join().expect("the producer ends"), [0, 1, 2], "positions have no gaps");
    });
}

#[test]
fn two_producers_never_take_one_position() {
    model(2, || {
        let (words, shape) = (ring(shape(2, 1)), shape(2, 1));
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let shared = words.clone();
                thread::spawn(move || {
                    let mut writer = Writer::attach(shared, shape, producer);
                    (0..2 - producer as u64).for_each(|record| {
                        append(&mut writer, record);
                    });
                })
            })
            .collect();
        let mut reader = Reader::attach(words, shape);
        let found = read(&mut reader, 3);
        assert_eq!((of(0, &found), of(1, &found)), (vec![0, 1], vec![0]));
        producers.into_iter().for_each(|producer| producer.join().expect("a producer ends"));
    });
}

#[test]
fn what_a_dead_producer_staged_is_not_there_and_holds_nobody_up() {
    model(2, || {
        let (words, shape) = (ring(shape(2, 1)), shape(2, 1));
        let shared = words.clone();
        let dying = thread::spawn(move || {
            let mut writer = Writer::attach(shared.clone(), shape, 0);
            append(&mut writer, 0);
            let mut heir = Writer::attach(shared, shape, 0);
            // It dies here, with a record written and not committed, or without a free slot.
            drop(heir.stage(&[9; 8]));
            drop(heir);
        });
        let shared = words.clone();
        let other = thread::spawn(move || append(&mut Writer::attach(shared, shape, 1), 5));
        let mut reader = Reader::attach(words.clone(), shape);
        let found = read(&mut reader, 2);
        assert_eq!((of(0, &found), of(1, &found)), (vec![0], vec![5]));
        dying.join().expect("the dying producer ends");
        other.join().expect("the other producer ends");
        assert!(reader.next().expect("no record is damaged").is_none());
        append(&mut Writer::attach(words, shape, 0), 1);
        assert_eq!(read(&mut reader, 1), [(0, 1)], "its place and its slot are good for the next");
    });
}

#[test]
fn an_heir_finds_which_slots_are_taken_while_others_go_on() {
    model(2, || {
        let (words, shape) = (ring(shape(2, 1)), shape(2, 1));
        append(&mut Writer::attach(words.clone(), shape, 0), 0);
        let shared = words.clone();
        let heir = thread::spawn(move || append(&mut Writer::attach(shared, shape, 0), 1));
        let shared = words.clone();
        let other = thread::spawn(move || append(&mut Writer::attach(shared, shape, 1), 5));
        let mut reader = Reader::attach(words, shape);
        let found = read(&mut reader, 3);
        assert_eq!((of(0, &found), of(1, &found)), (vec![0, 1], vec![5]));
        heir.join().expect("the heir ends");
        other.join().expect("the other producer ends");
    });
}

#[test]
fn the_next_reader_goes_on_where_the_last_released() {
    model(3, || {
        let (words, shape) = (ring(shape(1, 2)), shape(1, 2));
        let shared = words.clone();
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(shared, shape, 0);
            (0..3).for_each(|record| {
                append(&mut writer, record);
            });
        });
        let mut dying = Reader::attach(words.clone(), shape);
        assert_eq!(read_one(&mut dying), 0);
        dying.release(1);
        assert_eq!(read_one(&mut dying), 1);
        drop(dying);
        let mut reader = Reader::attach(words, shape);
        assert_eq!(of(0, &read(&mut reader, 2)), [1, 2], "what was read and not released comes again");
        producer.join().expect("the producer ends");
    });
}

fn read_one(reader: &mut Reader<Words>) -> u64 {
    loop {
        if let Some(record) = reader.next().expect("no record is damaged") {
            return u64::from_le_bytes(record.bytes.try_into().expect("records are whole"));
        }
        thread::yield_now();
    }
}
