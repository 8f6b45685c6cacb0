//! [`MarkColumns`]: IN and EXISTS in a projection become columns that a join gives, with those that conditions get.
//!
//! DataFusion's rule marks rows for conditions that need more than to keep them. A condition that asks everything that the
//! projection asks is handed to it; what it makes of that has the join, and for each question the column that answers it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Filter, Projection};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::asks;

/// The rule.
#[derive(Debug, Default)]
pub(super) struct MarkColumns(DecorrelatePredicateSubquery);

impl OptimizerRule for MarkColumns {
    fn name(&self) -> &str {
        "mark_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(Projection { expr, input, .. }) = &plan else { return Ok(Transformed::no(plan)) };
        let questions = questions(expr)?;
        // A condition of a question alone would keep rows, and not mark them.
        let marked = questions.iter().map(|question| Expr::IsTrue(Box::new(question.clone())));
        let Some(condition) = conjunction(marked) else { return Ok(Transformed::no(plan)) };
        let filter = LogicalPlan::Filter(Filter::try_new(condition, Arc::clone(input))?);
        let Some((input, answers)) = answered(self.0.rewrite(filter, config)?.data, questions.len()) else {
            return Ok(Transformed::no(plan));
        };
        let preserver = NamePreserver::new(&plan);
        let mut answers = answers.into_iter();
        let mut exprs = Vec::with_capacity(expr.len());
        for expr in expr {
            let name = preserver.save(expr);
            let answered = expr.clone().transform_down(|part| match part {
                Expr::InSubquery(_) | Expr::Exists(_) => match answers.next() {
                    Some(answer) => Ok(Transformed::new(answer, true, TreeNodeRecursion::Jump)),
                    None => internal_err!("a question without an answer"),
                },
                other => Ok(Transformed::no(other)),
            })?;
            exprs.push(name.restore(answered.data));
        }
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, input)?)))
    }
}

/// Every IN and EXISTS of some expressions, in order.
fn questions(exprs: &[Expr]) -> Result<Vec<Expr>> {
    let mut questions = Vec::new();
    for expr in exprs {
        expr.apply(|part| match part {
            Expr::InSubquery(_) | Expr::Exists(_) => {
                questions.push(part.clone());
                Ok(TreeNodeRecursion::Jump)
            }
            _ => Ok(TreeNodeRecursion::Continue),
        })?;
    }
    Ok(questions)
}

/// What gives the answers, and each answer, when the rule could make joins of all that was asked.
fn answered(plan: LogicalPlan, count: usize) -> Option<(Arc<LogicalPlan>, Vec<Expr>)> {
    let LogicalPlan::Projection(Projection { input, .. }) = plan else { return None };
    let LogicalPlan::Filter(Filter { predicate, input, .. }) = Arc::unwrap_or_clone(input) else { return None };
    let answer = |expr: Expr| match expr {
        Expr::IsTrue(answer) if !asks(&answer) => Some(*answer),
        _ => None,
    };
    let answers: Vec<Expr> = split_conjunction_owned(predicate).into_iter().map(answer).collect::<Option<_>>()?;
    (answers.len() == count).then_some((input, answers))
}
