//! Random histories of an instance against a plain map of numbers to content.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use proptest::prelude::*;
use tidemill_state::Error;
use tidemill_state::gc::Boundary;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::Manifest;
use tidemill_state::store::Memory;
use tidemill_state::store::memory::Failure;

#[derive(Debug, Clone)]
enum Action {
    /// Changes and a snapshot; cut off at an operation of the store, or not.
    Save(Vec<Change>, Option<(u64, bool)>),
    /// A rollback to one of the snapshots.
    Rollback(prop::sample::Index, Option<(u64, bool)>),
    /// A collection that keeps so many.
    Collect(usize, Option<(u64, bool)>),
    /// Names one of the snapshots.
    Savepoint(prop::sample::Index),
    /// Drops one of the names.
    Drop(prop::sample::Index),
    /// Forgets what is in memory and reads the newest.
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let bytes = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..300));
    let changes = prop::collection::vec((0_u32..20, bytes), 0..8);
    let cut = || prop::option::weighted(0.3, (0_u64..25, any::<bool>()));
    prop_oneof![
        6 => (changes, cut()).prop_map(|(changes, cut)| Action::Save(changes, cut)),
        1 => (any::<prop::sample::Index>(), cut()).prop_map(|(target, cut)| Action::Rollback(target, cut)),
        2 => (1_usize..4, cut()).prop_map(|(keep, cut)| Action::Collect(keep, cut)),
        1 => any::<prop::sample::Index>().prop_map(Action::Savepoint),
        1 => any::<prop::sample::Index>().prop_map(Action::Drop),
        1 => Just(Action::Restart),
    ]
}

/// The instance, and what should be in it.
struct Pair {
    instance: Instance,
    memory: Memory,
    head: Option<Manifest>,
    lamport: u64,
    /// Content by number; what was collected may be gone, what was kept may not.
    contents: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
}

impl Pair {
    fn new() -> Self {
        let (instance, memory) = instance();
        Pair { instance, memory, head: None, lamport: 0, contents: BTreeMap::new(), names: BTreeMap::new() }
    }

    fn content(&self) -> Content {
        self.head.as_ref().map(|head| self.contents[&head.sequence].clone()).unwrap_or_default()
    }

    fn act(&mut self, action: Action) {
        self.lamport += 1;
        match action {
            Action::Save(changes, cut) => self.save(changes, cut),
            Action::Rollback(target, cut) => self.rollback(target, cut),
            Action::Collect(keep, cut) => self.collect(keep, cut),
            Action::Savepoint(target) => {
                let alive = self.instance.sequences().expect("listed");
                if !alive.is_empty() {
                    let (name, target) = (format!("s{}", self.lamport), *target.get(&alive));
                    self.instance.savepoint(&name, target, 0).expect("named");
                    self.names.insert(name, target);
                }
            }
            Action::Drop(index) => {
                if !self.names.is_empty() {
                    let name = index.get(&self.names.keys().cloned().collect::<Vec<_>>()).clone();
                    self.instance.drop_savepoint(&name).expect("dropped");
                    self.names.remove(&name);
                }
            }
            Action::Restart => self.head = self.instance.newest().expect("read"),
        }
    }

    /// Does something with a cut or without.
    fn cut<T>(&mut self, cut: Option<(u64, bool)>, work: impl FnOnce(&Instance) -> Result<T, Error>) -> Option<T> {
        if let Some((at, done)) = cut {
            self.memory.fail_after(at, if done { Failure::Done } else { Failure::Undone });
        }
        let result = work(&self.instance);
        self.memory.heal();
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(cut.is_some(), "{error}");
                None
            }
        }
    }

    /// What is the newest after a number was tried: the new content if it is there, and it must be if it was said so.
    fn decide(&mut self, sequence: u64, content: Content, made: Option<Manifest>) {
        let newest = self.instance.newest().expect("read");
        let decided = newest.as_ref().is_some_and(|newest| newest.sequence == sequence);
        assert!(decided || made.is_none());
        if decided {
            self.contents.insert(sequence, content);
        } else {
            assert_eq!(newest, self.head);
        }
        self.head = newest;
    }

    fn save(&mut self, changes: Vec<Change>, cut: Option<(u64, bool)>) {
        let (head, lamport) = (self.head.clone(), self.lamport);
        let made = self.cut(cut, |instance| {
            let mut writer = instance.begin(head.as_ref())?;
            for (chunk, change) in &changes {
                match change {
                    Some(bytes) => writer.chunk(id(*chunk), bytes)?,
                    None => writer.remove(id(*chunk)),
                }
            }
            writer.commit(meta(lamport))
        });
        let mut content = self.content();
        apply(&mut content, &changes);
        self.decide(self.head.as_ref().map_or(0, |head| head.sequence) + 1, content, made);
    }

    fn rollback(&mut self, target: prop::sample::Index, cut: Option<(u64, bool)>) {
        let Some(head) = &self.head else { return };
        let (sequence, alive) = (head.sequence + 1, self.instance.sequences().expect("listed"));
        let (target, lamport) = (*target.get(&alive), self.lamport);
        let made = self.cut(cut, |instance| instance.rollback(target, by(lamport), false));
        self.decide(sequence, self.contents[&target].clone(), made);
    }

    fn collect(&mut self, keep: usize, cut: Option<(u64, bool)>) {
        let before = self.instance.sequences().expect("listed");
        // What was given up once and kept by its name only is gone with its name.
        let below = Boundary::newest(&self.instance).expect("read").map_or(0, |boundary| boundary.below);
        let done = self.cut(cut, |instance| instance.collect(keep)).is_some();
        let after: BTreeSet<u64> = self.instance.sequences().expect("listed").into_iter().collect();
        let newest = before.iter().rev().copied().filter(|sequence| *sequence >= below).take(keep);
        let kept: BTreeSet<u64> =
            newest.chain(self.names.values().copied()).filter(|one| before.contains(one)).collect();
        assert!(after.is_superset(&kept), "{kept:?} of {before:?} must stay, {after:?} did");
        if done {
            // A rollback that was cut off may hold one more until the next number is decided.
            assert!(after.len() <= kept.len() + 3 * keep, "{kept:?} of {before:?} should stay, {after:?} did");
        }
    }

    /// The newest is what it should be.
    fn check_newest(&self) {
        assert_eq!(self.instance.newest().expect("read"), self.head);
        if let Some(head) = &self.head {
            assert_eq!(content(&self.instance, head).expect("read"), self.content());
        }
    }

    /// All that is there is what it should be, and what should be there is.
    fn check_all(&self) {
        for (sequence, manifest) in self.instance.snapshots().expect("listed") {
            let manifest = manifest.expect("read");
            assert_eq!(content(&self.instance, &manifest).expect("read"), self.contents[&sequence], "{sequence}");
        }
        for target in self.names.values() {
            self.instance.manifest(*target).expect("what has a name is there");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_instance_is_a_map_of_numbers_to_content(actions in prop::collection::vec(action(), 1..40)) {
        let mut pair = Pair::new();
        for action in actions {
            let all = matches!(action, Action::Collect(..));
            pair.act(action);
            pair.check_newest();
            if all {
                pair.check_all();
            }
        }
        pair.check_all();
    }
}
