//! The tables that queries are over, and rows for them.

use chrono::DateTime;
use serde_json::{Value, json};
use tidemill_base::rand::Rng;

use super::choice::Choices;
use super::value::Object;

/// How a table's event time is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// TIMESTAMP(3).
    Millis,
    /// TIMESTAMP(6), with microseconds below the milliseconds that windows are cut by.
    Micros,
    /// TIMESTAMP_LTZ(3).
    Ltz,
    /// TIMESTAMP_LTZ(3), computed from a BIGINT.
    Computed,
}

/// A declared table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Whether rows are taken back.
    pub(crate) updating: bool,
    /// The column of event time.
    pub(crate) time_column: &'static str,
    pub(crate) time: Time,
    /// What the watermark stays behind the greatest time, in milliseconds.
    pub(crate) delay: i64,
    /// Whether keys and numbers are drawn from a wide range.
    pub(crate) wide: bool,
}

/// Columns that only the reference reads. `mark`: the watermark that a suspect came below. `gone`: the row was taken
/// back, by a suspect that came below it. `at_now`: the processing time of the row's step. `ordinal`: its number.
const HIDDEN: &str = "mark TIMESTAMP(3), gone TIMESTAMP(3), at_now TIMESTAMP_LTZ(3), ordinal BIGINT";

impl Table {
    /// The table that most queries are over.
    pub(crate) fn first(choices: &mut Choices, updating: bool) -> Table {
        let time = [Time::Millis, Time::Millis, Time::Ltz, Time::Micros, Time::Computed][choices.below(5) as usize];
        let delay = [5_000, 5_000, 4_000, 9_500][choices.below(4) as usize];
        Table { name: "t", updating, time_column: "ts", time, delay, wide: false }
    }

    /// A table with other columns and another watermark, whose time has the type of `other`'s.
    pub(crate) fn second(choices: &mut Choices, other: &Table) -> Table {
        let time = if other.time == Time::Computed { Time::Ltz } else { other.time };
        let delay = [4_000, 7_000][choices.below(2) as usize];
        let updating = choices.one_in(4);
        Table { name: "u", updating, time_column: "at", time, delay, wide: false }
    }

    /// The statement that declares it.
    pub(crate) fn declaration(&self) -> String {
        let Table { name, time_column, .. } = self;
        let seconds = format!("{}.{:03}", self.delay / 1_000, self.delay % 1_000);
        let changelog = if self.updating { ", 'changelog' = 'true'" } else { "" };
        let time = match self.time {
            Time::Millis => format!("{time_column} TIMESTAMP(3)"),
            Time::Micros => format!("{time_column} TIMESTAMP(6)"),
            Time::Ltz => format!("{time_column} TIMESTAMP_LTZ(3)"),
            Time::Computed => format!("ms BIGINT, {time_column} AS TO_TIMESTAMP_LTZ(ms, 3)"),
        };
        let columns = match *name {
            "t" => {
                "k INT, g STRING, v BIGINT, i INT, d DOUBLE, f FLOAT, p BOOLEAN, n DECIMAL(10, 2), s SMALLINT, \
                 a ARRAY<INT>, m MAP<STRING, INT>, r ROW<x INT, y STRING, z ROW<w BIGINT>>, \
                 rs ARRAY<ROW<x INT, y STRING>>, q STRING, twice AS v * 2, rx AS r.x"
            }
            _ => "a INT, b BIGINT, name STRING, c DOUBLE, `in` ROW<v INT>",
        };
        // Rows that are taken back have no time at which they came.
        let clock = if *name == "t" && !self.updating { ", pt AS PROCTIME()" } else { "" };
        format!(
            "CREATE TABLE {name} ({columns}{clock}, {time}, {HIDDEN},\n  WATERMARK FOR {time_column} AS {time_column} - INTERVAL \
             '{seconds}' SECOND) WITH ('connector' = 'test'{changelog});\n"
        )
    }

    /// A row at a time; without a time column when that is computed.
    pub(crate) fn row(&self, rng: &mut Rng, time: i64) -> Object {
        let mut row = Object::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                row.insert(name.to_string(), value);
            }
        };
        match self.name {
            "t" => {
                put("k", maybe(rng, |rng| json!(rng.below(4))));
                put("g", maybe(rng, text));
                put("v", maybe(rng, |rng| json!(self.number(rng))));
                put("i", maybe(rng, |rng| json!(rng.below(7) as i64 - 3)));
                put("d", maybe(rng, |rng| double(rng, self.wide)));
                put("f", maybe(rng, |rng| json!([0.5, -2.25, 3.0, 1e6][rng.below(4) as usize])));
                put("p", maybe(rng, |rng| json!(rng.chance(1, 2))));
                put("n", maybe(rng, |rng| json!(format!("{:.2}", (rng.below(700) as f64 - 300.0) / 100.0))));
                put("s", maybe(rng, |rng| json!(rng.below(400) as i64 - 200)));
                put("a", maybe(rng, |rng| items(rng, |rng| maybe(rng, |rng| json!(rng.below(4))))));
                put("m", maybe(rng, pairs));
                put("r", maybe(rng, row_value));
                put("rs", maybe(rng, |rng| items(rng, |rng| maybe(rng, row_value))));
                put("q", maybe(rng, |rng| json!(["1", "7", "x", "-3", "2.5", ""][rng.below(6) as usize])));
            }
            _ => {
                put("a", maybe(rng, |rng| json!(rng.below(4))));
                put("b", maybe(rng, |rng| json!(self.number(rng))));
                put("name", maybe(rng, text));
                put("c", maybe(rng, |rng| double(rng, false)));
                put("in", maybe(rng, |rng| json!({"v": rng.below(3)})));
            }
        }
        let micros = rng.below(1_000);
        match self.time {
            Time::Millis => put(self.time_column, json!(wall(time))),
            Time::Micros => put(self.time_column, json!(format!("{}{micros:03}", wall(time)))),
            Time::Ltz => put(self.time_column, json!(format!("{}Z", wall(time)))),
            Time::Computed => put("ms", json!(time)),
        }
        row
    }

    fn number(&self, rng: &mut Rng) -> i64 {
        if self.wide { rng.below(1_000_000) as i64 - 100_000 } else { rng.below(21) as i64 - 10 }
    }
}

/// A time in milliseconds as it is written on a clock in UTC.
pub(crate) fn wall(time: i64) -> String {
    let time = DateTime::from_timestamp_millis(time).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

fn maybe(rng: &mut Rng, value: impl FnOnce(&mut Rng) -> Value) -> Value {
    if rng.chance(1, 8) { Value::Null } else { value(rng) }
}

fn text(rng: &mut Rng) -> Value {
    json!(["a", "b", "bb", "é"][rng.below(4) as usize])
}

fn double(rng: &mut Rng, wide: bool) -> Value {
    if wide {
        return json!((rng.next_f64() - 0.3) * 1e6);
    }
    json!([0.1, 0.2, -1e17, 1e17, 3.5, -0.7][rng.below(6) as usize])
}

fn items(rng: &mut Rng, item: impl Fn(&mut Rng) -> Value) -> Value {
    (0..rng.below(4)).map(|_| item(rng)).collect()
}

fn pairs(rng: &mut Rng) -> Value {
    let keys = ["x", "y", "z"];
    let from = rng.below(3) as usize;
    keys[from..].iter().map(|key| json!([key, maybe(rng, |rng| json!(rng.below(5)))])).collect()
}

fn row_value(rng: &mut Rng) -> Value {
    json!({
        "x": maybe(rng, |rng| json!(rng.below(4))),
        "y": maybe(rng, text),
        "z": maybe(rng, |rng| json!({"w": maybe(rng, |rng| json!(rng.below(100)))})),
    })
}
