//! The tables of functions in `docs/sql.md` are written from the registry, and every example in them is evaluated.

use std::fmt::Write;
use std::path::PathBuf;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use chrono_tz::Tz;

use super::super::cast::write_value;
use super::super::{FAMILIES, Function};
use super::evaluate;
use crate::aggregate::AGGREGATES;

const START: &str = "<!-- functions: written by `UPDATE_DOCS=1 cargo test -p tidemill-sql documents` -->";
const END: &str = "<!-- end of functions -->";
const AGGREGATES_START: &str = "<!-- aggregates: written by `UPDATE_DOCS=1 cargo test -p tidemill-sql documents` -->";
const AGGREGATES_END: &str = "<!-- end of aggregates -->";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md")
}

fn functions() -> impl Iterator<Item = &'static Function> {
    FAMILIES.iter().flat_map(|(_, functions)| functions.iter())
}

fn value(sql: &str) -> String {
    let array = evaluate::constant(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    if array.data_type() == &DataType::Boolean && array.is_valid(0) {
        return array.as_boolean().value(0).to_string();
    }
    let mut text = String::new();
    write_value(&array, 0, Tz::UTC, &mut text).unwrap_or_else(|error| panic!("{sql}: {error}"));
    text
}

fn render() -> String {
    let mut out = String::new();
    let cell = |text: &str| text.replace('|', "\\|");
    for (title, functions) in FAMILIES {
        writeln!(out, "\n### {title}\n\n| Function | Meaning | Example | Value |\n|---|---|---|---|")
            .expect("a string");
        for function in functions.iter() {
            let mut forms: Vec<String> = function.shown.split("; ").map(|form| format!("`{}`", cell(form))).collect();
            if !function.aliases.is_empty() {
                let others: Vec<String> =
                    function.aliases.iter().map(|name| format!("`{}`", name.to_uppercase())).collect();
                let others: Vec<String> = others.into_iter().filter(|name| !name.starts_with("`$")).collect();
                if !others.is_empty() {
                    forms.push(format!("also {}", others.join(", ")));
                }
            }
            for (index, (sql, expected)) in function.examples.iter().enumerate() {
                let (left, meaning) =
                    if index == 0 { (forms.join("<br>"), cell(function.doc)) } else { Default::default() };
                writeln!(out, "| {left} | {meaning} | `{}` | `{}` |", cell(sql), cell(expected)).expect("a string");
            }
        }
    }
    out
}

#[test]
fn documents_every_function_with_an_example_that_holds() {
    for function in functions() {
        assert!(!function.doc.is_empty() && !function.examples.is_empty(), "{} is not documented", function.name);
        for (sql, expected) in function.examples {
            assert_eq!(&value(sql), expected, "the example {sql} of {}", function.name);
        }
    }
}

fn render_aggregates() -> String {
    let mut out = "\n\n| Function | Meaning |\n|---|---|\n".to_string();
    for declaration in AGGREGATES {
        let (forms, result) = declaration
            .signature()
            .split_once(" -> ")
            .map_or_else(Default::default, |(forms, to)| (forms.replace("), ", ")`<br>`"), to.to_string()));
        let also: Vec<String> = declaration.aliases.iter().map(|name| format!("`{}`", name.to_uppercase())).collect();
        let also = if also.is_empty() { String::new() } else { format!("<br>also {}", also.join(", ")) };
        writeln!(out, "| `{forms}`{also} | {} Gives {result}. |", declaration.doc).expect("a string");
    }
    out
}

#[test]
fn documents_the_functions_as_they_are_declared() {
    let mut text = std::fs::read_to_string(path()).unwrap_or_default();
    for (start, end, rendered) in
        [(START, END, format!("{}\n", render())), (AGGREGATES_START, AGGREGATES_END, render_aggregates())]
    {
        let (before, rest) = text.split_once(start).expect("docs/sql.md has the mark where the functions start");
        let (found, after) = rest.split_once(end).expect("docs/sql.md has the mark where the functions end");
        if std::env::var_os("UPDATE_DOCS").is_none() {
            assert_eq!(found, rendered, "docs/sql.md is behind the functions: run with UPDATE_DOCS=1");
        }
        text = format!("{before}{start}{rendered}{end}{after}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(), text).expect("docs/sql.md can be written");
    }
}

#[test]
fn names_are_lower_case_and_used_once() {
    let mut names: Vec<&str> =
        functions().flat_map(|function| function.aliases.iter().copied().chain([function.name])).collect();
    assert!(names.iter().all(|name| !name.chars().any(|c| c.is_ascii_uppercase())));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
