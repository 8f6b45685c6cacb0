//! [`Feed`]: how an aggregate reads its input, which is rows or partial states from other lanes.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, UInt32Array};

use super::Design;
use super::packed::Packed;
use super::windows::{Cut, Span, admit_partials, place};
use crate::delta::Delta;
use crate::error::Error;
use crate::operator::{Context, Output};

/// How the input of each port is read.
#[derive(Debug, Clone)]
pub(super) enum Feed {
    /// Rows.
    Rows,
    /// Partial states: the keys, then with windows the two parts of a span, then on port 0 the weight of the group's
    /// rows, then the states of these parts.
    Partials {
        /// The parts of each port.
        ports: Vec<Vec<usize>>,
        /// Whether keys come as they are written ([`Packed`]).
        packed: bool,
    },
}

/// The keys of rows or states.
pub(super) enum KeyColumns {
    /// A column each.
    Plain(Vec<ArrayRef>),
    /// As they are written.
    Packed(Packed),
}

/// What a chunk holds.
pub(super) enum Taken {
    /// Rows.
    Rows {
        /// The rows.
        delta: Delta,
        /// Their keys.
        keys: KeyColumns,
        /// Their windows or panes; empty without windows.
        spans: Vec<Span>,
    },
    /// Partial states.
    Partials {
        /// The groups' keys.
        keys: KeyColumns,
        /// Their windows or panes; empty without windows.
        spans: Vec<Span>,
        /// The number of states.
        rows: usize,
        /// The weights of the groups' rows, when they come here.
        weights: Option<Vec<i64>>,
        /// Which parts the states are of.
        parts: Vec<usize>,
        /// The states.
        columns: Vec<ArrayRef>,
    },
}

impl Taken {
    /// The number of rows or states.
    pub fn rows(&self) -> usize {
        match self {
            Taken::Rows { delta, .. } => delta.rows(),
            Taken::Partials { rows, .. } => *rows,
        }
    }

    /// The keys.
    pub fn keys(&self) -> &KeyColumns {
        match self {
            Taken::Rows { keys, .. } | Taken::Partials { keys, .. } => keys,
        }
    }

    /// The windows or panes.
    pub fn spans(&self) -> &[Span] {
        match self {
            Taken::Rows { spans, .. } | Taken::Partials { spans, .. } => spans,
        }
    }
}

impl Feed {
    /// Reads a chunk; what is too late is counted and left out.
    #[allow(clippy::too_many_arguments)]
    pub fn read(
        &self,
        design: &Design,
        cut: Option<&Cut>,
        port: usize,
        delta: Delta,
        closed: i64,
        context: &Context,
        out: &mut Output,
    ) -> Result<Taken, Error> {
        let Feed::Partials { ports, packed } = self else {
            let (delta, spans) = match cut {
                None => (delta, Vec::new()),
                Some(cut) => {
                    let placed = place(design, cut, delta, closed, context, out)?;
                    (placed.delta, placed.spans)
                }
            };
            let keys = KeyColumns::Plain(design.keys.iter().map(|key| delta.column(*key).clone()).collect());
            return Ok(Taken::Rows { delta, keys, spans });
        };
        let (delta, spans) = spans_of(design, cut, delta, closed, out)?;
        let mut columns = delta.batch().columns().to_vec();
        let mut rest = columns.split_off(if *packed { Packed::TYPES.len() } else { design.keys.len() });
        if cut.is_some() {
            rest.drain(..2);
        }
        let weights = (port == 0).then(|| rest.remove(0).as_primitive::<Int64Type>().values().to_vec());
        let keys = match columns.as_slice() {
            [keys, hashes] if *packed => KeyColumns::Packed(Packed::of(keys, hashes)),
            _ => KeyColumns::Plain(columns),
        };
        Ok(Taken::Partials { keys, spans, rows: delta.rows(), weights, parts: ports[port].clone(), columns: rest })
    }
}

fn spans_of(
    design: &Design,
    cut: Option<&Cut>,
    delta: Delta,
    closed: i64,
    out: &mut Output,
) -> Result<(Delta, Vec<Span>), Error> {
    let Some(cut) = cut else { return Ok((delta, Vec::new())) };
    let part = |offset: usize| delta.column(design.keys.len() + offset).as_primitive::<Int64Type>().values();
    let mut spans: Vec<Span> = part(0).iter().copied().zip(part(1).iter().copied()).collect();
    let Some(kept) = admit_partials(design, cut, &mut spans, closed) else { return Ok((delta, spans)) };
    out.late_rows += (delta.rows() - kept.len()) as u64;
    let spans = kept.iter().map(|row| spans[*row as usize]).collect();
    let delta = delta.take(&UInt32Array::from(kept)).map_err(|error| design.guard.broken(error))?;
    Ok((delta, spans))
}
