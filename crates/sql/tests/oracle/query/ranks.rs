//! Rankings, OVER that follows changes, several grouping sets, and joins as of a time.
//!
//! Rows that an order does not tell apart are ordered by their other columns, and columns that nothing names may be gone. So
//! ranks that depend on such rows are asked for together with all columns, or by orders that name a row.

use super::super::table::{Table, Time};
use super::{Asked, Closing, Draw, Query};

/// The columns that are ranked, which all have an order.
const COLUMNS: &str = "k, g, v, i, p, n, ts";

impl Draw<'_> {
    fn ranked_order(&mut self) -> &'static str {
        self.one(&[
            "v",
            "v DESC",
            "v DESC, ts",
            "g NULLS LAST, i DESC",
            "ts DESC",
            "ts, v",
            "v % 3, k DESC NULLS FIRST",
            "n DESC NULLS LAST",
            "p, i, g",
            "i * v DESC",
        ])
    }

    fn ranked_key(&mut self) -> &'static str {
        self.one(&["", "PARTITION BY k ", "PARTITION BY g ", "PARTITION BY k, p ", "PARTITION BY v % 2 "])
    }

    fn ranked_function(&mut self) -> &'static str {
        self.one(&["ROW_NUMBER", "ROW_NUMBER", "RANK", "DENSE_RANK"])
    }

    fn bound(&mut self) -> &'static str {
        self.one(&[
            "r = 1",
            "r <= 1",
            "r <= 3",
            "r < 3",
            "2 >= r",
            "r BETWEEN 2 AND 4",
            "r = 2",
            "r > 2",
            "r <= 3 AND v > 0",
            "r IN (1)",
            "r <= 4 AND r <> 2",
            "r <= 2 AND p",
        ])
    }

    pub(super) fn ranked(&mut self) -> Query {
        let (filter, key, order) = (self.filtered(), self.ranked_key(), self.ranked_order());
        let (function, bound) = (self.ranked_function(), self.bound());
        let inner = format!("SELECT {COLUMNS} FROM t{filter}");
        let over = format!("{function}() OVER ({key}ORDER BY {order})");
        let ranked = format!("(SELECT {COLUMNS}, {over} AS r FROM ({inner}))");
        let select = match self.choices.below(6) {
            0 | 1 => format!("SELECT * FROM {ranked} WHERE {bound}"),
            2 | 3 => format!("SELECT {COLUMNS} FROM {ranked} WHERE {bound}"),
            4 => format!(
                "SELECT {COLUMNS} FROM ({inner}) QUALIFY {}",
                bound.replace("r ", &format!("{over} ")).replace(">= r", &format!(">= {over}"))
            ),
            // Rows that are equal have one rank, so that all of them are there or none.
            _ => {
                let ranked = ranked.replace("ROW_NUMBER", "RANK");
                let outer =
                    self.one(&["COUNT(*) AS c, SUM(v) AS s", "MAX(n) AS m, COUNT(DISTINCT g) AS d", "MIN(v) AS m"]);
                format!("SELECT k, {outer} FROM {ranked} WHERE {bound} GROUP BY k")
            }
        };
        self.query(select)
    }

    /// The first rows of all.
    pub(super) fn first_rows(&mut self) -> Query {
        let (filter, order) = (self.filtered(), self.ranked_order());
        let limit = self.one(&[
            "LIMIT 1",
            "LIMIT 3",
            "LIMIT 4 OFFSET 2",
            "OFFSET 3",
            "OFFSET 1 ROWS FETCH NEXT 2 ROWS ONLY",
            "FETCH FIRST ROW ONLY",
        ]);
        // No two rows that are not equal have one place.
        let first = |columns: &str| format!("SELECT {columns} FROM t{filter} ORDER BY {order}, {COLUMNS} {limit}");
        let select = match self.choices.below(7) {
            0 | 1 => first(COLUMNS),
            2 => format!("SELECT k, COUNT(*) AS c, SUM(v) AS s FROM ({}) GROUP BY k", first("k, v")),
            3 => format!("SELECT v, g FROM ({}) WHERE v > 0", first(COLUMNS)),
            4 => {
                let direction = self.one(&["", " DESC", " DESC NULLS LAST"]);
                format!("SELECT k, g, COUNT(*) AS c FROM t{filter} GROUP BY k, g ORDER BY c{direction}, k, g {limit}")
            }
            5 => format!("SELECT k, v FROM (SELECT {COLUMNS} FROM t) WHERE i IN ({})", first("i")),
            _ => {
                let order = self.one(&["v", "v DESC", "v NULLS LAST"]);
                let least = format!("SELECT v FROM t{filter} ORDER BY {order} LIMIT 1");
                format!("SELECT k, v FROM (SELECT {COLUMNS} FROM t) WHERE v >= ({least})")
            }
        };
        self.query(select)
    }

    /// The first rows of each group of groups: what an aggregate changes changes ranks.
    pub(super) fn ranked_groups(&mut self) -> Query {
        let filter = self.filtered();
        let call = self.one(&["COUNT(*)", "SUM(v)", "MAX(i)", "COUNT(DISTINCT g)", "MIN(n)"]);
        let direction = self.one(&["", " DESC", " DESC NULLS LAST"]);
        let (function, bound) = (self.ranked_function(), self.one(&["r <= 2", "r = 1", "r BETWEEN 2 AND 3", "r >= 2"]));
        let groups = format!("SELECT k, g, {call} AS c FROM t{filter} GROUP BY k, g");
        let key = self.one(&["PARTITION BY k ", "", "PARTITION BY g "]);
        let over = format!("{function}() OVER ({key}ORDER BY c{direction}, k, g)");
        let kept = self.one(&["k, g, c", "k, g, c, r", "k, c"]);
        self.query(format!("SELECT {kept} FROM (SELECT k, g, c, {over} AS r FROM ({groups})) WHERE {bound}"))
    }

    pub(super) fn ranked_windows(&mut self) -> Query {
        let filter = self.filtered();
        let (size, by) = ("INTERVAL '4' SECOND", "window_start, window_end");
        let window = match self.choices.below(3) {
            0 => format!("TABLE(TUMBLE(TABLE x, DESCRIPTOR(ts), {size}))"),
            1 => "TABLE(HOP(TABLE x, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND))".to_string(),
            _ => "TABLE(CUMULATE(TABLE x, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '9' SECOND))".to_string(),
        };
        let function = self.ranked_function();
        let (bound, key) = (self.one(&["r <= 2", "r = 1", "r BETWEEN 2 AND 3"]), self.one(&["", ", k", ", p"]));
        let emit = if self.choices.one_in(3) { " EMIT CHANGES" } else { "" };
        let kept = if self.choices.one_in(2) { ", r" } else { "" };
        let select = match self.choices.one_in(2) {
            true => {
                let over = format!("{function}() OVER (PARTITION BY {by}{key} ORDER BY v DESC, g)");
                format!(
                    "SELECT k, g, v, i, p, {by}{kept} FROM (SELECT k, g, v, i, p, {by}, {over} AS r FROM {window}) WHERE {bound}"
                )
            }
            false => {
                let over = format!("{function}() OVER (PARTITION BY {by} ORDER BY c DESC, k NULLS LAST)");
                let groups = format!("SELECT k, {by}, COUNT(*) AS c, SUM(v) AS s FROM {window} GROUP BY k, {by}");
                format!(
                    "SELECT k, c, s, {by}{kept} FROM (SELECT k, c, s, {by}, {over} AS r FROM ({groups})) WHERE {bound}"
                )
            }
        };
        let mut query = self.query(&select);
        query.views = format!("CREATE VIEW x AS SELECT k, g, v, i, p, ts FROM t{filter};\n");
        query.asked = Asked::One { select: select.clone(), emit, reference: select };
        query.closing = emit.is_empty().then_some(Closing::Watermark);
        query
    }

    pub(super) fn over_changes(&mut self) -> Query {
        let filter = self.filtered();
        let mut calls = Vec::new();
        for index in 0..=self.choices.below(3) {
            calls.push(format!("{} AS c{index}", self.changing_call()));
        }
        if matches!(self.table.time, Time::Micros) {
            self.table.time = Time::Millis;
        }
        let calls = calls.join(", ");
        let inner = format!("SELECT {COLUMNS} FROM t{filter}");
        let select = match self.choices.below(4) {
            0 => format!("SELECT * FROM (SELECT {COLUMNS}, {calls} FROM ({inner})) WHERE c0 IS NOT NULL"),
            1 => {
                let over = "ROW_NUMBER() OVER (PARTITION BY k ORDER BY v, ts, g, i, p, n)";
                let kept = format!("SELECT {COLUMNS} FROM (SELECT {COLUMNS}, {over} AS r FROM ({inner})) WHERE r <= 3");
                format!("SELECT {COLUMNS}, {calls} FROM ({kept})")
            }
            _ => format!("SELECT {COLUMNS}, {calls} FROM ({inner})"),
        };
        self.query(select)
    }

    fn changing_call(&mut self) -> String {
        let (key, order) = (self.ranked_key(), self.ranked_order());
        match self.choices.below(5) {
            0 => {
                let call = self.one(&[
                    "ROW_NUMBER()",
                    "RANK()",
                    "DENSE_RANK()",
                    "LAG(v)",
                    "LEAD(g, 2, 'none')",
                    "LEAD(v + i)",
                ]);
                return format!("{call} OVER ({key}ORDER BY {order})");
            }
            1 => {
                let call = self.one(&["SUM(v)", "COUNT(*)", "MAX(g)", "COUNT(DISTINCT g)", "AVG(n)"]);
                return format!("{call} OVER ({})", key.trim_end());
            }
            2 => {
                let call = self.one(&["SUM(v)", "COUNT(*)", "MIN(i)", "AVG(v)", "COUNT(DISTINCT i)"]);
                let frame = self.one(&[
                    "INTERVAL '2' SECOND PRECEDING AND INTERVAL '3' SECOND FOLLOWING",
                    "CURRENT ROW AND INTERVAL '5' SECOND FOLLOWING",
                    "INTERVAL '4' SECOND PRECEDING AND INTERVAL '1' SECOND PRECEDING",
                    "UNBOUNDED PRECEDING AND INTERVAL '2' SECOND FOLLOWING",
                    "INTERVAL '1' SECOND FOLLOWING AND UNBOUNDED FOLLOWING",
                ]);
                return format!("{call} OVER ({key}ORDER BY ts RANGE BETWEEN {frame})");
            }
            _ => {}
        }
        let call = self.one(&[
            "SUM(v)",
            "COUNT(*)",
            "MIN(v)",
            "MAX(g)",
            "AVG(v)",
            "AVG(n)",
            "COUNT(DISTINCT g)",
            "BOOL_OR(p)",
            "FIRST_VALUE(v)",
            "LAST_VALUE(g)",
            "SUM(v) FILTER (WHERE p)",
        ]);
        let frame = self.one(&[
            "",
            " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
            " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
            " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            " ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING",
            " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            " RANGE BETWEEN CURRENT ROW AND CURRENT ROW",
        ]);
        format!("{call} OVER ({key}ORDER BY {order}{frame})")
    }

    pub(super) fn grouping_sets(&mut self) -> Query {
        let filter = self.filtered();
        // Exact ones alone: rows of several sets may be equal but for what they give.
        let calls = self.one(&[
            "COUNT(*) AS c",
            "SUM(v) AS s, MIN(g) AS m",
            "COUNT(DISTINCT i) AS c, MAX(n) AS m",
            "AVG(n) AS a, BOOL_OR(p) AS o",
            "MAX(v) FILTER (WHERE p) AS m, COUNT(k) AS c",
            "SUM(DISTINCT v) AS s",
        ]);
        let grouping = self.one(&["", ", GROUPING(k) AS gk", ", GROUPING(g, k) AS gk", ", GROUPING_ID(p, k, g) AS gk"]);
        let sets = match grouping.contains('p') {
            true => self.one(&["CUBE (k, g, p)", "ROLLUP (p, g, k)", "GROUPING SETS ((k, g), (p), ())"]),
            false => self.one(&[
                "ROLLUP (k, g)",
                "CUBE (k, g)",
                "GROUPING SETS ((k), (g))",
                "GROUPING SETS ((k, g), (k), ())",
                "GROUPING SETS ((k), (g, k), (k))",
                "k, ROLLUP (g)",
                "GROUPING SETS ((k, g))",
            ]),
        };
        let having =
            if grouping.contains("GROUPING(k)") && self.choices.one_in(2) { " HAVING GROUPING(k) = 1" } else { "" };
        // In batch the empty set has a row where there are no rows.
        let there = if having.is_empty() { " HAVING COUNT(*) > 0" } else { " HAVING GROUPING(k) = 1 AND COUNT(*) > 0" };
        let p = if grouping.contains('p') { ", p" } else { "" };
        if self.choices.one_in(3) {
            let (by, window) =
                ("window_start, window_end", "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '4' SECOND))");
            let select = format!("SELECT k, g{p}, {by}, {calls}{grouping} FROM {window}{filter} GROUP BY {by}, {sets}");
            let mut query = self.query(format!("{select}{having}"));
            query.set_reference(format!("{select}{there}"));
            query.closing = Some(Closing::Watermark);
            return query;
        }
        let select = format!("SELECT k, g{p}, {calls}{grouping} FROM t{filter} GROUP BY {sets}");
        let mut query = self.query(format!("{select}{having}"));
        query.set_reference(format!("{select}{there}"));
        query
    }

    /// The version of a second table at the time of each row: by a view that keeps the last rows, and by ASOF.
    pub(super) fn temporal(&mut self) -> Query {
        self.updating = false;
        self.table.updating = false;
        let mut second = Table::second(self.choices, &self.table);
        second.updating = false;
        let filter = self.one(&["", " WHERE v > 3", " WHERE g = 'a' OR p", " WHERE NOT p"]);
        let left = self.one(&["LEFT JOIN", "JOIN"]);
        let also = self.one(&["", " AND u.b > 0", " AND u.b > l.v"]);
        let rows = format!("(SELECT k, g, v, ts, ordinal FROM t{filter})");
        let (left, select, versions, than) = match self.choices.below(3) {
            0 => {
                let strict = self.one(&[">=", ">"]);
                let select = format!(
                    "SELECT l.k, l.v, l.ts, u.b, u.name, u.at FROM {rows} AS l ASOF JOIN u MATCH_CONDITION (l.ts {strict} u.at) \
                     ON l.k = u.a{also}"
                );
                ("LEFT JOIN", select, "u", strict)
            }
            _ => {
                let select = format!(
                    "SELECT l.k, l.v, l.ts, u.b, u.name, u.at FROM {rows} AS l {left} last FOR SYSTEM_TIME AS OF l.ts AS u \
                     ON l.k = u.a{also}"
                );
                (left, select, "last", ">=")
            }
        };
        // A row's version is found first, and the rest of the condition is looked at then.
        let ties = if versions == "u" { "ordinal DESC" } else { "b, name" };
        let found = format!(
            "(SELECT l.k, l.g, l.v, l.ts, l.ordinal, r.a, r.b, r.name, r.at, ROW_NUMBER() OVER (PARTITION BY l.ordinal ORDER BY \
             r.at DESC, r.{}) AS n FROM {rows} AS l JOIN u AS r ON l.k = r.a WHERE l.ts {than} r.at)",
            ties.replace(", ", ", r.")
        );
        let reference = format!(
            "SELECT l.k, l.v, l.ts, u.b, u.name, u.at FROM {rows} AS l {left} (SELECT * FROM {found} WHERE n = 1) AS u \
             ON l.ordinal = u.ordinal{also}"
        );
        let mut query = self.query("");
        query.asked = Asked::One { select, emit: "", reference };
        query.views =
            "CREATE VIEW last AS SELECT a, b, name, at FROM (SELECT a, b, name, at, ROW_NUMBER() OVER (PARTITION BY a \
                       ORDER BY at DESC) AS n FROM u) WHERE n = 1;\n"
                .to_string();
        query.tables.push(second);
        query.closing = Some(Closing::Passed);
        query.zoned = false;
        query
    }
}
