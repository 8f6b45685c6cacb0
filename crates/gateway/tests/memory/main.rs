//! What a door holds while clients mean harm: the bytes that its threads have allocated, counted in the real servers, stay
//! below what `docs/doors.md` says. The clients do not count.

#![allow(unsafe_code, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tidemill_circuit::Delta;
use tidemill_gateway::{
    Config, Decoded, Doors, Durability, Hall, Inbox, Options, Receipt, Refusal, Rejection, Stack, Taken, Tell, Terms,
};

/// Bytes that are held, and the most that were.
static HELD: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Whether what this thread allocates and frees counts.
    static COUNTED: Cell<bool> = const { Cell::new(true) };
}

struct Counting;

impl Counting {
    fn count(bytes: i64) {
        if COUNTED.try_with(Cell::get).unwrap_or(false) {
            let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
            PEAK.fetch_max(held, Ordering::Relaxed);
        }
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size() as i64);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Counting::count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A source that counts bodies and keeps none.
#[derive(Default)]
struct Counter(AtomicU64);

impl Inbox for Counter {
    fn room(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn decode(&self, _body: &[u8]) -> Result<Decoded, String> {
        Ok(Decoded { rows: Vec::new(), rejected: Vec::new(), stopped: false })
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

const CONNECTIONS: usize = 150;
const HEAD_BYTES: usize = 16 << 10;
const BODY_BYTES: usize = 1 << 20;
const BODIES_BYTES: usize = 8 << 20;
const STREAMS: usize = 8;
const WINDOW_BYTES: usize = 64 << 10;

/// What the table of compressed heads keeps alive: each of its 124 short values the frame of 16 KiB that it came in.
const TABLE_BYTES: usize = 2 << 20;

/// The attacks of clients of HTTP/2.
const HTTP_2: &str = "streams that do not end";

/// What a door has for itself: threads, tables, code that runs for the first time.
const ITSELF_BYTES: usize = 4 << 20;

/// Blocks that the fast stack keeps for the next connections.
const POOL_BYTES: usize = (CONNECTIONS + 1) * 2 * (32 << 10);

/// What `docs/doors.md` says that it holds for its clients at most: of HTTP/1.1, and of HTTP/2.
const BOUND: usize = BODIES_BYTES + CONNECTIONS * (2 * HEAD_BYTES + (128 << 10));
const BOUND_2: usize =
    BODIES_BYTES + CONNECTIONS * (2 * STREAMS * HEAD_BYTES + (128 << 10) + WINDOW_BYTES + TABLE_BYTES);

fn open(stack: Stack) -> Doors {
    let mut hall = Hall::new();
    hall.add_inbox("events", Arc::new(Counter::default()));
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        stack,
        // One more, for a client that means no harm.
        connections_max: CONNECTIONS + 1,
        head_bytes_max: HEAD_BYTES,
        body_bytes_max: BODY_BYTES,
        inflated_bytes_max: 4 * BODY_BYTES,
        inflight_bytes_max: BODIES_BYTES,
        streams_max: STREAMS as u32,
        stream_window_bytes: WINDOW_BYTES as u32,
        connection_window_bytes: WINDOW_BYTES as u32,
        ..Options::default()
    };
    Doors::open(Config::one(options), hall).expect("the loopback has free ports")
}

fn head(more: &str) -> String {
    format!("POST /v1/sources/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}")
}

/// A body of spaces that unpacks to much more than it is.
fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; 8 * BODY_BYTES]).expect("memory takes everything");
    let packed = encoder.finish().expect("memory takes everything");
    let head = head(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len()));
    [head.into_bytes(), packed].concat()
}

/// Frames of HTTP/2: so many requests with long heads whose bodies do not end, as much of them as may be sent ahead.
fn streams(count: usize) -> Vec<u8> {
    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // `POST http://x/v1/sources/events` with the type of JSON, by indexes of the static table.
    let path = b"/v1/sources/events";
    let mut head = [&[0x83, 0x86, 0x04, path.len() as u8][..], path, b"\x41\x01x\x0f\x10\x10application/json"].concat();
    // A line of 12,000 bytes that is never indexed.
    head.extend([&b"\x10\x01x\x7f\xe1\x5c"[..], &vec![b'y'; 12_000]].concat());
    let mut frames = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat();
    let body = vec![b' '; 60_000 / count];
    for stream in (1..=2 * count as u32).step_by(2) {
        frames.extend(frame(HEADERS, 4, stream, &head));
        frames.extend(frame(DATA, 0, stream, &body));
    }
    frames
}

/// What clients send who mean harm, how many do, and none of them reads a word.
fn attacks() -> Vec<(&'static str, usize, Vec<u8>)> {
    let spaces = |bytes: usize| vec![b' '; bytes];
    let after = |head: String, bytes: Vec<u8>| [head.into_bytes(), bytes].concat();
    let chunks = format!("{:x}\r\n{}\r\n", 64 << 10, " ".repeat(64 << 10)).repeat(64);
    let event = head("Content-Length: 8\r\n\r\n{\"a\": 1}");
    vec![
        ("heads that do not end in time", CONNECTIONS, head(&format!("X: {}", "y".repeat(HEAD_BYTES - 300))).into()),
        ("heads without end", CONNECTIONS, head(&format!("X: {}", "y".repeat(BODY_BYTES))).into()),
        (
            "bodies that do not end in time",
            CONNECTIONS,
            after(head(&format!("Content-Length: {BODY_BYTES}\r\n\r\n")), spaces(BODY_BYTES - 1)),
        ),
        (
            "bodies that are announced too long",
            CONNECTIONS,
            after(head("Content-Length: 1099511627776\r\n\r\n"), spaces(BODY_BYTES)),
        ),
        ("chunks without end", CONNECTIONS, after(head("Transfer-Encoding: chunked\r\n\r\n"), chunks.into_bytes())),
        ("bodies that unpack to more", 16, bomb()),
        ("answers that nobody reads", CONNECTIONS, event.repeat(10_000).into_bytes()),
        (HTTP_2, CONNECTIONS, streams(STREAMS)),
        (HTTP_2, CONNECTIONS, streams(50 * STREAMS)),
    ]
}

/// Sends as much as is taken, and stays.
fn attack(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the door listens");
    stream.set_write_timeout(Some(Duration::from_millis(30))).expect("sockets have time-outs");
    // That it is cut off, or not listened to any more, is what is hoped for.
    let _ = stream.write_all(bytes);
    stream
}

/// What a client that means no harm is answered.
fn status(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("sockets have time-outs");
    stream.write_all(head("Content-Length: 8\r\n\r\n{\"a\": 1}").as_bytes()).expect("the door reads");
    let mut answer = [0; 2048];
    let count = stream.read(&mut answer).expect("the door answers");
    String::from_utf8_lossy(&answer[..count]).chars().skip(9).take(3).collect()
}

#[test]
fn what_a_door_holds_under_attack_is_bounded() {
    COUNTED.set(false);
    for stack in [Stack::Standard, Stack::Fast] {
        let before = HELD.load(Ordering::SeqCst);
        let kept = (ITSELF_BYTES + if stack == Stack::Fast { POOL_BYTES } else { 0 }) as i64;
        let doors = open(stack);
        let address = doors.addresses()[0];
        let mut friend = TcpStream::connect(address).expect("the door listens");
        assert_eq!(status(&mut friend), "202");
        for (name, clients, bytes) in attacks() {
            PEAK.store(HELD.load(Ordering::SeqCst), Ordering::SeqCst);
            let harmful: Vec<TcpStream> = (0..clients).map(|_| attack(address, &bytes)).collect();
            let heard = status(&mut friend);
            let sent = clients * bytes.len();
            let most = PEAK.load(Ordering::SeqCst) - before;
            println!("{stack:?}, {name}: {sent} bytes were to come, {most} were held at most; others hear {heard}");
            let bound = if name == HTTP_2 { BOUND_2 } else { BOUND };
            assert!(most <= (bound + ITSELF_BYTES) as i64, "{stack:?}, {name}: {most} bytes were held");
            assert!(["202", "429"].contains(&heard.as_str()), "{stack:?}, {name}: {heard}");
            drop(harmful);
            let mut left = 0;
            for _ in 0..600 {
                left = HELD.load(Ordering::SeqCst) - before;
                if left <= kept && status(&mut friend) == "202" {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(left <= kept, "{stack:?}, {name}: {left} bytes are held though nobody is there");
        }
        doors.stop(Duration::from_secs(5));
    }
}
