//! Comparisons with the rows of a query: `= ANY` and `<> ALL` are `IN` and `NOT IN`, others compare with the least or the
//! greatest of them.
//!
//! What is true of one of all rows, or of all, is true of the one that is furthest; whether it is unknown hangs on whether
//! the query has rows, and NULLs among them. So `x < ANY (SELECT ..)` becomes
//!
//! ```sql
//! CASE WHEN x < (SELECT MAX(..)) THEN TRUE
//!      ELSE CASE (no rows: 0, a NULL among them: 2, else 1)
//!           WHEN 0 THEN FALSE WHEN 2 THEN NULL ELSE CASE WHEN x IS NOT NULL THEN FALSE END END END
//! ```
//!
//! and `ALL` is that with true and false the other way round.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, TableFactor, UnaryOperator, Value,
    visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;

use crate::aggregate::Aggregates;

/// A value that is compared with the rows of a query.
pub(crate) struct Quantified<'e> {
    /// The value.
    pub(crate) value: &'e Expr,
    op: &'e BinaryOperator,
    /// The query.
    pub(crate) query: &'e Query,
    /// Whether all rows are meant.
    all: bool,
}

/// The parts of an expression that is one of these.
pub(crate) fn parts(expr: &Expr) -> Option<Quantified<'_>> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let (value, op, right, all) = match expr {
        Expr::AnyOp { left, compare_op, right, is_some: _ } => (left, compare_op, right, false),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, true),
        _ => return None,
    };
    let Expr::Subquery(query) = right.as_ref() else { return None };
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq).then_some(Quantified { value, op, query, all })
}

/// Rewrites one expression.
pub(super) fn expr(expr: &mut Expr) {
    use BinaryOperator::{Eq, NotEq};
    let Some(Quantified { value, op, query, all }) = parts(expr) else { return };
    *expr = match (op, all) {
        (Eq, false) | (NotEq, true) => {
            Expr::InSubquery { expr: Box::new(value.clone()), subquery: Box::new(query.clone()), negated: all }
        }
        _ => match compared(value, op, query, all) {
            Some(compared) => Expr::Nested(Box::new(compared)),
            None => return,
        },
    };
}

fn compared(value: &Expr, op: &BinaryOperator, query: &Query, all: bool) -> Option<Expr> {
    use BinaryOperator::{And, Eq, Gt, GtEq, NotEq, Or};
    let with = |function: &str| -> Option<Expr> {
        let one = over(&format!("{function}(compared)"), query)?;
        Some(binary(value.clone(), op.clone(), Expr::Subquery(Box::new(one))))
    };
    let greater = matches!(op, Gt | GtEq);
    let decides = match op {
        Eq => binary(with("MIN")?, And, with("MAX")?),
        NotEq => binary(with("MIN")?, Or, with("MAX")?),
        _ => with(if greater == all { "MAX" } else { "MIN" })?,
    };
    let decides = if all { not(decides) } else { decides };
    let rows = "CASE WHEN COUNT(*) = 0 THEN 0 WHEN COUNT(compared) < COUNT(*) THEN 2 ELSE 1 END";
    let rows = Expr::Subquery(Box::new(over(rows, query)?));
    let known = case(None, vec![(Expr::IsNotNull(Box::new(value.clone())), flag(all))], None);
    let whens = vec![(number("0"), flag(all)), (number("2"), Expr::Value(Value::Null.into()))];
    Some(case(None, vec![(decides, flag(!all))], Some(case(Some(rows), whens, Some(known)))))
}

/// What is selected of the only column of a query, which is called `compared` in the text. A query that gives rows as they
/// are is asked itself: it may name columns of the rows around it.
fn over(selected: &str, query: &Query) -> Option<Query> {
    let text = format!("SELECT {selected} FROM (SELECT 1) AS compared_rows (compared)");
    // Without places: those are of the text that a person wrote.
    let tokens = Tokenizer::new(&GenericDialect {}, &text).tokenize().ok()?;
    let mut outer = *Parser::new(&GenericDialect {}).with_tokens(tokens).parse_query().ok()?;
    let SetExpr::Select(select) = outer.body.as_mut() else { return None };
    if let Some(compared) = plain(query) {
        let _ = visit_expressions_mut(&mut select.projection, |expr| {
            if matches!(expr, Expr::Identifier(name) if name.value == "compared") {
                *expr = compared.clone();
            }
            ControlFlow::<()>::Continue(())
        });
        let projection = std::mem::take(&mut select.projection);
        let mut inner = query.clone();
        if let SetExpr::Select(select) = inner.body.as_mut() {
            select.projection = projection;
        }
        return Some(inner);
    }
    let TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else { return None };
    **subquery = query.clone();
    Some(outer)
}

/// The value that a query selects of each row, if all it does is to join and to filter.
fn plain(query: &Query) -> Option<&Expr> {
    let Query { with, body, order_by, limit_clause, fetch, .. } = query;
    let SetExpr::Select(select) = body.as_ref() else { return None };
    let Select { distinct, projection, group_by, having, qualify, .. } = select.as_ref();
    let all = matches!(group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty()) && having.is_none();
    let bare = with.is_none() && order_by.is_none() && limit_clause.is_none() && fetch.is_none();
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = projection.as_slice() else {
        return None;
    };
    let aggregates = Aggregates::new();
    let folds = visit_expressions(expr, |part| match part {
        Expr::Function(call)
            if call.over.is_some() || aggregates.get(&call.name.to_string().to_lowercase()).is_some() =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    (all && bare && distinct.is_none() && qualify.is_none() && folds.is_continue()).then_some(expr)
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    let nested = |expr: Expr| Box::new(Expr::Nested(Box::new(expr)));
    match op {
        BinaryOperator::And | BinaryOperator::Or => Expr::BinaryOp { left: nested(left), op, right: nested(right) },
        _ => Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) },
    }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

fn flag(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).into())
}

fn number(text: &str) -> Expr {
    Expr::Value(Value::Number(text.to_string(), false).into())
}

fn case(operand: Option<Expr>, whens: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let conditions = whens.into_iter().map(|(condition, result)| CaseWhen { condition, result }).collect();
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: operand.map(Box::new),
        conditions,
        else_result: otherwise.map(Box::new),
    }
}
