//! Reading a type from sqlparser's tokens.
//!
//! `ARRAY<ARRAY<INT>>` ends in a token `>>`, which closes two brackets: the second half is remembered until it is asked for.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use tidemill_base::{Position, suggest};

use super::{Type, TypeKind};
use crate::dialect::FlinkDialect;
use crate::error::Error;
use crate::statement::{bare_word, place, shown_token};

/// Types inside each other, at most.
const DEPTH_MAX: usize = 32;
/// The digits of a DECIMAL, at most, as in Flink.
const DECIMAL_DIGITS_MAX: u32 = 38;
/// The digits after the second, at most, as in Flink.
const SECOND_DIGITS_MAX: u32 = 9;
const LENGTH_MAX: u32 = i32::MAX as u32;

const NAMES: &[&str] = &[
    "CHAR",
    "VARCHAR",
    "STRING",
    "BOOLEAN",
    "BINARY",
    "VARBINARY",
    "BYTES",
    "DECIMAL",
    "NUMERIC",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "INTERVAL",
    "ARRAY",
    "MAP",
    "ROW",
];

/// Reads a type that is a whole text, such as `ROW<a INT, b STRING>`.
///
/// # Errors
/// [`Error::Type`] or [`Error::Unexpected`], with places counted in `text`.
pub fn parse_text(text: &str) -> Result<Type, Error> {
    let dialect = FlinkDialect::default();
    let end = Position { line: 1, column: text.chars().count() as u64 + 1 };
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|error| Error::Unreadable {
        problem: format!("this cannot be read: {}", error.message),
        position: place(error.location),
        help: None,
    })?;
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let read = parse(&mut parser, end)?;
    match parser.peek_token_ref().token {
        Token::EOF => Ok(read),
        _ => Err(Reader { parser: &mut parser, end, half: false }.unexpected("the end of the type")),
    }
}

/// Reads a type from where the parser stands; `end` is the place of the end of its tokens.
pub(crate) fn parse(parser: &mut Parser<'_>, end: Position) -> Result<Type, Error> {
    let mut reader = Reader { parser, end, half: false };
    let read = reader.whole(0)?;
    if reader.half {
        return Err(Error::Unexpected {
            expected: "one `>` only".to_string(),
            found: "`>>`".to_string(),
            position: reader.position(),
            help: Some("remove the `>` that closes nothing".to_string()),
        });
    }
    Ok(read)
}

struct Reader<'p, 'a> {
    parser: &'p mut Parser<'a>,
    end: Position,
    /// The second half of a `>>` is still to be taken.
    half: bool,
}

impl Reader<'_, '_> {
    fn whole(&mut self, depth: usize) -> Result<Type, Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep {
                limit: format!("{DEPTH_MAX} types inside each other"),
                position: self.position(),
            });
        }
        let kind = self.kind(depth)?;
        let mut read = Type { kind, nullable: self.nullable()? };
        while !self.half && self.take("ARRAY") {
            read = Type { kind: TypeKind::Array(Box::new(read)), nullable: self.nullable()? };
        }
        if !self.half && self.sees("MULTISET") {
            return Err(multiset(self.position()));
        }
        Ok(read)
    }

    /// Takes `NULL` or `NOT NULL`.
    fn nullable(&mut self) -> Result<bool, Error> {
        if self.half {
            return Ok(true);
        }
        if self.take("NOT") {
            self.expect("NULL")?;
            return Ok(false);
        }
        self.take("NULL");
        Ok(true)
    }

    fn kind(&mut self, depth: usize) -> Result<TypeKind, Error> {
        let position = self.position();
        let Some(word) = bare_word(&self.parser.peek_token_ref().token).map(|word| word.value.to_ascii_uppercase())
        else {
            return Err(self.unexpected("a type"));
        };
        self.parser.next_token();
        Ok(match word.as_str() {
            "CHAR" | "CHARACTER" if self.take("VARYING") => TypeKind::Varchar(self.length(None)?),
            "CHAR" | "CHARACTER" => TypeKind::Char(self.length(Some(1))?.unwrap_or(1)),
            "VARCHAR" => TypeKind::Varchar(self.length(None)?),
            "STRING" => TypeKind::Varchar(None),
            "BOOLEAN" => TypeKind::Boolean,
            "BINARY" if self.take("VARYING") => TypeKind::Varbinary(self.length(None)?),
            "BINARY" => TypeKind::Binary(self.length(Some(1))?.unwrap_or(1)),
            "VARBINARY" => TypeKind::Varbinary(self.length(None)?),
            "BYTES" => TypeKind::Varbinary(None),
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal()?,
            "TINYINT" => TypeKind::TinyInt,
            "SMALLINT" => TypeKind::SmallInt,
            "INT" | "INTEGER" => TypeKind::Int,
            "BIGINT" => TypeKind::BigInt,
            "FLOAT" => TypeKind::Float,
            "DOUBLE" => {
                self.take("PRECISION");
                TypeKind::Double
            }
            "DATE" => TypeKind::Date,
            "TIME" => {
                let precision = self.precision("TIME", 0)?;
                self.time_zone(position)?;
                TypeKind::Time(precision)
            }
            "TIMESTAMP" => {
                let precision = self.precision("TIMESTAMP", 6)?;
                if self.time_zone(position)? {
                    TypeKind::TimestampLtz(precision)
                } else {
                    TypeKind::Timestamp(precision)
                }
            }
            "TIMESTAMP_LTZ" => TypeKind::TimestampLtz(self.precision("TIMESTAMP_LTZ", 6)?),
            "INTERVAL" => self.interval()?,
            "ARRAY" => {
                self.open()?;
                let item = self.whole(depth + 1)?;
                self.close()?;
                TypeKind::Array(Box::new(item))
            }
            "MAP" => {
                self.open()?;
                let key = self.whole(depth + 1)?;
                self.expect_token(&Token::Comma)?;
                let value = self.whole(depth + 1)?;
                self.close()?;
                TypeKind::Map(Box::new(key), Box::new(value))
            }
            "ROW" => self.row(depth)?,
            "MULTISET" => return Err(multiset(position)),
            "RAW" | "NULL" | "STRUCTURED" | "VARIANT" | "BITMAP" => {
                return Err(Error::Type {
                    problem: format!("the type {word} is not supported"),
                    position,
                    help: Some("keep such values as STRING or BYTES".to_string()),
                });
            }
            _ => return Err(unknown(&word, position)),
        })
    }

    fn decimal(&mut self) -> Result<TypeKind, Error> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(TypeKind::Decimal(10, 0));
        }
        let precision = self.number("the precision of DECIMAL", 1, DECIMAL_DIGITS_MAX)?;
        let scale = match self.parser.consume_token(&Token::Comma) {
            true => self.number("the scale of DECIMAL", 0, precision)?,
            false => 0,
        };
        self.expect_token(&Token::RParen)?;
        Ok(TypeKind::Decimal(precision as u8, scale as u8))
    }

    fn length(&mut self, default: Option<u32>) -> Result<Option<u32>, Error> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(default);
        }
        let length = self.number("a length", 1, LENGTH_MAX)?;
        self.expect_token(&Token::RParen)?;
        Ok(if length == LENGTH_MAX && default.is_none() { None } else { Some(length) })
    }

    fn precision(&mut self, of: &str, default: u8) -> Result<u8, Error> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(default);
        }
        let digits = self.number(&format!("the precision of {of}"), 0, SECOND_DIGITS_MAX)?;
        self.expect_token(&Token::RParen)?;
        Ok(digits as u8)
    }

    /// Takes `WITHOUT TIME ZONE` (false) or `WITH LOCAL TIME ZONE` (true).
    fn time_zone(&mut self, position: Position) -> Result<bool, Error> {
        if self.take("WITHOUT") {
            self.expect("TIME")?;
            self.expect("ZONE")?;
            return Ok(false);
        }
        if !self.sees("WITH") || !(self.sees_nth(1, "LOCAL") || self.sees_nth(1, "TIME")) {
            return Ok(false);
        }
        self.parser.next_token();
        let local = self.take("LOCAL");
        self.expect("TIME")?;
        self.expect("ZONE")?;
        if local {
            return Ok(true);
        }
        Err(Error::Type {
            problem: "TIMESTAMP WITH TIME ZONE is not supported: a row does not keep its own time zone".to_string(),
            position,
            help: Some("write TIMESTAMP(3) WITH LOCAL TIME ZONE, or TIMESTAMP_LTZ(3)".to_string()),
        })
    }

    /// Takes `DAY TO SECOND(3)`, `YEAR`, and so on; precisions are read and do not matter.
    fn interval(&mut self) -> Result<TypeKind, Error> {
        let mut year_month = None;
        loop {
            let unit = bare_word(&self.parser.peek_token_ref().token).map(|word| word.value.to_ascii_uppercase());
            let months = match unit.as_deref() {
                Some("YEAR" | "MONTH") => true,
                Some("DAY" | "HOUR" | "MINUTE" | "SECOND") => false,
                _ => return Err(self.unexpected("YEAR, MONTH, DAY, HOUR, MINUTE or SECOND")),
            };
            if year_month.is_some_and(|first| first != months) {
                return Err(self.unexpected(if months { "DAY, HOUR, MINUTE or SECOND" } else { "MONTH" }));
            }
            year_month = Some(months);
            self.parser.next_token();
            self.precision("INTERVAL", 6)?;
            if !self.take("TO") {
                return Ok(if months { TypeKind::YearMonth } else { TypeKind::DayTime });
            }
        }
    }

    /// `ROW<a INT 'comment', b STRING>` or the same in round brackets.
    fn row(&mut self, depth: usize) -> Result<TypeKind, Error> {
        let round = self.parser.consume_token(&Token::LParen);
        if !round {
            self.open()?;
        }
        let mut fields: Vec<(String, Type)> = Vec::new();
        loop {
            let position = self.position();
            let name = match &self.parser.peek_token_ref().token {
                Token::Word(word) => word.value.clone(),
                _ => return Err(self.unexpected("a field's name")),
            };
            self.parser.next_token();
            if fields.iter().any(|(other, _)| *other == name) {
                let problem = format!("ROW has two fields named {name}");
                return Err(Error::Type { problem, position, help: Some("rename one of them".to_string()) });
            }
            let kind = self.whole(depth + 1)?;
            if let Token::SingleQuotedString(_) = self.parser.peek_token_ref().token {
                self.parser.next_token();
            }
            fields.push((name, kind));
            if self.half || !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if round {
            self.expect_token(&Token::RParen)?
        } else {
            self.close()?
        }
        Ok(TypeKind::Row(fields))
    }

    fn open(&mut self) -> Result<(), Error> {
        self.expect_token(&Token::Lt)
    }

    fn close(&mut self) -> Result<(), Error> {
        if self.half {
            self.half = false;
            return Ok(());
        }
        if self.parser.consume_token(&Token::ShiftRight) {
            self.half = true;
            return Ok(());
        }
        self.expect_token(&Token::Gt)
    }

    fn number(&mut self, what: &str, least: u32, most: u32) -> Result<u32, Error> {
        let position = self.position();
        let Token::Number(digits, _) = &self.parser.peek_token_ref().token else {
            return Err(self.unexpected(&format!("{what}, a number")));
        };
        let number = digits.parse().ok().filter(|number| (least..=most).contains(number));
        let Some(number) = number else {
            let problem = format!("{what} cannot be {digits}");
            return Err(Error::Type { problem, position, help: Some(format!("give a number from {least} to {most}")) });
        };
        self.parser.next_token();
        Ok(number)
    }

    fn position(&self) -> Position {
        let next = self.parser.peek_token_ref();
        if next.token == Token::EOF { self.end } else { place(next.span.start) }
    }

    fn sees(&self, word: &str) -> bool {
        self.sees_nth(0, word)
    }

    fn sees_nth(&self, n: usize, word: &str) -> bool {
        bare_word(&self.parser.peek_nth_token_ref(n).token).is_some_and(|found| found.value.eq_ignore_ascii_case(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let sees = self.sees(word);
        if sees {
            self.parser.next_token();
        }
        sees
    }

    fn expect(&mut self, word: &str) -> Result<(), Error> {
        if self.take(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    fn expect_token(&mut self, token: &Token) -> Result<(), Error> {
        if !self.half && self.parser.consume_token(token) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{token}`")))
        }
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = shown_token(&self.parser.peek_token_ref().token);
        let help = match expected {
            "`>`" => Some("close what ROW<, ARRAY< or MAP< opened with `>`"),
            "`<`" => Some("write for instance ARRAY<INT>, MAP<STRING, INT>, ROW<a INT>"),
            "a type" => Some("write for instance BIGINT, STRING, TIMESTAMP(3), DECIMAL(10, 2) or ROW<a INT>"),
            _ => None,
        }
        .map(str::to_string);
        Error::Unexpected { expected: expected.to_string(), found, position: self.position(), help }
    }
}

fn multiset(position: Position) -> Error {
    Error::Type {
        problem: "MULTISET is not supported".to_string(),
        position,
        help: Some("use MAP<value, INT> with a count for each value, or ARRAY<value>".to_string()),
    }
}

/// A name that is no type of Flink's; for the names of other systems, Flink's.
fn unknown(word: &str, position: Position) -> Error {
    let meant = match word {
        "TEXT" | "CLOB" | "NVARCHAR" | "VARCHAR2" | "UUID" | "JSON" | "JSONB" => Some("STRING"),
        "BLOB" | "BYTEA" => Some("BYTES"),
        "LONG" | "INT8" | "INT64" | "BIGSERIAL" => Some("BIGINT"),
        "INT4" | "INT32" | "SERIAL" => Some("INT"),
        "INT2" | "INT16" | "SHORT" => Some("SMALLINT"),
        "BYTE" => Some("TINYINT"),
        "REAL" | "FLOAT4" | "FLOAT32" => Some("FLOAT"),
        "FLOAT8" | "FLOAT64" | "NUMBER" => Some("DOUBLE"),
        "BOOL" => Some("BOOLEAN"),
        "DATETIME" => Some("TIMESTAMP(3)"),
        "TIMESTAMPTZ" => Some("TIMESTAMP_LTZ(3)"),
        "STRUCT" => Some("ROW<...>"),
        "LIST" => Some("ARRAY<...>"),
        _ => None,
    };
    let help = match meant.or_else(|| suggest::nearest(word, NAMES.iter().copied())) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("the types are {}", NAMES.join(", ")),
    };
    Error::Type { problem: format!("there is no type {word}"), position, help: Some(help) }
}
