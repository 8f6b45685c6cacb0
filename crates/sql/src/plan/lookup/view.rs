//! [`ViewLookup`]: a lookup in a view, or in a table as a view of its rows, which the circuit that looks up keeps for itself.
//!
//! The view is the node's second input. What makes a row of it unique is known when the view is lowered, so all that the
//! condition says a column of the view equals is kept until then.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{Field, FieldRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, internal_err};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};
use tidemill_base::Position;
use tidemill_circuit::plan::Emit;

use super::condition::{Equals, Sides, equation};
use super::{AsOf, filtered};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::print;

/// A view that rows are looked up in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ViewTarget {
    pub(crate) name: String,
    pub(crate) plan: Arc<LogicalPlan>,
    /// The columns that its declaration says make a row unique.
    pub(crate) key: Option<Vec<usize>>,
    /// Whether its rows are wanted before windows close.
    pub(crate) emit_changes: bool,
    /// Whether it is a table, as a view of its rows.
    pub(crate) is_table: bool,
}

/// A column of the view, and what of the left side it equals.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Equal {
    pub(crate) column: usize,
    /// Over the left side, with the column's type.
    pub(crate) expr: Expr,
    /// The equation as it was written, over the columns of the node.
    pub(crate) equation: Expr,
}

/// The rows of `input`, each with the rows of a view that its keys name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ViewLookup {
    pub(crate) input: Arc<LogicalPlan>,
    pub(crate) view: Arc<LogicalPlan>,
    pub(crate) name: String,
    /// The columns that the view's declaration says make a row unique.
    pub(crate) key: Option<Vec<usize>>,
    pub(crate) emit_changes: bool,
    pub(crate) is_table: bool,
    pub(crate) equals: Vec<Equal>,
    /// The input's column that says when; none for `PROCTIME()`.
    pub(crate) at: Option<Expr>,
    /// The column of the view that ASOF compares that with, and whether an equal time is too late.
    pub(crate) asof: Option<(usize, bool)>,
    /// What has to be true besides, over the columns of this node.
    ///
    /// It is none of [`UserDefinedLogicalNodeCore::expressions`]: these are taken to be over the inputs.
    pub(crate) residual: Option<Expr>,
    pub(crate) outer: bool,
    /// The columns of the view that follow, and what the query calls them.
    pub(crate) columns: Vec<(usize, String)>,
    pub(super) alias: Option<TableReference>,
    pub(crate) position: Option<Position>,
    pub(crate) schema: DFSchemaRef,
}

impl ViewLookup {
    pub(super) fn new(
        input: LogicalPlan,
        view: ViewTarget,
        at: Option<Expr>,
        outer: bool,
        columns: Vec<(usize, String)>,
        alias: Option<TableReference>,
        position: Option<Position>,
    ) -> Result<Self> {
        let ViewTarget { name, plan, key, emit_changes, is_table } = view;
        // Under a name of its own no column of the view is taken for one of the left side.
        let plan = LogicalPlanBuilder::from(plan.as_ref().clone())
            .alias(TableReference::bare(format!("$view {name}")))?
            .build()?;
        let lookup = ViewLookup {
            input: Arc::new(input),
            view: Arc::new(plan),
            name,
            key,
            emit_changes,
            is_table,
            equals: vec![],
            at,
            asof: None,
            residual: None,
            outer,
            columns,
            alias,
            position,
            schema: Arc::new(DFSchema::empty()),
        };
        lookup.remade()
    }

    /// When the view's rows leave it.
    pub(crate) fn emit(&self) -> Emit {
        if self.emit_changes { Emit::Changes } else { Emit::OnClose }
    }

    /// Whether rows of one key and time are told apart by the order in which they came.
    pub(crate) fn orders_versions(&self) -> bool {
        self.is_table || self.asof.is_some()
    }

    /// What the query calls a column of the view.
    pub(crate) fn called(&self, column: usize) -> String {
        let field = self.view.schema().field(column).name();
        self.columns.iter().find(|(of, _)| *of == column).map_or_else(|| field.clone(), |(_, name)| name.clone())
    }

    /// What the lookup is called in FROM.
    pub(crate) fn alias(&self) -> String {
        self.alias.as_ref().map_or_else(|| self.name.clone(), |alias| alias.table().to_string())
    }

    /// The same node with what it holds besides its expressions changed.
    pub(super) fn map_rest(self, change: &impl Fn(Expr) -> Result<Expr>) -> Result<Self> {
        let residual = self.residual.clone().map(change).transpose()?;
        let equals = self.equals.iter().cloned().map(|equal| {
            let equation = change(equal.equation)?;
            Ok(Equal { equation, ..equal })
        });
        let equals = equals.collect::<Result<_>>()?;
        Ok(ViewLookup { residual, equals, ..self })
    }

    /// The same node with the schema that its parts make.
    pub(super) fn remade(mut self) -> Result<Self> {
        let inputs = self.input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let found = self.columns.iter().map(|(column, name)| {
            let data_type = self.view.schema().field(*column).data_type().clone();
            (self.alias.clone(), Arc::new(Field::new(name, data_type, true)))
        });
        let fields: Vec<(Option<TableReference>, FieldRef)> = inputs.chain(found).collect();
        self.schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(self)
    }
}

impl PartialOrd for ViewLookup {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for ViewLookup {
    fn name(&self) -> &str {
        "ViewLookup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input, &self.view]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.equals.iter().map(|equal| &equal.expr).chain(&self.at).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equals: Vec<_> = self.equals.iter().map(|equal| print(&equal.expr)).collect();
        write!(f, "ViewLookup: {} by {}", self.name, equals.join(", "))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut inputs = inputs.into_iter();
        let (Some(input), Some(view)) = (inputs.next(), inputs.next()) else {
            return internal_err!("a lookup in a view has two inputs");
        };
        if exprs.len() != self.equals.len() + usize::from(self.at.is_some()) {
            return internal_err!("a lookup has {} keys", self.equals.len());
        }
        let at = exprs.split_off(self.equals.len()).pop();
        let equals = self.equals.iter().zip(exprs).map(|(equal, expr)| Equal { expr, ..equal.clone() }).collect();
        ViewLookup { input: Arc::new(input), view: Arc::new(view), equals, at, ..self.clone() }.remade()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.to_vec();
        let equations = self.equals.iter().map(|equal| &equal.equation);
        for column in equations.chain(&self.residual).flat_map(Expr::column_refs) {
            needed.push(self.schema.index_of_column(column).ok()?);
        }
        needed.retain(|index| *index < width);
        for column in self.expressions().iter().flat_map(Expr::column_refs) {
            needed.push(self.input.schema().index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed, (0..self.view.schema().fields().len()).collect()])
    }
}

/// The column of the view that ASOF compares, by what the query calls it.
pub(super) fn asof(
    AsOf { column, strict }: AsOf,
    names: &[String],
    alias: Option<&TableReference>,
    position: Option<Position>,
) -> Result<(usize, bool)> {
    let of_view = column.relation.is_none() || column.relation.as_ref() == alias;
    if let Some(place) = names.iter().position(|name| of_view && *name == column.name) {
        return Ok((place, strict));
    }
    let called = alias.map(|alias| alias.table().to_string()).unwrap_or_default();
    Err(outside(Error::Plan {
        problem: format!(
            "{} is no column of {called}, whose rows are to be the newest before a row's time",
            column.flat_name()
        ),
        position,
        help: Some(format!("write MATCH_CONDITION (l.ts >= {called}.ts), the time of the left side first")),
    }))
}

/// The lookup with its condition taken apart; of an inner join what is no equation is a filter above.
pub(super) fn joined(lookup: ViewLookup, on: Expr) -> Result<LogicalPlan> {
    let mut equals: Vec<Equal> = Vec::new();
    let mut rest = Vec::new();
    let sides = Sides {
        schema: &lookup.schema,
        width: lookup.input.schema().fields().len(),
        columns: &lookup.columns,
        position: lookup.position,
    };
    for part in split_conjunction_owned(on) {
        match equation(&part, &sides)? {
            Some(found) if equals.iter().all(|equal| equal.column != found.column) => match found.equals {
                Equals::To { expr, exact } => {
                    equals.push(Equal { column: found.column, expr, equation: part.clone() });
                    if !exact {
                        rest.push(part);
                    }
                }
                Equals::Unlike { .. } => rest.push(part),
            },
            _ => rest.push(part),
        }
    }
    let rest = conjunction(rest);
    let (residual, above) = if lookup.outer { (rest, None) } else { (None, rest) };
    filtered(LogicalPlan::Extension(Extension { node: Arc::new(ViewLookup { equals, residual, ..lookup }) }), above)
}

/// TABLE_VERSION of a view.
pub(super) fn no_version(view: &str, position: Option<Position>) -> Error {
    Error::Plan {
        problem: format!("{view} is a view and has no versions: TABLE_VERSION is for versioned tables"),
        position,
        help: Some("remove TABLE_VERSION: the view is read as it stands when the row comes".to_string()),
    }
}
