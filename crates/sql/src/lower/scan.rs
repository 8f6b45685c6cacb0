//! Tables as sources: one node a table for all queries, with only the columns that any of them needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_base::Position;
use tidemill_circuit::expr::Column as CircuitColumn;
use tidemill_circuit::plan::{NodeId, SourceSpec, Spec, TimeDomain, WatermarkSpec};

use super::facts::{Attribute, NodeFacts, is_proctime};
use super::fields::{self, Demand};
use super::window::{WALL, WALL_TYPE};
use super::{Builder, Lowered, ORIGIN, Slot, over};
use crate::aggregate;
use crate::catalog::Declared;
use crate::error::Error;
use crate::expr::{compile, compile_in_order, unaliased};
use crate::functions::{cast_expr, wall_floor};
use crate::pipeline::{ASKED, ValuesDef};
use crate::plan::assign::WindowAssign;
use crate::plan::lookup::ViewLookup;
use crate::plan::{rebind, scanned};

/// A declared table, ready to be scanned.
#[derive(Debug)]
pub(crate) struct Source {
    /// The table's name.
    pub(crate) name: String,
    /// Where it is declared.
    pub(crate) position: Position,
    /// The columns that can be decoded: physical ones and metadata.
    pub(crate) decodable: DFSchema,
    /// All columns, in the order of the declaration: what computes each, over `decodable`.
    pub(crate) columns: Vec<(Field, Expr)>,
    /// The time column, and the watermark over all columns.
    pub(crate) watermark: Option<(usize, Expr)>,
    /// The columns as a query names them.
    pub(crate) readable: DFSchema,
    /// The declared key, as places in `columns`.
    pub(crate) primary_key: Vec<usize>,
    /// Whether no row is ever taken back.
    pub(crate) append_only: bool,
    /// After how long a silent partition stops holding the watermark back.
    pub(crate) idle_timeout_ms: Option<u64>,
    /// What the queries need of it.
    pub(crate) needs: Needs,
}

/// What queries need of a source.
#[derive(Debug, Default, Clone)]
pub(crate) struct Needs {
    /// The columns, as places in the declaration, and what of each.
    pub(crate) columns: BTreeMap<usize, Demand>,
    /// Where in its source each row stood.
    pub(crate) origin: bool,
    /// Whether that is also asked of rows that are taken back.
    pub(crate) changes: bool,
    /// How far event time has moved on.
    pub(crate) watermark: bool,
    /// Whether windows are cut by it, which is by a wall clock where the time is a TIMESTAMP_LTZ.
    pub(crate) windows: bool,
    /// Whether somebody waits for the answer of each row.
    pub(crate) asked: bool,
}

impl Needs {
    /// Adds what a query needs of each table it scans.
    pub(crate) fn gather(plan: &LogicalPlan, needs: &mut BTreeMap<String, Needs>) -> Result<()> {
        let (mut origin, mut watermark, mut windows) = (false, false, false);
        let mut scans = Vec::new();
        let (mut versioned, mut changing): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        plan.apply(|node| {
            origin |= node.expressions().iter().any(super::is_random);
            match node {
                LogicalPlan::TableScan(scan) => scans.push(scan),
                LogicalPlan::Aggregate(aggregate) => {
                    origin |= aggregate.aggr_expr.iter().any(is_ordered);
                }
                LogicalPlan::Window(window) => {
                    origin |= over::follows_arrival(window);
                    watermark |= over::follows_time(window);
                }
                LogicalPlan::Join(join) => watermark |= super::join::is_timed(join)?,
                LogicalPlan::Extension(extension) => {
                    windows |= extension.node.as_any().is::<WindowAssign>();
                    if let Some(lookup) = extension.node.as_any().downcast_ref::<ViewLookup>()
                        && lookup.at.as_ref().is_some_and(|at| !is_clock(&lookup.input, at))
                    {
                        watermark = true;
                        changing.extend(lookup.is_table.then(|| scanned(&lookup.view)).into_iter().flatten());
                        versioned.extend(lookup.orders_versions().then(|| scanned(&lookup.view)).into_iter().flatten());
                    }
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for scan in scans {
            let needs = needs.entry(scan.table_name.table().to_string()).or_default();
            needs.origin |= origin || versioned.iter().any(|name| name == scan.table_name.table());
            needs.changes |= changing.iter().any(|name| name == scan.table_name.table());
            needs.watermark |= watermark || windows;
            needs.windows |= windows;
        }
        fields::demand(plan, &mut |scan, demanded| {
            let needs = needs.entry(scan.table_name.table().to_string()).or_default();
            for (index, demand) in demanded.iter().enumerate() {
                let place = scan.projection.as_ref().map_or(index, |places| places[index]);
                needs.columns.entry(place).or_default().and(demand);
            }
        })
    }
}

/// Whether an expression is the time at which a row is read, as far as that can be told.
fn is_clock(plan: &LogicalPlan, expr: &Expr) -> bool {
    let expr = unaliased(expr);
    let Expr::Column(column) = expr else { return is_proctime(expr) };
    let Some(place) = plan.schema().maybe_index_of_column(column) else { return false };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let place = scan.projection.as_ref().map_or(place, |places| places[place]);
            scan.source.downcast_ref::<Declared>().is_some_and(|table| table.is_clock(place))
        }
        LogicalPlan::Projection(projection) => is_clock(&projection.input, &projection.expr[place]),
        other => match other.inputs().first() {
            Some(input) if place < input.schema().fields().len() => {
                let (qualifier, field) = input.schema().qualified_field(place);
                is_clock(input, &Expr::Column((qualifier, field).into()))
            }
            _ => false,
        },
    }
}

fn is_ordered(call: &Expr) -> bool {
    match unaliased(call) {
        Expr::AggregateFunction(call) => {
            aggregate::lowered(&call.func, &call.params.args).is_some_and(|lowered| lowered.ordered)
        }
        _ => false,
    }
}

impl Source {
    /// All columns of the table, from rows of the decodable ones.
    pub(crate) fn read(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let failed = |problem: String| Error::Plan { problem, position: Some(self.position), help: None };
        let mut columns = Vec::with_capacity(self.columns.len());
        for (_, expr) in &self.columns {
            let expr = compile_in_order(expr, &self.decodable).map_err(|error| failed(error.to_string()))?;
            columns.push(expr.evaluate(rows).map_err(failed)?);
        }
        let fields: Vec<Field> = self.columns.iter().map(|(field, _)| field.clone()).collect();
        let schema = Schema::new_with_metadata(fields, rows.schema().metadata().clone());
        RecordBatch::try_new(Arc::new(schema), columns).map_err(|error| failed(error.to_string()))
    }

    /// Binds what is computed to the functions of another session.
    pub(crate) fn rebind(&mut self, functions: &crate::functions::Registry) -> Result<()> {
        for (_, expr) in &mut self.columns {
            *expr = rebind::expression(expr.clone(), functions)?;
        }
        if let Some((_, bound)) = &mut self.watermark {
            *bound = rebind::expression(bound.clone(), functions)?;
        }
        Ok(())
    }

    /// Whether each row has its place in the source: one that is taken back has that of the record that says so, which is
    /// for its versions alone.
    fn gives_origin(&self) -> bool {
        self.needs.origin && (self.append_only || self.needs.changes)
    }

    /// The columns of the source's node, as places in the declaration.
    fn present(&self) -> Result<Vec<usize>> {
        let mut present: BTreeSet<usize> = self.needs.columns.keys().copied().collect();
        if let (Some((time, bound)), true) = (&self.watermark, self.needs.watermark) {
            present.insert(*time);
            present.extend(crate::expr::columns_of(bound, &self.readable)?);
        }
        if present.is_empty() {
            present.extend(self.cheapest());
        }
        Ok(present.into_iter().collect())
    }

    /// The column that costs least to decode, for queries that only count rows.
    fn cheapest(&self) -> Option<usize> {
        let cost = |place: &usize| match self.columns[*place].0.data_type() {
            DataType::Boolean => 0,
            data_type if data_type.is_integer() => 1,
            data_type if data_type.is_numeric() => 2,
            DataType::Utf8 | DataType::Binary => 4,
            data_type if data_type.is_nested() => 5,
            _ => 3,
        };
        let plain = |place: &usize| matches!(unaliased(&self.columns[*place].1), Expr::Column(_));
        (0..self.columns.len()).filter(plain).min_by_key(cost)
    }

    /// What is needed of each decodable column.
    fn demands(&self, present: &[usize]) -> Result<Vec<Demand>> {
        let mut demands = vec![Demand::default(); self.decodable.fields().len()];
        for place in present {
            match (unaliased(&self.columns[*place].1), self.needs.columns.get(place)) {
                (Expr::Column(column), Some(demand)) => demands[self.decodable.index_of_column(column)?].and(demand),
                (expr, _) => fields::uses(expr, &self.decodable, &mut demands)?,
            }
        }
        if let (Some((_, bound)), true) = (&self.watermark, self.needs.watermark) {
            for place in crate::expr::columns_of(bound, &self.readable)? {
                fields::uses(&self.columns[place].1, &self.decodable, &mut demands)?;
            }
        }
        Ok(demands)
    }

    /// The decoded columns that `present` need, as places in `decodable`.
    fn decoded(&self, present: &[usize]) -> Result<Vec<usize>> {
        let mut decoded = BTreeSet::new();
        for place in present {
            decoded.extend(crate::expr::columns_of(&self.columns[*place].1, &self.decodable)?);
        }
        if decoded.is_empty() {
            decoded.extend(
                self.cheapest()
                    .map(|place| self.columns[place].1.clone())
                    .and_then(|expr| crate::expr::columns_of(&expr, &self.decodable).ok()?.first().copied()),
            );
        }
        Ok(decoded.into_iter().collect())
    }
}

impl Builder<'_> {
    pub(super) fn scan(&mut self, scan: &TableScan, origin: bool) -> Result<Lowered> {
        let TableScan { table_name, projection, filters, fetch, source: _, projected_schema, .. } = scan;
        if !filters.is_empty() || fetch.is_some() {
            return internal_err!("the scan of {table_name} has filters or a limit");
        }
        let sources = self.sources;
        let Some(source) = sources.get(table_name.table()) else {
            return internal_err!("{table_name} is no source");
        };
        if origin && !source.append_only && !self.changing {
            return Err(self.unordered("a table whose rows are taken back"));
        }
        let (node, present) = self.source(source)?;
        let wanted: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..projected_schema.fields().len()).collect(),
        };
        let slot = |column: &usize| match present.iter().position(|place| place == column) {
            Some(place) => Ok(Slot::At(place)),
            None => internal_err!("column {column} of {table_name} is not there"),
        };
        let slots = wanted.iter().map(slot).collect::<Result<_>>()?;
        let asked = (self.asking && source.needs.asked).then_some(present.len());
        let origin = (origin && source.gives_origin()).then_some(present.len() + usize::from(source.needs.asked));
        Ok(Lowered { node, slots, origin, asked, pending: None })
    }

    /// The node of a source and the columns it has, as places in the declaration.
    fn source(&mut self, source: &Source) -> Result<(NodeId, Vec<usize>)> {
        let present = source.present()?;
        let decoded = source.decoded(&present)?;
        let demands = source.demands(&present)?;
        let pruned = |place: &usize| demands[*place].prune(source.decodable.field(*place));
        let mut fields: Vec<Field> = decoded.iter().map(pruned).collect();
        fields.extend(source.needs.asked.then(|| Field::new(ASKED, DataType::Boolean, true)));
        let schema = Arc::new(Schema::new(fields));
        let mut places = vec![None; source.decodable.fields().len()];
        for (index, place) in decoded.iter().enumerate() {
            places[*place] = Some(index);
        }
        let mut exprs = Vec::with_capacity(present.len());
        let mut columns = Vec::with_capacity(present.len());
        for place in &present {
            let (field, expr) = &source.columns[*place];
            let compiled = compile(expr, &source.decodable, &places)?;
            match compiled.column() {
                Some(column) => {
                    let pruned = schema.field(column);
                    exprs.push(CircuitColumn::new(column, pruned.name().clone(), pruned.data_type().clone()));
                    columns.push(field.clone().with_data_type(pruned.data_type().clone()));
                }
                None => {
                    exprs.push(compiled);
                    columns.push(field.clone());
                }
            }
        }
        let mut same =
            exprs.len() == decoded.len() && exprs.iter().enumerate().all(|(index, expr)| expr.column() == Some(index));
        if source.needs.asked {
            exprs.push(CircuitColumn::new(decoded.len(), ASKED, DataType::Boolean));
            columns.push(Field::new(ASKED, DataType::Boolean, true));
        }
        if source.gives_origin() {
            exprs.push(CircuitColumn::new(schema.fields().len(), ORIGIN, DataType::UInt64));
            columns.push(Field::new(ORIGIN, DataType::UInt64, false));
        }
        let mut watermark = self.watermark(source, &present)?;
        let mut facts = source_facts(source, &present, self.time_on_the_wall(source).is_some());
        if let (Some(watermark), Some((time, _))) = (&mut watermark, self.time_on_the_wall(source)) {
            let reading = cast_expr(self.functions, time.clone(), WALL_TYPE, false)?;
            let reading = compile(&reading, &source.decodable, &places)?;
            watermark.time = exprs.len();
            columns.push(Field::new(WALL, reading.data_type(), true));
            exprs.push(reading);
            facts.attributes.push(Attribute::Plain);
            same = false;
        }
        let spec = SourceSpec {
            name: source.name.clone(),
            decoded: schema,
            origin: source.gives_origin(),
            computed: (!same).then_some(exprs),
            watermark,
            append_only: source.append_only,
        };
        let statement = self.position;
        self.position = Some(source.position);
        let node = self.add(Spec::Source(spec), vec![], Arc::new(Schema::new(columns)), facts);
        self.position = statement;
        Ok((node, present))
    }

    fn watermark(&self, source: &Source, present: &[usize]) -> Result<Option<WatermarkSpec>> {
        let Some((time, bound)) = source.watermark.as_ref().filter(|_| source.needs.watermark) else { return Ok(None) };
        let place = |column: usize| present.iter().position(|place| *place == column);
        let places: Vec<_> = (0..source.columns.len()).map(place).collect();
        let Some(time) = place(*time) else { return internal_err!("the time of {} is not there", source.name) };
        let bound = match self.time_on_the_wall(source) {
            Some((_, bound)) => compile(&wall_floor(self.functions, bound.clone())?, &source.readable, &places)?,
            None => compile(bound, &source.readable, &places)?,
        };
        Ok(Some(WatermarkSpec { time, bound, idle_timeout_ms: source.idle_timeout_ms }))
    }

    /// Whether the watermark of the circuit is a point in time and no reading of a wall clock.
    pub(super) fn watermark_is_instant(&self) -> bool {
        let zoned = |source: &Source| match &source.watermark {
            Some((time, _)) if source.needs.watermark => {
                matches!(source.columns[*time].0.data_type(), DataType::Timestamp(_, Some(_)))
            }
            _ => true,
        };
        self.sources.values().all(|source| zoned(source) && !source.needs.windows)
    }

    /// What computes the event time and the watermark of a source whose windows are cut by a wall clock.
    fn time_on_the_wall<'s>(&self, source: &'s Source) -> Option<(&'s Expr, &'s Expr)> {
        let (time, bound) = source.watermark.as_ref()?;
        let (field, time) = &source.columns[*time];
        let zoned = matches!(field.data_type(), DataType::Timestamp(_, Some(_)));
        (zoned && source.needs.windows && self.cuts_by_the_wall(TimeDomain::Event)).then_some((time, bound))
    }

    /// `VALUES`: rows that stand in the file.
    pub(super) fn rows(&mut self, schema: &DFSchema, values: &[Vec<Expr>], origin: bool) -> Result<Lowered> {
        let empty = DFSchema::empty();
        let one = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &arrow_array::RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); schema.fields().len()];
        for row in values {
            for ((column, expr), field) in columns.iter_mut().zip(row).zip(schema.fields()) {
                let value = compile_in_order(expr, &empty)?;
                let value = value.evaluate(&one).map_err(datafusion::common::DataFusionError::Execution)?;
                column.push(ScalarValue::try_from_array(&value, 0)?.cast_to(field.data_type())?);
            }
        }
        let fields = super::nullable(&super::fields_of(schema));
        let arrays = columns.into_iter().map(ScalarValue::iter_to_array).collect::<Result<_>>()?;
        let attributes = vec![Attribute::Plain; fields.fields().len()];
        Ok(self.fixed(RecordBatch::try_new(fields, arrays)?, attributes, origin))
    }

    /// A SELECT without FROM reads one row.
    pub(super) fn one_row(&mut self, produce_one_row: bool, schema: &DFSchema, origin: bool) -> Result<Lowered> {
        if !schema.fields().is_empty() {
            return Ok(self.nothing(schema, origin));
        }
        let field = Field::new("$row", DataType::Boolean, false);
        let rows = vec![true; usize::from(produce_one_row)];
        let column = Arc::new(arrow_array::BooleanArray::from(rows));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column])?;
        Ok(Lowered { slots: vec![], ..self.fixed(rows, vec![Attribute::Plain], origin) })
    }

    /// A relation that is known to have no rows, such as what `WHERE FALSE` leaves.
    fn nothing(&mut self, schema: &DFSchema, origin: bool) -> Lowered {
        let fields = super::nullable(&super::fields_of(schema));
        // Without rows any time will do: the source ends at once, and with it every window over it.
        let id = self.plan.nodes.len();
        let attribute = |field: &Arc<Field>| match (field.data_type(), field.name().as_str()) {
            (DataType::Timestamp(..), "window_start") => Attribute::Start(TimeDomain::Event, id),
            (DataType::Timestamp(..), "window_end") => Attribute::End(TimeDomain::Event, id),
            (DataType::Timestamp(..), "window_time") => Attribute::Time(TimeDomain::Event, Some(id)),
            (DataType::Timestamp(..), _) => Attribute::Time(TimeDomain::Event, None),
            _ => Attribute::Plain,
        };
        let attributes = fields.fields().iter().map(attribute).collect();
        self.fixed(RecordBatch::new_empty(fields), attributes, origin)
    }

    /// A source of rows that stand in the text, and of where they stand when `origin` is asked for.
    fn fixed(&mut self, rows: RecordBatch, mut attributes: Vec<Attribute>, origin: bool) -> Lowered {
        let decoded = rows.schema();
        let name = format!("$values.{}", self.values_before + self.values.len());
        self.values.push(ValuesDef { source: name.clone(), rows });
        let count = decoded.fields().len();
        let mut fields: Vec<_> = decoded.fields().iter().map(Arc::clone).collect();
        if origin {
            fields.push(Arc::new(Field::new(ORIGIN, DataType::UInt64, false)));
            attributes.push(Attribute::Plain);
        }
        let spec = SourceSpec { name, decoded, origin, computed: None, watermark: None, append_only: true };
        let facts = NodeFacts { attributes, ..NodeFacts::default() };
        let node = self.add(Spec::Source(spec), vec![], Arc::new(Schema::new(fields)), facts);
        Lowered { origin: origin.then_some(count), ..Lowered::in_order(node, count) }
    }
}

fn source_facts(source: &Source, present: &[usize], on_the_wall: bool) -> NodeFacts {
    let event = source.watermark.as_ref().map(|(time, _)| *time);
    let attribute = |place: &usize| match event {
        Some(time) if time == *place => Attribute::Time(TimeDomain::Event, None),
        _ if is_proctime(&source.columns[*place].1) => Attribute::Time(TimeDomain::Processing, None),
        _ => Attribute::Plain,
    };
    let mut attributes: Vec<Attribute> = present.iter().map(attribute).collect();
    let schedule_dependent = attributes.contains(&Attribute::Time(TimeDomain::Processing, None));
    attributes.extend(source.needs.asked.then_some(Attribute::Plain));
    attributes.extend(source.gives_origin().then_some(Attribute::Plain));
    let places = source.primary_key.iter().map(|column| present.iter().position(|place| place == column));
    let key = places.collect::<Option<Vec<_>>>().filter(|key| !key.is_empty());
    // The watermark of a source whose windows are cut by a wall clock is a reading of that clock.
    let timed = event.filter(|_| source.needs.watermark && !on_the_wall);
    let bounds = timed.and_then(|time| present.iter().position(|place| *place == time)).map(|place| (place, 0));
    let (bounds, keys) = (bounds.into_iter().collect(), key.into_iter().collect());
    NodeFacts { attributes, bounds, keys, schedule_dependent, ..NodeFacts::default() }
}
