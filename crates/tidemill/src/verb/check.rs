//! `tidemill check`: can a pipeline file be run?

use crate::arguments::Check;
use crate::console;
use crate::failure::Failure;
use crate::pipeline::Text;

/// Plans the file and understands every option, and opens nothing.
pub(crate) fn run(check: &Check) -> Result<(), Failure> {
    let text = Text::read(&check.file)?;
    let pipeline = text.plan()?;
    tidemill_node::check(&pipeline).map_err(|error| text.failure(&error))?;
    text.warn(&pipeline.warnings);
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    console::say(&format!(
        "{}: {}, {}, {}",
        text.name,
        count(pipeline.tables.len(), "table"),
        count(pipeline.outputs.len(), "output"),
        count(pipeline.plan.nodes.len(), "operator"),
    ));
    Ok(())
}
