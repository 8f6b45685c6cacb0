//! [`Guard`]: evaluates expressions for an operator and treats failing rows as `on-error` says.

use arrow_array::{ArrayRef, BooleanArray};
use tidemill_base::Position;

use crate::delta::Delta;
use crate::error::Error;
use crate::expr::{self, Evaluated, Expr, OnError};
use crate::graph::Lowering;
use crate::operator::{Context, Output, SideKind, SideRow};
use crate::plan::NodeId;
use crate::row;

/// What an operator needs to report a failing row.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    name: String,
    node: NodeId,
    position: Option<Position>,
    on_error: OnError,
}

impl Guard {
    /// The guard of the node that is being lowered.
    pub fn of(lowering: &Lowering<'_>) -> Self {
        let Lowering { node, id, name, .. } = lowering;
        Guard { name: name.clone(), node: *id, position: node.position, on_error: node.on_error }
    }

    /// Evaluates `exprs` over `delta`: the rows that are left, and one column an expression for them.
    pub fn evaluate(
        &self,
        exprs: &[Expr],
        delta: Delta,
        context: &Context,
        out: &mut Output,
    ) -> Result<(Delta, Vec<ArrayRef>), Error> {
        let evaluated = self.attempt(exprs, &delta, context, out)?;
        let Some(failed) = evaluated.failed else { return Ok((delta, evaluated.columns)) };
        let kept = BooleanArray::new(!failed.values(), None);
        let keep = |column: &ArrayRef| arrow_select::filter::filter(column, &kept).map_err(|error| self.broken(error));
        let columns = evaluated.columns.iter().map(keep).collect::<Result<_, _>>()?;
        Ok((delta.filter(&kept).map_err(|error| self.broken(error))?, columns))
    }

    /// Evaluates `exprs` over `delta`, one value a row; rows that have to be left out are told of, and named in the answer.
    pub fn attempt(
        &self,
        exprs: &[Expr],
        delta: &Delta,
        context: &Context,
        out: &mut Output,
    ) -> Result<Evaluated, Error> {
        let mut evaluated =
            expr::evaluate(exprs, delta.batch(), self.on_error).map_err(|(row, message)| Error::Row {
                operator: self.name.clone(),
                position: self.position,
                row: row::to_json(delta.batch(), row),
                message,
            })?;
        let messages = std::mem::take(&mut evaluated.messages);
        out.dead_rows += messages.len() as u64;
        if context.sides.dead_letter {
            out.side.extend(messages.into_iter().map(|(row, reason)| SideRow {
                kind: SideKind::DeadLetter,
                operator: self.name.clone(),
                node: self.node,
                reason,
                row: row::to_json(delta.batch(), row),
                origin: row::origin(delta.batch(), row),
            }));
        }
        Ok(evaluated)
    }

    /// Leaves out the rows that `bad` names, as failing with `message`; with [`OnError::Stop`] the first is the error.
    pub fn reject(
        &self,
        delta: Delta,
        bad: &BooleanArray,
        message: &str,
        context: &Context,
        out: &mut Output,
    ) -> Result<Delta, Error> {
        let rows: Vec<usize> = bad.values().set_indices().collect();
        let Some(first) = rows.first() else { return Ok(delta) };
        if self.on_error == OnError::Stop {
            return Err(Error::Row {
                operator: self.name.clone(),
                position: self.position,
                row: row::to_json(delta.batch(), *first),
                message: message.to_string(),
            });
        }
        out.dead_rows += rows.len() as u64;
        if context.sides.dead_letter {
            out.side.extend(rows.into_iter().map(|row| SideRow {
                kind: SideKind::DeadLetter,
                operator: self.name.clone(),
                node: self.node,
                reason: message.to_string(),
                row: row::to_json(delta.batch(), row),
                origin: row::origin(delta.batch(), row),
            }));
        }
        let kept = BooleanArray::new(!bad.values(), None);
        delta.filter(&kept).map_err(|error| self.broken(error))
    }

    /// Counts a row that came too late, and sends it to the side when late rows are collected.
    pub fn late(&self, delta: &Delta, row: usize, context: &Context, out: &mut Output) {
        self.late_because("its windows had closed", delta, row, context, out);
    }

    /// [`Guard::late`], and why it was too late.
    pub fn late_because(&self, reason: &str, delta: &Delta, row: usize, context: &Context, out: &mut Output) {
        out.late_rows += 1;
        if context.sides.late {
            out.side.push(SideRow {
                kind: SideKind::Late,
                operator: self.name.clone(),
                node: self.node,
                reason: reason.to_string(),
                row: row::to_json(delta.batch(), row),
                origin: row::origin(delta.batch(), row),
            });
        }
    }

    /// A broken promise of the operator.
    pub fn broken(&self, message: impl ToString) -> Error {
        Error::broken(&self.name, message)
    }
}
