//! From an optimised logical plan to nodes of the circuit.
//!
//! Every node of the logical plan either becomes nodes of the circuit or is refused with its clause and place; structs
//! are taken apart field by field, so that nothing in them is passed over. A projection that only renames or reorders
//! costs nothing: [`Lowered`] says in which column of the circuit's node each field is. A window table function is held
//! back ([`Pending`]) until it is known whether an aggregate above assigns its windows itself, by panes.

mod aggregate;
mod bounds;
mod changes;
mod clock;
mod facts;
mod fields;
mod grouping;
mod join;
mod lookup;
pub(crate) mod over;
mod rank;
mod scan;
mod temporal;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::logical_plan::{
    Distinct, EmptyRelation, Extension, Filter, Projection, SubqueryAlias, Union, Values,
};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use tidemill_base::Position;
use tidemill_circuit::Plan;
use tidemill_circuit::expr::{Column as CircuitColumn, OnError};
use tidemill_circuit::plan::{Emit, Node, NodeId, OutputSpec, Spec, UnnestSpec};

use bounds::Bounds;
pub(crate) use facts::{Attribute, Facts, NodeFacts, is_proctime};
pub(crate) use scan::{Needs, Source};

use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{columns_of, compile_named, print, unaliased};
use crate::functions::Registry;
use crate::pipeline::{ASKED, ValuesDef};
use crate::plan::asked::Asked;
use crate::plan::assign::WindowAssign;
use crate::plan::lookup::{Lookup, ViewLookup};
use crate::plan::random;
use crate::plan::set_operation::SetOperation;
use crate::plan::unnest::Unnest;
use rank::Wanted;
use window::Pending;

/// The hidden column that says where in its source a row stood.
pub(crate) const ORIGIN: &str = "$origin";

/// Where a field of a logical plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// In this column of the circuit's node.
    At(usize),
    /// It is the window's start, once the windows are assigned.
    Start,
    /// It is the window's end.
    End,
    /// It is the window's time.
    Time,
    /// It is nowhere: nothing above a join needs it.
    Gone,
}

/// A logical plan, lowered.
#[derive(Debug, Clone)]
pub(crate) struct Lowered {
    /// The node.
    pub(crate) node: NodeId,
    /// Where each field of the logical plan is.
    pub(crate) slots: Vec<Slot>,
    /// The column with `$origin`, when there is one.
    pub(crate) origin: Option<usize>,
    /// The column with `$asked`, where it is still needed.
    pub(crate) asked: Option<usize>,
    /// Windows that are still to be assigned.
    pub(crate) pending: Option<Pending>,
}

/// Writes one circuit for all queries of a pipeline.
pub(crate) struct Builder<'a> {
    /// The circuit so far.
    pub(crate) plan: Plan,
    /// What is known of each node.
    pub(crate) facts: Facts,
    /// Rows that stand in the file.
    pub(crate) values: Vec<ValuesDef>,
    /// The sources, by table.
    pub(crate) sources: &'a BTreeMap<String, Source>,
    /// Our scalar functions, bound to the session.
    functions: &'a Registry,
    /// The session's time zone.
    zone: Tz,
    /// Nodes by what they do, to use a node again.
    known: BTreeMap<String, NodeId>,
    on_error: OnError,
    allowed_lateness_ms: i64,
    /// After how many milliseconds without a change state is forgotten that nothing else bounds.
    pub(crate) ttl_ms: Option<i64>,
    emit: Emit,
    position: Option<Position>,
    /// Whether what is lowered is between an endpoint's source and the filter that keeps the rows with a request.
    asking: bool,
    /// Whether what is lowered becomes answers to requests.
    answering: bool,
    /// The ranks that are wanted of a call of the next OVER below.
    wanted: Option<Wanted>,
    /// Whether the next rank below is of the last row of each key, and all that have been are wanted; true once it is so.
    versions: Option<bool>,
    /// Whether what is lowered are the changes of a table, each of which is of one record.
    changing: bool,
    /// The tables in which rows are looked up as they stand.
    pub(crate) looked_up: BTreeSet<String>,
    /// How many sources of rows in the file other circuits have.
    values_before: usize,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        sources: &'a BTreeMap<String, Source>,
        (functions, zone): (&'a Registry, Tz),
        on_error: OnError,
        allowed_lateness_ms: i64,
    ) -> Self {
        Builder {
            functions,
            zone,
            plan: Plan::default(),
            facts: Facts::default(),
            values: Vec::new(),
            sources,
            known: BTreeMap::new(),
            on_error,
            allowed_lateness_ms,
            ttl_ms: None,
            emit: Emit::OnClose,
            position: None,
            asking: false,
            answering: false,
            wanted: None,
            versions: None,
            changing: false,
            looked_up: BTreeSet::new(),
            values_before: 0,
        }
    }

    /// Names sources of rows in the file apart from so many others.
    pub(crate) fn with_values_before(self, values_before: usize) -> Self {
        Builder { values_before, ..self }
    }

    /// Lowers the query of a statement; what comes out has the fields of `plan`, in order, and nothing else.
    pub(crate) fn query(&mut self, plan: &LogicalPlan, emit: Emit, position: Position) -> Result<NodeId> {
        (self.emit, self.position) = (emit, Some(position));
        let lowered = self.lower(plan, false)?;
        let lowered = self.materialise(lowered)?;
        self.in_order(&lowered, &fields_of(plan.schema()))
    }

    /// Lowers the query of an endpoint; what comes out has the fields of `plan`, in order, and then `$origin`.
    pub(crate) fn answers(&mut self, plan: &LogicalPlan, position: Position) -> Result<NodeId> {
        (self.emit, self.position, self.answering) = (Emit::OnClose, Some(position), true);
        let lowered = self.lower(plan, true);
        self.answering = false;
        let mut lowered = self.materialise(lowered?)?;
        let Some(origin) = lowered.origin else { return internal_err!("an answer without its request") };
        lowered.slots.push(Slot::At(origin));
        let mut fields = fields_of(plan.schema());
        fields.push(Arc::new(Field::new(ORIGIN, DataType::UInt64, false)));
        self.in_order(&lowered, &fields)
    }

    /// The rows of an endpoint's source, and what is computed over all of them, for which somebody waits.
    fn asked(&mut self, asked: &Asked, origin: bool) -> Result<Lowered> {
        self.asking = true;
        let lowered = self.lower(&asked.input, origin);
        self.asking = false;
        let lowered = self.materialise(lowered?)?;
        let Some(column) = lowered.asked else { return internal_err!("the source of an endpoint has no {ASKED}") };
        let schema = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let facts = self.facts.of(lowered.node).clone();
        let condition = CircuitColumn::new(column, ASKED, DataType::Boolean);
        let node = self.add(Spec::Filter(condition), vec![lowered.node], schema, facts);
        Ok(Lowered { node, asked: None, ..lowered })
    }

    /// Adds an output over nodes that all have the same columns.
    pub(crate) fn output(
        &mut self,
        name: &str,
        nodes: &[NodeId],
        key: Option<Vec<usize>>,
        position: Position,
    ) -> NodeId {
        let input = match nodes {
            [only] => *only,
            many => {
                let schema = Arc::clone(&self.plan.nodes[many[0]].schema);
                let facts = self.facts.union(many);
                self.add(Spec::Union, many.to_vec(), schema, facts)
            }
        };
        let schema = Arc::clone(&self.plan.nodes[input].schema);
        let facts = self.facts.of(input).clone();
        self.position = Some(position);
        self.add(Spec::Output(OutputSpec { name: name.to_string(), key }), vec![input], schema, facts)
    }

    /// Adds a node, or finds the one that does the same.
    pub(crate) fn add(&mut self, spec: Spec, inputs: Vec<NodeId>, schema: SchemaRef, facts: NodeFacts) -> NodeId {
        let node = Node { spec, inputs, schema, position: self.position, on_error: self.on_error };
        let ttl_ms = self.ttl_ms.filter(|_| self.plan.takes_ttl(&node));
        let name = format!("{:?} {:?} {:?} {ttl_ms:?}", node.inputs, node.spec, self.on_error);
        if let Some(node) = self.known.get(&name) {
            return *node;
        }
        let node = self.plan.add(node);
        self.plan.ttls.extend(ttl_ms.map(|ttl_ms| (node, ttl_ms)));
        self.facts.push(NodeFacts { schedule_dependent: facts.schedule_dependent || ttl_ms.is_some(), ..facts });
        self.known.insert(name, node);
        node
    }

    fn lower(&mut self, plan: &LogicalPlan, origin: bool) -> Result<Lowered> {
        match plan {
            LogicalPlan::Projection(Projection { expr, input, schema, .. }) => {
                self.projection(expr, input, schema, origin)
            }
            LogicalPlan::Filter(Filter { predicate, input, .. }) => self.filter(predicate, input, origin),
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias: _, schema: _, .. }) => self.lower(input, origin),
            LogicalPlan::TableScan(scan) => self.scan(scan, origin),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, origin),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input, origin),
            LogicalPlan::Union(Union { inputs, schema }) => self.union(inputs, schema, origin),
            LogicalPlan::Values(Values { schema, values }) => self.rows(schema, values, origin),
            LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row, schema }) => {
                self.one_row(*produce_one_row, schema, origin)
            }
            LogicalPlan::Extension(Extension { node }) => {
                if let Some(assign) = node.as_any().downcast_ref::<WindowAssign>() {
                    return self.assign(assign, origin);
                }
                if let Some(lookup) = node.as_any().downcast_ref::<Lookup>() {
                    return self.lookup(lookup, origin);
                }
                if let Some(lookup) = node.as_any().downcast_ref::<ViewLookup>() {
                    return self.view_lookup(lookup, origin);
                }
                if let Some(operation) = node.as_any().downcast_ref::<SetOperation>() {
                    return self.set_operation(operation, origin);
                }
                if let Some(asked) = node.as_any().downcast_ref::<Asked>() {
                    return self.asked(asked, origin);
                }
                match node.as_any().downcast_ref::<Unnest>() {
                    Some(unnest) => self.unnest(unnest, origin),
                    None => Err(self.refused("UNNEST alone", "write FROM t CROSS JOIN UNNEST(t.items) AS u (item)")),
                }
            }
            LogicalPlan::Join(join) => self.join(join, None, origin),
            LogicalPlan::Window(window) => self.over(window, origin),
            LogicalPlan::Sort(_) => Err(self.refused(
                "ORDER BY in a query that feeds a table or view",
                "rows of a stream have no last one: order the bare SELECT that reads them",
            )),
            LogicalPlan::Limit(_) => {
                Err(self.refused("LIMIT in a query that feeds a table or view", "limit the bare SELECT that reads it"))
            }
            LogicalPlan::Distinct(Distinct::On(_)) => Err(self.refused("DISTINCT ON", "use GROUP BY with FIRST_VALUE")),
            LogicalPlan::Subquery(_) => Err(self.refused("LATERAL here", "write a join with a condition")),
            LogicalPlan::RecursiveQuery(_) => Err(self.refused("WITH RECURSIVE", "")),
            LogicalPlan::Unnest(_) => Err(self.refused("UNNEST in SELECT", "write CROSS JOIN UNNEST(..) in FROM")),
            LogicalPlan::Repartition(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => Err(self.refused("this statement", "")),
        }
    }

    fn refused(&self, what: &str, help: &str) -> datafusion::common::DataFusionError {
        outside(Error::Unsupported {
            what: format!("{what} is not supported yet"),
            position: self.position.unwrap_or(Position { line: 1, column: 1 }),
            help: (!help.is_empty()).then(|| help.to_string()),
        })
    }

    fn filter(&mut self, predicate: &Expr, input: &LogicalPlan, origin: bool) -> Result<Lowered> {
        if let Some(ranked) = self.ranked(predicate, input, origin, true)? {
            return Ok(ranked);
        }
        let lowered = self.lower(input, origin || is_random(predicate))?;
        self.filtered(predicate, input, lowered)
    }

    /// The rows of `input`, lowered, for which the predicate is true.
    fn filtered(&mut self, predicate: &Expr, input: &LogicalPlan, lowered: Lowered) -> Result<Lowered> {
        self.versions = None;
        let lowered = self.assigned_for(lowered, std::slice::from_ref(predicate), input.schema())?;
        self.check_condition(predicate, input.schema(), &lowered)?;
        self.check_random(predicate, &lowered)?;
        self.check_clock(predicate, lowered.node)?;
        let condition = compile_random(predicate, input.schema(), &lowered, &self.plan.nodes[lowered.node].schema)?;
        let schema = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let mut facts = self.facts.of(lowered.node).clone();
        facts.schedule_dependent |= facts::reads_clock(predicate);
        let node =
            self.at(predicate, |builder| builder.add(Spec::Filter(condition), vec![lowered.node], schema, facts));
        Ok(Lowered { node, ..lowered })
    }

    /// A condition on rows of sessions that are still to be made would make others of them.
    fn check_condition(&self, predicate: &Expr, schema: &DFSchema, lowered: &Lowered) -> Result<()> {
        let Some(pending) = lowered.pending.as_ref().filter(|pending| pending.is_session()) else { return Ok(()) };
        let whole =
            |index: usize| matches!(lowered.slots[index], Slot::At(place) if pending.partition.contains(&place));
        match columns_of(predicate, schema)?.into_iter().all(whole) {
            true => Ok(()),
            false => Err(self.refused(
                "WHERE over the rows of SESSION in this place",
                "put the condition into FILTER (WHERE ..) of the aggregates, or into a view that SESSION reads",
            )),
        }
    }

    /// RAND and its like follow a row's place in its source, which several rows must not share.
    fn check_random(&self, expr: &Expr, lowered: &Lowered) -> Result<()> {
        match is_random(expr) && self.facts.of(lowered.node).several {
            true => {
                let what = "RAND or UUID over rows of which several come of one row of the source";
                Err(self.refused(what, "compute it in a query below the lookup or UNNEST, and name its column"))
            }
            false => Ok(()),
        }
    }

    /// Runs `add` with the place of `expr` in the text, as far as it is known.
    fn at<T>(&mut self, expr: &Expr, add: impl FnOnce(&mut Self) -> T) -> T {
        let statement = self.position;
        self.position = place_of(expr).or(statement);
        let added = add(self);
        self.position = statement;
        added
    }

    fn projection(&mut self, exprs: &[Expr], input: &LogicalPlan, schema: &DFSchema, origin: bool) -> Result<Lowered> {
        let origin = origin || exprs.iter().any(is_random);
        let lowered = match self.ranked_for(exprs, input, origin)? {
            Some(ranked) => ranked,
            None => self.lower_for(exprs, input, origin)?,
        };
        let computed: Vec<Expr> =
            exprs.iter().filter(|expr| !matches!(unaliased(expr), Expr::Column(_))).cloned().collect();
        let lowered = self.assigned_for(lowered, &computed, input.schema())?;
        if computed.is_empty() {
            let slots = exprs.iter().map(|expr| lowered.slot_of(expr, input.schema())).collect::<Result<_>>()?;
            return Ok(Lowered { slots, ..lowered });
        }
        let mut project = self.project(&lowered, input.schema());
        let mut slots = Vec::with_capacity(exprs.len());
        for (index, expr) in exprs.iter().enumerate() {
            slots.push(match unaliased(expr) {
                Expr::Column(_) => match lowered.slot_of(expr, input.schema())? {
                    Slot::At(column) => Slot::At(project.keep(column)),
                    other => other,
                },
                computed => Slot::At(project.compute(computed, schema.field(index).name())?),
            });
        }
        project.finish(slots)
    }

    /// A projection of `input` that is put together column by column.
    pub(crate) fn project<'b>(&'b mut self, input: &Lowered, schema: &'b DFSchema) -> Project<'b, 'a> {
        Project {
            builder: self,
            input: input.clone(),
            schema,
            exprs: Vec::new(),
            fields: Vec::new(),
            attributes: Vec::new(),
            bounds: Bounds::new(),
            reads_clock: false,
            place: None,
        }
    }

    /// The columns `fields` of `lowered`, in order and under these names, as a node of their own where needed.
    fn in_order(&mut self, lowered: &Lowered, fields: &[FieldRef]) -> Result<NodeId> {
        let node = &self.plan.nodes[lowered.node];
        let same = node.schema.fields().len() == fields.len()
            && lowered.slots.iter().enumerate().all(|(index, slot)| *slot == Slot::At(index))
            && fields.iter().zip(node.schema.fields()).all(|(field, column)| field.name() == column.name());
        if same {
            return Ok(lowered.node);
        }
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        let mut kept = Vec::new();
        for (field, slot) in fields.iter().zip(&lowered.slots) {
            let Slot::At(place) = *slot else { return internal_err!("a window is not assigned") };
            let column = node.schema.field(place);
            exprs.push(CircuitColumn::new(place, column.name().clone(), column.data_type().clone()));
            columns.push(Arc::new(column.clone().with_name(field.name())));
            kept.push(place);
        }
        let facts = self.facts.of(lowered.node).projected(&kept.into_iter().map(Some).collect::<Vec<_>>());
        Ok(self.add(Spec::Project(exprs), vec![lowered.node], Arc::new(Schema::new(columns)), facts))
    }

    fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: &DFSchema, origin: bool) -> Result<Lowered> {
        if origin {
            return Err(self.unordered("UNION"));
        }
        let fields = fields_of(schema);
        let mut nodes = Vec::with_capacity(inputs.len());
        for input in inputs {
            let lowered = self.lower(input, false)?;
            let lowered = self.materialise(lowered)?;
            nodes.push(self.in_order(&lowered, &fields)?);
        }
        let facts = self.facts.union(&nodes);
        let node = self.add(Spec::Union, nodes, nullable(&fields), facts);
        Ok(Lowered::in_order(node, fields.len()))
    }

    /// FIRST_VALUE and its like over what has no order.
    fn unordered(&self, of: &str) -> datafusion::common::DataFusionError {
        outside(Error::Unsupported {
            what: format!(
                "FIRST_VALUE, LAST_VALUE, ARRAY_AGG, LISTAGG, RAND and UUID follow the order of a source, and {of} has none"
            ),
            position: self.position.unwrap_or(Position { line: 1, column: 1 }),
            help: Some("use MIN or MAX, or aggregate the source directly".to_string()),
        })
    }

    fn unnest(&mut self, unnest: &Unnest, origin: bool) -> Result<Lowered> {
        let Unnest { input, list, outer, ordinality, schema, .. } = unnest;
        // Elements share the place of their row, which tells whose answer they are and no order among them.
        if origin && !self.answering {
            return Err(self.unordered("UNNEST"));
        }
        let lowered = self.lower(input, origin)?;
        let lowered = self.assigned_for(lowered, std::slice::from_ref(list), input.schema())?;
        let Slot::At(column) = lowered.slot_of(list, input.schema())? else {
            return internal_err!("the list of UNNEST is a window's column");
        };
        let before = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let elements = &fields_of(schema)[input.schema().fields().len()..];
        let mut fields: Vec<FieldRef> = before.fields().iter().map(Arc::clone).collect();
        fields.extend(elements.iter().map(Arc::clone));
        let facts = self.facts.of(lowered.node).unnested(elements.len());
        let spec = Spec::Unnest(UnnestSpec { column, outer: *outer, ordinality: *ordinality });
        let node = self.add(spec, vec![lowered.node], Arc::new(Schema::new(fields)), facts);
        let mut slots = lowered.slots;
        slots.extend((0..elements.len()).map(|index| Slot::At(before.fields().len() + index)));
        Ok(Lowered { node, slots, ..lowered })
    }
}

impl Lowered {
    /// A node whose columns are the fields, in order.
    pub(crate) fn in_order(node: NodeId, count: usize) -> Self {
        Lowered { node, slots: (0..count).map(Slot::At).collect(), origin: None, asked: None, pending: None }
    }

    /// The column of each field; none for columns of windows that are not assigned yet.
    pub(crate) fn places(&self) -> Vec<Option<usize>> {
        let place = |slot: &Slot| if let Slot::At(place) = slot { Some(*place) } else { None };
        self.slots.iter().map(place).collect()
    }

    /// Where the field is that a column expression names.
    pub(crate) fn slot_of(&self, expr: &Expr, schema: &DFSchema) -> Result<Slot> {
        match unaliased(expr) {
            Expr::Column(column) => Ok(self.slots[schema.index_of_column(column)?]),
            other => internal_err!("{} is no column", print(other)),
        }
    }

    /// Whether an expression names a column of windows that are not assigned yet.
    fn names_window(&self, expr: &Expr, schema: &DFSchema) -> Result<bool> {
        let columns = columns_of(expr, schema)?;
        Ok(columns.into_iter().any(|index| !matches!(self.slots[index], Slot::At(_))))
    }
}

/// A projection that is put together column by column; equal ones are there once.
pub(crate) struct Project<'b, 'a> {
    builder: &'b mut Builder<'a>,
    input: Lowered,
    schema: &'b DFSchema,
    exprs: Vec<(String, tidemill_circuit::Expr)>,
    fields: Vec<Field>,
    attributes: Vec<Option<usize>>,
    bounds: Bounds,
    reads_clock: bool,
    /// What stands for a row's place in an order, where that is no column.
    place: Option<usize>,
}

impl Project<'_, '_> {
    /// Keeps a column of the input and returns its place.
    pub(crate) fn keep(&mut self, column: usize) -> usize {
        let name = format!("#{column}");
        if let Some(place) = self.exprs.iter().position(|(known, _)| *known == name) {
            return place;
        }
        let field = self.builder.plan.nodes[self.input.node].schema.field(column).clone();
        let expr = CircuitColumn::new(column, field.name().clone(), field.data_type().clone());
        self.exprs.push((name, expr));
        self.fields.push(field);
        self.attributes.push(Some(column));
        self.exprs.len() - 1
    }

    /// Keeps every field of the input and returns where each is.
    pub(crate) fn keep_all(&mut self, input: &Lowered) -> Result<Vec<Slot>> {
        let kept = input.slots.iter().map(|slot| match *slot {
            Slot::At(column) => Ok(Slot::At(self.keep(column))),
            Slot::Gone => Ok(Slot::Gone),
            _ => internal_err!("a window is not assigned"),
        });
        kept.collect()
    }

    /// The place of a field of the input, or of what is computed over them.
    pub(crate) fn column(&mut self, expr: &Expr, input: &Lowered, schema: &DFSchema, name: &str) -> Result<usize> {
        match unaliased(expr) {
            column @ Expr::Column(_) => match input.slot_of(column, schema)? {
                Slot::At(column) => Ok(self.keep(column)),
                _ => internal_err!("a column of a window that is not assigned"),
            },
            computed => self.compute(computed, name),
        }
    }

    /// Computes an expression over the input's fields and returns its place.
    pub(crate) fn compute(&mut self, expr: &Expr, name: &str) -> Result<usize> {
        let known = format!("{expr:?}");
        if let Some(place) = self.exprs.iter().position(|(other, _)| *other == known) {
            return Ok(place);
        }
        self.builder.check_random(expr, &self.input)?;
        self.builder.check_clock(expr, self.input.node)?;
        let compiled =
            compile_random(expr, self.schema, &self.input, &self.builder.plan.nodes[self.input.node].schema)?;
        self.reads_clock |= facts::reads_clock(expr);
        self.fields.push(Field::new(name, compiled.data_type(), true));
        self.exprs.push((known, compiled));
        self.attributes.push(None);
        let place = self.exprs.len() - 1;
        let known = &self.builder.facts.of(self.input.node).bounds;
        let slack = |field: usize| match self.input.slots[field] {
            Slot::At(column) => known.get(&column).copied(),
            _ => None,
        };
        self.bounds.extend(bounds::of_expr(expr, self.schema, slack)?.map(|slack| (place, slack)));
        if facts::is_proctime(expr) {
            self.attributes[place] = Some(usize::MAX);
        }
        Ok(place)
    }

    /// The type of a column of its own.
    pub(crate) fn type_at(&self, place: usize) -> DataType {
        self.fields[place].data_type().clone()
    }

    /// Whether it has the first `count` columns of its input and nothing else.
    pub(crate) fn is_untouched(&self, count: usize) -> bool {
        self.exprs.len() == count && self.attributes.iter().enumerate().all(|(place, column)| *column == Some(place))
    }

    /// Adds the node; what is still needed of the input (`$origin`, the time of pending windows) stays in it.
    pub(crate) fn finish(mut self, slots: Vec<Slot>) -> Result<Lowered> {
        let origin = self.input.origin.map(|origin| self.keep(origin));
        let asked = self.input.asked.map(|asked| self.keep(asked));
        let pending = self.input.pending.clone().map(|pending| Pending {
            time: self.keep(pending.time),
            partition: pending.partition.iter().map(|column| self.keep(*column)).collect(),
            ..pending
        });
        let Project { builder, input, exprs, fields, attributes, bounds, reads_clock, schema: _, place: _ } = self;
        let mut facts = builder.facts.of(input.node).projected(&attributes);
        facts.bounds.extend(bounds);
        facts.schedule_dependent |= reads_clock;
        let exprs = exprs.into_iter().map(|(_, expr)| expr).collect();
        let node = builder.add(Spec::Project(exprs), vec![input.node], Arc::new(Schema::new(fields)), facts);
        Ok(Lowered { node, slots, origin, asked, pending })
    }
}

/// Whether an expression calls RAND or its like.
pub(crate) fn is_random(expr: &Expr) -> bool {
    facts::names_function(expr, &[random::ORDINAL])
}

/// Compiles an expression; the place of the row in its source is put where RAND and its like ask for it.
fn compile_random(expr: &Expr, schema: &DFSchema, lowered: &Lowered, names: &Schema) -> Result<tidemill_circuit::Expr> {
    let mut places = lowered.places();
    if !is_random(expr) {
        return compile_named(expr, schema, &places, Some(names));
    }
    let Some(origin) = lowered.origin else { return internal_err!("a row without a place in its source") };
    places.truncate(schema.fields().len());
    places.push(Some(origin));
    let mut fields: Vec<_> = schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    fields.push((None, Arc::new(Field::new(ORIGIN, DataType::UInt64, false))));
    let schema = DFSchema::new_with_metadata(fields, Default::default())?;
    let ordinal = datafusion::logical_expr::cast(Expr::Column(Column::new_unqualified(ORIGIN)), DataType::Int64);
    let placed = expr.clone().transform(|part| match &part {
        Expr::ScalarFunction(call) if call.func.name() == random::ORDINAL => Ok(Transformed::yes(ordinal.clone())),
        _ => Ok(Transformed::no(part)),
    })?;
    compile_named(&placed.data, &schema, &places, Some(names))
}

/// The place in the text of the first column an expression names.
pub(crate) fn place_of(expr: &Expr) -> Option<Position> {
    let of = |column: &Column| {
        column.spans().first().map(|span| Position { line: span.start.line, column: span.start.column })
    };
    expr.column_refs().into_iter().filter_map(of).min()
}

/// The fields of a logical schema.
pub(crate) fn fields_of(schema: &DFSchema) -> Vec<FieldRef> {
    schema.fields().iter().map(Arc::clone).collect()
}

/// The fields, all of which may be null.
pub(crate) fn nullable(fields: &[FieldRef]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

/// The type of `window_start` and `window_end`.
pub(crate) fn window_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// The type of `window_time` over TIMESTAMP_LTZ.
fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::from("UTC")))
}

/// Whether an expression is a constant that is not null.
pub(crate) fn is_constant(expr: &Expr) -> bool {
    matches!(unaliased(expr), Expr::Literal(value, _) if !value.is_null() && *value != ScalarValue::Null)
}

/// The type of an expression.
pub(crate) fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    expr.get_type(schema)
}
