//! `'connector' = 'versioned'`: a table that people edit and that queries look rows up in, never a source or a sink.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use tidemill_base::Position;
use tidemill_circuit::lookup::LookupTable;

use crate::catalog::VersionedSource;
use crate::error::Error;
use crate::pipeline::TableDef;
use crate::statement::{ColumnKind, CreateTable, Name};
use crate::types::TypeKind;

/// The cell of a declared table, when the declaration is one of a versioned table.
pub(super) fn table(create: &CreateTable, def: &TableDef) -> Result<Arc<LookupTable>, Error> {
    let name = &create.name.text;
    let wrong = |problem: String, position: Position, help: &str| Error::Definition {
        problem,
        position,
        help: Some(help.to_string()),
    };
    let Some(key) = &create.primary_key else {
        let help = "name the columns that a row is looked up by: PRIMARY KEY (ip) NOT ENFORCED";
        return Err(wrong(format!("the versioned table {name} has no primary key"), create.name.position, help));
    };
    for column in &create.columns {
        let what = match &column.kind {
            ColumnKind::Physical(kind) if can_be_kept(&kind.kind) => continue,
            ColumnKind::Physical(kind) => format!("is {kind}"),
            ColumnKind::Computed(_) => "is computed".to_string(),
            ColumnKind::Metadata { .. } => "is metadata".to_string(),
        };
        let help = "its columns can be BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, DECIMAL, FLOAT, DOUBLE, STRING, BYTES, DATE, \
                    TIME, TIMESTAMP and TIMESTAMP_LTZ; compute in the query that looks rows up";
        let problem = format!("{} {what}, which a column of a versioned table cannot be", column.name.text);
        return Err(wrong(problem, column.name.position, help));
    }
    if let Some(watermark) = &create.watermark {
        let problem = format!("the versioned table {name} has no event time, and so no watermark");
        return Err(wrong(problem, watermark.position, "remove WATERMARK: its rows are read as they are"));
    }
    if let Some(column) = create.partitioned_by.first() {
        let problem = format!("the versioned table {name} has no partitions");
        return Err(wrong(problem, column.position, "remove PARTITIONED BY"));
    }
    let floating = |kind: &ColumnKind| matches!(kind, ColumnKind::Physical(kind) if matches!(kind.kind, TypeKind::Float | TypeKind::Double));
    for column in &key.columns {
        let of = create.columns.iter().find(|known| known.name.text == column.text);
        if of.is_some_and(|of| floating(&of.kind)) {
            let problem = format!("{} is no exact number, and the key of a versioned table has to be", column.text);
            return Err(wrong(problem, column.position, "declare it as DECIMAL or BIGINT"));
        }
    }
    let fields = def.columns.iter().map(|column| column.field.clone()).collect::<Vec<Field>>();
    let schema = Arc::new(Schema::new(fields));
    let key: Vec<usize> = key.columns.iter().filter_map(|column| schema.index_of(&column.text).ok()).collect();
    let table = LookupTable::new(name, schema, key);
    table.map(Arc::new).map_err(|error| wrong(error.to_string(), create.name.position, "choose another key"))
}

fn can_be_kept(kind: &TypeKind) -> bool {
    match kind {
        TypeKind::Char(_)
        | TypeKind::Varchar(_)
        | TypeKind::Boolean
        | TypeKind::Binary(_)
        | TypeKind::Varbinary(_)
        | TypeKind::Decimal(..)
        | TypeKind::TinyInt
        | TypeKind::SmallInt
        | TypeKind::Int
        | TypeKind::BigInt
        | TypeKind::Float
        | TypeKind::Double
        | TypeKind::Date
        | TypeKind::Time(_)
        | TypeKind::Timestamp(_)
        | TypeKind::TimestampLtz(_) => true,
        TypeKind::YearMonth | TypeKind::DayTime | TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_) => false,
    }
}

/// INSERT INTO a versioned table.
pub(super) fn no_sink(table: &Name) -> Error {
    Error::Unsupported {
        what: format!("rows of a pipeline cannot go into {}, a versioned table", table.text),
        position: table.position,
        help: Some(format!(
            "people edit it: tidemill table insert {} .., or POST /v1/tables/{}/versions",
            table.text, table.text
        )),
    }
}

/// The first versioned table that a plan reads from end to end.
pub(super) fn scanned(plan: &LogicalPlan) -> Option<String> {
    let mut found = None;
    // The closure gives no error.
    let _ = plan.apply_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) if scan.source.is::<VersionedSource>() => {
            found = Some(scan.table_name.table().to_string());
            Ok(TreeNodeRecursion::Stop)
        }
        _ => Ok(TreeNodeRecursion::Continue),
    });
    found
}

/// `FROM t`, with a versioned table.
pub(super) fn no_source(table: &str, position: Position) -> Error {
    Error::Unsupported {
        what: format!("{table} is a versioned table: rows are looked up in it, it is not read from end to end"),
        position,
        help: Some(format!(
            "write FROM s JOIN {table} FOR SYSTEM_TIME AS OF PROCTIME() ON s.key = {table}.key; \
             tidemill table show {table} prints it"
        )),
    }
}

/// `FOR SYSTEM_TIME AS OF` after what is no versioned table and no view.
pub(super) fn no_versions(table: &str, position: Position) -> Error {
    Error::Unsupported {
        what: format!("FOR SYSTEM_TIME AS OF reads versioned tables and views, and {table} is neither"),
        position,
        help: Some(format!(
            "name a view over it: CREATE VIEW v AS SELECT key, LAST_VALUE(x) AS x FROM {table} GROUP BY key"
        )),
    }
}

/// A hint after a versioned table.
pub(super) fn no_hint(table: &str, position: Position) -> Error {
    Error::Hint {
        problem: format!("{table} is a versioned table and takes no options in a query"),
        position,
        help: Some("give them in CREATE TABLE".to_string()),
    }
}
