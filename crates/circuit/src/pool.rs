//! The threads of a circuit: lane 0 runs where the step was called, every other lane on a thread of its own.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Error;
use crate::lane::{Job, Lane};

type Done = (Lane, Result<(), Error>);

/// Threads that run lanes' jobs; a lane travels to its thread and back.
pub(crate) struct Pool {
    workers: Vec<Worker>,
}

struct Worker {
    jobs: Option<Sender<(Job, Lane)>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// `workers` threads that wait for jobs.
    pub fn new(workers: usize) -> Self {
        Pool { workers: (1..=workers).map(Worker::start).collect() }
    }

    /// Runs the first job here and the others on their threads; returns the lanes in order.
    pub fn run(&mut self, jobs: Vec<(Job, Lane)>) -> Vec<Done> {
        let mut jobs = jobs.into_iter();
        let Some((first_job, mut first)) = jobs.next() else { return Vec::new() };
        let mut waiting = Vec::with_capacity(self.workers.len());
        let mut done = Vec::with_capacity(self.workers.len() + 1);
        for ((job, lane), worker) in jobs.zip(&self.workers) {
            waiting.push(match &worker.jobs {
                // A worker catches its lane's panics and lives until its sender is dropped, so it always takes a job.
                Some(sender) => sender.send((job, lane)).map(|()| worker).map_err(|refused| refused.0),
                None => Err((job, lane)),
            });
        }
        let result = first.run(first_job);
        done.push((first, result));
        for waiting in waiting {
            match waiting {
                Ok(worker) => done.extend(worker.done.recv()),
                Err((job, mut lane)) => {
                    let result = lane.run(job);
                    done.push((lane, result));
                }
            }
        }
        done
    }
}

impl Worker {
    fn start(index: usize) -> Self {
        let (jobs, inbox) = bounded::<(Job, Lane)>(1);
        let (outbox, done) = bounded(1);
        let body = move || {
            for (job, mut lane) in inbox {
                let result = lane.run(job);
                if outbox.send((lane, result)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("lane-{index}")).spawn(body);
        match thread {
            Ok(thread) => Worker { jobs: Some(jobs), done, thread: Some(thread) },
            // No thread to be had: the lane's jobs run where the step was called.
            Err(_) => Worker { jobs: None, done, thread: None },
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its panics were caught and reported by the lane.
            let _ = thread.join();
        }
    }
}
