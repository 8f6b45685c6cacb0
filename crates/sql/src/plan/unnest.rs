//! [`Unnest`]: `CROSS JOIN UNNEST(list)` in DataFusion's plan, one row for each element of a column of its input.
//!
//! SQL's planner plans `UNNEST(t.tags)` before it joins: the relation alone is [`UnnestCall`], a leaf whose argument
//! refers to the outer `t`. [`attach`] finds the join above and puts the left side in as the input of an [`Unnest`].

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{
    Column, DFSchema, DFSchemaRef, JoinType, Result, TableReference, internal_err, not_impl_err, plan_err,
};
use datafusion::logical_expr::logical_plan::{Join, Subquery, SubqueryAlias};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
};

use crate::expr::print;
use crate::types::name_of;

/// The element columns of `UNNEST(list)`, apart from what the query calls them.
fn element_fields(list: &DataType, ordinality: bool) -> Result<Vec<FieldRef>> {
    let nullable = |field: &FieldRef, name: &str| Arc::new(Field::new(name, field.data_type().clone(), true));
    let mut fields = match list {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(parts) => parts.iter().map(|part| nullable(part, part.name())).collect(),
            _ => vec![nullable(item, "EXPR$0")],
        },
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => vec![nullable(&pair[0], "KEY"), nullable(&pair[1], "VALUE")],
            other => return internal_err!("a map of {other}"),
        },
        other => return plan_err!("UNNEST takes an ARRAY or a MAP, not {}", name_of(other)),
    };
    if ordinality {
        fields.push(Arc::new(Field::new("ORDINALITY", DataType::Int32, true)));
    }
    Ok(fields)
}

/// `UNNEST(expr)` before it is joined to what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UnnestCall {
    list: Expr,
    ordinality: bool,
    schema: DFSchemaRef,
}

impl UnnestCall {
    pub(crate) fn plan(list: Expr, data_type: &DataType, ordinality: bool) -> Result<LogicalPlan> {
        let fields = element_fields(data_type, ordinality)?.into_iter().map(|field| (None, field)).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(UnnestCall { list, ordinality, schema }) }))
    }
}

impl PartialOrd for UnnestCall {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for UnnestCall {
    fn name(&self) -> &str {
        "UnnestCall"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.list.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnnestCall: {}", print(&self.list))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        let Some(list) = exprs.into_iter().next() else { return internal_err!("UNNEST has one argument") };
        Ok(UnnestCall { list, ordinality: self.ordinality, schema: Arc::clone(&self.schema) })
    }
}

/// The rows of `input`, once for each element of one of its columns, the element's columns last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Unnest {
    pub(crate) input: Arc<LogicalPlan>,
    pub(crate) list: Expr,
    pub(crate) outer: bool,
    pub(crate) ordinality: bool,
    elements: Vec<(Option<TableReference>, FieldRef)>,
    pub(crate) schema: DFSchemaRef,
}

impl Unnest {
    fn new(
        input: LogicalPlan,
        list: Expr,
        outer: bool,
        ordinality: bool,
        elements: Vec<(Option<TableReference>, FieldRef)>,
    ) -> Result<Self> {
        // What the list is of is known in the end: its literals are typed after the call was read.
        let types = element_fields(&list.get_type(input.schema())?, ordinality)?;
        let typed = elements
            .into_iter()
            .zip(types)
            .map(|((qualifier, named), typed)| (qualifier, Arc::new(typed.as_ref().clone().with_name(named.name()))));
        let elements: Vec<_> = typed.collect();
        let inputs = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let fields = inputs.chain(elements.iter().cloned()).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(Unnest { input: Arc::new(input), list, outer, ordinality, elements, schema })
    }
}

impl PartialOrd for Unnest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Unnest {
    fn name(&self) -> &str {
        "Unnest"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.list.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.elements.iter().map(|(_, field)| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unnest: {}", print(&self.list))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(list), Some(input)) = (exprs.into_iter().next(), inputs.into_iter().next()) else {
            return internal_err!("UNNEST has one argument and one input");
        };
        Unnest::new(input, list, self.outer, self.ordinality, self.elements.clone())
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let mut needed: Vec<usize> =
            output_columns.iter().copied().filter(|index| *index < input.fields().len()).collect();
        for column in self.list.column_refs() {
            needed.push(input.index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Puts the left side of each `JOIN UNNEST(..)` into the unnesting.
pub(crate) fn attach(plan: LogicalPlan) -> Result<LogicalPlan> {
    let attached = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(join) = node else { return Ok(Transformed::no(node)) };
        match found(&join.right)? {
            Some(call) => Ok(Transformed::yes(joined(join, call)?)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        }
    })?;
    Ok(attached.data)
}

struct Found {
    call: UnnestCall,
    alias: Option<TableReference>,
    names: Vec<String>,
}

/// The call that the right side of a join is, under its alias.
fn found(plan: &LogicalPlan) -> Result<Option<Found>> {
    match plan {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
            Ok(found(input)?.map(|found| Found { alias: Some(alias.clone()), ..found }))
        }
        LogicalPlan::Subquery(Subquery { subquery, .. }) => found(subquery),
        LogicalPlan::Projection(projection) => {
            let names = projection.schema.fields().iter().map(|field| field.name().clone()).collect();
            Ok(found(&projection.input)?.map(|found| Found { names, ..found }))
        }
        LogicalPlan::Extension(Extension { node }) => {
            let Some(call) = node.as_any().downcast_ref::<UnnestCall>() else { return Ok(None) };
            let names = call.schema.fields().iter().map(|field| field.name().clone()).collect();
            Ok(Some(Found { call: call.clone(), alias: None, names }))
        }
        _ => Ok(None),
    }
}

fn joined(join: Join, Found { call, alias, names }: Found) -> Result<LogicalPlan> {
    let Join { left, right: _, on, filter, join_type, join_constraint: _, schema: _, null_equality: _, null_aware: _ } =
        join;
    let always = match &filter {
        None => true,
        Some(Expr::Literal(value, _)) => *value == datafusion::common::ScalarValue::Boolean(Some(true)),
        Some(_) => false,
    };
    if !on.is_empty() || !always {
        return not_impl_err!("JOIN UNNEST takes no condition but ON TRUE");
    }
    let outer = match join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return not_impl_err!("UNNEST is joined with CROSS JOIN or LEFT JOIN .. ON TRUE"),
    };
    let input = Arc::unwrap_or_clone(left);
    let list = inner(call.list)?;
    let (input, list) = match list {
        Expr::Column(_) => (input, list),
        other => {
            let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
            exprs.push(other.alias("$list"));
            (LogicalPlanBuilder::from(input).project(exprs)?.build()?, Expr::Column(Column::from_name("$list")))
        }
    };
    let fields = call.schema.fields().iter().zip(names);
    let elements =
        fields.map(|(field, name)| (alias.clone(), Arc::new(field.as_ref().clone().with_name(name)))).collect();
    let unnest = Unnest::new(input, list, outer, call.ordinality, elements)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(unnest) }))
}

/// References to the outer query become references to the input.
fn inner(expr: Expr) -> Result<Expr> {
    let inner = expr.transform(|part| match part {
        Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(inner.data)
}
