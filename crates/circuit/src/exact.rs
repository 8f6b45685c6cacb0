//! [`ExactSum`]: a sum of doubles that no order, split or retraction changes by a bit.
//!
//! The sum is kept exactly, as an integer: most values fit a 128-bit fixed point with 80 bits behind the point, all
//! others are added to a number wide enough for every double (2^-1074 to 2^1024, and room for 2^140 of them). The sum
//! is rounded once, to nearest even, when it is read. NaN and the infinities are counted apart, so that they can be
//! taken back too. The idea of one wide integer is Kulisch's ("Computer Arithmetic and Validity", 2008).

/// Bits behind the point of the narrow form.
const NARROW_BITS: i32 = 80;
/// The exponent of the lowest bit of the wide form: the least subnormal double.
const WIDE_LOW: i32 = -1_074;
/// 64-bit limbs of the wide form.
const LIMBS: usize = 35;
/// The bit of the wide form at which the narrow form begins.
const NARROW_POSITION: usize = (-NARROW_BITS - WIDE_LOW) as usize;
/// Bytes of the wide form and its counts when written.
const WIDE_BYTES: usize = LIMBS * 8 + 24;

/// An exact sum; its default is zero.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    /// The narrow part, in units of 2^-80.
    narrow: i128,
    /// What does not fit there, if anything ever came that did not.
    wide: Option<Box<Wide>>,
}

/// Two's complement in units of 2^-1074, lowest limb first, and counts of what is no number.
#[derive(Debug, Clone)]
struct Wide {
    limbs: [u64; LIMBS],
    nan: i64,
    plus: i64,
    minus: i64,
}

impl ExactSum {
    /// Adds `value` as often as `weight` says; a negative weight takes it back.
    #[inline]
    pub fn add(&mut self, value: f64, weight: i64) {
        let bits = value.to_bits();
        let (field, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
        if field == 0x7ff {
            return self.add_special(value, weight);
        }
        let (mantissa, exponent) = match field {
            0 => (fraction, WIDE_LOW),
            _ => (fraction | (1 << 52), field as i32 - 1_075),
        };
        let mantissa = if value.is_sign_negative() { -(mantissa as i64) } else { mantissa as i64 };
        let product = i128::from(mantissa) * i128::from(weight);
        let shift = exponent + NARROW_BITS;
        if !self.add_narrow(product, shift) && product != 0 {
            self.wide().add(product, (exponent - WIDE_LOW) as usize);
        }
    }

    /// Adds `product * 2^(shift - 80)` to the narrow part; false when it does not fit.
    #[inline]
    fn add_narrow(&mut self, product: i128, shift: i32) -> bool {
        let scaled = if (0..127).contains(&shift) && (shift as u32) < product.unsigned_abs().leading_zeros() {
            product << shift
        } else if (-127..0).contains(&shift) && product.trailing_zeros() >= (-shift) as u32 {
            product >> -shift
        } else {
            return false;
        };
        match self.narrow.checked_add(scaled) {
            Some(sum) => {
                self.narrow = sum;
                true
            }
            None => false,
        }
    }

    #[cold]
    fn add_special(&mut self, value: f64, weight: i64) {
        let wide = self.wide();
        let count = match () {
            () if value.is_nan() => &mut wide.nan,
            () if value > 0.0 => &mut wide.plus,
            () => &mut wide.minus,
        };
        *count += weight;
    }

    fn wide(&mut self) -> &mut Wide {
        self.wide.get_or_insert_with(|| Box::new(Wide { limbs: [0; LIMBS], nan: 0, plus: 0, minus: 0 }))
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &ExactSum) {
        if !self.add_narrow(other.narrow, 0) {
            self.wide().add(other.narrow, NARROW_POSITION);
        }
        if let Some(other) = &other.wide {
            let wide = self.wide();
            wide.add_limbs(&other.limbs);
            wide.nan += other.nan;
            wide.plus += other.plus;
            wide.minus += other.minus;
        }
    }

    /// Takes back another sum.
    pub fn unmerge(&mut self, other: &ExactSum) {
        match other.narrow.checked_neg() {
            Some(negated) if self.add_narrow(negated, 0) => {}
            _ => self.wide().subtract(other.narrow, NARROW_POSITION),
        }
        if let Some(other) = &other.wide {
            let wide = self.wide();
            wide.subtract_limbs(&other.limbs);
            wide.nan -= other.nan;
            wide.plus -= other.plus;
            wide.minus -= other.minus;
        }
    }

    /// The sum, rounded to the nearest double, ties to even; infinite when it is beyond the greatest.
    pub fn value(&self) -> f64 {
        let Some(wide) = &self.wide else {
            // The conversion rounds to nearest even, and the scaling is exact.
            return self.narrow as f64 * 2_f64.powi(-NARROW_BITS);
        };
        match (wide.nan > 0, wide.plus > 0, wide.minus > 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => {
                let mut total = wide.clone();
                total.add(self.narrow, NARROW_POSITION);
                total.round()
            }
        }
    }

    /// The sum as an unevaluated sum of two doubles, exact to about 106 bits; the second is 0 when the first is no
    /// number.
    pub fn pair(&self) -> (f64, f64) {
        let high = self.value();
        if !high.is_finite() {
            return (high, 0.0);
        }
        let mut rest = self.clone();
        rest.add(high, -1);
        (high, rest.value())
    }

    /// The same sum in the one form that does not tell its history: narrow if it can be.
    pub fn canonical(&self) -> ExactSum {
        let Some(wide) = &self.wide else { return self.clone() };
        let mut wide = wide.clone();
        wide.add(self.narrow, NARROW_POSITION);
        match wide.narrow() {
            Some(narrow) => ExactSum { narrow, wide: None },
            None => ExactSum { narrow: 0, wide: Some(wide) },
        }
    }

    /// Appends the sum in a form that [`ExactSum::read`] takes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.narrow.to_le_bytes());
        if let Some(wide) = &self.wide {
            wide.limbs.iter().for_each(|limb| out.extend_from_slice(&limb.to_le_bytes()));
            [wide.nan, wide.plus, wide.minus].iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        }
    }

    /// Reads what [`ExactSum::write`] has written; none when the bytes are something else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (narrow, rest) = bytes.split_first_chunk::<16>()?;
        let mut sum = ExactSum { narrow: i128::from_le_bytes(*narrow), wide: None };
        if rest.is_empty() {
            return Some(sum);
        }
        if rest.len() != WIDE_BYTES {
            return None;
        }
        let (words, _) = rest.as_chunks::<8>();
        let wide = sum.wide();
        for (limb, word) in wide.limbs.iter_mut().zip(words) {
            *limb = u64::from_le_bytes(*word);
        }
        wide.nan = i64::from_le_bytes(words[LIMBS]);
        wide.plus = i64::from_le_bytes(words[LIMBS + 1]);
        wide.minus = i64::from_le_bytes(words[LIMBS + 2]);
        Some(sum)
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.wide.as_ref().map_or(0, |_| size_of::<Wide>())
    }
}

/// The magnitude of `value`, shifted to `position`: its first limb, and what is in that one and the next two.
fn parts_of(value: i128, position: usize) -> (usize, [u64; 3]) {
    let (limb, shift) = (position / 64, position % 64);
    let magnitude = value.unsigned_abs();
    let low = magnitude << shift;
    let high = if shift == 0 { 0 } else { (magnitude >> (128 - shift)) as u64 };
    (limb, [low as u64, (low >> 64) as u64, high])
}

impl Wide {
    /// Adds `value * 2^(low bit + position)`.
    fn add(&mut self, value: i128, position: usize) {
        let (limb, parts) = parts_of(value, position);
        if value >= 0 { self.add_at(limb, parts) } else { self.subtract_at(limb, parts) }
    }

    /// Takes `value * 2^(low bit + position)` back.
    fn subtract(&mut self, value: i128, position: usize) {
        let (limb, parts) = parts_of(value, position);
        if value >= 0 { self.subtract_at(limb, parts) } else { self.add_at(limb, parts) }
    }

    fn add_at(&mut self, limb: usize, parts: [u64; 3]) {
        let mut carry = false;
        for (index, target) in self.limbs[limb..].iter_mut().enumerate() {
            let part = parts.get(index).copied().unwrap_or(0);
            if index >= parts.len() && !carry {
                break;
            }
            let (sum, first) = target.overflowing_add(part);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*target, carry) = (sum, first || second);
        }
    }

    fn subtract_at(&mut self, limb: usize, parts: [u64; 3]) {
        let mut borrow = false;
        for (index, target) in self.limbs[limb..].iter_mut().enumerate() {
            let part = parts.get(index).copied().unwrap_or(0);
            if index >= parts.len() && !borrow {
                break;
            }
            let (rest, first) = target.overflowing_sub(part);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*target, borrow) = (rest, first || second);
        }
    }

    fn add_limbs(&mut self, other: &[u64; LIMBS]) {
        let mut carry = false;
        for (target, part) in self.limbs.iter_mut().zip(other) {
            let (sum, first) = target.overflowing_add(*part);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*target, carry) = (sum, first || second);
        }
    }

    fn subtract_limbs(&mut self, other: &[u64; LIMBS]) {
        let mut borrow = false;
        for (target, part) in self.limbs.iter_mut().zip(other) {
            let (rest, first) = target.overflowing_sub(*part);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*target, borrow) = (rest, first || second);
        }
    }

    /// The narrow form of the number, when it has one.
    fn narrow(&self) -> Option<i128> {
        const LIMB: usize = NARROW_POSITION / 64;
        const SHIFT: usize = NARROW_POSITION % 64;
        const _: () = assert!(SHIFT > 0);
        if (self.nan, self.plus, self.minus) != (0, 0, 0) || self.any_below(NARROW_POSITION) {
            return None;
        }
        let word = |limb: usize| (self.limbs[limb] >> SHIFT) | (self.limbs[limb + 1] << (64 - SHIFT));
        let value = (u128::from(word(LIMB)) | (u128::from(word(LIMB + 1)) << 64)) as i128;
        let sign = if value < 0 { u64::MAX } else { 0 };
        let extended =
            self.limbs[LIMB + 2] >> SHIFT == sign >> SHIFT && self.limbs[LIMB + 3..].iter().all(|limb| *limb == sign);
        extended.then_some(value)
    }

    /// The nearest double, ties to even.
    fn round(mut self) -> f64 {
        let negative = self.limbs[LIMBS - 1] >> 63 == 1;
        if negative {
            let mut carry = true;
            for limb in &mut self.limbs {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        let Some(top) = self.limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
        let length = top * 64 + 64 - self.limbs[top].leading_zeros() as usize;
        let shift = length.saturating_sub(53);
        let mut mantissa = self.bits(shift);
        if shift > 0 && self.bit(shift - 1) && (mantissa & 1 == 1 || self.any_below(shift - 1)) {
            mantissa += 1;
        }
        // The implicit bit of a normal mantissa counts as one in the exponent field, and a carry out of it as another.
        let bits = ((shift as u64) << 52) + mantissa;
        let value = if bits >= f64::INFINITY.to_bits() { f64::INFINITY } else { f64::from_bits(bits) };
        if negative { -value } else { value }
    }

    /// The 53 bits from `position` on.
    fn bits(&self, position: usize) -> u64 {
        let (limb, shift) = (position / 64, position % 64);
        let low = u128::from(self.limbs[limb]);
        let high = u128::from(self.limbs.get(limb + 1).copied().unwrap_or(0));
        ((low | (high << 64)) >> shift) as u64 & ((1 << 53) - 1)
    }

    fn bit(&self, position: usize) -> bool {
        (self.limbs[position / 64] >> (position % 64)) & 1 == 1
    }

    fn any_below(&self, position: usize) -> bool {
        let (limb, shift) = (position / 64, position % 64);
        self.limbs[..limb].iter().any(|limb| *limb != 0) || self.limbs[limb] & ((1 << shift) - 1) != 0
    }
}

/// The sum of squared distances from the mean of `count` values, from their exact sum and exact sum of squares.
///
/// Computed as `squares - sum^2 / count` in pairs of doubles, so that the cancellation of the two costs no digit that a
/// double has.
pub fn squared_deviations(sum: &ExactSum, squares: &ExactSum, count: i64) -> f64 {
    let (total, total_rest) = sum.pair();
    let (square, square_rest) = squares.pair();
    if !total.is_finite() || !square.is_finite() {
        return f64::NAN;
    }
    let count = count as f64;
    // total^2 / count as a pair.
    let high = total * total;
    let low = total.mul_add(total, -high) + 2.0 * total * total_rest;
    let quotient = high / count;
    let rest = ((-quotient).mul_add(count, high) + low) / count;
    // The difference of two pairs; the leading difference is itself a pair.
    let difference = square - quotient;
    let shadow = difference - square;
    let error = (square - (difference - shadow)) + (-quotient - shadow);
    let result = difference + (error + (square_rest - rest));
    if result.is_nan() { f64::NAN } else { result.max(0.0) }
}

/// Adds the square of `value` exactly (but for what lies below the least subnormal, which is the same for every order).
pub fn add_square(squares: &mut ExactSum, value: f64, weight: i64) {
    let high = value * value;
    squares.add(high, weight);
    if high.is_finite() {
        squares.add(value.mul_add(value, -high), weight);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value, 1));
        sum
    }

    fn check(values: &[f64], expected: f64) {
        let value = sum(values).value();
        assert!(
            value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()),
            "{values:?}: {value:e}"
        );
    }

    #[test]
    fn sums_are_rounded_once() {
        check(&[], 0.0);
        check(&[0.1, 0.2, 0.3], 0.6);
        check(&[1e308, 1e308, -1e308], 1e308);
        check(&[1e16, 1.0, -1e16], 1.0);
        check(&[1.0, 1e-300, -1.0], 1e-300);
        check(&[f64::MAX, f64::MAX], f64::INFINITY);
        check(&[f64::MIN, f64::MIN], f64::NEG_INFINITY);
        check(&[f64::from_bits(1), f64::from_bits(1)], f64::from_bits(2));
        check(&[f64::MIN_POSITIVE, -f64::from_bits(1)], f64::from_bits((1 << 52) - 1));
        check(&[-0.0, -0.0], 0.0);
    }

    #[test]
    fn ties_go_to_even() {
        let half = 2_f64.powi(-53);
        check(&[1.0, half], 1.0);
        check(&[1.0 + 2.0 * half, half], 1.0 + 4.0 * half);
        check(&[1.0, half, 2_f64.powi(-200)], 1.0 + 2.0 * half);
        check(&[-1.0, -half, -2_f64.powi(-200)], -1.0 - 2.0 * half);
    }

    #[test]
    fn what_is_no_number_can_be_taken_back() {
        let mut sum = sum(&[1.5, f64::INFINITY]);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY, 1);
        assert!(sum.value().is_nan());
        sum.add(f64::INFINITY, -1);
        assert_eq!(sum.value(), f64::NEG_INFINITY);
        sum.add(f64::NEG_INFINITY, -1);
        sum.add(f64::NAN, 2);
        assert!(sum.value().is_nan());
        sum.add(f64::NAN, -2);
        assert_eq!(sum.value(), 1.5);
    }

    #[test]
    fn deviations_survive_a_large_mean() {
        let values = [1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0];
        let mut squares = ExactSum::default();
        values.iter().for_each(|value| add_square(&mut squares, *value, 1));
        assert_eq!(squared_deviations(&sum(&values), &squares, 4), 90.0);
    }

    /// The exact sum as a big integer in units of 2^-1074, in decimal-free schoolbook form: sign and bits.
    fn reference(values: &[f64]) -> f64 {
        // 2^-1074 units as base-2^32 digits in i128 columns, carried once at the end.
        let mut columns = vec![0_i128; 75];
        for value in values {
            let bits = value.to_bits();
            let (field, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
            let (mantissa, position) =
                if field == 0 { (fraction, 0) } else { (fraction | 1 << 52, field as usize - 1) };
            for bit in (0..53).filter(|bit| mantissa >> bit & 1 == 1) {
                let place = position + bit;
                let unit = 1_i128 << (place % 32);
                columns[place / 32] += if value.is_sign_negative() { -unit } else { unit };
            }
        }
        let negative = {
            let mut carry = 0;
            columns.iter().for_each(|column| carry = (column + carry).div_euclid(1 << 32));
            carry < 0
        };
        let mut carry = 0_i128;
        let mut bits = Vec::new();
        for column in &columns {
            let total = if negative { -column } else { *column } + carry;
            carry = total.div_euclid(1 << 32);
            let digit = total.rem_euclid(1 << 32);
            (0..32).for_each(|bit| bits.push(digit >> bit & 1 == 1));
        }
        let Some(top) = bits.iter().rposition(|bit| *bit) else { return 0.0 };
        let low = (top + 1).saturating_sub(53);
        let mut mantissa = (low..=top).rev().fold(0_u64, |mantissa, bit| mantissa << 1 | u64::from(bits[bit]));
        if low > 0 && bits[low - 1] && (mantissa & 1 == 1 || bits[..low - 1].contains(&true)) {
            mantissa += 1;
        }
        // `mantissa * 2^(low - 1074)` without an intermediate rounding.
        let scaled = if low > 900 {
            mantissa as f64 * 2_f64.powi(800) * 2_f64.powi(low as i32 - 1_874)
        } else {
            mantissa as f64 * 2_f64.powi(-600) * 2_f64.powi(low as i32 - 474)
        };
        if negative { -scaled } else { scaled }
    }

    fn doubles() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            any::<f64>().prop_filter("finite", |value| value.is_finite()),
            (-1_000_000_i64..1_000_000).prop_map(|cents| cents as f64 / 100.0),
            (-40_i32..40, -9.9_f64..9.9).prop_map(|(exponent, value)| value * 10_f64.powi(exponent)),
        ];
        prop::collection::vec(value, 0..40)
    }

    proptest! {
        #[test]
        fn equals_the_rounded_rational_sum(values in doubles()) {
            let (value, expected) = (sum(&values).value(), reference(&values));
            prop_assert_eq!(value.to_bits(), expected.to_bits(), "{:e} {:e}", value, expected);
        }

        #[test]
        fn order_split_and_retraction_change_no_bit(values in doubles(), noise in doubles(), cut in 0_usize..40) {
            let expected = sum(&values).value().to_bits();
            let mut backwards = ExactSum::default();
            noise.iter().for_each(|value| backwards.add(*value, 3));
            values.iter().rev().for_each(|value| backwards.add(*value, 1));
            noise.iter().for_each(|value| backwards.add(*value, -3));
            prop_assert_eq!(backwards.value().to_bits(), expected);
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = sum(right);
            merged.merge(&sum(left));
            prop_assert_eq!(merged.value().to_bits(), expected);
            let mut taken = sum(&noise);
            taken.merge(&merged);
            taken.unmerge(&sum(&noise));
            prop_assert_eq!(taken.value().to_bits(), expected);
            let mut bytes = Vec::new();
            merged.write(&mut bytes);
            let read = ExactSum::read(&bytes);
            prop_assert_eq!(read.map(|sum| sum.value().to_bits()), Some(expected));
            let canonical = |sum: &ExactSum| {
                let mut bytes = Vec::new();
                sum.canonical().write(&mut bytes);
                bytes
            };
            prop_assert_eq!(canonical(&merged), canonical(&backwards));
            prop_assert_eq!(canonical(&merged), canonical(&sum(&values)));
            prop_assert_eq!(merged.canonical().value().to_bits(), expected);
        }
    }
}
