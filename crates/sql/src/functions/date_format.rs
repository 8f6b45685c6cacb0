//! Patterns of dates and times in Java's letters (`yyyy-MM-dd HH:mm:ss.SSS`): compiled once, then written or read.
//!
//! Writing is a hot path: what a pattern says down to the minute is kept as text while rows stay in one minute, so that
//! most rows copy a prefix and write a few digits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;

use super::temporal::{Civil, DAY, Moment, SECOND, day_number, days_in_month, iso_week, weekday};

/// The pattern of functions that are not given one.
pub(super) const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

const MINUTE: i64 = 60 * SECOND;
const PATTERNS_MAX: usize = 64;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(char, usize),
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// How many leading parts do not change within a minute.
    slow: usize,
}

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Rc<Pattern>>> = RefCell::default();
}

impl Pattern {
    /// Compiles a pattern, or finds it compiled.
    pub(super) fn cached(text: &str) -> Result<Rc<Pattern>, String> {
        PATTERNS.with_borrow_mut(|patterns| {
            if let Some(found) = patterns.get(text) {
                return Ok(Rc::clone(found));
            }
            if patterns.len() >= PATTERNS_MAX {
                patterns.clear();
            }
            let compiled = Rc::new(Pattern::compile(text)?);
            patterns.insert(text.to_owned(), Rc::clone(&compiled));
            Ok(compiled)
        })
    }

    fn compile(text: &str) -> Result<Pattern, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = text.chars().peekable();
        let literal = |parts: &mut Vec<Part>, c: char| match parts.last_mut() {
            Some(Part::Literal(text)) => text.push(c),
            _ => parts.push(Part::Literal(c.to_string())),
        };
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.next_if_eq(&'\'').is_some() => literal(&mut parts, '\''),
                '\'' => loop {
                    match chars.next() {
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => literal(&mut parts, '\''),
                        Some('\'') => break,
                        Some(c) => literal(&mut parts, c),
                        None => return Err(format!("the date pattern '{text}' has an open quote")),
                    }
                },
                'y' | 'u' | 'M' | 'L' | 'd' | 'H' | 'h' | 'k' | 'K' | 'm' | 's' | 'S' | 'n' | 'a' | 'E' | 'D' | 'Q'
                | 'w' => {
                    let mut size = 1;
                    while chars.next_if_eq(&c).is_some() {
                        size += 1;
                    }
                    parts.push(Part::Field(c, size));
                }
                _ if c.is_ascii_alphabetic() => {
                    return Err(format!("the date pattern '{text}' has the letter {c}, which is not supported"));
                }
                _ => literal(&mut parts, c),
            }
        }
        let fast = |part: &Part| matches!(part, Part::Field('s' | 'S' | 'n', _));
        let slow = parts.iter().position(fast).unwrap_or(parts.len());
        Ok(Pattern { parts, slow })
    }

    /// A writer for a run of rows.
    pub(super) fn writer(self: &Rc<Self>) -> Writer {
        Writer { pattern: Rc::clone(self), minute: i64::MIN, prefix: String::new() }
    }

    /// Reads a text strictly: widths as in the pattern, nothing left over; a day past the month's end is the last one.
    pub(super) fn read(&self, text: &str) -> Option<Moment> {
        let (fields, rest) = self.fields(text, false)?;
        if !rest.is_empty() || !fields.in_range() {
            return None;
        }
        let day = fields.day.min(days_in_month(fields.year, fields.month));
        Some(Moment { day: day_number(fields.year, fields.month, day), nanos: fields.nanos() })
    }

    /// Reads a text as Java's lenient `SimpleDateFormat`: any number of digits, days and hours run over, a rest is ignored.
    pub(super) fn read_lenient(&self, text: &str) -> Option<Moment> {
        let (fields, _) = self.fields(text, true)?;
        let months = fields.year * 12 + fields.month - 1;
        let day = day_number(months.div_euclid(12), months.rem_euclid(12) + 1, 1) + fields.day - 1;
        Some(Moment::from_nanos(day, fields.nanos()))
    }

    fn fields<'a>(&self, text: &'a str, lenient: bool) -> Option<(Fields, &'a str)> {
        let mut fields = Fields::default();
        let mut rest = text;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Part::Field(letter, size) => {
                    let next_is_digits = matches!(self.parts.get(index + 1), Some(Part::Field(..)));
                    let free = if next_is_digits { false } else { lenient || *size == 1 };
                    rest = fields.read(*letter, *size, free, rest)?;
                }
            }
        }
        Some((fields, rest))
    }
}

/// Writes moments, and remembers the last minute's text.
pub(super) struct Writer {
    pattern: Rc<Pattern>,
    minute: i64,
    prefix: String,
}

impl Writer {
    pub(super) fn write(&mut self, moment: Moment, out: &mut String) {
        let minute = moment.day * (DAY / MINUTE) + moment.nanos / MINUTE;
        if minute != self.minute {
            self.minute = minute;
            self.prefix.clear();
            let civil = moment.civil();
            for part in &self.pattern.parts[..self.pattern.slow] {
                write_part(part, moment, civil, &mut self.prefix);
            }
        }
        out.push_str(&self.prefix);
        let fast = &self.pattern.parts[self.pattern.slow..];
        if fast.is_empty() {
            return;
        }
        let needs_date =
            fast.iter().any(|part| matches!(part, Part::Field('y' | 'u' | 'M' | 'L' | 'd' | 'D' | 'Q', _)));
        let civil = if needs_date { moment.civil() } else { Civil { year: 0, month: 1, day: 1 } };
        for part in fast {
            write_part(part, moment, civil, out);
        }
    }
}

fn write_part(part: &Part, moment: Moment, civil: Civil, out: &mut String) {
    let (letter, size) = match part {
        Part::Literal(text) => return out.push_str(text),
        Part::Field(letter, size) => (*letter, *size),
    };
    let value = match letter {
        'y' | 'u' if size == 2 => civil.year.rem_euclid(100),
        'y' | 'u' => civil.year,
        'M' | 'L' if size >= 3 => return out.push_str(shorten(MONTHS[civil.month as usize - 1], size)),
        'M' | 'L' => civil.month,
        'd' => civil.day,
        'D' => moment.day - day_number(civil.year, 1, 1) + 1,
        'Q' => (civil.month - 1) / 3 + 1,
        'w' => iso_week(moment.day).1,
        'E' => return out.push_str(shorten(DAYS[weekday(moment.day) as usize], size)),
        'a' => return out.push_str(if moment.hour() < 12 { "AM" } else { "PM" }),
        'H' => moment.hour(),
        'k' => (moment.hour() + 23) % 24 + 1,
        'K' => moment.hour() % 12,
        'h' => (moment.hour() + 11) % 12 + 1,
        'm' => moment.minute(),
        's' => moment.second(),
        'n' => moment.nanos % SECOND,
        _ => return write_fraction(moment.nanos % SECOND, size, out),
    };
    write_padded(value, size, out);
}

fn shorten(name: &str, size: usize) -> &str {
    if size >= 4 { name } else { &name[..3] }
}

/// Two digits are the common case and need no formatter.
fn write_padded(value: i64, size: usize, out: &mut String) {
    if size == 2 && (0..100).contains(&value) {
        out.push(char::from(b'0' + (value / 10) as u8));
        out.push(char::from(b'0' + (value % 10) as u8));
    } else {
        write!(out, "{value:0size$}").ok();
    }
}

fn write_fraction(nanos: i64, size: usize, out: &mut String) {
    let mut unit = SECOND / 10;
    for _ in 0..size {
        out.push(char::from(b'0' + if unit > 0 { (nanos / unit % 10) as u8 } else { 0 }));
        unit /= 10;
    }
}

/// What was read of a text.
#[derive(Debug)]
struct Fields {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    fraction: i64,
    half: Option<i64>,
}

impl Default for Fields {
    fn default() -> Self {
        Fields { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, fraction: 0, half: None }
    }
}

impl Fields {
    fn read<'a>(&mut self, letter: char, size: usize, free: bool, text: &'a str) -> Option<&'a str> {
        match letter {
            'a' => {
                let (half, rest) = text.split_at_checked(2)?;
                self.half = Some(match half {
                    "AM" | "am" => 0,
                    "PM" | "pm" => 12,
                    _ => return None,
                });
                return Some(rest);
            }
            'M' | 'L' if size >= 3 => {
                let (index, name) = MONTHS
                    .iter()
                    .map(|name| shorten(name, size))
                    .enumerate()
                    .find(|(_, name)| text.starts_with(name))?;
                self.month = index as i64 + 1;
                return Some(&text[name.len()..]);
            }
            'E' => {
                let name = DAYS.iter().map(|name| shorten(name, size)).find(|name| text.starts_with(name))?;
                return Some(&text[name.len()..]);
            }
            _ => {}
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let used = if free { digits.min(18) } else { size };
        if used == 0 || used > digits {
            return None;
        }
        let value: i64 = text[..used].parse().ok()?;
        match letter {
            'y' | 'u' if size == 2 => self.year = 2000 + value,
            'y' | 'u' => self.year = value,
            'M' | 'L' => self.month = value,
            'd' => self.day = value,
            'H' => self.hour = value,
            'k' => self.hour = value % 24,
            'h' | 'K' => {
                self.hour = value % 12;
                self.half.get_or_insert(0);
            }
            'm' => self.minute = value,
            's' => self.second = value,
            'S' => self.fraction = if used <= 9 { value * 10_i64.pow(9 - used as u32) } else { return None },
            'n' => self.fraction = value,
            _ => return None,
        }
        Some(&text[used..])
    }

    fn in_range(&self) -> bool {
        (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second)
            && (0..SECOND).contains(&self.fraction)
            && self.year < 1_000_000
    }

    fn nanos(&self) -> i64 {
        let hour = self.hour + self.half.unwrap_or(0);
        ((hour.min(1 << 20) * 60 + self.minute.min(1 << 20)) * 60 + self.second.min(1 << 20)) * SECOND + self.fraction
    }
}
