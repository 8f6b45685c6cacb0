//! Deterministic simulation of tidemill: seeded time, storage that loses power, and planted bugs.
//!
//! One seed decides everything: who acts next, what fails, when the power goes, and what the disk still has afterwards.
//! A [`World`] hands out that seed's randomness and time and folds whatever can be observed into a *trace*; running a
//! seed twice must give the same trace. A *scenario* drives real parts of tidemill over simulated ones and compares them
//! with a model so plain that it is right at sight. Nothing here starts a thread, sleeps or reads a file.
//!
//! Reading order: [`world`], [`storage`] and [`store`] (the simulated machine), [`scenario`] (what is done with it).

pub mod scenario;
pub mod storage;
pub mod store;
pub mod world;

pub use scenario::{Outcome, Scenario};
pub use storage::{Crash, Faults, SimStorage};
pub use store::{SimStore, StoreFaults};
pub use world::World;
