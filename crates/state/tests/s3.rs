//! Snapshots in a bucket, against a real server that speaks S3: `make s3-check` builds one and runs this.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use tidemill_state::Error;
use tidemill_state::snapshot::layout::Folder;
use tidemill_state::store::{self, S3, Store, StoreError};

/// A server with an empty bucket, stopped when dropped.
struct Server {
    process: Child,
    port: u16,
    _root: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its number").port()
}

fn server() -> Server {
    let program = std::env::var_os("TIDEMILL_S3_SERVER").expect("TIDEMILL_S3_SERVER names the program s3s-fs");
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(root.path().join("bucket")).expect("a bucket");
    let port = free_port();
    let process = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", "who", "--secret-key", "secret"])
        .arg(root.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let server = Server { process, port, _root: root };
    for _ in 0..200 {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return server;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the server does not answer");
}

fn options(port: u16) -> S3 {
    S3 {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: Some("us-east-1".to_string()),
        access_key: Some("who".to_string()),
        secret_key: Some("secret".to_string()),
        allow_http: true,
        ..S3::default()
    }
}

fn open(address: &str, port: u16) -> Arc<dyn Store> {
    store::open(address, &options(port)).expect("a store")
}

#[test]
#[ignore = "needs a server: make s3-check"]
fn a_bucket_keeps_the_promises_of_a_store() {
    let server = server();
    for address in ["s3://bucket/some/folder", "s3://bucket"] {
        let store = open(address, server.port);
        let put = |name: &str, content: &'static [u8]| store.put_new(name, Bytes::from_static(content));
        put("a/2", b"two").expect("new");
        put("a/1", b"one").expect("new");
        put("a/b/3", b"").expect("new");
        put("ab", b"beside").expect("new");
        assert!(matches!(put("a/1", b"other"), Err(StoreError::Exists { .. })));
        assert!(matches!(put("a/1", b"one"), Err(StoreError::Exists { .. })), "the same bytes are no excuse");
        assert_eq!(store.get("a/1").expect("there"), "one");
        assert_eq!(store.get("a/b/3").expect("there"), "");
        assert!(matches!(store.get("none"), Err(StoreError::NotFound { .. })));
        assert_eq!(store.get_range("a/1", 1, 2).expect("there"), "ne");
        assert_eq!(store.get_range("a/1", 3, 0).expect("there"), "");
        assert!(matches!(store.get_range("none", 0, 1), Err(StoreError::NotFound { .. })));
        for (offset, length) in [(0, 4), (3, 1), (4, 0), (u64::MAX, 1)] {
            let read = store.get_range("a/1", offset, length);
            assert!(matches!(read, Err(StoreError::TooShort { .. })), "{offset} {read:?}");
        }
        assert_eq!(store.list("a").expect("listed"), ["a/1", "a/2", "a/b/3"]);
        assert_eq!(store.list("none").expect("listed"), Vec::<String>::new());
        store.delete("a/1").expect("removed");
        store.delete("a/1").expect("removed already");
        assert_eq!(store.list("a").expect("listed"), ["a/2", "a/b/3"]);
    }
    assert_eq!(open("s3://bucket/some/folder", server.port).list("").expect("listed"), ["a/2", "a/b/3", "ab"]);
    assert_eq!(open("s3://bucket", server.port).list("some").expect("listed").len(), 3);
}

#[test]
#[ignore = "needs a server: make s3-check"]
fn a_bucket_keeps_snapshots() {
    let server = server();
    let instance = in_store(open("s3://bucket/state", server.port));
    let changes: Vec<Change> = (0..30).map(|chunk| (chunk, Some(noise(u64::from(chunk), 5_000)))).collect();
    let mut whole = Content::new();
    let mut head = None;
    for changes in [&changes[..], &[(3, None), (40, bytes("x"))], &[(0, bytes("y"))], &[], &[]] {
        head = Some(save(&instance, head.as_ref(), changes).expect("saved"));
        apply(&mut whole, changes);
    }
    let head = head.expect("saved");
    assert!(matches!(save(&instance, None, &[]), Err(Error::Fenced { sequence: 1, .. })));
    assert_eq!(instance.newest().expect("read"), Some(head.clone()));
    assert_eq!(content(&instance, &head).expect("read"), whole);
    instance.savepoint("first", 1, 0).expect("named");
    assert_eq!(instance.collect(2).expect("collected").snapshots, [2, 3]);
    let back = instance.rollback(1, by(9), false).expect("rolled back");
    assert_eq!(content(&instance, &back).expect("read").len(), 30);
    instance.verify(&back).expect("whole");
    assert_eq!(instance.store().list(&Folder::Holds.of("test")).expect("listed"), Vec::<String>::new());
}

#[test]
#[ignore = "needs a server: make s3-check"]
fn a_bucket_can_be_used_and_dropped_inside_another_runtime() {
    let server = server();
    let port = server.port;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let store = open("s3://bucket", port);
        store.put_new("inside", Bytes::from_static(b"x")).expect("new");
        assert_eq!(store.get("inside").expect("there"), "x");
    });
}

#[test]
#[ignore = "needs a server: make s3-check"]
fn what_is_wrong_is_said() {
    let server = server();
    let put = |address: &str, s3: &S3| {
        store::open(address, s3)
            .expect("a store")
            .put_new("a", Bytes::from_static(b"x"))
            .expect_err("refused")
            .to_string()
    };
    let wrong = S3 { secret_key: Some("guessed".to_string()), ..options(server.port) };
    assert!(put("s3://bucket", &wrong).contains("s3://bucket could not write 'a'"));
    assert!(put("s3://bucket", &options(free_port())).contains("could not write"));
}

/// What the next test does in a process of its own, for an environment belongs to a process.
#[test]
#[ignore = "run by the test below"]
fn in_an_environment() {
    if let Some(expected) = std::env::var_os("TIDEMILL_S3_EXPECTED") {
        let put = store::open("s3://bucket", &S3::default()).and_then(|store| store.put_new("a", Bytes::new()));
        let said = put.map_or_else(|error| error.to_string(), |()| "done".to_string());
        let expected = expected.to_string_lossy();
        assert!(said.contains(&*expected), "{said}");
    }
}

#[test]
#[ignore = "needs a server: make s3-check"]
fn the_environment_says_what_the_options_do_not() {
    let server = server();
    let in_environment = |allow: &str, expected: &str| {
        let endpoint = format!("http://127.0.0.1:{}", server.port);
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "in_an_environment", "--include-ignored"])
            .envs([("AWS_ENDPOINT", &endpoint[..]), ("AWS_REGION", "us-east-1"), ("AWS_ALLOW_HTTP", allow)])
            .envs([
                ("AWS_ACCESS_KEY_ID", "who"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("TIDEMILL_S3_EXPECTED", expected),
            ])
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("run").success(), "{expected}");
    };
    in_environment("false", "its endpoint has no TLS");
    in_environment("true", "done");
    assert_eq!(open("s3://bucket", server.port).list("").expect("listed"), ["a"]);
}

#[test]
fn a_bucket_that_is_not_there_is_said() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its number").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a client");
            let mut request = [0; 4_096];
            let _ = client.read(&mut request);
            let body = "<Error><Code>NoSuchBucket</Code></Error>";
            let head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/xml\r\nconnection: close\r\n";
            let _ = write!(client, "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    let put = open("s3://nowhere", port).put_new("a", Bytes::from_static(b"x"));
    assert!(put.is_err_and(|error| error.to_string().contains("the bucket is not there")));
}

/// A way to the server that loses the next so many answers.
fn lossy(port: u16, losses: Arc<AtomicI64>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let own = listener.local_addr().expect("its number").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a client");
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server");
            let (mut from, mut to) = (client.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let losses = losses.clone();
            std::thread::spawn(move || pass_answers(server, client, &losses));
        }
    });
    own
}

fn pass_answers(mut server: TcpStream, mut client: TcpStream, losses: &AtomicI64) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        if losses.fetch_sub(1, Ordering::SeqCst) > 0 || client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
#[ignore = "needs a server: make s3-check"]
fn a_write_whose_answer_was_lost_is_known_again() {
    let server = server();
    let losses = Arc::new(AtomicI64::new(0));
    let store = open("s3://bucket", lossy(server.port, losses.clone()));
    losses.store(1, Ordering::SeqCst);
    store.put_new("mine", Bytes::from_static(b"mine")).expect("its first attempt took the name");
    open("s3://bucket", server.port).put_new("theirs", Bytes::from_static(b"theirs")).expect("new");
    losses.store(1, Ordering::SeqCst);
    let taken = store.put_new("theirs", Bytes::from_static(b"mine"));
    assert!(matches!(taken, Err(StoreError::Exists { .. })), "{taken:?}");
    losses.store(i64::MAX, Ordering::SeqCst);
    let unknown = store.put_new("unknown", Bytes::from_static(b"x"));
    assert!(matches!(unknown, Err(StoreError::Failed { .. })), "{unknown:?}");
}
