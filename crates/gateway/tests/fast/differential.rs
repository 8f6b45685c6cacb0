//! The same bytes to both stacks: the same verdicts, or a refusal that is listed here with its reason.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tidemill_base::rand::Rng;
use tidemill_gateway::{Options, Server, fast};

use crate::behind::{Source, hall};
use crate::streams::stream;

/// Streams that are tried; `TIDEMILL_STREAMS` says otherwise.
const STREAMS: u64 = 100_000;

/// Clients at once, each with a source of its own; no small change makes one name another.
const SOURCES: [&str; 4] = ["aaaa", "bbbb", "cccc", "dddd"];

/// What the fast stack refuses and hyper takes, by what its refusal says, and why.
const STRICTER: &[(&str, &str)] = &[
    ("a line of the head ends in LF without CR", "RFC 9112, 2.2 lets a recipient take it; a proxy before us may not"),
    ("the head has no Host, several, or one that is no host", "RFC 9112, 3.2: a server MUST answer 400"),
    ("the head has several Content-Length lines", "RFC 9112, 6.3 lets a recipient take equal ones; a proxy may not"),
    ("the head has both Content-Length and Transfer-Encoding", "RFC 9112, 6.1: ought to be handled as an error"),
    ("Transfer-Encoding does not end in one chunked", "RFC 9112, 7: chunked MUST NOT be applied twice"),
    ("Transfer-Encoding is not chunked alone", "RFC 9112, 6.1: SHOULD answer 501 to a coding it does not understand"),
    (
        "the body broke off: a chunk is not what its size says, or its size no number",
        "RFC 9112, 7.1: no space before CRLF, no control character in an extension",
    ),
    (
        "the body broke off: a line after the last chunk is no header line",
        "RFC 9112, 7.1.2 and 2.2: trailers are header lines and end in CRLF",
    ),
];

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    status: u16,
    body: String,
}

impl Verdict {
    fn detail(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(body.get("detail")?.as_str()?.to_string())
    }

    /// Whether two answers say the same: bodies may differ where the protocol is at fault, as hyper says nothing then.
    fn agrees(&self, hyper: &Verdict) -> bool {
        let silent = hyper.body.is_empty() || hyper.body.contains("the body broke off");
        self.status == hyper.status && (self.body == hyper.body || (silent && self.status == 400))
    }
}

/// Sends `bytes`, says that nothing more comes, and reads all answers.
fn verdicts(address: SocketAddr, bytes: &[u8]) -> Vec<Verdict> {
    let mut stream = TcpStream::connect(address).expect("the door listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has time-outs");
    stream.write_all(bytes).expect("a door reads what is sent");
    let _ = stream.shutdown(Shutdown::Write);
    let mut read = Vec::new();
    if let Err(error) = stream.read_to_end(&mut read) {
        panic!("{error} after {:?}, to {:?}", String::from_utf8_lossy(&read), String::from_utf8_lossy(bytes));
    }
    parse(&read)
}

fn parse(mut read: &[u8]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    while !read.is_empty() {
        let end = read.windows(4).position(|four| four == b"\r\n\r\n").expect("heads are whole") + 4;
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
        read = &read[end..];
        if status != 100 {
            verdicts.push(Verdict { status, body: String::from_utf8_lossy(&read[..length]).to_string() });
            read = &read[length..];
        }
    }
    verdicts
}

/// One stream to both; says by which refusal the fast stack was stricter, if it was.
fn compare(bytes: &[u8], fast: (SocketAddr, &Source), hyper: (SocketAddr, &Source)) -> Option<&'static str> {
    let (one, other) = (verdicts(fast.0, bytes), verdicts(hyper.0, bytes));
    let (taken, expected) = (fast.1.collect(), hyper.1.collect());
    let say = || format!("{:?}\nfast: {one:#?}\nhyper: {other:#?}", String::from_utf8_lossy(bytes));
    let same = one.iter().zip(&other).take_while(|(fast, hyper)| fast.agrees(hyper)).count();
    if same == one.len() && same == other.len() {
        assert_eq!(taken, expected, "{}", say());
        return None;
    }
    // Of a head that is wrong and never ends, hyper says nothing when it hangs up; both have refused it.
    let refused = one.last().is_some_and(|last| last.status == 400 && last.body.contains("\"title\":\"no request\""));
    if refused && same == other.len() && same + 1 == one.len() {
        assert_eq!(taken, expected, "{}", say());
        return None;
    }
    // After a refusal whose body nobody has read, either may hang up instead of passing over it.
    let refused = same > 0 && one[same - 1].status >= 400;
    if refused && same == one.len().min(other.len()) {
        let (fewer, more) = if same == one.len() { (&taken, &expected) } else { (&expected, &taken) };
        assert!(more.starts_with(fewer), "{}", say());
        return None;
    }
    // A stricter refusal is the last answer, and nothing behind it is taken.
    let detail = one.last().and_then(Verdict::detail).unwrap_or_else(|| panic!("{}", say()));
    let listed = STRICTER.iter().find(|(listed, _)| *listed == detail);
    assert!(listed.is_some() && same >= one.len() - 1, "{}", say());
    assert_eq!(expected.get(..taken.len()), Some(&taken[..]), "{}", say());
    listed.map(|(detail, _)| *detail)
}

#[test]
fn both_stacks_give_the_same_verdicts() {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let options = || Options { listen, workers: 2, ..Options::default() };
    let ((one, of_fast), (other, of_hyper)) = (hall(&SOURCES), hall(&SOURCES));
    let fast = fast::Server::start(options(), one).expect("the loopback has free ports");
    let hyper = Server::start(options(), other).expect("the loopback has free ports");
    let count = std::env::var("TIDEMILL_STREAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(STREAMS);
    let stricter = std::thread::scope(|scope| {
        let work = |client: usize, one: Arc<Source>, other: Arc<Source>| {
            let (fast, hyper) = (fast.address(), hyper.address());
            move || {
                let mut rng = Rng::seeded(client as u64);
                let mut stricter = Vec::new();
                for _ in 0..count / SOURCES.len() as u64 {
                    let bytes = stream(&mut rng, SOURCES[client]);
                    stricter.extend(compare(&bytes, (fast, &*one), (hyper, &*other)));
                }
                stricter
            }
        };
        let clients: Vec<_> = (of_fast.iter().zip(&of_hyper).enumerate())
            .map(|(client, (one, other))| scope.spawn(work(client, one.clone(), other.clone())))
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("the stacks agree")).collect::<Vec<_>>()
    });
    for (detail, reason) in STRICTER {
        let found = stricter.iter().filter(|found| *found == detail).count();
        println!("{found} of {count}: {detail} ({reason})");
        assert!(found > 0 || count < STREAMS, "no stream shows: {detail}");
    }
    fast.stop(Duration::from_secs(5));
    hyper.stop(Duration::from_secs(5));
}
