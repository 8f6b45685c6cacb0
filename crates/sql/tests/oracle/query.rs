//! Queries, drawn from the whole grammar that the engine runs: what it is asked, and what the reference is asked.
//!
//! The two are the same text where batch and stream mean the same. Where a stream knows more (rows that come too late,
//! windows that are still open, processing time, rows on which an expression fails) the reference says it in SQL over
//! columns that the script fills. One file a part of the grammar.

#[path = "query/joined.rs"]
mod joined;
#[path = "query/lookups.rs"]
mod lookups;
#[path = "query/over.rs"]
mod over;
#[path = "query/ranks.rs"]
mod ranks;
#[path = "query/several.rs"]
mod several;
#[path = "query/terms.rs"]
mod terms;
#[path = "query/unnest.rs"]
mod unnest;
#[path = "query/windows.rs"]
mod windows;
#[path = "query/wrong.rs"]
mod wrong;

use super::choice::Choices;
use super::script::{Manner, Which};
use super::table::{Table, Time, wall};

/// What is asked, and what is to be known of it.
#[derive(Debug)]
pub(crate) struct Query {
    /// The tables it may read.
    pub(crate) tables: Vec<Table>,
    pub(crate) manner: Manner,
    /// SET statements.
    settings: String,
    /// Views that stand before the queries.
    views: String,
    asked: Asked,
    /// When rows leave that leave only once.
    pub(crate) closing: Option<Closing>,
    /// The rows that the reference is over.
    pub(crate) which: Which,
    /// The allowed lateness in milliseconds.
    pub(crate) lateness: i64,
    /// Whether it may be asked in a time zone: processing time is cut as it stands.
    zoned: bool,
    /// What the clock that windows are cut by is ahead of UTC, in milliseconds.
    pub(crate) offset: i64,
    /// A SELECT that gives a row for each one that is too late for everything.
    late_rows: Option<String>,
    /// A SELECT that gives a row for each one on which an expression fails.
    dead_rows: Option<String>,
}

/// The queries.
#[derive(Debug)]
enum Asked {
    /// One SELECT, and how the reference says it.
    One { select: String, emit: &'static str, reference: String },
    /// Statements, which are the same for the reference.
    Several(String),
}

/// When windows leave: their end is passed by the watermark or by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// By the watermark.
    Watermark,
    /// By more than the watermark: a session of which a row at its end would be part.
    AfterWatermark,
    /// By processing time.
    Now,
    /// By the watermark, of rows instead of windows.
    Passed,
    /// Rows without `at` leave when the watermark is above their `ts` by more seconds than this; others at once.
    Padded {
        /// Seconds.
        after: i64,
    },
    /// Rows without `partner` leave with their window, others at once.
    Unmet,
    /// By a watermark that is so many seconds behind.
    Behind {
        /// Seconds.
        seconds: i64,
    },
}

impl Query {
    pub(crate) fn draw(choices: &mut Choices) -> Query {
        let family = choices.below(55);
        let updating = choices.one_in(3);
        let table = Table::first(choices, updating);
        let mut draw = Draw { choices, updating, table };
        let mut query = match family {
            0 => draw.plain(),
            1 | 2 => draw.grouped(),
            3 => draw.total(),
            4 => draw.of_groups(),
            5 => draw.distinct(),
            6 | 7 => draw.union(),
            8..=10 => draw.windowed(),
            11 | 12 => draw.late(),
            13 => draw.sessions(),
            14 | 15 => draw.of_windows(),
            16 => draw.by_processing_time(),
            17 => draw.unnested(),
            18 => draw.windows_of_elements(),
            19 => draw.views(),
            20 => draw.statement_set(),
            21 => draw.two_tables(),
            22 => draw.failing(),
            23..=25 => draw.over(),
            26 => draw.approximate(),
            27..=29 => draw.joins(),
            30 | 31 => draw.of_joins(),
            32..=34 => draw.subqueries(),
            35 | 36 => draw.set_operations(),
            37 | 38 => draw.intervals(),
            39 => draw.window_joins(),
            40 | 41 => draw.ranked(),
            42 => draw.ranked_groups(),
            43 => draw.ranked_windows(),
            44 | 45 => draw.over_changes(),
            46 | 47 => draw.grouping_sets(),
            50..=52 => draw.lookups(),
            53 | 54 => draw.first_rows(),
            _ => draw.temporal(),
        };
        if query.zoned && choices.one_in(4) {
            query.settings.push_str("SET 'table.local-time-zone' = 'America/New_York';\n");
            let local = matches!(query.tables[0].time, Time::Ltz | Time::Computed);
            query.offset = if local { -5 * 3_600_000 } else { 0 };
        }
        query
    }

    fn of(table: Table, select: impl Into<String>) -> Query {
        let select = select.into();
        Query {
            tables: vec![table],
            manner: Manner::default(),
            settings: String::new(),
            views: String::new(),
            asked: Asked::One { reference: select.clone(), select, emit: "" },
            closing: None,
            which: Which::There,
            lateness: 0,
            zoned: true,
            offset: 0,
            late_rows: None,
            dead_rows: None,
        }
    }

    fn declarations(&self) -> String {
        let tables: String = self.tables.iter().map(Table::declaration).collect();
        format!("{}{tables}{}", self.settings, self.views)
    }

    /// What the engine is asked.
    pub(crate) fn text(&self) -> String {
        let asked = match &self.asked {
            Asked::One { select, emit, .. } => format!("CREATE MATERIALIZED VIEW answer AS {select}{emit};"),
            Asked::Several(statements) => statements.clone(),
        };
        format!("{}{asked}", self.declarations())
    }

    /// What the reference is asked when windows have closed up to `closed`, all of them when none.
    pub(crate) fn reference(&self, closed: Option<i64>) -> String {
        let asked = match &self.asked {
            Asked::One { reference, .. } => {
                let select = match (closed, self.closing) {
                    (None, _) | (_, None) => reference.clone(),
                    (Some(closed), Some(closing)) => {
                        let (end, than, behind) = match closing {
                            Closing::AfterWatermark => ("window_end", "<", 0),
                            Closing::Watermark | Closing::Now => ("window_end", "<=", 0),
                            Closing::Passed => ("CAST(ts AS TIMESTAMP(3))", "<", 0),
                            Closing::Padded { after } => ("at IS NOT NULL OR CAST(ts AS TIMESTAMP(3))", "<", after),
                            Closing::Unmet => ("partner IS NOT NULL OR window_end", "<=", 0),
                            Closing::Behind { seconds } => ("window_end", "<=", seconds),
                        };
                        let bound = wall(closed.saturating_sub(behind * 1_000).max(0) + self.offset);
                        format!("SELECT * FROM ({reference}) WHERE {end} {than} TIMESTAMP '{bound}'")
                    }
                };
                format!("CREATE MATERIALIZED VIEW answer AS {select};")
            }
            Asked::Several(statements) => statements.clone(),
        };
        format!("{}{asked}", self.declarations())
    }

    /// What gives the rows that are too late for everything.
    pub(crate) fn late_rows(&self) -> Option<String> {
        self.counted(self.late_rows.as_ref())
    }

    /// What gives the rows on which an expression fails.
    pub(crate) fn dead_rows(&self) -> Option<String> {
        self.counted(self.dead_rows.as_ref())
    }

    fn counted(&self, select: Option<&String>) -> Option<String> {
        select.map(|select| format!("{}CREATE MATERIALIZED VIEW answer AS {select};", self.declarations()))
    }
}

/// What the parts of a query are drawn with.
struct Draw<'c> {
    choices: &'c mut Choices,
    updating: bool,
    table: Table,
}

impl Draw<'_> {
    fn one(&mut self, of: &[&'static str]) -> &'static str {
        self.choices.one(of)
    }

    fn query(&self, select: impl Into<String>) -> Query {
        Query::of(self.table.clone(), select)
    }

    fn plain(&mut self) -> Query {
        let columns = self.one(&[
            "k, v",
            "k, g, v, i, d, f, p, n, s, ts",
            "v * 2 AS a, UPPER(g) AS b, k",
            "ts, twice",
            "a, m, r, k",
            "rs, q",
            "r.x AS x, t.r.z.w AS w, rx, r.y AS y",
            "a[1] AS first, m['x'] AS mx, CARDINALITY(a) AS many, rs[1].y AS ry",
            "EXTRACT(MINUTE FROM ts) AS minute_of, CAST(ts AS STRING) AS text, n * 2 AS nn",
            "TRY_CAST(q AS INT) AS number_of, COALESCE(g, q) AS word, ROW(k, g) AS pair",
        ]);
        let filter = self.filtered();
        if !self.updating && self.choices.one_in(8) {
            let mut query = self.query(format!("SELECT k, pt FROM t{filter}"));
            let reference = format!("SELECT k, at_now AS pt FROM t{filter}");
            if let Asked::One { reference: of, .. } = &mut query.asked {
                *of = reference;
            }
            return query;
        }
        self.query(format!("SELECT {columns} FROM t{filter}"))
    }

    fn grouped(&mut self) -> Query {
        let keys = self.keys();
        let (calls, filter) = (self.calls(), self.filtered());
        let having = match self.choices.below(5) {
            3 => " HAVING COUNT(*) > 1",
            4 => " HAVING SUM(v) > 0 OR MIN(g) = 'a'",
            _ => "",
        };
        let named: Vec<_> = keys.split(", ").enumerate().map(|(index, key)| format!("{key} AS k{index}")).collect();
        self.query(format!("SELECT {}, {calls} FROM t{filter} GROUP BY {keys}{having}", named.join(", ")))
    }

    fn total(&mut self) -> Query {
        let (calls, filter) = (self.calls(), self.filtered());
        let having = if self.choices.one_in(6) { " HAVING COUNT(*) > 3" } else { "" };
        self.query(format!("SELECT {calls} FROM t{filter}{having}"))
    }

    fn distinct(&mut self) -> Query {
        let columns = self.one(&["k", "g", "k, g", "p, k % 2 AS m", "d, f", "rx, r.y AS y", "ts"]);
        let filter = self.filtered();
        self.query(format!("SELECT DISTINCT {columns} FROM t{filter}"))
    }

    /// An aggregate over an aggregate: what the inner one changes, the outer one takes back.
    fn of_groups(&mut self) -> Query {
        let inner = self.one(&[
            "COUNT(*)",
            "SUM(v)",
            "MAX(v)",
            "MIN(i)",
            "COUNT(DISTINCT g)",
            "AVG(n)",
            "MAX(g)",
            "BOOL_OR(p)",
        ]);
        let number = !matches!(inner, "MAX(g)" | "BOOL_OR(p)");
        let outer = match number {
            true => {
                self.one(&["COUNT(*)", "SUM(c)", "MAX(c)", "MIN(c)", "COUNT(DISTINCT c)", "AVG(c)", "SUM(DISTINCT c)"])
            }
            false => self.one(&["COUNT(*)", "MAX(c)", "MIN(c)", "COUNT(DISTINCT c)", "COUNT(c)"]),
        };
        let filter = self.filtered();
        let select = match self.choices.below(3) {
            0 => format!(
                "SELECT k, {outer} AS o FROM (SELECT k, g, {inner} AS c FROM t{filter} GROUP BY k, g) GROUP BY k"
            ),
            1 => format!("SELECT c, COUNT(*) AS o FROM (SELECT g, {inner} AS c FROM t{filter} GROUP BY g) GROUP BY c"),
            _ => format!("SELECT {outer} AS o FROM (SELECT DISTINCT k, g, {inner} AS c FROM t{filter} GROUP BY k, g)"),
        };
        self.query(select)
    }

    /// Estimates, over few values and over thousands.
    fn approximate(&mut self) -> Query {
        let mut calls = Vec::new();
        for index in 0..=self.choices.below(2) {
            let over = self.one(&["v", "g", "d", "k", "i", "ts", "a[1]"]);
            let number = self.one(&["v", "d", "i", "n", "v + i"]);
            let share = self.one(&["0.5", "0", "0.99", "1", "0.25"]);
            let call = match self.choices.below(2) {
                0 => format!("APPROX_COUNT_DISTINCT({over})"),
                _ => format!("APPROX_QUANTILE({number}, {share})"),
            };
            let name = if call.contains("COUNT") { "about" } else { "quantile" };
            let filter =
                if self.choices.one_in(4) { format!(" FILTER (WHERE {})", self.predicate()) } else { String::new() };
            calls.push(format!("{call}{filter} AS {name}{index}"));
        }
        let calls = calls.join(", ");
        let filter = self.filtered();
        let (select, closing) = match self.choices.below(4) {
            0 => (format!("SELECT k, {calls} FROM t{filter} GROUP BY k"), None),
            1 => (format!("SELECT {calls} FROM t{filter}"), None),
            2 => {
                let window = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '20' SECOND))";
                let by = "window_start, window_end";
                (format!("SELECT {by}, {calls} FROM {window}{filter} GROUP BY {by}"), Some(Closing::Watermark))
            }
            _ => {
                let window = "TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '30' SECOND))";
                let by = "window_start, window_end";
                (format!("SELECT p, {by}, {calls} FROM {window}{filter} GROUP BY p, {by}"), Some(Closing::Watermark))
            }
        };
        let mut query = self.query(select);
        query.closing = closing;
        if self.choices.one_in(3) {
            query.manner.large = true;
            query.tables[0].wide = true;
        }
        query
    }
}
