//! `JOIN t FOR SYSTEM_TIME AS OF PROCTIME() AS b ON a.id = b.id` in DataFusion's plan: [`Lookup`] with `t` a versioned
//! table, [`ViewLookup`] with `t` a view or a table whose rows come in. As of event time, and with ASOF, that is a join
//! with the versions of `t`.
//!
//! SQL's planner plans the right side before it joins: the relation alone is [`LookupCall`], a leaf. The join stays one
//! until types are made to fit, so that both sides of its condition are known. Then [`attach`] takes the condition apart:
//! what columns of `t` equal becomes the lookup's keys, over the left side alone; of the rest an inner join makes a filter
//! above, and a left join a part of what is found.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, JoinType, Result, TableReference, internal_err};
use datafusion::logical_expr::logical_plan::{Filter, SubqueryAlias};
use datafusion::logical_expr::utils::{conjunction, merge_schema};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use tidemill_base::Position;
use tidemill_circuit::lookup::LookupTable;

use super::relation::no_processing_time;
use super::table_version;
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::print;

mod condition;
mod prune;
mod view;

pub(crate) use condition::nothing_equal;
pub(crate) use prune::prune;
pub(crate) use view::{Equal, ViewLookup, ViewTarget};

/// The hidden column with the version that was read.
pub(crate) const VERSION: &str = "$version";

/// A versioned table, in a plan.
#[derive(Debug, Clone)]
pub(crate) struct Versioned(pub(crate) Arc<LookupTable>);

impl PartialEq for Versioned {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Versioned {}

impl Hash for Versioned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

/// What rows are looked up in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// A versioned table.
    Table(Versioned),
    /// A view.
    View(ViewTarget),
}

impl Target {
    fn name(&self) -> &str {
        match self {
            Target::Table(table) => table.0.name(),
            Target::View(view) => &view.name,
        }
    }

    fn fields(&self) -> Vec<FieldRef> {
        match self {
            Target::Table(table) => table.0.schema().fields().iter().map(Arc::clone).collect(),
            Target::View(view) => view.plan.schema().fields().iter().map(Arc::clone).collect(),
        }
    }
}

/// What ASOF compares the left side's time with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AsOf {
    /// The column of the right side.
    pub(crate) column: Column,
    /// Whether a row of the same time is too late.
    pub(crate) strict: bool,
}

/// `t FOR SYSTEM_TIME AS OF at` before it is joined to what looks it up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LookupCall {
    target: Target,
    /// The column that says when; none for `PROCTIME()`.
    at: Option<Column>,
    /// What ASOF compares that with.
    asof: Option<AsOf>,
    /// Where the table's name stands.
    position: Option<Position>,
    schema: DFSchemaRef,
}

impl LookupCall {
    pub(crate) fn plan(
        target: Target,
        at: Option<Column>,
        asof: Option<AsOf>,
        position: Option<Position>,
    ) -> Result<LogicalPlan> {
        let fields = target.fields().into_iter();
        let fields = fields.map(|field| (None, Arc::new(field.as_ref().clone().with_nullable(true))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default())?);
        let node = LookupCall { target, at, asof, position, schema };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }
}

impl PartialOrd for LookupCall {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for LookupCall {
    fn name(&self) -> &str {
        "LookupCall"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookupCall: {}", self.target.name())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// The rows of `input`, each with the rows of a versioned table that its keys name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lookup {
    pub(crate) input: Arc<LogicalPlan>,
    pub(crate) table: Versioned,
    /// The columns of the table that rows are found by: its key, or others.
    pub(crate) by: Vec<usize>,
    /// What equals them, with their types, over the input.
    pub(crate) keys: Vec<Expr>,
    /// The input's column that says when; none for `PROCTIME()`.
    pub(crate) at: Option<Expr>,
    /// What has to be true besides, over the columns of this node.
    ///
    /// It is none of [`UserDefinedLogicalNodeCore::expressions`]: these are taken to be over the input alone.
    pub(crate) residual: Option<Expr>,
    pub(crate) outer: bool,
    /// The columns of the table that follow, and what the query calls them.
    pub(crate) columns: Vec<(usize, String)>,
    /// Whether the version follows as a last column.
    pub(crate) version: bool,
    alias: Option<TableReference>,
    pub(crate) position: Option<Position>,
    pub(crate) schema: DFSchemaRef,
}

impl Lookup {
    /// Whether at most one row is found.
    pub(crate) fn is_unique(&self) -> bool {
        self.by == self.table.0.key()
    }

    /// The same node with the schema that its parts make.
    fn remade(mut self) -> Result<Self> {
        let inputs = self.input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let fields: Vec<(Option<TableReference>, FieldRef)> = inputs.chain(self.found_fields()).collect();
        self.schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(self)
    }

    /// The columns that follow those of the input.
    fn found_fields(&self) -> impl Iterator<Item = (Option<TableReference>, FieldRef)> {
        let of_table = self.columns.iter().map(|(column, name)| {
            let data_type = self.table.0.schema().field(*column).data_type().clone();
            (self.alias.clone(), Arc::new(Field::new(name, data_type, true)))
        });
        let version = (self.alias.clone(), Arc::new(Field::new(VERSION, DataType::Utf8, true)));
        of_table.chain(self.version.then_some(version))
    }
}

impl PartialOrd for Lookup {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Lookup {
    fn name(&self) -> &str {
        "Lookup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().chain(&self.at).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.found_fields().map(|(_, field)| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(print).collect();
        write!(f, "Lookup: {} by {}", self.table.0.name(), keys.join(", "))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.into_iter().next() else { return internal_err!("a lookup has one input") };
        if exprs.len() != self.keys.len() + usize::from(self.at.is_some()) {
            return internal_err!("a lookup has {} keys", self.keys.len());
        }
        let at = exprs.split_off(self.keys.len()).pop();
        Lookup { input: Arc::new(input), keys: exprs, at, ..self.clone() }.remade()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.to_vec();
        for column in self.residual.iter().flat_map(Expr::column_refs) {
            needed.push(self.schema.index_of_column(column).ok()?);
        }
        needed.retain(|index| *index < width);
        for column in self.keys.iter().chain(&self.at).flat_map(Expr::column_refs) {
            needed.push(self.input.schema().index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Makes a lookup of each join with a versioned table, and columns of the calls of TABLE_VERSION.
pub(crate) fn attach(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut named: HashSet<String> = HashSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                named.extend(table_version::named(part).map(str::to_string));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let attached = plan.transform_up_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::Join(join) => match found(&join.right)? {
                None => return Ok(Transformed::no(LogicalPlan::Join(join))),
                Some(found) => joined(join, found, &named)?,
            },
            other if named.is_empty() => return Ok(Transformed::no(other)),
            other => other,
        };
        with_versions(node).map(Transformed::yes)
    })?;
    Ok(attached.data)
}

struct Found {
    call: LookupCall,
    alias: Option<TableReference>,
    names: Vec<String>,
}

/// The lookup that the right side of a join is, under its alias.
fn found(plan: &LogicalPlan) -> Result<Option<Found>> {
    match plan {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
            Ok(found(input)?.map(|found| Found { alias: Some(alias.clone()), ..found }))
        }
        LogicalPlan::Projection(projection) => {
            let names = projection.schema.fields().iter().map(|field| field.name().clone()).collect();
            Ok(found(&projection.input)?.map(|found| Found { names, ..found }))
        }
        LogicalPlan::Extension(Extension { node }) => {
            let Some(call) = node.as_any().downcast_ref::<LookupCall>() else { return Ok(None) };
            let names = call.schema.fields().iter().map(|field| field.name().clone()).collect();
            Ok(Some(Found { call: call.clone(), alias: None, names }))
        }
        _ => Ok(None),
    }
}

fn joined(
    join: datafusion::logical_expr::logical_plan::Join,
    Found { call, alias, names }: Found,
    named: &HashSet<String>,
) -> Result<LogicalPlan> {
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        other => return internal_err!("a lookup that is a {other} join"),
    };
    let input = Arc::unwrap_or_clone(join.left);
    let at = call.at.map(|column| when(column, input.schema(), call.position)).transpose()?;
    let equal = join.on.into_iter().map(|(left, right)| left.eq(right));
    let Some(on) = conjunction(equal.chain(join.filter)) else {
        return internal_err!("a lookup without a condition");
    };
    let named = alias.as_ref().is_some_and(|alias| named.contains(alias.table()));
    let (table, version) = match call.target {
        Target::Table(_) if call.asof.is_some() => return Err(outside(no_processing_time(call.position))),
        Target::Table(table) => (table, named),
        Target::View(view) if named => return Err(outside(view::no_version(&view.name, call.position))),
        Target::View(view) => {
            let asof = call.asof.map(|asof| view::asof(asof, &names, alias.as_ref(), call.position)).transpose()?;
            let names = names.into_iter().enumerate().collect();
            let lookup = ViewLookup::new(input, view, at, outer, names, alias, call.position)?;
            return view::joined(ViewLookup { asof, ..lookup }, on);
        }
    };
    let lookup = Lookup {
        input: Arc::new(input),
        table,
        by: vec![],
        keys: vec![],
        at,
        residual: None,
        outer,
        columns: names.into_iter().enumerate().collect(),
        version,
        alias,
        position: call.position,
        schema: Arc::new(DFSchema::empty()),
    };
    let lookup = lookup.remade()?;
    let condition::Split { by, keys, rest } = condition::split(versions_in(on, &lookup.schema)?, &lookup)?;
    let rest = conjunction(rest);
    let (residual, above) = if outer { (rest, None) } else { (None, rest) };
    filtered(LogicalPlan::Extension(Extension { node: Arc::new(Lookup { by, keys, residual, ..lookup }) }), above)
}

/// The rows of a plan for which a condition is true, when there is one.
fn filtered(plan: LogicalPlan, condition: Option<Expr>) -> Result<LogicalPlan> {
    match condition {
        None => Ok(plan),
        Some(condition) => Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?)),
    }
}

/// The column that says when, which has to be one of the input's.
fn when(column: Column, input: &DFSchema, position: Option<Position>) -> Result<Expr> {
    match input.qualified_fields_with_unqualified_name(&column.name).iter().find(|(qualifier, _)| {
        column.relation.is_none() || qualifier.is_some_and(|qualifier| Some(qualifier) == column.relation.as_ref())
    }) {
        Some((qualifier, field)) => {
            Ok(Expr::Column(Column { spans: column.spans.clone(), ..Column::new(qualifier.cloned(), field.name()) }))
        }
        None => Err(outside(Error::Unknown {
            what: "column",
            name: column.flat_name(),
            position: column
                .spans()
                .first()
                .map(|span| Position { line: span.start.line, column: span.start.column })
                .or(position),
            help: Some(
                "FOR SYSTEM_TIME AS OF takes PROCTIME(), or a column AS PROCTIME() of the left side".to_string(),
            ),
        })),
    }
}

/// The node with columns in place of its calls of TABLE_VERSION.
fn with_versions(node: LogicalPlan) -> Result<LogicalPlan> {
    use datafusion::logical_expr::expr_rewriter::NamePreserver;
    let preserver = NamePreserver::new(&node);
    let schema = merge_schema(&node.inputs());
    let mapped = node.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let replaced = versions_in(expr, &schema)?;
        Ok(Transformed::yes(name.restore(replaced)))
    })?;
    mapped.data.recompute_schema()
}

/// The expression with columns in place of its calls of TABLE_VERSION.
fn versions_in(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let replaced = expr.transform(|part| {
        let Some(table) = table_version::named(&part) else { return Ok(Transformed::no(part)) };
        let column = Column::new(Some(TableReference::bare(table)), VERSION);
        if !schema.has_column(&column) {
            return Err(outside(Error::Plan {
                problem: format!("TABLE_VERSION({table}) is asked for where rows are grouped already"),
                position: None,
                help: Some(format!("GROUP BY TABLE_VERSION({table}) too, or take MAX(TABLE_VERSION({table}))")),
            }));
        }
        Ok(Transformed::yes(Expr::Column(column)))
    })?;
    Ok(replaced.data)
}

/// The node with what it holds besides its expressions changed, when it is a lookup.
pub(crate) fn map_rest(node: LogicalPlan, change: &impl Fn(Expr) -> Result<Expr>) -> Result<LogicalPlan> {
    let LogicalPlan::Extension(Extension { node: extension }) = &node else { return Ok(node) };
    if let Some(lookup) = extension.as_any().downcast_ref::<Lookup>() {
        let residual = lookup.residual.clone().map(change).transpose()?;
        return Ok(LogicalPlan::Extension(Extension { node: Arc::new(Lookup { residual, ..lookup.clone() }) }));
    }
    if let Some(lookup) = extension.as_any().downcast_ref::<ViewLookup>() {
        return Ok(LogicalPlan::Extension(Extension { node: Arc::new(lookup.clone().map_rest(change)?) }));
    }
    Ok(node)
}

/// Whether a plan looks rows up in a table.
pub(crate) fn reads(plan: &LogicalPlan, table: &str) -> bool {
    let reads = plan.exists(|node| match node {
        LogicalPlan::Extension(Extension { node }) => {
            Ok(node.as_any().downcast_ref::<Lookup>().is_some_and(|lookup| lookup.table.0.name() == table))
        }
        _ => Ok(false),
    });
    reads.unwrap_or(false)
}
