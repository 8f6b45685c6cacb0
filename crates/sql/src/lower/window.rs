//! Window table functions: held back for the aggregate above, or assigned row by row.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_base::Position;
use tidemill_circuit::expr::Column as CircuitColumn;
use tidemill_circuit::plan::{AssignSpec, NodeId, Spec, TimeDomain, Window};

use super::facts::Attribute;
use super::{Builder, Lowered, Slot, window_type};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{compile, print};
use crate::functions::cast_expr;
use crate::plan::assign::{WINDOW_COLUMNS, WindowAssign};

/// The hidden column that says what the session's wall clock reads at the event time of a row.
pub(super) const WALL: &str = "$wall";

/// The type of a wall clock's reading.
pub(super) const WALL_TYPE: &str = "TIMESTAMP(3)";

/// The type of a point in time.
const INSTANT_TYPE: &str = "TIMESTAMP_LTZ(3)";

/// Windows that are still to be assigned to the rows of a node.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// The column of time, on the wall clock that cuts the windows.
    pub(crate) time: usize,
    /// Whether `window_time` has to be read off that clock again.
    pub(crate) on_the_wall: bool,
    /// The windows.
    pub(crate) window: Window,
    /// What moves them on.
    pub(crate) domain: TimeDomain,
    /// What sessions are apart by.
    pub(crate) partition: Vec<usize>,
    /// Where the function stands.
    pub(crate) position: Option<Position>,
}

impl Pending {
    /// Whether the windows depend on all the rows.
    pub(super) fn is_session(&self) -> bool {
        matches!(self.window, Window::Session { .. })
    }
}

impl Builder<'_> {
    pub(super) fn assign(&mut self, assign: &WindowAssign, origin: bool) -> Result<Lowered> {
        let WindowAssign { input, time, partition, window, wall, position: _, schema: _ } = assign;
        let lowered = self.lower(input, origin)?;
        let lowered = self.materialise(lowered)?;
        let lowered = self.timely(lowered);
        let column = |lowered: &Lowered, expr: &Expr| match lowered.slot_of(expr, input.schema())? {
            Slot::At(column) => Ok(column),
            _ => internal_err!("a window over a window that is not assigned"),
        };
        let at = column(&lowered, time)?;
        let domain = match self.facts.of(lowered.node).attributes[at] {
            Attribute::Time(domain, _) => domain,
            Attribute::Start(..) | Attribute::End(..) | Attribute::Plain => {
                return Err(no_time(time, assign.place(), joins(input)));
            }
        };
        let on_the_wall = wall.is_some() && self.cuts_by_the_wall(domain);
        let (lowered, at) = if on_the_wall { self.with_wall(&lowered, time, input.schema())? } else { (lowered, at) };
        let partition = partition.iter().map(|expr| column(&lowered, expr)).collect::<Result<_>>()?;
        let pending = Pending { time: at, on_the_wall, window: window.0, domain, partition, position: assign.place() };
        let mut slots = lowered.slots.clone();
        slots.extend([Slot::Start, Slot::End, Slot::Time]);
        Ok(Lowered { slots, pending: Some(pending), ..lowered })
    }

    /// Whether windows over TIMESTAMP_LTZ are cut by a wall clock that is not UTC's.
    ///
    /// The steps of a circuit tell processing time as it stands, in no zone.
    pub(super) fn cuts_by_the_wall(&self, domain: TimeDomain) -> bool {
        self.zone != Tz::UTC && domain == TimeDomain::Event
    }

    /// The rows with the reading of the session's wall clock at `time`, and its place.
    fn with_wall(&mut self, lowered: &Lowered, time: &Expr, schema: &DFSchema) -> Result<(Lowered, usize)> {
        let reading = cast_expr(self.functions, time.clone(), WALL_TYPE, false)?;
        let mut project = self.project(lowered, schema);
        let slots = lowered.slots.iter().map(|slot| match slot {
            Slot::At(column) => Slot::At(project.keep(*column)),
            of_window => *of_window,
        });
        let slots = slots.collect();
        let place = project.compute(&reading, WALL)?;
        Ok((project.finish(slots)?, place))
    }

    /// The rows of a node whose column `at` reads that clock, with the times at which it reads so.
    pub(super) fn off_the_wall(&mut self, node: NodeId, at: usize) -> Result<NodeId> {
        let before = Arc::clone(&self.plan.nodes[node].schema);
        let frame = DFSchema::from_unqualified_fields(vec![before.field(at).clone()].into(), Default::default())?;
        let reading = Expr::Column(Column::new_unqualified(before.field(at).name()));
        let time = compile(&cast_expr(self.functions, reading, INSTANT_TYPE, false)?, &frame, &[Some(at)])?;
        let mut fields: Vec<Field> = before.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields[at] = fields[at].clone().with_data_type(time.data_type());
        let keep = |(index, field): (usize, &FieldRef)| {
            CircuitColumn::new(index, field.name().clone(), field.data_type().clone())
        };
        let mut exprs: Vec<_> = before.fields().iter().enumerate().map(keep).collect();
        exprs[at] = time;
        let mut facts = self.facts.of(node).clone();
        facts.bounds.remove(&at);
        Ok(self.add(Spec::Project(exprs), vec![node], Arc::new(Schema::new(fields)), facts))
    }

    /// Assigns windows that were held back.
    pub(super) fn materialise(&mut self, lowered: Lowered) -> Result<Lowered> {
        let Some(pending) = lowered.pending else { return Ok(lowered) };
        if matches!(pending.window, Window::Session { .. }) {
            return Err(outside(Error::Window {
                problem: "the windows of SESSION are known only when they close".to_string(),
                position: pending.position.or(self.position).unwrap_or(Position { line: 1, column: 1 }),
                help: Some(
                    "aggregate them: GROUP BY window_start, window_end and the columns of PARTITION BY".to_string(),
                ),
            }));
        }
        let before = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let width = before.fields().len();
        let mut fields: Vec<FieldRef> = before.fields().iter().map(Arc::clone).collect();
        let zone = match before.field(pending.time).data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            other => return internal_err!("the time of a window is {other}"),
        };
        let zoned = DataType::Timestamp(TimeUnit::Millisecond, zone);
        for (name, data_type) in WINDOW_COLUMNS.into_iter().zip([window_type(), window_type(), zoned]) {
            fields.push(Arc::new(Field::new(name, data_type, false)));
        }
        let mut facts = self.facts.of(lowered.node).clone();
        let (id, domain) = (self.plan.nodes.len(), pending.domain);
        facts.attributes.extend([
            Attribute::Start(domain, id),
            Attribute::End(domain, id),
            Attribute::Time(domain, Some(id)),
        ]);
        for key in &mut facts.keys {
            key.extend([width, width + 1]);
        }
        let time = if pending.on_the_wall { Some(0) } else { facts.bounds.get(&pending.time).copied() };
        if let (Some(slack), TimeDomain::Event) = (time, domain) {
            // A row lies before the end of its window, and the window ends `length` after its start.
            facts.bounds.extend([(width + 1, slack - 1), (width + 2, slack)]);
            facts.bounds.extend(length(&pending.window).map(|length| (width, slack - 1 + length)));
        }
        facts.schedule_dependent |= domain == TimeDomain::Processing;
        let spec = Spec::AssignWindow(AssignSpec { time: pending.time, window: pending.window, domain });
        let statement = self.position;
        self.position = pending.position.or(statement);
        let mut node = self.add(spec, vec![lowered.node], Arc::new(Schema::new(fields)), facts);
        if pending.on_the_wall {
            node = self.off_the_wall(node, width + 2)?;
        }
        self.position = statement;
        let place = |slot: Slot| match slot {
            Slot::Start => Slot::At(width),
            Slot::End => Slot::At(width + 1),
            Slot::Time => Slot::At(width + 2),
            at => at,
        };
        let slots = lowered.slots.into_iter().map(place).collect();
        Ok(Lowered { node, slots, origin: lowered.origin, asked: lowered.asked, pending: None })
    }

    /// Assigns windows that were held back, if one of `exprs` computes with their columns.
    pub(super) fn assigned_for(&mut self, lowered: Lowered, exprs: &[Expr], schema: &DFSchema) -> Result<Lowered> {
        for expr in exprs {
            if lowered.names_window(expr, schema)? {
                return self.materialise(lowered);
            }
        }
        Ok(lowered)
    }
}

/// How long the longest window is; none for sessions.
pub(super) fn length(window: &Window) -> Option<i64> {
    match *window {
        Window::Tumble { size, .. } | Window::Hop { size, .. } => Some(size),
        Window::Cumulate { max, .. } => Some(max),
        Window::Session { .. } => None,
    }
}

/// Whether a plan joins.
fn joins(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(_)))).unwrap_or(false)
}

fn no_time(time: &Expr, position: Option<Position>, joined: bool) -> datafusion::common::DataFusionError {
    let name = print(time);
    let help = if joined {
        format!(
            "a join keeps rows for ever, so that old times come out of it: say in ON how far the times of both sides may be \
             apart, as in a.ts BETWEEN b.ts - INTERVAL '1' HOUR AND b.ts, and select {name} as it is, of a side that cannot \
             be NULL; or put the windows below the join"
        )
    } else {
        format!(
            "declare WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND on its table, and select the column as it is; \
             or take PROCTIME()"
        )
    };
    outside(Error::Window {
        problem: format!("{name} is no time attribute: nothing says how far it has moved on"),
        position: position.unwrap_or(Position { line: 1, column: 1 }),
        help: Some(help),
    })
}
