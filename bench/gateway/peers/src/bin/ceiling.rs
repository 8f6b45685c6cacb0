//! The ceiling: a fixed reply over epoll, one thread, nothing parsed but the first request, whose length all have.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

const REPLY: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
const LISTENER: u64 = u64::MAX;

struct Client {
    stream: TcpStream,
    /// Bytes of the request that has begun.
    part: usize,
}

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", gateway_peers::port()))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (mut clients, mut next) = (HashMap::new(), 0_u64);
    let mut events = Vec::with_capacity(512);
    let (mut input, mut output, mut request) = (vec![0; 32 << 10], Vec::new(), 0);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll::add(&epoll, &stream, EventData::new_u64(next), EventFlags::IN)?;
                    clients.insert(next, Client { stream, part: 0 });
                    next += 1;
                }
                continue;
            }
            let Some(client) = clients.get_mut(&event.data.u64()) else { continue };
            let count = match client.stream.read(&mut input) {
                Ok(0) => None,
                Ok(count) => Some(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => None,
            };
            let Some(count) = count else {
                clients.remove(&event.data.u64());
                continue;
            };
            if request == 0 {
                request = length(&input[..count]);
            }
            client.part += count;
            output.clear();
            while request > 0 && client.part >= request {
                output.extend_from_slice(REPLY);
                client.part -= request;
            }
            if !output.is_empty() && client.stream.write_all(&output).is_err() {
                clients.remove(&event.data.u64());
            }
        }
    }
}

/// The length of the first request, head and body.
fn length(bytes: &[u8]) -> usize {
    let mut lines = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut lines);
    let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else { return 0 };
    let line = request.headers.iter().find(|line| line.name.eq_ignore_ascii_case("content-length"));
    let body = line.and_then(|line| std::str::from_utf8(line.value).ok()?.parse().ok());
    head + body.unwrap_or(0)
}
