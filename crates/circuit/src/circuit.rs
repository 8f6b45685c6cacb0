//! [`Circuit`]: a plan that runs, one step at a time.
//!
//! A step is: decode the blocks, mark suspects, then phase by phase run every lane's tasks, exchanging rows between
//! phases. Everything that crosses lanes is put in the order (exchange, sending lane, chunk), so one input cut into the
//! same steps over the same lanes gives the same bytes, whichever thread was faster.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_base::{Position, Timestamp};

use crate::decode::{Block, Decoders};
use crate::delta::Delta;
use crate::error::Error;
use crate::fingerprint::fingerprints;
use crate::graph::{Graph, Input, Lowering, Placement, Task};
use crate::keep::{CHUNK_SLOTS, PartitionPosition, SourcePosition};
use crate::lane::{Intake, Job, Lane, Layout, Piece};
use crate::lookup::LookupTable;
use crate::operator::{Context, KeySize, Operator, Output, Sides, StateSize};
use crate::operators;
use crate::plan::{Node, NodeId, Plan, SourceSpec, Spec};
use crate::pool::Pool;
use crate::step::{
    BlockRange, OutputDigest, OutputRows, SourceInput, SourceRange, StepHeader, StepInput, StepLog, StepOutput,
    StepTrailer,
};
use crate::watermark::Tracker;

mod save;

use save::Keeping;

/// Steps of fewer records than this are run by one thread, lane after lane: waking others would cost more.
const PARALLEL_RECORDS_MIN: u64 = 256;

/// The digest of no rows.
const NO_DIGEST: &str = "00000000000000000000000000000000";

/// How a circuit runs.
pub struct Options {
    /// Threads that decode and step, at least 1.
    pub lanes: usize,
    /// The seed of RAND and UUID.
    pub seed: u64,
    /// Which side rows are collected.
    pub sides: Sides,
    /// Whether trailers carry digests of the outputs.
    pub digests: bool,
    /// Whether changes of state are noted, so that it can be saved and digested ([`crate::keep`]).
    pub keep: bool,
    /// The slots of a chunk of state: what is saved as a whole when one row of it has changed.
    pub chunk_slots: usize,
    /// Where headers and trailers go.
    pub log: Option<Box<dyn StepLog>>,
}

impl Default for Options {
    fn default() -> Self {
        let sides = Sides::default();
        Options { lanes: 1, seed: 0, sides, digests: false, keep: false, chunk_slots: CHUNK_SLOTS, log: None }
    }
}

/// A plan that runs.
pub struct Circuit {
    layout: Arc<Layout>,
    lanes: Vec<Lane>,
    pool: Pool,
    trackers: Vec<Tracker>,
    /// The versioned tables that rows are looked up in, each once.
    tables: Vec<Arc<LookupTable>>,
    options: Options,
    step: u64,
    next_lane: usize,
    stopped: bool,
    /// The fingerprint of each node.
    prints: Vec<u64>,
    /// How far each source has been taken.
    positions: Vec<SourcePosition>,
    /// For each output the sum of weight x digest of row.
    sums: Vec<u128>,
    keeping: Keeping,
}

impl Circuit {
    /// A circuit of `plan` that has taken no step; `decoders` has one entry for each source that takes bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when no operator does what a node asks for, or a decoder cannot be made.
    pub fn new(plan: &Plan, decoders: &Decoders, options: Options) -> Result<Circuit, Error> {
        let lanes = options.lanes.max(1);
        let layout = Arc::new(Layout::new(lower(plan, lanes)?, plan, lanes)?);
        let lanes = (0..lanes).map(|index| Lane::new(index, layout.clone(), decoders, options.sides));
        let mut lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        if options.keep {
            lanes.iter_mut().flat_map(Lane::keepers).for_each(|(_, keeper)| keeper.keep(options.chunk_slots.max(1)));
        }
        let position =
            |source: &SourceSpec| SourcePosition { source: source.name.clone(), ..SourcePosition::default() };
        let positions = layout.sources.iter().map(position).collect();
        let (prints, sums) = (fingerprints(plan), vec![0; layout.outputs.len()]);
        let trackers = layout.sources.iter().map(|_| Tracker::new()).collect();
        let pool = Pool::new(lanes.len().saturating_sub(1));
        Ok(Circuit {
            layout,
            lanes,
            pool,
            trackers,
            tables: tables(plan),
            options,
            step: 0,
            next_lane: 0,
            stopped: false,
            prints,
            positions,
            sums,
            keeping: Keeping::default(),
        })
    }

    /// Takes `input` in, runs, and returns what came out.
    ///
    /// # Errors
    /// What went wrong. The circuit has stopped then, and every further call is [`Error::Stopped`].
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, Error> {
        if std::mem::replace(&mut self.stopped, true) {
            return Err(Error::Stopped);
        }
        let output = self.run(input)?;
        self.stopped = false;
        Ok(output)
    }

    fn run(&mut self, input: StepInput) -> Result<StepOutput, Error> {
        self.end_restore();
        self.step += 1;
        let records = input.sources.iter().flat_map(|source| &source.blocks).map(|b| u64::from(b.records)).sum();
        let parallel = records >= PARALLEL_RECORDS_MIN && self.lanes.len() > 1;
        let mut blocks = self.deal(&input)?;
        self.each_lane(parallel, |lane| Job::Decode(std::mem::take(&mut blocks[lane])))?;
        let (befores, header) = self.head(&input);
        if let Some(log) = &mut self.options.log {
            log.header(&header, &input).map_err(|message| Error::broken("the step log", message))?;
        }
        drop(input);
        let watermarks: Vec<i64> = header.sources.iter().map(|source| source.watermark).collect();
        let contexts: Arc<[Context]> = self.contexts(&header, &watermarks).into();
        let befores: Arc<[Vec<i64>]> = befores.into();
        for phase in 0..self.layout.phases {
            self.each_lane(parallel, |_| Job::Run { phase, contexts: contexts.clone(), befores: befores.clone() })?;
            self.exchange();
        }
        self.collect(header, records, &watermarks)
    }

    /// Deals the blocks out to the lanes, one after another.
    fn deal(&mut self, input: &StepInput) -> Result<Vec<Vec<Intake>>, Error> {
        let mut dealt: Vec<Vec<Intake>> = vec![Vec::new(); self.lanes.len()];
        for news in &input.sources {
            let source = self.source(&news.source)?;
            for (ordinal, block) in news.blocks.iter().enumerate() {
                dealt[self.next_lane].push(Intake { source, ordinal, block: block.clone() });
                self.next_lane = (self.next_lane + 1) % self.lanes.len();
            }
        }
        Ok(dealt)
    }

    fn source(&self, name: &str) -> Result<usize, Error> {
        let found = self.layout.sources.iter().position(|source| source.name == name);
        found.ok_or_else(|| Error::broken("the driver", format!("there is no source '{name}'")))
    }

    /// Moves the watermarks over the decoded blocks: the watermark before each block, by source and ordinal, and the
    /// step's header.
    fn head(&mut self, input: &StepInput) -> (Vec<Vec<i64>>, StepHeader) {
        let mut befores: Vec<Vec<i64>> = vec![Vec::new(); self.trackers.len()];
        let mut ranges: Vec<SourceRange> = self.layout.sources.iter().map(|source| empty_range(&source.name)).collect();
        for news in &input.sources {
            let Ok(source) = self.source(&news.source) else { continue };
            let highs = self.highs(source, news.blocks.len());
            let tracker = &mut self.trackers[source];
            news.opened.iter().for_each(|partition| tracker.open(*partition));
            for (block, high) in news.blocks.iter().zip(highs) {
                befores[source].push(tracker.before(block.partition));
                tracker.advance(block.partition, high);
            }
            news.idle.iter().for_each(|partition| tracker.idle(*partition));
            news.ended.iter().for_each(|partition| tracker.end(*partition));
            if news.complete {
                tracker.complete();
            }
            fill_range(&mut ranges[source], news);
            advance(&mut self.positions[source], news);
        }
        for (range, tracker) in ranges.iter_mut().zip(&mut self.trackers) {
            range.watermark = tracker.watermark();
        }
        let last = self.trackers.iter().all(Tracker::is_complete);
        let (step, seed, lanes) = (self.step, self.options.seed, self.lanes.len());
        let tables = self.tables.iter().filter_map(|table| table.turn()).collect();
        (befores, StepHeader { step, now: input.now, last, seed, lanes, sources: ranges, tables })
    }

    /// How far each block of `source` moves its partition's watermark, by the block's ordinal.
    fn highs(&self, source: usize, blocks: usize) -> Vec<i64> {
        let mut highs = vec![i64::MIN; blocks];
        let pieces = self.lanes.iter().flat_map(|lane| lane.pieces()).filter(|piece| piece.source == source);
        for Piece { ordinal, times, .. } in pieces {
            if let Some(times) = times {
                highs[*ordinal] = highs[*ordinal].max(times.high());
            }
        }
        highs
    }

    /// What each task knows of the step.
    fn contexts(&self, header: &StepHeader, watermarks: &[i64]) -> Vec<Context> {
        let mut contexts: Vec<Context> = Vec::with_capacity(self.layout.tasks.len());
        let now = if header.last { Timestamp::MAX } else { Timestamp(header.now) };
        for task in &self.layout.tasks {
            let inputs = task.inputs.iter().map(|input| contexts[input.task].watermark.millis());
            let watermark = match task.source {
                Some(source) => watermarks[source],
                None => inputs.min().unwrap_or(i64::MAX),
            };
            // At the end of all input nothing is waited for.
            let watermark = if watermark == i64::MAX { watermark } else { watermark.saturating_sub(task.behind_ms) };
            let watermark = if header.last { Timestamp::MAX } else { Timestamp(watermark) };
            contexts.push(Context { step: header.step, lane: 0, now, watermark, sides: self.options.sides });
        }
        contexts
    }

    /// Runs a job on every lane, on all threads or on this one.
    fn each_lane(&mut self, parallel: bool, mut job: impl FnMut(usize) -> Job) -> Result<(), Error> {
        if let [lane] = self.lanes.as_mut_slice() {
            return lane.run(job(0));
        }
        let results: Vec<Result<(), Error>> = if parallel {
            let lanes = std::mem::take(&mut self.lanes);
            let jobs = lanes.into_iter().map(|lane| (job(lane.index()), lane)).collect();
            let done = self.pool.run(jobs);
            let (lanes, results) = done.into_iter().unzip();
            self.lanes = lanes;
            results
        } else {
            self.lanes.iter_mut().map(|lane| lane.run(job(lane.index()))).collect()
        };
        results.into_iter().collect()
    }

    /// Moves exchanged rows to the lanes they belong to, in the order (exchange, sending lane, chunk).
    fn exchange(&mut self) {
        for exchange in 0..self.layout.exchanges.len() {
            for sender in 0..self.lanes.len() {
                let parcels = self.lanes[sender].take_parcels(exchange);
                for (receiver, parcel) in parcels.into_iter().enumerate() {
                    self.lanes[receiver].receive(exchange, parcel);
                }
            }
        }
    }

    fn collect(&mut self, header: StepHeader, records: u64, watermarks: &[i64]) -> Result<StepOutput, Error> {
        let mut outputs = Vec::new();
        let mut digests = Vec::new();
        for (index, output) in self.layout.outputs.iter().enumerate() {
            let deltas: Vec<_> = self.lanes.iter_mut().flat_map(|lane| lane.take_output(index)).collect();
            let wanted = self.options.digests || self.options.keep;
            let digest = if wanted { deltas.iter().map(Delta::digest).fold(0, u128::wrapping_add) } else { 0 };
            self.sums[index] = self.sums[index].wrapping_add(digest);
            let rows = deltas.iter().map(|delta| delta.rows() as u64).sum();
            let digest = if digest == 0 { NO_DIGEST.to_string() } else { format!("{digest:032x}") };
            digests.push(OutputDigest { name: output.name.clone(), rows, digest });
            if !deltas.is_empty() {
                outputs.push(OutputRows { name: output.name.clone(), deltas });
            }
        }
        let tallies: Vec<_> = self.lanes.iter_mut().map(Lane::take_tally).collect();
        let trailer = StepTrailer {
            step: header.step,
            outputs: digests,
            late_rows: tallies.iter().map(|tally| tally.late_rows).sum(),
            dead_rows: tallies.iter().map(|tally| tally.dead_rows).sum(),
            bad_records: tallies.iter().map(|tally| tally.bad_records).sum(),
        };
        if let Some(log) = &mut self.options.log {
            log.trailer(&trailer).map_err(|message| Error::broken("the step log", message))?;
        }
        let timed = self.layout.sources.iter().zip(watermarks).filter(|(source, _)| source.watermark.is_some());
        let watermark = timed.map(|(_, watermark)| *watermark).min().unwrap_or(i64::MIN);
        let side = tallies.into_iter().flat_map(|tally| tally.side).collect();
        Ok(StepOutput { header, trailer, outputs, side, records, watermark })
    }

    /// The least processing time at which a step without input has something to say.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.lanes.iter().filter_map(Lane::next_due).min()
    }

    /// What each node of the plan keeps, over all lanes; nodes that keep nothing are left out.
    pub fn state(&self) -> Vec<(NodeId, StateSize)> {
        let mut sizes: Vec<StateSize> = vec![StateSize::default(); self.layout.nodes];
        for (node, size) in self.lanes.iter().flat_map(Lane::state_sizes) {
            sizes[node].entries += size.entries;
            sizes[node].bytes += size.bytes;
        }
        sizes.into_iter().enumerate().filter(|(_, size)| *size != StateSize::default()).collect()
    }

    /// What a node is called in errors, and where the query asks for it.
    pub fn called(&self, node: NodeId) -> (String, Option<Position>) {
        let task = self.layout.tasks.iter().find(|task| task.node() == node);
        task.map_or_else(Default::default, |task| (task.name().to_string(), task.position()))
    }

    /// The keys that a node keeps most for over all lanes, at most `most`, the largest first. It may read all that the node
    /// keeps.
    pub fn largest_keys(&self, node: NodeId, most: usize) -> Vec<KeySize> {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for KeySize { key, bytes } in self.lanes.iter().flat_map(|lane| lane.largest_keys(node, most)) {
            *sums.entry(key).or_default() += bytes;
        }
        let mut keys: Vec<KeySize> = sums.into_iter().map(|(key, bytes)| KeySize { key, bytes }).collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.bytes));
        keys.truncate(most);
        keys
    }

    /// Has headers and trailers written there from now on.
    pub fn log_to(&mut self, log: Option<Box<dyn StepLog>>) {
        self.options.log = log;
    }

    /// The number of lanes.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether the plan has a source of this name.
    pub fn has_source(&self, name: &str) -> bool {
        self.layout.sources.iter().any(|source| source.name == name)
    }

    /// The nodes that keep something between steps.
    pub fn keepers(&mut self) -> Vec<NodeId> {
        let layout = self.layout.clone();
        let mut nodes: Vec<NodeId> = self.lanes[0].keepers().map(|(task, _)| layout.tasks[task].node()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The last step's number; 0 before the first.
    pub fn steps(&self) -> u64 {
        self.step
    }
}

/// The tables that rows are looked up in, in the order of their names.
fn tables(plan: &Plan) -> Vec<Arc<LookupTable>> {
    let mut tables: Vec<Arc<LookupTable>> = Vec::new();
    for node in &plan.nodes {
        if let Spec::Lookup(spec) = &node.spec
            && !tables.iter().any(|known| Arc::ptr_eq(known, &spec.table))
        {
            tables.push(spec.table.clone());
        }
    }
    tables.sort_by(|one, other| one.name().cmp(other.name()));
    tables
}

fn empty_range(source: &str) -> SourceRange {
    SourceRange {
        source: source.to_string(),
        blocks: Vec::new(),
        opened: Vec::new(),
        ended: Vec::new(),
        idle: Vec::new(),
        complete: false,
        watermark: i64::MIN,
    }
}

/// Notes how far a source has been taken.
fn advance(position: &mut SourcePosition, news: &SourceInput) {
    let list = &mut position.partitions;
    let place = |list: &mut Vec<PartitionPosition>, partition: u32| -> usize {
        list.binary_search_by_key(&partition, |known| known.partition).unwrap_or_else(|at| {
            list.insert(at, PartitionPosition { partition, ..PartitionPosition::default() });
            at
        })
    };
    for partition in &news.opened {
        let at = place(list, *partition);
        list[at].ended = false;
    }
    for block in &news.blocks {
        let at = place(list, block.partition);
        let known = &mut list[at];
        (known.next, known.records) = (block.to, block.first_record + u64::from(block.records));
    }
    for partition in &news.ended {
        let at = place(list, *partition);
        list[at].ended = true;
    }
    position.complete |= news.complete;
}

fn fill_range(range: &mut SourceRange, news: &SourceInput) {
    let place = |block: &Block| BlockRange {
        partition: block.partition,
        from: block.from,
        to: block.to,
        records: block.records,
    };
    range.blocks.extend(news.blocks.iter().map(place));
    range.opened.clone_from(&news.opened);
    range.ended.clone_from(&news.ended);
    range.idle.clone_from(&news.idle);
    range.complete = news.complete;
}

/// Turns each node of `plan` into tasks.
fn lower(plan: &Plan, lanes: usize) -> Result<Graph, Error> {
    let (append_only, single) = (plan.append_only(), plan.single());
    let mut graph = Graph::default();
    let mut tasks = Vec::with_capacity(plan.nodes.len());
    for (id, node) in plan.nodes.iter().enumerate() {
        let inputs: Vec<usize> = node.inputs.iter().map(|input| tasks[*input]).collect();
        let schemas: Vec<_> = node.inputs.iter().map(|input| plan.nodes[*input].schema.clone()).collect();
        let appends: Vec<bool> = node.inputs.iter().map(|input| append_only[*input]).collect();
        let singles: Vec<bool> = node.inputs.iter().map(|input| single[*input]).collect();
        let lowering = Lowering {
            node,
            id,
            inputs: &inputs,
            input_schemas: &schemas,
            appends: &appends,
            singles: &singles,
            append_only: node.row_inputs().iter().all(|input| append_only[*input]),
            ttl_ms: plan.ttls.get(&id).copied(),
            lanes,
            name: name_of(node),
        };
        tasks.push(match &node.spec {
            Spec::Source(_) | Spec::Output(_) => graph.add(pass(&lowering, 0)),
            Spec::Delay(spec) => graph.add(pass(&lowering, spec.behind_ms)),
            _ => operators::lower(&mut graph, &lowering)?,
        });
    }
    Ok(graph)
}

fn name_of(node: &Node) -> String {
    let title = match &node.spec {
        Spec::Source(source) => format!("Source '{}'", source.name),
        Spec::Output(output) => format!("Output '{}'", output.name),
        _ => node.title().to_string(),
    };
    match node.position {
        Some(position) => format!("{title} ({position})"),
        None => title,
    }
}

/// The task of a source, an output or a delay: rows pass it as they are, suspects with a watermark that is behind by as
/// much as the others'.
fn pass(lowering: &Lowering<'_>, behind_ms: i64) -> Task {
    let inputs = lowering.inputs.iter().map(|task| Input { task: *task, placement: Placement::Stay }).collect();
    lowering.task(inputs, lowering.node.schema.clone(), Arc::new(move || Ok(Box::new(Pass { behind_ms }))))
}

struct Pass {
    behind_ms: i64,
}

impl Operator for Pass {
    fn push(&mut self, _port: usize, delta: Delta, _context: &Context, out: &mut Output) -> Result<(), Error> {
        let behind = |carried: &i64| carried.saturating_sub(self.behind_ms);
        let carried = delta.carried().filter(|_| self.behind_ms > 0).map(|all| all.iter().map(behind).collect());
        out.emit(if carried.is_some() { delta.with_carried(carried) } else { delta });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
