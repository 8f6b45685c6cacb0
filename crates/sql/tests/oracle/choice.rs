//! [`Choices`]: where a query is drawn from, written down, so that a smaller one can be drawn again.
//!
//! Every choice is a number below some bound, and 0 stands for the simplest. A failing case is drawn again with some of
//! its choices put to 0: that leaves out filters, calls and keys without knowing what they are.

use tidemill_base::rand::Rng;

/// Choices that are drawn, or given.
#[derive(Debug)]
pub(crate) struct Choices {
    rng: Option<Rng>,
    taken: Vec<u64>,
    at: usize,
}

impl Choices {
    /// Choices at random.
    pub(crate) fn random(rng: Rng) -> Self {
        Choices { rng: Some(rng), taken: Vec::new(), at: 0 }
    }

    /// Choices made before; what is beyond them is 0.
    pub(crate) fn given(taken: Vec<u64>) -> Self {
        Choices { rng: None, taken, at: 0 }
    }

    /// The choices that were made.
    pub(crate) fn taken(self) -> Vec<u64> {
        self.taken
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let choice = match (self.taken.get(self.at), &mut self.rng) {
            (Some(given), _) => given % bound,
            (None, Some(rng)) => rng.below(bound),
            (None, None) => 0,
        };
        if self.at == self.taken.len() {
            self.taken.push(choice);
        }
        self.at += 1;
        choice
    }

    /// True once in `of` cases; 0 is false.
    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == of - 1
    }

    /// One of these; the first is the simplest.
    pub(crate) fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}
