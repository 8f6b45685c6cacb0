//! Rows pushed to a real HTTP server that answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::{columns, connector, delta, open_sink, write_all};
use tidemill_base::Explain;
use tidemill_connect::Rows;
use tidemill_stage::Cancel;

/// What came in one request.
#[derive(Debug, Clone, Default)]
struct Received {
    head: String,
    body: String,
}

/// A server that gives `answers` in turn, and then the last one for ever; an empty answer closes the connection.
fn serve(answers: &'static [&'static str]) -> (String, Arc<Mutex<Vec<Received>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/in?x=1", listener.local_addr().expect("bound"));
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            thread::spawn(move || serve_connection(connection, answers, &kept));
        }
    });
    (url, received)
}

fn serve_connection(connection: TcpStream, answers: &[&str], received: &Mutex<Vec<Received>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    loop {
        let mut request = Received::default();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            request.head.push_str(&line.to_lowercase());
        }
        let length = request.head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
        request.body = String::from_utf8_lossy(&body).into_owned();
        let answer = {
            let mut received = received.lock().unwrap();
            received.push(request);
            answers[(received.len() - 1).min(answers.len() - 1)]
        };
        if answer.is_empty() {
            return Ok(());
        }
        let (status, body) = answer.split_once('|').unwrap_or((answer, ""));
        let length = body.len();
        write!(&connection, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")?;
    }
}

fn options<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![("connector", "http"), ("url", url), ("format", "json")];
    pairs.extend_from_slice(more);
    pairs
}

#[test]
fn sends_rows_with_method_and_headers() {
    let (url, received) = serve(&["200 OK|fine"]);
    let pairs = options(&url, &[("method", "PUT"), ("header.X-Key", "secret")]);
    let summary =
        write_all(open_sink(&pairs).expect("good options"), &[delta(&[(1, "a"), (2, "b")]), delta(&[(3, "c")])]);
    let summary = summary.expect("the server is kind");
    assert_eq!((summary.rows, summary.pieces), (3, 2));
    let received = received.lock().unwrap();
    assert_eq!(received[0].body, "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"b\"}\n");
    assert_eq!(received[1].body, "{\"id\":3,\"name\":\"c\"}\n");
    assert!(received[0].head.starts_with("put /in?x=1 http/1.1"), "{}", received[0].head);
    for header in ["x-key: secret", "content-type: application/x-ndjson", "user-agent: tidemill/"] {
        assert!(received[0].head.contains(header), "{header} in {}", received[0].head);
    }
}

#[test]
fn cuts_batches_by_rows_and_bytes() {
    let rows: Vec<(i64, &str)> = (0..250).map(|id| (id, "x")).collect();
    let (url, received) = serve(&["204 No Content"]);
    let sink = open_sink(&options(&url, &[("sink.batch.rows", "100")])).expect("good options");
    assert_eq!(write_all(sink, &[delta(&rows)]).expect("the server is kind").pieces, 3);
    let counts: Vec<_> = received.lock().unwrap().iter().map(|request| request.body.lines().count()).collect();
    assert_eq!(counts, [100, 100, 50]);
    let (url, received) = serve(&["204 No Content"]);
    let sink = open_sink(&options(&url, &[("sink.batch.bytes", "1 kb")])).expect("good options");
    write_all(sink, &[delta(&rows)]).expect("the server is kind");
    let received = received.lock().unwrap();
    assert!(received.len() > 2 && received.iter().all(|request| request.body.len() < 4_096));
    assert_eq!(received.iter().map(|request| request.body.lines().count()).sum::<usize>(), 250);
}

#[test]
fn tries_again_what_may_pass() {
    let (url, received) = serve(&["503 Service Unavailable|later", "429 Too Many Requests", "", "200 OK"]);
    write_all(open_sink(&options(&url, &[])).expect("good options"), &[delta(&[(1, "a")])]).expect("at last");
    let received = received.lock().unwrap();
    assert!(received.len() >= 4);
    assert!(received.iter().all(|request| request.body == "{\"id\":1,\"name\":\"a\"}\n"));
}

#[test]
fn gives_up_after_its_retries() {
    let (url, received) = serve(&["500 Internal Server Error|broken cog"]);
    let sink = open_sink(&options(&url, &[("sink.retries", "2")])).expect("good options");
    let error = write_all(sink, &[delta(&[(1, "a")])]).expect_err("it never works");
    assert_eq!(error.to_string(), format!("sink 't': {url} failed 3 times, at last: 500: broken cog"));
    assert_eq!((error.code(), received.lock().unwrap().len()), ("TM3015", 3));
}

#[test]
fn shows_why_it_was_refused_and_does_not_try_again() {
    let (url, received) = serve(&["400 Bad Request|line 1: id must be positive\n"]);
    let error = write_all(open_sink(&options(&url, &[])).expect("good options"), &[delta(&[(-1, "a")])]);
    let error = error.expect_err("the server is strict");
    assert_eq!(error.to_string(), format!("sink 't': {url} answered 400: line 1: id must be positive"));
    assert_eq!((error.code(), received.lock().unwrap().len()), ("TM3016", 1));
}

#[test]
fn an_abort_ends_the_wait_for_a_dead_server() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}/", listener.local_addr().expect("bound"))
    };
    let cancel = Cancel::new();
    let connector = connector(&options(&url, &[("sink.retries", "1000000")])).expect("good options");
    let rows = Rows { schema: columns(), key: None, updating: false };
    let mut sink = connector.sink(rows, &cancel).expect("nothing is sent yet");
    let stopper = cancel.clone();
    let abort = thread::spawn(move || {
        stopper.sleep(Duration::from_millis(50));
        stopper.abort();
    });
    let error = sink.write(1, &[delta(&[(1, "a")])]).expect_err("it was stopped");
    assert_eq!(error.to_string(), "sink 't': stopped before all rows were written");
    abort.join().expect("it only aborts");
}

#[test]
fn https_is_spoken_with_the_machines_certificates() {
    // Nobody speaks TLS here, so the handshake fails; what matters is that it is tried.
    let (url, _) = serve(&["200 OK"]);
    let url = url.replace("http://", "https://");
    let sink = open_sink(&options(&url, &[("sink.retries", "0"), ("sink.timeout", "2 s")])).expect("good options");
    let error = write_all(sink, &[delta(&[(1, "a")])]).expect_err("no TLS there");
    assert!(error.to_string().contains("failed 1 times"), "{error}");
}
