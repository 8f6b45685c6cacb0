//! Where text goes: data to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

/// Says something to the person at the keyboard; whether anybody listens does not matter.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes data.
///
/// # Errors
/// When stdout cannot be written, or nobody reads it any more.
pub(crate) fn put(data: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(data)?;
    stdout.flush()
}

/// Whether what is said is read by a person.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A number with a comma for every thousand.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_thousands() {
        let check = |number, text| assert_eq!(thousands(number), text);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(12_345_678, "12,345,678");
    }
}
