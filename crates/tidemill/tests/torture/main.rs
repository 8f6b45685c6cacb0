//! The built command under torture: killed at any moment under load, its disk cut off, failing or full.
//!
//! `make torture` runs many rounds; `make test` a few. TIDEMILL_TORTURE says how many kills, TIDEMILL_POWER_CUTS how many
//! images of a disk whose power was cut, TIDEMILL_SEED where the random moments begin.

// Tests say what they skip and what they have seen.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../end_to_end/command.rs"]
#[allow(dead_code, unused_imports)]
mod command;
mod disk;
mod kill;
mod load;

/// A number from the environment, or what is meant without.
fn count(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Where random moments begin.
fn seed() -> u64 {
    count("TIDEMILL_SEED", 1)
}
