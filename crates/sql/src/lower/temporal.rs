//! Temporal joins: each row with the version that another table had at the row's event time.
//!
//! `JOIN t FOR SYSTEM_TIME AS OF a.ts` and `ASOF JOIN t MATCH_CONDITION (a.ts >= t.ts)`. The versions of `t` are its rows by
//! key and time. A table with a primary key has one for each, the one that came last; a view that keeps the last row of
//! each key (`ROW_NUMBER() .. ORDER BY ts DESC`, 1) is not taken as it stands, which would be its newest version alone, but
//! as the rows that it chooses from. So both become a [`RankSpec`] whose keys hold the time, which lets it forget. Where
//! rows of the table are taken back, a [`VersionsSpec`] below tells updates, which begin a version, from rows that go.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::logical_plan::{Filter, Projection, SubqueryAlias, Window};
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_circuit::plan::{
    Expiry, NodeId, OrderBy, RankFunction, RankSpec, Spec, TemporalJoinSpec, TimeDomain, VersionsSpec,
};

use super::facts::{Attribute, NodeFacts};
use super::{Builder, Lowered, Slot, fields_of, is_random, place_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::unaliased;
use crate::plan::lookup::ViewLookup;
use crate::plan::relation::no_time_of_lookup;
use crate::types::quoted;

/// The right side of a temporal join.
struct Versions {
    node: NodeId,
    /// Its column of time.
    time: usize,
    /// Whether there is one row for each key and time.
    unique: bool,
    /// Its column that says of a row that nothing is valid from its time on.
    ended: Option<usize>,
}

impl Builder<'_> {
    /// The column of event time of which a lookup is, when it is of event time.
    pub(super) fn left_time(&self, lookup: &ViewLookup, lowered: &Lowered) -> Result<Option<usize>> {
        let Some(at) = &lookup.at else { return Ok(None) };
        let Slot::At(column) = lowered.slot_of(at, lookup.input.schema())? else {
            return internal_err!("a window is not assigned");
        };
        match self.facts.of(lowered.node).attributes[column] {
            Attribute::Time(TimeDomain::Event, _) => Ok(Some(column)),
            Attribute::Time(TimeDomain::Processing, _) if lookup.asof.is_none() => Ok(None),
            _ => Err(outside(no_time_of_lookup(place_of(at).or(lookup.position)))),
        }
    }

    pub(super) fn temporal_join(&mut self, lookup: &ViewLookup, lowered: &Lowered, time: usize) -> Result<Lowered> {
        self.check_only_come(&lookup.name, lookup.position, lowered)?;
        if self.asking || self.answering {
            let help = "write FOR SYSTEM_TIME AS OF PROCTIME(): a request is answered when it comes";
            return Err(self.refused_at(lookup, "a lookup as of event time in an endpoint", help));
        }
        let versions = self.versions(lookup)?;
        let statement = self.position;
        self.position = lookup.position.or(statement);
        let joined = self.join_versions(lookup, lowered, time, &versions);
        self.position = statement;
        joined
    }

    fn join_versions(
        &mut self,
        lookup: &ViewLookup,
        lowered: &Lowered,
        left_time: usize,
        versions: &Versions,
    ) -> Result<Lowered> {
        if lookup.residual.as_ref().is_some_and(is_random) {
            let help = "compute it in a query below the join, and name its column in ON";
            return Err(self.refused_at(lookup, "RAND or UUID in the condition of a lookup", help));
        }
        let exprs: Vec<Expr> = lookup.equals.iter().map(|equal| equal.expr.clone()).collect();
        let (lowered, left_keys) = self.with_keys(&exprs, lookup.input.schema(), lowered)?;
        // With keys that are computed the time has moved.
        let left_time = match &lookup.at {
            Some(at) => match lowered.slot_of(at, lookup.input.schema())? {
                Slot::At(column) => column,
                _ => return internal_err!("a window is not assigned"),
            },
            None => left_time,
        };
        let beside = self.beside(&lowered, &lookup.input, &lookup.schema, lookup.residual.as_ref())?;
        let mut facts = beside.facts;
        let dependent = |node: NodeId| self.facts.of(node).schedule_dependent;
        facts.schedule_dependent = dependent(lowered.node) || dependent(versions.node);
        facts.wait_for(left_time);
        if !versions.unique {
            facts.keys.clear();
        }
        let spec = TemporalJoinSpec {
            left_keys,
            right_keys: lookup.equals.iter().map(|equal| equal.column).collect(),
            left_time,
            right_time: versions.time,
            strict: lookup.asof.is_some_and(|(_, strict)| strict),
            ended: versions.ended,
            columns: lookup.columns.iter().map(|(column, _)| *column).collect(),
            residual: beside.residual,
            outer: lookup.outer,
        };
        let node = self.add(Spec::TemporalJoin(spec), vec![lowered.node, versions.node], beside.schema, facts);
        Ok(Lowered { node, slots: beside.slots, pending: None, ..lowered })
    }

    /// The rows of the right side by key and time.
    fn versions(&mut self, lookup: &ViewLookup) -> Result<Versions> {
        self.versions = (lookup.asof.is_none() && keeps_last(&lookup.view)).then_some(false);
        self.changing = lookup.asof.is_none() && lookup.is_table && self.changes_of(&lookup.view);
        let ordered = self.changing || lookup.orders_versions() && self.orders(&lookup.view);
        let lowered = self.apart(lookup, ordered);
        let (changing, lowered) = (std::mem::take(&mut self.changing), lowered?);
        let by_rank = self.versions.take() == Some(true);
        let lowered = self.timely(lowered);
        let origin = lowered.origin;
        let fields = fields_of(lookup.view.schema());
        let mut in_order = lowered.clone();
        if let Some(origin) = origin {
            in_order.slots.push(Slot::At(origin));
        }
        let mut named = fields.clone();
        named.extend(origin.map(|origin| Arc::clone(&self.plan.nodes[lowered.node].schema.fields()[origin])));
        let node = self.in_order(&in_order, &named)?;
        let time = self.right_time(lookup, node, fields.len())?;
        let equal = |column: &usize| *column == time || lookup.equals.iter().any(|equal| equal.column == *column);
        let unique = self.facts.of(node).keys.iter().any(|key| key.iter().all(equal));
        if by_rank {
            self.check_whole_key(lookup, node, time)?;
            return Ok(Versions { node, time, unique: true, ended: None });
        }
        if changing {
            return self.versions_of_changes(lookup, node, time);
        }
        if !self.plan.append_only()[node] {
            let help = "join a table with a primary key and a watermark, or a view that keeps the last row of each key of one \
                        whose rows only come: SELECT .. FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) \
                        AS n FROM t) WHERE n = 1";
            let what = format!("{} takes rows back and does not keep what they were: as of event time", lookup.name);
            return Err(self.refused_at(lookup, &what, help));
        }
        if lookup.asof.is_none() && !lookup.is_table && unique {
            return Ok(Versions { node, time, unique, ended: None });
        }
        let keys = self.version_keys(lookup, time)?;
        let order = origin.map(|_| OrderBy { column: fields.len(), descending: true, nulls_first: true });
        self.last_of(node, keys, order.into_iter().collect(), time)
    }

    /// The columns that name a version: the table's key, or all that ASOF compares, and the time.
    fn version_keys(&self, lookup: &ViewLookup, time: usize) -> Result<Vec<usize>> {
        let given: Vec<usize> = lookup.equals.iter().map(|equal| equal.column).collect();
        let mut keys = match (&lookup.key, lookup.asof) {
            (_, Some(_)) => given,
            (Some(key), None) => {
                if let Some(missing) = key.iter().find(|column| !given.contains(column)) {
                    return Err(self.key_missing(lookup, *missing));
                }
                key.clone()
            }
            (None, None) => {
                let help = "declare PRIMARY KEY (k) NOT ENFORCED in CREATE TABLE, or join a view that keeps the last row of each \
                            key: SELECT .. FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM t) \
                            WHERE n = 1";
                let what = format!("nothing makes a row of {} unique at a time: as of event time", lookup.name);
                return Err(self.refused_at(lookup, &what, help));
            }
        };
        keys.push(time);
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// The condition names all that the view keeps the last row of.
    fn check_whole_key(&self, lookup: &ViewLookup, node: NodeId, time: usize) -> Result<()> {
        let given = |column: &usize| lookup.equals.iter().any(|equal| equal.column == *column);
        let keys = &self.facts.of(node).keys;
        let missing = |key: &Vec<usize>| key.iter().find(|column| **column != time && !given(column)).copied();
        if keys.iter().any(|key| missing(key).is_none()) {
            return Ok(());
        }
        match keys.iter().find_map(missing) {
            Some(missing) => Err(self.key_missing(lookup, missing)),
            None => {
                let help = "select the columns of its PARTITION BY and ORDER BY too";
                let what = format!("{} without the columns that name its versions: as of event time", lookup.name);
                Err(self.refused_at(lookup, &what, help))
            }
        }
    }

    fn key_missing(&self, lookup: &ViewLookup, column: usize) -> datafusion::common::DataFusionError {
        let name = format!("{}.{}", quoted(&lookup.alias()), quoted(&lookup.called(column)));
        outside(Error::Plan {
            problem: format!(
                "a version of {} is found by its whole key, and nothing is said to equal {name}",
                lookup.name
            ),
            position: lookup.position.or(self.position),
            help: Some(format!("write ON .. AND {name} = .., with a value of the left side alone")),
        })
    }

    /// The last row of each of these keys, of which one is a time.
    fn last_of(&mut self, node: NodeId, keys: Vec<usize>, order: Vec<OrderBy>, time: usize) -> Result<Versions> {
        let schema = Arc::clone(&self.plan.nodes[node].schema);
        let mut facts = self.facts.of(node).clone();
        self.until(&mut facts, &keys);
        facts.keys.push(keys.clone());
        let spec = RankSpec {
            keys,
            order,
            function: RankFunction::RowNumber,
            from: 1,
            to: Some(1),
            number: false,
            close: None,
            expiry: Some(Expiry { time, after_ms: 0 }),
        };
        let node = self.add(Spec::Rank(spec), vec![node], schema, facts);
        Ok(Versions { node, time, unique: true, ended: None })
    }

    /// The versions of a table whose rows are taken back; what says of which record they are is its last column.
    fn versions_of_changes(&mut self, lookup: &ViewLookup, node: NodeId, time: usize) -> Result<Versions> {
        let keys = self.version_keys(lookup, time)?;
        if !self.facts.of(node).bounds.contains_key(&time) {
            let help = "set 'table.local-time-zone' to UTC, or give the windows a table of their own";
            let what = format!("{}, whose windows are cut by the clock of another zone: as of event time", lookup.name);
            return Err(self.refused_at(lookup, &what, help));
        }
        let schema = Arc::clone(&self.plan.nodes[node].schema);
        let (ended, origin) = (schema.fields().len(), schema.fields().len() - 1);
        let mut fields: Vec<FieldRef> = schema.fields().iter().map(Arc::clone).collect();
        fields.push(Arc::new(Field::new("$ended", DataType::Boolean, true)));
        let named = lookup.key.clone().unwrap_or_default();
        let spec = Spec::Versions(VersionsSpec { keys: named, time, origin });
        let facts = NodeFacts { keys: vec![], ..self.facts.of(node).found(1) };
        let node = self.add(spec, vec![node], Arc::new(Schema::new(fields)), facts);
        let order = OrderBy { column: origin, descending: true, nulls_first: true };
        Ok(Versions { ended: Some(ended), ..self.last_of(node, keys, vec![order], time)? })
    }

    /// The column of event time of the right side: the one that ASOF names, or the only one.
    fn right_time(&self, lookup: &ViewLookup, node: NodeId, fields: usize) -> Result<usize> {
        let attributes = &self.facts.of(node).attributes[..fields];
        let is_time = |column: &usize| matches!(attributes[*column], Attribute::Time(TimeDomain::Event, _));
        let times: Vec<usize> = (0..fields).filter(is_time).collect();
        match (lookup.asof, times.as_slice()) {
            (Some((column, _)), _) if is_time(&column) => Ok(column),
            (None, [time]) => Ok(*time),
            _ => {
                let help = "declare WATERMARK FOR its time in CREATE TABLE, and select that column as it is";
                let what = match times.len() {
                    0 | 1 => format!("{} without a column of event time: as of event time", lookup.name),
                    _ => format!("{} with several columns of event time: as of event time", lookup.name),
                };
                Err(self.refused_at(lookup, &what, help))
            }
        }
    }

    /// Whether a plan is a table whose rows are taken back.
    fn changes_of(&self, plan: &LogicalPlan) -> bool {
        match plan {
            LogicalPlan::TableScan(scan) => {
                self.sources.get(scan.table_name.table()).is_some_and(|source| !source.append_only)
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
            | LogicalPlan::Projection(Projection { input, .. }) => self.changes_of(input),
            _ => false,
        }
    }

    /// Whether a table that a plan reads tells the order in which its rows came.
    fn orders(&self, plan: &LogicalPlan) -> bool {
        match plan {
            LogicalPlan::TableScan(scan) => {
                self.sources.get(scan.table_name.table()).is_some_and(|source| source.append_only)
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
            | LogicalPlan::Projection(Projection { input, .. })
            | LogicalPlan::Filter(Filter { input, .. }) => self.orders(input),
            _ => false,
        }
    }

    fn refused_at(&self, lookup: &ViewLookup, what: &str, help: &str) -> datafusion::common::DataFusionError {
        outside(Error::Unsupported {
            what: format!("{what} is not supported"),
            position: lookup.position.or(self.position).unwrap_or(tidemill_base::Position { line: 1, column: 1 }),
            help: Some(help.to_string()),
        })
    }
}

/// Whether a plan keeps the last row, by a time, of each key.
fn keeps_last(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Filter(Filter { input, .. }) => keeps_last(input),
        LogicalPlan::Window(Window { window_expr, .. }) => match window_expr.as_slice() {
            [call] => match unaliased(call) {
                Expr::WindowFunction(call) => is_last(call),
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

/// Whether a call gives the number 1 to the last row.
fn is_last(call: &WindowFunction) -> bool {
    let by_number = super::rank::function(call) == Some(RankFunction::RowNumber);
    by_number && call.params.order_by.first().is_some_and(|key| !key.asc)
}
