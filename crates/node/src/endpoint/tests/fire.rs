//! Many clients at once, with retries, deadlines and clients that hang up: what was answered is what a replay of the
//! accepted rows, one by one, would answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tidemill_base::rand::Rng;

use super::*;

const CLIENTS: u64 = 64;
const CALLS: u64 = 60;
const CARDS: u64 = 5;

/// What a client was told was taken: the row, and its card.
type Taken = (u64, u64);

/// A request: the row it became, when that is known, and its card.
struct Asked {
    ticket: u64,
    row: Option<u64>,
    card: u64,
    key: Option<String>,
}

#[derive(Default)]
struct Seen {
    taken: Vec<Taken>,
    asked: Vec<Asked>,
}

/// What a client does.
fn client(bench: &Bench, client: u64, tickets: &AtomicU64) -> Seen {
    let (mut rng, mut seen) = (Rng::seeded(client), Seen::default());
    let mut earlier: Vec<(String, u64)> = Vec::new();
    for call in 0..CALLS {
        let card = rng.below(CARDS);
        match rng.below(10) {
            0..3 => {
                let rows = 1 + rng.below(4);
                let body = format!("{{\"card\":{card},\"amount\":1}}\n").repeat(rows as usize);
                let receipt = bench.door.take(body.as_bytes(), Terms::default()).expect("there is room");
                assert_eq!(receipt.accepted as u64, rows);
                seen.taken.extend((receipt.offset..receipt.offset + rows).map(|row| (row, card)));
            }
            3..7 => ask(bench, tickets, card, None, &mut rng, &mut seen),
            // Keys are shared by pairs of clients, and some are used again by the same one.
            7..9 => {
                let key = format!("{}-{call}", client / 2);
                let card = (client / 2 + call) % CARDS;
                earlier.push((key.clone(), card));
                ask(bench, tickets, card, Some(key), &mut rng, &mut seen);
            }
            _ => {
                if let Some((key, card)) = earlier.get(rng.below(earlier.len().max(1) as u64) as usize).cloned() {
                    ask(bench, tickets, card, Some(key), &mut rng, &mut seen);
                }
            }
        }
        if rng.below(4) == 0 {
            thread::yield_now();
        }
    }
    seen
}

fn ask(bench: &Bench, tickets: &AtomicU64, card: u64, key: Option<String>, rng: &mut Rng, seen: &mut Seen) {
    let ticket = tickets.fetch_add(1, Ordering::Relaxed);
    let body = format!("{{\"card\":{card},\"amount\":2}}");
    let terms = Terms { idempotency_key: key.as_deref(), ..Terms::default() };
    let question = bench.ask(ticket, &body, terms).expect("there is room");
    // A door may be impatient, and may ask for that more than once.
    for _ in 0..rng.below(12).saturating_sub(9) {
        bench.desk.expire(question);
    }
    let row = Some(question.0).filter(|row| *row != u64::MAX);
    seen.asked.push(Asked { ticket, row, card, key });
}

#[test]
fn answers_are_those_of_a_replay_of_the_accepted_rows() {
    let bench = Bench::new(None, |options| options.waiting_max = 1_000_000);
    let (over, tickets) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen: Vec<Seen> = thread::scope(|scope| {
        let stepping = scope.spawn(|| {
            let mut rng = Rng::seeded(7);
            while !over.load(Ordering::Acquire) {
                bench.step(1 + rng.below(200));
            }
            while bench.step(1_000) {}
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let (bench, tickets) = (&bench, &tickets);
                    move || client(bench, number, tickets)
                })
            })
            .collect();
        let seen = clients.into_iter().map(|client| client.join().expect("a client is well")).collect();
        over.store(true, Ordering::Release);
        stepping.join().expect("every step runs");
        seen
    });

    // The rows, each of them once: of ingests, and of requests by the first that came with their key.
    let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (row, card) in seen.iter().flat_map(|seen| &seen.taken) {
        assert_eq!(rows.insert(*row, *card), None, "row {row} was told to two");
    }
    for asked in seen.iter().flat_map(|seen| &seen.asked) {
        let Some(row) = asked.row else { continue };
        let before = rows.insert(row, asked.card);
        assert!(before.is_none_or(|card| asked.key.is_some() && card == asked.card), "row {row} was told to two");
    }
    let dense = rows.keys().copied().eq(0..rows.len() as u64);
    assert!(dense, "every row that was taken was told to somebody");
    let mut counts = vec![0; CARDS as usize];
    let replayed: Vec<u64> = rows
        .values()
        .map(|card| {
            counts[*card as usize] += 1;
            counts[*card as usize]
        })
        .collect();

    let (mut by_rule, mut repeated) = (0, 0);
    for asked in seen.iter().flat_map(|seen| &seen.asked) {
        let answer = bench.post.of(asked.ticket);
        let (status, body) = answer.split_once(" {").unwrap_or_default();
        assert!(matches!(status, "200" | "200 again") && !answer.contains(" | "), "exactly one answer: {answer:?}");
        if let (Some(row), false) = (asked.row, body.contains("fallback")) {
            assert!(body.contains(&format!("\"count\":{}}}", replayed[row as usize])), "row {row}: {body}");
            by_rule += 1;
        }
        repeated += usize::from(status == "200 again");
        if let Some(key) = &asked.key {
            keys.entry(key.clone()).or_default().push(body.to_string());
        }
    }
    for (key, answers) in &keys {
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "key {key} was answered in two ways: {answers:?}");
    }
    assert!(by_rule > 1_000 && repeated > 100, "{by_rule} answers of the rule, {repeated} repeated");
}
