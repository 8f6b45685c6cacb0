//! Planted bugs: mistakes that a simulation turns on to see whether it would find them.
//!
//! A place that could be got wrong asks [`is`] whether it shall be. Outside debug builds the answer is a constant no,
//! so nothing of this is in a release. The switch belongs to the thread, for simulations are single-threaded.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Bug {
    /// The journal acknowledges without having flushed.
    SkipFlush,
    /// A record is acknowledged although one before it is not whole yet.
    AckBeforeContiguous,
    /// A start takes the incarnation of the one before.
    ReuseIncarnation,
    /// A commit under an old epoch is taken.
    IgnoreEpoch,
    /// A failed flush is tried again and then believed.
    RetryFlush,
    /// Changes of one key on two sides are merged without being asked.
    MergeOverlap,
    /// A new segment's name is not made durable before records in it are acknowledged.
    SkipFolderSync,
    /// A checksum is not looked at in recovery.
    TrustTornRecord,
    /// A snapshot's manifest is written before its packs.
    ManifestFirst,
    /// A segment is removed that a snapshot does not cover yet.
    DropUncovered,
    /// Recovery says again what was said before the crash.
    RepeatOutput,
    /// A step's outputs leave before its header is durable.
    OutputBeforeHeader,
}

impl Bug {
    /// Every mistake there is.
    pub const ALL: [Bug; 12] = [
        Bug::SkipFlush,
        Bug::AckBeforeContiguous,
        Bug::ReuseIncarnation,
        Bug::IgnoreEpoch,
        Bug::RetryFlush,
        Bug::MergeOverlap,
        Bug::SkipFolderSync,
        Bug::TrustTornRecord,
        Bug::ManifestFirst,
        Bug::DropUncovered,
        Bug::RepeatOutput,
        Bug::OutputBeforeHeader,
    ];
}

/// Whether this mistake shall be made here.
#[inline]
pub fn is(bug: Bug) -> bool {
    cfg!(debug_assertions) && PLANTED.get() == Some(bug)
}

/// Runs `work` with a mistake turned on in this thread.
pub fn with<T>(bug: Bug, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Bug>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _restore = Restore(PLANTED.replace(Some(bug)));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_there_only_where_it_was_planted() {
        assert!(!is(Bug::SkipFlush));
        with(Bug::SkipFlush, || {
            assert!(is(Bug::SkipFlush));
            assert!(!is(Bug::RetryFlush));
        });
        assert!(!is(Bug::SkipFlush));
    }
}
