//! The journal on segments, over storage that keeps no more than it promises, and on a real disk.

mod append;
mod disk;
mod inspect;
mod memory;
mod recovery;
mod retain;
