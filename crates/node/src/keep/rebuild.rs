//! Fills operators that the newest snapshot knows nothing of, by running the journal's steps again through the new plan.
//!
//! After the SQL has changed some operators find their state under their fingerprints and others do not. For those the
//! whole new plan takes in what the journal still has, from its oldest step up to the snapshot's, and what they hold then
//! is theirs. Where the journal reaches back to the first step that is exactly what they would hold had the SQL always
//! been so.

use std::collections::BTreeSet;

use tidemill_circuit::Circuit;
use tidemill_circuit::keep::Blob;
use tidemill_circuit::plan::NodeId;
use tidemill_circuit::view::{ViewSpec, ViewWriter, view};
use tidemill_journal::Journal;
use tidemill_stage::Halt;

use super::recover::Again;
use super::start::{Start, title};
use crate::error::Error;
use crate::outputs::Outputs;
use crate::part::Part;

/// Fills a circuit and views from the newest snapshot, and its `fresh` nodes from the journal as far as that reaches back.
pub(crate) fn restore(
    start: &Start,
    mut again: Again,
    part: &Part,
    fresh: &BTreeSet<NodeId>,
    circuit: &mut Circuit,
    outputs: &mut Outputs,
) -> Result<(), Error> {
    let session = part.session.clone();
    let announce = move |now, seed| session.step.set(now, seed);
    let names = outputs.view_nodes.iter().zip(&outputs.views).map(|(node, view)| {
        let output = part.outputs.iter().find(|output| output.node == *node);
        (output.map_or(String::new(), |output| output.name.clone()), view.spec().clone())
    });
    let names: Vec<(String, ViewSpec)> = names.collect();
    let rebuilt = rebuild(&mut again, &start.folder.journal, &announce, &names, circuit.lanes());
    let say = |what: &str| {
        for node in fresh {
            tracing::warn!(operator = %title(&part.plan, *node), "{what}");
        }
    };
    match rebuilt {
        Ok(mut rebuilt) if rebuilt.first.is_some() => {
            if rebuilt.first != Some(1) {
                say("Its state is rebuilt from what the journal still has, which is not everything.");
            }
            let blobs = rebuilt.blobs(&start.blobs())?;
            start.restore(&blobs, circuit, &mut outputs.views, &outputs.view_nodes)?;
            rebuilt.give(fresh, circuit, &mut outputs.views, &outputs.view_nodes)
        }
        ended => {
            if let Err(error) = ended {
                tracing::warn!(%error, "The journal's steps cannot be run through the changed SQL.");
            }
            say("Its state is not kept, and cannot be rebuilt: it starts empty.");
            start.restore(&start.blobs(), circuit, &mut outputs.views, &outputs.view_nodes)
        }
    }
}

/// What was rebuilt.
struct Rebuilt {
    /// The circuit after the snapshot's step, filled from what the journal has.
    circuit: Circuit,
    /// The views with it, in their order.
    views: Vec<ViewWriter>,
    /// The first step that was run; none when the journal had none.
    first: Option<u64>,
}

/// Runs the journal's steps through the new plan.
fn rebuild(
    again: &mut Again,
    journal: &Journal,
    announce: &dyn Fn(i64, u64),
    outputs: &[(String, ViewSpec)],
    lanes: usize,
) -> Result<Rebuilt, Error> {
    let mut circuit = (again.make)(lanes)?;
    let mut views = Vec::new();
    for (_, spec) in outputs {
        views.push(view(spec.clone())?.0);
    }
    let mut first = None;
    let ran = again.run(journal, &mut circuit, announce, &mut |output, _| {
        let step = output.header.step;
        first.get_or_insert(step);
        for rows in output.outputs {
            if let Some(index) = outputs.iter().position(|(name, _)| *name == rows.name) {
                views[index].apply(step, &rows.deltas).map_err(Error::View)?;
            }
        }
        Ok(())
    });
    match ran {
        Ok(()) => Ok(Rebuilt { circuit, views, first }),
        Err(Halt::Failed(error)) => Err(Error::Keep(format!("the journal's steps do not go through it: {error}"))),
        Err(Halt::Stopped) => Err(Error::Keep("it was stopped".to_string())),
    }
}

impl Rebuilt {
    /// The blobs of a save, with those of `known` in place of this one's where both have one.
    fn blobs(&mut self, known: &[Blob]) -> Result<Vec<Blob>, Error> {
        let names: BTreeSet<&str> = known.iter().map(|blob| blob.name.as_str()).collect();
        let start = self.circuit.begin_save(true)?;
        let more = start.blobs.into_iter().filter(|blob| !names.contains(blob.name.as_str()));
        Ok(known.iter().cloned().chain(more).collect())
    }

    /// Gives the rows of `fresh` nodes to a circuit and views; [`Rebuilt::blobs`] was called before.
    fn give(
        mut self,
        fresh: &BTreeSet<NodeId>,
        circuit: &mut Circuit,
        views: &mut [ViewWriter],
        view_nodes: &[NodeId],
    ) -> Result<(), Error> {
        let prints: BTreeSet<u64> = fresh.iter().map(|node| circuit.fingerprints()[*node]).collect();
        loop {
            let slice = self.circuit.save_slice(usize::MAX)?;
            for chunk in slice.chunks {
                if let (true, Some(rows)) = (prints.contains(&chunk.id.operator), chunk.rows) {
                    circuit.restore_chunk(chunk.id, &rows)?;
                }
            }
            if slice.done {
                break;
            }
        }
        let step = self.circuit.steps();
        for ((from, to), node) in self.views.iter_mut().zip(views).zip(view_nodes) {
            if !fresh.contains(node) {
                continue;
            }
            let mut save = from.begin_save(true, circuit.fingerprints()[*node]);
            while let Some(chunk) = save.next_chunk()? {
                if let Some(rows) = chunk.rows {
                    to.restore_chunk(step, &rows)?;
                }
            }
        }
        Ok(())
    }
}
