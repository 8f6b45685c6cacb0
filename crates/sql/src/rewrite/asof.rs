//! `ASOF JOIN t MATCH_CONDITION (a.ts >= t.ts) ON ..`: a lookup whose version is named by both times.
//!
//! As in Snowflake, from where the form is, each row of the left side comes out once: without a partner, with nulls.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    JoinConstraint, JoinOperator, ObjectName, Select, TableFactor, TableVersion, Value,
};

/// A function that no text can name: the time of the left side, that of the right side, and whether equal times match not.
pub(crate) const ASOF: &str = "$asof";

/// The times that a condition compares, the later one first, and whether they have to differ.
pub(crate) fn times(condition: &Expr) -> Option<(&Expr, &Expr, bool)> {
    match condition {
        Expr::Nested(inner) => times(inner),
        Expr::BinaryOp { left, op, right } => {
            let (later, earlier, strict) = match op {
                BinaryOperator::GtEq => (left, right, false),
                BinaryOperator::Gt => (left, right, true),
                BinaryOperator::LtEq => (right, left, false),
                BinaryOperator::Lt => (right, left, true),
                _ => return None,
            };
            let named = |expr: &Expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
            (named(later) && named(earlier)).then_some((later, earlier, strict))
        }
        _ => None,
    }
}

/// Rewrites the joins of a SELECT.
pub(super) fn select(select: &mut Select) {
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        let JoinOperator::AsOf { match_condition, constraint } = &join.join_operator else { continue };
        let Some((later, earlier, strict)) = times(match_condition) else { continue };
        let call = called(later.clone(), earlier.clone(), strict);
        let on = match constraint {
            JoinConstraint::On(on) => on.clone(),
            _ => Expr::Value(Value::Boolean(true).into()),
        };
        if let TableFactor::Table { version, .. } = &mut join.relation {
            *version = Some(TableVersion::ForSystemTimeAsOf(call));
            join.join_operator = JoinOperator::LeftOuter(JoinConstraint::On(on));
        }
    }
}

fn called(later: Expr, earlier: Expr, strict: bool) -> Expr {
    let args = [later, earlier, Expr::Value(Value::Boolean(strict).into())];
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(ASOF)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
