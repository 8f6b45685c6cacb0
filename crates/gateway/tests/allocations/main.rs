//! How often the threads of a door allocate for a request, counted in the real servers. The clients do not count.

#![allow(unsafe_code, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill_circuit::Delta;
use tidemill_gateway::{
    Answered, Config, Decoded, Doors, Durability, Endpoint, Hall, Inbox, Options, Question, Rate, Rates, Receipt,
    Refusal, Rejection, Stack, Taken, Tell, Terms, Ticket,
};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread's allocations count.
    static COUNTED: Cell<bool> = const { Cell::new(true) };
}

struct Counting;

impl Counting {
    fn count() {
        if COUNTED.try_with(Cell::get).unwrap_or(false) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A source that counts bodies.
#[derive(Default)]
struct Counter(AtomicU64);

impl Inbox for Counter {
    fn room(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn decode(&self, _body: &[u8]) -> Result<Decoded, String> {
        Err("only short bodies come".to_string())
    }

    fn offer(&self, _rows: Vec<Delta>, _body: &[u8], _level: Option<Durability>) -> Result<Taken, Refusal> {
        Err(Refusal::Closed)
    }

    fn take(&self, _body: &[u8], _terms: Terms<'_>) -> Result<Receipt, Rejection> {
        let offset = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Receipt { accepted: 1, offset, durability: Some(Durability::Process), ..Receipt::default() })
    }

    fn durable(&self, _level: Durability) -> u64 {
        u64::MAX
    }

    fn when_durable(&self, _place: u64, _level: Durability, tell: Tell) {
        tell(Ok(()));
    }
}

/// An endpoint that decides at once.
struct Allow;

impl Endpoint for Allow {
    fn deadline(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn ask(&self, _body: &[u8], _terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        let body = br#"{"rows":[{"decision":"allow"}],"rule":"r","version":1}"#;
        let answer = Answered { status: 200, body, fallback: None, rule: "r", version: 1, repeated: false };
        ticket.door.answer(ticket.number, answer);
        Ok(Question(ticket.number))
    }

    fn expire(&self, _question: Question) {}
}

/// A client that sends the same again and again.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: usize,
}

impl Client {
    /// Requests for `path`, so many at once; learns how long an answer is from the first.
    fn new(address: SocketAddr, path: &str, depth: usize) -> Self {
        let body = r#"{"card":"4970-0001","amount":12.5,"merchant":"m-17"}"#;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).expect("the door listens");
        stream.set_nodelay(true).expect("sockets have options");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sockets have time-outs");
        let mut client = Client {
            request: request.clone().into_bytes(),
            answer: 0,
            stream: stream.try_clone().expect("a socket can be shared"),
        };
        stream.write_all(&client.request).expect("the door reads");
        let mut first = vec![0; 4096];
        let count = stream.read(&mut first).expect("the door answers");
        let text = String::from_utf8_lossy(&first[..count]).to_string();
        assert!(text.starts_with("HTTP/1.1 20") && text.contains("\r\n\r\n{"), "{text}");
        client.request = request.repeat(depth).into_bytes();
        client
    }

    /// Sends `rounds` times and reads all answers, which are `depth` of them each time.
    fn run(&mut self, rounds: usize, depth: usize) {
        let mut read = vec![0; 64 << 10];
        for _ in 0..rounds {
            self.stream.write_all(&self.request).expect("the door reads");
            let mut left = depth;
            while left > 0 {
                let count = self.stream.read(&mut read).expect("the door answers");
                assert!(count > 0, "the door stays open");
                left -= read[..count].windows(9).filter(|nine| nine == b"HTTP/1.1 ").count();
                self.answer += count;
            }
        }
    }
}

/// Allocations per request of a door at work, the least of three rounds: what happens once is not a request's.
fn allocations(address: SocketAddr, path: &str, depth: usize) -> f64 {
    const ROUNDS: usize = 500;
    let mut client = Client::new(address, path, depth);
    client.run(ROUNDS, depth);
    let mut round = || {
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        client.run(ROUNDS, depth);
        let after = ALLOCATIONS.load(Ordering::SeqCst);
        (after - before) as f64 / (ROUNDS * depth) as f64
    };
    (0..3).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn doors(stack: Stack) -> Doors {
    let mut hall = Hall::new();
    hall.add_inbox("payments", Arc::new(Counter::default()));
    hall.add_endpoint("score", Arc::new(Allow));
    let rate = Rate { count: 1_000_000, per: Duration::from_secs(1), burst: 1_000_000 };
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        stack,
        workers: 1,
        rates: Rates { address: Some(rate), source: Some(rate), ..Rates::default() },
        ..Options::default()
    };
    Doors::open(Config::one(options), hall).expect("the loopback has free ports")
}

#[test]
fn the_fast_stack_does_not_allocate_for_a_request_and_the_standard_one_seldom() {
    COUNTED.set(false);
    for (stack, most) in [(Stack::Fast, 0.0), (Stack::Standard, 7.0)] {
        let doors = doors(stack);
        let address = doors.addresses()[0];
        for path in ["/v1/sources/payments", "/v1/endpoints/score"] {
            for depth in [1, 16] {
                let count = allocations(address, path, depth);
                println!("{stack:?} {path}, {depth} at once: {count:.3} allocations a request");
                assert!(
                    count <= most || (stack == Stack::Standard && path.ends_with("score")),
                    "{stack:?} {path} {depth}: {count}"
                );
            }
        }
        doors.stop(Duration::from_secs(5));
    }
}
