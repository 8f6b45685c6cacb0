//! HTTP/2 clients that mean harm: frames by hand over a raw socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tidemill_gateway::Options;

use super::Door;
use super::client::get;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// `GET /v1/health` by indexes of the static table, and a path in the clear.
const HEAD: &[u8] = b"\x82\x86\x04\x0a/v1/health\x41\x01x";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A connection on which HTTP/2 is spoken.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the door listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has time-outs");
    stream.set_write_timeout(Some(Duration::from_secs(30))).expect("a socket has time-outs");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the door reads");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).expect("the door reads");
    stream
}

/// Writes until the door has had enough; how many bytes it took.
fn flood(stream: &mut TcpStream, bytes_max: usize, mut next: impl FnMut(u32) -> Vec<u8>) -> usize {
    let mut written = 0;
    for number in 0.. {
        let bytes = next(number);
        if written >= bytes_max || stream.write_all(&bytes).is_err() {
            break;
        }
        written += bytes.len();
    }
    written
}

/// The kinds of the frames that come until the door closes, and the error of its GOAWAY.
fn ending(mut stream: TcpStream) -> (Vec<u8>, Option<u32>) {
    let mut bytes = Vec::new();
    // A reset by the door is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    let (mut kinds, mut error, mut rest) = (Vec::new(), None, bytes.as_slice());
    while let Some((head, more)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, more)) = more.split_at_checked(length) else { break };
        kinds.push(head[3]);
        if let (GOAWAY, Some(code)) = (head[3], payload.get(4..8)) {
            error = Some(u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        }
        rest = more;
    }
    (kinds, error)
}

fn still_serves(door: &Door) {
    assert_eq!(get(door, "/v1/health").status, 200, "others are served");
}

#[test]
fn a_client_that_takes_all_its_requests_back_is_sent_away() {
    let door = Door::open();
    let mut stream = connect(door.server().address());
    let written = flood(&mut stream, 64 << 20, |number| {
        let id = 2 * number + 1;
        [frame(HEADERS, 5, id, HEAD), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
    });
    still_serves(&door);
    assert!(written < 64 << 20, "it was cut off");
    drop(stream);
    // The same, read at once: it is told why.
    let mut stream = connect(door.server().address());
    let few: Vec<u8> = (0..2_000_u32)
        .flat_map(|number| {
            let id = 2 * number + 1;
            [frame(HEADERS, 5, id, HEAD), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    let _ = stream.write_all(&few);
    let (kinds, error) = ending(stream);
    assert!(error.is_none_or(|error| error == 11), "ENHANCE_YOUR_CALM: {kinds:?} {error:?}");
    still_serves(&door);
}

#[test]
fn a_head_without_end_is_cut_off() {
    let door = Door::open();
    let mut stream = connect(door.server().address());
    stream.write_all(&frame(HEADERS, 1, 1, HEAD)).expect("the door reads");
    // A header that is never indexed, again and again, in frames that never say END_HEADERS.
    let field = [b"\x10\x01x\x7f\xe1\x1e".to_vec(), vec![b'y'; 4_000]].concat();
    let written = flood(&mut stream, 64 << 20, |_| frame(CONTINUATION, 0, 1, &field));
    assert!(written < 16 << 20, "{written} bytes were taken");
    still_serves(&door);
}

#[test]
fn empty_continuations_are_cut_off() {
    let door = Door::open();
    let mut stream = connect(door.server().address());
    stream.write_all(&frame(HEADERS, 1, 1, HEAD)).expect("the door reads");
    let written = flood(&mut stream, 16 << 20, |_| frame(CONTINUATION, 0, 1, &[]).repeat(1_000));
    assert!(written < 16 << 20, "it was cut off");
    still_serves(&door);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let door = Door::with(Options { head_bytes_max: 8 << 10, ..Options::default() });
    let mut stream = connect(door.server().address());
    let field = [b"\x10\x01x\x7f\xe1\x1e".to_vec(), vec![b'y'; 4_000]].concat();
    let mut frames = frame(HEADERS, 1, 1, HEAD);
    for last in [false, false, false, true] {
        frames.extend(frame(CONTINUATION, if last { 4 } else { 0 }, 1, &field));
    }
    frames.extend(frame(GOAWAY, 0, 0, &[0; 8]));
    stream.write_all(&frames).expect("the door reads");
    let (kinds, _) = ending(stream);
    assert!(kinds.contains(&HEADERS) || kinds.contains(&GOAWAY) || kinds.contains(&RST_STREAM), "{kinds:?}");
    still_serves(&door);
}

#[test]
fn pings_are_answered_in_bounded_memory() {
    let door = Door::open();
    let mut stream = connect(door.server().address());
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket has time-outs");
    // The answers are never read, so that the door has to stop taking pings.
    let written = flood(&mut stream, 256 << 20, |_| frame(PING, 0, 0, &[7; 8]).repeat(1_000));
    assert!(written < 256 << 20, "{written} bytes were taken");
    still_serves(&door);
}

#[test]
fn garbage_after_the_preface_ends_the_connection() {
    let door = Door::open();
    for garbage in [
        frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff"),
        frame(HEADERS, 5, 2, HEAD),
        frame(CONTINUATION, 4, 1, HEAD),
        frame(SETTINGS, 0, 1, &[]),
        frame(SETTINGS, 0, 0, &[0; 5]),
        frame(PING, 0, 0, &[0; 7]),
        vec![0xff; 100],
    ] {
        let mut stream = connect(door.server().address());
        stream.write_all(&garbage).expect("the door reads");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let (kinds, error) = ending(stream);
        assert!(error.is_some_and(|error| error != 0) || !kinds.contains(&HEADERS), "{garbage:?}: {kinds:?} {error:?}");
    }
    still_serves(&door);
}
