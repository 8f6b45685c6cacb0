//! What a function may know of its surroundings: the session's time zone, and the step's clock and seed.
//!
//! `now()`, `RAND()` and `UUID()` read nothing else, so a step that is replayed from its header answers the same. A random
//! value is a function of (seed, ordinal of the row, call site): the planner passes ordinal and site as the first two
//! arguments, and a batch may be cut anywhere without changing it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arrow_array::types::TimestampMillisecondType;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType};
use arrow_array::{ArrayRef, ArrowPrimitiveType};
use chrono_tz::Tz;
use datafusion::common::{Result, exec_err};
use tidemill_base::rand::Rng;

use super::call::Call;
use super::function::Function;
use super::temporal;

const DAY_MILLIS: i64 = 86_400_000;

/// The clock and the seed of the step that runs now; the circuit's driver sets it before each step.
///
/// # Memory ordering
/// Relaxed: the step's start synchronises lanes already, and the cell does not change within a step.
#[derive(Debug, Default)]
pub struct StepCell {
    now_millis: AtomicI64,
    seed: AtomicU64,
}

impl StepCell {
    /// Begins a step: `now_millis` since the epoch in UTC, and the step's seed.
    pub fn set(&self, now_millis: i64, seed: u64) {
        self.now_millis.store(now_millis, Ordering::Relaxed);
        self.seed.store(seed, Ordering::Relaxed);
    }

    /// The step's time in milliseconds since the epoch, UTC.
    pub fn now_millis(&self) -> i64 {
        self.now_millis.load(Ordering::Relaxed)
    }

    /// The step's seed.
    pub fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }
}

/// What the functions of one circuit share.
#[derive(Debug)]
pub struct Session {
    /// The clock and seed of the running step.
    pub step: Arc<StepCell>,
    /// The session's time zone (`table.local-time-zone`): how TIMESTAMP_LTZ reads as a wall clock.
    pub zone: Tz,
}

impl Default for Session {
    fn default() -> Self {
        Session { step: Arc::default(), zone: Tz::UTC }
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "current_timestamp",
        "CURRENT_TIMESTAMP() -> TIMESTAMP_LTZ",
        "The step's time; the same for all rows of a step.",
        &[("CAST(CURRENT_TIMESTAMP AS STRING)", "2020-02-29 12:34:56.789")],
        |call| constant::<TimestampMillisecondType>(call, call.session.step.now_millis()),
    )
    .aliases(&["now", "proctime", "current_row_timestamp"])
    .volatile(),
    Function::new(
        "localtimestamp",
        "LOCALTIMESTAMP() -> TIMESTAMP",
        "The step's time as a wall clock in the session's time zone.",
        &[("LOCALTIMESTAMP", "2020-02-29 12:34:56.789")],
        |call| constant::<TimestampMillisecondType>(call, local_now(call)),
    )
    .volatile(),
    Function::new(
        "current_date",
        "CURRENT_DATE() -> DATE",
        "The step's day in the session's time zone.",
        &[("CURRENT_DATE", "2020-02-29")],
        |call| constant::<Date32Type>(call, local_now(call).div_euclid(DAY_MILLIS) as i32),
    )
    .volatile(),
    Function::new(
        "current_time",
        "CURRENT_TIME() -> TIME",
        "The step's time of day in the session's time zone.",
        &[("CAST(CURRENT_TIME AS STRING)", "12:34:56.789")],
        |call| constant::<Time32MillisecondType>(call, local_now(call).rem_euclid(DAY_MILLIS) as i32),
    )
    .aliases(&["localtime"])
    .volatile(),
    Function::new(
        "rand",
        "RAND(BIGINT, BIGINT[, INT]) -> DOUBLE",
        "A random number in [0, 1), with the step's seed or one given.",
        &[("RAND(1, 7, 42) < 1", "true")],
        |call| random::<Float64Type>(call, 2, |rng, _| Ok(rng.next_f64())),
    )
    .shown("RAND([INT]) -> DOUBLE")
    .volatile(),
    Function::new(
        "rand_integer",
        "RAND_INTEGER(BIGINT, BIGINT, INT) -> INT; RAND_INTEGER(BIGINT, BIGINT, INT, INT) -> INT",
        "A random integer in [0, bound), with the step's seed or one given before the bound.",
        &[("RAND_INTEGER(1, 7, 42, 1)", "0")],
        rand_integer,
    )
    .shown("RAND_INTEGER([INT,] INT) -> INT")
    .volatile(),
    Function::new(
        "uuid",
        "UUID(BIGINT, BIGINT) -> STRING",
        "A random UUID, version 4.",
        &[("CHAR_LENGTH(UUID(1, 7))", "36")],
        uuid,
    )
    .shown("UUID() -> STRING")
    .volatile(),
];

fn constant<T: ArrowPrimitiveType>(call: &Call<'_>, value: T::Native) -> Result<ArrayRef> {
    call.build_numbers::<T>(|_| Ok(Some(value)))
}

fn local_now(call: &Call<'_>) -> i64 {
    temporal::to_wall_millis(call.session.step.now_millis(), call.session.zone)
}

/// Builds random numbers; the seed is the argument at `seed_at` when given, else the step's.
fn random<T: ArrowPrimitiveType>(
    call: &Call<'_>,
    seed_at: usize,
    draw: impl Fn(&mut Rng, usize) -> Result<T::Native>,
) -> Result<ArrayRef> {
    let (ordinals, sites) = (call.numbers::<Int64Type>(0)?, call.numbers::<Int64Type>(1)?);
    let seeds = if call.count() > seed_at { Some(call.numbers::<Int32Type>(seed_at)?) } else { None };
    call.build_numbers::<T>(|row| {
        let seed = match &seeds {
            None => Some(call.session.step.seed()),
            Some(seeds) => seeds.get(row).map(|seed| seed as u64),
        };
        let (Some(seed), Some(ordinal), Some(site)) = (seed, ordinals.get(row), sites.get(row)) else {
            return Ok(None);
        };
        draw(&mut Rng::derived(seed, site as u64, ordinal as u64), row).map(Some)
    })
}

fn rand_integer(call: &Call<'_>) -> Result<ArrayRef> {
    let seeded = call.count() == 4;
    let bounds = call.numbers::<Int32Type>(if seeded { 3 } else { 2 })?;
    random::<Int32Type>(call, if seeded { 2 } else { usize::MAX }, |rng, row| match bounds.get(row) {
        Some(bound) if bound > 0 => Ok(rng.below(bound as u64) as i32),
        bound => exec_err!("RAND_INTEGER needs a bound above 0, not {}", bound.unwrap_or(0)),
    })
}

fn uuid(call: &Call<'_>) -> Result<ArrayRef> {
    let (ordinals, sites) = (call.numbers::<Int64Type>(0)?, call.numbers::<Int64Type>(1)?);
    call.write_text(|row, out| {
        let (Some(ordinal), Some(site)) = (ordinals.get(row), sites.get(row)) else { return Ok(None) };
        let mut rng = Rng::derived(call.session.step.seed(), site as u64, ordinal as u64);
        let high = rng.next_u64() & 0xffff_ffff_ffff_0fff | 0x4000;
        let low = rng.next_u64() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
        let (first, second, third) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
        write!(out, "{first:08x}-{second:04x}-{third:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff).ok();
        Ok(Some(()))
    })
}
