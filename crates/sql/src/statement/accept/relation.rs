//! What can stand in FROM: tables, views, queries and window functions, joined; `CROSS JOIN UNNEST(..)`; and lookups in
//! versioned tables and views.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Join, JoinConstraint, JoinOperator, ObjectName,
    TableFactor, TableFunctionArgs, TableVersion, TableWithJoins, Value,
};

use super::{Accept, Place};
use crate::dialect::{WindowInput, factor_position, window_call};
use crate::error::Error;
use crate::statement::name_start;

const JOIN_HELP: &str = "write [INNER | LEFT | RIGHT | FULL] JOIN t ON a.id = t.id, or CROSS JOIN t";
const LOOKUP_HELP: &str =
    "write [LEFT] JOIN t FOR SYSTEM_TIME AS OF PROCTIME() AS b ON a.id = b.id, with t a versioned table or a view";
const UNNEST_HELP: &str = "write CROSS JOIN UNNEST(array_column) AS t (item)";

impl Accept<'_, '_> {
    pub(super) fn from(&self, from: &[TableWithJoins]) -> Result<(), Error> {
        for TableWithJoins { relation, joins } in from {
            self.factor(relation)?;
            joins.iter().try_for_each(|join| self.join(join))?;
        }
        Ok(())
    }

    fn join(&self, join: &Join) -> Result<(), Error> {
        let Join { relation, global, join_operator } = join;
        let near = factor_position(relation, self.start);
        let at = self.cursor.back_to(near, "JOIN");
        if let JoinOperator::AsOf { match_condition, constraint } = join_operator {
            return self.asof(relation, match_condition, constraint, at);
        }
        if let TableFactor::Table { version: Some(TableVersion::ForSystemTimeAsOf(time)), .. } = relation {
            let on = match join_operator {
                JoinOperator::Join(JoinConstraint::On(on))
                | JoinOperator::Inner(JoinConstraint::On(on))
                | JoinOperator::Left(JoinConstraint::On(on))
                | JoinOperator::LeftOuter(JoinConstraint::On(on))
                    if !global =>
                {
                    on
                }
                _ => {
                    let what = "rows are looked up by JOIN .. ON or LEFT JOIN .. ON alone";
                    return Err(self.unsupported(at, what, LOOKUP_HELP));
                }
            };
            let mut relation = relation.clone();
            if let TableFactor::Table { version, .. } = &mut relation {
                *version = None;
            }
            self.factor(&relation)?;
            self.expr(time)?;
            return self.expr(on);
        }
        if is_unnest(relation) {
            if joins_all(join_operator) && !global {
                return self.factor(relation);
            }
            let what = "UNNEST is joined by CROSS JOIN, or by LEFT JOIN .. ON TRUE";
            return Err(self.unsupported(at, what, UNNEST_HELP));
        }
        if *global {
            return Err(self.unsupported(at, "GLOBAL JOIN is not part of Flink's SQL", JOIN_HELP));
        }
        self.factor(relation)?;
        self.joined(join_operator, at)
    }

    /// How two relations are joined.
    fn joined(&self, operator: &JoinOperator, at: tidemill_base::Position) -> Result<(), Error> {
        use JoinOperator::{
            Anti, ArrayJoin, AsOf, CrossApply, CrossJoin, FullOuter, Inner, InnerArrayJoin, Join, Left, LeftAnti,
            LeftArrayJoin, LeftOuter, LeftSemi, OuterApply, Right, RightAnti, RightOuter, RightSemi, Semi,
            StraightJoin,
        };
        let constraint = match operator {
            CrossJoin(JoinConstraint::None) => return Ok(()),
            Join(constraint)
            | Inner(constraint)
            | Left(constraint)
            | LeftOuter(constraint)
            | Right(constraint)
            | RightOuter(constraint)
            | FullOuter(constraint) => constraint,
            Semi(_) | LeftSemi(_) | RightSemi(_) => {
                let help =
                    "write WHERE EXISTS (SELECT 1 FROM t WHERE t.id = a.id), or WHERE a.id IN (SELECT id FROM t)";
                return Err(self.unsupported(at, "SEMI JOIN is not part of Flink's SQL", help));
            }
            Anti(_) | LeftAnti(_) | RightAnti(_) => {
                let help = "write WHERE NOT EXISTS (SELECT 1 FROM t WHERE t.id = a.id)";
                return Err(self.unsupported(at, "ANTI JOIN is not part of Flink's SQL", help));
            }
            CrossJoin(_)
            | CrossApply
            | OuterApply
            | AsOf { .. }
            | StraightJoin(_)
            | ArrayJoin
            | LeftArrayJoin
            | InnerArrayJoin => {
                return Err(self.unsupported(at, "this kind of join is not supported", JOIN_HELP));
            }
        };
        match constraint {
            JoinConstraint::On(on) => self.expr(on),
            JoinConstraint::Using(names) => names.iter().try_for_each(|name| match name.0.as_slice() {
                [part] if part.as_ident().is_some() => {
                    part.as_ident().map_or(Ok(()), |name| self.name(name, self.start))
                }
                _ => Err(self.unsupported(at, "USING takes names of columns", "write USING (id)")),
            }),
            JoinConstraint::Natural => Ok(()),
            JoinConstraint::None => Err(self.unsupported(at, "JOIN needs a condition", JOIN_HELP)),
        }
    }

    pub(super) fn factor(&self, factor: &TableFactor) -> Result<(), Error> {
        let at = factor_position(factor, self.start);
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                if version.is_some() {
                    let what = "FOR SYSTEM_TIME AS OF stands after JOIN with a versioned table or a view only";
                    return Err(self.refuse("FOR", self.after(at, "FOR"), what, LOOKUP_HELP));
                }
                if sample.is_some() {
                    let help = "filter with WHERE MOD(key, 100) = 0";
                    return Err(self.refuse(
                        "TABLESAMPLE",
                        self.after(at, "TABLESAMPLE"),
                        "TABLESAMPLE is not supported",
                        help,
                    ));
                }
                if *with_ordinality && !is_unnest(factor) {
                    return Err(self.refuse(
                        "ORDINALITY",
                        self.after(at, "ORDINALITY"),
                        "WITH ORDINALITY follows UNNEST only",
                        UNNEST_HELP,
                    ));
                }
                if !with_hints.is_empty() {
                    let help = "write a hint after the name: t /*+ OPTIONS('key'='value') */";
                    return Err(self.unsupported(at, "WITH (...) after a table in FROM is not supported", help));
                }
                if !partitions.is_empty() || json_path.is_some() || !index_hints.is_empty() {
                    return Err(self.unsupported(at, "only an alias can follow a table's name", "remove the rest"));
                }
                alias.iter().try_for_each(|alias| self.alias(alias))?;
                match args {
                    None => self.table_name(name),
                    Some(TableFunctionArgs { args, settings: None }) => self.table_function(factor, args),
                    Some(TableFunctionArgs { args: _, settings: Some(_) }) => {
                        Err(self.unsupported(at, "SETTINGS are not supported", ""))
                    }
                }
            }
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                if sample.is_some() {
                    return Err(self.unsupported(
                        at,
                        "TABLESAMPLE is not supported",
                        "filter with WHERE MOD(key, 100) = 0",
                    ));
                }
                alias.iter().try_for_each(|alias| self.alias(alias))?;
                self.query(subquery, Place::Continuous)
            }
            TableFactor::TableFunction { expr, alias } => {
                alias.iter().try_for_each(|alias| self.alias(alias))?;
                self.table_call(factor, expr)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.from(std::slice::from_ref(table_with_joins.as_ref()))
            }
            TableFactor::NestedJoin { table_with_joins: _, alias: Some(_) } => {
                Err(self.unsupported(at, "a name for joined tables is not supported", "name each of them"))
            }
            TableFactor::Function { .. } => {
                Err(self.refuse("LATERAL", at, "LATERAL table functions are not supported yet", UNNEST_HELP))
            }
            TableFactor::UNNEST { .. } => {
                Err(self.unsupported(at, "UNNEST has a form that is not supported", UNNEST_HELP))
            }
            TableFactor::MatchRecognize { table, .. } => {
                let near = factor_position(table, self.start);
                let help = "number the rows of a session with the SESSION window, as far as it goes";
                let what = "MATCH_RECOGNIZE is not supported yet";
                Err(self.unsupported(self.after(near, "MATCH_RECOGNIZE"), what, help))
            }
            TableFactor::Pivot { table, .. } => {
                let near = self.after(factor_position(table, self.start), "PIVOT");
                Err(self.unsupported(
                    near,
                    "PIVOT is not supported",
                    "write SUM(x) FILTER (WHERE kind = 'a') AS a, and so on",
                ))
            }
            TableFactor::Unpivot { table, .. } => {
                let near = self.after(factor_position(table, self.start), "UNPIVOT");
                Err(self.unsupported(
                    near,
                    "UNPIVOT is not supported",
                    "write one SELECT for each column, and UNION ALL them",
                ))
            }
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } | TableFactor::XmlTable { .. } => {
                Err(self.unsupported(
                    at,
                    "JSON and XML tables are not supported",
                    "declare the columns as ROW<..> or ARRAY<..>",
                ))
            }
            TableFactor::SemanticView { .. } => Err(self.unsupported(at, "semantic views are not supported", "")),
        }
    }

    /// A table's name: alone, or in the default catalog and database.
    fn table_name(&self, name: &ObjectName) -> Result<(), Error> {
        let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        for part in &parts {
            self.name(part, self.start)?;
        }
        let path: Vec<_> = parts.iter().map(|part| part.value.as_str()).collect();
        match path.as_slice() {
            [_] | ["default_database", _] | ["default_catalog", "default_database", _]
                if parts.len() == name.0.len() =>
            {
                Ok(())
            }
            _ => {
                let at = parts.last().map_or(self.start, |part| name_start(part, self.start));
                let help = format!("write {} alone", path.last().copied().unwrap_or("the name"));
                let what = "catalogs and databases are not supported: every table lives in the pipeline";
                Err(self.unsupported(at, what, &help))
            }
        }
    }

    /// `f(...)` in FROM.
    fn table_function(&self, factor: &TableFactor, args: &[FunctionArg]) -> Result<(), Error> {
        if is_unnest(factor) {
            return match args {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] => self.expr(array),
                _ => Err(self.unsupported(factor_position(factor, self.start), "UNNEST takes one array", UNNEST_HELP)),
            };
        }
        self.window(factor)
    }

    /// `TABLE(f(...))` in FROM.
    fn table_call(&self, factor: &TableFactor, expr: &Expr) -> Result<(), Error> {
        let Expr::Function(function) = expr else {
            let help = "write TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE))";
            return Err(self.unsupported(self.at(expr), "TABLE( ) in FROM takes a window function", help));
        };
        let Function { name: _, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } =
            function;
        let plain = !uses_odbc_syntax
            && *parameters == FunctionArguments::None
            && filter.is_none()
            && null_treatment.is_none()
            && over.is_none()
            && within_group.is_empty();
        let clauses = match args {
            FunctionArguments::List(list) => list.clauses.is_empty() && list.duplicate_treatment.is_none(),
            FunctionArguments::None | FunctionArguments::Subquery(_) => false,
        };
        if !plain || !clauses {
            return Err(self.unsupported(self.at(expr), "a window function in FROM takes arguments only", ""));
        }
        self.window(factor)
    }

    fn window(&self, factor: &TableFactor) -> Result<(), Error> {
        let Some(call) = window_call(factor) else {
            let at = factor_position(factor, self.start);
            let help = "the functions in FROM are TUMBLE, HOP, CUMULATE, SESSION and, after CROSS JOIN, UNNEST";
            return Err(self.unsupported(at, "table functions of your own are not supported", help));
        };
        match call?.input {
            WindowInput::Table(name) => self.table_name(&name),
            WindowInput::Query(query) => self.query(&query, Place::Continuous),
        }
    }

    /// The first `word` after a place, or the place itself.
    pub(super) fn after(&self, at: tidemill_base::Position, word: &str) -> tidemill_base::Position {
        let found = self.cursor.tokens.iter().find(|token| {
            crate::statement::place(token.span.start) >= at
                && crate::statement::bare_word(&token.token).is_some_and(|found| found.value.eq_ignore_ascii_case(word))
        });
        found.map_or(at, |token| crate::statement::place(token.span.start))
    }
}

/// Whether a join is with everything on the right: CROSS JOIN, or JOIN and LEFT JOIN on what is always true.
fn joins_all(operator: &JoinOperator) -> bool {
    match operator {
        JoinOperator::CrossJoin(JoinConstraint::None) => true,
        JoinOperator::Join(JoinConstraint::On(on))
        | JoinOperator::Inner(JoinConstraint::On(on))
        | JoinOperator::Left(JoinConstraint::On(on))
        | JoinOperator::LeftOuter(JoinConstraint::On(on)) => {
            matches!(on, Expr::Value(value) if value.value == Value::Boolean(true))
        }
        _ => false,
    }
}

/// `UNNEST(...)`, which sqlparser reads as a table with arguments in dialects that are not its own.
fn is_unnest(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: Some(_), .. } => {
            name.0.len() == 1 && name.0[0].as_ident().is_some_and(|name| name.value.eq_ignore_ascii_case("UNNEST"))
        }
        _ => false,
    }
}
