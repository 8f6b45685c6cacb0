//! Events into columns: for each needed column a builder and the field of the event that it takes.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StructArray, TimestampMillisecondArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer};
use arrow_schema::{ArrowError, DataType, Fields, SchemaRef};
use nexmark::event::{Auction, Person};

use super::bid::Bid;
use super::events::{Kind, Made};

/// A field of an event, or its absence.
enum Value<'a> {
    Number(usize),
    Time(u64),
    Text(&'a str),
}

type Get<E> = fn(&E) -> Value<'_>;

const PERSON: [(&str, Get<Person>); 8] = [
    ("id", |person| Value::Number(person.id)),
    ("name", |person| Value::Text(&person.name)),
    ("emailAddress", |person| Value::Text(&person.email_address)),
    ("creditCard", |person| Value::Text(&person.credit_card)),
    ("city", |person| Value::Text(&person.city)),
    ("state", |person| Value::Text(&person.state)),
    ("dateTime", |person| Value::Time(person.date_time)),
    ("extra", |person| Value::Text(&person.extra)),
];

const AUCTION: [(&str, Get<Auction>); 10] = [
    ("id", |auction| Value::Number(auction.id)),
    ("itemName", |auction| Value::Text(&auction.item_name)),
    ("description", |auction| Value::Text(&auction.description)),
    ("initialBid", |auction| Value::Number(auction.initial_bid)),
    ("reserve", |auction| Value::Number(auction.reserve)),
    ("dateTime", |auction| Value::Time(auction.date_time)),
    ("expires", |auction| Value::Time(auction.expires)),
    ("seller", |auction| Value::Number(auction.seller)),
    ("category", |auction| Value::Number(auction.category)),
    ("extra", |auction| Value::Text(&auction.extra)),
];

const BID: [(&str, Get<Bid>); 7] = [
    ("auction", |bid| Value::Number(bid.auction)),
    ("bidder", |bid| Value::Number(bid.bidder)),
    ("price", |bid| Value::Number(bid.price)),
    ("channel", |bid| Value::Text(bid.channel())),
    ("url", |bid| Value::Text(bid.url())),
    ("dateTime", |bid| Value::Time(bid.date_time)),
    ("extra", |bid| Value::Text(&bid.extra)),
];

/// The columns that a kind has, or all kinds together.
pub(super) fn help(kind: Option<Kind>) -> String {
    fn names<E>(fields: &[(&str, Get<E>)]) -> String {
        fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
    match kind {
        Some(Kind::Person) => format!("a person has {}", names(&PERSON)),
        Some(Kind::Auction) => format!("an auction has {}", names(&AUCTION)),
        Some(Kind::Bid) => format!("a bid has {}", names(&BID)),
        None => "declare event_type INT, person ROW<..>, auction ROW<..>, bid ROW<..>".to_string(),
    }
}

/// The columns of a block while they fill.
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    /// `event_type`: 0 person, 1 auction, 2 bid.
    EventType(Vec<i64>, DataType),
    Person(Row<Person>),
    Auction(Row<Auction>),
    Bid(Row<Bid>),
}

/// Fields of one kind of event: one of a flat table's columns, or those of a ROW column.
struct Row<E> {
    fields: Vec<(Get<E>, Cells, DataType)>,
    /// The ROW's fields, and whether the row is there; none for a flat column.
    nested: Option<(Fields, BooleanBufferBuilder)>,
}

enum Cells {
    Numbers(Vec<i64>),
    Times(Vec<i64>),
    Texts(StringBuilder),
}

impl Columns {
    /// Columns of `schema` for events of a kind, or of all.
    pub(super) fn new(kind: Option<Kind>, schema: SchemaRef) -> Result<Self, String> {
        let column = |name: &str, data_type: &DataType| match (kind, name) {
            (Some(Kind::Person), _) => Row::flat(&PERSON, name, data_type).map(Column::Person),
            (Some(Kind::Auction), _) => Row::flat(&AUCTION, name, data_type).map(Column::Auction),
            (Some(Kind::Bid), _) => Row::flat(&BID, name, data_type).map(Column::Bid),
            (None, "event_type") if data_type.is_integer() => Ok(Column::EventType(Vec::new(), data_type.clone())),
            (None, "person") => Row::nested(&PERSON, name, data_type).map(Column::Person),
            (None, "auction") => Row::nested(&AUCTION, name, data_type).map(Column::Auction),
            (None, "bid") => Row::nested(&BID, name, data_type).map(Column::Bid),
            (None, _) => Err(mismatch(name, data_type)),
        };
        let fields = schema.fields().iter();
        let columns = fields.map(|field| column(field.name(), field.data_type())).collect::<Result<_, _>>()?;
        Ok(Columns { schema, columns, rows: 0 })
    }

    /// Whether a bid's `extra` is among them.
    pub(super) fn with_bid_extra(schema: &SchemaRef) -> bool {
        let has_extra = |fields: &Fields| fields.iter().any(|field| field.name() == "extra");
        let nested = schema.fields().iter().any(|field| match field.data_type() {
            DataType::Struct(fields) => field.name() == "bid" && has_extra(fields),
            _ => false,
        });
        nested || has_extra(schema.fields())
    }

    pub(super) fn push(&mut self, event: &Made<'_>) {
        self.rows += 1;
        for column in &mut self.columns {
            match (column, event) {
                (Column::EventType(types, _), Made::Person(_)) => types.push(0),
                (Column::EventType(types, _), Made::Auction(_)) => types.push(1),
                (Column::EventType(types, _), Made::Bid(_)) => types.push(2),
                (Column::Person(row), Made::Person(person)) => row.push(person),
                (Column::Auction(row), Made::Auction(auction)) => row.push(auction),
                (Column::Bid(row), Made::Bid(bid)) => row.push(bid),
                (Column::Person(row), _) => row.push_null(),
                (Column::Auction(row), _) => row.push_null(),
                (Column::Bid(row), _) => row.push_null(),
            }
        }
    }

    /// The rows pushed since the last call.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.columns.iter_mut().map(|column| match column {
            Column::EventType(types, data_type) => {
                arrow_cast::cast(&Int64Array::from(std::mem::take(types)), data_type)
            }
            Column::Person(row) => row.take(),
            Column::Auction(row) => row.take(),
            Column::Bid(row) => row.take(),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

impl<E> Row<E> {
    fn flat(fields: &[(&str, Get<E>)], name: &str, data_type: &DataType) -> Result<Self, String> {
        Ok(Row { fields: vec![find(fields, name, name, data_type)?], nested: None })
    }

    fn nested(fields: &[(&str, Get<E>)], name: &str, data_type: &DataType) -> Result<Self, String> {
        let DataType::Struct(declared) = data_type else { return Err(mismatch(name, data_type)) };
        let found = declared
            .iter()
            .map(|field| find(fields, field.name(), &format!("{name}.{}", field.name()), field.data_type()));
        let fields = found.collect::<Result<_, _>>()?;
        Ok(Row { fields, nested: Some((declared.clone(), BooleanBufferBuilder::new(0))) })
    }

    fn push(&mut self, event: &E) {
        for (get, cells, _) in &mut self.fields {
            match (get(event), cells) {
                (Value::Number(number), Cells::Numbers(cells)) => cells.push(number as i64),
                (Value::Time(time), Cells::Times(cells)) => cells.push(time as i64),
                (Value::Text(text), Cells::Texts(cells)) => cells.append_value(text),
                _ => unreachable!("cells are chosen by the field's type"),
            }
        }
        if let Some((_, valid)) = &mut self.nested {
            valid.append(true);
        }
    }

    /// A row that is not there; its cells hold anything.
    fn push_null(&mut self) {
        for (_, cells, _) in &mut self.fields {
            match cells {
                Cells::Numbers(cells) | Cells::Times(cells) => cells.push(0),
                Cells::Texts(cells) => cells.append_value(""),
            }
        }
        if let Some((_, valid)) = &mut self.nested {
            valid.append(false);
        }
    }

    fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let arrays = self.fields.iter_mut().map(|(_, cells, data_type)| cells.take(data_type));
        let mut arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        match &mut self.nested {
            Some((fields, valid)) => {
                let rows = valid.len();
                let nulls = NullBuffer::new(valid.finish());
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, Some(nulls), rows)?))
            }
            None => Ok(arrays.remove(0)),
        }
    }
}

impl Cells {
    fn take(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match self {
            Cells::Numbers(cells) => Arc::new(Int64Array::from(std::mem::take(cells))),
            Cells::Times(cells) => {
                let zone = match data_type {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    _ => None,
                };
                Arc::new(TimestampMillisecondArray::from(std::mem::take(cells)).with_timezone_opt(zone))
            }
            Cells::Texts(cells) => Arc::new(cells.finish()),
        };
        if array.data_type() == data_type { Ok(array) } else { arrow_cast::cast(&array, data_type) }
    }
}

/// The field called `name`, and cells for a column of `data_type` when that holds all its values.
fn find<E>(
    fields: &[(&str, Get<E>)],
    name: &str,
    column: &str,
    data_type: &DataType,
) -> Result<(Get<E>, Cells, DataType), String> {
    let Some((_, get)) = fields.iter().find(|(field, _)| *field == name) else {
        return Err(format!("'nexmark' has no column '{column}'"));
    };
    let text =
        ["name", "emailAddress", "creditCard", "city", "state", "extra", "itemName", "description", "channel", "url"];
    let cells = match data_type {
        DataType::Utf8 if text.contains(&name) => Cells::Texts(StringBuilder::new()),
        DataType::Timestamp(_, _) if ["dateTime", "expires"].contains(&name) => Cells::Times(Vec::new()),
        DataType::Int64 if !text.contains(&name) && !["dateTime", "expires"].contains(&name) => {
            Cells::Numbers(Vec::new())
        }
        _ => return Err(mismatch(column, data_type)),
    };
    Ok((*get, cells, data_type.clone()))
}

fn mismatch(column: &str, data_type: &DataType) -> String {
    let declared = tidemill_format::sql_name(data_type);
    format!(
        "'nexmark' has no column '{column}' of type {declared}: numbers are BIGINT, texts VARCHAR, times TIMESTAMP(3)"
    )
}
