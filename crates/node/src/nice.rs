//! [`step_aside`]: threads that let others go first.
//!
//! Where a pipeline has endpoints, whatever nobody waits for runs at a lower priority, so that a request does not wait for
//! a processor. Threads that a thread starts have its priority.

use rustix::process::setpriority_process;

/// How far threads step aside, of the 19 there are: they still get a tenth of a processor that all want.
const ASIDE: i32 = 10;

/// Lets this thread run after others, from now on.
pub(crate) fn step_aside() {
    // Of a thread, where the system knows threads' own priorities; there is no other reading of "the caller" on Linux.
    if let Err(error) = setpriority_process(None, ASIDE) {
        tracing::debug!(%error, "The priority of a thread stays as it is.");
    }
}

/// Runs `work` on a thread that has stepped aside, so that the threads it starts have too; elsewhere when `aside` is false.
pub(crate) fn aside<T: Send>(aside: bool, work: impl FnOnce() -> T + Send) -> T {
    if !aside {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            step_aside();
            work()
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn what_steps_aside_is_the_thread_and_those_it_starts() {
        let priority = || getpriority_process(None).expect("a thread may ask");
        let before = priority();
        let inside = aside(true, || (priority(), std::thread::spawn(priority).join().expect("it does not panic")));
        assert_eq!(inside, (before.max(ASIDE), before.max(ASIDE)));
        assert_eq!((priority(), aside(false, priority)), (before, before));
    }
}
