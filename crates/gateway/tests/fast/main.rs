//! The fast stack over real sockets, beside the standard one.

mod behind;
mod differential;
mod late;
mod streams;
