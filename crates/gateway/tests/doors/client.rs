//! An HTTP/1.1 client that sends exactly what it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Door;

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn new(door: &Door) -> Self {
        Client::to(door.server().address())
    }

    /// Connects to an address.
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the door listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has time-outs");
        Client { stream, read: Vec::new() }
    }

    /// Sends bytes; a door that has closed its end does not matter here.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Reads one answer; none when the door has closed the connection.
    pub fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parse() {
                return Some(answer);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the door does not answer: {error}"),
            }
        }
    }

    fn parse(&mut self) -> Option<Answer> {
        let text = String::from_utf8_lossy(&self.read).to_string();
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, head: head.to_string(), body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        let end = head.len() + 4 + length;
        if self.read.len() < end {
            return None;
        }
        answer.body = rest[..length].to_string();
        self.read.drain(..end);
        Some(answer)
    }
}

/// A request for `target`.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends one request and reads its answer.
pub fn exchange(door: &Door, bytes: &[u8]) -> Answer {
    let mut client = Client::new(door);
    client.send(bytes);
    client.answer().expect("an answer before the end")
}

/// Posts a body of JSON.
pub fn post(door: &Door, target: &str, body: &str) -> Answer {
    exchange(door, &request("POST", target, &[("Content-Type", "application/json")], body.as_bytes()))
}

/// Gets.
pub fn get(door: &Door, target: &str) -> Answer {
    exchange(door, &request("GET", target, &[], b""))
}
