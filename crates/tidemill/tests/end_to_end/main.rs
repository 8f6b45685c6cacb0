//! The built command, run as a person runs it: files in a folder of its own, exit codes, what it prints and where.

// Tests say what they skip and what they have seen.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod bounds;
mod changelog;
mod circuits;
// Some of it is for the tests of torture.
#[allow(dead_code)]
mod command;
mod decisions;
mod doors;
mod errors;
mod forward;
mod http;
mod interrupt;
mod lookups;
mod replay;
mod ring;
mod run;
mod shell;
mod state;
mod tables;
mod views;
