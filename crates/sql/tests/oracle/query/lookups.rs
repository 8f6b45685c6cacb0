//! Lookups by processing time, in a table and in views of it: all of its rows are there before those that look them up.

use super::super::table::Table;
use super::{Draw, Query};

impl Draw<'_> {
    pub(super) fn lookups(&mut self) -> Query {
        (self.updating, self.table.updating) = (false, false);
        let second = Table::second(self.choices, &self.table);
        let filter = self.filtered();
        let kind = self.one(&["JOIN", "LEFT JOIN"]);
        let target = self.one(&["u", "u", "grouped", "filtered", "different"]);
        let key = self.one(&[
            "x.k = y.a",
            "x.g = y.name",
            "x.k = y.a AND x.g = y.name",
            "x.k + 1 = y.a",
            "x.v = y.b",
            "x.k = y.b",
            "y.a = 2",
            "UPPER(x.g) = y.name",
            "y.a = x.k AND y.a = x.i",
        ]);
        let also =
            self.one(&["", "", " AND x.v > y.b", " AND y.b > 0", " AND x.p", " AND x.g <> y.name", " AND x.i <= y.a"]);
        let rows = format!("(SELECT k, g, v, i, p FROM t{filter})");
        let from = format!("{rows} AS x {kind} {target} FOR SYSTEM_TIME AS OF PROCTIME() AS y ON {key}{also}");
        let select = match self.choices.below(6) {
            0 | 1 => format!("SELECT x.k, x.v, y.a, y.b, y.name FROM {from}"),
            2 => format!("SELECT x.k AS k, COUNT(*) AS n, SUM(y.b) AS s, MIN(y.name) AS m FROM {from} GROUP BY x.k"),
            3 => format!("SELECT x.g AS g, y.name AS name FROM {from} WHERE y.b > 0 OR y.a IS NULL"),
            4 => {
                let other = self.one(&["JOIN", "LEFT JOIN"]);
                let on = self.one(&["z.a = y.a", "z.name = x.g AND z.b < x.v", "z.a = y.a AND z.name = y.name"]);
                format!(
                    "SELECT x.k, y.b, z.b AS c, z.a FROM {from} {other} grouped FOR SYSTEM_TIME AS OF PROCTIME() AS z ON {on}"
                )
            }
            _ => format!("SELECT DISTINCT x.k AS k, y.name AS name FROM {from}"),
        };
        let mut query = self.query(select);
        query.views = "CREATE VIEW grouped AS SELECT a, name, COUNT(*) AS b, MAX(c) AS c FROM u GROUP BY a, name;\n\
                       CREATE VIEW filtered AS SELECT a, b, name, c FROM u WHERE b > -3;\n\
                       CREATE VIEW different AS SELECT DISTINCT a, b, name FROM u;\n"
            .to_string();
        query.tables.push(second);
        query.manner.second_first = true;
        query
    }
}
