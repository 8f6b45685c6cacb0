//! OVER by event time: frames of rows and of times, over several keys at once, with rows that come too late.

use super::super::script::Which;
use super::super::table::Time;
use super::{Closing, Draw, Query};

impl Draw<'_> {
    pub(super) fn over(&mut self) -> Query {
        self.updating = false;
        self.table.updating = false;
        let late = self.choices.one_in(4);
        if late && matches!(self.table.time, Time::Ltz | Time::Computed) {
            self.table.time = Time::Millis;
        }
        let filter = self.filtered();
        let mut calls = Vec::new();
        for index in 0..=self.choices.below(4) {
            calls.push(format!("{} AS c{index}", self.over_call()));
        }
        let calls = calls.join(", ");
        let select = |table: &str| format!("SELECT k, v, ts, {calls} FROM {table}{filter}");
        let mut query = self.query(select("t"));
        query.closing = Some(Closing::Passed);
        if late {
            query.views = "CREATE VIEW on_time AS SELECT * FROM t WHERE mark IS NULL OR ts >= mark;\n".to_string();
            query.set_reference(select("on_time"));
            let and = if filter.is_empty() { " WHERE" } else { " AND" };
            let condition = filter.strip_prefix(" WHERE ").map(|condition| format!(" WHERE ({condition})"));
            query.late_rows = Some(format!("SELECT ordinal FROM t{}{and} ts < mark", condition.unwrap_or_default()));
            query.manner.late = true;
            query.which = Which::Marked;
        }
        query
    }

    fn over_call(&mut self) -> String {
        let key = self.one(&["", "PARTITION BY k ", "PARTITION BY g ", "PARTITION BY k, p ", "PARTITION BY v % 2 "]);
        let filter =
            if self.choices.one_in(4) { format!(" FILTER (WHERE {})", self.predicate()) } else { String::new() };
        if self.choices.one_in(5) {
            let call = self.one(&["ROW_NUMBER()", "LAG(v)", "LAG(g, 2, 'none')", "LAG(v + i, 3)", "LAG(d, 1, v)"]);
            return format!("{call} OVER ({key}ORDER BY ts)");
        }
        let call = self.one(&[
            "COUNT(*)",
            "SUM(v)",
            "COUNT(g)",
            "MIN(v)",
            "MAX(g)",
            "AVG(n)",
            "AVG(v)",
            "SUM(d)",
            "MAX(d)",
            "COUNT(DISTINCT g)",
            "SUM(DISTINCT i)",
            "COUNT(DISTINCT v % 3)",
            "BOOL_OR(p)",
            "MIN(v + i)",
            "SUM(CASE WHEN p THEN v ELSE i END)",
        ]);
        let frame = match self.choices.below(7) {
            0 => "",
            1 => " RANGE BETWEEN INTERVAL '3' SECOND PRECEDING AND CURRENT ROW",
            2 => " RANGE BETWEEN INTERVAL '20' SECOND PRECEDING AND CURRENT ROW",
            3 => " RANGE BETWEEN CURRENT ROW AND CURRENT ROW",
            4 => " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
            5 => " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            _ => " ROWS 20 PRECEDING",
        };
        format!("{call}{filter} OVER ({key}ORDER BY ts{frame})")
    }
}
