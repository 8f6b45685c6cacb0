//! APPROX_COUNT_DISTINCT and approximate quantiles: sketches that depend on the set of values alone, not on its order.
//!
//! Distinct values: the hashes themselves up to [`EXACT_MAX`] of them, then HyperLogLog with 2^14 registers and Ertl's
//! estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017): a standard error of 0.8 %.
//! Quantiles: DDSketch (Masson, Rim, Lee, VLDB 2019) with buckets a 64th of a power of two wide, so that a value is
//! known within 0.8 %; buckets are counts, which retractions lower again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, Float64Array, Int64Array};
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Family, Rows};
use super::extreme::{add, tree_bytes};
use super::value::{finish, float_of, ordered_f64};
use crate::keep::wire::{Damage, Reader};
use crate::key::KeyEncoder;

/// As many hashes are kept before registers take over.
const EXACT_MAX: usize = 1_024;
const REGISTER_BITS: u32 = 14;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// Stands where a saved sketch has the number of its hashes, and says that it has registers.
const REGISTERS_FOLLOW: u32 = u32::MAX;
/// The longest run of zeros that a register can tell, and one.
const RANK_MAX: usize = 64 - REGISTER_BITS as usize + 1;

/// The number of different values over rows that are never taken back.
pub(super) struct Distinct {
    /// The arguments.
    pub args: Vec<usize>,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// Writes the arguments' hashes.
    pub encoder: KeyEncoder,
    /// The type of the result.
    pub result: DataType,
}

/// The sketch of one group.
#[derive(Debug)]
pub(super) enum Sketch {
    /// Different hashes, sorted.
    Exact(Vec<u64>),
    /// The greatest rank of each register.
    Registers(Box<[u8; REGISTERS]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch::Exact(Vec::new())
    }
}

impl Sketch {
    fn add(&mut self, hash: u64) {
        match self {
            Sketch::Exact(hashes) => {
                if let Err(place) = hashes.binary_search(&hash) {
                    hashes.insert(place, hash);
                    if hashes.len() > EXACT_MAX {
                        self.promote();
                    }
                }
            }
            Sketch::Registers(registers) => {
                let register = &mut registers[(hash >> (64 - REGISTER_BITS)) as usize];
                let rank = ((hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() as u8 + 1;
                *register = (*register).max(rank);
            }
        }
    }

    fn promote(&mut self) {
        let before = std::mem::replace(self, Sketch::Registers(Box::new([0; REGISTERS])));
        if let Sketch::Exact(hashes) = before {
            hashes.into_iter().for_each(|hash| self.add(hash));
        }
    }

    fn merge(&mut self, other: &Sketch) {
        match other {
            Sketch::Exact(hashes) => hashes.iter().for_each(|hash| self.add(*hash)),
            Sketch::Registers(others) => {
                if matches!(self, Sketch::Exact(_)) {
                    self.promote();
                }
                if let Sketch::Registers(registers) = self {
                    registers.iter_mut().zip(others.iter()).for_each(|(mine, other)| *mine = (*mine).max(*other));
                }
            }
        }
    }

    fn estimate(&self) -> i64 {
        match self {
            Sketch::Exact(hashes) => hashes.len() as i64,
            Sketch::Registers(registers) => estimate(registers),
        }
    }
}

/// Ertl's improved raw estimator.
fn estimate(registers: &[u8; REGISTERS]) -> i64 {
    let mut counts = [0_u32; RANK_MAX + 1];
    registers.iter().for_each(|rank| counts[*rank as usize] += 1);
    let size = REGISTERS as f64;
    let mut sum = size * tau(1.0 - f64::from(counts[RANK_MAX]) / size);
    for rank in (1..RANK_MAX).rev() {
        sum = 0.5 * (sum + f64::from(counts[rank]));
    }
    sum += size * sigma(f64::from(counts[0]) / size);
    (size / (2.0 * std::f64::consts::LN_2) * size / sum).round() as i64
}

fn sigma(share: f64) -> f64 {
    if share == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut sum) = (share, 1.0, share);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum == before {
            return sum;
        }
    }
}

fn tau(share: f64) -> f64 {
    if share == 0.0 || share == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut sum) = (share, 1.0, 1.0 - share);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x).powi(2) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}

impl Family for Distinct {
    type State = Sketch;

    fn update(&self, states: &mut [Sketch], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&self.args, self.filter);
        let columns: Vec<ArrayRef> = self.args.iter().map(|arg| rows.columns[*arg].clone()).collect();
        let hashes = self.encoder.encode(&columns, slots.len()).hashes();
        rows.each(slots, mask.as_ref(), |row, slot, _| states[slot].add(hashes[row]));
        Ok(())
    }

    fn merge(&self, into: &mut Sketch, from: &Sketch) {
        into.merge(from);
    }

    fn evaluate(&self, states: &[&Sketch]) -> Result<Vec<ArrayRef>, ArrowError> {
        let counts: Int64Array = states.iter().map(|state| state.estimate()).collect();
        Ok(vec![finish(Arc::new(counts), &self.result)?])
    }

    fn write(&self, state: &Sketch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        match state {
            Sketch::Exact(hashes) => {
                out.extend_from_slice(&(hashes.len() as u32).to_le_bytes());
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
            }
            Sketch::Registers(registers) => {
                out.extend_from_slice(&REGISTERS_FOLLOW.to_le_bytes());
                out.extend_from_slice(registers.as_slice());
            }
        }
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Sketch, Damage> {
        let count = from.u32()?;
        if count == REGISTERS_FOLLOW {
            let registers = from.take(REGISTERS)?.to_vec().into_boxed_slice();
            let registers = registers.try_into().map_err(|_| Damage::of("registers of another number"))?;
            return Ok(Sketch::Registers(registers));
        }
        if count as usize > EXACT_MAX {
            return Err(Damage(format!("{count} hashes where at most {EXACT_MAX} are kept")));
        }
        Ok(Sketch::Exact((0..count).map(|_| from.u64()).collect::<Result<_, _>>()?))
    }

    fn heap_bytes(&self, state: &Sketch) -> usize {
        match state {
            Sketch::Exact(hashes) => hashes.capacity() * 8,
            Sketch::Registers(_) => REGISTERS,
        }
    }

    const FLAT: bool = false;
}

/// Bits of a double below a bucket: 46 leave sign, exponent and the 6 highest bits of the fraction.
const BUCKET_SHIFT: u32 = 46;

/// The value below which a share of the values lies.
pub(super) struct Quantile {
    /// The column.
    pub arg: usize,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// For each call the share and the type of its result.
    pub shares: Vec<(f64, DataType)>,
}

impl Quantile {
    fn value(buckets: &BTreeMap<i64, i64>, share: f64) -> Option<f64> {
        let total: i64 = buckets.values().map(|count| (*count).max(0)).sum();
        if total <= 0 {
            return None;
        }
        let rank = (share.clamp(0.0, 1.0) * (total - 1) as f64).floor() as i64;
        let mut before = 0;
        let bucket = buckets.iter().find(|(_, count)| {
            before += (**count).max(0);
            before > rank
        });
        bucket.map(|(bucket, _)| middle(*bucket))
    }
}

/// The middle of a bucket; zero and what is as good as zero is 0.
fn middle(bucket: i64) -> f64 {
    if bucket == 0 || bucket == -1 {
        return 0.0;
    }
    let low = float_of(bucket << BUCKET_SHIFT);
    let high = float_of((bucket << BUCKET_SHIFT) | ((1 << BUCKET_SHIFT) - 1));
    match (low.is_nan() || high.is_nan(), low.is_infinite(), high.is_infinite()) {
        (true, false, false) => f64::NAN,
        (_, true, _) => low,
        (_, _, true) => high,
        _ => low / 2.0 + high / 2.0,
    }
}

impl Family for Quantile {
    type State = BTreeMap<i64, i64>;

    fn update(&self, states: &mut [Self::State], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.arg], self.filter);
        let column = finish(rows.columns[self.arg].clone(), &DataType::Float64)?;
        let values = column.as_primitive::<Float64Type>().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            add(&mut states[slot], ordered_f64(values[row]) >> BUCKET_SHIFT, weight);
        });
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) {
        from.iter().for_each(|(bucket, count)| add(into, *bucket, *count));
    }

    fn evaluate(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |(share, result): &(f64, DataType)| {
            let values: Float64Array = states.iter().map(|state| Self::value(state, *share)).collect();
            finish(Arc::new(values), result)
        };
        self.shares.iter().map(column).collect()
    }

    fn write(&self, state: &Self::State, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&(state.len() as u32).to_le_bytes());
        for (bucket, count) in state {
            out.extend_from_slice(&bucket.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Self::State, Damage> {
        (0..from.count(16)?).map(|_| Ok((from.i64()?, from.i64()?))).collect()
    }

    fn entries(&self, state: &Self::State) -> usize {
        state.len()
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        tree_bytes::<i64, i64>(state.len())
    }

    const FLAT: bool = false;
}

#[cfg(test)]
mod tests {
    use tidemill_base::hash;

    use super::*;

    #[test]
    fn distinct_counts_are_exact_while_small_and_close_when_large() {
        for count in [0_u64, 1, 1_000, 1_024, 1_025, 5_000, 20_000, 60_000, 200_000] {
            let mut sketch = Sketch::default();
            (0..count).chain(0..count / 2).for_each(|value| sketch.add(hash::word(value)));
            let estimate = sketch.estimate() as f64;
            let error = (estimate - count as f64).abs() / (count.max(1) as f64);
            assert!(error <= if count <= EXACT_MAX as u64 { 0.0 } else { 0.025 }, "{count}: {estimate}");
        }
    }

    #[test]
    fn sketches_do_not_depend_on_order_or_split() {
        let (mut forwards, mut left, mut right) = (Sketch::default(), Sketch::default(), Sketch::default());
        (0..3_000_u64).for_each(|value| forwards.add(hash::word(value)));
        (0..700_u64).rev().for_each(|value| right.add(hash::word(value)));
        (500..3_000_u64).rev().for_each(|value| left.add(hash::word(value)));
        right.merge(&left);
        assert_eq!(forwards.estimate(), right.estimate());
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut buckets = BTreeMap::new();
        let values: Vec<f64> = (0..10_001).map(|value| f64::from(value - 2_000) * 1.7).collect();
        values.iter().for_each(|value| add(&mut buckets, ordered_f64(*value) >> BUCKET_SHIFT, 1));
        for share in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0] {
            let exact = values[(share * 10_000.0) as usize];
            let found = Quantile::value(&buckets, share).expect("there are values");
            assert!((found - exact).abs() <= exact.abs() * 0.01, "{share}: {found} for {exact}");
        }
        values.iter().for_each(|value| add(&mut buckets, ordered_f64(*value) >> BUCKET_SHIFT, -1));
        assert!(buckets.is_empty());
    }
}
