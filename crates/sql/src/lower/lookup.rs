//! Lookups in versioned tables and in views: the keys become columns of the input, the rest of the condition goes with the
//! lookup.
//!
//! A view is lowered into the circuit that looks rows up in it, unless it is there already. What makes a row of it unique
//! is its declared key, or what follows from its query. Where the condition gives values for all of that, one row is found
//! at most, and everything else that it says is part of the match; otherwise every row is found by all that is equal.

use std::sync::Arc;

use arrow_schema::{FieldRef, Schema, SchemaRef};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_base::Position;
use tidemill_circuit::plan::{LookupSpec, NodeId, Spec, TimeDomain, ViewLookupSpec};

use super::facts::{Attribute, NodeFacts};
use super::{Builder, Lowered, Slot, fields_of, is_random, place_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{compile_named, unaliased};
use crate::plan::lookup::{Equal, Lookup, ViewLookup, nothing_equal};
use crate::plan::relation::no_processing_time;

/// Rows with what is found for them.
pub(super) struct Beside {
    pub(super) schema: SchemaRef,
    pub(super) slots: Vec<Slot>,
    /// The rest of the condition, over these columns.
    pub(super) residual: Option<tidemill_circuit::Expr>,
    /// What is known of them when at most one row is found for each: what named a row names it still.
    pub(super) facts: NodeFacts,
    /// How many columns are not found.
    width: usize,
}

impl Beside {
    /// What is known of them when several rows are found by the columns `by`; `unique` are columns that name one of those,
    /// and `columns` those that follow.
    fn several(&self, unique: &[Vec<usize>], by: &[usize], columns: &[usize]) -> NodeFacts {
        let place = |column: &usize| Some(self.width + columns.iter().position(|other| other == column)?);
        let others = |key: &Vec<usize>| -> Option<Vec<usize>> {
            key.iter().filter(|column| !by.contains(column)).map(place).collect()
        };
        let others: Vec<Vec<usize>> = unique.iter().filter_map(others).collect();
        let ours = self.facts.keys.iter();
        let keys = ours.flat_map(|ours| others.iter().map(|others| [ours.as_slice(), others].concat())).collect();
        NodeFacts { keys, several: true, ..self.facts.clone() }
    }
}

impl Builder<'_> {
    pub(super) fn lookup(&mut self, lookup: &Lookup, origin: bool) -> Result<Lowered> {
        let statement = self.position;
        if origin && !lookup.is_unique() {
            self.check_unordered()?;
        }
        let lowered = self.lower(&lookup.input, origin || lookup.keys.iter().any(is_random))?;
        let lowered = self.materialise(lowered)?;
        self.position = lookup.position.or(statement);
        let added = self.look_up(lookup, &lowered);
        self.position = statement;
        added
    }

    fn look_up(&mut self, lookup: &Lookup, lowered: &Lowered) -> Result<Lowered> {
        self.check_lookup(lookup.at.as_ref(), &lookup.input, lookup.table.0.name(), lookup.position, lowered)?;
        if lookup.residual.as_ref().is_some_and(is_random) {
            let help = "compute it in a query below the join, and name its column in ON";
            return Err(self.refused("RAND or UUID in the condition of a LEFT JOIN", help));
        }
        let (lowered, keys) = self.with_keys(&lookup.keys, lookup.input.schema(), lowered)?;
        let beside = self.beside(&lowered, &lookup.input, &lookup.schema, lookup.residual.as_ref())?;
        let table = Arc::clone(&lookup.table.0);
        let columns: Vec<usize> = lookup.columns.iter().map(|(column, _)| *column).collect();
        let facts = match lookup.is_unique() {
            true => beside.facts,
            false => beside.several(&[table.key().to_vec()], &lookup.by, &columns),
        };
        let (version, outer, table_keys) = (lookup.version, lookup.outer, lookup.by.clone());
        let spec = LookupSpec { table, keys, table_keys, columns, version, residual: beside.residual, outer };
        let node = self.add(Spec::Lookup(spec), vec![lowered.node], beside.schema, facts);
        Ok(Lowered { node, slots: beside.slots, pending: None, ..lowered })
    }

    pub(super) fn view_lookup(&mut self, lookup: &ViewLookup, origin: bool) -> Result<Lowered> {
        let statement = self.position;
        let random = lookup.equals.iter().any(|equal| is_random(&equal.expr));
        let lowered = self.lower(&lookup.input, origin || random)?;
        let mut lowered = self.materialise(lowered)?;
        if lookup.at.is_some() {
            lowered = self.timely(lowered);
        }
        let added = match self.left_time(lookup, &lowered)? {
            Some(time) => self.temporal_join(lookup, &lowered, time),
            None => {
                let view = self.view_of(lookup)?;
                self.position = lookup.position.or(statement);
                self.look_up_view(lookup, &lowered, view, origin)
            }
        };
        self.position = statement;
        added
    }

    /// The rows of the view, with its columns in order.
    fn view_of(&mut self, lookup: &ViewLookup) -> Result<NodeId> {
        let view = self.apart(lookup, false)?;
        if lookup.is_table {
            self.looked_up.extend(crate::plan::scanned(&lookup.view));
        }
        self.in_order(&view, &fields_of(lookup.view.schema()))
    }

    /// The view, lowered as a query of its own.
    pub(super) fn apart(&mut self, lookup: &ViewLookup, origin: bool) -> Result<Lowered> {
        let before = (self.emit, self.asking, self.answering);
        (self.emit, self.asking, self.answering) = (lookup.emit(), false, false);
        let view = self.lower(&lookup.view, origin).and_then(|view| self.materialise(view));
        (self.emit, self.asking, self.answering) = before;
        view
    }

    fn look_up_view(&mut self, lookup: &ViewLookup, lowered: &Lowered, view: NodeId, origin: bool) -> Result<Lowered> {
        self.check_lookup(lookup.at.as_ref(), &lookup.input, &lookup.name, lookup.position, lowered)?;
        let unique = match &lookup.key {
            Some(key) => vec![key.clone()],
            None => self.facts.of(view).keys.clone(),
        };
        let given = |column: &usize| lookup.equals.iter().any(|equal| equal.column == *column);
        let key = unique.iter().filter(|key| key.iter().all(given)).min_by_key(|key| key.len());
        if key.is_none() && lookup.equals.is_empty() {
            let what = if lookup.is_table { "table" } else { "view" };
            return Err(nothing_equal(&format!("the {what} {}", lookup.name), lookup.position.or(self.position)));
        }
        if key.is_none() && origin {
            self.check_unordered()?;
        }
        let is_key = |equal: &&Equal| key.is_none_or(|key| key.contains(&equal.column));
        let (of_key, others): (Vec<_>, Vec<_>) = lookup.equals.iter().partition(is_key);
        let also = others.iter().map(|equal| equal.equation.clone());
        let residual = conjunction(also.chain(lookup.residual.clone()));
        if residual.as_ref().is_some_and(is_random) {
            let help = "compute it in a query below the join, and name its column in ON";
            return Err(self.refused("RAND or UUID in the condition of a lookup", help));
        }
        let exprs: Vec<Expr> = of_key.iter().map(|equal| equal.expr.clone()).collect();
        let (lowered, keys) = self.with_keys(&exprs, lookup.input.schema(), lowered)?;
        let beside = self.beside(&lowered, &lookup.input, &lookup.schema, residual.as_ref())?;
        let view_keys: Vec<usize> = of_key.iter().map(|equal| equal.column).collect();
        let columns: Vec<usize> = lookup.columns.iter().map(|(column, _)| *column).collect();
        let facts = match key {
            Some(_) => beside.facts,
            None => beside.several(&unique, &view_keys, &columns),
        };
        let (unique, residual, outer) = (key.is_some(), beside.residual, lookup.outer);
        let spec = ViewLookupSpec { keys, view_keys, unique, columns, residual, outer };
        let node = self.add(Spec::ViewLookup(spec), vec![lowered.node, view], beside.schema, facts);
        Ok(Lowered { node, slots: beside.slots, pending: None, ..lowered })
    }

    /// What follows the order of a source cannot follow several rows that are found for one of it. An answer may be of
    /// several rows: their place tells whose answer they are.
    fn check_unordered(&self) -> Result<()> {
        if self.answering { Ok(()) } else { Err(self.unordered("a lookup that may find several rows")) }
    }

    /// The rows of a lowered plan with columns beside them: `schema` has those of `input`, and then these.
    pub(super) fn beside(
        &self,
        lowered: &Lowered,
        input: &LogicalPlan,
        schema: &DFSchema,
        residual: Option<&Expr>,
    ) -> Result<Beside> {
        let ours = &self.plan.nodes[lowered.node].schema;
        let found = &fields_of(schema)[input.schema().fields().len()..];
        let fields: Vec<FieldRef> = ours.fields().iter().chain(found).map(Arc::clone).collect();
        let fields = Arc::new(Schema::new(fields));
        let mut slots = lowered.slots.clone();
        slots.extend((0..found.len()).map(|index| Slot::At(ours.fields().len() + index)));
        let places = Lowered { slots: slots.clone(), ..lowered.clone() }.places();
        let compiled = |residual: &Expr| compile_named(residual, schema, &places, Some(&fields));
        let residual = residual.map(compiled).transpose()?;
        let facts = NodeFacts { schedule_dependent: true, ..self.facts.of(lowered.node).found(found.len()) };
        Ok(Beside { schema: fields, slots, residual, facts, width: ours.fields().len() })
    }

    /// The rows are looked up when they come, and never taken back.
    fn check_lookup(
        &self,
        at: Option<&Expr>,
        input: &LogicalPlan,
        name: &str,
        position: Option<Position>,
        lowered: &Lowered,
    ) -> Result<()> {
        if let Some(at) = at {
            let Slot::At(column) = lowered.slot_of(at, input.schema())? else {
                return internal_err!("a window is not assigned");
            };
            let attribute = self.facts.of(lowered.node).attributes[column];
            if !matches!(attribute, Attribute::Time(TimeDomain::Processing, _)) {
                return Err(outside(no_processing_time(place_of(at).or(position))));
            }
        }
        self.check_only_come(name, position, lowered)
    }

    /// Rows that look something up are never taken back.
    pub(super) fn check_only_come(&self, name: &str, position: Option<Position>, lowered: &Lowered) -> Result<()> {
        if self.plan.append_only()[lowered.node] {
            return Ok(());
        }
        Err(outside(Error::Unsupported {
            what: format!("rows that may be taken back cannot be looked up in {name}"),
            position: position.unwrap_or(Position { line: 1, column: 1 }),
            help: Some(
                "what was found would have to be remembered to be taken back: join before rows are grouped, or group in \
                 windows that are emitted when they close"
                    .to_string(),
            ),
        }))
    }

    /// The rows with a column for each of these, and their places.
    pub(super) fn with_keys(
        &mut self,
        exprs: &[Expr],
        schema: &DFSchema,
        lowered: &Lowered,
    ) -> Result<(Lowered, Vec<usize>)> {
        let is_column = |expr: &Expr| matches!(unaliased(expr), Expr::Column(_));
        if exprs.iter().all(is_column) {
            let places = exprs.iter().map(|key| match lowered.slot_of(key, schema)? {
                Slot::At(column) => Ok(column),
                _ => internal_err!("a window is not assigned"),
            });
            return Ok((lowered.clone(), places.collect::<Result<_>>()?));
        }
        let mut project = self.project(lowered, schema);
        let slots = project.keep_all(lowered)?;
        let mut keys = Vec::with_capacity(exprs.len());
        for (index, key) in exprs.iter().enumerate() {
            keys.push(project.column(key, lowered, schema, &format!("$key.{index}"))?);
        }
        Ok((project.finish(slots)?, keys))
    }
}
