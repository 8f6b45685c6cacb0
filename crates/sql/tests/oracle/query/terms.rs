//! Numbers, conditions, keys and aggregate calls over the columns of `t`.

use super::Draw;

impl Draw<'_> {
    fn number(&mut self) -> &'static str {
        self.one(&[
            "v",
            "i",
            "k",
            "s",
            "twice",
            "v + i",
            "v - k * 2",
            "ABS(v)",
            "CAST(k AS BIGINT)",
            "CASE WHEN p THEN v ELSE i END",
            "rx",
            "r.z.w",
            "CARDINALITY(a)",
            "TRY_CAST(q AS INT)",
        ])
    }

    fn simple(&mut self) -> &'static str {
        self.one(&[
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
            "g NOT IN ('a', 'bb')",
            "v BETWEEN -2 AND 5",
            "CHAR_LENGTH(g) > 1",
            "COALESCE(i, 7) > 1",
            "r.x > 1",
            "r IS NULL",
            "ARRAY_CONTAINS(a, 2)",
            "m['y'] = 3",
            "p IS NOT TRUE",
            "f < d",
            "g IS DISTINCT FROM r.y",
            "TRUE",
            "FALSE",
        ])
    }

    pub(super) fn predicate(&mut self) -> String {
        let first = self.simple();
        match self.choices.below(6) {
            4 => format!("{first} AND {}", self.simple()),
            5 => format!("({first} OR {})", self.simple()),
            3 => format!("NOT ({first})"),
            _ => first.to_string(),
        }
    }

    pub(super) fn filtered(&mut self) -> String {
        if self.choices.one_in(2) { format!(" WHERE {}", self.predicate()) } else { String::new() }
    }

    /// A call, and the name that says how near its answer has to be.
    fn call(&mut self, ordered: bool) -> (String, &'static str) {
        let number = self.number();
        let distinct = if self.choices.one_in(4) { "DISTINCT " } else { "" };
        let (call, name) = match self.choices.below(16) {
            0 => ("COUNT(*)".to_string(), "c"),
            1 => (format!("COUNT({distinct}{number})"), "c"),
            2 => (format!("SUM({distinct}{number})"), "c"),
            3 => (format!("AVG({distinct}{number})"), "c"),
            4 => (format!("MIN({number})"), "c"),
            5 => (format!("MAX({number})"), "c"),
            6 => (format!("COUNT({distinct}g)"), "c"),
            7 => (self.one(&["MIN(g)", "MAX(g)", "MAX(ts)", "MIN(p)", "MAX(d)", "MIN(n)", "MAX(f)"]).to_string(), "c"),
            8 => (self.one(&["SUM(d)", "AVG(d)", "SUM(n)", "AVG(n)", "SUM(f)", "AVG(f)"]).to_string(), "c"),
            9 => (self.one(&["BOOL_AND(p)", "BOOL_OR(p)", "EVERY(v > 0)"]).to_string(), "c"),
            10 => {
                let function = self.one(&["VAR_POP", "VAR_SAMP", "STDDEV_POP", "STDDEV_SAMP", "VARIANCE", "STDDEV"]);
                (format!("{function}({number})"), "c")
            }
            11 => {
                let function = self.one(&["VAR_POP", "VAR_SAMP", "STDDEV_POP", "STDDEV_SAMP", "VARIANCE", "STDDEV"]);
                let over = self.one(&["d", "n", "f"]);
                (format!("{function}({over})"), if over == "n" { "rounded" } else { "near" })
            }
            12 => (format!("APPROX_COUNT_DISTINCT({number})"), "about"),
            13 if ordered => {
                let call = self.one(&[
                    "FIRST_VALUE(v)",
                    "LAST_VALUE(g)",
                    "ARRAY_AGG(i)",
                    "LISTAGG(g, '-')",
                    "LISTAGG(g)",
                    "ARRAY_AGG(DISTINCT g)",
                    "LAST_VALUE(r)",
                    "FIRST_VALUE(a)",
                    "LISTAGG(DISTINCT g)",
                ]);
                (call.to_string(), "c")
            }
            14 => {
                (self.one(&["COUNT(DISTINCT k, g)", "COUNT(k, p)", "COUNT(r)", "COUNT(DISTINCT ts)"]).to_string(), "c")
            }
            _ => ("COUNT(v)".to_string(), "c"),
        };
        match self.choices.one_in(4) {
            true => (format!("{call} FILTER (WHERE {})", self.predicate()), name),
            false => (call, name),
        }
    }

    pub(super) fn calls(&mut self) -> String {
        self.list(!self.updating)
    }

    /// Calls whose answer does not depend on the order of rows.
    pub(super) fn unordered_calls(&mut self) -> String {
        self.list(false)
    }

    fn list(&mut self, ordered: bool) -> String {
        let count = 1 + self.choices.below(3);
        let call = |index| {
            let (call, name) = self.call(ordered);
            format!("{call} AS {name}{index}")
        };
        (0..count).map(call).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn keys(&mut self) -> &'static str {
        self.one(&[
            "k",
            "g",
            "k, g",
            "p",
            "k % 2",
            "UPPER(g)",
            "rx, p",
            "d",
            "n, k",
            "CAST(k AS BIGINT), k",
            "CAST(i AS STRING), TRY_CAST(i AS BIGINT)",
        ])
    }
}
