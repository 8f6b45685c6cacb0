//! `DROP TABLE t`, `DROP VIEW IF EXISTS v`, `DROP FUNCTION f`: takes back a definition made before it in the same text.

use super::Name;
use super::cursor::Cursor;
use crate::error::Error;

/// A definition that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// What is dropped.
    pub kind: DropKind,
    /// Its name.
    pub name: Name,
    /// Nothing happens when it does not exist.
    pub if_exists: bool,
}

/// What a DROP drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    /// `DROP TABLE`.
    Table,
    /// `DROP VIEW`.
    View,
    /// `DROP MATERIALIZED VIEW`.
    MaterializedView,
    /// `DROP FUNCTION`.
    Function,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Drop, Error> {
    cursor.expect(&["DROP"])?;
    cursor.take(&["TEMPORARY"]);
    let kind = if cursor.take(&["TABLE"]) {
        DropKind::Table
    } else if cursor.take(&["VIEW"]) {
        DropKind::View
    } else if cursor.take(&["MATERIALIZED", "VIEW"]) {
        DropKind::MaterializedView
    } else if cursor.take(&["FUNCTION"]) || cursor.take(&["SYSTEM", "FUNCTION"]) {
        DropKind::Function
    } else {
        return Err(cursor.unexpected("TABLE, VIEW or FUNCTION"));
    };
    let if_exists = cursor.take_if(&["EXISTS"])?;
    let name = cursor.object_name("a name")?;
    Ok(Drop { kind, name, if_exists })
}
