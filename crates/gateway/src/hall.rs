//! [`Hall`]: what stands behind the doors of one process: sources to fill, views to read, tables to edit.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde_json::{Map, Value as Json};
use tidemill_base::suggest;
use tidemill_circuit::Delta;
use tidemill_circuit::view::{Followed, Follower};
use tidemill_format::Rejected;
use tokio::sync::Notify;

/// A source that is filled through a door.
pub trait Inbox: Send + Sync {
    /// Whether there is room for more, asked before a body is read.
    ///
    /// # Errors
    /// Why there is none.
    fn room(&self) -> Result<(), Refusal>;

    /// Turns JSON (an object, an array of objects, or an object a line) into rows; a bad record is left out and reported.
    ///
    /// # Errors
    /// What kept all of the records from being read.
    fn decode(&self, body: &[u8]) -> Result<Decoded, String>;

    /// Takes all of `rows` or none; `body` is what they were decoded from, and `level` the durability that was asked for.
    ///
    /// # Errors
    /// Why it takes none.
    fn offer(&self, rows: Vec<Delta>, body: &[u8], level: Option<Durability>) -> Result<Taken, Refusal>;

    /// Takes a short body in one turn: decoded, kept and handed to the engine, or nothing of it. It does not wait.
    ///
    /// # Errors
    /// Why nothing of it is taken.
    fn take(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection>;

    /// Tells the engine of what was taken quietly.
    fn wake(&self) {}

    /// The place up to which everything survives what `level` says.
    fn durable(&self, level: Durability) -> u64;

    /// Calls `tell` once everything up to `place` survives what `level` says, or never will.
    fn when_durable(&self, place: u64, level: Durability, tell: Tell);

    /// The columns that are declared, by which bodies of Protocol Buffers are read; none where it reads no such bodies.
    fn columns(&self) -> Option<SchemaRef> {
        None
    }
}

/// Is told that records are durable, or why they never will be.
pub type Tell = Box<dyn FnOnce(Result<(), String>) + Send>;

/// What a request asks for besides being taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// What its events are to survive before they are acknowledged; none leaves it to the source.
    pub durability: Option<Durability>,
    /// Whether bad records are left out instead of refusing all.
    pub skip_bad: bool,
    /// What names the request when it is sent again.
    pub idempotency_key: Option<&'a str>,
    /// What its body is.
    pub kind: BodyKind,
    /// Whether the engine is told of it not now but with what else has come, by [`Inbox::wake`] or [`Endpoint::wake`].
    pub quiet: bool,
    /// Whether the time of a question was over before it was read: nothing of it is taken then.
    pub late: bool,
}

/// What a body of events is. The journal keeps it beside the body, so that the same rows come out of it again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// JSON: an object, an array of objects, or an object a line.
    #[default]
    Json,
    /// Protocol Buffers: the table's message of rows.
    Rows,
    /// Protocol Buffers: the table's message of columns.
    Columns,
}

impl BodyKind {
    /// The byte in the journal.
    pub fn byte(self) -> u8 {
        match self {
            BodyKind::Json => 0,
            BodyKind::Rows => 1,
            BodyKind::Columns => 2,
        }
    }

    /// The kind of a byte.
    pub fn of_byte(byte: u8) -> Option<Self> {
        [BodyKind::Json, BodyKind::Rows, BodyKind::Columns].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// A body that was taken.
#[derive(Debug, Default)]
pub struct Receipt {
    /// Its events.
    pub accepted: usize,
    /// The records that were left out.
    pub rejected: Vec<Rejected>,
    /// How many events of the source stand before the first.
    pub offset: u64,
    /// What they survive once the place is durable.
    pub durability: Option<Durability>,
    /// The place in the journal that has to be durable before they are acknowledged; none means now.
    pub place: Option<u64>,
    /// Whether the same request was taken before, and this is what was answered then.
    pub repeated: bool,
}

/// Why nothing of a body was taken.
#[derive(Debug)]
pub enum Rejection {
    /// The source takes nothing now.
    Refused(Refusal),
    /// Records are bad, and reading may have stopped because too many are.
    Records {
        /// Which, and why.
        rejected: Vec<Rejected>,
        /// Whether there may be more.
        stopped: bool,
    },
    /// The body is no JSON to begin with.
    Body(String),
    /// The idempotency key stands for another request.
    KeyReused,
}

/// A rule that answers while the request is open.
pub trait Endpoint: Send + Sync {
    /// How long a request waits when it does not say.
    fn deadline(&self) -> Duration;

    /// The columns of its answers; none when they are JSON alone.
    fn columns(&self) -> Option<SchemaRef> {
        None
    }

    /// Takes a request in. It is answered through `ticket`, exactly once and possibly before this returns, unless it is refused.
    ///
    /// # Errors
    /// Why it is refused; `ticket` is not used then.
    fn ask(&self, body: &[u8], terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection>;

    /// The request's time is over: if it has no answer yet, the fallback is its answer.
    fn expire(&self, question: Question);

    /// Tells the engine of what was asked quietly.
    fn wake(&self) {}
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question(pub u64);

/// Where the answer to a request goes.
#[derive(Clone)]
pub struct Ticket {
    /// The door.
    pub door: Arc<dyn Answers>,
    /// The door's own number of the request.
    pub number: u64,
}

/// A door that waits for answers.
pub trait Answers: Send + Sync {
    /// Takes the answer to the request of this number. Called from the engine's threads: it must not block.
    fn answer(&self, number: u64, answer: Answered<'_>);

    /// Takes an answer that others follow at once; true when the door looks at it only after [`Answers::wake`].
    fn answer_held(&self, number: u64, answer: Answered<'_>) -> bool {
        self.answer(number, answer);
        false
    }

    /// Has the door look at what it holds.
    fn wake(&self) {}
}

/// The answer of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The status of HTTP.
    pub status: u16,
    /// A body of JSON.
    pub body: &'a [u8],
    /// Why the declared fallback answers and not the rule, when it does.
    pub fallback: Option<Fallback>,
    /// Which rule answered.
    pub rule: &'a str,
    /// The step after which it answered; 0 for a fallback.
    pub version: u64,
    /// Whether it was answered before, to a request with the same idempotency key.
    pub repeated: bool,
}

/// Why a fallback answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The deadline passed.
    Deadline,
    /// Too many requests waited.
    Overload,
    /// An expression of the rule failed on the request.
    Failed,
}

impl Fallback {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Fallback::Deadline => "deadline",
            Fallback::Overload => "overload",
            Fallback::Failed => "failed",
        }
    }
}

/// What events survive once they have been acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: they are in the process's memory.
    Memory,
    /// The death of the process.
    Process,
    /// A power cut.
    Flushed,
}

impl Durability {
    /// The word in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::Process => "process",
            Durability::Flushed => "flushed",
        }
    }

    /// The level of a word.
    pub fn named(word: &str) -> Option<Self> {
        [Durability::Memory, Durability::Process, Durability::Flushed].into_iter().find(|level| level.as_str() == word)
    }
}

/// Events that were taken.
pub struct Taken {
    /// How many events of the source stand before the first.
    pub offset: u64,
    /// What they survive once `durable` says so.
    pub durability: Durability,
    /// When they may be acknowledged; none means now.
    pub durable: Option<Durable>,
}

/// Comes to its end when events have become durable; else says why they never will.
pub type Durable = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Records as rows.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The rows.
    pub rows: Vec<Delta>,
    /// The records that are not what the source declares.
    pub rejected: Vec<Rejected>,
    /// Whether reading stopped before the end because too many records were bad.
    pub stopped: bool,
}

impl Decoded {
    /// The number of rows.
    pub fn count(&self) -> usize {
        self.rows.iter().map(Delta::rows).sum()
    }
}

/// Why an inbox takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The engine has not yet taken in what came before: try again in a moment.
    Full,
    /// These rows would never fit, even into an empty inbox.
    TooLarge,
    /// The source takes no events any more.
    Closed,
    /// Events cannot be kept any more: the journal has failed.
    Lost,
    /// The source does not offer the durability that was asked for.
    NoSuchDurability,
}

/// A view whose rows are kept.
pub trait View: Send + Sync {
    /// Reads rows of one version.
    ///
    /// # Errors
    /// What is wrong with the lookup.
    fn read(&self, lookup: &Lookup) -> Result<Rows, LookupError>;

    /// Reads all rows of one version, and follows every change from there.
    ///
    /// # Errors
    /// [`LookupError::Failed`] when it cannot be followed.
    fn follow(&self) -> Result<(Rows, Box<dyn Follow>), LookupError> {
        Err(LookupError::Failed("this view cannot be followed".to_string()))
    }

    /// Follows every change after a version; none when not all of them are known any more, or it has not come yet.
    ///
    /// # Errors
    /// [`LookupError::Failed`] when it cannot be followed.
    fn follow_from(&self, version: u64) -> Result<Option<Box<dyn Follow>>, LookupError> {
        let _ = version;
        Ok(None)
    }

    /// The columns of its rows, when they are known before any is read.
    fn columns(&self) -> Option<SchemaRef> {
        None
    }
}

/// Follows a view, until dropped.
pub trait Follow: Send {
    /// What comes next; whoever asks is woken when something does.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Followed>;
}

impl Follow for Follower {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Followed> {
        Follower::poll_next(self, cx)
    }
}

/// What is asked of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The key's values; none asks for all rows.
    pub key: Vec<KeyPart>,
    /// The values of columns that an index finds rows by, instead of a key.
    pub by: Vec<KeyPart>,
    /// The most rows to answer.
    pub limit: usize,
}

/// A value of a key, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// The key's column; none means the next in the key's order.
    pub column: Option<String>,
    /// The value as it stands in JSON or, for strings and times, as plain text.
    pub value: String,
}

/// What a view answers.
#[derive(Debug)]
pub struct Rows {
    /// The step after which the rows stood so.
    pub version: u64,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

/// Why a view does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// The key does not fit the view.
    Key {
        /// What is wrong with it.
        problem: String,
        /// How to fix it.
        help: String,
    },
    /// The rows could not be read, though nothing is wrong with the question.
    Failed(String),
}

/// A table that people and services edit, version by version. Calls may wait for a disk or a bucket.
pub trait Table: Send + Sync {
    /// Submits the change that a body of JSON asks for.
    ///
    /// # Errors
    /// Why it is refused.
    fn submit(&self, body: &[u8]) -> Result<Submitted, Denial>;

    /// Looks again at a submit that waits; none while it still does.
    fn look(&self, ticket: u64) -> Option<Result<Json, Denial>>;

    /// Forgets a submit that waits, because nobody waits for its answer any more.
    fn forget(&self, ticket: u64);

    /// Returns to an older version's content, as a new version, as a body of JSON asks for it.
    ///
    /// # Errors
    /// Why it is refused.
    fn roll_back(&self, body: &[u8]) -> Result<Json, Denial>;

    /// The newest versions, at most `limit`; or all of them as a graph.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn versions(&self, graph: bool, limit: usize) -> Result<Json, Denial>;

    /// Rows at a version or `newest`: that of a key, or at most `limit` of all.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn at(&self, version: &str, key: &[KeyPart], limit: usize) -> Result<TableRows, Denial>;

    /// The keys whose rows differ between two versions.
    ///
    /// # Errors
    /// Why they cannot be compared.
    fn diff(&self, from: &str, to: &str) -> Result<Json, Denial>;
}

/// What became of a submit.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// It was accepted: the answer.
    Accepted(Json),
    /// It waits for a version that it rests on, under this ticket, for a while that the table bounds.
    Waiting(u64),
}

/// Rows of a table at one version, as objects.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRows {
    /// The version.
    pub version: String,
    /// The rows.
    pub rows: Vec<Json>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

/// The versions of a pipeline's state, to be read.
pub trait Versions: Send + Sync {
    /// All of them, the oldest first.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn list(&self) -> Result<Json, Denial>;

    /// One with what is in it.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn show(&self, version: &str) -> Result<Json, Denial>;

    /// How two differ.
    ///
    /// # Errors
    /// Why they cannot be compared.
    fn diff(&self, from: &str, to: &str) -> Result<Json, Denial>;
}

/// Why a table or a version does not do what it was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    /// What kind of reason it is.
    pub ground: Ground,
    /// The code of the error's page.
    pub code: &'static str,
    /// What is wrong.
    pub problem: String,
    /// How to go on.
    pub help: Option<String>,
    /// What else the answer tells, such as the keys of a conflict.
    pub more: Map<String, Json>,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// The request is wrong in itself.
    Request,
    /// What it asks for is not there.
    Missing,
    /// Others have done something that does not go with it.
    Conflict,
    /// It can be tried again as it is.
    Busy,
    /// Something failed on this side.
    Failed,
}

/// What the doors lead to.
#[derive(Default)]
pub struct Hall {
    inboxes: BTreeMap<String, Arc<dyn Inbox>>,
    endpoints: BTreeMap<String, Arc<dyn Endpoint>>,
    views: BTreeMap<String, Arc<dyn View>>,
    tables: BTreeMap<String, Arc<dyn Table>>,
    versions: Option<Arc<dyn Versions>>,
    draining: AtomicBool,
    drains: Notify,
}

impl Hall {
    /// A hall with nothing in it.
    pub fn new() -> Self {
        Hall::default()
    }

    /// Adds a source.
    pub fn add_inbox(&mut self, name: impl Into<String>, inbox: Arc<dyn Inbox>) {
        self.inboxes.insert(name.into(), inbox);
    }

    /// Adds an endpoint.
    pub fn add_endpoint(&mut self, name: impl Into<String>, endpoint: Arc<dyn Endpoint>) {
        self.endpoints.insert(name.into(), endpoint);
    }

    /// Adds a view.
    pub fn add_view(&mut self, name: impl Into<String>, view: Arc<dyn View>) {
        self.views.insert(name.into(), view);
    }

    /// Adds a versioned table.
    pub fn add_table(&mut self, name: impl Into<String>, table: Arc<dyn Table>) {
        self.tables.insert(name.into(), table);
    }

    /// Shows the versions of the pipeline's state.
    pub fn show_versions(&mut self, versions: Arc<dyn Versions>) {
        self.versions = Some(versions);
    }

    /// The source of that name; else the names there are.
    pub(crate) fn inbox(&self, name: &str) -> Result<&Arc<dyn Inbox>, Missing> {
        self.inboxes.get(name).ok_or_else(|| Missing::of(name, &self.inboxes))
    }

    /// The endpoint of that name; else the names there are.
    pub(crate) fn endpoint(&self, name: &str) -> Result<&Arc<dyn Endpoint>, Missing> {
        self.endpoints.get(name).ok_or_else(|| Missing::of(name, &self.endpoints))
    }

    /// The view of that name; else the names there are.
    pub(crate) fn view(&self, name: &str) -> Result<&Arc<dyn View>, Missing> {
        self.views.get(name).ok_or_else(|| Missing::of(name, &self.views))
    }

    /// The versioned table of that name; else the names there are.
    pub(crate) fn table(&self, name: &str) -> Result<&Arc<dyn Table>, Missing> {
        self.tables.get(name).ok_or_else(|| Missing::of(name, &self.tables))
    }

    /// The versions of the pipeline's state, when it keeps any.
    pub(crate) fn versions(&self) -> Option<&Arc<dyn Versions>> {
        self.versions.as_ref()
    }

    /// The sources' names, in order.
    pub(crate) fn inbox_names(&self) -> Vec<&str> {
        self.inboxes.keys().map(String::as_str).collect()
    }

    /// The endpoints' names, in order.
    pub(crate) fn endpoint_names(&self) -> Vec<&str> {
        self.endpoints.keys().map(String::as_str).collect()
    }

    /// The views' names, in order.
    pub(crate) fn view_names(&self) -> Vec<&str> {
        self.views.keys().map(String::as_str).collect()
    }

    /// The versioned tables' names, in order.
    pub(crate) fn table_names(&self) -> Vec<&str> {
        self.tables.keys().map(String::as_str).collect()
    }

    /// Whether events are refused because the process is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Refuses events from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.drains.notify_waiters();
    }

    /// Comes to its end when events are refused.
    pub(crate) async fn drained(&self) {
        let drains = self.drains.notified();
        let mut drains = std::pin::pin!(drains);
        // Asked to be woken first, so that nothing is missed between the look and the wait.
        drains.as_mut().enable();
        if !self.is_draining() {
            drains.await;
        }
    }

    /// The columns of the sources that say them, by name.
    pub(crate) fn inbox_columns(&self) -> impl Iterator<Item = (&str, SchemaRef)> {
        self.inboxes.iter().filter_map(|(name, inbox)| Some((name.as_str(), inbox.columns()?)))
    }

    /// The columns of the views that say them, by name.
    pub(crate) fn view_columns(&self) -> impl Iterator<Item = (&str, SchemaRef)> {
        self.views.iter().filter_map(|(name, view)| Some((name.as_str(), view.columns()?)))
    }
}

/// A name that nothing has, and how to go on.
pub(crate) struct Missing {
    /// One sentence of help.
    pub help: String,
}

impl Missing {
    fn of<T>(name: &str, all: &BTreeMap<String, T>) -> Self {
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let help = match suggest::nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None if names.is_empty() => "the pipeline has none".to_string(),
            None => format!("there are '{}'", names.join("', '")),
        };
        Missing { help }
    }
}
