//! What of a query runs: everything else is refused here, with its place, its clause, and what to do instead.
//!
//! Every struct of sqlparser's is taken apart **without `..`**: a field is used or has to be empty, so nothing that was
//! written is dropped in silence, and a new version of sqlparser that reads more does not compile until it is judged.

mod asof;
mod expr;
mod over;
mod relation;

use std::cell::{Cell, RefCell};

use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, Fetch, GroupByExpr, Ident, LimitClause, OrderBy, OrderByExpr, OrderByKind, OrderByOptions,
    Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier,
    TableAlias, TableAliasColumnDef, Values, WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::tokenizer::Token;
use tidemill_base::Position;

use super::cursor::Cursor;
use super::{name_start, place, start_of};
use crate::error::Error;

/// Where a query stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Alone: its final rows are printed, so they may be ordered and limited.
    Top,
    /// In a view, an insert or another query: its rows never end.
    Continuous,
}

/// Accepts a query or says what of it does not run.
pub(super) fn query(query: &Query, cursor: &Cursor<'_>, place: Place, position: Position) -> Result<(), Error> {
    let accept = Accept::new(cursor, position);
    accept.in_query.set(true);
    accept.query(query, place)
}

/// Accepts an expression outside of a query: a computed column, a watermark.
pub(super) fn expr(expr: &Expr, cursor: &Cursor<'_>, position: Position) -> Result<(), Error> {
    Accept::new(cursor, position).expr(expr)
}

struct Accept<'c, 'a> {
    cursor: &'c Cursor<'a>,
    /// Where the query starts, for nodes that do not know their place.
    start: Position,
    /// Whether a call with OVER can stand here.
    over_allowed: Cell<bool>,
    /// Whether the expression is part of a query, which a subquery has to be.
    in_query: Cell<bool>,
    /// The names of the windows of the SELECT whose items are being read.
    windows: RefCell<Vec<String>>,
}

impl<'c, 'a> Accept<'c, 'a> {
    fn new(cursor: &'c Cursor<'a>, start: Position) -> Self {
        let (over_allowed, in_query) = (Cell::new(false), Cell::new(false));
        Accept { cursor, start, over_allowed, in_query, windows: RefCell::default() }
    }
}

impl Accept<'_, '_> {
    fn query(&self, query: &Query, place: Place) -> Result<(), Error> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if let Some(with) = with {
            self.with(with)?;
        }
        self.body(body)?;
        self.rows(order_by.as_ref(), limit_clause.as_ref(), fetch.as_ref(), place)?;
        if !locks.is_empty() || for_clause.is_some() {
            return Err(self.refuse(
                "FOR",
                self.cursor.back_to(self.far(), "FOR"),
                "FOR after a query is not supported",
                "",
            ));
        }
        if settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty() {
            return Err(self.unsupported(self.start, "SETTINGS, FORMAT and |> are not supported", ""));
        }
        Ok(())
    }

    fn with(&self, with: &With) -> Result<(), Error> {
        let With { with_token, recursive, cte_tables } = with;
        if *recursive {
            let position = place(with_token.0.span.start);
            return Err(self.unsupported(
                position,
                "WITH RECURSIVE is not supported",
                "write out the levels that you need",
            ));
        }
        for Cte { alias, query, from, materialized, closing_paren_token: _ } in cte_tables {
            self.alias(alias)?;
            if from.is_some() || materialized.is_some() {
                let position = name_start(&alias.name, self.start);
                return Err(self.unsupported(
                    position,
                    "[NOT] MATERIALIZED is not supported in WITH",
                    "write name AS (query)",
                ));
            }
            self.query(query, Place::Continuous)?;
        }
        Ok(())
    }

    /// The body, along the left side of a chain of UNIONs without recursion.
    fn body(&self, body: &SetExpr) -> Result<(), Error> {
        let mut body = body;
        loop {
            match body {
                SetExpr::SetOperation { left, op, set_quantifier, right } => {
                    self.set_operation(*op, *set_quantifier, right)?;
                    self.body(right)?;
                    body = left;
                }
                SetExpr::Select(select) => return self.select(select),
                SetExpr::Query(query) => return self.query(query, Place::Continuous),
                SetExpr::Values(Values { explicit_row: _, value_keyword, rows }) => {
                    if *value_keyword {
                        return Err(self.unsupported(self.start, "VALUE is not supported", "write VALUES"));
                    }
                    let mut cells = rows.iter().flat_map(|row| &row.content);
                    return cells.try_for_each(|cell| self.expr(cell));
                }
                SetExpr::Table(_) => {
                    let position = self.cursor.back_to(self.far(), "TABLE");
                    return Err(self.unsupported(position, "TABLE t is no query here", "write SELECT * FROM t"));
                }
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                    let help = "write INSERT INTO t WITH ... SELECT ..., with INSERT first";
                    return Err(self.unsupported(self.start, "a query cannot change a table", help));
                }
            }
        }
    }

    fn set_operation(&self, op: SetOperator, quantifier: SetQuantifier, right: &SetExpr) -> Result<(), Error> {
        let name = op.to_string();
        let position = self.cursor.back_to(start_of(right, self.start), &name);
        match (op, quantifier) {
            (SetOperator::Union, SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None) => Ok(()),
            (SetOperator::Union, SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName) => {
                let help = "name the columns of both queries in the same order";
                Err(self.unsupported(position, "UNION BY NAME is not supported", help))
            }
            (
                SetOperator::Except | SetOperator::Intersect,
                SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None,
            ) => Ok(()),
            (SetOperator::Except | SetOperator::Intersect, _) => {
                let help = "name the columns of both queries in the same order";
                Err(self.unsupported(position, &format!("{name} BY NAME is not supported"), help))
            }
            (SetOperator::Minus, _) => {
                Err(self.unsupported(position, "MINUS is not part of Flink's SQL", "write EXCEPT"))
            }
        }
    }

    /// ORDER BY, LIMIT, OFFSET and FETCH.
    fn rows(
        &self,
        order_by: Option<&OrderBy>,
        limit: Option<&LimitClause>,
        fetch: Option<&Fetch>,
        place: Place,
    ) -> Result<(), Error> {
        let limited = limit.is_some() || fetch.is_some();
        if place == Place::Continuous && limited && order_by.is_none() {
            let word = if fetch.is_some() { "FETCH" } else { "LIMIT" };
            let position = self.limit_position(limit, fetch, word);
            let what = format!(
                "{word} without ORDER BY is refused in continuous queries: which rows stay would depend on their arrival"
            );
            let help = "say which rows are the first: ORDER BY .. LIMIT; or limit the SELECT that reads the result";
            return Err(self.unsupported(position, &what, help));
        }
        let counts = matches!(limit, Some(LimitClause::LimitOffset { limit: Some(_), .. }));
        if counts && fetch.is_some() {
            let position = self.limit_position(limit, fetch, "LIMIT");
            return Err(self.unsupported(position, "LIMIT and FETCH say the same", "write one of them"));
        }
        if let Some(OrderBy { kind, interpolate }) = order_by {
            let OrderByKind::Expressions(keys) = kind else {
                let position = self.cursor.back_to(self.far(), "ORDER");
                return Err(self.unsupported(position, "ORDER BY ALL is not supported", "name the columns"));
            };
            let position = keys.first().map_or(self.start, |key| self.at(&key.expr));
            let position = self.cursor.back_to(position, "ORDER");
            if place == Place::Continuous && !limited {
                let help = "remove it here, or add LIMIT; a SELECT that stands alone can order its rows";
                let what = "ORDER BY is not supported in continuous queries: a stream has no last row to sort by";
                return Err(self.unsupported(position, what, help));
            }
            if interpolate.is_some() {
                return Err(self.unsupported(position, "INTERPOLATE is not supported", ""));
            }
            keys.iter().try_for_each(|key| self.order_key(key))?;
        }
        if let Some(limit) = limit {
            self.limit(limit)?;
        }
        if let Some(Fetch { with_ties, percent, quantity }) = fetch {
            let position = self.limit_position(None, fetch, "FETCH");
            if *with_ties || *percent {
                let help = "write FETCH FIRST n ROWS ONLY, or LIMIT n";
                return Err(self.unsupported(position, "FETCH ... WITH TIES and PERCENT are not supported", help));
            }
            quantity.iter().try_for_each(|quantity| self.expr(quantity))?;
        }
        Ok(())
    }

    fn limit(&self, limit: &LimitClause) -> Result<(), Error> {
        match limit {
            LimitClause::LimitOffset { limit, offset, limit_by } => {
                if let Some(by) = limit_by.first() {
                    return Err(self.unsupported(
                        self.at(by),
                        "LIMIT BY is not supported",
                        "number the rows in a view",
                    ));
                }
                limit.iter().try_for_each(|limit| self.expr(limit))?;
                offset.iter().try_for_each(|offset| self.expr(&offset.value))
            }
            LimitClause::OffsetCommaLimit { offset, limit: _ } => {
                Err(self.unsupported(self.at(offset), "LIMIT a, b is not supported", "write LIMIT b OFFSET a"))
            }
        }
    }

    fn limit_position(&self, limit: Option<&LimitClause>, fetch: Option<&Fetch>, word: &str) -> Position {
        let number = match limit {
            Some(LimitClause::LimitOffset { limit, offset, limit_by: _ }) => {
                limit.as_ref().or(offset.as_ref().map(|offset| &offset.value))
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit: _ }) => Some(offset),
            None => fetch.and_then(|fetch| fetch.quantity.as_ref()),
        };
        let near = number.map_or(self.far(), |number| self.at(number));
        self.cursor.back_to(near, word)
    }

    fn order_key(&self, key: &OrderByExpr) -> Result<(), Error> {
        let OrderByExpr { expr, options: OrderByOptions { asc: _, nulls_first: _ }, with_fill } = key;
        if with_fill.is_some() {
            return Err(self.unsupported(self.at(expr), "WITH FILL is not supported", ""));
        }
        self.expr(expr)
    }

    fn select(&self, select: &Select) -> Result<(), Error> {
        let Select {
            select_token,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            window_before_qualify: _,
            qualify,
            value_table_mode,
            flavor,
        } = select;
        let position = place(select_token.0.span.start);
        if let Some(Distinct::On(columns)) = distinct {
            let position = columns.first().map_or(position, |column| self.at(column));
            let help = "write SELECT FIRST_VALUE(b) ... GROUP BY a for the first row of each a";
            return Err(self.refuse("DISTINCT", position, "DISTINCT ON is not supported", help));
        }
        if top.is_some() {
            return Err(self.unsupported(position, "SELECT TOP is not supported", "write LIMIT at the end"));
        }
        if into.is_some() {
            return Err(self.unsupported(
                position,
                "SELECT INTO is not supported",
                "write INSERT INTO table SELECT ...",
            ));
        }
        if !lateral_views.is_empty() {
            let position = self.cursor.back_to(self.far(), "LATERAL");
            return Err(self.unsupported(
                position,
                "LATERAL VIEW is not supported",
                "write CROSS JOIN UNNEST(column) AS t (item)",
            ));
        }
        let strange = !optimizer_hints.is_empty()
            || select_modifiers.is_some()
            || exclude.is_some()
            || prewhere.is_some()
            || value_table_mode.is_some()
            || *flavor != SelectFlavor::Standard;
        if strange {
            return Err(self.unsupported(
                position,
                "this form of SELECT is not part of Flink's SQL",
                "write SELECT ... FROM ...",
            ));
        }
        if let Some(clause) = connect_by.first() {
            let position = start_of(clause, position);
            return Err(self.unsupported(
                position,
                "CONNECT BY is not supported",
                "write out the levels that you need",
            ));
        }
        let sorted = cluster_by.first().or(distribute_by.first()).or(sort_by.first().map(|key| &key.expr));
        if let Some(sorted) = sorted {
            let what = "CLUSTER BY, DISTRIBUTE BY and SORT BY are not supported";
            return Err(self.unsupported(self.at(sorted), what, "remove it: lanes share the keys by themselves"));
        }
        self.named_windows(named_window, position)?;
        self.over_allowed.set(true);
        let items = projection.iter().try_for_each(|item| self.item(item));
        let kept = items.and_then(|()| qualify.iter().try_for_each(|filter| self.expr(filter)));
        self.over_allowed.set(false);
        kept?;
        self.from(from)?;
        selection.iter().try_for_each(|filter| self.expr(filter))?;
        self.group_by(group_by)?;
        having.iter().try_for_each(|filter| self.expr(filter))
    }

    fn item(&self, item: &SelectItem) -> Result<(), Error> {
        match item {
            SelectItem::UnnamedExpr(expr) => self.expr(expr),
            SelectItem::ExprWithAlias { expr, alias } => {
                self.expr(expr)?;
                self.name(alias, self.at(expr))
            }
            SelectItem::ExprWithAliases { expr, aliases: _ } => {
                Err(self.unsupported(self.at(expr), "an expression has one name", "write expression AS name"))
            }
            SelectItem::QualifiedWildcard(kind, options) => match kind {
                SelectItemQualifiedWildcardKind::ObjectName(_) => self.wildcard(options),
                SelectItemQualifiedWildcardKind::Expr(expr) => {
                    Err(self.unsupported(self.at(expr), "`.*` after an expression is not supported", "name the fields"))
                }
            },
            SelectItem::Wildcard(options) => self.wildcard(options),
        }
    }

    fn wildcard(&self, options: &WildcardAdditionalOptions) -> Result<(), Error> {
        let WildcardAdditionalOptions {
            wildcard_token,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        let plain = opt_ilike.is_none()
            && opt_exclude.is_none()
            && opt_except.is_none()
            && opt_replace.is_none()
            && opt_rename.is_none()
            && opt_alias.is_none();
        if plain {
            return Ok(());
        }
        let position = place(wildcard_token.0.span.start);
        Err(self.unsupported(position, "`*` cannot be changed by EXCEPT, REPLACE, RENAME or AS", "name the columns"))
    }

    fn group_by(&self, group_by: &GroupByExpr) -> Result<(), Error> {
        let far = self.far();
        let (keys, modifiers) = match group_by {
            GroupByExpr::All(_) => {
                let position = self.cursor.back_to(far, "GROUP");
                return Err(self.unsupported(position, "GROUP BY ALL is not supported", "name the columns"));
            }
            GroupByExpr::Expressions(keys, modifiers) => (keys, modifiers),
        };
        if !modifiers.is_empty() {
            let position = self.cursor.back_to(far, "GROUP");
            let help = "write GROUP BY GROUPING SETS ((a), (b)), ROLLUP (a, b) or CUBE (a, b)";
            return Err(self.unsupported(position, "GROUP BY ... WITH is not supported", help));
        }
        keys.iter().try_for_each(|key| self.group_key(key))
    }

    /// A column of GROUP BY, or several sets of columns.
    fn group_key(&self, key: &Expr) -> Result<(), Error> {
        let (word, sets) = match key {
            Expr::GroupingSets(sets) => ("GROUPING", sets),
            Expr::Rollup(sets) => ("ROLLUP", sets),
            Expr::Cube(sets) => ("CUBE", sets),
            key => return self.expr(key),
        };
        if !matches!(key, Expr::GroupingSets(_))
            && let Some(several) = sets.iter().find(|set| set.len() != 1)
        {
            let position = several.first().map_or(self.start, |first| self.at(first));
            let help = "write out the sets: GROUPING SETS ((a, b, c), (a, b), ())";
            return Err(self.unsupported(position, &format!("columns in brackets in {word} are not supported"), help));
        }
        sets.iter().flatten().try_for_each(|key| self.expr(key))
    }

    fn alias(&self, alias: &TableAlias) -> Result<(), Error> {
        let TableAlias { explicit: _, name, columns, at } = alias;
        self.name(name, self.start)?;
        for TableAliasColumnDef { name, data_type } in columns {
            self.name(name, self.start)?;
            if data_type.is_some() {
                let position = name_start(name, self.start);
                return Err(self.unsupported(position, "an alias gives names, not types", "remove the type"));
            }
        }
        match at {
            Some(at) => {
                Err(self.unsupported(name_start(at, self.start), "AT after an alias is not supported", "remove it"))
            }
            None => Ok(()),
        }
    }

    /// sqlparser takes texts for names after AS.
    fn name(&self, name: &Ident, near: Position) -> Result<(), Error> {
        match name.quote_style {
            None | Some('`') => Ok(()),
            Some(_) => Err(Error::Unexpected {
                expected: "a name".to_string(),
                found: format!("the text '{}'", name.value),
                position: self.text_after(&name.value, name_start(name, near)),
                help: Some(format!("write the name in backticks: `{}`", name.value)),
            }),
        }
    }

    /// The first text in quotes after a place; sqlparser does not keep where it was.
    fn text_after(&self, text: &str, near: Position) -> Position {
        let found = self.cursor.tokens.iter().find(|token| {
            place(token.span.start) >= near && matches!(&token.token, Token::SingleQuotedString(found) if found == text)
        });
        found.map_or(near, |token| place(token.span.start))
    }

    fn at(&self, expr: &Expr) -> Position {
        expr::start(expr, self.start)
    }

    /// The place of the last token, to look back from.
    fn far(&self) -> Position {
        self.cursor.tokens.last().map_or(self.start, |token| place(token.span.start))
    }

    /// Refuses at the last `word` at or before `position`.
    fn refuse(&self, word: &str, position: Position, what: &str, help: &str) -> Error {
        self.unsupported(self.cursor.back_to(position, word), what, help)
    }

    fn unsupported(&self, position: Position, what: &str, help: &str) -> Error {
        let help = (!help.is_empty()).then(|| help.to_string());
        Error::Unsupported { what: what.to_string(), position, help }
    }
}
