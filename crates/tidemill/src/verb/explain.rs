//! `tidemill explain`: what a pipeline file becomes.

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
        Drawing::Text => tidemill_sql::explain::text(&pipeline),
        Drawing::Json => tidemill_sql::explain::json(&pipeline),
        Drawing::Mermaid => tidemill_sql::explain::mermaid(&pipeline),
    };
    console::put(format!("{}\n", drawing.trim_end()).as_bytes())?;
    Ok(())
}
