//! Sources, filters, transforms and sinks as *stages*: threads joined by bounded, typed channels.
//!
//! The one idea: a stage ends when the stages before it have ended. A [`Graph`] therefore stops from its sources down,
//! whatever the reason: the input is at its end, someone asked for a graceful stop ([`Cancel::drain`]), someone pulled
//! the plug ([`Cancel::abort`]), or a stage failed or panicked, which pulls the plug for all. Every channel is bounded:
//! a slow sink holds back its source, and nothing grows in between.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use tidemill_stage::{Cancel, Graph};
//!
//! let cancel = Cancel::new();
//! let mut graph = Graph::new(&cancel, 16);
//!
//! let numbers = graph.source("numbers", |out, cancel| {
//!     for number in 1..=10_u64 {
//!         if cancel.is_draining() {
//!             break; // a graceful stop: what was sent is still processed
//!         }
//!         out.send(number)?;
//!     }
//!     Ok(())
//! });
//! let odd = graph.filter("odd", numbers, |number| number % 2 == 1);
//! let squares = graph.transform("squares", odd, |number, out| Ok(out.send(number * number)?));
//!
//! let total = Arc::new(Mutex::new(0));
//! let sum = Arc::clone(&total);
//! graph.sink("sum", squares, move |input, _| {
//!     while let Some(square) = input.recv()? {
//!         *sum.lock().unwrap() += square;
//!     }
//!     Ok(()) // the input has ended as it should: here a sink commits
//! });
//!
//! let summary = graph.run()?;
//! assert_eq!(*total.lock().unwrap(), 1 + 9 + 25 + 49 + 81);
//! assert_eq!(summary.ended, ["numbers", "odd", "squares", "sum"]);
//! # Ok::<(), tidemill_stage::Error>(())
//! ```
//!
//! Reading order: [`Cancel`], then [`Sender`] and [`Receiver`], then [`Graph`].

mod cancel;
mod channel;
mod error;
mod graph;

pub use cancel::Cancel;
pub use channel::{Receiver, Sender, Stopped, Waits, wait_any};
pub use error::{Cause, Error, Halt};
pub use graph::{Graph, Stream, Summary};
