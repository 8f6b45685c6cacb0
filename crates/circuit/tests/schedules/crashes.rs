//! A run that saves, crashes, is restored on other lanes and goes on; and the undisturbed one it is compared with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_base::rand::Rng;
use tidemill_circuit::Circuit;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::Decoders;
use tidemill_circuit::keep::digests::SaveDigests;
use tidemill_circuit::keep::{Blob, Chunk, ChunkId, Roots};
use tidemill_circuit::plan::Spec;
use tidemill_circuit::step::{StepInput, StepOutput};
use tidemill_circuit::view::{self, View, ViewSpec, ViewWriter};

use super::build::Case;
use super::input::Script;
use super::value::{self, Row};

/// Rows of each output, each as often as it is there.
pub(crate) type Integrals = BTreeMap<String, BTreeMap<Row, i64>>;

/// How a run ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) integrals: Integrals,
    pub(crate) roots: Roots,
}

/// A circuit, its views, and what they have said.
struct Running {
    circuit: Circuit,
    shape: (usize, usize),
    views: BTreeMap<String, (ViewWriter, View, u64)>,
    integrals: Integrals,
}

/// What is stored: the newest save that was stored whole.
#[derive(Clone, Default)]
struct Stored {
    steps: usize,
    /// The lanes and the slots of a chunk of the circuit that was saved.
    shape: (usize, usize),
    blobs: Vec<Blob>,
    chunks: BTreeMap<ChunkId, Vec<u8>>,
    /// What a sink that commits with the save has seen.
    integrals: Integrals,
}

/// A save that is under way.
struct Saving {
    stored: Stored,
    /// Digests what is given.
    digests: SaveDigests,
    /// The roots of what is saved, when it is to be tried out at once.
    roots: Option<Roots>,
}

impl Running {
    fn new(case: &Case, lanes: usize, chunk_slots: usize) -> Self {
        let options = Options { lanes, keep: true, chunk_slots, ..Options::default() };
        let circuit = Circuit::new(&case.plan, &Decoders::new(), options).expect("the plan is supported");
        let append_only = case.plan.append_only();
        let mut views = BTreeMap::new();
        for (id, node) in case.plan.nodes.iter().enumerate() {
            if let Spec::Output(output) = &node.spec {
                let (name, schema, key) = (output.name.clone(), node.schema.clone(), output.key.clone());
                let spec = ViewSpec { name: name.clone(), schema, key, append_only: append_only[id] };
                let (writer, view) = view::view(spec).expect("the columns can be compared");
                views.insert(name, (writer, view, circuit.fingerprints()[id]));
            }
        }
        Running { circuit, shape: (lanes, chunk_slots), views, integrals: Integrals::new() }
    }

    fn restored(case: &Case, (lanes, chunk_slots): (usize, usize), stored: &Stored, rng: &mut Rng) -> Self {
        let mut running = Running::new(case, lanes, chunk_slots);
        let restored = running.circuit.restore(&stored.blobs).expect("the blobs are whole");
        assert!(restored.fresh.is_empty() && restored.dropped.is_empty(), "the plan is the same: {restored:?}");
        let mut chunks: Vec<(ChunkId, Bytes)> =
            stored.chunks.iter().map(|(id, rows)| (*id, Bytes::copy_from_slice(rows))).collect();
        if rng.chance(1, 2) {
            (1..chunks.len()).for_each(|at| chunks.swap(at, rng.below(at as u64 + 1) as usize));
        }
        let in_place = rng.chance(1, 2);
        let known = running.circuit.restore_chunks(&chunks).unwrap_or_else(|error| panic!("{error}"));
        for ((id, rows), known) in chunks.iter().zip(known) {
            let view = running.views.values_mut().find(|(_, _, print)| *print == id.operator);
            assert!(known ^ view.is_some(), "a chunk is an operator's or a view's");
            if let Some((writer, _, _)) = view {
                let done = match in_place {
                    true => writer.restore_stored(restored.step, *id, rows),
                    false => writer.restore_chunk(restored.step, rows),
                };
                done.expect("the rows are whole");
            }
        }
        running.views.values_mut().filter(|_| in_place).for_each(|(writer, _, _)| assert!(writer.resume_saves()));
        if rng.chance(3, 4) {
            let resumed = running.circuit.resume_saves();
            assert_eq!(
                resumed,
                stored.shape == (lanes, chunk_slots),
                "what is stored goes on where it has the same shape"
            );
        }
        running.integrals = stored.integrals.clone();
        running
    }

    fn step(&mut self, input: StepInput) {
        let output: StepOutput = self.circuit.step(input).unwrap_or_else(|error| panic!("{error}"));
        let step = output.header.step;
        for (name, (writer, _, _)) in &mut self.views {
            match output.outputs.iter().find(|output| output.name == *name) {
                Some(output) => writer.apply(step, &output.deltas).unwrap_or_else(|error| panic!("{error}")),
                None => writer.pass(step),
            }
        }
        for output in &output.outputs {
            let integral = self.integrals.entry(output.name.clone()).or_default();
            for delta in &output.deltas {
                for (row, values) in value::rows(delta.batch()).into_iter().enumerate() {
                    *integral.entry(values).or_default() += delta.weight(row);
                }
            }
            integral.retain(|_, weight| *weight != 0);
        }
        self.integrals.retain(|_, integral| !integral.is_empty());
    }

    /// The views hold what was said.
    fn check_views(&self) {
        for (name, (_, view, _)) in &self.views {
            let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
            for batch in view.scan().expect("rows can be gathered").batches {
                value::rows(&batch).into_iter().for_each(|row| *rows.entry(row).or_default() += 1);
            }
            assert_eq!(&rows, self.integrals.get(name).unwrap_or(&BTreeMap::new()), "view {name}");
        }
    }

    /// Begins a save on top of what is stored.
    fn begin_save(&mut self, full: bool, steps: usize, before: &Stored, tried: bool) -> Saving {
        let roots = tried.then(|| self.circuit.roots().expect("state is kept"));
        let start = self.circuit.begin_save(full).expect("state is kept");
        let (shape, integrals) = (self.shape, self.integrals.clone());
        let mut stored = Stored { steps, shape, blobs: start.blobs, integrals, ..before.clone() };
        if start.full {
            stored.chunks.retain(|id, _| self.views.values().any(|(_, _, print)| *print == id.operator));
        }
        for (writer, _, print) in self.views.values_mut() {
            let mut save = writer.begin_save(full, *print);
            if save.is_full() {
                stored.chunks.retain(|id, _| id.operator != *print);
            }
            while let Some(chunk) = save.next_chunk().expect("values can be written") {
                put(&mut stored, chunk);
            }
        }
        Saving { stored, digests: start.digests, roots }
    }

    fn end_save(&mut self, stored: bool) {
        self.circuit.end_save(stored);
        self.views.values_mut().for_each(|(writer, _, _)| writer.end_save(stored));
    }
}

fn put(stored: &mut Stored, chunk: Chunk) {
    match chunk.rows {
        Some(rows) => drop(stored.chunks.insert(chunk.id, rows)),
        None => drop(stored.chunks.remove(&chunk.id)),
    }
}

/// One lane, no save, no crash.
pub(crate) fn undisturbed(case: &Case, script: &Script) -> Outcome {
    let mut running = Running::new(case, 1, 4_096);
    script.steps().into_iter().for_each(|step| running.step(step));
    running.check_views();
    Outcome { roots: running.circuit.roots().expect("state is kept"), integrals: running.integrals }
}

/// Random lanes, steps, saves and crashes.
pub(crate) fn disturbed(case: &Case, script: &Script, rng: &mut Rng) -> Outcome {
    // What is forgotten and what is found may depend on when steps run, so that those must stay as they are.
    let cuts = case.cuts;
    let mut script = if cuts { script.recut(rng) } else { script.clone() };
    let lanes = |rng: &mut Rng| 1 + rng.below(4) as usize;
    let chunk_slots = |rng: &mut Rng| [1, 2, 5, 64, 4_096][rng.below(5) as usize];
    let shape = |rng: &mut Rng| (lanes(rng), chunk_slots(rng));
    let again = |rng: &mut Rng, stored: &Stored| if rng.chance(1, 2) { stored.shape } else { shape(rng) };
    let mut running = Running::new(case, lanes(rng), chunk_slots(rng));
    let (mut stored, mut saving): (Stored, Option<Saving>) = (Stored::default(), None);
    let (mut crashes, mut done) = (rng.below(4), 0);
    let hashing = rng.chance(1, 2);
    while done < script.count() {
        if let Some(mut under_way) = saving.take() {
            let slice = running.circuit.save_slice(1 + rng.below(400) as usize).expect("a save is under way");
            slice.chunks.iter().for_each(|chunk| under_way.digests.put(chunk));
            for chunk in slice.chunks {
                // Rows come back from either form.
                let rows = if rng.chance(1, 3) { chunk.rows } else { chunk.stored().map(Cow::into_owned) };
                put(&mut under_way.stored, Chunk { id: chunk.id, rows });
            }
            if slice.done {
                if let Some(roots) = under_way.roots {
                    assert_eq!(under_way.digests.roots(), roots, "what was given digests to what was there");
                    let mut other = Running::restored(case, again(rng, &under_way.stored), &under_way.stored, rng);
                    assert_eq!(
                        other.circuit.roots().expect("state is kept"),
                        roots,
                        "what was saved is what was there\n{}",
                        case.describe()
                    );
                }
                let kept = rng.chance(4, 5);
                running.end_save(kept);
                if kept {
                    stored = under_way.stored;
                }
            } else {
                saving = Some(under_way);
            }
        } else if rng.chance(1, 3) {
            saving = Some(running.begin_save(rng.chance(1, 6), done, &stored, rng.chance(1, 3)));
        }
        if crashes > 0 && rng.chance(1, 6) {
            crashes -= 1;
            running = match stored.blobs.is_empty() {
                true => Running::new(case, lanes(rng), chunk_slots(rng)),
                false => Running::restored(case, again(rng, &stored), &stored, rng),
            };
            (saving, done) = (None, stored.steps);
            running.check_views();
            if cuts {
                script = script.recut_after(done, rng);
            }
            continue;
        }
        // A save may take its slices without a step between.
        if saving.is_some() && rng.chance(1, 3) {
            continue;
        }
        running.step(script.steps().swap_remove(done));
        done += 1;
        if hashing && rng.chance(1, 3) {
            running.circuit.roots().expect("state is kept");
        }
    }
    running.check_views();
    Outcome { roots: running.circuit.roots().expect("state is kept"), integrals: running.integrals }
}
