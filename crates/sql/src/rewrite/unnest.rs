//! `CROSS JOIN UNNEST(array) AS t (item)` and `FROM s, UNNEST(array) AS t (item)`: one form for both.

use datafusion::sql::sqlparser::ast::{
    FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, Select, TableFactor, TableFunctionArgs,
    TableWithJoins,
};

/// Rewrites the FROM clause of a query.
pub(super) fn select(select: &mut Select) {
    for TableWithJoins { relation, joins } in &mut select.from {
        factor(relation);
        for join in joins {
            factor(&mut join.relation);
        }
    }
    let unnested = |item: &TableWithJoins| matches!(item.relation, TableFactor::UNNEST { .. });
    if select.from.len() < 2 || !select.from[1..].iter().all(unnested) {
        return;
    }
    for TableWithJoins { relation, joins } in select.from.split_off(1) {
        let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
        let first = &mut select.from[0].joins;
        first.push(Join { relation, global: false, join_operator });
        first.extend(joins);
    }
}

fn factor(factor: &mut TableFactor) {
    let TableFactor::Table {
        name, alias, args: Some(TableFunctionArgs { args, settings: None }), with_ordinality, ..
    } = factor
    else {
        return;
    };
    let named = name.0.len() == 1 && name.0[0].as_ident().is_some_and(|name| name.value.eq_ignore_ascii_case("UNNEST"));
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] = args.as_slice() else { return };
    if !named {
        return;
    }
    *factor = TableFactor::UNNEST {
        alias: alias.clone(),
        array_exprs: vec![array.clone()],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: *with_ordinality,
    };
}
