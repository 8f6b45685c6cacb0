//! What is known of the circuit's nodes: which columns are times and windows, and which columns identify a row.

use datafusion::logical_expr::Expr;
use tidemill_circuit::plan::{NodeId, TimeDomain};

use super::bounds::Bounds;
use crate::expr::unaliased;

/// The node that assigned a window.
pub(crate) type WindowId = usize;

/// What a column means to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// Nothing.
    Plain,
    /// It is a time that moves windows on; of a window when one is named.
    Time(TimeDomain, Option<WindowId>),
    /// It is the start of a window.
    Start(TimeDomain, WindowId),
    /// It is the end of a window.
    End(TimeDomain, WindowId),
}

impl Attribute {
    /// The window of which it is a time.
    pub(crate) fn window(self) -> Option<WindowId> {
        match self {
            Attribute::Start(_, id) | Attribute::End(_, id) | Attribute::Time(_, Some(id)) => Some(id),
            Attribute::Time(_, None) | Attribute::Plain => None,
        }
    }
}

/// What is known of one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFacts {
    /// What each column means to time.
    pub(crate) attributes: Vec<Attribute>,
    /// The columns of time whose values in rows still to come are at least the watermark less so many milliseconds: see
    /// [`super::bounds`]. An operator that gives rows later than they came, or takes back older ones, keeps none.
    pub(crate) bounds: Bounds,
    /// What columns mean to time once the watermark is held back; none when it need not be.
    pub(crate) later: Option<Later>,
    /// Sets of columns each of which identifies a row.
    pub(crate) keys: Vec<Vec<usize>>,
    /// Whether several rows may come of one row of the source, so that its place does not tell them apart.
    pub(crate) several: bool,
    /// Whether the rows depend on when steps ran.
    pub(crate) schedule_dependent: bool,
}

/// What columns mean to a watermark that is behind.
#[derive(Debug, Clone)]
pub(crate) struct Later {
    /// What each column means.
    pub(crate) attributes: Vec<Attribute>,
    /// By how many milliseconds the watermark has to be behind.
    pub(crate) behind_ms: i64,
}

/// What is known of every node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    nodes: Vec<NodeFacts>,
}

impl Facts {
    pub(crate) fn push(&mut self, facts: NodeFacts) {
        self.nodes.push(facts);
    }

    pub(crate) fn of(&self, node: NodeId) -> &NodeFacts {
        &self.nodes[node]
    }

    /// What is true of all the rows of several nodes.
    pub(crate) fn union(&self, nodes: &[NodeId]) -> NodeFacts {
        let of = |column: usize| {
            let first = self.nodes[nodes[0]].attributes[column];
            let same = nodes.iter().all(|node| self.nodes[*node].attributes[column] == first);
            // Windows of different nodes are not the same windows, even where the times agree.
            match first {
                Attribute::Time(domain, _) => {
                    let times = nodes.iter().all(|node| {
                        matches!(self.nodes[*node].attributes[column], Attribute::Time(other, _) if other == domain)
                    });
                    if times { Attribute::Time(domain, None) } else { Attribute::Plain }
                }
                other if same => other,
                _ => Attribute::Plain,
            }
        };
        let columns = self.nodes[nodes[0]].attributes.len();
        let slack = |column: usize| -> Option<(usize, i64)> {
            let slacks = nodes.iter().map(|node| self.nodes[*node].bounds.get(&column).copied());
            Some((column, slacks.collect::<Option<Vec<i64>>>()?.into_iter().max()?))
        };
        NodeFacts {
            attributes: (0..columns).map(of).collect(),
            bounds: (0..columns).filter_map(slack).collect(),
            later: None,
            keys: Vec::new(),
            several: nodes.iter().any(|node| self.nodes[*node].several),
            schedule_dependent: nodes.iter().any(|node| self.nodes[*node].schedule_dependent),
        }
    }
}

impl NodeFacts {
    /// The facts after a projection: for each new column the old one it is, `usize::MAX` for processing time.
    pub(crate) fn projected(&self, columns: &[Option<usize>]) -> NodeFacts {
        let attribute = |column: &Option<usize>| match column {
            Some(usize::MAX) => Attribute::Time(TimeDomain::Processing, None),
            Some(column) => self.attributes[*column],
            None => Attribute::Plain,
        };
        let place = |column: &usize| columns.iter().position(|kept| *kept == Some(*column));
        let later = self.later.as_ref().map(|Later { attributes, behind_ms }| {
            let attribute = |column: &Option<usize>| column.and_then(|column| attributes.get(column).copied());
            let attributes = columns.iter().map(|column| attribute(column).unwrap_or(Attribute::Plain)).collect();
            Later { attributes, behind_ms: *behind_ms }
        });
        let slack = |(place, column): (usize, &Option<usize>)| Some((place, *self.bounds.get(&(*column)?)?));
        NodeFacts {
            attributes: columns.iter().map(attribute).collect(),
            bounds: columns.iter().enumerate().filter_map(slack).collect(),
            later,
            keys: self.keys.iter().filter_map(|key| key.iter().map(place).collect()).collect(),
            several: self.several,
            schedule_dependent: self.schedule_dependent || columns.contains(&Some(usize::MAX)),
        }
    }

    /// Rows leave when the watermark passes this time of theirs: times that say nothing of this one may be far behind then.
    pub(crate) fn wait_for(&mut self, time: usize) {
        self.bounds.retain(|column, _| *column == time);
        let window = self.attributes[time].window();
        let others = self.attributes.iter_mut().enumerate().filter(|(column, _)| *column != time);
        for (_, attribute) in others {
            let is_behind = match (*attribute, attribute.window()) {
                (Attribute::Time(TimeDomain::Processing, _), _) => false,
                // A window ends after the times in it.
                (_, of) => of.is_none() || (window.is_some() && window != of),
            };
            if is_behind {
                *attribute = Attribute::Plain;
            }
        }
    }

    /// The facts after `columns` more columns were found for each row, of which there is nothing to tell.
    pub(crate) fn found(&self, columns: usize) -> NodeFacts {
        let mut facts = self.clone();
        facts.attributes.extend(std::iter::repeat_n(Attribute::Plain, columns));
        facts
    }

    /// The facts after the rows were multiplied by elements of `columns` more columns.
    pub(crate) fn unnested(&self, columns: usize) -> NodeFacts {
        let mut facts = self.found(columns);
        (facts.keys, facts.several) = (Vec::new(), true);
        facts
    }
}

/// Whether an expression is the step's time, which makes a column of processing time.
pub(crate) fn is_proctime(expr: &Expr) -> bool {
    match unaliased(expr) {
        Expr::ScalarFunction(call) => call.func.name() == "current_timestamp",
        _ => false,
    }
}

/// Whether an expression reads the step's clock.
pub(crate) fn reads_clock(expr: &Expr) -> bool {
    const CLOCKS: [&str; 4] = ["current_timestamp", "localtimestamp", "current_date", "current_time"];
    names_function(expr, &CLOCKS)
}

/// Whether an expression calls one of these functions.
pub(crate) fn names_function(expr: &Expr, names: &[&str]) -> bool {
    use datafusion::common::tree_node::TreeNode;
    let found = expr.exists(|part| match part {
        Expr::ScalarFunction(call) => Ok(names.contains(&call.func.name())),
        _ => Ok(false),
    });
    found.unwrap_or(false)
}
