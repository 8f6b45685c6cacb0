//! What a versioned table looks like: read from the words of a command, written as the command that would make it, and
//! compared with what a pipeline declares.

use tidemill_sql::pipeline::TableDef;
use tidemill_state::table::{Column, Schema, Type};

use super::columns;
use crate::error::Error;

/// The table of a declaration: columns as in SQL, `ip STRING NOT NULL, score INT`, the names of the key's columns, and
/// for columns that both sides of a merge may change how they are merged, `score=max`.
///
/// # Errors
/// What cannot be read.
pub fn declared(columns: &str, key: &[String], merges: &[String]) -> Result<Schema, Error> {
    let wrong = |text: &str, problem: String| Error::Declared { text: text.trim().to_string(), problem };
    let mut all = Vec::new();
    for text in split(columns) {
        all.push(column(text).map_err(|problem| wrong(text, problem))?);
    }
    for text in merges {
        let (name, function) = text.split_once('=').ok_or_else(|| {
            wrong(text, "a merge function is written as COLUMN=FUNCTION, such as score=max".to_string())
        })?;
        let column = all.iter_mut().find(|column| column.name == name.trim());
        let column = column.ok_or_else(|| wrong(text, format!("there is no column '{}'", name.trim())))?;
        column.merge = Some(function.trim().parse().map_err(tidemill_state::Error::from)?);
    }
    Ok(Schema::new(all, key.to_vec()).map_err(tidemill_state::Error::from)?)
}

/// The parts between commas that are in no parentheses or quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_i32, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '`' => quoted = !quoted,
            '(' | '<' if !quoted => depth += 1,
            ')' | '>' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Reads `NAME TYPE [NOT NULL]`.
fn column(text: &str) -> Result<Column, String> {
    let text = text.trim();
    let (name, rest) = match text.strip_prefix('`') {
        Some(quoted) => quoted.split_once('`').ok_or("a quoted name has no end")?,
        None => text.split_once(char::is_whitespace).ok_or("a column is written as NAME TYPE, such as ip STRING")?,
    };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (words, not_null) = match words.as_slice() {
        [kind @ .., not, null] if not.eq_ignore_ascii_case("NOT") && null.eq_ignore_ascii_case("NULL") => (kind, true),
        [kind @ .., null] if null.eq_ignore_ascii_case("NULL") => (kind, false),
        kind => (kind, false),
    };
    let kind = words.join(" ");
    let read: Type = kind.parse().map_err(|_| format!("'{kind}' is no type that a column can have"))?;
    let column = Column::new(name, read);
    Ok(if not_null { column.not_null() } else { column })
}

/// A name as it stands in a declaration.
fn name_of(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { name.to_string() } else { format!("`{name}`") }
}

/// The command that makes the table that a pipeline declares.
pub(crate) fn create_command(def: &TableDef, address: &str) -> String {
    let (columns, key) = (columns_of(def), def.primary_key.join(","));
    format!("tidemill table create {address} {} --columns \"{columns}\" --key {key}", def.name)
}

/// The table that a pipeline declares.
///
/// # Errors
/// When it has a column that no versioned table can have.
pub(crate) fn schema_of(def: &TableDef) -> Result<Schema, Error> {
    declared(&columns_of(def), &def.primary_key, &[])
}

/// The columns of a declaration, as a command has them.
fn columns_of(def: &TableDef) -> String {
    let columns = def.columns.iter().map(|column| {
        let (field, key) = (&column.field, def.primary_key.contains(column.field.name()));
        let not_null = if field.is_nullable() || key { "" } else { " NOT NULL" };
        format!("{} {}{not_null}", name_of(field.name()), tidemill_format::sql_name(field.data_type()))
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// What of a pipeline's declaration differs from the table that is there; none when nothing does. The lengths of texts
/// are the table's own matter.
pub(crate) fn difference(def: &TableDef, schema: &Schema) -> Option<String> {
    let (mine, theirs) = (schema.columns(), &def.columns);
    for (column, declared) in mine.iter().zip(theirs) {
        let field = &declared.field;
        let kind = columns::data_type(&column.kind);
        let named = tidemill_format::sql_name(field.data_type());
        if column.name != *field.name() || kind.as_ref() != Some(field.data_type()) {
            return Some(format!("it has column '{}' {}, not '{}' {named}", column.name, column.kind, field.name()));
        }
        if column.nullable && !field.is_nullable() {
            return Some(format!("its column '{}' may be NULL", column.name));
        }
    }
    if mine.len() != theirs.len() {
        return Some(format!("it has {} columns, not {}", mine.len(), theirs.len()));
    }
    let (key, declared) = (schema.key_names(), &def.primary_key);
    (key != declared.as_slice())
        .then(|| format!("its primary key is ({}), not ({})", key.join(", "), declared.join(", ")))
}

/// A table's columns and key, as a pipeline declares them.
pub(crate) fn declaration(schema: &Schema) -> String {
    let columns = schema.columns().iter().map(|column| {
        let not_null = if column.nullable { "" } else { " NOT NULL" };
        format!("{} {}{not_null}", name_of(&column.name), column.kind)
    });
    let key: Vec<String> = schema.key_names().iter().map(|name| name_of(name)).collect();
    format!("{}, PRIMARY KEY ({}) NOT ENFORCED", columns.collect::<Vec<_>>().join(", "), key.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(columns: &str, key: &str, merges: &[&str]) -> Result<String, String> {
        let (key, merges) = ([key.to_string()], merges.iter().map(|text| text.to_string()).collect::<Vec<_>>());
        declared(columns, &key, &merges).map(|schema| declaration(&schema)).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_are_declared_as_in_sql() {
        let check = |columns: &str, expected: &str| {
            assert_eq!(
                read(columns, "k", &[]).as_deref(),
                Ok(format!("{expected}, PRIMARY KEY (k) NOT ENFORCED")).as_deref()
            );
        };
        check("k STRING, v int", "k STRING NOT NULL, v INT");
        check("k BIGINT NOT NULL, price DECIMAL(10, 2) not null", "k BIGINT NOT NULL, price DECIMAL(10, 2) NOT NULL");
        check(
            "k INT, `a b` TIMESTAMP(3) NULL, tags ARRAY<STRING>",
            "k INT NOT NULL, `a b` TIMESTAMP(3), tags ARRAY<STRING>",
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let check = |columns: &str, merges: &[&str], part: &str| {
            let problem = read(columns, "k", merges).expect_err(part);
            assert!(problem.contains(part), "{problem}");
        };
        check("k", &[], "NAME TYPE");
        check("k TEXT", &[], "'TEXT' is no type");
        check("k STRING,", &[], "NAME TYPE");
        check("v STRING", &[], "'k'");
        check("k STRING, v INT", &["v"], "COLUMN=FUNCTION");
        check("k STRING, v INT", &["w=max"], "no column 'w'");
        check("k STRING, v INT", &["v=mean"], "'mean' is no merge function");
    }
}
