//! Answers that come later than their requests: from endpoints, from the journal, or never.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tidemill_circuit::Delta;
use tidemill_gateway::{
    Answered, Decoded, Durability, Endpoint, Fallback, Hall, Inbox, Options, Question, Receipt, Refusal, Rejection,
    Taken, Tell, Terms, Ticket, fast,
};

/// An endpoint that answers when the test says so, and at the deadline with its fallback.
#[derive(Default)]
struct Slow {
    asked: Mutex<VecDeque<(String, Ticket)>>,
    came: Condvar,
}

impl Slow {
    /// The next question, in the order in which they came.
    fn next(&self) -> (String, Ticket) {
        let asked = self.asked.lock().expect("no test panics with it");
        let (mut asked, timeout) = self
            .came
            .wait_timeout_while(asked, Duration::from_secs(20), |asked| asked.is_empty())
            .expect("no test panics with it");
        assert!(!timeout.timed_out(), "a question comes");
        asked.pop_front().expect("there is one")
    }
}

fn say(ticket: &Ticket, body: &str, fallback: Option<Fallback>) {
    let answer = Answered { status: 200, body: body.as_bytes(), fallback, rule: "r", version: 1, repeated: false };
    ticket.door.answer(ticket.number, answer);
}

impl Endpoint for Slow {
    fn deadline(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn ask(&self, body: &[u8], _terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        let number = ticket.number;
        let mut asked = self.asked.lock().expect("no test panics with it");
        asked.push_back((String::from_utf8_lossy(body).to_string(), ticket));
        self.came.notify_all();
        Ok(Question(number))
    }

    fn expire(&self, question: Question) {
        let asked = self.asked.lock().expect("no test panics with it");
        let waiting = asked.iter().find(|(_, ticket)| ticket.number == question.0);
        if let Some((_, ticket)) = waiting {
            say(ticket, "\"late\"", Some(Fallback::Deadline));
        }
    }
}

/// A source whose journal reaches a place when the test says so.
#[derive(Default)]
struct Kept(Mutex<Journal>);

#[derive(Default)]
struct Journal {
    place: u64,
    durable: u64,
    tells: Vec<(u64, Tell)>,
    most_tells: usize,
}

impl Kept {
    /// Everything up to `place` is durable, or never will be.
    fn reach(&self, place: u64, result: Result<(), String>) {
        let mut journal = self.0.lock().expect("no test panics with it");
        if result.is_ok() {
            journal.durable = place;
        }
        let (over, left) = std::mem::take(&mut journal.tells).into_iter().partition(|(at, _)| *at <= place);
        journal.tells = left;
        drop(journal);
        let over: Vec<(u64, Tell)> = over;
        over.into_iter().for_each(|(_, tell)| tell(result.clone()));
    }

    /// Waits until so many bodies have come.
    fn wait_for(&self, bodies: u64) {
        for _ in 0..2_000 {
            if self.0.lock().expect("no test panics with it").place >= bodies {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{bodies} bodies come");
    }
}

impl Inbox for Kept {
    fn room(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn decode(&self, _body: &[u8]) -> Result<Decoded, String> {
        Ok(Decoded::default())
    }

    fn offer(&self, _rows: Vec<Delta>, _body: &[u8], _level: Option<Durability>) -> Result<Taken, Refusal> {
        Ok(Taken { offset: 77, durability: Durability::Process, durable: None })
    }

    fn take(&self, _body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        let mut journal = self.0.lock().expect("no test panics with it");
        journal.place += 1;
        let level = terms.durability.unwrap_or(Durability::Flushed);
        let place = (level == Durability::Flushed).then_some(journal.place);
        Ok(Receipt { accepted: 1, offset: journal.place - 1, durability: Some(level), place, ..Receipt::default() })
    }

    fn durable(&self, _level: Durability) -> u64 {
        self.0.lock().expect("no test panics with it").durable
    }

    fn when_durable(&self, place: u64, _level: Durability, tell: Tell) {
        let mut journal = self.0.lock().expect("no test panics with it");
        if journal.durable >= place {
            drop(journal);
            return tell(Ok(()));
        }
        journal.tells.push((place, tell));
        journal.most_tells = journal.most_tells.max(journal.tells.len());
    }
}

/// A door with all of them behind it.
struct Door {
    server: Option<fast::Server>,
    woken: Arc<Woken>,
    slow: Arc<Slow>,
    kept: Arc<Kept>,
}

impl Door {
    fn open() -> Self {
        Door::with(Options { workers: 1, ..Options::default() })
    }

    fn with(options: Options) -> Self {
        let (slow, kept, woken): (Arc<Slow>, Arc<Kept>, Arc<Woken>) = Default::default();
        let mut hall = Hall::new();
        hall.add_endpoint("slow", slow.clone());
        hall.add_endpoint("woken", woken.clone());
        hall.add_inbox("kept", kept.clone());
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = fast::Server::start(Options { listen, ..options }, hall);
        Door { server: Some(server.expect("the loopback has free ports")), woken, slow, kept }
    }

    fn client(&self) -> Client {
        let address = self.server.as_ref().expect("taken on drop only").address();
        let stream = TcpStream::connect(address).expect("the door listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sockets have time-outs");
        Client { stream, read: Vec::new() }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::from_millis(100));
        }
    }
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    fn post(&mut self, target: &str, lines: &str, body: &str) {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("the door reads");
    }

    /// The next answer: its head and its body.
    fn answer(&mut self) -> Option<(String, String)> {
        loop {
            let text = String::from_utf8_lossy(&self.read).to_string();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
                if rest.len() >= length {
                    let answer = (head.to_string(), rest[..length].to_string());
                    self.read.drain(..head.len() + 4 + length);
                    return Some(answer);
                }
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more).expect("the door answers or hangs up") {
                0 => return None,
                count => self.read.extend_from_slice(&more[..count]),
            }
        }
    }

    fn body(&mut self) -> String {
        self.answer().expect("an answer").1
    }
}

#[test]
fn answers_leave_in_the_order_of_their_requests() {
    let door = Door::open();
    let mut client = door.client();
    client.post("/v1/endpoints/slow", "", "1");
    client.post("/v1/sources/kept?durability=process", "", "{}");
    client.post("/v1/endpoints/slow", "", "2");
    client.post("/v1/endpoints/none", "", "{}");
    client.post("/v1/endpoints/slow", "", "3");
    let asked: Vec<_> = (0..3).map(|_| door.slow.next()).collect();
    assert_eq!(
        asked.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>(),
        ["1", "2", "3"],
        "all were taken at once"
    );
    for at in [2, 0, 1] {
        say(&asked[at].1, &format!("\"of {}\"", asked[at].0), None);
    }
    assert_eq!(client.body(), "\"of 1\"");
    assert!(client.body().starts_with("{\"accepted\":1,"));
    assert_eq!(client.body(), "\"of 2\"");
    assert!(client.body().contains("there is no endpoint 'none'"));
    assert_eq!(client.body(), "\"of 3\"");
}

#[test]
fn a_fallback_comes_when_the_time_is_over() {
    let door = Door::open();
    let mut client = door.client();
    client.post("/v1/endpoints/slow", "Prefer: wait=0.02\r\n", "1");
    let (head, body) = client.answer().expect("an answer");
    assert_eq!(body, "\"late\"");
    assert!(
        head.contains("\r\ntidemill-fallback: deadline") && head.contains("\r\npreference-applied: wait=0.02"),
        "{head}"
    );
    client.post("/v1/endpoints/slow", "", "2");
    let (_, first) = door.slow.next();
    let (body, second) = door.slow.next();
    say(&first, "\"too late\"", None);
    assert_eq!(body, "2");
    say(&second, "\"in time\"", None);
    assert_eq!(client.body(), "\"in time\"", "an answer that nobody waits for is nobody's");
}

#[test]
fn an_answer_to_a_client_that_has_gone_reaches_nobody() {
    let door = Door::open();
    let mut gone = door.client();
    gone.post("/v1/endpoints/slow", "", "1");
    let (_, first) = door.slow.next();
    drop(gone);
    let mut client = door.client();
    client.post("/v1/endpoints/slow", "", "2");
    let (_, second) = door.slow.next();
    say(&first, "\"for the one that has gone\"", None);
    say(&second, "\"for the other\"", None);
    assert_eq!(client.body(), "\"for the other\"");
}

#[test]
fn acknowledgements_wait_for_the_journal_and_go_together() {
    let door = Door::open();
    let mut clients: Vec<Client> = (0..3).map(|_| door.client()).collect();
    for client in &mut clients {
        client.post("/v1/sources/kept", "", "{}");
        client.post("/v1/sources/kept", "", "{}");
    }
    door.kept.wait_for(6);
    door.kept.reach(5, Ok(()));
    door.kept.reach(6, Ok(()));
    let mut offsets: Vec<String> = clients.iter_mut().flat_map(|client| [client.body(), client.body()]).collect();
    offsets.sort();
    let expected = |offset| format!("{{\"accepted\":1,\"offset\":{offset},\"durability\":\"flushed\"}}");
    assert_eq!(offsets, (0..6).map(expected).collect::<Vec<_>>());
    assert_eq!(door.kept.0.lock().expect("no test panics with it").most_tells, 1, "one asks for all");
}

#[test]
fn a_journal_that_fails_is_told_to_all_who_wait() {
    let door = Door::open();
    let mut client = door.client();
    client.post("/v1/sources/kept", "", "{}");
    client.post("/v1/sources/kept", "", "{}");
    door.kept.wait_for(2);
    door.kept.reach(u64::MAX, Err("the disk is gone".to_string()));
    let (head, body) = client.answer().expect("an answer");
    assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("the disk is gone"), "{head} {body}");
    assert!(head.contains("\r\nconnection: close") && client.answer().is_none(), "nothing comes behind it");
}

#[test]
fn a_long_body_is_read_aside_and_answered_in_its_turn() {
    let door = Door::open();
    let mut client = door.client();
    client.post("/v1/sources/kept?durability=process", "", &" ".repeat(1 << 20));
    client.post("/v1/sources/kept?durability=process", "", "{}");
    assert!(client.body().contains("\"offset\":77"));
    assert!(client.body().contains("\"offset\":0"));
}

#[test]
fn a_client_that_reads_nothing_is_not_read_from_and_loses_nothing() {
    const REQUESTS: usize = 40_000;
    let door = Door::open();
    let mut client = door.client();
    let stream = client.stream.try_clone().expect("a socket can be shared");
    let writer = std::thread::spawn(move || {
        let mut client = Client { stream, read: Vec::new() };
        (0..REQUESTS).for_each(|_| client.post("/v1/sources/kept?durability=process", "", "{}"));
    });
    // Far more answers than sockets hold: the door stops reading, and goes on when there is room.
    std::thread::sleep(Duration::from_millis(300));
    let mut other = door.client();
    other.post("/v1/sources/kept?durability=process", "", "{}");
    assert!(other.body().starts_with("{\"accepted\":1,"), "another client is served meanwhile");
    let (mut answers, mut tail, mut read) = (0, Vec::new(), vec![0; 64 << 10]);
    while answers < REQUESTS {
        let count = client.stream.read(&mut read).expect("answers come");
        assert!(count > 0, "{answers} answers came");
        tail.extend_from_slice(&read[..count]);
        answers += tail.windows(12).filter(|twelve| twelve == b"HTTP/1.1 202").count();
        let keep = tail.len().saturating_sub(11);
        tail.drain(..keep);
    }
    writer.join().expect("all requests were taken");
}

#[test]
fn few_connections_are_served_by_many_workers() {
    let door = Door::with(Options { connections_max: 1, workers: 4, ..Options::default() });
    for _ in 0..40 {
        let mut client = door.client();
        client.post("/v1/sources/kept?durability=process", "", "{}");
        assert!(client.body().starts_with("{\"accepted\":1,"));
    }
}

#[test]
fn a_door_that_closes_answers_what_waits() {
    let mut door = Door::open();
    let mut client = door.client();
    let mut idle = door.client();
    client.post("/v1/endpoints/slow", "", "1");
    let (_, ticket) = door.slow.next();
    let server = door.server.take().expect("it runs");
    let stopping = std::thread::spawn(move || server.stop(Duration::from_secs(20)));
    assert!(idle.answer().is_none(), "who wants nothing is let go");
    say(&ticket, "\"the last\"", None);
    assert_eq!(client.body(), "\"the last\"");
    assert!(client.answer().is_none());
    stopping.join().expect("stopping does not panic");
}

/// An endpoint that answers when it is told of what it was asked, and can be held up.
#[derive(Default)]
struct Woken {
    asked: Mutex<Vec<(String, Ticket, bool)>>,
    /// How many were there each time.
    wakes: Mutex<Vec<usize>>,
    held: Mutex<bool>,
    free: Condvar,
}

impl Woken {
    fn hold(&self, held: bool) {
        *self.held.lock().expect("no test panics with it") = held;
        self.free.notify_all();
    }
}

impl Endpoint for Woken {
    fn deadline(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn ask(&self, body: &[u8], terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        assert!(terms.quiet, "it is told later");
        let held = self.held.lock().expect("no test panics with it");
        drop(self.free.wait_while(held, |held| *held));
        let number = ticket.number;
        let body = String::from_utf8_lossy(body).to_string();
        self.asked.lock().expect("no test panics with it").push((body, ticket, terms.late));
        Ok(Question(number))
    }

    fn wake(&self) {
        let asked = std::mem::take(&mut *self.asked.lock().expect("no test panics with it"));
        self.wakes.lock().expect("no test panics with it").push(asked.len());
        for (body, ticket, late) in asked {
            say(&ticket, &format!("\"{body} {}\"", if late { "late" } else { "in time" }), None);
        }
    }

    fn expire(&self, _question: Question) {}
}

#[test]
fn an_endpoint_is_told_once_of_what_came_together() {
    let door = Door::open();
    let woken = door.woken.clone();
    let mut client = door.client();
    let request =
        "POST /v1/endpoints/woken HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n7";
    client.stream.write_all(request.repeat(100).as_bytes()).expect("the door reads");
    for _ in 0..100 {
        assert_eq!(client.body(), "\"7 in time\"");
    }
    let wakes = woken.wakes.lock().expect("no test panics with it");
    assert_eq!(wakes.iter().sum::<usize>(), 100);
    assert!(wakes.len() < 100, "{wakes:?}");
}

#[test]
fn a_request_whose_time_was_over_before_it_was_read_is_late() {
    let door = Door::open();
    let woken = door.woken.clone();
    let (mut first, mut second) = (door.client(), door.client());
    for client in [&mut first, &mut second] {
        client.post("/v1/endpoints/woken", "", "0");
        assert_eq!(client.body(), "\"0 in time\"");
    }
    woken.hold(true);
    first.post("/v1/endpoints/woken", "", "1");
    // The worker is held up with the first, or will be: it reads no other meanwhile.
    std::thread::sleep(Duration::from_millis(50));
    second.post("/v1/endpoints/woken", "Prefer: wait=0.005\r\n", "2");
    second.post("/v1/endpoints/woken", "", "3");
    std::thread::sleep(Duration::from_millis(100));
    woken.hold(false);
    assert_eq!(first.body(), "\"1 in time\"");
    assert_eq!([second.body(), second.body()], ["\"2 late\"", "\"3 in time\""]);
}
