//! GROUP BY and DISTINCT.
//!
//! Grouping columns, arguments and filters become columns first; then one [`AggregateSpec`] names them. When
//! `window_start` and `window_end` of windows that were held back are both grouped, the aggregate assigns the windows
//! itself; when the rows carry the windows of an aggregate below, it groups by those.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::{AggregateFunction as Call, AggregateFunctionParams};
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_base::Position;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, Node, NodeId, OverTurn, Spec, TimeDomain, Window, WindowKey,
};

use super::bounds::{self, Bounds};
use super::facts::{Attribute, NodeFacts};
use super::window::{Pending, length};
use super::{Builder, Lowered, Slot, instant_type, is_constant, type_of, window_type};
use crate::aggregate;
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{print, unaliased};
use crate::plan::assign::WINDOW_COLUMNS;

/// What a grouping expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// A column of the projection below.
    Column(usize),
    /// The window's start.
    Start,
    /// The window's end.
    End,
    /// The window's time.
    Time,
}

impl Builder<'_> {
    pub(super) fn distinct(&mut self, input: &LogicalPlan, origin: bool) -> Result<Lowered> {
        let groups: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        self.group(&groups, &[], input, origin)
    }

    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, origin: bool) -> Result<Lowered> {
        if let Some(united) = self.grouping_sets(aggregate, origin)? {
            return Ok(united);
        }
        let Aggregate { input, group_expr, aggr_expr, schema: _, .. } = aggregate;
        self.group(group_expr, aggr_expr, input, origin)
    }

    fn group(&mut self, groups: &[Expr], calls: &[Expr], input: &LogicalPlan, origin: bool) -> Result<Lowered> {
        if origin {
            return Err(self.unordered("an aggregate"));
        }
        let calls: Vec<&Call> = calls.iter().map(call).collect::<Result<_>>()?;
        let random = groups.iter().chain(calls.iter().flat_map(arguments)).any(super::is_random);
        let ordered = random || calls.iter().any(|call| is_ordered(call));
        let touched: Vec<Expr> = calls.iter().flat_map(arguments).cloned().collect();
        let named: Vec<Expr> = groups.iter().chain(&touched).cloned().collect();
        let lowered = self.lower_for(&named, input, ordered)?;
        let lowered = self.windowed(lowered, groups, input.schema())?;
        let lowered = self.in_time(lowered, groups, input.schema())?;
        let fuses = lowered.pending.is_some();
        for expr in &touched {
            if fuses && lowered.names_window(expr, input.schema())? {
                return Err(self.refused(
                    "an aggregate over window_start or window_end of its own window",
                    "compute it above the aggregate, from the grouped columns",
                ));
            }
        }
        let keys = self.columns(groups, &calls, &lowered, input.schema())?;
        self.add_aggregate(keys, &lowered)
    }

    /// Assigns windows that were held back unless the aggregate can do it.
    fn windowed(&mut self, lowered: Lowered, groups: &[Expr], schema: &DFSchema) -> Result<Lowered> {
        if lowered.pending.is_none() {
            return Ok(lowered);
        }
        let mut found = Vec::new();
        for group in groups {
            match unaliased(group) {
                Expr::Column(_) => found.push(lowered.slot_of(group, schema)?),
                other if lowered.names_window(other, schema)? => return self.materialise(lowered),
                _ => {}
            }
        }
        if found.contains(&Slot::Start) && found.contains(&Slot::End) { Ok(lowered) } else { self.materialise(lowered) }
    }

    /// Waits for rows that come after their windows when these are grouped by.
    fn in_time(&mut self, lowered: Lowered, groups: &[Expr], schema: &DFSchema) -> Result<Lowered> {
        for group in groups {
            let Expr::Column(_) = unaliased(group) else { continue };
            let Slot::At(column) = lowered.slot_of(group, schema)? else { continue };
            let later = self.facts.of(lowered.node).later.as_ref();
            let attribute = later.and_then(|later| later.attributes.get(column));
            if let Some(Attribute::Start(..) | Attribute::End(..)) = attribute {
                return Ok(self.timely(lowered));
            }
        }
        Ok(lowered)
    }

    /// Makes every grouping expression, argument and filter a column.
    fn columns(&mut self, groups: &[Expr], calls: &[&Call], lowered: &Lowered, schema: &DFSchema) -> Result<Grouped> {
        let window = self.window(groups, lowered, schema)?;
        let on_error = self.position;
        let attributes = self.facts.of(lowered.node).attributes.clone();
        let bare = self.all_columns(groups, calls, lowered, schema)?;
        let mut project = self.project(lowered, schema);
        if bare {
            // Every column stays in its place, and the projection falls away.
            for column in 0..attributes.len() {
                project.keep(column);
            }
        }
        let mut keys = Vec::new();
        let mut names = Vec::new();
        let mut fixed = Vec::new();
        let mut time_type = window_type();
        for group in groups {
            let group = unaliased(group);
            let key = match group {
                Expr::Column(_) => match lowered.slot_of(group, schema)? {
                    Slot::At(column) => match (&window, attributes[column]) {
                        (Some(Found::Carried { id, .. }), Attribute::Start(_, other)) if *id == other => Key::Start,
                        (Some(Found::Carried { id, .. }), Attribute::End(_, other)) if *id == other => Key::End,
                        (Some(Found::Carried { id, .. }), Attribute::Time(_, Some(other))) if *id == other => {
                            time_type = type_of(group, schema)?;
                            Key::Time
                        }
                        _ => Key::Column(project.keep(column)),
                    },
                    Slot::Start => Key::Start,
                    Slot::End => Key::End,
                    Slot::Time => Key::Time,
                    Slot::Gone => return internal_err!("{} is not there", print(group)),
                },
                computed => Key::Column(project.compute(computed, &print(computed))?),
            };
            names.push(name_of_group(group));
            if let (Key::Column(column), true) = (key, is_constant(group)) {
                fixed.push(column);
            }
            keys.push(key);
        }
        let titles = calls.iter().map(|call| print(&Expr::AggregateFunction((*call).clone()))).collect();
        let mut lowered_calls = Vec::new();
        for call in calls {
            lowered_calls.push(project.call(call, lowered, schema, on_error)?);
        }
        let window = match window {
            None => None,
            Some(Found::Carried { start, end, domain, .. }) => {
                Some(WindowKey::Columns { start: project.keep(start), end: project.keep(end), domain })
            }
            Some(Found::Assigned { time, on_the_wall, window, domain }) => {
                let place = project.keep(time);
                time_type = if on_the_wall { instant_type() } else { project.type_at(place) };
                Some(WindowKey::Time { time: place, window, domain })
            }
        };
        let untouched = bare && project.is_untouched(attributes.len());
        let input = if untouched { lowered.node } else { project.finish(vec![])?.node };
        Ok(Grouped { input, keys, names, fixed, calls: lowered_calls, titles, window, time_type })
    }

    /// Whether grouping columns, arguments and filters are all columns of the node already.
    fn all_columns(&self, groups: &[Expr], calls: &[&Call], lowered: &Lowered, schema: &DFSchema) -> Result<bool> {
        let mut used = std::collections::BTreeSet::new();
        for expr in groups.iter().chain(calls.iter().flat_map(arguments)) {
            match unaliased(expr) {
                column @ Expr::Column(_) => {
                    if let Slot::At(column) = lowered.slot_of(column, schema)? {
                        used.insert(column);
                    }
                }
                Expr::Literal(..) => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The window that a grouping is in.
    fn window(&self, groups: &[Expr], lowered: &Lowered, schema: &DFSchema) -> Result<Option<Found>> {
        if let Some(pending) = &lowered.pending {
            if matches!(pending.window, Window::Session { .. }) {
                self.check_sessions(groups, lowered, schema)?;
            }
            let Pending { time, on_the_wall, window, domain, .. } = *pending;
            return Ok(Some(Found::Assigned { time, on_the_wall, window, domain }));
        }
        let attributes = &self.facts.of(lowered.node).attributes;
        let mut starts = Vec::new();
        let mut ends = Vec::new();
        for group in groups {
            let Expr::Column(_) = unaliased(group) else { continue };
            let Slot::At(column) = lowered.slot_of(group, schema)? else { continue };
            match attributes[column] {
                Attribute::Start(domain, id) => starts.push((column, domain, id)),
                Attribute::End(_, id) => ends.push((column, id)),
                Attribute::Plain | Attribute::Time(..) => {}
            }
        }
        for (start, domain, id) in starts {
            if let Some((end, _)) = ends.iter().find(|(_, other)| *other == id) {
                return Ok(Some(Found::Carried { start, end: *end, domain, id }));
            }
        }
        Ok(None)
    }

    /// Sessions are apart by the columns of PARTITION BY, so they have to be what the rows are grouped by.
    fn check_sessions(&self, groups: &[Expr], lowered: &Lowered, schema: &DFSchema) -> Result<()> {
        let Some(pending) = &lowered.pending else { return Ok(()) };
        let mut grouped = std::collections::BTreeSet::new();
        let mut plain = true;
        for group in groups {
            match unaliased(group) {
                Expr::Column(_) => {
                    if let Slot::At(column) = lowered.slot_of(group, schema)? {
                        grouped.insert(column);
                    }
                }
                _ => plain = false,
            }
        }
        if plain && grouped == pending.partition.iter().copied().collect() {
            return Ok(());
        }
        Err(outside(Error::Window {
            problem: "sessions are grouped by other columns than they are made by".to_string(),
            position: pending.position.or(self.position).unwrap_or(Position { line: 1, column: 1 }),
            help: Some("name in PARTITION BY the columns of GROUP BY, beside window_start and window_end".to_string()),
        }))
    }

    fn add_aggregate(&mut self, grouped: Grouped, lowered: &Lowered) -> Result<Lowered> {
        let Grouped { input, keys, names, fixed, calls, titles, window, time_type } = grouped;
        let before = Arc::clone(&self.plan.nodes[input].schema);
        let mut columns: Vec<usize> = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        let mut slots = Vec::new();
        for (key, name) in keys.iter().zip(&names) {
            let Key::Column(column) = key else { continue };
            if !columns.contains(column) {
                columns.push(*column);
                fields.push(before.field(*column).clone().with_name(name));
            }
        }
        let width = columns.len();
        let place = |key: &Key| match key {
            Key::Column(column) => columns.iter().position(|known| known == column).unwrap_or_default(),
            Key::Start => width,
            Key::End => width + 1,
            Key::Time => width + 2,
        };
        slots.extend(keys.iter().map(|key| Slot::At(place(key))));
        let mut attributes = vec![Attribute::Plain; width];
        let id = self.plan.nodes.len();
        let varies = |key: &usize| !fixed.contains(&columns[*key]);
        let mut identities: Vec<Vec<usize>> = vec![(0..width).filter(varies).collect()];
        let mut off_the_wall = false;
        let mut bounds = Bounds::new();
        if let Some(window) = &window {
            let (WindowKey::Time { domain, .. } | WindowKey::Columns { domain, .. }) = window;
            let domain = *domain;
            let mut zone = if let DataType::Timestamp(_, zone) = time_type { zone } else { None };
            if zone.is_some() && self.cuts_by_the_wall(domain) {
                zone = None;
                off_the_wall = keys.contains(&Key::Time);
            }
            let zoned = DataType::Timestamp(TimeUnit::Millisecond, zone);
            for (name, data_type) in WINDOW_COLUMNS.into_iter().zip([window_type(), window_type(), zoned]) {
                fields.push(Field::new(name, data_type, false));
            }
            attributes.extend([
                Attribute::Start(domain, id),
                Attribute::End(domain, id),
                Attribute::Time(domain, Some(id)),
            ]);
            identities = windowed_keys(width, window);
            if domain == TimeDomain::Event {
                bounds = self.bounds_of_windows(window, input, width);
            }
        }
        for (index, call) in calls.iter().enumerate() {
            slots.push(Slot::At(fields.len()));
            fields.push(Field::new(&titles[index], call.result.clone(), true));
            attributes.push(Attribute::Plain);
        }
        let expiry = match &window {
            None if self.is_in_time(input) => bounds::expiry(&self.facts.of(input).bounds, &columns),
            _ => None,
        };
        if let Some(expiry) = expiry {
            let judged = self.judged(self.facts.of(input), expiry);
            let slack = |(place, column): (usize, &usize)| Some((place, *judged.get(column)?));
            bounds = columns.iter().enumerate().filter_map(slack).collect();
        }
        let emit = if window.is_some() { self.emit } else { Emit::Changes };
        let lateness = if window.is_some() { self.allowed_lateness_ms } else { 0 };
        let processing = matches!(
            &window,
            Some(
                WindowKey::Time { domain: TimeDomain::Processing, .. }
                    | WindowKey::Columns { domain: TimeDomain::Processing, .. }
            )
        );
        let schedule_dependent = self.facts.of(input).schedule_dependent || processing;
        let facts = NodeFacts { attributes, bounds, keys: identities, schedule_dependent, ..NodeFacts::default() };
        let spec = AggregateSpec { keys: columns, window, calls, emit, allowed_lateness_ms: lateness, expiry };
        let statement = self.position;
        self.position = lowered.pending.as_ref().and_then(|pending| pending.position).or(statement);
        let mut node = self.add(Spec::Aggregate(spec), vec![input], Arc::new(Schema::new(fields)), facts);
        if off_the_wall {
            node = self.off_the_wall(node, width + 2)?;
        }
        self.position = statement;
        Ok(Lowered { node, slots, origin: None, asked: None, pending: None })
    }

    /// Whether no row of a node is below the bounds of its columns, but for those that were left out as late already: then
    /// groups can go with their times, and no row is late for it that Flink would count.
    pub(super) fn is_in_time(&self, node: NodeId) -> bool {
        let Node { spec, inputs, .. } = &self.plan.nodes[node];
        match spec {
            Spec::Join(spec) => spec.expiry.iter().all(Option::is_some),
            Spec::TemporalJoin(_) => true,
            Spec::Aggregate(spec) => spec.window.is_some() || spec.expiry.is_some(),
            Spec::Rank(spec) => spec.close.is_some() || spec.expiry.is_some(),
            Spec::OverChanges(spec) => spec.expiry.is_some(),
            Spec::Over(spec) => spec.turn == OverTurn::Watermark || self.is_in_time(inputs[0]),
            Spec::Filter(_) | Spec::Project(_) | Spec::Unnest(_) | Spec::Delay(_) | Spec::Union => {
                inputs.iter().all(|input| self.is_in_time(*input))
            }
            Spec::Source(_)
            | Spec::Versions(_)
            | Spec::Lookup(_)
            | Spec::ViewLookup(_)
            | Spec::SetOperation(_)
            | Spec::AssignWindow(_)
            | Spec::Output(_) => false,
        }
    }

    /// How far below the watermark the windows still to come may be, which follow `width` keys.
    fn bounds_of_windows(&self, window: &WindowKey, input: usize, width: usize) -> Bounds {
        let late = self.allowed_lateness_ms;
        // A session closes when the watermark is above its end, others when it is there.
        let (end, length) = match window {
            WindowKey::Time { window: Window::Session { .. }, .. } => (late, None),
            WindowKey::Time { window, .. } => (late - 1, length(window)),
            WindowKey::Columns { start, end, .. } => {
                let below = &self.facts.of(input).bounds;
                let Some(slack) = below.get(end) else { return Bounds::new() };
                (late + slack.max(&-1), below.get(start).map(|start| start - slack))
            }
        };
        let start = length.map(|length| (width, end + length));
        start.into_iter().chain([(width + 1, end), (width + 2, end + 1)]).collect()
    }
}

/// The sets of columns that identify a row of a windowed aggregate with `width` keys.
fn windowed_keys(width: usize, window: &WindowKey) -> Vec<Vec<usize>> {
    let keys = || 0..width;
    let both = keys().chain([width, width + 1]).collect();
    match window {
        WindowKey::Time { window: Window::Cumulate { .. }, .. } => {
            vec![both, keys().chain([width + 1]).collect()]
        }
        WindowKey::Columns { .. } => vec![both],
        // The length is fixed, or the windows of a key do not overlap: one end tells the other.
        WindowKey::Time { .. } => {
            vec![both, keys().chain([width]).collect(), keys().chain([width + 1]).collect()]
        }
    }
}

/// Columns for an aggregate.
struct Grouped {
    input: usize,
    keys: Vec<Key>,
    names: Vec<String>,
    /// The grouping columns that are the same in all rows.
    fixed: Vec<usize>,
    calls: Vec<AggregateCall>,
    /// What each call is called: as it is written.
    titles: Vec<String>,
    window: Option<WindowKey>,
    /// The type of the time that the windows are over, whose zone `window_time` has.
    time_type: DataType,
}

/// The window of a grouping.
enum Found {
    /// The aggregate assigns it.
    Assigned { time: usize, on_the_wall: bool, window: Window, domain: TimeDomain },
    /// The rows carry it.
    Carried { start: usize, end: usize, domain: TimeDomain, id: usize },
}

impl super::Project<'_, '_> {
    /// Makes the arguments of a call columns.
    pub(super) fn call(
        &mut self,
        call: &Call,
        input: &Lowered,
        schema: &DFSchema,
        position: Option<Position>,
    ) -> Result<AggregateCall> {
        let Call { func, params } = call;
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
        let name = func.name().to_uppercase();
        let wrong = |problem: String, help: &str| {
            let position = args.iter().find_map(super::place_of).or(position);
            outside(Error::Plan { problem, position, help: Some(help.to_string()) })
        };
        if !order_by.is_empty() {
            return Err(wrong(format!("{name} with ORDER BY is not supported"), "it follows the order of the source"));
        }
        if null_treatment.is_some() {
            return Err(wrong(
                format!("{name} takes no IGNORE NULLS or RESPECT NULLS"),
                "use FILTER (WHERE x IS NOT NULL)",
            ));
        }
        let Some(lowered) = aggregate::lowered(func, args) else {
            return Err(wrong(
                format!("{name} needs a number between 0 and 1, written out"),
                "write for instance 0.99",
            ));
        };
        let mut columns = Vec::new();
        for arg in &args[..lowered.columns] {
            if lowered.function == AggregateFunction::Count && is_constant(arg) {
                continue;
            }
            columns.push(self.column(arg, input, schema, &print(unaliased(arg)))?);
        }
        if lowered.ordered {
            match (self.place, input.origin) {
                (Some(place), _) => columns.push(place),
                (None, Some(origin)) => columns.push(self.keep(origin)),
                (None, None) => return internal_err!("{name} without an order"),
            }
        }
        let filter = match filter {
            Some(filter) => Some(self.column(filter, input, schema, &print(unaliased(filter)))?),
            None => None,
        };
        let types = args.iter().map(|arg| type_of(arg, schema)).collect::<Result<Vec<_>>>()?;
        let result = func.return_type(&types)?;
        Ok(AggregateCall { function: lowered.function, args: columns, filter, distinct: *distinct, result })
    }
}

fn call(expr: &Expr) -> Result<&Call> {
    match unaliased(expr) {
        Expr::AggregateFunction(call) => Ok(call),
        other => internal_err!("{} is no aggregate function", print(other)),
    }
}

fn arguments<'c>(call: &&'c Call) -> Vec<&'c Expr> {
    call.params.args.iter().chain(call.params.filter.as_deref()).collect()
}

fn is_ordered(call: &Call) -> bool {
    aggregate::lowered(&call.func, &call.params.args).is_some_and(|lowered| lowered.ordered)
}

fn name_of_group(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        other => print(other),
    }
}
