//! The fast stack over real sockets, beside the standard one.

#![allow(clippy::print_stdout)]

mod behind;
mod differential;
mod late;
mod streams;
