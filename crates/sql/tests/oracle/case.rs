//! One case: a query and a script, run in several ways and compared with the reference.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tidemill_base::rand::Rng;
use tidemill_sql::batch::answers;
use tidemill_sql::{Pipeline, PlanOptions, plan};

use super::choice::Choices;
use super::compare::difference;
use super::query::{Closing, Query};
use super::run::{Integral, Ran, Run, counted};
use super::script::{History, Script, Which};
use super::value;

/// A query and what arrives.
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) query: Query,
    pub(crate) script: Script,
    /// What the query was drawn from.
    pub(crate) choices: Vec<u64>,
}

/// What is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) told: String,
}

/// The ways to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text is not planned, or is and should not be.
    Plan,
    /// The reference has no answer.
    Reference,
    /// The circuit stops.
    Run,
    /// The same run twice says something else.
    Bytes,
    /// Rows are not counted that are left out, or others are.
    Sides,
    /// The integral is not the reference's.
    Rows,
    /// Something panics.
    Panic,
}

/// Streams of random numbers that are a case's own.
const QUERY: u64 = 1;
const ROWS: u64 = 2;
const STEPS: u64 = 3;

impl Case {
    /// The case of a seed.
    pub(crate) fn of(seed: u64) -> Case {
        Case::drawn(seed, Choices::random(Rng::derived(seed, QUERY, 0)))
    }

    /// The case of a seed with the query of other choices.
    pub(crate) fn drawn(seed: u64, mut choices: Choices) -> Case {
        let query = Query::draw(&mut choices);
        let script = Script::draw(&mut Rng::derived(seed, ROWS, 0), &query.tables, query.manner);
        Case { seed, query, script, choices: choices.taken() }
    }

    /// The number of rows compared, or what is wrong.
    pub(crate) fn check(&self) -> Result<u64, Failure> {
        match catch_unwind(AssertUnwindSafe(|| self.compared())) {
            Ok(result) => result,
            Err(panic) => {
                let message = panic.downcast_ref::<&str>().map(ToString::to_string);
                let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                Err(Failure { kind: Kind::Panic, told: message })
            }
        }
    }

    fn compared(&self) -> Result<u64, Failure> {
        let text = self.query.text();
        let planned = |rules| {
            plan(&text, PlanOptions { rules }).map_err(|error| failure(Kind::Plan, format!("{error} ({error:?})")))
        };
        let (optimised, plain) = (planned(true)?, planned(false)?);
        let lanes = self.script.lanes;
        let first = self.run(&optimised, lanes)?;
        let again = self.run(&optimised, lanes)?;
        if let Some(step) = (0..first.said.len()).find(|step| first.said[*step] != again.said[*step]) {
            let told = format!("step {step}: first\n{}then\n{}", first.said[step], again.said[step]);
            return Err(failure(Kind::Bytes, told));
        }
        let without = self.run(&plain, 1)?;
        let history = self.script.history(&self.query.tables, self.query.lateness - self.query.offset);
        for (ran, kind) in [(&first, "optimised"), (&without, "without rules")] {
            self.sides(ran, &history, &optimised).map_err(|told| failure(Kind::Sides, format!("{kind}: {told}")))?;
        }
        let mut compared = 0;
        for step in self.steps() {
            let expected = self.expected(step, &history, &optimised)?;
            for (kind, ran) in [("optimised", &first), ("without rules", &without)] {
                for (name, expected) in &expected {
                    let found = ran.after[step].get(name).cloned().unwrap_or_default();
                    if let Some(differing) = difference(expected, &found) {
                        let told = format!("{kind}, {lanes} lanes, after step {step}, output {name}:\n{differing}");
                        return Err(failure(Kind::Rows, told));
                    }
                }
            }
            compared += expected.values().flat_map(BTreeMap::values).sum::<i64>() as u64;
        }
        Ok(compared)
    }

    fn run(&self, pipeline: &Pipeline, lanes: usize) -> Result<Ran, Failure> {
        let run = Run { tables: &self.query.tables, script: &self.script, lanes, seed: self.seed };
        run.all(pipeline).map_err(|error| failure(Kind::Run, error.to_string()))
    }

    /// The steps after which the integral is compared: the last, and about two others.
    fn steps(&self) -> Vec<usize> {
        let last = self.script.steps.len() - 1;
        let chosen = |step: &usize| {
            *step == last || Rng::derived(self.seed, STEPS, *step as u64).chance(2, self.script.steps.len() as u64)
        };
        (0..=last).filter(chosen).collect()
    }

    /// The reference's answers after a step.
    fn expected(
        &self,
        step: usize,
        history: &History,
        pipeline: &Pipeline,
    ) -> Result<BTreeMap<String, Integral>, Failure> {
        let last = step + 1 == self.script.steps.len();
        let closed = match self.query.closing {
            _ if last => None,
            None => None,
            Some(Closing::Now) => Some(self.script.steps[step].now),
            Some(_) => history.watermarks[step].iter().copied().min(),
        };
        self.answers(&self.query.reference(closed), step, self.query.which, history, pipeline)
    }

    fn answers(
        &self,
        text: &str,
        step: usize,
        which: Which,
        history: &History,
        pipeline: &Pipeline,
    ) -> Result<BTreeMap<String, Integral>, Failure> {
        let tables = self.query.tables.iter().enumerate().map(|(index, table)| {
            let rows = history.rows(index, step, which);
            let schema = &pipeline.table(table.name).expect("the query declares its tables").schema;
            (table.name.to_string(), value::batch(schema, &rows.iter().collect::<Vec<_>>()))
        });
        let answers = answers(text, &tables.collect());
        let answers = answers.map_err(|error| failure(Kind::Reference, format!("{error} ({error:?})\n{text}")))?;
        Ok(answers.into_iter().map(|(name, batches)| (name, counted(&batches))).collect())
    }

    /// Whether what was left out was counted, handed to the side, and nothing else was.
    fn sides(&self, ran: &Ran, history: &History, pipeline: &Pipeline) -> Result<(), String> {
        let last = self.script.steps.len() - 1;
        let count = |text: Option<String>| -> Result<u64, String> {
            let Some(text) = text else { return Ok(0) };
            let answers = self.answers(&text, last, Which::Every, history, pipeline).map_err(|failed| failed.told)?;
            Ok(answers.values().flat_map(BTreeMap::values).sum::<i64>() as u64)
        };
        for (what, found, expected) in [
            ("too late", ran.late, count(self.query.late_rows())?),
            ("failing", ran.dead, count(self.query.dead_rows())?),
        ] {
            if found != (expected, expected) {
                let (counted, handed) = found;
                return Err(format!("{expected} rows are {what}; {counted} are counted, {handed} handed to the side"));
            }
        }
        Ok(())
    }

    /// The case as text: SQL, with what arrives in comments.
    pub(crate) fn told(&self, failure: &Failure) -> String {
        let mut text = format!("seed {} ({:?}): {}\n", self.seed, failure.kind, failure.told);
        text.push_str(&format!("{}\n", self.query.text()));
        let reference = self.query.reference(None);
        if reference != self.query.text() {
            let asked = reference.rsplit('\n').next().unwrap_or_default();
            text.push_str(&format!("-- reference: {asked}\n"));
        }
        text.push_str(&format!("-- {} lanes; choices {:?}\n", self.script.lanes, self.choices));
        for (index, step) in self.script.steps.iter().enumerate() {
            text.push_str(&format!("-- step {index}, now {}", super::table::wall(step.now)));
            for (word, places) in [("opens", &step.opened), ("is silent", &step.idle), ("ends", &step.ended)] {
                for (table, partition) in places {
                    text.push_str(&format!(", {}/{partition} {word}", self.query.tables[*table].name));
                }
            }
            text.push('\n');
            for event in &step.events {
                let table = self.query.tables[event.table].name;
                let (sign, cut) = (if event.weight > 0 { '+' } else { '-' }, if event.cut { '|' } else { ' ' });
                let values = serde_json::Value::Object(event.values.clone());
                text.push_str(&format!("-- {cut} {sign} {table}/{} {values}\n", event.partition));
            }
        }
        text
    }
}

fn failure(kind: Kind, told: String) -> Failure {
    Failure { kind, told }
}
