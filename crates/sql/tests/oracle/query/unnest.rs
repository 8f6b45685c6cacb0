//! Elements of arrays and maps as rows, on their own and in windows.

use super::{Closing, Draw, Query};

/// What is unnested: the expression, the names of its columns, and what can be asked of them.
struct Elements {
    list: &'static str,
    names: &'static str,
    predicate: &'static str,
    key: &'static str,
}

const ELEMENTS: [Elements; 7] = [
    Elements { list: "a", names: "e", predicate: "e > 1", key: "e" },
    Elements { list: "m", names: "mk, mv", predicate: "mv > 1 OR mk = 'x'", key: "mk" },
    Elements { list: "rs", names: "ex, ey", predicate: "ey IS NOT NULL", key: "ex, ey" },
    Elements { list: "ARRAY[k, i]", names: "e", predicate: "e <> 2", key: "e" },
    Elements { list: "ARRAY[1, k, 2]", names: "e", predicate: "e <> 2", key: "e" },
    Elements { list: "SPLIT(g, 'b')", names: "e", predicate: "e = ''", key: "e" },
    Elements { list: "ARRAY_DISTINCT(a)", names: "e", predicate: "e IS NULL", key: "e" },
];

impl Draw<'_> {
    /// FROM with a join of elements, and the elements.
    fn joined(&mut self) -> (String, &'static Elements, String) {
        let elements = &ELEMENTS[self.choices.below(ELEMENTS.len() as u64) as usize];
        let with = self.choices.one_in(4);
        let (ordinality, place) = if with { (" WITH ORDINALITY", ", place") } else { ("", "") };
        let names = format!("{}{place}", elements.names);
        let unnest = format!("UNNEST({}){ordinality} AS l ({names})", elements.list);
        let from = match self.choices.below(3) {
            0 => format!("t CROSS JOIN {unnest}"),
            1 => format!("t LEFT JOIN {unnest} ON TRUE"),
            _ => format!("t, {unnest}"),
        };
        (from, elements, names)
    }

    pub(super) fn unnested(&mut self) -> Query {
        let (from, elements, names) = self.joined();
        let filter = match self.choices.below(4) {
            1 => format!(" WHERE {}", self.predicate()),
            2 => format!(" WHERE {}", elements.predicate),
            3 => format!(" WHERE ({}) AND {}", elements.predicate, self.predicate()),
            _ => String::new(),
        };
        let key = elements.key;
        let select = match self.choices.below(5) {
            0 => format!("SELECT k, v, {names} FROM {from}{filter}"),
            1 => format!("SELECT {key}, COUNT(*) AS c, SUM(v) AS s FROM {from}{filter} GROUP BY {key}"),
            2 => format!("SELECT k, {} FROM {from}{filter} GROUP BY k", self.unordered_calls()),
            3 => format!("SELECT DISTINCT {names} FROM {from}{filter}"),
            _ => format!("SELECT {names}, d FROM {from} CROSS JOIN UNNEST(m) AS o (ok, ov){filter}"),
        };
        self.query(select)
    }

    pub(super) fn windows_of_elements(&mut self) -> Query {
        let (from, elements, names) = self.joined();
        let key = elements.key;
        let by = "window_start, window_end";
        let window = self.one(&[
            "TUMBLE(TABLE elements, DESCRIPTOR(ts), INTERVAL '4' SECOND)",
            "HOP(TABLE elements, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)",
            "CUMULATE(TABLE elements, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '9' SECOND)",
        ]);
        let emit = self.choices.one_in(4);
        let mut query = self.query(format!(
            "SELECT {key}, {by}, COUNT(*) AS c, MAX(v) AS m, COUNT(DISTINCT k) AS d FROM TABLE({window}) \
             GROUP BY {key}, {by}"
        ));
        query.views = format!("CREATE VIEW elements AS SELECT k, v, ts, {names} FROM {from};\n");
        if emit {
            query.set_emit(" EMIT CHANGES");
        } else {
            query.closing = Some(Closing::Watermark);
        }
        query
    }
}
