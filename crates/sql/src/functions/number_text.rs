//! Numbers as text, the way Java reads and prints them, and decimal arithmetic on 128 bits.

use std::fmt::Write;

use arrow_buffer::i256;

/// The largest power of ten an i128 holds.
const POWER_MAX: u32 = 38;

/// Reads a DOUBLE: Java's `Double.parseDouble` without hexadecimal notation.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    let text = java_trim(text);
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    match body {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => {}
    }
    // A type suffix is part of Java's notation; the words Rust knows besides ("inf", "nan") are not.
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    digits.parse().ok()
}

/// Removes what Java's `trim` removes: spaces and control characters.
pub(super) fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// Reads an integer; a fraction is cut off, as Flink does.
pub(super) fn parse_integer(text: &str) -> Result<i64, &'static str> {
    let text = java_trim(text);
    if text.is_empty() {
        return Err("the text is empty");
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    let sound = digits.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !sound || (digits.is_empty() && whole.len() == text.len()) {
        return Err("it is not an integer");
    }
    if digits.is_empty() {
        return Ok(0);
    }
    whole.parse().map_err(|_| "it is out of range")
}

/// Reads a decimal number into `scale`, rounding half up; `None` when it is no number or does not fit 38 digits.
pub(super) fn parse_decimal(text: &str, scale: i8) -> Option<i128> {
    let text = java_trim(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let negative = mantissa.starts_with('-');
    let digits = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut value: i128 = 0;
    let mut dropped = 0_i32;
    for byte in whole.bytes().chain(fraction.bytes()) {
        match value.checked_mul(10).and_then(|value| value.checked_add(i128::from(byte - b'0'))) {
            Some(next) if dropped == 0 => value = next,
            _ => dropped += 1,
        }
    }
    let value = if negative { -value } else { value };
    let own_scale = i64::from(fraction.len() as i32) - i64::from(exponent) - i64::from(dropped);
    rescale(value, i32::try_from(own_scale).ok()?, i32::from(scale))
}

/// Writes a decimal with its scale, never in scientific notation.
pub(super) fn write_decimal(value: i128, scale: i8, out: &mut String) {
    let scale = usize::from(scale.max(0).unsigned_abs());
    if value < 0 {
        out.push('-');
    }
    let digits = value.unsigned_abs();
    if scale == 0 {
        write!(out, "{digits}").ok();
        return;
    }
    let unit = 10_u128.pow(scale as u32);
    write!(out, "{}.{:0scale$}", digits / unit, digits % unit).ok();
}

/// The shortest digits that read back as the number, and their exponent: `digits * 10^exponent`.
pub(super) fn shortest(value: f64) -> (i128, i32) {
    split_shortest(&format!("{value:e}"))
}

/// As [`shortest`], for FLOAT.
pub(super) fn shortest_float(value: f32) -> (i128, i32) {
    split_shortest(&format!("{value:e}"))
}

fn split_shortest(text: &str) -> (i128, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
    let digits = mantissa.replace('.', "").parse().unwrap_or(0);
    (digits, exponent.parse::<i32>().unwrap_or(0) - fraction)
}

/// Writes a DOUBLE as Java's `Double.toString` does.
pub(super) fn write_double(value: f64, out: &mut String) {
    if value.is_finite() && value != 0.0 {
        write_java(value < 0.0, &format!("{:e}", value.abs()), out);
    } else {
        write_special(value, out);
    }
}

/// Writes a FLOAT as Java's `Float.toString` does.
pub(super) fn write_float(value: f32, out: &mut String) {
    if value.is_finite() && value != 0.0 {
        write_java(value < 0.0, &format!("{:e}", value.abs()), out);
    } else {
        write_special(f64::from(value), out);
    }
}

fn write_special(value: f64, out: &mut String) {
    out.push_str(match value {
        _ if value.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ if value.is_sign_negative() => "-0.0",
        _ => "0.0",
    });
}

/// From Rust's `d.ddde±x` to Java's plain notation in [1e-3, 1e7) and scientific outside.
fn write_java(negative: bool, scientific: &str, out: &mut String) {
    if negative {
        out.push('-');
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (first, rest) = mantissa.split_at(1);
    let rest = rest.trim_start_matches('.');
    let zero_if_empty = |text: &str, out: &mut String| out.push_str(if text.is_empty() { "0" } else { text });
    match exponent {
        0..=6 => {
            let places = exponent as usize;
            out.push_str(first);
            let (whole, fraction) = rest.split_at(places.min(rest.len()));
            out.push_str(whole);
            out.extend(std::iter::repeat_n('0', places - whole.len()));
            out.push('.');
            zero_if_empty(fraction, out);
        }
        -3..=-1 => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
            out.push_str(first);
            out.push_str(rest);
        }
        _ => {
            out.push_str(first);
            out.push('.');
            zero_if_empty(rest, out);
            write!(out, "E{exponent}").ok();
        }
    }
}

/// Ten to a power, when an i128 holds it.
pub(super) fn power_of_ten(power: u32) -> Option<i128> {
    (power <= POWER_MAX).then(|| 10_i128.pow(power))
}

/// Moves a decimal to another scale, rounding half away from zero; `None` when it does not fit.
pub(super) fn rescale(value: i128, from: i32, to: i32) -> Option<i128> {
    if value == 0 {
        return Some(0);
    }
    if to >= from {
        return value.checked_mul(power_of_ten((to - from) as u32)?);
    }
    match power_of_ten((from - to) as u32) {
        Some(divisor) => Some(divide_half_up(value, divisor)),
        None => Some(0),
    }
}

/// Moves a decimal to a smaller scale, cutting off.
pub(super) fn truncate(value: i128, from: i32, to: i32) -> Option<i128> {
    if to >= from {
        return rescale(value, from, to);
    }
    Some(power_of_ten((from - to) as u32).map_or(0, |divisor| value / divisor))
}

/// Divides, rounding half away from zero; the divisor is not 0.
pub(super) fn divide_half_up(value: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    // `rest >= divisor / 2` without the overflow of doubling.
    if rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs() {
        quotient + if (value < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

/// As [`divide_half_up`] on 256 bits; `None` when the quotient does not fit 128.
pub(super) fn divide_half_up_wide(value: i256, divisor: i256) -> Option<i128> {
    let quotient = value.checked_div(divisor)?;
    let rest = value.checked_rem(divisor)?;
    let doubled = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    let up = doubled >= divisor.wrapping_abs();
    let step = if value.is_negative() == divisor.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    (if up { quotient.checked_add(step)? } else { quotient }).to_i128()
}

/// Whether a decimal fits a precision.
pub(super) fn fits(value: i128, precision: u8) -> bool {
    power_of_ten(u32::from(precision)).is_none_or(|limit| value.unsigned_abs() < limit.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_doubles_as_java_does() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (123_456.7, "123456.7"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (1.23456789e7, "1.23456789E7"),
            (0.001, "0.001"),
            (9e-4, "9.0E-4"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut out = String::new();
            write_double(value, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn rounds_half_away_from_zero() {
        assert_eq!(rescale(1005, 3, 2), Some(101));
        assert_eq!(rescale(-1005, 3, 2), Some(-101));
        assert_eq!(rescale(1004, 3, 2), Some(100));
        assert_eq!(rescale(i128::MAX, 38, 0), Some(2));
        assert_eq!(rescale(i128::MAX, 0, 1), None);
        assert_eq!(divide_half_up(i128::MAX, i128::MAX), 1);
    }
}
