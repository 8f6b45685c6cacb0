//! Lookups in versioned tables and in views: the keys become columns of the input, the rest of the condition goes with the
//! lookup.
//!
//! A view is lowered into the circuit that looks rows up in it, unless it is there already. What makes a row of it unique
//! is its declared key, or what follows from its query; everything else that the condition says is part of the match.

use std::sync::Arc;

use arrow_schema::{FieldRef, Schema};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_base::Position;
use tidemill_circuit::plan::{LookupSpec, NodeId, Spec, TimeDomain, ViewLookupSpec};

use super::facts::Attribute;
use super::{Builder, Lowered, Slot, fields_of, is_random, place_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{compile_named, unaliased};
use crate::plan::lookup::{Lookup, ViewLookup};
use crate::plan::relation::no_processing_time;
use crate::types::quoted;

impl Builder<'_> {
    pub(super) fn lookup(&mut self, lookup: &Lookup, origin: bool) -> Result<Lowered> {
        let statement = self.position;
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
        let table = Arc::clone(&lookup.table.0);
        let before = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let width = lookup.input.schema().fields().len();
        let found = &fields_of(&lookup.schema)[width..];
        let mut fields: Vec<FieldRef> = before.fields().iter().map(Arc::clone).collect();
        fields.extend(found.iter().map(Arc::clone));
        let schema = Arc::new(Schema::new(fields));
        let mut slots = lowered.slots.clone();
        slots.extend((0..found.len()).map(|index| Slot::At(before.fields().len() + index)));
        let places = Lowered { slots: slots.clone(), ..lowered.clone() }.places();
        let compiled = |residual: &Expr| compile_named(residual, &lookup.schema, &places, Some(&schema));
        let residual = lookup.residual.as_ref().map(compiled).transpose()?;
        let columns = lookup.columns.iter().map(|(column, _)| *column).collect();
        let (version, outer) = (lookup.version, lookup.outer);
        // At most one row is found for each, so what named a row names it still.
        let mut facts = self.facts.of(lowered.node).clone();
        facts.attributes.extend(vec![Attribute::Plain; found.len()]);
        facts.schedule_dependent = true;
        let spec = Spec::Lookup(LookupSpec { table, keys, columns, version, residual, outer });
        let node = self.add(spec, vec![lowered.node], schema, facts);
        Ok(Lowered { node, slots, pending: None, ..lowered })
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
                self.look_up_view(lookup, &lowered, view)
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

    fn look_up_view(&mut self, lookup: &ViewLookup, lowered: &Lowered, view: NodeId) -> Result<Lowered> {
        self.check_lookup(lookup.at.as_ref(), &lookup.input, &lookup.name, lookup.position, lowered)?;
        let key = self.key_of(lookup, view)?;
        let (of_key, others): (Vec<_>, Vec<_>) = lookup.equals.iter().partition(|equal| key.contains(&equal.column));
        let also = others.iter().map(|equal| equal.equation.clone());
        let residual = conjunction(also.chain(lookup.residual.clone()));
        if residual.as_ref().is_some_and(is_random) {
            let help = "compute it in a query below the join, and name its column in ON";
            return Err(self.refused("RAND or UUID in the condition of a lookup", help));
        }
        let exprs: Vec<Expr> = of_key.iter().map(|equal| equal.expr.clone()).collect();
        let (lowered, keys) = self.with_keys(&exprs, lookup.input.schema(), lowered)?;
        let before = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let found = &fields_of(&lookup.schema)[lookup.input.schema().fields().len()..];
        let mut fields: Vec<FieldRef> = before.fields().iter().map(Arc::clone).collect();
        fields.extend(found.iter().map(Arc::clone));
        let schema = Arc::new(Schema::new(fields));
        let mut slots = lowered.slots.clone();
        slots.extend((0..found.len()).map(|index| Slot::At(before.fields().len() + index)));
        let places = Lowered { slots: slots.clone(), ..lowered.clone() }.places();
        let compiled = |residual: &Expr| compile_named(residual, &lookup.schema, &places, Some(&schema));
        let residual = residual.as_ref().map(compiled).transpose()?;
        let mut facts = self.facts.of(lowered.node).clone();
        facts.attributes.extend(vec![Attribute::Plain; found.len()]);
        facts.schedule_dependent = true;
        let spec = ViewLookupSpec {
            keys,
            view_keys: of_key.iter().map(|equal| equal.column).collect(),
            columns: lookup.columns.iter().map(|(column, _)| *column).collect(),
            residual,
            outer: lookup.outer,
        };
        let node = self.add(Spec::ViewLookup(spec), vec![lowered.node, view], schema, facts);
        Ok(Lowered { node, slots, pending: None, ..lowered })
    }

    /// The columns that make a row of the view unique and that the condition gives values for.
    fn key_of(&self, lookup: &ViewLookup, view: NodeId) -> Result<Vec<usize>> {
        let keys = match &lookup.key {
            Some(key) => vec![key.clone()],
            // Of a table without a key what it is looked up by has to be one: the circuit says when it is none.
            None if lookup.is_table => vec![lookup.equals.iter().map(|equal| equal.column).collect()],
            None => self.facts.of(view).keys.clone(),
        };
        let given = |column: &usize| lookup.equals.iter().any(|equal| equal.column == *column);
        let whole = keys.iter().filter(|key| key.iter().all(given)).min_by_key(|key| key.len());
        if let Some(key) = whole {
            return Ok(key.clone());
        }
        let position = lookup.position.or(self.position);
        let Some(nearest) = keys.iter().min_by_key(|key| key.len()) else {
            let help = "GROUP BY what it is looked up by, or declare CREATE MATERIALIZED VIEW v (PRIMARY KEY (k) NOT ENFORCED)";
            let problem = format!("nothing makes a row of the view {} unique, so none can be looked up", lookup.name);
            return Err(outside(Error::Plan { problem, position, help: Some(help.to_string()) }));
        };
        let name = |column: &usize| format!("{}.{}", quoted(&lookup.alias()), quoted(&lookup.called(*column)));
        let missing: Vec<_> = nearest.iter().filter(|column| !given(column)).map(name).collect();
        let all: Vec<_> = nearest.iter().map(|column| format!("{} = ..", name(column))).collect();
        Err(outside(Error::Plan {
            problem: format!(
                "a row of the {} {} is looked up by what makes it unique, and nothing of the left side is said to equal {}",
                if lookup.is_table { "table" } else { "view" },
                lookup.name,
                missing.join(", ")
            ),
            position,
            help: Some(format!("write ON {}, with values of the left side alone", all.join(" AND "))),
        }))
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
