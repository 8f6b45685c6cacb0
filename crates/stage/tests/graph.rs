//! Graphs that end, drain, abort, fail and panic, small channels and many seeds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tidemill_base::rand::Rng;
use tidemill_base::{Explain, Kind};
use tidemill_stage::{Cancel, Error, Graph, Halt, Sender, Stream, wait_any};

#[derive(Debug, thiserror::Error)]
#[error("no more {0}")]
struct Spent(&'static str);

impl Explain for Spent {
    fn code(&self) -> &'static str {
        "TM9999"
    }

    fn kind(&self) -> Kind {
        Kind::Environment
    }
}

fn count_up(graph: &mut Graph, name: &str, to: u64) -> Stream<u64> {
    graph.source(name, move |out, cancel| {
        for number in 0..to {
            if cancel.is_draining() {
                break;
            }
            out.send(number)?;
        }
        Ok(())
    })
}

/// A sink that collects what comes and notes whether it may commit.
fn collect(graph: &mut Graph, name: &str, input: Stream<u64>) -> (Arc<Mutex<Vec<u64>>>, Arc<AtomicBool>) {
    let (items, committed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (kept, commit) = (Arc::clone(&items), Arc::clone(&committed));
    graph.sink(name, input, move |input, _| {
        while let Some(item) = input.recv()? {
            kept.lock().unwrap().push(item);
        }
        commit.store(true, Ordering::SeqCst);
        Ok(())
    });
    (items, committed)
}

#[test]
fn keeps_order_through_stages_of_one_item_channels() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 1);
    let numbers = count_up(&mut graph, "numbers", 1_000);
    let even = graph.filter("even", numbers, |number| number % 2 == 0);
    let twice = graph.transform("twice", even, |number, out| {
        out.send(number)?;
        Ok(out.send(number)?)
    });
    let (items, committed) = collect(&mut graph, "sink", twice);
    let summary = graph.run().expect("nothing fails");
    let expected: Vec<u64> = (0..1_000).filter(|number| number % 2 == 0).flat_map(|number| [number, number]).collect();
    assert_eq!(*items.lock().unwrap(), expected);
    assert!(committed.load(Ordering::SeqCst));
    assert_eq!(summary.ended, ["numbers", "even", "twice", "sink"]);
    assert!(!summary.drained);
}

#[test]
fn merges_and_splits_without_losing_an_item() {
    for capacity in [0, 1, 7] {
        let cancel = Cancel::new();
        let mut graph = Graph::new(&cancel, capacity);
        let streams = (0..5).map(|index| count_up(&mut graph, &format!("source {index}"), 300)).collect();
        let merged = graph.merge(streams);
        let parts = graph.split("by remainder", merged, 3, |number| *number as usize);
        let sinks: Vec<_> =
            parts.into_iter().enumerate().map(|(i, part)| collect(&mut graph, &format!("sink {i}"), part)).collect();
        graph.run().expect("nothing fails");
        for (index, (items, committed)) in sinks.iter().enumerate() {
            let items = items.lock().unwrap();
            assert_eq!(items.len(), 500);
            assert!(items.iter().all(|item| *item as usize % 3 == index));
            assert!(committed.load(Ordering::SeqCst));
        }
    }
}

#[test]
fn broadcasts_to_all() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let numbers = count_up(&mut graph, "numbers", 100);
    let copies = graph.broadcast("copies", numbers, 3);
    let sinks: Vec<_> =
        copies.into_iter().enumerate().map(|(i, copy)| collect(&mut graph, &format!("sink {i}"), copy)).collect();
    graph.run().expect("nothing fails");
    assert!(sinks.iter().all(|(items, _)| *items.lock().unwrap() == (0..100).collect::<Vec<_>>()));
}

#[test]
fn a_slow_sink_holds_back_its_source() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let (made, taken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counter, seen) = (Arc::clone(&made), Arc::clone(&made));
    let numbers = graph.source("numbers", move |out: &mut Sender<u64>, _| {
        for number in 0..100 {
            out.send(number)?;
            counter.store(number + 1, Ordering::SeqCst);
        }
        Ok(())
    });
    let count = Arc::clone(&taken);
    graph.sink("slow", numbers, move |input, _| {
        while input.recv()?.is_some() {
            let taken = count.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(seen.load(Ordering::SeqCst) <= taken + 2, "two wait in the channel at most");
        }
        Ok(())
    });
    graph.run().expect("never more than the capacity ahead");
    assert_eq!(taken.load(Ordering::SeqCst), 100);
}

#[test]
fn drain_processes_what_was_sent_and_commits() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 4);
    let sent = Arc::new(AtomicU64::new(0));
    let (count, stopper) = (Arc::clone(&sent), cancel.clone());
    let numbers = graph.source("endless", move |out, cancel| {
        for number in 0.. {
            if cancel.is_draining() {
                break;
            }
            out.send(number)?;
            count.store(number + 1, Ordering::SeqCst);
            if number == 5_000 {
                stopper.drain();
            }
        }
        Ok(())
    });
    let (items, committed) = collect(&mut graph, "sink", numbers);
    let summary = graph.run().expect("a graceful stop is no failure");
    assert!(summary.drained && committed.load(Ordering::SeqCst));
    assert_eq!(items.lock().unwrap().len() as u64, sent.load(Ordering::SeqCst));
    assert_eq!(summary.ended, ["endless", "sink"]);
}

#[test]
fn abort_reaches_stages_that_wait() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 1);
    let blocked = graph.source("waits for room", |out: &mut Sender<u64>, _| {
        loop {
            out.send(0)?;
        }
    });
    let sleeping = graph.source("sleeps", |_: &mut Sender<u64>, cancel| {
        assert!(!cancel.sleep(Duration::from_secs(600)));
        Ok(())
    });
    let (_, committed) = collect(&mut graph, "waits for items", sleeping);
    let stopper = cancel.clone();
    graph.sink("pulls the plug", blocked, move |input, cancel| {
        input.recv()?;
        stopper.abort();
        assert!(!cancel.sleep_through_drain(Duration::from_secs(600)));
        Ok(())
    });
    let error = graph.run().expect_err("it was aborted");
    assert!(matches!(error, Error::Aborted), "{error}");
    assert!(!committed.load(Ordering::SeqCst));
}

/// Runs a chain whose stage `culprit` misbehaves at its 50th item.
fn run_with_culprit(culprit: &'static str, misbehave: fn() -> Result<(), Halt>) -> (Error, bool, Vec<&'static str>) {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 3);
    let ended = Arc::new(Mutex::new(Vec::new()));
    let at = move |stage: &str, item: u64| if stage == culprit && item == 50 { misbehave() } else { Ok(()) };
    let endless = {
        let guard = Guard("source", Arc::clone(&ended));
        graph.source("source", move |out, cancel| {
            let _guard = guard;
            for number in 0.. {
                if cancel.is_draining() {
                    break;
                }
                at("source", number)?;
                out.send(number)?;
            }
            Ok(())
        })
    };
    let same = {
        let guard = Guard("transform", Arc::clone(&ended));
        graph.transform("transform", endless, move |number, out| {
            let _ = &guard;
            at("transform", number)?;
            Ok(out.send(number)?)
        })
    };
    let mut copies = graph.broadcast("copies", same, 2).into_iter();
    let (_, committed) = collect(&mut graph, "bystander", copies.next().expect("two copies"));
    let guard = Guard("sink", Arc::clone(&ended));
    graph.sink("sink", copies.next().expect("two copies"), move |input, _| {
        let _guard = guard;
        while let Some(number) = input.recv()? {
            at("sink", number)?;
        }
        Ok(())
    });
    let error = graph.run().expect_err("the culprit misbehaves");
    let ended = ended.lock().unwrap().clone();
    (error, committed.load(Ordering::SeqCst), ended)
}

struct Guard(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

#[test]
fn a_failing_stage_stops_all_and_nobody_commits() {
    for culprit in ["source", "transform", "sink"] {
        for _ in 0..50 {
            let (error, committed, ended) = run_with_culprit(culprit, || Err(Spent("paper").into()));
            assert_eq!(error.to_string(), format!("stage '{culprit}': no more paper"));
            assert_eq!((error.code(), error.stage()), ("TM9999", Some(culprit)));
            assert!(error.others().is_empty());
            assert!(!committed, "the failure of {culprit} was taken for a proper end");
            assert_eq!(ended.len(), 3);
        }
    }
}

#[test]
fn stages_before_the_culprit_end_before_those_after_it() {
    for _ in 0..50 {
        let (_, _, ended) = run_with_culprit("transform", || Err(Spent("ink").into()));
        let place = |name| ended.iter().position(|ended| *ended == name);
        assert!(place("transform") < place("sink"), "{ended:?}");
    }
}

#[test]
fn a_panic_is_caught_and_named() {
    for culprit in ["source", "transform", "sink"] {
        let (error, committed, _) = run_with_culprit(culprit, || panic!("broken cog"));
        assert_eq!(error.to_string(), format!("stage '{culprit}' panicked: broken cog"));
        assert_eq!(error.kind(), Kind::Bug);
        assert!(!committed);
    }
}

#[test]
fn later_errors_are_listed_behind_the_first() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 1);
    let first = graph.source("first", |_: &mut Sender<u64>, _| Err(Spent("water").into()));
    let second = graph.source("second", |_: &mut Sender<u64>, cancel| {
        cancel.sleep(Duration::from_secs(600));
        Err(Halt::other("the second thing"))
    });
    let merged = graph.merge(vec![first, second]);
    let (_, committed) = collect(&mut graph, "sink", merged);
    let error = graph.run().expect_err("both fail");
    assert_eq!(error.to_string(), "stage 'first': no more water");
    assert_eq!(
        error.others().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["stage 'second': the second thing"]
    );
    assert!(!committed.load(Ordering::SeqCst));
}

#[test]
fn a_sink_that_has_enough_ends_its_sources_quietly() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 1);
    let numbers = graph.source("endless", |out, _| {
        for number in 0_u64.. {
            out.send(number)?;
        }
        Ok(())
    });
    graph.sink("first ten", numbers, |input, _| {
        for _ in 0..10 {
            input.recv()?;
        }
        Ok(())
    });
    assert!(graph.run().is_ok());
}

#[test]
fn a_driver_waits_on_several_inputs_and_a_timer() {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 1);
    let inputs: Vec<_> = (0..3).map(|i| count_up(&mut graph, &format!("source {i}"), 200).into_receiver()).collect();
    let (sender, sums) = graph.channel::<u64>();
    graph.stage("driver", (inputs, sender), |(inputs, out), _| {
        assert!(!inputs.is_empty());
        while !inputs.is_empty() {
            let receivers: Vec<_> = inputs.iter().collect();
            wait_any(&receivers, Some(Duration::from_millis(1)));
            let mut index = 0;
            while index < inputs.len() {
                match inputs[index].try_recv()? {
                    Poll::Ready(Some(number)) => out.send(number)?,
                    Poll::Ready(None) => drop(inputs.swap_remove(index)),
                    Poll::Pending => index += 1,
                }
            }
        }
        Ok(())
    });
    let (items, _) = collect(&mut graph, "sink", sums);
    graph.run().expect("nothing fails");
    assert_eq!(items.lock().unwrap().len(), 600);
}

/// Builds a random graph, breaks or stops it at a random place, and checks that it comes to an end as it should.
fn stress(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, rng.below(4) as usize);
    let doom = rng.below(4_000);
    let way = rng.below(6);
    let steps = Arc::new(AtomicU64::new(0));
    let (stopper, counter) = (cancel.clone(), Arc::clone(&steps));
    let tick = move || -> Result<(), Halt> {
        if counter.fetch_add(1, Ordering::SeqCst) != doom {
            return Ok(());
        }
        match way {
            0 => return Err(Spent("luck").into()),
            1 => panic!("out of luck"),
            2 => stopper.drain(),
            3 => stopper.abort(),
            _ => {}
        }
        Ok(())
    };
    let mut streams: Vec<Stream<u64>> =
        (0..1 + rng.below(3)).map(|index| count_up(&mut graph, &format!("source {index}"), rng.below(500))).collect();
    for stage in 0..rng.below(5) {
        let input = if rng.chance(1, 2) || streams.len() == 1 {
            streams.remove(rng.below(streams.len() as u64) as usize)
        } else {
            let all = std::mem::take(&mut streams);
            graph.merge(all)
        };
        match rng.below(2) {
            0 => {
                let tick = tick.clone();
                streams.push(graph.transform(format!("transform {stage}"), input, move |number, out| {
                    tick()?;
                    Ok(out.send(number)?)
                }));
            }
            _ => streams.extend(graph.split(format!("split {stage}"), input, 2, |number| *number as usize / 3)),
        }
    }
    let commits: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(index, stream)| {
            let tick = tick.clone();
            let checked = graph.transform(format!("check {index}"), stream, move |number, out| {
                tick()?;
                Ok(out.send(number)?)
            });
            collect(&mut graph, &format!("sink {index}"), checked).1
        })
        .collect();
    let result = graph.run();
    let doomed = steps.load(Ordering::SeqCst) > doom;
    match (doomed, way) {
        (true, 0) => assert!(matches!(result, Err(Error::Failed { .. })), "seed {seed}: {result:?}"),
        (true, 1) => assert!(matches!(result, Err(Error::Panicked { .. })), "seed {seed}: {result:?}"),
        (true, 3) => assert!(matches!(result, Err(Error::Aborted)), "seed {seed}: {result:?}"),
        _ => assert!(result.is_ok(), "seed {seed}: {result:?}"),
    }
    if result.is_ok() {
        assert!(commits.iter().all(|commit| commit.load(Ordering::SeqCst)), "seed {seed}");
    }
}

#[test]
fn random_graphs_come_to_an_end_however_they_are_stopped() {
    for seed in 0..300 {
        stress(seed);
    }
}
