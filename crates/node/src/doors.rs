//! Inboxes and views as the gateway's doors see them.

mod bodies;
mod inbox;
mod keys;

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, SchemaRef};
use tidemill_circuit::view::{self, View};
use tidemill_gateway::{Follow, KeyPart, Lookup, LookupError, Rows};

pub(crate) use inbox::{Coming, InboxDoor};
pub(crate) use keys::{Keys, Known, Window};

/// A view behind a door.
pub(crate) struct ViewDoor(pub(crate) View);

impl tidemill_gateway::View for ViewDoor {
    fn read(&self, lookup: &Lookup) -> Result<Rows, LookupError> {
        let ViewDoor(view) = self;
        let snapshot = match (lookup.key.as_slice(), lookup.by.as_slice()) {
            ([], []) => view.scan(),
            (parts, []) => view.lookup(&key(view, parts)?),
            ([], by) => found(view, by, lookup.limit.saturating_add(1))?,
            _ => {
                return Err(LookupError::Key {
                    problem: "rows are found by the key or by other columns, not by both".to_string(),
                    help: "ask by all columns of the key, or of an index".to_string(),
                });
            }
        };
        let snapshot = snapshot.map_err(|error| match error {
            view::Error::NoKey { .. } | view::Error::BadKey { .. } => LookupError::Key {
                problem: error.to_string(),
                help: "ask without a key for all rows, up to ?limit=..".to_string(),
            },
            view::Error::NoIndex { ref columns, .. } => {
                let name = tidemill_sql::types::quoted(&view.spec().name);
                LookupError::Key {
                    problem: error.to_string(),
                    help: format!("{}: add CREATE INDEX .. ON {name} ({columns}) to the pipeline", answers_to(view)),
                }
            }
            _ => LookupError::Failed(error.to_string()),
        })?;
        let (mut left, mut more, mut batches) = (lookup.limit, false, Vec::new());
        for batch in snapshot.batches {
            more |= batch.num_rows() > left;
            let taken = batch.num_rows().min(left);
            left -= taken;
            if taken > 0 {
                batches.push(batch.slice(0, taken));
            }
        }
        Ok(Rows { version: snapshot.version, batches, more })
    }

    fn follow(&self) -> Result<(Rows, Box<dyn Follow>), LookupError> {
        let ViewDoor(view) = self;
        let (snapshot, follower) = view.follow().map_err(|error| LookupError::Failed(error.to_string()))?;
        let rows = Rows { version: snapshot.version, batches: snapshot.batches, more: false };
        Ok((rows, Box::new(follower)))
    }

    fn follow_from(&self, version: u64) -> Result<Option<Box<dyn Follow>>, LookupError> {
        let ViewDoor(view) = self;
        Ok(view.follow_from(version).map(|follower| Box::new(follower) as _))
    }

    fn columns(&self) -> Option<SchemaRef> {
        let ViewDoor(view) = self;
        Some(view.spec().schema.clone())
    }
}

/// Rows with these values, by the key or by an index.
fn found(view: &View, by: &[KeyPart], most: usize) -> Result<Result<view::Snapshot, view::Error>, LookupError> {
    let spec = view.spec();
    let mut columns = Vec::with_capacity(by.len());
    let mut values = Vec::with_capacity(by.len());
    for KeyPart { column, value: text } in by {
        let name = column.as_deref().unwrap_or_default();
        let place = spec.schema.index_of(name).ok().filter(|place| !columns.contains(place));
        let wrong = |problem: String| LookupError::Key { problem, help: answers_to(view) };
        let place =
            place.ok_or_else(|| wrong(format!("'{name}' is no column of view '{}', or is there twice", spec.name)))?;
        let kind = spec.schema.field(place).data_type();
        let typed = value(text, kind);
        values.push(typed.ok_or_else(|| {
            wrong(format!("'{text}' is no {}, as the column '{name}' is", tidemill_format::sql_name(kind)))
        })?);
        columns.push(place);
    }
    let place = |column: &usize| columns.iter().position(|other| other == column);
    let key = spec.key.as_ref().filter(|key| key.len() == columns.len());
    let key: Option<Vec<usize>> = key.and_then(|key| key.iter().map(place).collect());
    Ok(match key {
        Some(places) => view.lookup(&places.into_iter().map(|place| values[place].clone()).collect::<Vec<_>>()),
        None => view.find(&columns, &values, most),
    })
}

/// What rows of a view can be found by.
fn answers_to(view: &View) -> String {
    let spec = view.spec();
    let names = |columns: &Vec<usize>| {
        let names: Vec<&str> = columns.iter().map(|column| spec.schema.field(*column).name().as_str()).collect();
        format!("({})", names.join(", "))
    };
    let by: Vec<String> = spec.key.iter().chain(&view.indexes()).map(names).collect();
    match by.is_empty() {
        true => "no rows are found by columns here".to_string(),
        false => format!("rows are found by {}", by.join(", ")),
    }
}

/// The values of a key, in the order and of the types of the view's key.
fn key(view: &View, parts: &[KeyPart]) -> Result<Vec<ArrayRef>, LookupError> {
    let spec = view.spec();
    let columns = spec.key.clone().unwrap_or_default();
    let names: Vec<&str> = columns.iter().map(|column| spec.schema.field(*column).name().as_str()).collect();
    let wrong = |problem: String| {
        let help = match names.as_slice() {
            [] => "the view has no key: ask without one".to_string(),
            [_] => "ask ?key=VALUE".to_string(),
            names => {
                let parts: Vec<String> = names.iter().map(|name| format!("key.{name}=VALUE")).collect();
                format!("ask ?{}", parts.join("&"))
            }
        };
        LookupError::Key { problem, help }
    };
    if let Some(name) = parts.iter().filter_map(|part| part.column.as_deref()).find(|name| !names.contains(name)) {
        return Err(wrong(format!("'{name}' is no column of the key of view '{}'", spec.name)));
    }
    if parts.len() != names.len() {
        return Err(wrong(format!("the key of view '{}' has {} columns, not {}", spec.name, names.len(), parts.len())));
    }
    let mut unnamed = parts.iter().filter(|part| part.column.is_none());
    columns
        .iter()
        .zip(&names)
        .map(|(column, name)| {
            let named = parts.iter().find(|part| part.column.as_deref() == Some(name));
            let part = named.or_else(|| unnamed.next());
            let part = part.ok_or_else(|| wrong(format!("the key lacks its column '{name}'")))?;
            let kind = spec.schema.field(*column).data_type();
            value(&part.value, kind).ok_or_else(|| {
                wrong(format!(
                    "'{}' is no {}, as the key's column '{name}' is",
                    part.value,
                    tidemill_format::sql_name(kind)
                ))
            })
        })
        .collect()
}

/// A value of a type, from its text.
fn value(text: &str, kind: &DataType) -> Option<ArrayRef> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&text, kind, &strict).ok().filter(|value| value.null_count() == 0)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, RecordBatch, TimestampMillisecondArray};
    use arrow_schema::{Field, Schema, TimeUnit};
    use tidemill_circuit::Delta;
    use tidemill_circuit::view::{ViewSpec, view};
    use tidemill_gateway::View as _;

    use super::*;

    /// A view of (day TIMESTAMP(3), id BIGINT, n BIGINT) with key (id, day) and the rows n = 1, 2, 3.
    fn door() -> ViewDoor {
        let fields = vec![
            Field::new("day", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("id", DataType::Int64, false),
            Field::new("n", DataType::Int64, false),
        ];
        let schema = Arc::new(Schema::new(fields));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from(vec![0, 0, 86_400_000])),
            Arc::new(Int64Array::from(vec![1, 2, 1])),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("three columns");
        let spec = ViewSpec { name: "v".to_string(), schema, key: Some(vec![1, 0]), append_only: false };
        let (mut writer, view) = view(spec).expect("integers can be compared");
        writer.apply(7, &[Delta::inserts(batch)]).expect("rows come");
        ViewDoor(view)
    }

    fn ask(parts: &[(Option<&str>, &str)], limit: usize) -> Result<(Vec<i64>, bool), String> {
        let key = parts
            .iter()
            .map(|(column, value)| KeyPart { column: column.map(str::to_string), value: value.to_string() });
        match door().read(&Lookup { key: key.collect(), by: Vec::new(), limit }) {
            Ok(rows) => {
                assert_eq!(rows.version, 7);
                let columns = rows.batches.iter().map(|batch| batch.column(2).as_primitive::<Int64Type>());
                Ok((columns.flat_map(|column| column.values().to_vec()).collect(), rows.more))
            }
            Err(LookupError::Key { problem, help }) => Err(format!("{problem}; {help}")),
            Err(LookupError::Failed(reason)) => panic!("{reason}"),
        }
    }

    #[test]
    fn finds_rows_by_key_columns_in_any_order() {
        assert_eq!(ask(&[(None, "1"), (None, "1970-01-02T00:00:00")], 9), Ok((vec![3], false)));
        assert_eq!(ask(&[(Some("day"), "1970-01-01"), (Some("id"), "2")], 9), Ok((vec![2], false)));
        assert_eq!(ask(&[(Some("day"), "1970-01-01"), (None, "5")], 9), Ok((vec![], false)));
    }

    #[test]
    fn answers_no_more_than_was_asked() {
        assert_eq!(ask(&[], 9), Ok((vec![1, 2, 3], false)));
        assert_eq!(ask(&[], 2), Ok((vec![1, 2], true)));
        assert_eq!(ask(&[], 0), Ok((vec![], true)));
    }

    #[test]
    fn says_what_is_wrong_with_a_key() {
        let wrong = |parts: &[(Option<&str>, &str)], part: &str| {
            let problem = ask(parts, 9).expect_err(part);
            assert!(problem.contains(part) && problem.contains("?key.id=VALUE&key.day=VALUE"), "{problem}");
        };
        wrong(&[(None, "1")], "has 2 columns, not 1");
        wrong(&[(None, "one"), (None, "1970-01-01")], "'one' is no BIGINT");
        wrong(&[(Some("ID"), "1"), (None, "1970-01-01")], "'ID' is no column");
        wrong(&[(Some("id"), "1"), (Some("id"), "1")], "lacks its column 'day'");
    }
}
