//! Numbers from text: integers eight digits at a time, decimals exactly, floats by the standard library.
//!
//! The one idea: digits are found and summed as 64-bit words. A word `0x30..0x39` in every byte is eight digits; three
//! multiplications fold it into their value.

/// Why a text is not a value of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The text has another form.
    Form,
    /// The value is beyond what the type holds.
    Range,
}

/// Powers of ten that fit `i128`.
pub(crate) const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

const WORD_POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// How many of a word's bytes, from the first, are ASCII digits.
#[inline(always)]
fn digit_count(word: u64) -> usize {
    let low = word ^ 0x3030_3030_3030_3030;
    let others = (low.wrapping_add(0x7676_7676_7676_7676) | low) & 0x8080_8080_8080_8080;
    (others.trailing_zeros() >> 3) as usize
}

/// The value of a word of which the first `count` bytes (1..=8) are digits.
#[inline(always)]
fn digits_value(word: u64, count: usize) -> u64 {
    let word = (word << (64 - 8 * count)) & 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = (word.wrapping_mul(2_561) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(6_553_601) >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(42_949_672_960_001) >> 32
}

#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(word) => u64::from_le_bytes(*word),
        None => word_at_end(bytes, at),
    }
}

#[cold]
fn word_at_end(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// Reads an integer of up to 16 digits in JSON's form at `at`, and returns it with the index of the byte behind it.
///
/// `None` means "look closer" (longer, a leading zero, no digit), not "wrong".
#[inline(always)]
pub(crate) fn short_integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let word = word_at(bytes, start);
    let mut count = digit_count(word);
    if count == 0 || (count > 1 && word as u8 == b'0') {
        return None;
    }
    let mut value = digits_value(word, count);
    if count == 8 {
        let word = word_at(bytes, start + 8);
        let more = digit_count(word);
        if more > 0 {
            value = value * WORD_POWERS[more] + digits_value(word, more);
            count += more;
            if more == 8 && bytes.get(start + 16).is_some_and(u8::is_ascii_digit) {
                return None;
            }
        }
    }
    Some((if negative { -(value as i64) } else { value as i64 }, start + count))
}

/// Reads a whole number; `12.0` and `1e3` are whole, `1.5` is not.
pub(crate) fn integer(text: &str) -> Result<i64, Misfit> {
    match text.parse::<i64>() {
        Ok(value) => Ok(value),
        Err(_) => {
            let value = Parts::of(text)?.whole()?;
            i64::try_from(value).map_err(|_| Misfit::Range)
        }
    }
}

/// Reads a float; besides numbers `NaN`, `Infinity` and `-Infinity`.
pub(crate) fn float(text: &str) -> Result<f64, Misfit> {
    match text {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => return Ok(f64::INFINITY),
        "-Infinity" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return Err(Misfit::Form);
    }
    let value: f64 = text.parse().map_err(|_| Misfit::Form)?;
    if value.is_finite() { Ok(value) } else { Err(Misfit::Range) }
}

/// Reads a single-precision float.
pub(crate) fn float32(text: &str) -> Result<f32, Misfit> {
    let wide = float(text)?;
    if !wide.is_finite() {
        return Ok(wide as f32);
    }
    let value: f32 = text.parse().map_err(|_| Misfit::Form)?;
    if value.is_finite() { Ok(value) } else { Err(Misfit::Range) }
}

/// Reads a decimal of `precision` digits, `scale` of them behind the point; more digits are rounded half away from zero.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, Misfit> {
    let value = Parts::of(text)?.scaled(i64::from(scale))?;
    let bound = POWERS.get(usize::from(precision)).copied().unwrap_or(i128::MAX);
    if value.abs() < bound { Ok(value) } else { Err(Misfit::Range) }
}

/// A number taken apart: its digits without the point, and where the point stands.
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, Misfit> {
        let bytes = text.as_bytes();
        let (negative, bytes) = match bytes.split_first() {
            Some((b'-', rest)) => (true, rest),
            Some((b'+', rest)) => (false, rest),
            _ => (false, bytes),
        };
        let (number, exponent) = match bytes.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&bytes[..at], exponent(&bytes[at + 1..])?),
            None => (bytes, 0),
        };
        let (whole, fraction) = match number.iter().position(|&byte| byte == b'.') {
            Some(at) => (&number[..at], &number[at + 1..]),
            None => (number, &[][..]),
        };
        let digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
        if !digits || whole.len() + fraction.len() == 0 {
            return Err(Misfit::Form);
        }
        Ok(Parts { negative, whole, fraction, exponent })
    }

    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.whole.iter().chain(self.fraction).map(|byte| byte - b'0').skip_while(|&digit| digit == 0)
    }

    /// The value times `10^scale`, rounded half away from zero.
    fn scaled(&self, scale: i64) -> Result<i128, Misfit> {
        let count = self.digits().count() as i64;
        let shift = scale + self.exponent - self.fraction.len() as i64;
        let kept = count + shift;
        if count == 0 || kept < 0 {
            return Ok(0);
        }
        if kept > 38 {
            return Err(Misfit::Range);
        }
        let mut value: i128 = self.digits().take(kept as usize).fold(0, |value, digit| value * 10 + i128::from(digit));
        if shift > 0 {
            value *= POWERS[shift as usize];
        } else if self.digits().nth(kept as usize).is_some_and(|digit| digit >= 5) {
            value += 1;
        }
        Ok(if self.negative { -value } else { value })
    }

    /// The value, when it has no fraction.
    fn whole(&self) -> Result<i128, Misfit> {
        let count = self.digits().count() as i64;
        let kept = count + self.exponent - self.fraction.len() as i64;
        if kept < count && self.digits().skip(kept.max(0) as usize).any(|digit| digit != 0) {
            return Err(Misfit::Form);
        }
        self.scaled(0)
    }
}

fn exponent(bytes: &[u8]) -> Result<i64, Misfit> {
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Misfit::Form);
    }
    // Beyond a million every value is zero or out of range already.
    let value = digits.iter().fold(0_i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(1_000_000));
    Ok(if negative { -value } else { value })
}

/// Appends a decimal as plain digits, never with an exponent.
pub(crate) fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = value.unsigned_abs().to_string();
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        let zeros = if value == 0 { 0 } else { usize::from(scale.unsigned_abs()) };
        out.extend(std::iter::repeat_n(b'0', zeros));
        return;
    }
    let scale = scale as usize;
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes());
}

/// Appends an integer.
pub(crate) fn write_integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_integers_end_where_their_digits_end() {
        let check = |text: &str, expected: Option<(i64, usize)>| {
            assert_eq!(short_integer(text.as_bytes(), 0), expected, "{text}");
            let padded = format!("{text},........................");
            assert_eq!(short_integer(padded.as_bytes(), 0), expected, "{padded}");
        };
        check("0", Some((0, 1)));
        check("-0", Some((0, 2)));
        check("7", Some((7, 1)));
        check("-12345678", Some((-12_345_678, 9)));
        check("123456789", Some((123_456_789, 9)));
        check("1234567890123456", Some((1_234_567_890_123_456, 16)));
        check("12345678901234567", None);
        check("01", None);
        check("-01", None);
        check("-", None);
        check("", None);
        check("x", None);
        check("12:34", Some((12, 2)));
        check("12/34", Some((12, 2)));
    }

    #[test]
    fn integers_are_whole() {
        let check = |text: &str, expected: Result<i64, Misfit>| assert_eq!(integer(text), expected, "{text}");
        check("9223372036854775807", Ok(i64::MAX));
        check("-9223372036854775808", Ok(i64::MIN));
        check("9223372036854775808", Err(Misfit::Range));
        check("12.0", Ok(12));
        check("1.2e1", Ok(12));
        check("1e3", Ok(1_000));
        check("1e300", Err(Misfit::Range));
        check("120e-1", Ok(12));
        check("1.5", Err(Misfit::Form));
        check("1e-1", Err(Misfit::Form));
        check("1e-400", Err(Misfit::Form));
        check("0e999999999999999999999", Ok(0));
        check("", Err(Misfit::Form));
        check(".", Err(Misfit::Form));
        check("1_000", Err(Misfit::Form));
    }

    #[test]
    fn decimals_are_exact_and_round_half_up() {
        let check = |text: &str, precision, scale, expected: Result<i128, Misfit>| {
            assert_eq!(decimal(text, precision, scale), expected, "{text}");
        };
        check("1.23", 10, 2, Ok(123));
        check("1.235", 10, 2, Ok(124));
        check("-1.235", 10, 2, Ok(-124));
        check("0.005", 10, 2, Ok(1));
        check("0.0049", 10, 2, Ok(0));
        check("99.995", 4, 2, Err(Misfit::Range));
        check("1e2", 10, 2, Ok(10_000));
        check("123456789e-8", 10, 2, Ok(123));
        check("99999999999999999999999999999999999999", 38, 0, Ok(POWERS[38] - 1));
        check("100000000000000000000000000000000000000", 38, 0, Err(Misfit::Range));
        check("1e-999999999", 10, 2, Ok(0));
        check("1e999999999", 10, 2, Err(Misfit::Range));
        check("abc", 10, 2, Err(Misfit::Form));
    }

    #[test]
    fn floats_keep_their_range() {
        assert_eq!(float("1e999"), Err(Misfit::Range));
        assert_eq!(float("-2.5e3"), Ok(-2_500.0));
        assert_eq!(float("inf"), Err(Misfit::Form));
        assert_eq!(float32("1e39"), Err(Misfit::Range));
        assert!(float("NaN").is_ok_and(f64::is_nan));
    }

    #[test]
    fn writes_what_it_reads() {
        let check = |value, scale, expected: &str| {
            let mut out = Vec::new();
            write_decimal(value, scale, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(123, 2, "1.23");
        check(-5, 2, "-0.05");
        check(0, 3, "0.000");
        check(7, 0, "7");
        check(7, -2, "700");
        let mut out = Vec::new();
        write_integer(i64::MIN, &mut out);
        assert_eq!(out, i64::MIN.to_string().as_bytes());
    }
}
