//! The way from a request to its answer: steps that say something of each row, down to the endpoint's source.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::logical_plan::{Filter, Projection, SubqueryAlias, Window};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use tidemill_base::Position;

use crate::error::Error;
use crate::lower::{is_random, place_of};
use crate::plan::assign::WindowAssign;
use crate::plan::lookup::{Lookup, ViewLookup};
use crate::plan::unnest::Unnest;
use crate::plan::{scanned, subquery};

/// Where the rows of a step come from, when it says something of each row.
pub(crate) fn next(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Window(Window { input, .. }) => Some(input),
        LogicalPlan::Extension(Extension { node }) => {
            let node = node.as_any();
            let lookup = node.downcast_ref::<Lookup>().map(|lookup| lookup.input.as_ref());
            let view = || node.downcast_ref::<ViewLookup>().map(|lookup| lookup.input.as_ref());
            let unnest = || node.downcast_ref::<Unnest>().map(|unnest| unnest.input.as_ref());
            lookup.or_else(view).or_else(unnest)
        }
        _ => None,
    }
}

/// Whether a plan leads from `source` to answers; `reads` is what the endpoint's query may read FROM.
pub(super) fn check(plan: &LogicalPlan, source: &str, reads: &str, position: Position) -> Result<(), Error> {
    let refused = |what: &str, help: String, near: Option<Position>| Error::Unsupported {
        what: format!(
            "{what} between a request and its answer is not supported: an answer is made of the request's row"
        ),
        position: near.unwrap_or(position),
        help: Some(help),
    };
    let in_view = |what: &str| {
        format!(
            "{what} in a view, and look it up: FROM {reads} AS r JOIN v FOR SYSTEM_TIME AS OF PROCTIME() ON r.k = v.k; \
             or write SUM(x) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)"
        )
    };
    let mut plan = plan;
    let mut above: Vec<Expr> = Vec::new();
    loop {
        match plan {
            LogicalPlan::TableScan(scan) if scan.table_name.table() == source => return Ok(()),
            LogicalPlan::TableScan(scan) => return Err(other_source(scan.table_name.table(), reads, position)),
            LogicalPlan::Aggregate(aggregate) => {
                let exprs = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
                let near = exprs.filter_map(place_of).min();
                return Err(refused("GROUP BY", in_view("group"), near));
            }
            LogicalPlan::Join(join) => {
                let exprs = join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter);
                let near = exprs.filter_map(place_of).min();
                return Err(refused("JOIN", in_view("join"), near));
            }
            LogicalPlan::Limit(_) => {
                let near = subquery::place_below(plan);
                return Err(refused("ORDER BY with LIMIT", in_view("keep the first rows"), near));
            }
            LogicalPlan::Distinct(_) => return Err(refused("DISTINCT", in_view("make rows distinct"), None)),
            LogicalPlan::Union(_) => {
                let help = format!("read FROM {reads} alone; bring other events together in a view");
                return Err(refused("UNION", help, None));
            }
            LogicalPlan::Extension(Extension { node }) if node.as_any().is::<WindowAssign>() => {
                let near = node.as_any().downcast_ref::<WindowAssign>().and_then(WindowAssign::place);
                return Err(refused("a window function", in_view("put the windows"), near));
            }
            LogicalPlan::Extension(Extension { node })
                if node.as_any().is::<Unnest>() && above.iter().any(is_random) =>
            {
                let help = "compute it in a query below UNNEST".to_string();
                return Err(refused("RAND or UUID over UNNEST", help, None));
            }
            LogicalPlan::Filter(_) | LogicalPlan::Projection(_) => {
                if let Some(near) = subquery::within(plan) {
                    return Err(refused("a query inside an expression", in_view("ask"), near));
                }
            }
            _ => {}
        }
        above.extend(plan.expressions());
        match next(plan) {
            Some(input) => plan = input,
            None => {
                return Err(Error::Plan {
                    problem: "the query does not read the request".to_string(),
                    position: Some(position),
                    help: Some(format!("write SELECT .. FROM {reads}")),
                });
            }
        }
    }
}

fn other_source(found: &str, reads: &str, position: Position) -> Error {
    Error::Plan {
        problem: format!("the query reads FROM {found}, and a request comes as a row of {reads}"),
        position: Some(position),
        help: Some(match reads {
            "request" => format!(
                "read FROM request and look rows up, or write WITH ('record' = '{found}') so that a request is a row of {found}"
            ),
            reads => format!("read FROM {reads}, or write WITH ('record' = '{found}')"),
        }),
    }
}

/// The place of the first lookup in a view that is fed by `source`, and the view's name.
pub(super) fn fed_by(plan: &LogicalPlan, source: &str) -> Option<(String, Option<Position>)> {
    let mut found = None;
    // The closure gives no error.
    let _ = plan.apply(|node| {
        if let LogicalPlan::Extension(Extension { node }) = node
            && let Some(lookup) = node.as_any().downcast_ref::<ViewLookup>()
            && scanned(&lookup.view).iter().any(|table| table == source)
        {
            found = Some((lookup.name.clone(), lookup.position));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}
