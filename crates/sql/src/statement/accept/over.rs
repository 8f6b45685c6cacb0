//! Which calls with OVER run: aggregates, ROW_NUMBER and LAG over the rows up to the row itself, in the order of a time.

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
const NUMBERS: &[&str] = &["ROW_NUMBER", "LAG"];

const FRAME_HELP: &str =
    "write RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW, or ROWS BETWEEN 9 PRECEDING AND CURRENT ROW";
const ORDER_HELP: &str = "write OVER (PARTITION BY key ORDER BY ts), with ts a time attribute of the table";

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
            WindowType::WindowSpec(spec) => self.window_spec(spec, over_at),
            WindowType::NamedWindow(name) => self.known_window(name, over_at),
        }
    }

    fn no_over(&self, name: &str, at: Position) -> Error {
        let help = match name {
            "LEAD" => "LEAD looks at rows that are still to come; LAG looks at those before",
            "RANK" | "DENSE_RANK" | "NTILE" | "PERCENT_RANK" | "CUME_DIST" => {
                "ROW_NUMBER() numbers the rows of a key in the order of a time"
            }
            "NTH_VALUE" => "LAG(x, n) gives the value n rows before, FIRST_VALUE(x) the first",
            _ => {
                "the functions with OVER are COUNT, SUM, AVG, MIN, MAX, FIRST_VALUE, LAST_VALUE, STDDEV_.., VAR_.., \
                  BOOL_AND, BOOL_OR, ROW_NUMBER and LAG"
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
        let key = match order_by {
            [key] => key,
            [] => return Err(self.unsupported(at, "OVER needs the time that its rows are ordered by", ORDER_HELP)),
            [_, second, ..] => {
                let what = "OVER is ordered by one time alone";
                return Err(self.unsupported(self.at(&second.expr), what, "remove the other columns of ORDER BY"));
            }
        };
        let OrderByExpr { expr, options: OrderByOptions { asc, nulls_first }, with_fill } = key;
        if *asc == Some(false) || nulls_first.is_some() || with_fill.is_some() {
            let what = "OVER is ordered by a time upwards alone, as rows come";
            let help = "write ORDER BY ts; the greatest value of the rows so far is MAX(x) OVER (..)";
            return Err(self.unsupported(self.at(expr), what, help));
        }
        self.expr(expr)?;
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
        match end_bound {
            None | Some(WindowFrameBound::CurrentRow) => {}
            Some(WindowFrameBound::Following(_)) => {
                let what = "a frame cannot reach beyond the row: what follows has not come yet";
                return Err(self.unsupported(at, what, FRAME_HELP));
            }
            Some(WindowFrameBound::Preceding(_)) => {
                let what = "a frame that ends before the row is not supported: it ends with the row";
                return Err(self.unsupported(at, what, FRAME_HELP));
            }
        }
        match start_bound {
            WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(None) => Ok(()),
            WindowFrameBound::Preceding(Some(size)) if rows => match size.as_ref() {
                Expr::Value(value) if matches!(&value.value, Value::Number(digits, false) if digits.parse::<u32>().is_ok()) => {
                    Ok(())
                }
                other => {
                    let what = "ROWS takes a number of rows";
                    Err(self.unsupported(self.at(other), what, "write ROWS BETWEEN 9 PRECEDING AND CURRENT ROW"))
                }
            },
            WindowFrameBound::Preceding(Some(size)) => match interval_of(size) {
                Some(IntervalLiteral::Millis(millis)) if millis >= 0 => Ok(()),
                found => {
                    let what = match found {
                        Some(IntervalLiteral::Months(_)) => {
                            "RANGE takes days and smaller units: months differ in length"
                        }
                        _ => "RANGE takes an INTERVAL that is not negative",
                    };
                    let help = "write RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW";
                    Err(self.unsupported(self.at(size), what, help))
                }
            },
            WindowFrameBound::Following(_) => {
                let what = "a frame cannot start after its row";
                Err(self.unsupported(at, what, FRAME_HELP))
            }
        }
    }
}
