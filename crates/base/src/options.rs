//! Options as text: `'key' = 'value'` pairs that are taken out one by one, and whatever is left is a mistake.
//!
//! A component takes the options it knows from an [`Options`] and calls [`Options::finish`]; an unknown or misspelt one
//! is then an error that suggests the right one. Durations read `"5 s"`, `"100ms"`, `"1 min"`; sizes `"64 MiB"`, `"10kb"`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::suggest;

/// What is wrong with an option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No component takes this option.
    #[error("{of} has no option '{key}'")]
    Unknown {
        /// The option as it was written.
        key: String,
        /// What was being configured, such as `connector 'filesystem'`.
        of: String,
        /// The nearest option there is.
        suggestion: Option<String>,
        /// All options that could have stood there.
        known: Vec<String>,
    },
    /// An option that has no default is not there.
    #[error("{of} needs the option '{key}'")]
    Missing {
        /// The option.
        key: String,
        /// What was being configured.
        of: String,
    },
    /// An option's value cannot be read.
    #[error("option '{key}' = '{value}' is not {expected}")]
    Invalid {
        /// The option.
        key: String,
        /// The value as it was written.
        value: String,
        /// What would have been right, such as `a duration like '5 s'`.
        expected: String,
    },
}

impl Error {
    /// The option that the error is about.
    pub fn key(&self) -> &str {
        match self {
            Error::Unknown { key, .. } | Error::Missing { key, .. } | Error::Invalid { key, .. } => key,
        }
    }

    /// How to fix it.
    pub fn help(&self) -> String {
        match self {
            Error::Unknown { suggestion: Some(suggestion), .. } => format!("did you mean '{suggestion}'?"),
            Error::Unknown { known, .. } if known.is_empty() => "it takes no options: remove it".to_string(),
            Error::Unknown { known, .. } => format!("its options are '{}'", known.join("', '")),
            Error::Missing { key, .. } => format!("add '{key}' = '...' to the WITH clause"),
            Error::Invalid { key, expected, .. } => format!("give '{key}' {expected}"),
        }
    }
}

/// Options of one table or component, on their way to being understood.
#[derive(Debug, Clone, Default)]
pub struct Options {
    of: String,
    left: BTreeMap<String, String>,
    known: Vec<String>,
}

impl Options {
    /// The options of `of`, which is named in errors.
    pub fn new(of: impl Into<String>, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Options { of: of.into(), left: pairs.into_iter().collect(), known: Vec::new() }
    }

    /// Names what is configured, once it is known better.
    pub fn rename(&mut self, of: impl Into<String>) {
        self.of = of.into();
    }

    /// Takes an option as it stands.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_string());
        self.left.remove(key)
    }

    /// Takes an option that must be there. Where it is missing and one stands there that reads much like it, it is that one
    /// that is wrong.
    pub fn require(&mut self, key: &str) -> Result<String, Error> {
        if let Some(value) = self.take(key) {
            return Ok(value);
        }
        let (of, key) = (self.of.clone(), key.to_string());
        Err(match suggest::nearest(&key, self.left.keys().map(String::as_str)) {
            Some(misspelt) => {
                Error::Unknown { key: misspelt.to_string(), of, suggestion: Some(key), known: self.known.clone() }
            }
            None => Error::Missing { key, of },
        })
    }

    /// Takes an option and reads it by `read`; `expected` says what it should be.
    pub fn parse<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match read(value.trim()) {
            Some(read) => Ok(Some(read)),
            None => Err(Error::Invalid { key: key.to_string(), value, expected: expected.to_string() }),
        }
    }

    /// Takes `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> Result<Option<bool>, Error> {
        self.parse(key, "'true' or 'false'", |value| match value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// Takes a whole number.
    pub fn integer(&mut self, key: &str) -> Result<Option<u64>, Error> {
        self.parse(key, "a whole number like '1000'", |value| value.replace('_', "").parse().ok())
    }

    /// Takes a duration.
    pub fn duration(&mut self, key: &str) -> Result<Option<Duration>, Error> {
        self.parse(key, "a duration like '5 s', '100 ms' or '1 min'", parse_duration)
    }

    /// Takes a size in bytes.
    pub fn size(&mut self, key: &str) -> Result<Option<u64>, Error> {
        self.parse(key, "a size like '64 MiB' or '10 kb'", parse_size)
    }

    /// Takes one of a list of words.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, Error> {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("'{word}'")).collect();
        self.parse(key, &format!("one of {}", words.join(", ")), |value| {
            choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice)
        })
    }

    /// Takes every option that starts with `prefix`, the prefix removed.
    pub fn take_prefixed(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let (matching, left) = std::mem::take(&mut self.left).into_iter().partition(|(key, _)| key.starts_with(prefix));
        self.left = left;
        let matching: BTreeMap<String, String> = matching;
        matching.into_iter().map(|(key, value)| (key[prefix.len()..].to_string(), value)).collect()
    }

    /// Fails when an option is left that nobody took.
    pub fn finish(self) -> Result<(), Error> {
        let Some(key) = self.left.into_keys().next() else { return Ok(()) };
        let mut known = self.known;
        known.sort();
        known.dedup();
        let suggestion = suggest::nearest(&key, known.iter().map(String::as_str)).map(str::to_string);
        Err(Error::Unknown { key, of: self.of, suggestion, known })
    }
}

/// Reads `5 s`, `100ms`, `1 min`, `2 h`, `1 d`, `7 us`, `9 ns`; a bare number is milliseconds, as in Flink.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let nanos: u64 = match unit.to_ascii_lowercase().as_str() {
        "ns" | "nano" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60 * 1_000_000_000,
        "h" | "hour" | "hours" => 3_600 * 1_000_000_000,
        "d" | "day" | "days" => 86_400 * 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

/// Reads `64 MiB`, `10kb`, `1g`; as in Flink every unit is a power of 1024, and a bare number is bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" | "kibibytes" => 10,
        "m" | "mb" | "mib" | "mebibytes" => 20,
        "g" | "gb" | "gib" | "gibibytes" => 30,
        "t" | "tb" | "tib" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        Options::new("connector 'test'", pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())))
    }

    #[test]
    fn reads_units() {
        assert_eq!(parse_duration("5 s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(parse_duration("1 min"), Some(Duration::from_secs(60)));
        assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5 parsecs"), None);
        assert_eq!(parse_duration("999999999999 d"), None);
        assert_eq!(parse_size("64 MiB"), Some(64 << 20));
        assert_eq!(parse_size("10kb"), Some(10 << 10));
        assert_eq!(parse_size("-1"), None);
    }

    #[test]
    fn suggests_the_option_that_was_meant() {
        let mut options = options(&[("formt", "json")]);
        assert_eq!(options.take("format"), None);
        assert_eq!(options.take("path"), None);
        let error = options.finish().expect_err("'formt' is nobody's");
        assert_eq!(error.to_string(), "connector 'test' has no option 'formt'");
        assert_eq!(error.help(), "did you mean 'format'?");
    }

    #[test]
    fn a_misspelt_option_is_named_before_the_one_that_it_leaves_missing() {
        let require = |pairs: &[(&str, &str)]| options(pairs).require("format").expect_err("it is not there");
        let error = require(&[("fromat", "json"), ("path", "/x")]);
        assert_eq!(error.to_string(), "connector 'test' has no option 'fromat'");
        assert_eq!(error.help(), "did you mean 'format'?");
        assert_eq!(require(&[("path", "/x")]).to_string(), "connector 'test' needs the option 'format'");
    }

    #[test]
    fn says_what_a_value_should_be() {
        let error = options(&[("rate", "fast")]).integer("rate").expect_err("not a number");
        assert_eq!(error.to_string(), "option 'rate' = 'fast' is not a whole number like '1000'");
    }

    #[test]
    fn takes_what_is_there_and_finishes() {
        let mut options = options(&[("header.X-A", "1"), ("rows", "1_000")]);
        assert_eq!(options.integer("rows"), Ok(Some(1_000)));
        assert_eq!(options.take_prefixed("header.").get("X-A").map(String::as_str), Some("1"));
        assert_eq!(options.finish(), Ok(()));
    }
}
