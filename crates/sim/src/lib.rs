//! Deterministic simulation of tidemill: seeded time, storage that loses power, and planted bugs.
