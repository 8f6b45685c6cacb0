//! JSON_VALUE and JSON_EXISTS over plain paths: `$`, `.name`, `['name']`, `[index]`, after an optional `lax` or `strict`.
//!
//! A document is checked as a whole by `serde_json`, then the path is walked over its text, so that a number is answered
//! with the digits it was written in.

use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use serde::de::IgnoredAny;

use super::call::{Call, Text};
use super::function::Function;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "json_value",
        "JSON_VALUE(STRING, STRING) -> STRING",
        "The text, number or boolean at a path; NULL when there is none, or the text is not JSON.",
        &[("JSON_VALUE('{\"a\": [1, 2]}', '$.a[1]')", "2")],
        |call| {
            let (document, path) = (call.text(0)?, Paths::new(call)?);
            call.write_text(|row, out| {
                let Some((document, path)) = document.get(row).zip(path.at(row)?) else { return Ok(None) };
                Ok(find(document, path.steps()).and_then(|value| write_scalar(value, out)))
            })
        },
    )
    .returns_by_literals(|_, literals| checked(literals, DataType::Utf8)),
    Function::new(
        "json_exists",
        "JSON_EXISTS(STRING, STRING) -> BOOLEAN",
        "Whether there is something other than null at a path.",
        &[("JSON_EXISTS('{\"a\": 1}', '$.b')", "false")],
        |call| {
            let (document, path) = (call.text(0)?, Paths::new(call)?);
            call.build_flags(|row| {
                let Some((document, path)) = document.get(row).zip(path.at(row)?) else { return Ok(None) };
                Ok(Some(find(document, path.steps()).is_some_and(|value| value != "null")))
            })
        },
    )
    .returns_by_literals(|_, literals| checked(literals, DataType::Boolean)),
];

/// A path of a row: shared by all rows, or its own.
enum Path<'a> {
    Shared(&'a [Step]),
    Own(Vec<Step>),
}

impl Path<'_> {
    fn steps(&self) -> &[Step] {
        match self {
            Path::Shared(steps) => steps,
            Path::Own(steps) => steps,
        }
    }
}

struct Paths<'a> {
    text: Text<'a>,
    shared: Option<Vec<Step>>,
}

impl<'a> Paths<'a> {
    fn new(call: &Call<'a>) -> Result<Self> {
        let text = call.text(1)?;
        let shared = match text {
            Text::One(Some(text)) => Some(parsed(text)?),
            _ => None,
        };
        Ok(Paths { text, shared })
    }

    fn at(&self, row: usize) -> Result<Option<Path<'_>>> {
        match (&self.shared, self.text.get(row)) {
            (Some(steps), _) => Ok(Some(Path::Shared(steps))),
            (None, Some(text)) => Ok(Some(Path::Own(parsed(text)?))),
            (None, None) => Ok(None),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Item(usize),
}

fn checked(literals: &[Option<&ScalarValue>], result: DataType) -> Result<DataType> {
    if let Some(Some(ScalarValue::Utf8(Some(path)))) = literals.get(1)
        && parse_path(path).is_none()
    {
        return plan_err!("{}", unsupported(path));
    }
    Ok(result)
}

fn parsed(path: &str) -> Result<Vec<Step>> {
    match parse_path(path) {
        Some(steps) => Ok(steps),
        None => exec_err!("{}", unsupported(path)),
    }
}

fn unsupported(path: &str) -> String {
    format!("the JSON path '{path}' cannot be used: a path is $ followed by .name, ['name'] or [index]")
}

fn parse_path(path: &str) -> Option<Vec<Step>> {
    let path = path.trim();
    let path = path.strip_prefix("lax ").or_else(|| path.strip_prefix("strict ")).unwrap_or(path).trim_start();
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name = &after[..end];
            if name.is_empty() || name.contains(['*', '?', '(', ' ']) {
                return None;
            }
            steps.push(Step::Member(name.to_owned()));
            rest = &after[end..];
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = ['\'', '"'].iter().find_map(|quote| inside.strip_prefix(*quote)?.strip_suffix(*quote));
            steps.push(match quoted {
                Some(name) => Step::Member(name.to_owned()),
                None => Step::Item(inside.trim().parse().ok()?),
            });
            rest = after;
        }
    }
    Some(steps)
}

/// The text of the value at a path, when the document is JSON and has one.
fn find<'a>(document: &'a str, steps: &[Step]) -> Option<&'a str> {
    serde_json::from_str::<IgnoredAny>(document).ok()?;
    let mut scanner = Scanner { text: document, at: 0 };
    for step in steps {
        match step {
            Step::Member(name) => scanner.enter_member(name)?,
            Step::Item(index) => scanner.enter_item(*index)?,
        }
    }
    scanner.skip_space();
    let start = scanner.at;
    scanner.skip_value();
    Some(&document[start..scanner.at])
}

fn write_scalar(value: &str, out: &mut String) -> Option<()> {
    match value.as_bytes().first()? {
        b'{' | b'[' => None,
        b'"' => {
            out.push_str(&serde_json::from_str::<String>(value).ok()?);
            Some(())
        }
        _ if value == "null" => None,
        _ => {
            out.push_str(value);
            Some(())
        }
    }
}

/// A walk over a text that is known to be JSON.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn skip_text(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        while self.at < self.text.len() {
            match self.peek() {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        &self.text[start..self.at]
    }

    /// Skips one value; brackets inside text do not count.
    fn skip_value(&mut self) {
        self.skip_space();
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                b'"' => {
                    self.skip_text();
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => self.at += 1,
                _ => {
                    let rest = &self.text[self.at..];
                    let end = rest.find([',', '}', ']', ' ', '\t', '\n', '\r', ':']).unwrap_or(rest.len());
                    self.at += end;
                }
            }
            if depth == 0 || self.at >= self.text.len() {
                return;
            }
        }
    }

    /// Moves past an opening bracket and over separators; says whether an element follows.
    fn next_element(&mut self) -> bool {
        self.skip_space();
        if self.peek() == b',' {
            self.at += 1;
            self.skip_space();
        }
        !matches!(self.peek(), b'}' | b']' | 0)
    }

    fn enter(&mut self, bracket: u8) -> Option<()> {
        self.skip_space();
        (self.peek() == bracket).then(|| self.at += 1)
    }

    fn enter_member(&mut self, name: &str) -> Option<()> {
        self.enter(b'{')?;
        while self.next_element() {
            let key = self.skip_text();
            self.skip_space();
            self.at += 1; // the colon
            let same = if key.contains('\\') {
                serde_json::from_str::<String>(key).is_ok_and(|key| key == name)
            } else {
                &key[1..key.len() - 1] == name
            };
            if same {
                return Some(());
            }
            self.skip_value();
        }
        None
    }

    fn enter_item(&mut self, index: usize) -> Option<()> {
        self.enter(b'[')?;
        for _ in 0..index {
            if !self.next_element() {
                return None;
            }
            self.skip_value();
        }
        self.next_element().then_some(())
    }
}
