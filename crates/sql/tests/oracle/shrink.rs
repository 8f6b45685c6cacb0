//! A failing case made small: choices of its query put to 0, its events left out, its steps and lanes put together.

use super::case::{Case, Failure};
use super::choice::Choices;
use super::script::Script;

/// The most runs that are spent on one case.
const RUNS_MAX: usize = 400;

/// The smallest case found that fails in the same way.
pub(crate) fn shrunk(case: Case, failure: Failure) -> (Case, Failure) {
    let mut search = Search { case, failure, runs: 0 };
    search.query();
    search.lanes();
    search.events();
    search.steps();
    search.events();
    (search.case, search.failure)
}

struct Search {
    case: Case,
    failure: Failure,
    runs: usize,
}

impl Search {
    /// Takes a case when it fails like the last.
    fn takes(&mut self, case: Case) -> bool {
        if self.runs == RUNS_MAX {
            return false;
        }
        self.runs += 1;
        match case.check() {
            Err(failure) if failure.kind == self.failure.kind => {
                (self.case, self.failure) = (case, failure);
                true
            }
            _ => false,
        }
    }

    fn query(&mut self) {
        for place in 1..self.case.choices.len() {
            let Some(choice) = self.case.choices.get(place).copied() else { break };
            for smaller in [0, choice / 2].into_iter().filter(|smaller| *smaller < choice) {
                let mut choices = self.case.choices.clone();
                choices[place] = smaller;
                if self.takes(Case::drawn(self.case.seed, Choices::given(choices))) {
                    break;
                }
            }
        }
    }

    fn with(&mut self, script: Script) -> bool {
        let mut case = Case::drawn(self.case.seed, Choices::given(self.case.choices.clone()));
        case.script = script.sound();
        self.takes(case)
    }

    fn lanes(&mut self) {
        for lanes in 1..self.case.script.lanes {
            if self.with(Script { lanes, ..self.case.script.clone() }) {
                break;
            }
        }
    }

    /// Leaves out events: halves first, single ones last.
    fn events(&mut self) {
        let mut size = self.case.script.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.case.script.len() {
                let mut script = self.case.script.clone();
                let mut index = 0;
                for step in &mut script.steps {
                    step.events.retain(|_| {
                        index += 1;
                        !(from..from + size).contains(&(index - 1))
                    });
                }
                if !self.with(script) {
                    from += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Puts each step together with the one before.
    fn steps(&mut self) {
        let mut at = 1;
        while at < self.case.script.steps.len() {
            let mut script = self.case.script.clone();
            let step = script.steps.remove(at);
            let into = &mut script.steps[at - 1];
            into.now = step.now;
            into.events.extend(step.events);
            into.opened.extend(step.opened);
            into.idle.extend(step.idle);
            into.ended.extend(step.ended);
            if !self.with(script) {
                at += 1;
            }
        }
    }
}
