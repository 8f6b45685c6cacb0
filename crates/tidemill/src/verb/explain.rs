//! `tidemill explain`: what a pipeline file becomes.

use tidemill_sql::Pipeline;

use crate::arguments::{Drawing, Explain};
use crate::console;
use crate::failure::Failure;
use crate::pipeline::Text;

/// Shows the circuit.
pub(crate) fn run(explain: &Explain) -> Result<(), Failure> {
    let text = Text::read(&explain.file)?;
    let pipeline = text.plan()?;
    tidemill_node::check(&pipeline).map_err(|error| text.failure(&error))?;
    let drawing = match explain.output {
        Drawing::Text => with_deliveries(tidemill_sql::explain::text(&pipeline), &text, &pipeline)?,
        Drawing::Json => tidemill_sql::explain::json(&pipeline),
        Drawing::Mermaid => tidemill_sql::explain::mermaid(&pipeline),
    };
    console::put(format!("{}\n", drawing.trim_end()).as_bytes())?;
    Ok(())
}

/// Says of each table that is written how often a row arrives there.
fn with_deliveries(mut drawing: String, text: &Text, pipeline: &Pipeline) -> Result<String, Failure> {
    for (table, delivery) in tidemill_node::deliveries(pipeline).map_err(|error| text.failure(&error))? {
        drawing += &format!("delivers to '{table}': {delivery}, with a state folder\n");
    }
    Ok(drawing)
}
