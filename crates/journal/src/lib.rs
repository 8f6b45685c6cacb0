//! A durable log on memory-mapped segments and a ring between processes: no system call a record.
//!
//! A [`Journal`] numbers records and keeps them in order. What is appended outlives the process at once, and the power
//! after the next flush; [`Level`] says which of the two is asked for. Opening one again gives back a prefix of what was
//! appended, with everything that was acknowledged.
//!
//! ```
//! use std::sync::Arc;
//! use tidemill_base::time::SystemClock;
//! use tidemill_journal::{Disk, Journal, Level, Options, Sequence};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path().join("journal");
//! # let options = Options { segment_bytes: 64 << 10, ..Options::default() };
//! let disk = Arc::new(Disk::open(folder)?);
//! let (journal, found) = Journal::open(disk, options, Arc::new(SystemClock::new()))?;
//! assert_eq!(found.last, Sequence::NONE);
//!
//! let sequence = journal.append(1, 0, &[b"one ", b"payment"])?;
//! journal.wait(sequence, Level::Flushed)?;
//!
//! let mut reader = journal.reader(Sequence::FIRST, Level::Flushed)?;
//! let record = reader.next()?.expect("it was waited for");
//! assert_eq!(&record.payload[..], b"one payment");
//! journal.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! All files are written through [`tidemill_base::storage::Storage`]; [`Disk`] is the machine's own.

pub mod disk;
pub mod error;
mod flush;
pub mod format;
pub mod inspect;
mod journal;
pub mod level;
pub mod map;
mod notify;
pub mod options;
pub mod pool;
pub mod reader;
pub mod recovery;
pub mod ring;
pub mod scan;
mod segment;
mod segments;

pub use disk::Disk;
pub use error::{Error, Result};
pub use journal::{Journal, Reservation};
pub use level::{Level, Sequence};
pub use notify::Callback;
pub use options::Options;
pub use reader::{Reader, Record};
pub use recovery::{Recovery, Torn};
pub use segments::{Fullness, Usage};
