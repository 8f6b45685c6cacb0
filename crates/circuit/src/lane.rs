//! [`Lane`]: one thread's share of a circuit, and [`Layout`], what all lanes know of it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use tidemill_base::{Position, Timestamp};

use crate::decode::{Block, BlockData, Decode, Decoded, DecodedDelta, Decoders, ORIGIN, ORIGIN_ROW_BITS};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::expr;
use crate::graph::{Graph, Input};
use crate::keep::ChunkId;
use crate::keep::digests::ChunkDigests;
use crate::keep::keeper::{self, Keeper};
use crate::keep::planes::unweave;
use crate::operator::{Context, Flush, KeySize, Operator, Output, SideKind, SideRow, Sides, StateSize};
use crate::plan::{NodeId, OutputSpec, Plan, SourceSpec, Spec};
use crate::row;
use crate::watermark::Times;

/// What all lanes know of their circuit.
pub(crate) struct Layout {
    /// The tasks, in topological order.
    pub tasks: Vec<TaskLayout>,
    /// The plan's sources, in its order.
    pub sources: Vec<SourceSpec>,
    /// For each source the decoded columns and `$origin`.
    origin_schemas: Vec<SchemaRef>,
    /// The plan's outputs, in its order.
    pub outputs: Vec<OutputSpec>,
    /// Their nodes.
    pub output_nodes: Vec<NodeId>,
    /// Edges over which rows change lanes.
    pub exchanges: Vec<Edge>,
    /// How often rows change lanes at most on their way, and one.
    pub phases: usize,
    /// The number of the plan's nodes.
    pub nodes: usize,
    /// The number of lanes.
    lanes: usize,
    source_tasks: Vec<usize>,
}

/// An edge over which rows change lanes.
pub(crate) struct Edge {
    exchange: Exchange,
    task: usize,
    port: usize,
}

/// One task, as lanes see it.
pub(crate) struct TaskLayout {
    node: NodeId,
    name: String,
    position: Option<Position>,
    /// Where its rows come from.
    pub inputs: Vec<Input>,
    /// Which source it is, if it is one.
    pub source: Option<usize>,
    /// By how much its watermark is behind that of its inputs.
    pub behind_ms: i64,
    output: Option<usize>,
    phase: usize,
    readers: Vec<Reader>,
    on_error: expr::OnError,
    schema: SchemaRef,
    make: crate::graph::MakeOperator,
}

impl TaskLayout {
    /// The plan's node that it works for.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the query asks for it.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

/// Who reads a task's rows.
enum Reader {
    Here { task: usize, port: usize },
    Exchanged(usize),
}

impl Layout {
    /// Lays `graph` out over `lanes`.
    pub fn new(graph: Graph, plan: &Plan, lanes: usize) -> Result<Self, Error> {
        let mut layout = Layout {
            tasks: Vec::with_capacity(graph.tasks.len()),
            sources: Vec::new(),
            origin_schemas: Vec::new(),
            outputs: Vec::new(),
            output_nodes: Vec::new(),
            exchanges: Vec::new(),
            phases: 1,
            nodes: plan.nodes.len(),
            lanes,
            source_tasks: Vec::new(),
        };
        for task in graph.tasks {
            layout.add(task, plan, lanes)?;
        }
        Ok(layout)
    }

    fn add(&mut self, task: crate::graph::Task, plan: &Plan, lanes: usize) -> Result<(), Error> {
        let id = self.tasks.len();
        let node = &plan.nodes[task.node];
        let mut phase = 0;
        for (port, input) in task.inputs.iter().enumerate() {
            let from = &self.tasks[input.task];
            let exchange = if lanes == 1 { None } else { exchange_of(&input.placement, &from.schema, &task)? };
            phase = phase.max(from.phase + usize::from(exchange.is_some()));
            let reader = match exchange {
                None => Reader::Here { task: id, port },
                Some(exchange) => {
                    self.exchanges.push(Edge { exchange, task: id, port });
                    Reader::Exchanged(self.exchanges.len() - 1)
                }
            };
            self.tasks[input.task].readers.push(reader);
        }
        let (mut source, mut output) = (None, None);
        match &node.spec {
            Spec::Source(spec) => {
                source = Some(self.sources.len());
                self.sources.push(spec.clone());
                self.origin_schemas.push(with_origin_field(&spec.decoded));
                self.source_tasks.push(id);
            }
            Spec::Output(spec) => {
                output = Some(self.outputs.len());
                self.outputs.push(spec.clone());
                self.output_nodes.push(task.node);
            }
            _ => {}
        }
        self.phases = self.phases.max(phase + 1);
        self.tasks.push(TaskLayout {
            node: task.node,
            name: task.name,
            position: task.position,
            inputs: task.inputs,
            source,
            behind_ms: if let Spec::Delay(spec) = &node.spec { spec.behind_ms } else { 0 },
            output,
            phase,
            readers: Vec::new(),
            on_error: node.on_error,
            schema: task.schema,
            make: task.make,
        });
        Ok(())
    }
}

fn exchange_of(
    placement: &crate::graph::Placement,
    schema: &SchemaRef,
    task: &crate::graph::Task,
) -> Result<Option<Exchange>, Error> {
    Exchange::of(placement, schema).map_err(|message| Error::Unsupported {
        what: format!("{}: {message}; grouping by it", task.name),
        position: task.position,
    })
}

/// A block on its way into a lane.
#[derive(Clone)]
pub(crate) struct Intake {
    /// The source.
    pub source: usize,
    /// The block's place among the step's blocks of that source.
    pub ordinal: usize,
    /// The block.
    pub block: Block,
}

/// Decoded rows that wait for the watermark before them.
pub(crate) struct Piece {
    /// The source.
    pub source: usize,
    /// Their block's place among the step's blocks of that source.
    pub ordinal: usize,
    /// Their times, when the source has event time.
    pub times: Option<Times>,
    delta: Delta,
}

/// A chunk that was saved.
#[derive(Clone)]
pub(crate) struct Stored {
    /// Who keeps its rows.
    pub task: usize,
    /// Its name.
    pub id: ChunkId,
    /// Its rows.
    pub rows: Bytes,
}

/// A chunk that a save gives.
pub(crate) struct Given {
    /// Who keeps its rows.
    pub task: usize,
    /// In which of its tables.
    pub table: u16,
    /// Its number and rows.
    pub chunk: keeper::Numbered,
}

/// What a lane is asked to do.
pub(crate) enum Job {
    /// Decode these blocks into pieces.
    Decode(Vec<Intake>),
    /// Put chunks back that were saved from this lane.
    Restore(Vec<Stored>),
    /// Go on with the save that is under way, for so many bytes.
    Save(usize),
    /// Run the tasks of a phase.
    Run {
        /// The phase.
        phase: usize,
        /// What each task knows of the step.
        contexts: Arc<[Context]>,
        /// The watermark before each block, by source and ordinal.
        befores: Arc<[Vec<i64>]>,
    },
}

/// What a lane has counted in a step.
#[derive(Default)]
pub(crate) struct Tally {
    pub side: Vec<SideRow>,
    pub late_rows: u64,
    pub dead_rows: u64,
    pub bad_records: u64,
}

/// One thread's share of a circuit.
pub(crate) struct Lane {
    index: usize,
    layout: Arc<Layout>,
    operators: Vec<Box<dyn Operator>>,
    decoders: Vec<Option<Box<dyn Decode>>>,
    sides: Sides,
    pieces: Vec<Piece>,
    /// Rows that wait for a task's port.
    inboxes: Vec<Vec<VecDeque<Delta>>>,
    /// Rows that wait for other lanes, by exchange and lane.
    parcels: Vec<Vec<Vec<Delta>>>,
    outputs: Vec<Vec<Delta>>,
    tally: Tally,
    /// What a task says, while it runs.
    out: Output,
    /// The digests of chunks that were restored.
    digests: Vec<(ChunkId, ChunkDigests)>,
    /// The tables that the save under way has still to write, by task; the next one last.
    saving: Vec<(usize, u16)>,
    /// The chunks that were written since they were asked for.
    given: Vec<Given>,
    /// The task that runs, for the report of a panic.
    current: usize,
}

impl Lane {
    /// Lane `index` with fresh operators.
    pub fn new(index: usize, layout: Arc<Layout>, decoders: &Decoders, sides: Sides) -> Result<Self, Error> {
        let operators = layout.tasks.iter().map(|task| (task.make)()).collect::<Result<_, _>>()?;
        let make = |source: &SourceSpec| match decoders.get(&source.name) {
            None => Ok(None),
            Some(make) => {
                make().map(Some).map_err(|message| Error::Record { origin: source.name.clone(), partition: 0, message })
            }
        };
        let made = layout.sources.iter().map(make).collect::<Result<_, _>>()?;
        let inboxes = layout.tasks.iter().map(|task| vec![VecDeque::new(); task.inputs.len().max(1)]).collect();
        Ok(Lane {
            index,
            operators,
            decoders: made,
            sides,
            pieces: Vec::new(),
            inboxes,
            parcels: vec![vec![Vec::new(); layout.lanes]; layout.exchanges.len()],
            outputs: vec![Vec::new(); layout.outputs.len()],
            tally: Tally::default(),
            out: Output::default(),
            digests: Vec::new(),
            saving: Vec::new(),
            given: Vec::new(),
            current: 0,
            layout,
        })
    }

    /// The lane's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Pieces that were decoded and not yet run.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Does a job; a panic in it is caught and told as an error.
    pub fn run(&mut self, job: Job) -> Result<(), Error> {
        let work = AssertUnwindSafe(|| match job {
            Job::Decode(blocks) => blocks.into_iter().try_for_each(|intake| self.decode(intake)),
            Job::Restore(chunks) => chunks.into_iter().try_for_each(|stored| self.restore(&stored)),
            Job::Save(bytes_max) => self.save(bytes_max),
            Job::Run { phase, contexts, befores } => self.run_phase(phase, &contexts, &befores),
        });
        match catch_unwind(work) {
            Ok(result) => result,
            Err(panic) => {
                let task = &self.layout.tasks[self.current];
                let message = panic.downcast_ref::<&str>().map(|text| text.to_string());
                let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
                Err(Error::Panic {
                    operator: task.name.clone(),
                    position: task.position,
                    message: message.unwrap_or_else(|| "no message".to_string()),
                })
            }
        }
    }

    /// Turns a block into pieces with the source's columns.
    fn decode(&mut self, intake: Intake) -> Result<(), Error> {
        let layout = self.layout.clone();
        let spec = &layout.sources[intake.source];
        self.current = layout.source_tasks[intake.source];
        let block = intake.block;
        let partition = block.partition;
        let failed = |message: String| Error::Record { origin: spec.name.clone(), partition, message };
        let mut decoded = Decoded::default();
        match block.data {
            BlockData::Rows(delta) => cut(delta, &mut decoded.deltas),
            BlockData::Bytes(bytes) => match &mut self.decoders[intake.source] {
                Some(decoder) => decoder.decode(&bytes, block.first_record, &mut decoded).map_err(failed)?,
                None => return Err(failed("it takes rows, not bytes".to_string())),
            },
        }
        self.reject(spec, &decoded);
        let mut first = block.first_record;
        for DecodedDelta { mut delta, records } in decoded.deltas {
            let rows = delta.rows() as u64;
            if spec.origin {
                let schema = &layout.origin_schemas[intake.source];
                delta = with_origin(delta, schema, partition, first, records.as_deref(), block.first_record);
            }
            first += rows;
            let (delta, times) = self.compute(spec, delta)?;
            self.pieces.push(Piece { source: intake.source, ordinal: intake.ordinal, times, delta });
        }
        Ok(())
    }

    fn reject(&mut self, spec: &SourceSpec, decoded: &Decoded) {
        self.tally.bad_records += decoded.rejected.len() as u64;
        if self.sides.bad_record {
            self.tally.side.extend(decoded.rejected.iter().map(|rejected| SideRow {
                kind: SideKind::BadRecord,
                operator: spec.name.clone(),
                node: self.layout.tasks[self.current].node,
                reason: rejected.reason.clone(),
                row: rejected.text.clone(),
                origin: None,
            }));
        }
    }

    /// Adds computed columns and reads the event times; rows that fail are treated as `on-error` says.
    fn compute(&mut self, spec: &SourceSpec, delta: Delta) -> Result<(Delta, Option<Times>), Error> {
        let layout = self.layout.clone();
        let task = &layout.tasks[self.current];
        let failed = |batch: &RecordBatch, row: usize, message: String| Error::Row {
            operator: task.name.clone(),
            position: task.position,
            row: row::to_json(batch, row),
            message,
        };
        let mut delta = delta;
        if let Some(computed) = &spec.computed {
            let evaluated = expr::evaluate(computed, delta.batch(), task.on_error)
                .map_err(|(row, message)| failed(delta.batch(), row, message))?;
            for (row, reason) in &evaluated.messages {
                self.bury(&task.name, &delta, *row, reason);
            }
            let mut columns = evaluated.columns;
            if let Some(dead) = evaluated.failed {
                let kept = arrow_array::BooleanArray::new(!dead.values(), None);
                let keep = |column: &ArrayRef| arrow_select::filter::filter(column, &kept);
                columns =
                    columns.iter().map(keep).collect::<Result<_, _>>().map_err(|e| Error::broken(&task.name, e))?;
                delta = delta.filter(&kept).map_err(|error| Error::broken(&task.name, error))?;
            }
            let options = RecordBatchOptions::new().with_row_count(Some(delta.rows()));
            let batch = RecordBatch::try_new_with_options(task.schema.clone(), columns, &options);
            delta = delta.with_batch(batch.map_err(|error| Error::broken(&task.name, error))?);
        }
        let Some(watermark) = &spec.watermark else { return Ok((delta, None)) };
        match Times::read(watermark, delta.batch()) {
            Ok(times) => Ok((delta, Some(times))),
            Err((row, message)) if task.on_error == expr::OnError::Stop => Err(failed(delta.batch(), row, message)),
            Err(_) => self.without_time(watermark, delta, &task.name),
        }
    }

    /// Leaves out rows that have no event time: nothing can be done with them, whatever `on-error` says.
    fn without_time(
        &mut self,
        watermark: &crate::plan::WatermarkSpec,
        delta: Delta,
        name: &str,
    ) -> Result<(Delta, Option<Times>), Error> {
        let column = delta.column(watermark.time).clone();
        let kept: Vec<bool> = (0..delta.rows()).map(|row| column.is_valid(row)).collect();
        for row in (0..delta.rows()).filter(|row| !kept[*row]) {
            self.bury(name, &delta, row, "the event time is null");
        }
        let delta = delta.filter(&kept.into()).map_err(|error| Error::broken(name, error))?;
        let times = Times::read(watermark, delta.batch()).map_err(|(_, message)| Error::broken(name, message))?;
        Ok((delta, Some(times)))
    }

    fn bury(&mut self, name: &str, delta: &Delta, row: usize, reason: &str) {
        self.tally.dead_rows += 1;
        if self.sides.dead_letter {
            self.tally.side.push(SideRow {
                kind: SideKind::DeadLetter,
                operator: name.to_string(),
                node: self.layout.tasks[self.current].node,
                reason: reason.to_string(),
                row: row::to_json(delta.batch(), row),
                origin: row::origin(delta.batch(), row),
            });
        }
    }

    fn run_phase(&mut self, phase: usize, contexts: &[Context], befores: &[Vec<i64>]) -> Result<(), Error> {
        // A block's pieces stand one after another: each starts where the rows before it have moved the watermark.
        let mut last = (usize::MAX, usize::MAX, i64::MIN);
        let mut pieces = std::mem::take(&mut self.pieces);
        for piece in pieces.drain(..) {
            let same = (last.0, last.1) == (piece.source, piece.ordinal);
            let before = if same { last.2 } else { befores[piece.source][piece.ordinal] };
            let high = piece.times.as_ref().map_or(before, |times| times.high().max(before));
            last = (piece.source, piece.ordinal, high);
            let carried = piece.times.as_ref().and_then(|times| times.carried(before));
            let task = self.layout.source_tasks[piece.source];
            if !piece.delta.is_empty() {
                self.inboxes[task][0].push_back(piece.delta.with_carried(carried));
            }
        }
        // Its memory serves the next step.
        self.pieces = pieces;
        let layout = self.layout.clone();
        for (task, place) in layout.tasks.iter().enumerate().filter(|(_, place)| place.phase == phase) {
            self.current = task;
            let context = Context { lane: self.index, ..contexts[task] };
            self.run_task(task, place, &context)?;
        }
        Ok(())
    }

    fn run_task(&mut self, task: usize, place: &TaskLayout, context: &Context) -> Result<(), Error> {
        // Its memory serves the next task.
        let mut out = std::mem::take(&mut self.out);
        for port in 0..self.inboxes[task].len() {
            while let Some(delta) = self.inboxes[task][port].pop_front() {
                self.operators[task].push(port, delta, context, &mut out)?;
                self.route(place, &mut out)?;
            }
        }
        loop {
            let flush = self.operators[task].flush(context, &mut out)?;
            self.route(place, &mut out)?;
            if flush == Flush::Done {
                break;
            }
        }
        self.tally.late_rows += std::mem::take(&mut out.late_rows);
        self.tally.dead_rows += std::mem::take(&mut out.dead_rows);
        self.tally.side.append(&mut out.side);
        self.out = out;
        Ok(())
    }

    /// Sends what a task said to those who read it.
    fn route(&mut self, place: &TaskLayout, out: &mut Output) -> Result<(), Error> {
        for delta in out.deltas.drain(..) {
            if let Some(output) = place.output {
                self.outputs[output].push(delta);
                continue;
            }
            let Some((last, others)) = place.readers.split_last() else { continue };
            for reader in others {
                deliver(reader, delta.clone(), &self.layout, &mut self.inboxes, &mut self.parcels)
                    .map_err(|error| Error::broken(&place.name, error))?;
            }
            deliver(last, delta, &self.layout, &mut self.inboxes, &mut self.parcels)
                .map_err(|error| Error::broken(&place.name, error))?;
        }
        Ok(())
    }

    /// The rows that wait for other lanes on an exchange, one list a lane.
    pub fn take_parcels(&mut self, exchange: usize) -> Vec<Vec<Delta>> {
        self.parcels[exchange].iter_mut().map(std::mem::take).collect()
    }

    /// Takes rows over an exchange.
    pub fn receive(&mut self, exchange: usize, parcel: Vec<Delta>) {
        let Edge { task, port, .. } = self.layout.exchanges[exchange];
        self.inboxes[task][port].extend(parcel);
    }

    /// The rows of an output.
    pub fn take_output(&mut self, output: usize) -> Vec<Delta> {
        std::mem::take(&mut self.outputs[output])
    }

    /// What was counted since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The least processing time at which an operator has something to say.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.operators.iter().filter_map(|operator| operator.next_due()).min()
    }

    /// What each operator keeps, by the plan's node.
    pub fn state_sizes(&self) -> impl Iterator<Item = (NodeId, StateSize)> {
        self.layout.tasks.iter().zip(&self.operators).map(|(task, operator)| (task.node, operator.state_size()))
    }

    /// The keys that the operators of a node keep most for.
    pub fn largest_keys(&self, node: NodeId, most: usize) -> impl Iterator<Item = KeySize> {
        let tasks = self.layout.tasks.iter().zip(&self.operators).filter(move |(task, _)| task.node == node);
        tasks.flat_map(move |(_, operator)| operator.largest_keys(most))
    }
}

impl Lane {
    /// What each task keeps, of those that keep something.
    pub fn keepers(&mut self) -> impl Iterator<Item = (usize, &mut dyn Keeper)> {
        self.operators.iter_mut().enumerate().filter_map(|(task, operator)| Some((task, operator.keeper()?)))
    }

    /// Puts a chunk back.
    fn restore(&mut self, stored: &Stored) -> Result<(), Error> {
        self.current = stored.task;
        let Some(keeper) = self.operators[stored.task].keeper() else { return Ok(()) };
        let restored = unweave(&stored.rows).and_then(|rows| {
            let rows = keeper::rows_of(&rows)?;
            keeper::restore_in_place(keeper, stored.id.table, stored.id.chunk, &rows)?;
            Ok(ChunkDigests::of(stored.id, &rows))
        });
        let restored = restored.map_err(|damage| Error::saved(&self.layout.tasks[stored.task].name, damage))?;
        self.digests.push((stored.id, restored));
        Ok(())
    }

    /// Begins a save of all that the tasks keep, or of what has changed.
    pub fn begin_save(&mut self, full: bool) {
        let mut saving = Vec::new();
        for (task, keeper) in self.keepers() {
            keeper.settle();
            for table in keeper.tables() {
                let slots = keeper.slots(table);
                if let Some(marks) = keeper.marks(table) {
                    marks.begin_save(slots, full);
                    saving.push((task, table));
                }
            }
        }
        saving.reverse();
        self.saving = saving;
    }

    /// Whether all of the save was given.
    pub fn has_saved(&self) -> bool {
        self.saving.is_empty()
    }

    /// Writes about `bytes_max` bytes of the save that is under way.
    fn save(&mut self, bytes_max: usize) -> Result<(), Error> {
        let mut budget = bytes_max.max(1);
        while let Some((task, table)) = self.saving.last().copied().filter(|_| budget > 0) {
            self.current = task;
            let given = match self.operators[task].keeper() {
                Some(keeper) => keeper::give(keeper, table, &mut budget),
                None => Ok(keeper::Given::Nothing),
            };
            match given.map_err(|error| Error::broken(&self.layout.tasks[task].name, error))? {
                keeper::Given::Chunk(chunk) => self.given.push(Given { task, table, chunk }),
                keeper::Given::Part => {}
                keeper::Given::Nothing => drop(self.saving.pop()),
            }
        }
        Ok(())
    }

    /// The chunks that were written since the last call.
    pub fn take_given(&mut self) -> Vec<Given> {
        std::mem::take(&mut self.given)
    }

    /// Ends the save that is under way.
    pub fn end_save(&mut self, stored: bool) {
        (self.saving, self.given) = (Vec::new(), Vec::new());
        for (_, keeper) in self.keepers() {
            for table in keeper.tables() {
                if let Some(marks) = keeper.marks(table) {
                    marks.end_save(stored);
                }
            }
            keeper.saved();
        }
    }

    /// The digests of the chunks that were restored since the last call.
    pub fn take_digests(&mut self) -> Vec<(ChunkId, ChunkDigests)> {
        std::mem::take(&mut self.digests)
    }

    /// What a task keeps.
    pub fn keeper(&mut self, task: usize) -> Option<&mut dyn Keeper> {
        self.operators.get_mut(task).and_then(|operator| operator.keeper())
    }
}

/// Hands rows to one reader.
fn deliver(
    reader: &Reader,
    delta: Delta,
    layout: &Layout,
    inboxes: &mut [Vec<VecDeque<Delta>>],
    parcels: &mut [Vec<Vec<Delta>>],
) -> Result<(), ArrowError> {
    match *reader {
        Reader::Here { task, port } => inboxes[task][port].push_back(delta),
        Reader::Exchanged(exchange) => layout.exchanges[exchange].exchange.part(delta, &mut parcels[exchange])?,
    }
    Ok(())
}

/// Cuts rows that came as columns into pieces of the size that operators expect.
fn cut(delta: Delta, pieces: &mut Vec<DecodedDelta>) {
    if (1..=DELTA_ROWS_MAX).contains(&delta.rows()) {
        return pieces.push(DecodedDelta { delta, records: None });
    }
    for start in (0..delta.rows()).step_by(DELTA_ROWS_MAX) {
        let length = DELTA_ROWS_MAX.min(delta.rows() - start);
        pieces.push(DecodedDelta { delta: delta.slice(start, length), records: None });
    }
}

/// The columns of a table and `$origin`.
fn with_origin_field(decoded: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = decoded.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ORIGIN, DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

/// Adds `$origin`: the partition and each row's record number in it; `schema` is that of the table with it.
fn with_origin(
    delta: Delta,
    schema: &SchemaRef,
    partition: u32,
    first: u64,
    records: Option<&[u32]>,
    first_of_block: u64,
) -> Delta {
    let high = u64::from(partition) << ORIGIN_ROW_BITS;
    let origin: UInt64Array = match records {
        None => UInt64Array::from_iter_values((first..first + delta.rows() as u64).map(|record| high | record)),
        Some(records) => {
            UInt64Array::from_iter_values(records.iter().map(|record| high | (first_of_block + u64::from(*record))))
        }
    };
    let given = delta.batch().columns();
    let mut columns = Vec::with_capacity(given.len() + 1);
    columns.extend_from_slice(given);
    columns.push(Arc::new(origin) as ArrayRef);
    // Rows that are not quite what the table says keep their own columns' types.
    let fits = |(field, column): (&Arc<Field>, &ArrayRef)| {
        field.data_type() == column.data_type() && (field.is_nullable() || column.null_count() == 0)
    };
    let fits = schema.fields().len() == columns.len() && schema.fields().iter().zip(&columns).all(fits);
    let schema = if fits { schema.clone() } else { with_origin_field(&delta.schema()) };
    let options = RecordBatchOptions::new().with_row_count(Some(delta.rows()));
    match RecordBatch::try_new_with_options(schema, columns, &options) {
        Ok(batch) => delta.with_batch(batch),
        Err(_) => delta,
    }
}
