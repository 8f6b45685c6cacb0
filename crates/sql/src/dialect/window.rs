//! Window table functions in FROM, read into one checked [`WindowCall`].
//!
//! All spellings meet here: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))`, the same without `TABLE( )`,
//! and with named arguments (`DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND`).

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, TableAlias, TableFactor, TableFunctionArgs, WindowSpec, WindowType,
};
use tidemill_base::{Position, suggest};

use super::interval::{IntervalLiteral, interval_of};
use super::table::TABLE;
use crate::error::Error;
use crate::statement::{name_start, place, start_of};

/// A window table function with its arguments understood; all durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowCall {
    /// Which windows.
    pub kind: WindowKind,
    /// The rows that are put into windows.
    pub input: WindowInput,
    /// The columns whose values have windows of their own; only for SESSION.
    pub partition_by: Vec<Ident>,
    /// The time column.
    pub time: Ident,
    /// What the windows' starts are shifted by.
    pub offset_millis: i64,
    /// The name that the result has in the query.
    pub alias: Option<TableAlias>,
    /// Where the function's name stands.
    pub position: Position,
}

/// The shape of the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// `TUMBLE`: one after the other.
    Tumble {
        /// The length of a window.
        size_millis: i64,
    },
    /// `HOP`: of one size, a new one each slide; the size is a multiple of the slide.
    Hop {
        /// The distance between two starts.
        slide_millis: i64,
        /// The length of a window.
        size_millis: i64,
    },
    /// `CUMULATE`: growing by a step up to a size, then starting again; the size is a multiple of the step.
    Cumulate {
        /// What a window grows by.
        step_millis: i64,
        /// The length of the longest window.
        max_millis: i64,
    },
    /// `SESSION`: as long as rows follow each other within a gap.
    Session {
        /// The time without rows that ends a session.
        gap_millis: i64,
    },
}

/// What a window function reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowInput {
    /// A table or view.
    Table(ObjectName),
    /// A query in brackets.
    Query(Box<Query>),
}

/// Whether a name is that of a window function, which is also what group windows are called.
pub fn is_window_function(name: &str) -> bool {
    NAMES.iter().any(|window| window.eq_ignore_ascii_case(name))
}

const NAMES: [&str; 4] = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];

/// Reads a table factor as a window function; `None` when it is something else.
///
/// # Errors
/// [`Error::Window`] when an argument is missing, unknown, or no valid duration.
pub fn window_call(factor: &TableFactor) -> Option<Result<WindowCall, Error>> {
    let (name, args, alias) = match factor {
        TableFactor::TableFunction {
            expr: Expr::Function(Function { name, args: FunctionArguments::List(list), .. }),
            alias,
        } => {
            let FunctionArgumentList { args, .. } = list;
            (name, args, alias)
        }
        TableFactor::Table { name, args: Some(TableFunctionArgs { args, .. }), alias, .. }
        | TableFactor::Function { name, args, alias, .. } => (name, args, alias),
        _ => return None,
    };
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
    let window = NAMES.iter().find(|window| window.eq_ignore_ascii_case(&ident.value))?;
    let call = Call { window, position: name_start(ident, Position { line: 1, column: 1 }) };
    Some(call.read(args, alias.clone()))
}

/// A window function while its arguments are read.
struct Call {
    window: &'static str,
    position: Position,
}

impl Call {
    fn read(&self, args: &[FunctionArg], alias: Option<TableAlias>) -> Result<WindowCall, Error> {
        let slots = self.assign(args)?;
        let required = self.parameters();
        let mut given = Vec::new();
        for (index, name) in required.iter().enumerate() {
            match slots.get(index).copied().flatten() {
                Some(expr) => given.push(expr),
                None => return Err(self.error(format!("{} needs the argument {name}", self.window), self.position)),
            }
        }
        let [data, time, durations @ ..] = given.as_slice() else {
            return Err(self.error(format!("{} needs a table and a time column", self.window), self.position));
        };
        let (input, partition_by) = self.input(data)?;
        let time = self.descriptor(time)?;
        let mut millis = Vec::new();
        for (name, expr) in required[2..].iter().zip(durations) {
            millis.push(self.duration(name, expr, 1)?);
        }
        let kind = self.kind(&millis, durations)?;
        let offset_millis = match slots.get(required.len()).copied().flatten() {
            Some(expr) => self.offset(expr, kind)?,
            None => 0,
        };
        Ok(WindowCall { kind, input, partition_by, time, offset_millis, alias, position: self.position })
    }

    /// The names of the required arguments, in order; OFFSET may follow.
    fn parameters(&self) -> &'static [&'static str] {
        match self.window {
            "TUMBLE" => &["DATA", "TIMECOL", "SIZE"],
            "HOP" => &["DATA", "TIMECOL", "SLIDE", "SIZE"],
            "CUMULATE" => &["DATA", "TIMECOL", "STEP", "SIZE"],
            _ => &["DATA", "TIMECOL", "GAP"],
        }
    }

    /// Puts the arguments in the order of the parameters, by position or by name.
    fn assign<'e>(&self, args: &'e [FunctionArg]) -> Result<Vec<Option<&'e Expr>>, Error> {
        let mut names = self.parameters().to_vec();
        if self.window != "SESSION" {
            names.push("OFFSET");
        }
        let mut slots = vec![None; names.len()];
        for (index, arg) in args.iter().enumerate() {
            let (slot, arg, at) = match arg {
                FunctionArg::Named { name, arg, .. } => {
                    let at = name_start(name, self.position);
                    let slot = names.iter().position(|known| known.eq_ignore_ascii_case(&name.value));
                    (slot.ok_or_else(|| self.no_parameter(&name.value, &names, at))?, arg, at)
                }
                FunctionArg::Unnamed(arg) => (index, arg, self.position),
                FunctionArg::ExprNamed { name, .. } => {
                    return Err(
                        self.error("an argument's name has to be a word".to_string(), start_of(name, self.position))
                    );
                }
            };
            let FunctionArgExpr::Expr(expr) = arg else {
                return Err(self.error(format!("{} takes no `*`", self.window), at));
            };
            match slots.get_mut(slot) {
                None => {
                    let problem = format!("{} takes {} arguments at most", self.window, names.len());
                    return Err(self.error(problem, start_of(expr, at)));
                }
                Some(Some(_)) => {
                    return Err(self.error(format!("{} gets its argument {} twice", self.window, names[slot]), at));
                }
                Some(free) => *free = Some(expr),
            }
        }
        Ok(slots)
    }

    fn no_parameter(&self, name: &str, names: &[&str], position: Position) -> Error {
        let help = match suggest::nearest(name, names.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("its arguments are {}", names.join(", ")),
        };
        Error::Window { problem: format!("{} has no argument {name}", self.window), position, help: Some(help) }
    }

    fn input(&self, expr: &Expr) -> Result<(WindowInput, Vec<Ident>), Error> {
        let at = start_of(expr, self.position);
        let needs_table = || self.error(format!("the first argument of {} has to be a table", self.window), at);
        if let Expr::Subquery(query) = expr {
            return Ok((WindowInput::Query(query.clone()), vec![]));
        }
        let Expr::Function(Function { name, args, over, .. }) = expr else { return Err(needs_table()) };
        if name.to_string() != TABLE {
            return Err(needs_table());
        }
        let input = match args {
            FunctionArguments::Subquery(query) => WindowInput::Query(query.clone()),
            FunctionArguments::List(FunctionArgumentList { args, .. }) => match args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name)))] => {
                    WindowInput::Table(ObjectName::from(vec![name.clone()]))
                }
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(path)))] => {
                    WindowInput::Table(ObjectName::from(path.clone()))
                }
                _ => return Err(needs_table()),
            },
            FunctionArguments::None => return Err(needs_table()),
        };
        let partition_by = match over {
            None => vec![],
            Some(WindowType::WindowSpec(WindowSpec {
                partition_by,
                order_by,
                window_name: None,
                window_frame: None,
            })) => {
                if let Some(order) = order_by.first() {
                    let problem = format!("{} takes its rows in the order of time, without ORDER BY", self.window);
                    return Err(self.error(problem, start_of(&order.expr, at)));
                }
                self.partition(partition_by, at)?
            }
            Some(_) => return Err(needs_table()),
        };
        Ok((input, partition_by))
    }

    fn partition(&self, columns: &[Expr], at: Position) -> Result<Vec<Ident>, Error> {
        if let (Some(first), true) = (columns.first(), self.window != "SESSION") {
            return Err(Error::Window {
                problem: format!("{} takes no PARTITION BY: its windows are the same for all rows", self.window),
                position: start_of(first, at),
                help: Some("name the columns in GROUP BY, beside window_start and window_end".to_string()),
            });
        }
        let column = |expr: &Expr| match expr {
            Expr::Identifier(name) => Ok(name.clone()),
            Expr::CompoundIdentifier(path) if !path.is_empty() => Ok(path[path.len() - 1].clone()),
            other => {
                let problem = "PARTITION BY takes the names of columns here".to_string();
                let help = Some("compute the column in a view, and name it".to_string());
                Err(Error::Window { problem, position: start_of(other, at), help })
            }
        };
        columns.iter().map(column).collect()
    }

    fn descriptor(&self, expr: &Expr) -> Result<Ident, Error> {
        let at = start_of(expr, self.position);
        let needs = || Error::Window {
            problem: format!("the second argument of {} has to be the time column", self.window),
            position: at,
            help: Some("write DESCRIPTOR(ts), with the name of the column that has a WATERMARK".to_string()),
        };
        let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else {
            return Err(needs());
        };
        if !name.to_string().eq_ignore_ascii_case("DESCRIPTOR") {
            return Err(needs());
        }
        match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column)))] => Ok(column.clone()),
            _ => Err(needs()),
        }
    }

    fn kind(&self, millis: &[i64], exprs: &[&Expr]) -> Result<WindowKind, Error> {
        Ok(match (self.window, millis) {
            ("TUMBLE", &[size_millis]) => WindowKind::Tumble { size_millis },
            ("HOP", &[slide_millis, size_millis]) => {
                self.multiple("SIZE", size_millis, "SLIDE", slide_millis, exprs[1])?;
                WindowKind::Hop { slide_millis, size_millis }
            }
            ("CUMULATE", &[step_millis, max_millis]) => {
                self.multiple("SIZE", max_millis, "STEP", step_millis, exprs[1])?;
                WindowKind::Cumulate { step_millis, max_millis }
            }
            ("SESSION", &[gap_millis]) => WindowKind::Session { gap_millis },
            _ => return Err(Error::Bug { problem: format!("{} has {} durations", self.window, millis.len()) }),
        })
    }

    fn multiple(&self, whole: &str, size: i64, part: &str, step: i64, at: &Expr) -> Result<(), Error> {
        if size % step == 0 {
            return Ok(());
        }
        let below = (size / step).max(1) * step;
        Err(Error::Window {
            problem: format!(
                "the {whole} of {} ({}) is no multiple of its {part} ({})",
                self.window,
                time(size),
                time(step)
            ),
            position: start_of(at, self.position),
            help: Some(format!("give for instance {} and {}; {part} comes before {whole}", time(step), time(below))),
        })
    }

    fn offset(&self, expr: &Expr, kind: WindowKind) -> Result<i64, Error> {
        let offset = self.duration("OFFSET", expr, i64::MIN)?;
        let period = match kind {
            WindowKind::Tumble { size_millis } => size_millis,
            WindowKind::Hop { slide_millis, .. } => slide_millis,
            WindowKind::Cumulate { max_millis, .. } => max_millis,
            WindowKind::Session { gap_millis } => gap_millis,
        };
        if offset.abs() >= period {
            let problem = format!("the OFFSET of {} has to be shorter than {}", self.window, time(period));
            return Err(self.error(problem, start_of(expr, self.position)));
        }
        Ok(offset)
    }

    fn duration(&self, name: &str, expr: &Expr, least: i64) -> Result<i64, Error> {
        let position = start_of(expr, self.position);
        let of = self.window;
        match interval_of(expr) {
            Some(IntervalLiteral::Millis(millis)) if millis >= least => Ok(millis),
            Some(IntervalLiteral::Millis(_)) => {
                Err(self.error(format!("the {name} of {of} has to be longer than nothing"), position))
            }
            Some(IntervalLiteral::Months(_)) => Err(Error::Window {
                problem: format!("the {name} of {of} cannot be months or years: they have no fixed length"),
                position,
                help: Some("give it in days, or group by DATE_FORMAT(ts, 'yyyy-MM')".to_string()),
            }),
            None => Err(Error::Window {
                problem: format!("the {name} of {of} has to be an interval, written out"),
                position,
                help: Some("write for instance INTERVAL '10' SECOND".to_string()),
            }),
        }
    }

    fn error(&self, problem: String, position: Position) -> Error {
        let help = match self.window {
            "TUMBLE" => "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE)",
            "HOP" => "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE): slide, then size",
            "CUMULATE" => "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY): step, then size",
            _ => "SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE)",
        };
        Error::Window { problem, position, help: Some(format!("write {help}")) }
    }
}

/// Milliseconds in the largest unit that divides them.
fn time(millis: i64) -> String {
    let units = [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")];
    let (size, unit) = units.into_iter().find(|(size, _)| millis % size == 0).unwrap_or((1, "millisecond"));
    let count = millis / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The alias, or the place, of what stands in FROM; for errors about it.
pub(crate) fn factor_position(factor: &TableFactor, fallback: Position) -> Position {
    match factor {
        TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => match name.0.first() {
            Some(ObjectNamePart::Identifier(ident)) if ident.span.start.line > 0 => place(ident.span.start),
            _ => fallback,
        },
        TableFactor::TableFunction { expr, .. } => start_of(expr, fallback),
        other => start_of(other, fallback),
    }
}
