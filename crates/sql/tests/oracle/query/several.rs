//! Several tables, views and outputs.

use super::super::table::Table;
use super::{Asked, Closing, Draw, Query};

impl Draw<'_> {
    pub(super) fn union(&mut self) -> Query {
        let all = self.one(&["UNION ALL", "UNION ALL", "UNION"]);
        let (left, right) = (self.filtered(), self.filtered());
        let union = format!("SELECT k AS a, v AS b FROM t{left} {all} SELECT i, v FROM t{right}");
        let select = match self.choices.below(4) {
            0 => union,
            1 => format!("SELECT a, COUNT(*) AS n, SUM(b) AS s FROM ({union}) GROUP BY a"),
            2 => format!("SELECT DISTINCT b FROM ({union}) WHERE a > 0"),
            _ => format!("{union} {all} SELECT s, COUNT(*) FROM t GROUP BY s"),
        };
        self.query(select)
    }

    /// Two tables with other columns and other watermarks.
    pub(super) fn two_tables(&mut self) -> Query {
        let second = Table::second(self.choices, &self.table);
        // Nothing that is never true: a table that is not read holds no watermark back.
        let filter = self.one(&["", " WHERE v > 3", " WHERE g = 'a' OR p", " WHERE r.x > 1", " WHERE NOT p"]);
        let other = self.one(&["", " WHERE b > 0", " WHERE name = 'a' OR u.`in`.v = 1"]);
        let all = format!("SELECT k, g, v, d, ts FROM t{filter} UNION ALL SELECT a, name, b, c, at FROM u{other}");
        let calls = self.one(&[
            "COUNT(*) AS n",
            "SUM(v) AS s, MIN(g) AS m",
            "SUM(d) AS s, COUNT(DISTINCT g) AS n",
            "AVG(v) AS a, MAX(d) AS m",
        ]);
        let by = "window_start, window_end";
        let window = self.one(&[
            "TUMBLE(TABLE `both`, DESCRIPTOR(ts), INTERVAL '4' SECOND)",
            "HOP(TABLE `both`, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)",
            "CUMULATE(TABLE `both`, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '9' SECOND)",
            "SESSION(TABLE `both` PARTITION BY k, DESCRIPTOR(ts), INTERVAL '2' SECOND)",
        ]);
        let (select, closing) = match self.choices.below(4) {
            0 => ("SELECT * FROM `both`".to_string(), None),
            1 => (format!("SELECT k, {calls} FROM `both` GROUP BY k"), None),
            _ => {
                let closing = if window.starts_with("SESSION") { Closing::AfterWatermark } else { Closing::Watermark };
                (format!("SELECT k, {by}, {calls} FROM TABLE({window}) GROUP BY k, {by}"), Some(closing))
            }
        };
        let mut query = self.query(select);
        query.views = format!("CREATE VIEW `both` AS {all};\n");
        query.tables.push(second);
        query.closing = closing;
        query
    }

    /// Views over views, kept and not kept, and WITH.
    pub(super) fn views(&mut self) -> Query {
        let (filter, keys) = (self.filtered(), self.one(&["k", "g", "k, g"]));
        let calls = self.one(&[
            "COUNT(*) AS n",
            "SUM(w) AS s, MIN(g) AS m",
            "MAX(w) AS m, COUNT(DISTINCT g) AS n",
            "AVG(w) AS a, BOOL_OR(p) AS o",
        ]);
        let views = format!(
            "CREATE VIEW below AS SELECT k, g, v, i, p, ts FROM t{filter};\n\
             CREATE VIEW above (k, g, w, p, ts) AS SELECT k, g, v + i, p, ts FROM below WHERE k IS NOT NULL;\n"
        );
        let by = "window_start, window_end";
        let (select, closing) = match self.choices.below(5) {
            0 => ("SELECT * FROM above".to_string(), None),
            1 => (format!("SELECT {keys}, {calls} FROM above GROUP BY {keys}"), None),
            2 => (
                format!(
                    "SELECT {keys}, {by}, {calls} FROM TABLE(TUMBLE(TABLE above, DESCRIPTOR(ts), INTERVAL '5' SECOND)) \
                     GROUP BY {keys}, {by}"
                ),
                Some(Closing::Watermark),
            ),
            3 => (
                format!(
                    "WITH x AS (SELECT {keys}, {calls} FROM above GROUP BY {keys}), y AS (SELECT * FROM x) \
                     SELECT COUNT(*) AS c FROM y"
                ),
                None,
            ),
            _ => {
                let mut query = self.query("");
                query.views = views;
                query.asked = Asked::Several(format!(
                    "CREATE MATERIALIZED VIEW counts AS SELECT k, g, COUNT(*) AS n FROM above GROUP BY k, g;\n\
                     CREATE MATERIALIZED VIEW keys AS SELECT k, SUM(n) AS s, MAX(n) AS m FROM counts GROUP BY k;\n\
                     CREATE MATERIALIZED VIEW answer AS SELECT s, COUNT(*) AS c FROM keys GROUP BY s;\n\
                     CREATE MATERIALIZED VIEW rows_of AS SELECT {keys}, w FROM above;"
                ));
                return query;
            }
        };
        let mut query = self.query(select);
        query.views = views;
        query.closing = closing;
        query
    }

    /// Several sinks, one of which is filled twice, with the casts that INSERT makes.
    pub(super) fn statement_set(&mut self) -> Query {
        let (first, second) = (self.filtered(), self.filtered());
        let values = if self.choices.one_in(3) { "INSERT INTO wide VALUES (7, 'x', 0.5), (8, NULL, 1);\n" } else { "" };
        let third = self.one(&[
            "SELECT k, COUNT(*), MAX(v) FROM t GROUP BY k",
            "SELECT k, CAST(v AS BIGINT), i FROM t WHERE v > 0",
            "SELECT DISTINCT k, v, i FROM t",
        ]);
        let mut query = self.query("");
        query.views = "CREATE TABLE wide (a BIGINT, b STRING, c DOUBLE) WITH ('connector' = 'test', 'changelog' = 'true');\n\
                       CREATE TABLE narrow (k INT, n BIGINT, m BIGINT) WITH ('connector' = 'test', 'changelog' = 'true');\n"
            .to_string();
        query.asked = Asked::Several(format!(
            "EXECUTE STATEMENT SET BEGIN\n\
             INSERT INTO wide SELECT k, g, d FROM t{first};\n\
             INSERT INTO wide (c, a) SELECT f, s FROM t{second};\n\
             INSERT INTO narrow {third};\n\
             {values}END;\n\
             CREATE MATERIALIZED VIEW answer AS SELECT g, SUM(v) AS s FROM t{first} GROUP BY g;"
        ));
        query
    }
}
