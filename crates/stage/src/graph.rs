//! [`Graph`]: stages and the streams between them.
//!
//! Everything is made of two things: [`Graph::channel`], a bounded channel, and [`Graph::stage`], a thread that owns the
//! ends it works on and closes them by ending. The other methods are the common shapes of the two.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::cancel::Cancel;
use crate::channel::{Receiver, Sender};
use crate::error::{Error, Halt};

/// What flows from one stage to the next; a stage takes it over.
#[must_use = "a stream that no stage takes stops the stage that fills it"]
pub struct Stream<T> {
    channels: Vec<crossbeam_channel::Receiver<T>>,
    cancel: Cancel,
}

impl<T> Stream<T> {
    /// The receiving end, for a stage made by [`Graph::stage`].
    pub fn into_receiver(self) -> Receiver<T> {
        Receiver::new(self.channels, self.cancel)
    }
}

/// How a graph came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The stages in the order in which they ended.
    pub ended: Vec<String>,
    /// Whether a graceful stop was asked for before the end.
    pub drained: bool,
}

struct Stage {
    name: String,
    work: Box<dyn FnOnce(&Running) + Send>,
}

/// Stages that run together and stop together.
pub struct Graph {
    cancel: Cancel,
    capacity: usize,
    stages: Vec<Stage>,
}

impl Graph {
    /// An empty graph that `cancel` stops; each of its channels holds at most `capacity` items.
    pub fn new(cancel: &Cancel, capacity: usize) -> Self {
        Graph { cancel: cancel.clone(), capacity, stages: Vec::new() }
    }

    /// A channel of the graph's capacity, for stages made by [`Graph::stage`].
    pub fn channel<T>(&self) -> (Sender<T>, Stream<T>) {
        self.channel_of(self.capacity)
    }

    /// A channel that holds at most `capacity` items; with 0 a send waits for the receive.
    pub fn channel_of<T>(&self, capacity: usize) -> (Sender<T>, Stream<T>) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        let stream = Stream { channels: vec![receiver], cancel: self.cancel.clone() };
        (Sender::new(sender, self.cancel.clone()), stream)
    }

    /// Adds a stage of any shape. `ends` are the senders and receivers it works on: one, a tuple, a struct of them.
    ///
    /// The graph keeps `ends` while `work` borrows them, so that a failure is known to all before they close, and no
    /// stage takes the loss of its input for a proper end. Ends that `work` owns itself lack that.
    pub fn stage<E: Send + 'static>(
        &mut self,
        name: impl Into<String>,
        mut ends: E,
        work: impl FnOnce(&mut E, &Cancel) -> Result<(), Halt> + Send + 'static,
    ) {
        let work = move |running: &Running| {
            let result = catch_unwind(AssertUnwindSafe(|| work(&mut ends, &running.cancel)));
            running.report(result);
            drop(ends);
        };
        self.stages.push(Stage { name: name.into(), work: Box::new(work) });
    }

    /// Adds a stage that makes items. It has to look at its `Cancel` between two items and whenever it waits.
    pub fn source<T: Send + 'static>(
        &mut self,
        name: impl Into<String>,
        work: impl FnOnce(&mut Sender<T>, &Cancel) -> Result<(), Halt> + Send + 'static,
    ) -> Stream<T> {
        let (sender, stream) = self.channel();
        self.stage(name, sender, work);
        stream
    }

    /// Adds a stage that sends on the items for which `keep` is true.
    pub fn filter<T: Send + 'static>(
        &mut self,
        name: impl Into<String>,
        input: Stream<T>,
        mut keep: impl FnMut(&T) -> bool + Send + 'static,
    ) -> Stream<T> {
        self.transform(name, input, move |item, out| if keep(&item) { Ok(out.send(item)?) } else { Ok(()) })
    }

    /// Adds a stage that makes any number of items of each item.
    pub fn transform<T: Send + 'static, U: Send + 'static>(
        &mut self,
        name: impl Into<String>,
        input: Stream<T>,
        mut each: impl FnMut(T, &mut Sender<U>) -> Result<(), Halt> + Send + 'static,
    ) -> Stream<U> {
        let (sender, stream) = self.channel();
        self.stage(name, (input.into_receiver(), sender), move |(receiver, sender), _| {
            while let Some(item) = receiver.recv()? {
                each(item, sender)?;
            }
            Ok(())
        });
        stream
    }

    /// Joins streams into one, taking from each in turn; it costs no thread.
    ///
    /// The items of one stream keep their order, those of different streams have none.
    pub fn merge<T>(&mut self, streams: Vec<Stream<T>>) -> Stream<T> {
        let channels = streams.into_iter().flat_map(|stream| stream.channels).collect();
        Stream { channels, cancel: self.cancel.clone() }
    }

    /// Adds a stage that sends each item to one of `count` streams: the one of index `by(item) % count`.
    pub fn split<T: Send + 'static>(
        &mut self,
        name: impl Into<String>,
        input: Stream<T>,
        count: usize,
        mut by: impl FnMut(&T) -> usize + Send + 'static,
    ) -> Vec<Stream<T>> {
        self.fan_out(name, input, count, move |item, senders| {
            let index = by(&item) % senders.len().max(1);
            senders.get_mut(index).map_or(Ok(()), |sender| Ok(sender.send(item)?))
        })
    }

    /// Adds a stage that sends each item to all of `count` streams. The slowest one holds back all.
    pub fn broadcast<T: Clone + Send + 'static>(
        &mut self,
        name: impl Into<String>,
        input: Stream<T>,
        count: usize,
    ) -> Vec<Stream<T>> {
        self.fan_out(name, input, count, |item, senders| {
            senders.iter_mut().try_for_each(|sender| Ok(sender.send(item.clone())?))
        })
    }

    fn fan_out<T: Send + 'static>(
        &mut self,
        name: impl Into<String>,
        input: Stream<T>,
        count: usize,
        mut each: impl FnMut(T, &mut [Sender<T>]) -> Result<(), Halt> + Send + 'static,
    ) -> Vec<Stream<T>> {
        let (senders, streams): (Vec<_>, Vec<_>) = (0..count).map(|_| self.channel()).unzip();
        self.stage(name, (input.into_receiver(), senders), move |(receiver, senders), _| {
            while let Some(item) = receiver.recv()? {
                each(item, senders)?;
            }
            Ok(())
        });
        streams
    }

    /// Adds a stage that takes items away. [`Receiver::recv`] says `None` at the proper end, where a sink commits, and
    /// [`crate::Stopped`] after an abort, where it must not.
    pub fn sink<T: Send + 'static>(
        &mut self,
        name: impl Into<String>,
        input: Stream<T>,
        work: impl FnOnce(&mut Receiver<T>, &Cancel) -> Result<(), Halt> + Send + 'static,
    ) {
        self.stage(name, input.into_receiver(), work);
    }

    /// Runs all stages, each on its own thread, until all have ended.
    ///
    /// # Errors
    /// The first failure, with those that followed it; [`Error::Aborted`] when someone aborted a graph that did not fail.
    pub fn run(self) -> Result<Summary, Error> {
        let log = Arc::new(Mutex::new(Log::default()));
        // No stage starts before all have a thread, so that a missing one is known before any channel closes.
        let (gate, opened) = crossbeam_channel::bounded::<Infallible>(0);
        let mut threads = Vec::with_capacity(self.stages.len());
        for Stage { name, work } in self.stages {
            let running = Running { name: name.clone(), cancel: self.cancel.clone(), log: Arc::clone(&log) };
            let opened = opened.clone();
            let run = move || {
                let Err(_) = opened.recv();
                work(&running);
                running.end();
            };
            match thread::Builder::new().name(thread_name(&name)).spawn(run) {
                Ok(thread) => threads.push(thread),
                Err(cause) => {
                    lock(&log).errors.push(Error::NoThread { stage: name, cause });
                    self.cancel.abort();
                    break;
                }
            }
        }
        drop(gate);
        for thread in threads {
            // A panic is caught inside and told in the log, so there is nothing to learn here.
            let _ = thread.join();
        }
        let Log { ended, errors } = std::mem::take(&mut *lock(&log));
        match Error::first(errors) {
            Some(error) => Err(error),
            None if self.cancel.is_aborted() => Err(Error::Aborted),
            None => Ok(Summary { ended, drained: self.cancel.is_draining() }),
        }
    }
}

#[derive(Default)]
struct Log {
    ended: Vec<String>,
    errors: Vec<Error>,
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stage on its thread.
struct Running {
    name: String,
    cancel: Cancel,
    log: Arc<Mutex<Log>>,
}

impl Running {
    /// Notes how the stage's work ended, and aborts the graph when it failed.
    fn report(&self, result: thread::Result<Result<(), Halt>>) {
        let (stage, others) = (self.name.clone(), Vec::new());
        let error = match result {
            Ok(Ok(()) | Err(Halt::Stopped)) => return,
            Ok(Err(Halt::Failed(cause))) => Error::Failed { stage, cause, others },
            Err(payload) => Error::Panicked { stage, message: panic_text(&*payload), others },
        };
        lock(&self.log).errors.push(error);
        self.cancel.abort();
    }

    fn end(self) {
        lock(&self.log).ended.push(self.name);
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}

/// The name as the system shows it: without the zero bytes that it refuses.
fn thread_name(name: &str) -> String {
    name.replace('\0', "")
}
