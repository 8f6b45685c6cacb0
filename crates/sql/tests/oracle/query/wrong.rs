//! Expressions that fail on some rows, with `on-error` as null or dead-letter.

use super::{Draw, Query};

/// Where a failing expression stands: in the query, and what the reference says instead.
const PLACES: [(&str, &str); 5] = [
    ("SELECT k, v, CAST(q AS INT) AS c FROM t{f}", "SELECT k, v, TRY_CAST(q AS INT) AS c FROM t{f}"),
    ("SELECT k, CAST(q AS INT) + v AS c FROM t{f}", "SELECT k, TRY_CAST(q AS INT) + v AS c FROM t{f}"),
    (
        "SELECT k, SUM(CAST(q AS BIGINT)) AS c, COUNT(*) AS n FROM t{f} GROUP BY k",
        "SELECT k, SUM(TRY_CAST(q AS BIGINT)) AS c, COUNT(*) AS n FROM t{f} GROUP BY k",
    ),
    (
        "SELECT c, COUNT(*) AS n FROM (SELECT CAST(q AS INT) AS c FROM t{f}) GROUP BY c",
        "SELECT c, COUNT(*) AS n FROM (SELECT TRY_CAST(q AS INT) AS c FROM t{f}) GROUP BY c",
    ),
    (
        "SELECT MAX(CAST(q AS INT)) AS c, COUNT(*) AS n FROM t{f}",
        "SELECT MAX(TRY_CAST(q AS INT)) AS c, COUNT(*) AS n FROM t{f}",
    ),
];

/// What the rows do not fail on.
const SOUND: &str = "(q IS NULL OR TRY_CAST(q AS INT) IS NOT NULL)";

impl Draw<'_> {
    pub(super) fn failing(&mut self) -> Query {
        let (select, reference) = PLACES[self.choices.below(PLACES.len() as u64) as usize];
        let filter = self.filtered();
        let dead = self.choices.one_in(2);
        let known = match (dead, filter.is_empty()) {
            (false, _) => filter.clone(),
            (true, true) => format!(" WHERE {SOUND}"),
            (true, false) => format!("{filter} AND {SOUND}"),
        };
        let mut query = self.query(select.replace("{f}", &filter));
        query.set_reference(reference.replace("{f}", &known));
        let word = if dead { "dead-letter" } else { "null" };
        query.settings = format!("SET 'on-error' = '{word}';\n");
        let and = if filter.is_empty() { " WHERE" } else { " AND" };
        query.dead_rows = Some(match dead {
            true => format!("SELECT ordinal FROM t{filter}{and} NOT {SOUND}"),
            false => "SELECT ordinal FROM t WHERE FALSE".to_string(),
        });
        query
    }
}
