//! A small fuzzing engine for stable Rust: seeded mutations of a pool of inputs, which grows by every input that made the
//! target do something new. "New" is what the target says it did, not which branches ran.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidemill_base::hash;
use tidemill_base::rand::Rng;
use tidemill_base::time::Stopwatch;

/// What is fuzzed.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Checks what must hold for any input, panics when it does not, and names each thing that the input made it do.
    pub run: fn(&[u8]) -> Vec<String>,
    /// Inputs as the project itself makes them, besides those in the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// The longest input that is made.
pub const INPUT_BYTES_MAX: usize = 8_192;

/// The most inputs in the pool.
const POOL_MAX: usize = 4_096;

/// An input that takes longer is a finding; without optimisation everything takes longer.
const SLOW: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 1 });

/// One run of a target.
pub struct Run {
    /// The target.
    pub target: &'static Target,
    /// Where `corpus/` and `crashes/` are.
    pub folder: PathBuf,
    /// How long to run.
    pub time: Duration,
    /// What the random choices depend on.
    pub seed: u64,
    /// Whether inputs that did something new are written to the corpus.
    pub keep: bool,
}

impl Run {
    /// Runs the target on one file.
    pub fn one(&self, path: &Path) -> Result<()> {
        let input = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for behaviour in (self.target.run)(&input) {
            println!("{behaviour}");
        }
        Ok(())
    }

    /// Runs the target on the corpus, then on mutations of it until the time is over.
    pub fn all(&self) -> Result<()> {
        let (mut pool, mut seen) = (Vec::new(), HashSet::new());
        let seeds = (self.target.seeds)();
        for input in self.corpus()?.into_iter().chain(seeds) {
            seen.extend(self.try_input(&input)?);
            pool.push(input);
        }
        let (kept, mut tried) = (pool.len(), 0_u64);
        let mut rng = Rng::seeded(self.seed);
        let started = Stopwatch::start();
        while started.elapsed() < self.time {
            let input = mutate(&mut rng, &pool);
            tried += 1;
            let behaviours = self.try_input(&input)?;
            let known = seen.len();
            seen.extend(behaviours);
            if seen.len() > known {
                if self.keep {
                    let path = self.folder.join("corpus").join(self.target.name).join(file_name(&input));
                    fs::write(&path, &input).with_context(|| format!("cannot write {}", path.display()))?;
                }
                if pool.len() < POOL_MAX {
                    pool.push(input);
                }
            }
        }
        println!(
            "{}: {tried} inputs from {kept} kept and made ones, {} behaviours, no finding (seed {})",
            self.target.name,
            seen.len(),
            self.seed
        );
        Ok(())
    }

    fn corpus(&self) -> Result<Vec<Vec<u8>>> {
        let folder = self.folder.join("corpus").join(self.target.name);
        fs::create_dir_all(&folder)?;
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        // By name, so that a seed means the same run everywhere.
        paths.sort();
        let inputs = paths.iter().map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())));
        inputs.collect()
    }

    /// Runs the target; a panic or a slow input is written to a file, and ends the run.
    fn try_input(&self, input: &[u8]) -> Result<Vec<String>> {
        let started = Stopwatch::start();
        let result = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let slow = started.elapsed() > SLOW;
        match result {
            Ok(behaviours) if !slow => Ok(behaviours),
            Ok(_) => bail!("a slow input: {}", self.save(input)?.display()),
            Err(_) => bail!("a finding (the panic is above): {}", self.save(input)?.display()),
        }
    }

    fn save(&self, input: &[u8]) -> Result<PathBuf> {
        let folder = self.folder.join("crashes").join(self.target.name);
        fs::create_dir_all(&folder)?;
        let path = folder.join(file_name(input));
        fs::write(&path, input)?;
        Ok(path)
    }
}

fn file_name(input: &[u8]) -> String {
    format!("{:016x}", hash::bytes(input))
}

/// One to eight changes to one input of the pool.
fn mutate(rng: &mut Rng, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pick(rng, pool).cloned().unwrap_or_default();
    for _ in 0..=rng.below(8) {
        change(rng, pool, &mut input);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { from.get(rng.below(from.len() as u64) as usize) }
}

/// Numbers at which arithmetic and sizes go wrong.
const NUMBERS: &[u64] = &[0, 1, 2, 8, 64, 255, 4_096, 1 << 31, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX];

/// Bytes and words that mean something to parsers.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud83d",
    "\\ude00",
    "\n",
    "\r\n",
    " ",
    "'",
    "\0",
    "-",
    ".",
    "e",
    "0",
    "null",
    "true",
    "false",
    "9223372036854775807",
    "9223372036854775808",
    "1e400",
    "1e-400",
    "NaN",
    "é",
    "\u{1F600}",
    ";",
    "(",
    ")",
    "--",
    "/*",
    "*/",
    "SELECT",
    "FROM",
    "WITH",
];

fn change(rng: &mut Rng, pool: &[Vec<u8>], input: &mut Vec<u8>) {
    let length = input.len() as u64;
    let at = rng.below(length + 1) as usize;
    let end = at + rng.below((length - at as u64).min(64) + 1) as usize;
    match rng.below(9) {
        0 if at < input.len() => input[at] = rng.next_u64() as u8,
        1 if at < input.len() => input[at] ^= 1 << rng.below(8),
        2 => drop(input.drain(at..end)),
        3 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let other = pick(rng, pool).map_or(&[][..], Vec::as_slice);
            let from = rng.below(other.len() as u64 + 1) as usize;
            let to = from + rng.below((other.len() - from) as u64 + 1) as usize;
            input.splice(at..end, other[from..to].iter().copied());
        }
        5 if end < input.len() => input.swap(at, end),
        6 => {
            let number = pick(rng, NUMBERS).copied().unwrap_or_default().to_le_bytes();
            let width = (1_usize << rng.below(4)).min(input.len() - at);
            input[at..at + width].copy_from_slice(&number[..width]);
        }
        _ => {
            let token = pick(rng, TOKENS).copied().unwrap_or_default();
            input.splice(at..at, token.bytes());
        }
    }
}
