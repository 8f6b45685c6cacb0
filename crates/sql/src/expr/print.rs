//! Expressions as a person would write them: what `explain` and errors show.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, BinaryExpr, Case, Cast, InList, Like, ScalarFunction, TryCast,
};
use datafusion::logical_expr::{Expr, Operator};

use crate::types::{name_of, quoted};

/// The expression in our printed form, without the tables its columns come from.
pub(crate) fn print(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => print(&alias.expr),
        Expr::Column(column) => quoted(&column.name),
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            format!("{} {} {}", operand(left, *op), sign(*op), operand(right, *op))
        }
        Expr::Not(expr) => format!("NOT {}", group(expr)),
        Expr::Negative(expr) => format!("-{}", group(expr)),
        Expr::IsNull(expr) => format!("{} IS NULL", group(expr)),
        Expr::IsNotNull(expr) => format!("{} IS NOT NULL", group(expr)),
        Expr::IsTrue(expr) => format!("{} IS TRUE", group(expr)),
        Expr::IsFalse(expr) => format!("{} IS FALSE", group(expr)),
        Expr::IsNotTrue(expr) => format!("{} IS NOT TRUE", group(expr)),
        Expr::IsNotFalse(expr) => format!("{} IS NOT FALSE", group(expr)),
        Expr::Between(Between { expr, negated, low, high }) => {
            format!("{} {}BETWEEN {} AND {}", group(expr), not(*negated), group(low), group(high))
        }
        Expr::Like(Like { negated, expr, pattern, escape_char, case_insensitive }) => {
            let word = if *case_insensitive { "ILIKE" } else { "LIKE" };
            let escape = escape_char.map(|escape| format!(" ESCAPE '{escape}'")).unwrap_or_default();
            format!("{} {}{word} {}{escape}", group(expr), not(*negated), group(pattern))
        }
        Expr::InList(InList { expr, list, negated }) => {
            format!("{} {}IN ({})", group(expr), not(*negated), comma(list))
        }
        Expr::Cast(Cast { expr, field }) => format!("CAST({} AS {})", print(expr), name_of(field.data_type())),
        Expr::TryCast(TryCast { expr, field }) => {
            format!("TRY_CAST({} AS {})", print(expr), name_of(field.data_type()))
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let mut text = "CASE".to_string();
            if let Some(expr) = expr {
                text += &format!(" {}", print(expr));
            }
            for (when, then) in when_then_expr {
                text += &format!(" WHEN {} THEN {}", print(when), print(then));
            }
            if let Some(expr) = else_expr {
                text += &format!(" ELSE {}", print(expr));
            }
            text + " END"
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match (func.name(), args.as_slice()) {
            ("$cast", [value, Expr::Literal(ScalarValue::Utf8(Some(to)), _)]) => {
                format!("CAST({} AS {to})", print(value))
            }
            ("$try_cast", [value, Expr::Literal(ScalarValue::Utf8(Some(to)), _)]) => {
                format!("TRY_CAST({} AS {to})", print(value))
            }
            (name, [left, right]) if arithmetic(name).is_some() => {
                format!("{} {} {}", group(left), arithmetic(name).unwrap_or_default(), group(right))
            }
            ("get_field", [row, Expr::Literal(ScalarValue::Utf8(Some(name)), _)]) => {
                format!("{}.{}", group(row), quoted(name))
            }
            (name, args) => format!("{}({})", name.to_uppercase(), comma(args)),
        },
        Expr::AggregateFunction(call) => aggregate(call),
        other => other.human_display().to_string(),
    }
}

fn aggregate(AggregateFunction { func, params }: &AggregateFunction) -> String {
    let counts_rows = func.name() == "count" && matches!(params.args.as_slice(), [Expr::Literal(..)]);
    let args = if counts_rows { "*".to_string() } else { comma(&params.args) };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let filter = match &params.filter {
        Some(filter) => format!(" FILTER (WHERE {})", print(filter)),
        None => String::new(),
    };
    format!("{}({distinct}{args}){filter}", func.name().to_uppercase())
}

/// The sign of one of our arithmetic functions.
fn arithmetic(name: &str) -> Option<&'static str> {
    match name {
        "$add" => Some("+"),
        "$subtract" => Some("-"),
        "$multiply" => Some("*"),
        "$divide" => Some("/"),
        "$remainder" => Some("%"),
        _ => None,
    }
}

fn comma(exprs: &[Expr]) -> String {
    exprs.iter().map(print).collect::<Vec<_>>().join(", ")
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn sign(op: Operator) -> String {
    match op {
        Operator::NotEq => "<>".to_string(),
        other => other.to_string(),
    }
}

fn is_operator(expr: &Expr) -> bool {
    if let Expr::ScalarFunction(call) = expr {
        return arithmetic(call.func.name()).is_some();
    }
    matches!(expr, Expr::BinaryExpr(_) | Expr::Between(_) | Expr::Like(_) | Expr::InList(_) | Expr::Not(_))
}

fn group(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => group(&alias.expr),
        expr if is_operator(expr) => format!("({})", print(expr)),
        expr => print(expr),
    }
}

/// An operand, in brackets unless its operator binds at least as tightly by being the same associative one.
fn operand(expr: &Expr, outer: Operator) -> String {
    match expr {
        Expr::Alias(alias) => operand(&alias.expr, outer),
        Expr::BinaryExpr(BinaryExpr { op, .. })
            if *op == outer && matches!(op, Operator::And | Operator::Or | Operator::Plus | Operator::Multiply) =>
        {
            print(expr)
        }
        Expr::BinaryExpr(BinaryExpr { op, .. }) if op.precedence() > outer.precedence() => print(expr),
        expr => group(expr),
    }
}

fn literal(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Utf8(Some(text)) => format!("'{}'", text.replace('\'', "''")),
        value if value.is_null() => "NULL".to_string(),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let (months, millis) =
                (interval.months, i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000);
            match (months, millis) {
                (0, millis) => format!("INTERVAL {}", duration(millis)),
                (months, 0) => format!("INTERVAL '{months}' MONTH"),
                (months, millis) => format!("INTERVAL '{months}' MONTH + {}", duration(millis)),
            }
        }
        ScalarValue::TimestampMillisecond(Some(millis), _) => {
            format!(
                "TIMESTAMP '{}'",
                tidemill_base::Timestamp(*millis).to_string().replace('T', " ").trim_end_matches('Z')
            )
        }
        value => value.to_string(),
    }
}

/// Milliseconds in the largest unit that divides them: `10 s`.
pub(crate) fn duration(millis: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let (size, unit) = units.into_iter().find(|(size, _)| millis % size == 0).unwrap_or((1, "ms"));
    format!("{} {unit}", millis / size)
}
