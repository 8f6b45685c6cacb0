//! [`Session`]: the definitions so far, and what becomes of the next statement.

use tidemill_base::{Explain, Kind, Position};
use tidemill_sql::pipeline::ColumnOrigin;
use tidemill_sql::statement::{self, Body};
use tidemill_sql::{Pipeline, PlanOptions};

use crate::failure::Failure;
use crate::pipeline::Text;

/// What the shell was told so far.
#[derive(Debug, Default)]
pub(crate) struct Session {
    definitions: Vec<Definition>,
}

/// A definition that is remembered.
#[derive(Debug, Clone)]
struct Definition {
    kind: &'static str,
    name: String,
    sql: String,
}

/// What becomes of a statement.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It is remembered; a word about it.
    Defined(String),
    /// It is to be run.
    Run(Text, Box<Pipeline>),
}

impl Session {
    /// Takes a statement, which ends in a semicolon.
    pub(crate) fn take(&mut self, sql: &str) -> Result<Reply, Failure> {
        let parsed = statement::parse(sql).map_err(|error| Failure::explained(&error, "shell", sql))?;
        let mut reply = Reply::Defined(String::new());
        for one in parsed {
            reply = match definition(&one.body) {
                Some((kind, name)) => {
                    let text = format!("{};", one.text);
                    self.plan(&text)?;
                    self.definitions.push(Definition { kind, name: name.clone(), sql: text });
                    Reply::Defined(match kind {
                        "setting" => format!("set {name}"),
                        "" => format!("dropped {name}"),
                        kind => format!("{kind} {name}"),
                    })
                }
                None => {
                    let (text, pipeline) = self.plan(&format!("{};", one.text))?;
                    Reply::Run(text, Box::new(pipeline))
                }
            };
        }
        Ok(reply)
    }

    /// Plans a statement behind all definitions. Its errors tell places in the statement itself.
    fn plan(&self, sql: &str) -> Result<(Text, Pipeline), Failure> {
        let mut whole: String = self.definitions.iter().map(|definition| format!("{}\n", definition.sql)).collect();
        let before = whole.lines().count() as u64;
        whole.push_str(sql);
        let pipeline = tidemill_sql::plan(&whole, PlanOptions::default()).map_err(|error| {
            let moved = Moved { lines: before, error };
            match moved.position() {
                Some(_) => Failure::explained(&moved, "shell", sql),
                None => Failure::explained(&moved.error, "shell", &whole),
            }
        })?;
        tidemill_node::check(&pipeline).map_err(|error| Failure::explained(&error, "shell", &whole))?;
        Ok((Text { name: "shell".to_string(), sql: whole }, pipeline))
    }

    /// All names that were defined, each with its kind, in the order of their names.
    pub(crate) fn names(&self) -> Vec<(&'static str, String)> {
        let mut names: Vec<(&'static str, String)> = Vec::new();
        for Definition { kind, name, .. } in &self.definitions {
            match *kind {
                "setting" => {}
                "" => names.retain(|(_, known)| known != name),
                kind => names.push((kind, name.clone())),
            }
        }
        names.sort_by(|a, b| a.1.cmp(&b.1));
        names
    }

    /// The columns of a table or view: name, type, and where the value comes from.
    pub(crate) fn columns(&self, name: &str) -> Result<Vec<(String, String, String)>, Failure> {
        let known = self.names();
        let Some((kind, _)) = known.iter().find(|(_, known)| known == name) else {
            let near = tidemill_base::suggest::nearest(name, known.iter().map(|(_, name)| name.as_str()));
            let help = near.map(|near| format!("\nhelp: did you mean {near}?")).unwrap_or_default();
            let text = format!("error: there is no table or view {name}{help}\n");
            return Err(Failure::Shown { text, kind: Kind::Config });
        };
        let (_, pipeline) = self.plan(&format!("SELECT * FROM `{name}`;"))?;
        if let (&"table", Some(table)) = (kind, pipeline.table(name)) {
            return Ok(table
                .columns
                .iter()
                .map(|column| {
                    let origin = match &column.kind {
                        ColumnOrigin::Physical => String::new(),
                        ColumnOrigin::Metadata { key, .. } => format!("METADATA FROM '{key}'"),
                        ColumnOrigin::Computed(expression) => format!("AS {expression}"),
                    };
                    (column.field.name().clone(), tidemill_format::sql_name(column.field.data_type()), origin)
                })
                .collect());
        }
        let schema = pipeline.selects.first().map(|select| select.schema.clone());
        let fields = schema.iter().flat_map(|schema| schema.fields().iter());
        Ok(fields
            .map(|field| (field.name().clone(), tidemill_format::sql_name(field.data_type()), String::new()))
            .collect())
    }
}

/// The kind and the name of what a statement defines, when it does.
fn definition(body: &Body) -> Option<(&'static str, String)> {
    Some(match body {
        Body::CreateTable(create) => ("table", create.name.text.clone()),
        Body::CreateView(create) => ("view", create.name.text.clone()),
        Body::CreateMaterializedView(create) => ("materialized view", create.name.text.clone()),
        Body::CreateIndex(create) => ("index", create.name.text.clone()),
        Body::CreateFunction(create) => ("function", create.name.text.clone()),
        Body::Drop(drop) => ("", drop.name.text.clone()),
        Body::Set(setting) => ("setting", setting.key.clone()),
        _ => return None,
    })
}

/// An error whose place is counted from a later line.
#[derive(Debug)]
struct Moved {
    lines: u64,
    error: tidemill_sql::Error,
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Moved {}

impl Explain for Moved {
    fn code(&self) -> &'static str {
        self.error.code()
    }

    fn kind(&self) -> Kind {
        self.error.kind()
    }

    fn help(&self) -> Option<String> {
        self.error.help()
    }

    /// The place in the statement; none when it is in a definition before it.
    fn position(&self) -> Option<Position> {
        let Position { line, column } = self.error.position()?;
        let line = line.checked_sub(self.lines).filter(|line| *line > 0)?;
        Some(Position { line, column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = "CREATE TABLE orders (id BIGINT, price DECIMAL(10, 2), twice AS id * 2)\n\
                          WITH ('connector' = 'datagen', 'number-of-rows' = '3');";

    #[test]
    fn remembers_definitions() {
        let mut session = Session::default();
        assert!(matches!(session.take(ORDERS), Ok(Reply::Defined(text)) if text == "table orders"));
        assert!(matches!(session.take("CREATE VIEW v AS SELECT id FROM orders;"), Ok(Reply::Defined(_))));
        let Ok(Reply::Run(_, pipeline)) = session.take("SELECT id FROM v;") else { panic!("a SELECT is run") };
        assert_eq!(pipeline.selects.len(), 1);
        assert_eq!(session.names(), [("table", "orders".to_string()), ("view", "v".to_string())]);
        assert!(matches!(session.take("DROP VIEW v;"), Ok(Reply::Defined(text)) if text == "dropped v"));
        assert_eq!(session.names(), [("table", "orders".to_string())]);
    }

    #[test]
    fn describes_columns() {
        let mut session = Session::default();
        session.take(ORDERS).expect("a good table");
        let columns = session.columns("orders").expect("it is there");
        assert_eq!(columns[1], ("price".to_string(), "DECIMAL(10, 2)".to_string(), String::new()));
        assert!(columns[2].2.starts_with("AS "), "{columns:?}");
        let Err(Failure::Shown { text, .. }) = session.columns("order") else { panic!("there is none") };
        assert!(text.contains("did you mean orders?"), "{text}");
    }

    #[test]
    fn errors_tell_places_in_the_statement() {
        let mut session = Session::default();
        session.take(ORDERS).expect("a good table");
        let Err(Failure::Shown { text, .. }) = session.take("SELECT id,\n  prise FROM orders;") else {
            panic!("there is no such column")
        };
        assert!(text.contains("shell:2:3"), "{text}");
        assert!(session.take("CREATE TABLE t (a BIGINT) WITH ('connector' = 'datagenn');").is_err());
        assert_eq!(session.names().len(), 1, "what is refused is not remembered");
    }
}
