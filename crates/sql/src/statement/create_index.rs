//! `CREATE INDEX i ON v (a, b)`: what a materialised view's rows are found by, besides its key.

use super::Name;
use super::cursor::Cursor;
use crate::error::Error;

/// An index of a materialised view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateIndex {
    /// The name it gets.
    pub name: Name,
    /// The view.
    pub view: Name,
    /// The columns, in whichever order they are asked for.
    pub columns: Vec<Name>,
    /// Nothing happens when the name is taken.
    pub if_not_exists: bool,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<CreateIndex, Error> {
    cursor.expect(&["CREATE"])?;
    cursor.expect(&["INDEX"])?;
    let if_not_exists = cursor.take_if(&["NOT", "EXISTS"])?;
    let name = cursor.object_name("the index's name")?;
    cursor.expect(&["ON"])?;
    let view = cursor.object_name("the view's name")?;
    let columns = cursor.list(|cursor| cursor.name("a column's name"))?;
    Ok(CreateIndex { name, view, columns, if_not_exists })
}
