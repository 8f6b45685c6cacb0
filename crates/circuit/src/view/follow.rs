//! [`Follower`]: who follows a view is given what each step changes in it.
//!
//! A follower begins with the rows of one version and misses no change from then on, because both happen under the view's
//! lock. Changes wait in a queue of bounded rows; a follower that lets it run over has lost its place and is told so. The
//! writer never waits. The last changes are kept, so that a follower that was away for a while goes on where it was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::{Error, Snapshot, View, ViewWriter, bytes_of};
use crate::delta::Delta;

/// The rows that wait for a follower; one step's changes wait however many they are.
const ROWS_MAX: usize = 65_536;

/// The changes that are kept for those who were away: of so many rows, and so many bytes.
const HISTORY_ROWS_MAX: usize = 65_536;
const HISTORY_BYTES_MAX: u64 = 8 << 20;

/// What a step changed in a view.
#[derive(Debug, Clone)]
pub struct Change {
    /// The step.
    pub version: u64,
    /// The rows that came and went, in the order they did.
    pub deltas: Vec<Delta>,
}

/// What a follower is given.
#[derive(Debug, Clone)]
pub enum Followed {
    /// What the next step with changes did.
    Changed(Change),
    /// The follower was too slow: changes after those it was given are lost to it.
    Lost,
    /// The view does not change any more.
    Ended,
}

/// Somebody who follows a view, until dropped.
pub struct Follower {
    queue: Arc<Queue>,
}

/// The followers of a view, as its writer has them, and the last changes for those who were away.
#[derive(Default)]
pub(super) struct Followers {
    queues: Vec<Weak<Queue>>,
    /// All changes after the version `since`.
    history: VecDeque<Change>,
    since: u64,
    rows: usize,
    bytes: u64,
}

#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    changes: VecDeque<Change>,
    rows: usize,
    lost: bool,
    ended: bool,
    waker: Option<Waker>,
}

impl View {
    /// The rows after the last step, and who follows every change from there.
    ///
    /// # Errors
    /// [`Error::Arrow`] when rows cannot be gathered.
    pub fn follow(&self) -> Result<(Snapshot, Follower), Error> {
        let queue = Arc::new(Queue::default());
        let (version, chunks) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.followers.queues.push(Arc::downgrade(&queue));
            (state.version, state.chunks.values().cloned().collect::<Vec<_>>())
        };
        Ok((self.gather(version, &chunks)?, Follower { queue }))
    }

    /// Who follows every change after a version; none when not all of them are known any more, or it has not come yet.
    pub fn follow_from(&self, version: u64) -> Option<Follower> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if version < state.followers.since || version > state.version {
            return None;
        }
        let changes = state.followers.history.iter().filter(|change| change.version > version);
        let changes: VecDeque<Change> = changes.cloned().collect();
        let rows = changes.iter().map(Change::rows).sum();
        let queue = Arc::new(Queue(Mutex::new(Waiting { changes, rows, ..Waiting::default() })));
        state.followers.queues.push(Arc::downgrade(&queue));
        Some(Follower { queue })
    }
}

impl Follower {
    /// What comes next; whoever asks is woken when something does.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Followed> {
        let mut waiting = self.queue.lock();
        if let Some(change) = waiting.changes.pop_front() {
            waiting.rows -= change.rows();
            return Poll::Ready(Followed::Changed(change));
        }
        if waiting.lost {
            return Poll::Ready(Followed::Lost);
        }
        if waiting.ended {
            return Poll::Ready(Followed::Ended);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Followers {
    /// Tells everyone what a step did.
    pub(super) fn tell(&mut self, step: u64, deltas: &[Delta]) {
        if deltas.iter().all(|delta| delta.rows() == 0) {
            return;
        }
        let change = Change { version: step, deltas: deltas.to_vec() };
        let rows = change.rows();
        self.each(|waiting| {
            // What comes after something lost would not follow what came before it.
            waiting.lost |= waiting.rows > 0 && waiting.rows + rows > ROWS_MAX;
            if !waiting.lost {
                waiting.rows += rows;
                waiting.changes.push_back(change.clone());
            }
        });
        self.remember(change);
    }

    /// Keeps a change for those who were away, as long as there is room.
    fn remember(&mut self, change: Change) {
        self.rows += change.rows();
        self.bytes += change.bytes();
        self.history.push_back(change);
        while self.rows > HISTORY_ROWS_MAX || self.bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.rows -= oldest.rows();
            self.bytes -= oldest.bytes();
            self.since = oldest.version;
        }
    }

    /// The rows were put back as they were after a step: what changed before it is not known.
    pub(super) fn begin(&mut self, step: u64) {
        *self = Followers { queues: std::mem::take(&mut self.queues), since: step, ..Followers::default() };
    }

    /// The bytes of changes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn each(&mut self, tell: impl Fn(&mut Waiting)) {
        self.queues.retain(|follower| {
            let Some(queue) = follower.upgrade() else { return false };
            let mut waiting = queue.lock();
            tell(&mut waiting);
            let (waker, stays) = (waiting.waker.take(), !waiting.lost && !waiting.ended);
            drop(waiting);
            waker.into_iter().for_each(Waker::wake);
            stays
        });
    }
}

impl Drop for ViewWriter {
    fn drop(&mut self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.followers.each(|waiting| waiting.ended = true);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    fn rows(&self) -> usize {
        self.deltas.iter().map(Delta::rows).sum()
    }

    fn bytes(&self) -> u64 {
        self.deltas.iter().map(|delta| bytes_of(delta.batch()) + 8 * delta.rows() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use arrow_array::{Int64Array, RecordBatch};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::view::{ViewSpec, view};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn open() -> (ViewWriter, View) {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let spec = ViewSpec { name: "v".to_string(), schema, key: None, append_only: true };
        view(spec).expect("integers can be compared")
    }

    fn rows(values: std::ops::Range<i64>) -> Delta {
        let column = Arc::new(Int64Array::from_iter_values(values));
        Delta::inserts(RecordBatch::try_from_iter([("n", column as _)]).expect("one column"))
    }

    /// The version and the number of rows of what comes next, or a word for what else there is.
    fn next(follower: &mut Follower, waker: &Arc<Count>) -> Result<(u64, usize), &'static str> {
        match follower.poll_next(&mut Context::from_waker(&waker.clone().into())) {
            Poll::Ready(Followed::Changed(change)) => Ok((change.version, change.rows())),
            Poll::Ready(Followed::Lost) => Err("lost"),
            Poll::Ready(Followed::Ended) => Err("ended"),
            Poll::Pending => Err("waits"),
        }
    }

    #[test]
    fn a_follower_is_given_what_comes_after_the_rows_it_began_with() {
        let (mut writer, view) = open();
        let waker = Arc::new(Count::default());
        writer.apply(1, &[rows(0..3)]).expect("rows come");
        let (snapshot, mut follower) = view.follow().expect("integers");
        assert_eq!((snapshot.version, snapshot.batches[0].num_rows()), (1, 3));
        assert_eq!(next(&mut follower, &waker), Err("waits"));
        writer.apply(2, &[rows(3..5), rows(5..6)]).expect("rows come");
        writer.pass(3);
        writer.apply(4, &[rows(6..7)]).expect("rows come");
        assert_eq!(waker.0.load(Ordering::Relaxed), 1);
        assert_eq!(next(&mut follower, &waker), Ok((2, 3)));
        assert_eq!(next(&mut follower, &waker), Ok((4, 1)));
        assert_eq!(next(&mut follower, &waker), Err("waits"));
        drop(writer);
        assert_eq!(next(&mut follower, &waker), Err("ended"));
    }

    #[test]
    fn a_follower_that_is_too_slow_is_told_so_and_forgotten() {
        let (mut writer, view) = open();
        let waker = Arc::new(Count::default());
        let (_, mut slow) = view.follow().expect("integers");
        // One step's changes wait however many they are; then no more do.
        let many = rows(0..70_000);
        writer.apply(1, std::slice::from_ref(&many)).expect("rows come");
        writer.apply(2, &[rows(0..1)]).expect("rows come");
        writer.apply(3, &[rows(0..1)]).expect("rows come");
        assert_eq!(next(&mut slow, &waker), Ok((1, 70_000)));
        assert_eq!(next(&mut slow, &waker), Err("lost"));
        let (_, quick) = view.follow().expect("integers");
        drop(quick);
        writer.apply(4, &[rows(0..1)]).expect("rows come");
        assert!(view.state.read().expect("nobody panicked").followers.queues.is_empty());
    }

    #[test]
    fn a_follower_goes_on_where_it_was_while_the_changes_are_known() {
        let (mut writer, view) = open();
        let waker = Arc::new(Count::default());
        assert!(view.follow_from(1).is_none(), "no such version has come");
        writer.apply(1, &[rows(0..3)]).expect("rows come");
        writer.pass(2);
        writer.apply(3, &[rows(3..5)]).expect("rows come");
        let mut follower = view.follow_from(1).expect("all is known");
        assert_eq!(next(&mut follower, &waker), Ok((3, 2)));
        assert_eq!(next(&mut follower, &waker), Err("waits"));
        writer.apply(4, &[rows(5..6)]).expect("rows come");
        assert_eq!(next(&mut follower, &waker), Ok((4, 1)));
        assert_eq!(next(&mut view.follow_from(4).expect("the newest"), &waker), Err("waits"));
        writer.apply(5, &[rows(0..60_000)]).expect("rows come");
        writer.apply(6, &[rows(0..10_000)]).expect("rows come");
        assert!(view.follow_from(4).is_none(), "what step 5 changed is forgotten");
        assert_eq!(next(&mut view.follow_from(5).expect("step 6 is known"), &waker), Ok((6, 10_000)));
    }
}
