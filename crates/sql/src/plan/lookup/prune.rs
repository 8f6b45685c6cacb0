//! Which columns of a looked-up table a query needs: the others are not taken along.
//!
//! Demand goes down from what names its columns one by one (a projection, an aggregate) through what hands its input's
//! columns on. Where it is not known, all columns stay.

use std::sync::Arc;

use datafusion::common::{Column, Result};
use datafusion::logical_expr::logical_plan::Extension;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::{Lookup, VERSION, ViewLookup};

/// The plan, whose lookups give no more columns than it needs.
pub(crate) fn prune(plan: LogicalPlan) -> Result<LogicalPlan> {
    descend(plan, None)
}

/// Prunes `plan`, of whose columns those in `needed` are needed; all of them when that is not known.
fn descend(plan: LogicalPlan, needed: Option<Vec<Column>>) -> Result<LogicalPlan> {
    let named = |exprs: &[Expr]| -> Vec<Column> { exprs.iter().flat_map(Expr::column_refs).cloned().collect() };
    let exprs = plan.expressions();
    let below = match &plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => Some(named(&exprs)),
        LogicalPlan::Filter(_) | LogicalPlan::Window(_) => needed.map(|needed| [needed, named(&exprs)].concat()),
        LogicalPlan::Extension(Extension { node }) if node.as_any().is::<ViewLookup>() => {
            let Some(lookup) = node.as_any().downcast_ref::<ViewLookup>() else { return Ok(plan) };
            return of_view(lookup, needed, &named(&exprs));
        }
        LogicalPlan::Extension(Extension { node }) => match node.as_any().downcast_ref::<Lookup>() {
            None => None,
            Some(lookup) => {
                let residual = named(lookup.residual.as_slice());
                let needed = needed.map(|needed| [needed, residual].concat());
                let lookup = without_unneeded(lookup, needed.as_deref())?;
                let below = needed.map(|needed| [needed, named(&exprs)].concat());
                let input = descend(Arc::unwrap_or_clone(Arc::clone(&lookup.input)), below)?;
                let lookup = Lookup { input: Arc::new(input), ..lookup }.remade()?;
                return Ok(LogicalPlan::Extension(Extension { node: Arc::new(lookup) }));
            }
        },
        _ => None,
    };
    if plan.inputs().is_empty() {
        return Ok(plan);
    }
    let inputs =
        plan.inputs().into_iter().cloned().map(|input| descend(input, below.clone())).collect::<Result<_>>()?;
    plan.with_new_exprs(exprs, inputs)
}

fn without_unneeded(lookup: &Lookup, needed: Option<&[Column]>) -> Result<Lookup> {
    let Some(needed) = needed else { return Ok(lookup.clone()) };
    let width = lookup.input.schema().fields().len();
    let places: Vec<usize> =
        needed.iter().filter_map(|column| lookup.schema.maybe_index_of_column(column)?.checked_sub(width)).collect();
    let kept = lookup.columns.iter().enumerate().filter(|(place, _)| places.contains(place));
    let columns = kept.map(|(_, column)| column.clone()).collect();
    let version = lookup.version && needed.iter().any(|column| column.name == VERSION);
    Lookup { columns, version, ..lookup.clone() }.remade()
}

/// A lookup in a view without the columns that are not needed; its inputs too.
fn of_view(lookup: &ViewLookup, needed: Option<Vec<Column>>, keys: &[Column]) -> Result<LogicalPlan> {
    let equations = lookup.equals.iter().map(|equal| &equal.equation).chain(&lookup.residual);
    let own: Vec<Column> = equations.flat_map(Expr::column_refs).cloned().collect();
    let needed = needed.map(|needed| [needed, own].concat());
    let mut columns = lookup.columns.clone();
    if let Some(needed) = &needed {
        let width = lookup.input.schema().fields().len();
        let place = |column: &Column| lookup.schema.maybe_index_of_column(column)?.checked_sub(width);
        let places: Vec<usize> = needed.iter().filter_map(place).collect();
        let kept = columns.into_iter().enumerate().filter(|(place, _)| places.contains(place));
        columns = kept.map(|(_, column)| column).collect();
    }
    let below = needed.map(|needed| [needed.as_slice(), keys].concat());
    let input = Arc::new(descend(lookup.input.as_ref().clone(), below)?);
    let view = Arc::new(descend(lookup.view.as_ref().clone(), None)?);
    let lookup = ViewLookup { input, view, columns, ..lookup.clone() }.remade()?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(lookup) }))
}
