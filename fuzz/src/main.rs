//! Runs a fuzz target: `tidemill-fuzz TARGET [--seconds N] [--seed N] [--keep] [--input FILE]`.

#![allow(clippy::print_stdout)]

mod engine;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use engine::Target;

/// Every target; its name is also the name of its folder in `corpus/`.
const TARGETS: &[Target] = &[
    Target { name: "boundary", run: targets::boundary::run, seeds: targets::boundary::seeds },
    Target { name: "circuit", run: targets::circuit::run, seeds: targets::circuit::seeds },
    Target { name: "http", run: targets::http::run, seeds: targets::http::seeds },
    Target { name: "json", run: targets::json::run, seeds: Vec::new },
    Target { name: "line", run: targets::line::run, seeds: targets::line::seeds },
    Target { name: "manifest", run: targets::manifest::run, seeds: targets::manifest::seeds },
    Target { name: "pack", run: targets::pack::run, seeds: targets::pack::seeds },
    Target { name: "protobuf", run: targets::protobuf::run, seeds: targets::protobuf::seeds },
    Target { name: "ring", run: targets::ring::run, seeds: targets::ring::seeds },
    Target { name: "segment", run: targets::segment::run, seeds: targets::segment::seeds },
    Target { name: "sql", run: targets::sql::run, seeds: Vec::new },
    Target { name: "table", run: targets::table::run, seeds: targets::table::seeds },
    Target { name: "trie", run: targets::trie::run, seeds: targets::trie::seeds },
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    let name = arguments.next().with_context(|| format!("which target? one of {}", names.join(", ")))?;
    let Some(target) = TARGETS.iter().find(|known| known.name == name) else {
        bail!("there is no target '{name}'; there are {}", names.join(", "));
    };
    let mut run = engine::Run {
        target,
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
        for target in TARGETS {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
            let inputs = std::fs::read_dir(folder).expect("each target has a corpus");
            let kinds = inputs.map(|entry| {
                let input = std::fs::read(entry.expect("the folder can be read").path()).expect("inputs are files");
                (target.run)(&input).len()
            });
            assert!(kinds.sum::<usize>() > 0, "the corpus of {} does something", target.name);
        }
    }

    #[test]
    fn what_the_crates_write_passes_its_target() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                assert!(!(target.run)(&seed).is_empty(), "a seed of {} does something", target.name);
                assert!(seed.len() <= engine::INPUT_BYTES_MAX, "{} has a seed of {} bytes", target.name, seed.len());
            }
        }
    }
}
