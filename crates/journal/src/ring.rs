//! A ring between processes: any of them appends a record without a system call, one reads.
//!
//! A ring is a file of fixed size that producers and the consumer map. What is in it outlives the processes, not a power
//! cut: the consumer moves the records to where they last (the journal) and releases them then. A record that is not
//! released is never overwritten; a producer whose slots are all unreleased is answered [`Refused::Full`] at once.
//!
//! # The algorithm
//!
//! Nothing is ever reserved before it is whole, so there is nothing that a dying or stopped producer could hold up.
//!
//! - Each producer owns a share of the slots. It writes a record into a free slot of its own, which nobody looks at.
//! - Then one compare-and-swap puts the slot's number into the *order*, an array of words, at the first position that
//!   is still empty. That is the commit: before it the record is not there, after it the record is, complete and in its
//!   place among the records of all producers. Of two that race for a position one takes the next.
//! - The consumer follows the order. Its release is the store of a single word, the number of positions it is done with.
//!   A producer may use a slot again once the position it was committed at is below that word.
//!
//! An order word is never erased. It carries its turn (how often the order went round), so that the word of an earlier
//! turn is an empty position and a file of zeros an empty ring. As `N` slots cannot be committed at more than `N`
//! unreleased positions, a position that comes up for its next turn is always released: no check is needed for it.
//!
//! Whoever takes the place of a dead producer finds all there is to know in the order: which of the slots are taken and
//! at which position. Who is alive is told by locks that the kernel drops with their process, so it works across
//! containers, and a process id that is used again misleads nobody. Whoever attaches first after a start of the machine
//! looks the ring over, for a power cut may have left some of its sectors old: the consumer then reports a position whose
//! record is lost as [`Damaged`], and nothing hangs.
//!
//! The algorithm is in [`protocol`] over words of memory, and checked by loom over all orders in which loads and stores
//! may take effect: `make loom`, or
//! `RUSTFLAGS="--cfg loom" cargo test -p tidemill-journal --release --test loom_ring`.
//!
//! # Example
//!
#![cfg_attr(not(loom), doc = "```")]
#![cfg_attr(loom, doc = "```ignore")]
//! use tidemill_journal::ring::{Ring, Shape};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("events.ring");
//! let mut consumer = Ring::create(&path, Shape::default())?.consumer()?;
//! let mut producer = Ring::open(&path)?.producer()?; // as a rule in another process
//!
//! let position = producer.try_append(b"an event")?;
//! let record = consumer.next()?.expect("it was appended");
//! assert_eq!((record.position, record.bytes), (position, &b"an event"[..]));
//! consumer.release(position + 1);
//! assert_eq!(producer.released(), position + 1);
//! # Ok(())
//! # }
//! ```

mod error;
mod shape;

pub mod protocol;

#[cfg(not(loom))]
pub mod c;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
mod lock;

pub use error::{Damaged, Error, Refused, Result};
#[cfg(not(loom))]
pub use file::{Consumer, Patience, Producer, Ring};
pub use protocol::Record;
pub use shape::Shape;
