//! Which calls with OVER run: aggregates, rankings, LAG and LEAD, over rows in any order.
//!
//! Whether a window can be kept up depends on its input too, which is known when it is lowered.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, NamedWindowDefinition, NamedWindowExpr, OrderByExpr, OrderByOptions, Value, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use tidemill_base::{Position, suggest};

use super::Accept;
use crate::dialect::{IntervalLiteral, interval_of};
use crate::error::Error;
use crate::statement::name_start;

/// The aggregates that can be kept up over a frame.
const AGGREGATES: &[&str] = &[
    "COUNT",
    "SUM",
    "AVG",
    "MIN",
    "MAX",
    "FIRST_VALUE",
    "LAST_VALUE",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
    "BOOL_AND",
    "BOOL_OR",
    "EVERY",
];
/// The functions that are called with OVER alone.
const NUMBERS: &[&str] = &["ROW_NUMBER", "RANK", "DENSE_RANK", "LAG", "LEAD"];

const FRAME_HELP: &str =
    "write RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW, or ROWS BETWEEN 9 PRECEDING AND CURRENT ROW";
const ORDER_HELP: &str = "write OVER (PARTITION BY key ORDER BY ts), or another column that tells the rows' order";

/// Whether a function is called with OVER alone.
pub(super) fn needs_over(name: &str) -> bool {
    NUMBERS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl Accept<'_, '_> {
    /// Accepts `WINDOW w AS (..)` and remembers the names for the calls of the SELECT.
    pub(super) fn named_windows(&self, windows: &[NamedWindowDefinition], near: Position) -> Result<(), Error> {
        let mut names: Vec<String> = Vec::with_capacity(windows.len());
        for NamedWindowDefinition(name, window) in windows {
            self.name(name, near)?;
            let at = name_start(name, near);
            if names.contains(&name.value) {
                return Err(Error::Definition {
                    problem: format!("the window {} is defined twice", name.value),
                    position: at,
                    help: Some("rename or remove one of them".to_string()),
                });
            }
            match window {
                NamedWindowExpr::WindowSpec(spec) => self.window_spec(spec, at)?,
                NamedWindowExpr::NamedWindow(other) => {
                    let what = "a window that is another window has two names for one thing";
                    let help = format!("use {} itself, or write the window out", other.value);
                    return Err(self.unsupported(name_start(other, at), what, &help));
                }
            }
            names.push(name.value.clone());
        }
        *self.windows.borrow_mut() = names;
        Ok(())
    }

    /// Accepts a call with OVER; `at` is where its name stands and `over_at` where OVER does.
    pub(super) fn over(
        &self,
        function: &Function,
        over: &WindowType,
        at: Position,
        over_at: Position,
    ) -> Result<(), Error> {
        let name = function.name.to_string().to_ascii_uppercase();
        if !self.over_allowed.get() {
            let what = "OVER can stand in SELECT only, and not inside another call with OVER";
            let help = "compute it in a query in FROM, and use its column here";
            return Err(self.unsupported(over_at, what, help));
        }
        if !AGGREGATES.contains(&name.as_str()) && !NUMBERS.contains(&name.as_str()) {
            return Err(self.no_over(&name, at));
        }
        if NUMBERS.contains(&name.as_str()) && function.filter.is_some() {
            let what = format!("{name} takes no FILTER: it is of all rows");
            return Err(self.unsupported(at, &what, "filter the rows with WHERE in a query in FROM"));
        }
        match over {
            WindowType::WindowSpec(spec) => {
                if NUMBERS.contains(&name.as_str()) && spec.order_by.is_empty() {
                    let what = format!("{name} needs the order of its rows");
                    return Err(self.unsupported(over_at, &what, ORDER_HELP));
                }
                self.window_spec(spec, over_at)
            }
            WindowType::NamedWindow(name) => self.known_window(name, over_at),
        }
    }

    fn no_over(&self, name: &str, at: Position) -> Error {
        let help = match name {
            "NTILE" | "PERCENT_RANK" | "CUME_DIST" => "ROW_NUMBER(), RANK() and DENSE_RANK() number the rows of a key",
            "NTH_VALUE" => "LAG(x, n) gives the value n rows before, FIRST_VALUE(x) the first",
            _ => {
                "the functions with OVER are COUNT, SUM, AVG, MIN, MAX, FIRST_VALUE, LAST_VALUE, STDDEV_.., VAR_.., \
                  BOOL_AND, BOOL_OR, ROW_NUMBER, RANK, DENSE_RANK, LAG and LEAD"
            }
        };
        self.unsupported(at, &format!("{name} with OVER is not supported"), help)
    }

    fn known_window(&self, name: &Ident, near: Position) -> Result<(), Error> {
        let windows = self.windows.borrow();
        if windows.contains(&name.value) {
            return Ok(());
        }
        let help = match suggest::nearest(&name.value, windows.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("define it: FROM t WINDOW {} AS (PARTITION BY key ORDER BY ts)", name.value),
        };
        let position = Some(name_start(name, near));
        Err(Error::Unknown { what: "window", name: name.value.clone(), position, help: Some(help) })
    }

    fn window_spec(&self, spec: &WindowSpec, at: Position) -> Result<(), Error> {
        let WindowSpec { window_name, partition_by, order_by, window_frame } = spec;
        if let Some(name) = window_name {
            let what = "a window cannot be made of another one";
            return Err(self.unsupported(name_start(name, at), what, "write the window out, or OVER w alone"));
        }
        let allowed = self.over_allowed.replace(false);
        let result = self.window_parts(partition_by, order_by, window_frame.as_ref(), at);
        self.over_allowed.set(allowed);
        result
    }

    fn window_parts(
        &self,
        partition_by: &[Expr],
        order_by: &[OrderByExpr],
        frame: Option<&WindowFrame>,
        at: Position,
    ) -> Result<(), Error> {
        partition_by.iter().try_for_each(|key| self.expr(key))?;
        for key in order_by {
            let OrderByExpr { expr, options: OrderByOptions { asc: _, nulls_first: _ }, with_fill } = key;
            if with_fill.is_some() {
                return Err(self.unsupported(self.at(expr), "WITH FILL is not supported", "remove it"));
            }
            if let Expr::Value(_) = expr {
                let what = "a value that is the same for all rows orders none";
                return Err(self.unsupported(self.at(expr), what, ORDER_HELP));
            }
            self.expr(expr)?;
        }
        frame.map_or(Ok(()), |frame| self.frame(frame, at))
    }

    fn frame(&self, frame: &WindowFrame, at: Position) -> Result<(), Error> {
        let WindowFrame { units, start_bound, end_bound } = frame;
        let (word, rows) = match units {
            WindowFrameUnits::Rows => ("ROWS", true),
            WindowFrameUnits::Range => ("RANGE", false),
            WindowFrameUnits::Groups => {
                return Err(self.unsupported(self.after(at, "GROUPS"), "GROUPS is not supported", FRAME_HELP));
            }
        };
        let at = self.after(at, word);
        let from = self.bound(start_bound, rows)?;
        let to = end_bound.as_ref().map_or(Ok(Some(0)), |end| self.bound(end, rows))?;
        let starts_last = matches!(start_bound, WindowFrameBound::Following(None));
        let ends_first = matches!(end_bound, Some(WindowFrameBound::Preceding(None)));
        if starts_last || ends_first || from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(self.unsupported(at, "a frame cannot end before it starts", FRAME_HELP));
        }
        Ok(())
    }

    /// How far from its row a bound is: below zero before it; none when there is no bound.
    fn bound(&self, bound: &WindowFrameBound, rows: bool) -> Result<Option<i64>, Error> {
        let (size, sign) = match bound {
            WindowFrameBound::CurrentRow => return Ok(Some(0)),
            WindowFrameBound::Preceding(size) => (size, -1),
            WindowFrameBound::Following(size) => (size, 1),
        };
        let Some(size) = size else { return Ok(None) };
        if rows {
            let count = match size.as_ref() {
                Expr::Value(value) => match &value.value {
                    Value::Number(digits, false) => digits.parse::<u32>().ok(),
                    _ => None,
                },
                _ => None,
            };
            let Some(count) = count else {
                let help = "write ROWS BETWEEN 9 PRECEDING AND CURRENT ROW";
                return Err(self.unsupported(self.at(size), "ROWS takes a number of rows", help));
            };
            return Ok(Some(sign * i64::from(count)));
        }
        match interval_of(size) {
            Some(IntervalLiteral::Millis(millis)) if millis >= 0 => Ok(Some(sign * millis)),
            found => {
                let what = match found {
                    Some(IntervalLiteral::Months(_)) => "RANGE takes days and smaller units: months differ in length",
                    _ => "RANGE takes an INTERVAL that is not negative",
                };
                let help = "write RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW";
                Err(self.unsupported(self.at(size), what, help))
            }
        }
    }
}
