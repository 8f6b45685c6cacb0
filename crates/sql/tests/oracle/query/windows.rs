//! Windows: table functions and group windows, by event time and by processing time, with rows that come too late.

use super::super::script::Which;
use super::super::table::Time;
use super::{Asked, Closing, Draw, Query};

/// What a row's windows have to do with what it came below.
const ON_TIME: &str = "(mark IS NULL OR window_end > mark) AND (gone IS NULL OR window_end <= gone)";

/// Windows of one kind.
#[derive(Clone, Copy)]
struct Window {
    kind: &'static str,
    args: &'static str,
}

impl Window {
    fn over(self, table: &str, time: &str) -> String {
        format!("TABLE({}(TABLE {table}, DESCRIPTOR({time}), {}))", self.kind, self.args)
    }
}

const TUMBLE: Window = Window { kind: "TUMBLE", args: "INTERVAL '4' SECOND" };
const SHIFTED: Window = Window { kind: "TUMBLE", args: "INTERVAL '7' SECOND, INTERVAL '2' SECOND" };
const HOP: Window = Window { kind: "HOP", args: "INTERVAL '2' SECOND, INTERVAL '6' SECOND" };
const CUMULATE: Window = Window { kind: "CUMULATE", args: "INTERVAL '3' SECOND, INTERVAL '9' SECOND" };

fn also(filter: &str, condition: &str) -> String {
    if filter.is_empty() { format!(" WHERE {condition}") } else { format!("{filter} AND {condition}") }
}

impl Draw<'_> {
    fn window(&mut self) -> Window {
        [TUMBLE, SHIFTED, HOP, CUMULATE][self.choices.below(4) as usize]
    }

    fn key(&mut self) -> &'static str {
        self.one(&["", "k, ", "g, ", "k, g, ", "p, "])
    }

    pub(super) fn windowed(&mut self) -> Query {
        self.window_query("ts", false)
    }

    /// The same with rows below the watermark, partitions that fall silent, and a second chance.
    pub(super) fn late(&mut self) -> Query {
        if self.choices.one_in(4) {
            return self.late_sessions();
        }
        let mut query = self.window_query("ts", true);
        query.manner.late = true;
        query.which = Which::Marked;
        self.allow(&mut query);
        query
    }

    fn allow(&mut self, query: &mut Query) {
        query.lateness = [0, 0, 3_000, 10_000][self.choices.below(4) as usize];
        if query.lateness > 0 {
            query.settings.push_str(&format!("SET 'allowed-lateness' = '{} s';\n", query.lateness / 1_000));
        }
    }

    fn window_query(&mut self, time: &str, late: bool) -> Query {
        let (window, key) = (self.window(), self.key());
        let calls = match self.choices.one_in(8) {
            true => String::new(),
            false => format!(", {}", self.calls()),
        };
        let filter = self.filtered();
        let emit = if self.choices.one_in(3) { " EMIT CHANGES" } else { "" };
        let having = if self.choices.one_in(6) { " HAVING COUNT(*) > 1" } else { "" };
        let extra = if self.choices.one_in(6) { ", window_time" } else { "" };
        let by = format!("{key}window_start, window_end{extra}");
        let over = window.over("t", time);
        let known = if late { also(&filter, ON_TIME) } else { filter.clone() };
        let reference = format!("SELECT {by}{calls} FROM {over}{known} GROUP BY {by}{having}");
        let grouped = window.args != SHIFTED.args && window.kind != "CUMULATE" && self.choices.one_in(3);
        let select = match grouped {
            true => grouped_by(window, key, &calls, &filter, having, !extra.is_empty()),
            false => format!("SELECT {by}{calls} FROM {over}{filter} GROUP BY {by}{having}"),
        };
        let mut query = self.query("");
        query.asked = Asked::One { select, emit, reference };
        query.closing = emit.is_empty().then_some(Closing::Watermark);
        if late {
            let below = also(&filter, "mark IS NOT NULL");
            query.late_rows = Some(format!(
                "SELECT ordinal, MAX(window_end) AS e FROM {over}{below} GROUP BY ordinal, mark \
                 HAVING MAX(window_end) <= mark"
            ));
        }
        query
    }

    pub(super) fn sessions(&mut self) -> Query {
        let partitioned = self.choices.one_in(2);
        let (partition, key) = if partitioned { (" PARTITION BY k", "k, ") } else { ("", "") };
        let calls = self.calls();
        let emit = if self.choices.one_in(3) { " EMIT CHANGES" } else { "" };
        let by = format!("{key}window_start, window_end");
        let window = format!("TABLE(SESSION(TABLE t{partition}, DESCRIPTOR(ts), INTERVAL '2' SECOND))");
        let mut query = match self.choices.below(4) {
            2 => {
                let filter = self.filtered();
                let gap = "ts, INTERVAL '2' SECOND";
                let mut query = self.query(format!(
                    "SELECT {key}SESSION_START({gap}) AS window_start, SESSION_END({gap}) AS window_end, {calls} \
                     FROM t{filter} GROUP BY {key}SESSION({gap})"
                ));
                query.views = format!("CREATE VIEW kept AS SELECT * FROM t{filter};\n");
                query.set_reference(format!(
                    "SELECT {by}, {calls} FROM TABLE(SESSION(TABLE kept{partition}, DESCRIPTOR(ts), \
                     INTERVAL '2' SECOND)) GROUP BY {by}"
                ));
                query
            }
            // A condition over the sessions' rows leaves the sessions as they are.
            3 => {
                let filter = format!(" WHERE {}", self.predicate());
                self.query(format!("SELECT {by}, {calls} FROM {window}{filter} GROUP BY {by}"))
            }
            _ => self.query(format!("SELECT {by}, {calls} FROM {window} GROUP BY {by}")),
        };
        query.set_emit(emit);
        query.closing = emit.is_empty().then_some(Closing::AfterWatermark);
        query
    }

    fn late_sessions(&mut self) -> Query {
        if matches!(self.table.time, Time::Ltz | Time::Computed) {
            self.table.time = Time::Millis;
        }
        let (partition, key) = if self.choices.one_in(2) { (" PARTITION BY k", "k, ") } else { ("", "") };
        let calls = self.calls();
        let emit = if self.choices.one_in(3) { " EMIT CHANGES" } else { "" };
        let by = format!("{key}window_start, window_end");
        let over = |table: &str| {
            let window = format!("SESSION(TABLE {table}{partition}, DESCRIPTOR(ts), INTERVAL '2' SECOND)");
            format!("SELECT {by}, {calls} FROM TABLE({window}) GROUP BY {by}")
        };
        let mut query = self.query(over("t"));
        query.views =
            "CREATE VIEW on_time AS SELECT * FROM t WHERE (mark IS NULL OR ts >= mark) AND (gone IS NULL OR ts < \
                       gone);\n"
                .to_string();
        query.set_reference(over("on_time"));
        query.set_emit(emit);
        query.closing = emit.is_empty().then_some(Closing::AfterWatermark);
        query.late_rows = Some("SELECT ordinal FROM t WHERE ts < mark".to_string());
        query.manner.late = true;
        query.which = Which::Marked;
        self.allow(&mut query);
        query
    }

    /// Windows over windows, and rows with their windows.
    pub(super) fn of_windows(&mut self) -> Query {
        let window = self.window().over("t", "ts");
        let outer = self.one(&["COUNT(*)", "MAX(c)", "SUM(c)", "MIN(c)"]);
        let filter = self.filtered();
        let by = "window_start, window_end";
        match self.choices.below(5) {
            0 => {
                let inner =
                    format!("SELECT k, {by}, COUNT(v) AS c FROM {window}{filter} GROUP BY k, window_start, window_end");
                let mut query = self.query(format!("SELECT {by}, {outer} AS o FROM ({inner}) GROUP BY {by}"));
                query.closing = Some(Closing::Watermark);
                query
            }
            1 => {
                let filter = also(&filter, "EXTRACT(SECOND FROM window_start) < 30");
                self.query(format!("SELECT k, v, {by} FROM {window}{filter}"))
            }
            2 => {
                let calls = self.unordered_calls();
                self.query(format!("SELECT k, window_end, {calls} FROM {window}{filter} GROUP BY k, window_end"))
            }
            3 => {
                let calls = self.unordered_calls();
                let filter = also(&filter, "window_end > TIMESTAMP '2023-11-14 22:13:24'");
                let mut query = self.query(format!("SELECT g, {by}, {calls} FROM {window}{filter} GROUP BY g, {by}"));
                query.closing = Some(Closing::Watermark);
                query
            }
            // A window over the time of windows: wider ones made of narrower ones.
            _ => {
                let inner = TUMBLE.over("t", "ts");
                let mut query = self.query(format!(
                    "SELECT k, {by}, {outer} AS o FROM TABLE(TUMBLE(TABLE narrow, DESCRIPTOR(wt), INTERVAL '12' SECOND)) \
                     GROUP BY k, {by}"
                ));
                query.views = format!(
                    "CREATE VIEW narrow AS SELECT k, window_time AS wt, COUNT(*) AS c FROM {inner}{filter} GROUP BY k, \
                     {by}, window_time;\n"
                );
                query.closing = Some(Closing::Watermark);
                query
            }
        }
    }

    /// Windows by the clock: the reference reads the processing time of each row's step from a column.
    pub(super) fn by_processing_time(&mut self) -> Query {
        self.updating = false;
        self.table.updating = false;
        let (window, key) = (self.window(), self.key());
        let (calls, filter) = (self.calls(), self.filtered());
        let by = format!("{key}window_start, window_end");
        let over = |time| {
            let window = window.over("t", time);
            format!("SELECT {by}, {calls} FROM {window}{filter} GROUP BY {by}")
        };
        let mut query = self.query(over("pt"));
        query.set_reference(over("at_now"));
        let emit = if self.choices.one_in(4) { " EMIT CHANGES" } else { "" };
        query.set_emit(emit);
        query.closing = emit.is_empty().then_some(Closing::Now);
        query.zoned = false;
        query
    }
}

impl Query {
    pub(super) fn set_reference(&mut self, text: String) {
        if let Asked::One { reference, .. } = &mut self.asked {
            *reference = text;
        }
    }

    pub(super) fn set_emit(&mut self, text: &'static str) {
        if let Asked::One { emit, .. } = &mut self.asked {
            *emit = text;
        }
    }
}

/// The group window that stands for a window table function.
fn grouped_by(window: Window, key: &str, calls: &str, filter: &str, having: &str, with_time: bool) -> String {
    let Window { kind, args } = window;
    let part = |part: &str, name: &str| format!("{kind}_{part}(ts, {args}) AS {name}");
    let time = if with_time { format!(", {}", part("ROWTIME", "window_time")) } else { String::new() };
    format!(
        "SELECT {key}{}, {}{time}{calls} FROM t{filter} GROUP BY {key}{kind}(ts, {args}){having}",
        part("START", "window_start"),
        part("END", "window_end"),
    )
}
