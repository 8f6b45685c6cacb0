//! Which expressions run: Flink's; OVER is accepted apart.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CaseWhen, CastKind, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Interval, ObjectName, Query, Subscript, TypedString, UnaryOperator, Value,
    ValueWithSpan,
};
use tidemill_base::Position;

use super::{Accept, Place, over};
use crate::error::Error;
use crate::rewrite::quantified;
use crate::statement::{name_start, place, start_of};
use crate::types;

const SUBQUERY_HELP: &str = "compute it in a query that reads the table";

/// Where an expression starts: its leftmost part, found without recursion, because operator chains are deep on the left.
pub(super) fn start(expr: &Expr, fallback: Position) -> Position {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::BinaryOp { left, .. } => left,
            Expr::IsNull(inner) | Expr::IsNotNull(inner) | Expr::IsTrue(inner) | Expr::IsNotTrue(inner) => inner,
            Expr::IsFalse(inner) | Expr::IsNotFalse(inner) | Expr::IsUnknown(inner) | Expr::IsNotUnknown(inner) => {
                inner
            }
            Expr::Between { expr, .. } | Expr::Like { expr, .. } | Expr::InList { expr, .. } => expr,
            Expr::Case { case_token, .. } => return place(case_token.0.span.start),
            Expr::Function(function) => return start_of(&function.name, fallback),
            Expr::Cast { expr, .. } => expr,
            other => return start_of(other, fallback),
        }
    }
}

impl Accept<'_, '_> {
    /// Accepts an expression; along its left side in a loop, into the rest by recursion.
    pub(super) fn expr(&self, expr: &Expr) -> Result<(), Error> {
        let mut expr = expr;
        loop {
            expr = match expr {
                Expr::Identifier(name) => return self.name(name, self.start),
                Expr::CompoundIdentifier(path) => return path.iter().try_for_each(|name| self.name(name, self.start)),
                Expr::Value(value) => return self.value(value),
                Expr::BinaryOp { left, op, right } => {
                    self.operator(op, expr)?;
                    self.expr(right)?;
                    left
                }
                Expr::UnaryOp { op, expr: inner } => {
                    if !matches!(op, UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not) {
                        return Err(self.no_operator(&op.to_string(), expr));
                    }
                    inner
                }
                Expr::Nested(inner)
                | Expr::IsNull(inner)
                | Expr::IsNotNull(inner)
                | Expr::IsTrue(inner)
                | Expr::IsNotTrue(inner)
                | Expr::IsFalse(inner)
                | Expr::IsNotFalse(inner)
                | Expr::IsUnknown(inner)
                | Expr::IsNotUnknown(inner) => inner,
                Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                    self.expr(right)?;
                    left
                }
                Expr::InList { expr, list, negated: _ } => {
                    list.iter().try_for_each(|item| self.expr(item))?;
                    expr
                }
                Expr::Between { expr, negated: _, low, high } => {
                    self.expr(low)?;
                    self.expr(high)?;
                    expr
                }
                Expr::Like { negated: _, any: false, expr, pattern, escape_char: _ }
                | Expr::SimilarTo { negated: _, expr, pattern, escape_char: _ } => {
                    self.expr(pattern)?;
                    expr
                }
                Expr::CompoundFieldAccess { root, access_chain } => {
                    access_chain.iter().try_for_each(|access| self.access(access))?;
                    root
                }
                Expr::Cast { kind, expr: inner, data_type, array: false, format: None } => {
                    let ours =
                        matches!(kind, CastKind::Cast | CastKind::TryCast) && types::planned(data_type).is_some();
                    if !ours {
                        return Err(self.strange(expr));
                    }
                    inner
                }
                Expr::TypedString(TypedString { data_type, value: _, uses_odbc_syntax: false }) => {
                    return if types::planned(data_type).is_some() { Ok(()) } else { Err(self.strange(expr)) };
                }
                Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                    operand.iter().try_for_each(|operand| self.expr(operand))?;
                    for CaseWhen { condition, result } in conditions {
                        self.expr(condition)?;
                        self.expr(result)?;
                    }
                    return else_result.iter().try_for_each(|result| self.expr(result));
                }
                Expr::Function(function) => return self.function(function),
                Expr::Array(Array { elem, named: _ }) => return elem.iter().try_for_each(|item| self.expr(item)),
                Expr::Interval(Interval {
                    value: _,
                    leading_field: Some(_),
                    leading_precision: None,
                    last_field: None,
                    fractional_seconds_precision: None,
                }) => return Ok(()),
                Expr::InSubquery { expr, subquery, negated: _ } => {
                    self.subquery("IN", subquery)?;
                    expr
                }
                Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                    let Some(quantified) = quantified(expr) else { return Err(self.refused(expr)) };
                    self.subquery("SELECT", quantified.query)?;
                    quantified.value
                }
                Expr::Exists { subquery, negated: _ } => return self.subquery("EXISTS", subquery),
                Expr::Subquery(query) => return self.subquery("SELECT", query),
                other => return Err(self.refused(other)),
            }
        }
    }

    /// The expressions that do not run, named one by one.
    fn refused(&self, expr: &Expr) -> Error {
        let at = self.at(expr);
        match expr {
            Expr::InUnnest { .. } => {
                self.unsupported(at, "IN UNNEST is not supported", "write ARRAY_CONTAINS(array, value)")
            }
            Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                let what =
                    "ANY and ALL compare a value with the rows of a query by = <> < <= > >=, and not in this way";
                let help = "write x > ALL (SELECT y FROM t)";
                self.unsupported(at, what, help)
            }
            Expr::ILike { .. } => {
                self.unsupported(at, "ILIKE is not part of Flink's SQL", "write LOWER(a) LIKE 'pattern'")
            }
            Expr::Like { any: true, .. } => {
                self.unsupported(at, "LIKE ANY is not supported", "write one LIKE for each pattern, joined by OR")
            }
            Expr::RLike { .. } => {
                self.unsupported(at, "RLIKE is not part of Flink's SQL", "write REGEXP(a, 'pattern')")
            }
            Expr::AtTimeZone { .. } => {
                let help = "write CONVERT_TZ(text, 'from', 'to') or TO_TIMESTAMP_LTZ";
                self.unsupported(at, "AT TIME ZONE is not part of Flink's SQL", help)
            }
            Expr::Collate { .. } => {
                self.unsupported(at, "COLLATE is not supported: texts compare by code point", "remove it")
            }
            Expr::Tuple(_) => self.unsupported(
                at,
                "a list of values in brackets is no value",
                "write ROW(a, b), or compare one by one",
            ),
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
                let help = "write GROUP BY GROUPING SETS ((a), (b)), ROLLUP (a, b) or CUBE (a, b)";
                self.unsupported(at, "GROUPING SETS, ROLLUP and CUBE stand in GROUP BY, and not in one another", help)
            }
            Expr::Convert { .. } => self.unsupported(at, "CONVERT is not part of Flink's SQL", "write CAST(x AS type)"),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                self.unsupported(at, "`*` is no value", "name a column; COUNT(*) counts rows")
            }
            _ => self.strange(expr),
        }
    }

    fn strange(&self, expr: &Expr) -> Error {
        self.unsupported(self.at(expr), "this expression is not part of Flink's SQL", "docs/sql.md lists what there is")
    }

    /// A query inside an expression: in a query it may stand, in a declaration it may not.
    fn subquery(&self, word: &str, query: &Query) -> Result<(), Error> {
        if !self.in_query.get() {
            let near = start_of(query, self.start);
            let near = if near == self.start { self.far() } else { near };
            return Err(self.refuse(word, near, "a declaration cannot hold a query", SUBQUERY_HELP));
        }
        let allowed = self.over_allowed.replace(false);
        let windows = self.windows.take();
        let accepted = self.query(query, Place::Continuous);
        self.windows.replace(windows);
        self.over_allowed.set(allowed);
        accepted
    }

    fn operator(&self, op: &BinaryOperator, expr: &Expr) -> Result<(), Error> {
        use BinaryOperator::{
            And, Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Or, Plus, StringConcat,
        };
        match op {
            Plus | Minus | Multiply | Divide | Modulo | StringConcat | Gt | Lt | GtEq | LtEq | Eq | NotEq | And
            | Or => Ok(()),
            other => Err(self.no_operator(&other.to_string(), expr)),
        }
    }

    fn no_operator(&self, op: &str, expr: &Expr) -> Error {
        let what = format!("the operator {op} is not part of Flink's SQL");
        self.unsupported(self.at(expr), &what, "write a function; docs/sql.md lists them")
    }

    fn value(&self, value: &ValueWithSpan) -> Result<(), Error> {
        match &value.value {
            Value::Number(_, false)
            | Value::SingleQuotedString(_)
            | Value::HexStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => Ok(()),
            _ => Err(Error::Literal {
                problem: "this kind of literal is not part of Flink's SQL".to_string(),
                position: place(value.span.start),
                help: Some("write texts in single quotes, bytes as X'00FF'".to_string()),
            }),
        }
    }

    fn access(&self, access: &AccessExpr) -> Result<(), Error> {
        match access {
            AccessExpr::Dot(Expr::Identifier(name)) => self.name(name, self.start),
            AccessExpr::Dot(other) => Err(self.unsupported(self.at(other), "only a field's name can follow a dot", "")),
            AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: _ }) => {
                let bound = lower_bound.as_ref().or(upper_bound.as_ref());
                let at = bound.map_or(self.start, |bound| self.at(bound));
                Err(self.unsupported(at, "`[a:b]` is not part of Flink's SQL", "write ARRAY_SLICE(array, a, b)"))
            }
        }
    }

    fn function(&self, function: &Function) -> Result<(), Error> {
        let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } =
            function;
        let at = start_of(name, self.start);
        if *uses_odbc_syntax || *parameters != FunctionArguments::None {
            return Err(self.unsupported(at, "this form of call is not part of Flink's SQL", "write f(a, b)"));
        }
        self.function_name(name, at)?;
        if let Some(over) = over {
            self.over(function, over, at, self.after(at, "OVER"))?;
        } else if over::needs_over(&name.to_string()) {
            let what = format!("{} is called with OVER alone", name.to_string().to_ascii_uppercase());
            let help = "write OVER (PARTITION BY key ORDER BY ts) after it";
            return Err(self.unsupported(at, &what, help));
        }
        if null_treatment.is_some() {
            let help = "filter with FILTER (WHERE x IS NOT NULL)";
            return Err(self.unsupported(at, "IGNORE NULLS and RESPECT NULLS are not supported", help));
        }
        if let Some(key) = within_group.first() {
            return Err(self.unsupported(self.at(&key.expr), "WITHIN GROUP is not supported", "remove the clause"));
        }
        let allowed = self.over_allowed.get();
        self.over_allowed.set(allowed && over.is_none());
        let result = filter.iter().try_for_each(|filter| self.expr(filter)).and_then(|()| match args {
            FunctionArguments::None => Ok(()),
            FunctionArguments::Subquery(query) => {
                let near = start_of(query.as_ref(), self.start);
                let near = if near == self.start { self.far() } else { near };
                Err(self.refuse("SELECT", near, "a call takes values, and no query", "write (SELECT ..) in brackets"))
            }
            FunctionArguments::List(list) => self.arguments(list, at),
        });
        self.over_allowed.set(allowed);
        result
    }

    fn function_name(&self, name: &ObjectName, at: Position) -> Result<(), Error> {
        if name.0.len() == 1 && name.0[0].as_ident().is_some() {
            return Ok(());
        }
        Err(self.unsupported(at, "functions have no catalog or database", "write the function's name alone"))
    }

    pub(super) fn arguments(&self, list: &FunctionArgumentList, at: Position) -> Result<(), Error> {
        let FunctionArgumentList { duplicate_treatment: _, args, clauses } = list;
        if !clauses.is_empty() {
            let what = "ORDER BY, LIMIT and other clauses inside a call are not supported";
            return Err(self.unsupported(at, what, "remove the clause"));
        }
        for arg in args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expr(expr)?,
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => {}
                FunctionArg::Unnamed(
                    FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::WildcardWithOptions(_),
                ) => {
                    return Err(self.unsupported(at, "a call takes `*` alone or values", "name the columns"));
                }
                FunctionArg::Named { name, arg: _, operator: _ } => {
                    let position = name_start(name, at);
                    let what = "arguments by name are for window table functions only";
                    return Err(self.unsupported(position, what, "write the values in order"));
                }
                FunctionArg::ExprNamed { name, arg: _, operator: _ } => {
                    return Err(self.unsupported(self.at(name), "an argument's name has to be a word", ""));
                }
            }
        }
        Ok(())
    }
}
