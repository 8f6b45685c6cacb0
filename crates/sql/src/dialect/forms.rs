//! What an expression that starts with a word is, decided by the word and what follows it.

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    Value,
};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, Word};
use tidemill_base::{Position, suggest};

use super::{FlinkDialect, Stop, interval, is_reserved, literal, table};
use crate::error::Error;
use crate::statement::{bare_word, place, shown_token};
use crate::types;

/// Units of EXTRACT.
const FIELDS: &[&str] = &[
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
    "NANOSECOND",
    "DOW",
    "ISODOW",
    "DOY",
    "ISOYEAR",
    "EPOCH",
    "DECADE",
    "CENTURY",
    "MILLENNIUM",
];
/// Units of FLOOR and CEIL.
const ROUNDED: &[&str] = &[
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "DECADE",
    "CENTURY",
    "MILLENNIUM",
];
/// Units of TIMESTAMPADD and TIMESTAMPDIFF.
const COUNTED: &[&str] =
    &["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND"];

/// Reads the expression that starts with `word`, which is the next token.
pub(super) fn word(parser: &mut Parser<'_>, word: &Word, end: Position) -> Result<Expr, Stop> {
    let span = parser.peek_token_ref().span;
    let ident = || word.clone().into_ident(span);
    if parser.index() > 0 && parser.get_current_token().token == Token::Period {
        parser.next_token();
        return Ok(Expr::Identifier(ident()));
    }
    let follows = parser.peek_nth_token_ref(1).token.clone();
    let bracket = follows == Token::LParen;
    if word.quote_style.is_none() {
        let form = Form { parser: &mut *parser, span, end };
        if let Some(read) = form.special(&word.value.to_ascii_uppercase(), &follows) {
            return read;
        }
        let call = bracket && ["LEFT", "RIGHT"].iter().any(|name| name.eq_ignore_ascii_case(&word.value));
        if is_reserved(&word.value) && !call {
            return Err(misplaced(word, place(span.start)).into());
        }
    }
    parser.next_token();
    if bracket {
        return Ok(parser.parse_function(ObjectName::from(vec![ident()]))?);
    }
    Ok(Expr::Identifier(ident()))
}

/// A plain call.
pub(crate) fn call(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    function(
        name,
        span,
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
    )
}

pub(super) fn function(name: &str, span: Span, args: FunctionArguments) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(span, name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

fn text(value: &str, span: Span) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_string()).with_span(span))
}

fn misplaced(word: &Word, position: Position) -> Error {
    let help = match word.value.to_ascii_uppercase().as_str() {
        "SELECT" | "WITH" | "VALUES" => "put a query inside an expression in brackets".to_string(),
        "FROM" | "WHERE" | "GROUP" | "HAVING" | "ORDER" | "LIMIT" => {
            "remove the comma or operator before it, or write what is missing".to_string()
        }
        _ => format!("if it is a name, write it in backticks: `{}`", word.value),
    };
    Error::Unexpected { expected: "an expression".to_string(), found: word.value.clone(), position, help: Some(help) }
}

struct Form<'p, 'a> {
    parser: &'p mut Parser<'a>,
    span: Span,
    end: Position,
}

impl Form<'_, '_> {
    /// Reads the form that an unquoted word starts; `None` when it is a plain name or call.
    fn special(self, upper: &str, follows: &Token) -> Option<Result<Expr, Stop>> {
        let quote = matches!(follows, Token::SingleQuotedString(_));
        let sign = matches!(follows, Token::Minus | Token::Plus)
            && matches!(self.parser.peek_nth_token_ref(2).token, Token::SingleQuotedString(_));
        let number = matches!(follows, Token::Number(..));
        Some(match upper {
            "TRUE" | "FALSE" | "NULL" => self.parser.parse_value().map(Expr::Value).map_err(Stop::from),
            "CASE" => self.after_word(|parser| parser.parse_case_expr()),
            "NOT" => self.after_word(|parser| parser.parse_not()),
            "INTERVAL" if quote || sign || number => interval::read(self.parser, self.end).map_err(Stop::from),
            "DATE" | "TIME" | "TIMESTAMP" if quote => literal::read(self.parser, upper).map_err(Stop::from),
            "TABLE" => table::read(self.parser, self.end),
            "CURRENT_TIMESTAMP" | "CURRENT_TIME" | "CURRENT_DATE" | "LOCALTIME" | "LOCALTIMESTAMP"
                if *follows != Token::LParen =>
            {
                self.parser.next_token();
                Ok(function(upper, self.span, FunctionArguments::None))
            }
            "ARRAY" | "MAP" if *follows == Token::LBracket => self.elements(upper),
            _ if *follows != Token::LParen => return None,
            "EXISTS" => self.after_word(|parser| parser.parse_exists_expr(false)),
            "CAST" => self.cast(CastKind::Cast),
            "TRY_CAST" => self.cast(CastKind::TryCast),
            "EXTRACT" => self.extract(),
            "FLOOR" => self.round("FLOOR"),
            "CEIL" | "CEILING" => self.round("CEIL"),
            "TIMESTAMPADD" | "TIMESTAMPDIFF" => self.counted(upper),
            "POSITION" => self.position_in(),
            "SUBSTRING" | "SUBSTR" => self.joined("SUBSTRING", &["FROM", "FOR"]),
            "OVERLAY" => self.joined("OVERLAY", &["PLACING", "FROM", "FOR"]),
            "TRIM" => self.trim(),
            _ => return None,
        })
    }

    fn after_word<E>(self, read: impl FnOnce(&mut Parser<'_>) -> Result<Expr, E>) -> Result<Expr, Stop>
    where
        Stop: From<E>,
    {
        self.parser.next_token();
        Ok(read(self.parser)?)
    }

    /// `ARRAY[a, b]` and `MAP[k, v]`.
    fn elements(self, upper: &str) -> Result<Expr, Stop> {
        let position = place(self.span.start);
        self.parser.next_token();
        self.parser.next_token();
        let array = self.parser.parse_array_expr(true)?;
        let Expr::Array(list) = array else { return Err(self.unexpected("a list").into()) };
        if upper == "ARRAY" {
            // SQL's planner does not see the columns of an outer query in an array literal; in a call it does.
            return Ok(call("ARRAY", self.span, list.elem));
        }
        if list.elem.len() % 2 == 1 {
            return Err(Error::Literal {
                problem: "MAP has a key without a value".to_string(),
                position,
                help: Some("write MAP['key', value, 'key', value]".to_string()),
            }
            .into());
        }
        Ok(call("MAP", self.span, list.elem))
    }

    fn cast(mut self, kind: CastKind) -> Result<Expr, Stop> {
        self.open();
        let expr = Box::new(self.parser.parse_expr()?);
        if !self.take("AS") {
            return Err(with_help(self.unexpected("AS"), "write CAST(x AS type)").into());
        }
        let data_type = types::parse(self.parser, self.end)?.to_ast();
        self.close("`)`")?;
        Ok(Expr::Cast { kind, expr, data_type, array: false, format: None })
    }

    fn extract(mut self) -> Result<Expr, Stop> {
        self.open();
        let (unit, span) = self.unit("EXTRACT", FIELDS)?;
        self.expect("FROM")?;
        let from = self.parser.parse_expr()?;
        self.close("`)`")?;
        Ok(call("EXTRACT", self.span, vec![text(&unit, span), from]))
    }

    fn round(mut self, name: &str) -> Result<Expr, Stop> {
        self.open();
        let mut args = vec![self.parser.parse_expr()?];
        if self.take("TO") {
            let (unit, span) = self.unit(name, ROUNDED)?;
            args.push(text(&unit, span));
        }
        self.close("`)` or TO")?;
        Ok(call(name, self.span, args))
    }

    fn counted(mut self, name: &str) -> Result<Expr, Stop> {
        self.open();
        let (unit, span) = self.unit(name, COUNTED)?;
        let mut args = vec![text(&unit, span)];
        for _ in 0..2 {
            if !self.parser.consume_token(&Token::Comma) {
                return Err(self.unexpected("`,`").into());
            }
            args.push(self.parser.parse_expr()?);
        }
        self.close("`)`")?;
        Ok(call(name, self.span, args))
    }

    fn position_in(mut self) -> Result<Expr, Stop> {
        self.open();
        let between = FlinkDialect::default().prec_value(Precedence::Between);
        let mut args = vec![self.parser.parse_subexpr(between)?];
        if !self.parser.consume_token(&Token::Comma) {
            self.expect("IN")?;
        }
        args.push(self.parser.parse_expr()?);
        self.close("`)`")?;
        Ok(call("POSITION", self.span, args))
    }

    /// Arguments joined by commas or, in this order, by words; the last may be left out.
    fn joined(mut self, name: &str, words: &[&str]) -> Result<Expr, Stop> {
        self.open();
        let mut args = vec![self.parser.parse_expr()?];
        for (index, word) in words.iter().enumerate() {
            if !self.parser.consume_token(&Token::Comma) && !self.take(word) {
                if index + 1 < words.len() {
                    return Err(self.unexpected(&format!("{word} or `,`")).into());
                }
                break;
            }
            args.push(self.parser.parse_expr()?);
        }
        self.close("`)`")?;
        Ok(call(name, self.span, args))
    }

    fn trim(mut self) -> Result<Expr, Stop> {
        self.open();
        let name = match () {
            () if self.take("LEADING") => "LTRIM",
            () if self.take("TRAILING") => "RTRIM",
            () if self.take("BOTH") => "BTRIM",
            () => "TRIM",
        };
        let plain = if name == "BTRIM" { "TRIM" } else { name };
        let args = if name != "TRIM" && self.take("FROM") {
            vec![self.parser.parse_expr()?]
        } else {
            let first = self.parser.parse_expr()?;
            match self.take("FROM") {
                true => vec![self.parser.parse_expr()?, first],
                false if name == "TRIM" => vec![first],
                false => return Err(self.unexpected("FROM").into()),
            }
        };
        self.close("`)`")?;
        let name = if args.len() == 1 {
            plain
        } else if name == "TRIM" {
            "BTRIM"
        } else {
            name
        };
        Ok(call(name, self.span, args))
    }

    /// A unit of time, as a word.
    fn unit(&mut self, of: &str, units: &[&str]) -> Result<(String, Span), Error> {
        let next = self.parser.peek_token_ref();
        let (token, span) = (next.token.clone(), next.span);
        let Some(word) = bare_word(&token) else {
            return Err(self.unexpected(&format!("a unit of {of}, such as DAY or HOUR")));
        };
        let upper = word.value.to_ascii_uppercase();
        let unit = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
        if !units.contains(&unit) {
            let help = match suggest::nearest(unit, units.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("its units are {}", units.join(", ")),
            };
            let problem = format!("{of} has no unit {}", word.value);
            return Err(Error::Literal { problem, position: place(span.start), help: Some(help) });
        }
        self.parser.next_token();
        Ok((unit.to_string(), span))
    }

    /// Takes the word and the bracket after it, which were seen.
    fn open(&mut self) {
        self.parser.next_token();
        self.parser.next_token();
    }

    fn close(&mut self, expected: &str) -> Result<(), Error> {
        if self.parser.consume_token(&Token::RParen) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn take(&mut self, name: &str) -> bool {
        let sees =
            bare_word(&self.parser.peek_token_ref().token).is_some_and(|word| word.value.eq_ignore_ascii_case(name));
        if sees {
            self.parser.next_token();
        }
        sees
    }

    fn expect(&mut self, name: &str) -> Result<(), Error> {
        if self.take(name) { Ok(()) } else { Err(self.unexpected(name)) }
    }

    fn unexpected(&self, expected: &str) -> Error {
        unexpected(self.parser, self.end, expected)
    }
}

fn with_help(error: Error, text: &str) -> Error {
    match error {
        Error::Unexpected { expected, found, position, help: _ } => {
            Error::Unexpected { expected, found, position, help: Some(text.to_string()) }
        }
        other => other,
    }
}

/// What stands next is not what should.
pub(super) fn unexpected(parser: &Parser<'_>, end: Position, expected: &str) -> Error {
    let next = parser.peek_token_ref();
    let position = if next.token == Token::EOF { end } else { place(next.span.start) };
    let found = shown_token(&next.token);
    let help = (next.token == Token::EOF).then(|| "a bracket that was opened is never closed: add `)`".to_string());
    Error::Unexpected { expected: expected.to_string(), found, position, help }
}
