//! The built command, run as a person runs it: files in a folder of its own, exit codes, what it prints and where.

mod bench;
mod command;
mod errors;
mod http;
mod interrupt;
mod replay;
mod ring;
mod run;
mod shell;
mod state;
mod tables;
