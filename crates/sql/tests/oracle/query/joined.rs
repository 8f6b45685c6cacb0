//! Joins of every kind, subqueries and set operations, over two tables that may take rows back; joins that forget by time.

use super::super::script::Which;
use super::super::table::{Table, Time};
use super::{Closing, Draw, Query};

const KINDS: [&str; 4] = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// What bounds how far `at` is from `ts`: seconds before and after it.
struct Interval {
    before: i64,
    after: i64,
}

impl Interval {
    fn condition(&self) -> String {
        let Interval { before, after } = self;
        format!("y.at BETWEEN x.ts - INTERVAL '{before}' SECOND AND x.ts + INTERVAL '{after}' SECOND")
    }
}

impl Draw<'_> {
    /// The rows of `t` and of `u`, each perhaps filtered, to be called `x` and `y`.
    fn sides(&mut self) -> (String, String) {
        let filter = self.filtered();
        let other = self.one(&["", "", " WHERE b > 0", " WHERE name = 'a' OR u.`in`.v = 1", " WHERE a IS NOT NULL"]);
        (
            format!("(SELECT k, g, v, i, d, p, n, r, m, ts FROM t{filter})"),
            format!("(SELECT a, b, name, c, at FROM u{other})"),
        )
    }

    /// A condition over `x` and `y`.
    fn met(&mut self) -> String {
        let key = self.one(&[
            "x.k = y.a",
            "x.g = y.name",
            "x.k = y.a AND x.g = y.name",
            "x.v = y.b",
            "x.k + 1 = y.a",
            "x.v = y.a",
            "UPPER(x.g) = UPPER(y.name)",
            "x.n = y.a",
            "x.d = y.c",
            "x.k IS NOT DISTINCT FROM y.a",
            "x.k = y.a AND x.g IS NOT DISTINCT FROM y.name",
            "x.k < y.a",
            "x.k = y.a AND x.k = 2",
            "(x.k = y.a OR x.g = y.name)",
        ]);
        let rest = self.one(&[
            "",
            "",
            "",
            " AND x.v > y.b",
            " AND x.i <= y.a",
            " AND y.b > 0",
            " AND x.p",
            " AND x.v + y.b > 3",
            " AND x.g <> y.name",
            " AND (x.p OR y.b > 2)",
            " AND x.ts <= y.at",
        ]);
        format!("{key}{rest}")
    }

    fn with_second(&mut self, select: impl Into<String>) -> Query {
        let second = Table::second(self.choices, &self.table);
        let select = select.into();
        // Its rows expire, and those without a partner would come only then.
        let forgets = select.contains("x.ts <= y.at");
        let mut query = self.query(select);
        query.tables.push(second);
        if forgets {
            query.set_emit(" EMIT CHANGES");
        }
        query
    }

    /// Joins of columns that both sides have.
    fn merging_joins(&mut self) -> Query {
        let (kind, other) = (self.one(&KINDS), self.one(&KINDS));
        let (columns, natural) =
            [("k", false), ("k, g", false), ("k", true), ("k, g", true)][self.choices.below(4) as usize];
        let joined = |kind: &str, right: &str| match natural {
            true => format!("NATURAL {kind} {right}"),
            false => format!("{kind} {right} USING ({columns})"),
        };
        let named = columns.replace('k', "a AS k").replace('g', "name AS g");
        let from = format!(
            "(SELECT k, g AS {}, v FROM t{}) AS x {}",
            if columns == "k" { "h" } else { "g" },
            self.filtered(),
            joined(kind, &format!("(SELECT {named}, b FROM u) AS y"))
        );
        let third = format!("(SELECT {columns}, COUNT(*) AS n FROM t GROUP BY {columns}) AS z");
        let select = match self.choices.below(5) {
            0 | 1 => format!("SELECT * FROM {from}"),
            2 => format!("SELECT k, COUNT(*) AS n, SUM(b) AS s FROM {from} GROUP BY k"),
            3 => format!("SELECT {columns}, y.b AS b, n FROM {from} {}", joined(other, &third)),
            _ => format!("SELECT k, v + b AS s FROM {from} WHERE k > 0"),
        };
        self.with_second(select)
    }

    pub(super) fn joins(&mut self) -> Query {
        if self.choices.one_in(5) {
            return self.merging_joins();
        }
        let kind = self.one(&KINDS);
        let ((left, right), on) = (self.sides(), self.met());
        let above = self.one(&["", "", "", " WHERE y.a IS NULL", " WHERE x.v > 0", " WHERE y.b > x.v OR x.k = 1"]);
        let from = format!("{left} AS x {kind} {right} AS y ON {on}{above}");
        let select = match self.choices.below(7) {
            0 => format!("SELECT x.k AS k, x.v AS v, y.a AS a, y.b AS b FROM {from}"),
            6 => format!("SELECT x.r AS r, x.m AS m, x.r.y AS y, y.c AS c FROM {from}"),
            1 => format!("SELECT x.g AS g, y.name AS name, COALESCE(x.k, y.a) AS k, y.b + x.v AS s FROM {from}"),
            2 => format!("SELECT x.ts AS ts, y.at AS at, x.d AS d FROM {from}"),
            3 => format!("SELECT x.k AS k, COUNT(*) AS n, SUM(y.b) AS s, MIN(y.name) AS m FROM {from} GROUP BY x.k"),
            4 => format!("SELECT COUNT(*) AS n, COUNT(DISTINCT x.g) AS e, SUM(x.d) AS s, MAX(y.c) AS m FROM {from}"),
            _ => format!("SELECT DISTINCT x.p AS p, y.name AS name FROM {from}"),
        };
        self.with_second(select)
    }

    /// Aggregates below a join and above, and three tables.
    pub(super) fn of_joins(&mut self) -> Query {
        let (kind, other) = (self.one(&KINDS), self.one(&KINDS));
        let ((left, right), on) = (self.sides(), self.met());
        let counts = "(SELECT a, COUNT(*) AS n, SUM(b) AS s FROM u GROUP BY a)";
        let maxima = "(SELECT k, MAX(v) AS m FROM t GROUP BY k)";
        let select = match self.choices.below(7) {
            0 => format!(
                "SELECT x.k AS k, x.m AS m, y.n AS n, y.s AS s FROM {maxima} AS x {kind} {counts} AS y ON x.k = y.a"
            ),
            1 => format!(
                "SELECT x.k AS k, x.v AS v, y.n AS n FROM {left} AS x {kind} {counts} AS y ON x.k = y.a AND x.v <= y.s"
            ),
            2 => format!(
                "SELECT x.k AS k, y.b AS b, z.m AS m FROM {left} AS x {kind} {right} AS y ON {on} {other} {maxima} AS z ON z.k = y.a"
            ),
            3 => format!(
                "SELECT n, COUNT(*) AS c FROM (SELECT x.g AS g, COUNT(*) AS n FROM {left} AS x {kind} {right} AS y ON {on} GROUP BY x.g) GROUP BY n"
            ),
            4 => format!(
                "SELECT x.k AS k, z.v AS v FROM {left} AS x, (SELECT k, v FROM t WHERE p) AS z, {right} AS y WHERE x.k = z.k AND {on}"
            ),
            6 => format!("SELECT x.k AS k, z.v AS v, x.g AS g FROM t AS x {kind} t AS z ON x.k = z.i AND x.v < z.v"),
            _ => format!(
                "SELECT x.k AS k, x.v AS v, z.n AS n FROM {left} AS x CROSS JOIN (SELECT COUNT(*) AS n, MAX(b) AS m FROM u) AS z WHERE x.v <= z.m"
            ),
        };
        self.with_second(select)
    }

    pub(super) fn subqueries(&mut self) -> Query {
        let (left, right) = self.sides();
        let on = self.one(&[
            "x.k = y.a",
            "x.g = y.name",
            "x.k = y.a AND x.v > y.b",
            "x.v = y.b",
            "x.k + 1 = y.a AND y.b > 0",
        ]);
        let asked = |draw: &mut Self| -> String {
            match draw.choices.below(14) {
                11 => {
                    let op = draw.one(&["<", "<=", ">", ">=", "=", "<>"]);
                    let rows = draw.one(&["", " WHERE b > 3", " WHERE b IS NOT NULL", " WHERE y.a = x.k"]);
                    format!("x.v {op} {} (SELECT b FROM {right} AS y{rows})", draw.one(&["ANY", "ALL"]))
                }
                12 => format!("x.v NOT IN (SELECT y.b FROM {right} AS y WHERE y.a = x.k)"),
                13 => {
                    let rows = draw.one(&["", " WHERE y.a = x.k"]);
                    format!("x.v {} (SELECT MAX(y.b) FROM {right} AS y{rows})", draw.one(&["IN", "NOT IN"]))
                }
                9 => format!("x.k = ANY (SELECT a FROM {right} AS y)"),
                10 => format!("x.k <> ALL (SELECT a FROM {right} AS y)"),
                0 => format!("x.k IN (SELECT a FROM {right} AS y)"),
                1 => format!("x.k NOT IN (SELECT a FROM {right} AS y)"),
                2 => format!("EXISTS (SELECT 1 FROM {right} AS y WHERE {on})"),
                3 => format!("NOT EXISTS (SELECT 1 FROM {right} AS y WHERE {on})"),
                4 => format!("x.v IN (SELECT y.b FROM {right} AS y WHERE y.a = x.k)"),
                5 => format!("x.v > (SELECT AVG(b) FROM {right} AS y)"),
                6 => format!("x.v >= (SELECT MIN(y.b) FROM {right} AS y WHERE y.a = x.k)"),
                7 => format!("x.k IN (SELECT a FROM {right} AS y GROUP BY a HAVING COUNT(*) > 1)"),
                _ => format!("NOT (x.v + 1 IN (SELECT b FROM {right} AS y WHERE b IS NOT NULL))"),
            }
        };
        let condition = match self.choices.below(4) {
            0 | 1 => asked(self),
            2 => format!("{} AND {}", asked(self), asked(self)),
            _ if self.choices.one_in(2) => format!("(x.p OR {})", asked(self)),
            _ => format!("(x.p OR EXISTS (SELECT 1 FROM {right} AS y WHERE {on}))"),
        };
        let select = match self.choices.below(15) {
            5 | 6 => format!("SELECT x.k AS k, x.v AS v, {condition} AS z FROM {left} AS x"),
            7 => {
                let other = asked(self);
                format!("SELECT x.k AS k, CASE WHEN {condition} THEN x.v WHEN {other} THEN 1 END AS z FROM {left} AS x")
            }
            8 => format!(
                "SELECT x.g AS g, SUM(CASE WHEN {condition} THEN x.v ELSE 0 END) AS s, COUNT(*) AS n FROM {left} AS x GROUP BY x.g"
            ),
            9 => {
                let rows = self.one(&["", " WHERE y.a = x.k"]);
                format!(
                    "SELECT x.g AS g, SUM(x.v - (SELECT MAX(b) FROM {right} AS y{rows})) AS s FROM {left} AS x GROUP BY x.g"
                )
            }
            10 => {
                let filter = "COUNT(*) FILTER (WHERE x.v > 0)";
                format!("SELECT {condition} AS z, COUNT(*) AS n, {filter} AS m FROM {left} AS x GROUP BY {condition}")
            }
            11 => {
                let kind = self.one(&KINDS);
                format!(
                    "SELECT x.k AS k, x.v AS v, w.s AS s FROM {left} AS x {kind} (SELECT i, s FROM t) AS w ON x.k = w.i AND {condition}"
                )
            }
            12 => {
                let (order, skip) = (self.one(&["b", "b DESC"]), self.one(&["", " OFFSET 1"]));
                let first =
                    format!("SELECT b FROM {right} AS y WHERE y.a = x.k AND b > 1 ORDER BY {order} LIMIT 2{skip}");
                match self.choices.one_in(2) {
                    true => {
                        format!("SELECT x.k AS k, w.b AS b FROM {left} AS x, LATERAL ({first}) AS w WHERE {condition}")
                    }
                    false => {
                        format!("SELECT x.k AS k, w.b AS b FROM {left} AS x LEFT JOIN LATERAL ({first}) AS w ON TRUE")
                    }
                }
            }
            13 => {
                let counts = format!("SELECT y.b AS b, COUNT(*) AS n FROM {right} AS y WHERE y.a = x.k GROUP BY y.b");
                format!(
                    "SELECT x.k AS k, w.b AS b, w.n AS n FROM {left} AS x, LATERAL ({counts} ORDER BY n DESC, b LIMIT 2) AS w"
                )
            }
            14 => {
                let one = format!("SELECT b FROM {right} AS y WHERE y.a = x.k ORDER BY b DESC LIMIT 1");
                format!("SELECT x.k AS k, x.v AS v, ({one}) AS m FROM {left} AS x WHERE {condition}")
            }
            0 | 1 => format!("SELECT x.k AS k, x.v AS v, x.g AS g FROM {left} AS x WHERE {condition}"),
            2 => {
                format!("SELECT x.k AS k, COUNT(*) AS n, SUM(x.v) AS s FROM {left} AS x WHERE {condition} GROUP BY x.k")
            }
            3 => format!("SELECT x.k AS k, (SELECT COUNT(*) FROM {right} AS y WHERE y.a = x.k) AS n FROM {left} AS x"),
            _ => format!("SELECT x.v AS v, (SELECT MAX(b) FROM {right} AS y) AS m FROM {left} AS x WHERE {condition}"),
        };
        self.with_second(select)
    }

    pub(super) fn set_operations(&mut self) -> Query {
        let (filter, more) = (self.filtered(), self.filtered());
        let words = ["INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL", "UNION"];
        let (first, second) = (self.one(&words), self.one(&words));
        let left = self.one(&[
            "SELECT k AS a, g AS b FROM t",
            "SELECT i AS a, g AS b FROM t",
            "SELECT DISTINCT k AS a, g AS b FROM t",
        ]);
        let base = format!("{left}{filter} {first} SELECT a, name FROM u");
        let select = match self.choices.below(5) {
            0 | 1 => base,
            2 => format!("({base}) {second} SELECT i, g FROM t{more}"),
            3 => format!("SELECT a, COUNT(*) AS n FROM ({base}) GROUP BY a"),
            _ => format!("SELECT l.a AS a, l.b AS b, t.v AS v FROM ({base}) AS l JOIN t ON t.k = l.a"),
        };
        self.with_second(select)
    }

    /// Joins whose rows expire.
    pub(super) fn intervals(&mut self) -> Query {
        let late = self.choices.one_in(4);
        if late {
            (self.updating, self.table.updating) = (false, false);
            if matches!(self.table.time, Time::Ltz | Time::Computed) {
                self.table.time = Time::Millis;
            }
        }
        let interval =
            Interval { before: self.choices.below(4) as i64, after: [0, 2, 5, 9][self.choices.below(4) as usize] };
        let key = self.one(&["x.k = y.a AND ", "x.g = y.name AND ", "x.k = y.a AND x.v > y.b AND ", ""]);
        let on = format!("{key}{}", interval.condition());
        let kind = self.choices.below(10);
        let grouped = self.choices.below(4);
        let from = |joined: &str, t: &str, u: &str| {
            format!("(SELECT k, g, v, ts FROM {t}) AS x {joined} (SELECT a, b, name, at FROM {u}) AS y ON {on}")
        };
        let select = |t: &str, u: &str| match kind {
            0 | 1 => format!("SELECT x.k AS k, x.v AS v, x.ts AS ts, y.b AS b, y.at AS at FROM {}", from("JOIN", t, u)),
            2 | 3 => {
                format!("SELECT x.k AS k, x.v AS v, x.ts AS ts, y.b AS b, y.at AS at FROM {}", from("LEFT JOIN", t, u))
            }
            4 => format!("SELECT k, v, ts FROM {t} AS x WHERE EXISTS (SELECT 1 FROM {u} AS y WHERE {on})"),
            5 => format!("SELECT COUNT(*) AS n, SUM(v) AS s FROM (SELECT x.v AS v FROM {})", from("JOIN", t, u)),
            // Groups go with the times of the rows that are joined.
            _ => {
                let joined = if kind == 9 { "LEFT JOIN" } else { "JOIN" };
                let rows = format!(
                    "(SELECT x.k AS k, x.v AS v, x.ts AS ts, y.b AS b, y.at AS at FROM {})",
                    from(joined, t, u)
                );
                match grouped {
                    0 => format!(
                        "SELECT k, ts, COUNT(*) AS n, SUM(v) AS s, MAX(v) AS m, COUNT(DISTINCT b) AS d FROM {rows} GROUP BY k, ts"
                    ),
                    1 => format!(
                        "SELECT k, SUM(m) AS s, COUNT(*) AS n FROM (SELECT k, at, MAX(v) AS m FROM {rows} GROUP BY k, at) GROUP BY k"
                    ),
                    2 => format!(
                        "SELECT k, at, COUNT(*) AS n FROM (SELECT DISTINCT k, v, ts, at FROM {rows}) GROUP BY k, at"
                    ),
                    _ => format!(
                        "SELECT k, v, at, COUNT(*) OVER (PARTITION BY at ORDER BY v) AS n FROM (SELECT k, v, at, COUNT(*) AS c FROM {rows} GROUP BY k, v, at)"
                    ),
                }
            }
        };
        let mut query = self.with_second(select("t", "u"));
        if kind == 9 {
            query.set_emit(" EMIT CHANGES");
        }
        if late {
            query.tables[1].updating = false;
            query.views = "CREATE VIEW on_time AS SELECT * FROM t WHERE mark IS NULL OR ts >= mark;\n\
                           CREATE VIEW u_on_time AS SELECT * FROM u WHERE mark IS NULL OR at >= mark;\n"
                .to_string();
            query.set_reference(select("on_time", "u_on_time"));
            query.late_rows = Some(
                "SELECT ordinal FROM t WHERE ts < mark UNION ALL SELECT ordinal FROM u WHERE at < mark".to_string(),
            );
            query.manner.late = true;
            query.which = Which::Marked;
        }
        let appends = query.tables.iter().all(|table| !table.updating);
        if matches!(kind, 2 | 3) && appends {
            if self.choices.one_in(3) {
                query.set_emit(" EMIT CHANGES");
            } else {
                query.closing = Some(Closing::Padded { after: interval.after });
            }
        }
        query
    }

    /// Rows of two tables in the same windows, which may come behind the watermark while their window is open.
    pub(super) fn raw_window_joins(&mut self) -> Query {
        let late = self.choices.one_in(2);
        if late {
            (self.updating, self.table.updating) = (false, false);
            if matches!(self.table.time, Time::Ltz | Time::Computed) {
                self.table.time = Time::Millis;
            }
        }
        let (window, sizes) = [
            ("TUMBLE", "INTERVAL '8' SECOND"),
            ("HOP", "INTERVAL '4' SECOND, INTERVAL '12' SECOND"),
            ("CUMULATE", "INTERVAL '5' SECOND, INTERVAL '15' SECOND"),
        ][self.choices.below(3) as usize];
        let by = "window_start, window_end";
        let over = |table: &str, time: &str| format!("TABLE({window}(TABLE {table}, DESCRIPTOR({time}), {sizes}))");
        let rows = |on_time: bool| {
            let filter = if on_time { " WHERE mark IS NULL OR window_end > mark" } else { "" };
            (
                format!("(SELECT k, g, v, {by} FROM {}{filter})", over("t", "ts")),
                format!("(SELECT a, name, b, {by} FROM {}{filter})", over("u", "at")),
            )
        };
        let on = self.one(&["x.k = y.a AND ", "x.g = y.name AND ", "x.k = y.a AND x.v > y.b AND "]);
        let on = format!("{on}x.window_start = y.window_start AND x.window_end = y.window_end");
        let pairs = "SELECT x.k AS k, x.v AS v, y.b AS b, y.window_end AS partner, x.window_start AS window_start, x.window_end AS window_end";
        let kind = self.choices.below(6);
        let select = |on_time| {
            let (t, u) = rows(on_time);
            match kind {
                0 | 1 => format!("{pairs} FROM {t} AS x JOIN {u} AS y ON {on}"),
                2 => format!("{pairs} FROM {t} AS x LEFT JOIN {u} AS y ON {on}"),
                3 => format!("SELECT k, v, {by} FROM {t} AS x WHERE EXISTS (SELECT 1 FROM {u} AS y WHERE {on})"),
                4 => format!("SELECT k, v, {by} FROM {t} AS x WHERE NOT EXISTS (SELECT 1 FROM {u} AS y WHERE {on})"),
                _ => format!(
                    "SELECT {by}, COUNT(*) AS n, SUM(b) AS s FROM ({pairs} FROM {t} AS x JOIN {u} AS y ON {on}) GROUP BY {by}"
                ),
            }
        };
        let mut query = self.with_second(select(false));
        query.zoned = false;
        if late {
            query.tables[1].updating = false;
            query.set_reference(select(true));
            let below = |table, time| format!("SELECT ordinal FROM {} WHERE window_end <= mark", over(table, time));
            query.late_rows = Some(format!("{} UNION ALL {}", below("t", "ts"), below("u", "at")));
            query.manner.late = true;
            query.which = Which::Marked;
        }
        let appends = query.tables.iter().all(|table| !table.updating);
        match kind {
            5 => query.closing = Some(Closing::Watermark),
            2 | 4 if !appends => query.set_emit(" EMIT CHANGES"),
            2 | 4 => {
                if self.choices.one_in(3) {
                    query.set_emit(" EMIT CHANGES");
                } else {
                    query.closing = Some(if kind == 2 { Closing::Unmet } else { Closing::Watermark });
                }
            }
            _ => {}
        }
        query
    }

    /// Windows of two tables, joined; and windows over a join.
    pub(super) fn window_joins(&mut self) -> Query {
        if self.choices.one_in(2) {
            return self.raw_window_joins();
        }
        (self.updating, self.table.updating) = (false, false);
        let window = self.one(&["TUMBLE", "HOP", "CUMULATE"]);
        let sizes = match window {
            "TUMBLE" => "INTERVAL '5' SECOND",
            "HOP" => "INTERVAL '2' SECOND, INTERVAL '6' SECOND",
            _ => "INTERVAL '3' SECOND, INTERVAL '9' SECOND",
        };
        let by = "window_start, window_end";
        let views = format!(
            "CREATE VIEW wt AS SELECT k, COUNT(*) AS n, MAX(v) AS m, {by} FROM TABLE({window}(TABLE t, DESCRIPTOR(ts), {sizes})) GROUP BY k, {by};\n\
             CREATE VIEW wu AS SELECT a, SUM(b) AS s, {by} FROM TABLE({window}(TABLE u, DESCRIPTOR(at), {sizes})) GROUP BY a, {by};\n"
        );
        let same = "x.window_start = y.window_start AND x.window_end = y.window_end";
        let kind = self.one(&["JOIN", "LEFT JOIN", "JOIN"]);
        let choice = self.choices.below(5);
        let interval = Interval { before: 1, after: [2, 5][self.choices.below(2) as usize] };
        let select = match choice {
            0 => format!(
                "SELECT x.k AS k, x.n AS n, y.s AS s, x.window_start, x.window_end FROM wt AS x {kind} wu AS y ON x.k = y.a AND {same}"
            ),
            1 => format!(
                "SELECT k, {by}, COUNT(*) AS c, SUM(s) AS s FROM (SELECT x.k AS k, y.s AS s, x.window_start, x.window_end \
                 FROM wt AS x {kind} wu AS y ON x.n <= y.s AND {same}) GROUP BY k, {by}"
            ),
            2 => format!(
                "SELECT x.k AS k, x.n AS n, x.window_start, x.window_end FROM wt AS x JOIN (SELECT MAX(n) AS n, {by} FROM wt GROUP BY {by}) \
                 AS y ON x.n = y.n AND {same}"
            ),
            3 => format!(
                "SELECT x.k AS k, x.n AS n, x.window_start, x.window_end FROM wt AS x WHERE NOT EXISTS (SELECT 1 FROM wu AS y WHERE x.k = y.a AND {same})"
            ),
            _ => format!(
                "SELECT {by}, COUNT(*) AS n, SUM(b) AS s FROM TABLE(TUMBLE(TABLE j, DESCRIPTOR(ts), INTERVAL '4' SECOND)) GROUP BY {by}"
            ),
        };
        let mut query = self.with_second(select);
        query.tables[1].updating = false;
        query.zoned = false;
        query.views = views;
        query.closing = Some(Closing::Watermark);
        if choice == 2 {
            // A table that is not read holds no watermark back.
            query.tables.truncate(1);
            query.views = query.views.lines().take(1).collect();
        }
        if choice == 4 {
            query.views = format!(
                "CREATE VIEW j AS SELECT x.ts AS ts, y.b AS b FROM t AS x JOIN u AS y ON x.k = y.a AND {};\n",
                interval.condition()
            );
            query.closing = Some(Closing::Behind { seconds: interval.after });
        }
        query
    }
}
