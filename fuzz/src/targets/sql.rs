//! The SQL front end: whatever the text is, it becomes a pipeline that can be explained, or an error with its place.

use tidemill_base::Explain;
use tidemill_sql::{PlanOptions, error::render, explain, plan};

/// Plans `input` as a pipeline file; returns which operators or which error came of it.
pub fn run(input: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(input);
    match plan(&text, PlanOptions::default()) {
        Ok(pipeline) => {
            assert!(explain::text(&pipeline).lines().count() >= pipeline.outputs.len(), "every output is explained");
            pipeline.plan.nodes.iter().map(|node| node.title().to_string()).collect()
        }
        Err(error) => {
            if let Some(place) = error.position() {
                let lines = text.lines().count().max(1) as u64;
                assert!((1..=lines + 1).contains(&place.line), "line {} of {lines}: {error}", place.line);
            }
            assert!(error.code() != "TM1049", "a text found a bug of ours: {error}");
            assert!(render(&error, "fuzz.sql", &text).contains(error.code()), "the code is shown");
            let words: Vec<String> = error.to_string().split_whitespace().take(4).map(str::to_string).collect();
            vec![format!("{} {}", error.code(), words.join(" "))]
        }
    }
}
