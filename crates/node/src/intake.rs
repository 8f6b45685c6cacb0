//! [`Intake`]: the sources of a pipeline, each read once for all the circuits that take its events.
//!
//! What can be read again (files, generators) every circuit reads for itself. What cannot is read once for all its
//! circuits: each pulls from an inbox at its own pace, and a ring or standard input is handed to all of them. Where the
//! pipeline keeps state such events are in the journal, and a circuit that starts behind takes them from there first
//! ([`Tap`]).

mod backlog;
mod fit;
mod tap;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use tidemill_connect::{Keep, Origin, Position, Reading, SourceEvent};
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::ASKED;
use tidemill_stage::{Graph, Receiver, Sender};

use crate::doors::InboxDoor;
use crate::error::Error;
use crate::keep::input::InputKeep;
use crate::keep::start::{Start, State};
use crate::part::Part;
use crate::tables::{TableSource, Tables, placed};

pub(crate) use backlog::Backlog;
pub(crate) use fit::fit;
pub(crate) use tap::{News, Tap};

/// Blocks that wait between a source and a circuit that shares it.
const BLOCKS_WAITING: usize = 16;

/// The sources of a pipeline.
pub(crate) struct Intake {
    sources: Vec<Shared>,
    /// How many circuits there are.
    circuits: usize,
}

/// A source, and the circuits that take its events, by their places among the parts.
struct Shared {
    table: TableSource,
    readers: Vec<Reader>,
}

/// A circuit that takes a source's events.
struct Reader {
    circuit: usize,
    /// The source's place among those of the circuit.
    place: usize,
    /// Whether requests wait for the circuit.
    decides: bool,
    /// The columns that it takes.
    columns: SchemaRef,
}

/// The door of an inbox as one circuit sees it: its rows have the columns that the circuit's plan names.
#[derive(Clone)]
pub(crate) struct Doorway {
    /// The door.
    pub(crate) door: Arc<InboxDoor>,
    /// The columns.
    pub(crate) columns: SchemaRef,
}

impl Intake {
    /// Gathers the sources of all circuits.
    pub(crate) fn of(pipeline: &Pipeline, parts: &[Part], tables: Vec<Tables>) -> Intake {
        let circuits = tables.len();
        let mut sources: Vec<Shared> = Vec::new();
        for (circuit, (part, tables)) in parts.iter().zip(tables).enumerate() {
            for (place, table) in tables.sources.into_iter().enumerate() {
                let (decides, columns) = (part.decides(), table.decoded.clone());
                let reader = Reader { circuit, place, decides, columns };
                let known = sources.iter_mut().find(|known| known.table.name == table.name && table.is_fleeting);
                match known {
                    Some(known) => known.readers.push(reader),
                    None => sources.push(Shared { table, readers: vec![reader] }),
                }
            }
        }
        for shared in sources.iter_mut().filter(|shared| shared.readers.len() > 1) {
            shared.table.decoded = shared.columns(pipeline);
        }
        Intake { sources, circuits }
    }

    /// The sources whose events cannot be read again.
    pub(crate) fn fleeting(&self) -> Vec<String> {
        self.sources.iter().filter(|shared| shared.table.is_fleeting).map(|shared| shared.table.name.clone()).collect()
    }

    /// The doors of the inboxes, by their tables.
    pub(crate) fn doors(
        &self,
        pipeline: &Pipeline,
        state: Option<&State>,
    ) -> Result<BTreeMap<String, Arc<InboxDoor>>, Error> {
        let mut doors = BTreeMap::new();
        for Shared { table, .. } in &self.sources {
            let (Some(handle), Some(format)) = (table.source.inbox(), &table.format) else { continue };
            let mut door = InboxDoor::new(&table.name, handle, format, table.decoded.clone())?;
            if let Some(def) = pipeline.table(&table.name) {
                door.declare(def.schema.clone());
            }
            if let Some(state) = state {
                door = door.kept_in(state.folder.journal.clone(), state.level(pipeline, &table.name));
            }
            doors.insert(table.name.clone(), Arc::new(door));
        }
        Ok(doors)
    }

    /// The doors of a circuit's inboxes, by their tables.
    pub(crate) fn doorways(
        &self,
        circuit: usize,
        doors: &BTreeMap<String, Arc<InboxDoor>>,
    ) -> BTreeMap<String, Doorway> {
        let mut doorways = BTreeMap::new();
        for Shared { table, readers } in &self.sources {
            let reader = readers.iter().find(|reader| reader.circuit == circuit);
            if let (Some(reader), Some(door)) = (reader, doors.get(&table.name)) {
                let doorway = Doorway { door: door.clone(), columns: reader.columns.clone() };
                doorways.insert(table.name.clone(), doorway);
            }
        }
        doorways
    }

    /// Lets the sources go on where the steps in the journal have left them.
    pub(crate) fn resume(&mut self, pipeline: &Pipeline, state: &State) -> Result<(), Error> {
        for Shared { table, readers } in &mut self.sources {
            let starts: Vec<&Start> = readers.iter().map(|reader| &state.starts[reader.circuit]).collect();
            if !table.source.is_journaled() {
                // Read by one circuit, or not resumable at all.
                let positions = starts.first().map_or(&[][..], |start| start.survey.positions.of(&table.name));
                table.source.resume(positions)?;
                continue;
            }
            let (journal, outstanding) = (state.folder.journal.clone(), &starts);
            let outstanding = outstanding.iter().map(|start| start.outstanding.clone()).collect();
            table.source.resume(&furthest(&table.name, &starts))?;
            let keep = InputKeep::new(&table.name, journal, outstanding).makes_room(state.folder.retention.clone());
            match table.source.inbox() {
                Some(inbox) => inbox.keep_in(Arc::new(keep)),
                None => {
                    let keep: Arc<dyn Keep> = Arc::new(keep.held_until(state.level(pipeline, &table.name)));
                    table.source.keep_in(keep);
                }
            }
            if let Some(kept) = starts.iter().find_map(|start| start.survey.last.get(&table.name)) {
                table.source.resume_behind(kept);
            }
        }
        Ok(())
    }

    /// Takes for each source what it reads from.
    pub(crate) fn attach(&mut self, pipeline: &Pipeline) -> Result<(), Error> {
        for Shared { table, .. } in &mut self.sources {
            table.source.attach().map_err(|error| match pipeline.table(&table.name) {
                Some(def) => placed(error, def),
                None => error.into(),
            })?;
        }
        Ok(())
    }

    /// For each circuit where the events of its sources come out, in the plan's order; sources that nobody pulls from get a
    /// stage. A circuit that is `finished` takes none.
    pub(crate) fn taps(
        self,
        graph: &mut Graph,
        state: Option<&State>,
        doors: &BTreeMap<String, Arc<InboxDoor>>,
        finished: &[bool],
    ) -> Vec<Vec<Tap>> {
        let mut taps: Vec<BTreeMap<usize, Tap>> = (0..self.circuits).map(|_| BTreeMap::new()).collect();
        for Shared { table, readers } in self.sources {
            let state = state.filter(|_| table.source.is_journaled());
            let readers: Vec<Reader> = readers.into_iter().filter(|reader| !finished[reader.circuit]).collect();
            let (name, door) = (table.name.clone(), doors.get(&table.name));
            for (reader, news) in readers.iter().zip(news(graph, table, &readers, state.is_some())) {
                let doorway = door.map(|door| Doorway { door: door.clone(), columns: reader.columns.clone() });
                let mut backlog = state.map_or(Backlog::default(), |state| {
                    backlog(&name, state, reader.circuit, &readers, doorway.clone())
                });
                if state.is_none() && doorway.is_some() {
                    backlog.open(0, only_origin(&name));
                }
                taps[reader.circuit].insert(reader.place, Tap::new(news, backlog, doorway.map(|it| it.columns)));
            }
        }
        taps.into_iter().map(|taps| taps.into_values().collect()).collect()
    }
}

impl Shared {
    /// The columns that all circuits together take, and last whether somebody waits for a row.
    fn columns(&self, pipeline: &Pipeline) -> SchemaRef {
        let def = pipeline.table(&self.table.name);
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut asked = None;
        for field in self.readers.iter().flat_map(|reader| reader.columns.fields()) {
            match fields.iter_mut().find(|known| known.name() == field.name()) {
                _ if field.name() == ASKED => asked = Some(field.clone()),
                Some(known) if known.data_type() == field.data_type() => {}
                // Each takes some fields of a ROW: all that are declared have what each takes.
                Some(known) => {
                    let whole = def.and_then(|def| def.schema.field_with_name(field.name()).ok());
                    *known = whole.map_or(field.clone(), |whole| Arc::new(whole.clone()));
                }
                None => fields.push(field.clone()),
            }
        }
        fields.extend(asked);
        Arc::new(Schema::new(fields))
    }
}

/// Where the news of a source come from, for each of its readers.
fn news(graph: &mut Graph, table: TableSource, readers: &[Reader], kept: bool) -> Vec<News> {
    match table.source.inbox() {
        // The table's own reader, which goes with the table, is no circuit's.
        Some(inbox) => {
            let alone = readers.len() < 2;
            let reading = |reader: &Reader| match reader.decides || alone || !kept {
                true => Reading::Deciding,
                false => Reading::Following,
            };
            readers.iter().map(|reader| News::Pulled(Box::new(inbox.reader(reading(reader))))).collect()
        }
        None => stages(graph, table, readers.len()).into_iter().map(News::Stage).collect(),
    }
}

/// The stages that read a source, and its events, once for each of so many circuits.
fn stages(graph: &mut Graph, table: TableSource, readers: usize) -> Vec<Receiver<SourceEvent>> {
    let (name, source) = (table.name, table.source);
    if readers == 0 {
        return Vec::new();
    }
    let events = graph.source(format!("source '{name}'"), move |out, cancel| source.read(out, cancel));
    if readers == 1 {
        return vec![events.into_receiver()];
    }
    let (senders, streams): (Vec<Sender<SourceEvent>>, Vec<_>) =
        (0..readers).map(|_| graph.channel_of(BLOCKS_WAITING)).unzip();
    graph.stage(format!("share '{name}'"), (events.into_receiver(), senders), |(events, senders), _| {
        while let Some(event) = events.recv()? {
            for sender in senders.iter_mut() {
                sender.send(event.clone())?;
            }
        }
        Ok(())
    });
    streams.into_iter().map(tidemill_stage::Stream::into_receiver).collect()
}

/// What a circuit takes of a journaled source before what comes from now on.
fn backlog(source: &str, state: &State, circuit: usize, readers: &[Reader], doorway: Option<Doorway>) -> Backlog {
    let start = &state.starts[circuit];
    let starts: Vec<&Start> = readers.iter().map(|reader| &state.starts[reader.circuit]).collect();
    let known = start.survey.positions.of(source).len();
    let pending = start.survey.pending.get(source).cloned().unwrap_or_default();
    let inbox = doorway.is_some();
    let mut backlog = Backlog::new(state.folder.journal.clone(), source, doorway, pending);
    for (position, partition) in furthest(source, &starts).iter().zip(0..).skip(known) {
        backlog.open(partition, position.origin.clone());
    }
    if inbox && backlog.opens() + known == 0 {
        backlog.open(0, only_origin(source));
    }
    backlog
}

/// What the only partition of a source is.
fn only_origin(source: &str) -> Origin {
    Origin { name: source.to_string(), size: None, modified: None, digest: None }
}

/// How far a journaled source has been taken into the journal, whatever circuits have taken of that.
fn furthest(source: &str, starts: &[&Start]) -> Vec<Position> {
    let opened = starts.iter().map(|start| start.survey.positions.of(source)).max_by_key(|positions| positions.len());
    let mut positions = opened.unwrap_or_default().to_vec();
    let taken = starts.iter().flat_map(|start| start.survey.positions.of(source)).map(|position| position.to);
    let waiting = starts.iter().filter_map(|start| start.survey.pending.get(source)?.last_key_value());
    let waiting = waiting.map(|(first, waiting)| first + u64::from(waiting.records));
    let end = taken.chain(waiting).max().unwrap_or_default();
    if positions.is_empty() && end > 0 {
        // What is in the journal came before any step told of the partition.
        positions.push(Position::start(only_origin(source)));
    }
    if let Some(position) = positions.first_mut() {
        (position.to, position.records) = (end, end);
    }
    positions
}
