//! `a INTERSECT b` and `a EXCEPT b`: `SELECT * FROM (a UNION ALL b)` under a name that says what is meant.
//!
//! SQL's planner would make joins of them, which forget how often a row is there (`ALL`). As a union the columns of both
//! sides are made to fit; [`crate::plan::set_operation`] then finds the name and puts its own node there.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    GroupByExpr, Ident, Query, Select, SelectFlavor, SelectItem, SetExpr, SetOperator, SetQuantifier, TableAlias,
    TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use super::plain_query;

/// The name of a union that stands for `INTERSECT`, and for `INTERSECT ALL`.
pub(crate) const INTERSECT: [&str; 2] = ["$intersect", "$intersect_all"];

/// The name of a union that stands for `EXCEPT`, and for `EXCEPT ALL`.
pub(crate) const EXCEPT: [&str; 2] = ["$except", "$except_all"];

/// Rewrites the body of a query; a chain of unions along its left side in a loop, the rest by recursion.
pub(super) fn body(body: &mut SetExpr) {
    let mut body = body;
    loop {
        let names = match body {
            SetExpr::SetOperation { op: SetOperator::Intersect, .. } => INTERSECT,
            SetExpr::SetOperation { op: SetOperator::Except, .. } => EXCEPT,
            SetExpr::SetOperation { left, right, op: SetOperator::Union | SetOperator::Minus, set_quantifier: _ } => {
                self::body(right);
                body = left;
                continue;
            }
            _ => return,
        };
        return meant(body, names);
    }
}

/// Makes a marked union of a set operation.
fn meant(body: &mut SetExpr, names: [&str; 2]) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return };
    self::body(left);
    self::body(right);
    let name = names[usize::from(*set_quantifier == SetQuantifier::All)];
    (*op, *set_quantifier) = (SetOperator::Union, SetQuantifier::All);
    let union = std::mem::replace(body, SetExpr::Select(Box::new(select(vec![]))));
    *body = SetExpr::Select(Box::new(select(vec![named(plain_query(union), name)])));
}

fn named(subquery: Query, name: &str) -> TableWithJoins {
    let alias = TableAlias { explicit: true, name: Ident::with_quote('`', name), columns: vec![], at: None };
    let relation =
        TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: Some(alias), sample: None };
    TableWithJoins { relation, joins: vec![] }
}

/// `SELECT * FROM from`.
fn select(from: Vec<TableWithJoins>) -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
        exclude: None,
        into: None,
        from,
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}
