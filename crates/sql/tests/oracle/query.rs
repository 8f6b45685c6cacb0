//! Queries, drawn from the grammar that the engine runs.

use tidemill_base::rand::Rng;

/// One query over the table `t`, and what is to be known of it.
pub(crate) struct Query {
    select: String,
    /// Whether `t` takes rows back.
    pub(crate) updating: bool,
    /// Whether rows leave only when windows close.
    pub(crate) on_close: bool,
}

impl Query {
    pub(crate) fn draw(rng: &mut Rng) -> Query {
        let updating = rng.chance(1, 3);
        let mut draw = Draw { rng, updating };
        let (select, on_close) = match draw.rng.below(10) {
            0 => (draw.plain(), false),
            1 | 2 => (draw.grouped(), false),
            3 => (draw.total(), false),
            4 | 5 => draw.windowed(),
            6 => (draw.of_groups(), false),
            7 => (draw.distinct(), false),
            8 => (draw.union(), false),
            _ => draw.of_windows(),
        };
        Query { select, updating, on_close }
    }

    pub(crate) fn text(&self) -> String {
        let changelog = if self.updating { ", 'changelog' = 'true'" } else { "" };
        format!(
            "CREATE TABLE t (k INT, g STRING, v BIGINT, i INT, d DOUBLE, p BOOLEAN, n DECIMAL(10, 2), ts TIMESTAMP(3), \
             twice AS v * 2, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'test'{changelog});\n\
             CREATE MATERIALIZED VIEW answer AS {};",
            self.select
        )
    }
}

struct Draw<'r> {
    rng: &'r mut Rng,
    updating: bool,
}

impl Draw<'_> {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.below(of.len() as u64) as usize]
    }

    fn number(&mut self) -> String {
        self.one(&[
            "v",
            "i",
            "k",
            "twice",
            "v + i",
            "v - k * 2",
            "ABS(v)",
            "CAST(k AS BIGINT)",
            "CASE WHEN p THEN v ELSE i END",
        ])
        .to_string()
    }

    fn predicate(&mut self) -> String {
        let simple = |draw: &mut Self| {
            draw.one(&[
                "v > 3",
                "i <= 0",
                "k = 1",
                "k <> 2",
                "g = 'a'",
                "g LIKE 'b%'",
                "p",
                "NOT p",
                "g IS NULL",
                "v IS NOT NULL",
                "d > 0.5",
                "n >= 1.50",
                "k IN (0, 2)",
                "v BETWEEN -2 AND 5",
                "CHAR_LENGTH(g) > 1",
                "COALESCE(i, 7) > 1",
            ])
            .to_string()
        };
        let first = simple(self);
        match self.rng.below(4) {
            0 => format!("{first} AND {}", simple(self)),
            1 => format!("{first} OR {}", simple(self)),
            _ => first,
        }
    }

    fn filtered(&mut self) -> String {
        if self.rng.chance(1, 2) { format!(" WHERE {}", self.predicate()) } else { String::new() }
    }

    fn call(&mut self) -> String {
        let number = self.number();
        let distinct = if self.rng.chance(1, 4) { "DISTINCT " } else { "" };
        let call = match self.rng.below(12) {
            0 => "COUNT(*)".to_string(),
            1 => format!("COUNT({distinct}{number})"),
            2 => format!("SUM({distinct}{number})"),
            3 => format!("AVG({number})"),
            4 => format!("MIN({number})"),
            5 => format!("MAX({number})"),
            6 => format!("COUNT({distinct}g)"),
            7 => self.one(&["MIN(g)", "MAX(g)", "MAX(ts)", "MIN(p)", "MAX(d)", "MIN(n)"]).to_string(),
            8 => self.one(&["SUM(d)", "AVG(d)", "SUM(n)", "AVG(n)"]).to_string(),
            9 => self.one(&["BOOL_AND(p)", "BOOL_OR(p)"]).to_string(),
            10 if !self.updating => {
                self.one(&["FIRST_VALUE(v)", "LAST_VALUE(g)", "ARRAY_AGG(i)", "LISTAGG(g, '-')"]).to_string()
            }
            _ => "COUNT(v)".to_string(),
        };
        if self.rng.chance(1, 4) { format!("{call} FILTER (WHERE {})", self.predicate()) } else { call }
    }

    /// Calls whose answer does not depend on the order of rows.
    fn unordered_call(&mut self) -> String {
        let updating = std::mem::replace(&mut self.updating, true);
        let call = self.call();
        self.updating = updating;
        call
    }

    fn calls(&mut self, ordered: bool) -> String {
        let count = 1 + self.rng.below(3);
        let call = |draw: &mut Self, index| {
            let call = if ordered { draw.call() } else { draw.unordered_call() };
            format!("{call} AS c{index}")
        };
        (0..count).map(|index| call(self, index)).collect::<Vec<_>>().join(", ")
    }

    fn keys(&mut self) -> &'static str {
        self.one(&["k", "g", "k, g", "p", "k % 2", "UPPER(g)"])
    }

    fn plain(&mut self) -> String {
        let columns = self.one(&["k, v", "k, g, v, i, d, p, n, ts", "v * 2 AS a, UPPER(g) AS b, k", "ts, twice"]);
        format!("SELECT {columns} FROM t{}", self.filtered())
    }

    fn grouped(&mut self) -> String {
        let keys = self.keys();
        let (calls, filter) = (self.calls(true), self.filtered());
        let having = if self.rng.chance(1, 4) { " HAVING COUNT(*) > 1" } else { "" };
        let named: Vec<_> = keys.split(", ").enumerate().map(|(index, key)| format!("{key} AS k{index}")).collect();
        format!("SELECT {}, {calls} FROM t{filter} GROUP BY {keys}{having}", named.join(", "))
    }

    fn total(&mut self) -> String {
        let (calls, filter) = (self.calls(true), self.filtered());
        format!("SELECT {calls} FROM t{filter}")
    }

    fn distinct(&mut self) -> String {
        let columns = self.one(&["k", "g", "k, g", "p, k % 2 AS m"]);
        format!("SELECT DISTINCT {columns} FROM t{}", self.filtered())
    }

    fn union(&mut self) -> String {
        let all = if self.rng.chance(2, 3) { "UNION ALL" } else { "UNION" };
        let (left, right) = (self.filtered(), self.filtered());
        let union = format!("SELECT k AS a, v AS b FROM t{left} {all} SELECT i, v FROM t{right}");
        if self.rng.chance(1, 2) {
            format!("SELECT a, COUNT(*) AS n, SUM(b) AS s FROM ({union}) GROUP BY a")
        } else {
            union
        }
    }

    /// An aggregate over an aggregate: what the inner one changes, the outer one takes back.
    fn of_groups(&mut self) -> String {
        let inner = self.one(&["COUNT(*)", "SUM(v)", "MAX(v)", "MIN(i)", "COUNT(DISTINCT g)"]);
        let outer = self.one(&["COUNT(*)", "SUM(c)", "MAX(c)", "MIN(c)", "COUNT(DISTINCT c)", "AVG(c)"]);
        let filter = self.filtered();
        match self.rng.below(2) {
            0 => format!(
                "SELECT k, {outer} AS o FROM (SELECT k, g, {inner} AS c FROM t{filter} GROUP BY k, g) GROUP BY k"
            ),
            _ => format!("SELECT c, COUNT(*) AS o FROM (SELECT g, {inner} AS c FROM t{filter} GROUP BY g) GROUP BY c"),
        }
    }

    fn window(&mut self) -> String {
        let window = self.one(&[
            "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '4' SECOND)",
            "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '7' SECOND, INTERVAL '2' SECOND)",
            "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)",
            "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '9' SECOND)",
        ]);
        format!("TABLE({window})")
    }

    fn windowed(&mut self) -> (String, bool) {
        if self.rng.chance(1, 4) {
            return self.sessions();
        }
        let window = self.window();
        let key = self.one(&["", "k, ", "g, ", "k, g, "]);
        let (calls, filter) = (self.calls(true), self.filtered());
        let emit = if self.rng.chance(1, 3) { " EMIT CHANGES" } else { "" };
        let select = format!(
            "SELECT {key}window_start, window_end, {calls} FROM {window}{filter} GROUP BY {key}window_start, window_end{emit}"
        );
        (select, emit.is_empty())
    }

    fn sessions(&mut self) -> (String, bool) {
        let (partition, key) = if self.rng.chance(1, 2) { (" PARTITION BY k", "k, ") } else { ("", "") };
        let calls = self.calls(true);
        let emit = if self.rng.chance(1, 3) { " EMIT CHANGES" } else { "" };
        let select = format!(
            "SELECT {key}window_start, window_end, {calls} \
             FROM TABLE(SESSION(TABLE t{partition}, DESCRIPTOR(ts), INTERVAL '2' SECOND)) \
             GROUP BY {key}window_start, window_end{emit}"
        );
        (select, emit.is_empty())
    }

    /// Windows over windows, and rows with their windows.
    fn of_windows(&mut self) -> (String, bool) {
        let window = self.window();
        let outer = self.one(&["COUNT(*)", "MAX(c)", "SUM(c)", "MIN(c)"]);
        let filter = self.filtered();
        match self.rng.below(3) {
            0 => {
                let inner = format!(
                    "SELECT k, window_start, window_end, COUNT(v) AS c FROM {window}{filter} GROUP BY k, window_start, window_end"
                );
                (
                    format!(
                        "SELECT window_start, window_end, {outer} AS o FROM ({inner}) GROUP BY window_start, window_end"
                    ),
                    true,
                )
            }
            1 => {
                let filter = if filter.is_empty() { " WHERE".to_string() } else { format!("{filter} AND") };
                (
                    format!(
                        "SELECT k, v, window_start, window_end FROM {window}{filter} EXTRACT(SECOND FROM window_start) < 30"
                    ),
                    false,
                )
            }
            _ => (
                format!("SELECT k, window_end, {} FROM {window}{filter} GROUP BY k, window_end", self.calls(false)),
                false,
            ),
        }
    }
}
