//! Runs a fuzz target: `tidemill-fuzz TARGET [--seconds N] [--seed N] [--keep] [--input FILE]`.

#![allow(clippy::print_stdout)]

mod engine;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Every target by its name, which is also the name of its folder in `corpus/`.
const TARGETS: &[(&str, engine::Target)] = &[("json", targets::json::run), ("sql", targets::sql::run)];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    let name = arguments.next().with_context(|| format!("which target? one of {}", names.join(", ")))?;
    let Some((name, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        bail!("there is no target '{name}'; there are {}", names.join(", "));
    };
    let mut run = engine::Run {
        name,
        target: *target,
        folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        time: Duration::from_secs(60),
        seed: 1,
        keep: false,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => run.time = Duration::from_secs(value()?.parse().context("--seconds is a number")?),
            "--seed" => run.seed = value()?.parse().context("--seed is a number")?,
            "--keep" => run.keep = true,
            "--input" => return run.one(&PathBuf::from(value()?)),
            other => bail!("unknown argument '{other}'"),
        }
    }
    run.all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_input_passes_its_target() {
        for (name, target) in TARGETS {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let inputs = std::fs::read_dir(folder).expect("each target has a corpus");
            let kinds = inputs.map(|entry| {
                let input = std::fs::read(entry.expect("the folder can be read").path()).expect("inputs are files");
                target(&input).len()
            });
            assert!(kinds.sum::<usize>() > 0, "the corpus of {name} does something");
        }
    }
}
