//! Lookups in versioned tables: the keys become columns of the input, the rest of the condition goes with the lookup.

use std::sync::Arc;

use arrow_schema::{FieldRef, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::Expr;
use tidemill_base::Position;
use tidemill_circuit::plan::{LookupSpec, Spec, TimeDomain};

use super::facts::Attribute;
use super::{Builder, Lowered, Slot, fields_of, is_random, place_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{compile_named, unaliased};
use crate::plan::lookup::Lookup;
use crate::plan::relation::no_processing_time;

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
        self.check_lookup(lookup, lowered)?;
        if lookup.residual.as_ref().is_some_and(is_random) {
            let help = "compute it in a query below the join, and name its column in ON";
            return Err(self.refused("RAND or UUID in the condition of a LEFT JOIN", help));
        }
        let (lowered, keys) = self.with_keys(lookup, lowered)?;
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
        Ok(Lowered { node, slots, origin: lowered.origin, pending: None })
    }

    fn check_lookup(&self, lookup: &Lookup, lowered: &Lowered) -> Result<()> {
        if let Some(at) = &lookup.at {
            let Slot::At(column) = lowered.slot_of(at, lookup.input.schema())? else {
                return internal_err!("a window is not assigned");
            };
            let attribute = self.facts.of(lowered.node).attributes[column];
            if !matches!(attribute, Attribute::Time(TimeDomain::Processing, _)) {
                return Err(outside(no_processing_time(place_of(at).or(lookup.position))));
            }
        }
        if self.plan.append_only()[lowered.node] {
            return Ok(());
        }
        Err(outside(Error::Unsupported {
            what: format!("rows that may be taken back cannot be looked up in {}", lookup.table.0.name()),
            position: lookup.position.unwrap_or(Position { line: 1, column: 1 }),
            help: Some(
                "what was found would have to be remembered to be taken back: join before rows are grouped, or group in \
                 windows that are emitted when they close"
                    .to_string(),
            ),
        }))
    }

    /// The rows with a column for each key.
    fn with_keys(&mut self, lookup: &Lookup, lowered: &Lowered) -> Result<(Lowered, Vec<usize>)> {
        let schema = lookup.input.schema();
        let is_column = |expr: &Expr| matches!(unaliased(expr), Expr::Column(_));
        if lookup.keys.iter().all(is_column) {
            let places = lookup.keys.iter().map(|key| match lowered.slot_of(key, schema)? {
                Slot::At(column) => Ok(column),
                _ => internal_err!("a window is not assigned"),
            });
            return Ok((lowered.clone(), places.collect::<Result<_>>()?));
        }
        let mut project = self.project(lowered, schema);
        let mut slots = Vec::with_capacity(lowered.slots.len());
        for slot in &lowered.slots {
            let Slot::At(column) = *slot else { return internal_err!("a window is not assigned") };
            slots.push(Slot::At(project.keep(column)));
        }
        let mut keys = Vec::with_capacity(lookup.keys.len());
        for (index, key) in lookup.keys.iter().enumerate() {
            keys.push(match unaliased(key) {
                Expr::Column(_) => match lowered.slot_of(key, schema)? {
                    Slot::At(column) => project.keep(column),
                    _ => return internal_err!("a window is not assigned"),
                },
                computed => project.compute(computed, &format!("$key.{index}"))?,
            });
        }
        Ok((project.finish(slots)?, keys))
    }
}
