//! `tidemill proto`: the messages of tables, views and endpoints, and the services that carry them.

use std::io::Read as _;
use std::path::Path;

use arrow_schema::Schema;
use tidemill_base::suggest;
use tidemill_format::protobuf::Messages;
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::ColumnOrigin;

use crate::arguments::Proto;
use crate::console;
use crate::failure::Failure;
use crate::pipeline::Text;

/// Prints a table's `.proto`, or writes it with those of the services into a folder.
pub(crate) fn run(proto: &Proto) -> Result<(), Failure> {
    let messages = proto.name.as_deref().map(|name| messages(name, proto)).transpose()?;
    let Some(folder) = &proto.out else {
        return match messages {
            Some(messages) => Ok(console::put(messages.to_string().as_bytes())?),
            None => {
                Err(Failure::Usage("say which table, or where the services' files go with --out FOLDER".to_string()))
            }
        };
    };
    for (name, text) in tidemill_proto::FILES {
        write(folder, name, text)?;
    }
    messages.map_or(Ok(()), |messages| write(folder, &messages.file, &messages.to_string()))
}

/// The messages of what `name` names in a pipeline; the pipeline is read from stdin when no file is said.
fn messages(name: &str, proto: &Proto) -> Result<Messages, Failure> {
    let text = match &proto.file {
        Some(file) => Text::read(file)?,
        None => {
            let mut sql = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut sql);
            read.map_err(|error| Failure::Usage(format!("the pipeline cannot be read from stdin: {error}")))?;
            Text { name: "stdin".to_string(), sql }
        }
    };
    let pipeline = text.plan()?;
    let found = if proto.answer { answer(&pipeline, name) } else { find(&pipeline, name) };
    let Some((name, schema)) = found else { return Err(unknown(&pipeline, name, proto.answer, &text.name)) };
    Messages::of(&name, &schema).map_err(|error| Failure::plain(&error))
}

/// What has its messages under a name: a table; an endpoint's requests, which may be rows of a table; or a view.
fn find(pipeline: &Pipeline, name: &str) -> Option<(String, Schema)> {
    let endpoint = pipeline.decisions.iter().flat_map(|part| &part.endpoints).find(|endpoint| endpoint.name == name);
    if let Some(endpoint) = endpoint
        && !endpoint.recorded
    {
        return Some((name.to_string(), endpoint.request.as_ref().clone()));
    }
    let table = endpoint.map_or(name, |endpoint| &endpoint.source);
    if let Some(table) = pipeline.tables.iter().find(|known| known.name == table) {
        let physical = table.columns.iter().filter(|column| column.kind == ColumnOrigin::Physical);
        let fields = physical.map(|column| column.field.clone()).collect::<Vec<_>>();
        return Some((table.name.clone(), Schema::new(fields)));
    }
    let view = pipeline.outputs.iter().find(|output| output.name == name)?;
    Some((view.name.clone(), view.schema.as_ref().clone()))
}

/// The answers of an endpoint.
fn answer(pipeline: &Pipeline, name: &str) -> Option<(String, Schema)> {
    let endpoint = pipeline.decisions.iter().flat_map(|part| &part.endpoints).find(|endpoint| endpoint.name == name)?;
    Some((format!("{name}_answer"), endpoint.answer.as_ref().clone()))
}

fn unknown(pipeline: &Pipeline, name: &str, answers: bool, text: &str) -> Failure {
    let endpoints = pipeline.decisions.iter().flat_map(|part| &part.endpoints).map(|endpoint| &endpoint.name);
    let others = pipeline.tables.iter().map(|table| &table.name);
    let others = others.chain(pipeline.outputs.iter().map(|output| &output.name)).filter(|_| !answers);
    let names: Vec<&str> = others.chain(endpoints).map(String::as_str).collect();
    let help = match suggest::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are '{}'", names.join("', '")),
    };
    let what = if answers { "endpoint " } else { "" };
    Failure::Usage(format!("{text} declares no {what}'{name}'; {help}"))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| Failure::environment(format!("{} cannot be written: {error}", path.display())))?;
    console::say(&format!("wrote {}", path.display()));
    Ok(())
}
