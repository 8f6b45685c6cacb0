//! HTTP/2 on the same port, without TLS.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Door;

#[test]
fn speaks_http2_on_the_same_port() {
    let door = Door::open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.server().address()).await.expect("the door listens");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("the door speaks HTTP/2");
        tokio::spawn(connection);
        let mut waiting = Vec::new();
        for a in 0..32 {
            let request = Request::post("http://localhost/v1/sources/orders")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(format!("{{\"a\": {a}}}"))))
                .expect("a request");
            sender.ready().await.expect("the connection is open");
            waiting.push(tokio::spawn(sender.send_request(request)));
        }
        let mut answers = Vec::new();
        for one in waiting {
            let answer = one.await.expect("no panic").expect("an answer");
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
            answers
                .push((status, serde_json::from_slice::<serde_json::Value>(&body).expect("JSON")["accepted"].clone()));
        }
        answers
    });
    assert!(answers.iter().all(|answer| *answer == (202, serde_json::json!(1))), "{answers:?}");
    let mut values = door.orders.values();
    values.sort_unstable();
    assert_eq!(values, (0..32).collect::<Vec<_>>());
}

#[test]
fn a_change_that_waits_is_forgotten_when_its_client_lets_it_go() {
    let door = Door::open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.server().address()).await.expect("the door listens");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("the door speaks HTTP/2");
        tokio::spawn(connection);
        let request = Request::post("http://localhost/v1/tables/rules/versions")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(b"never")))
            .expect("a request");
        let asked = tokio::spawn(sender.send_request(request));
        while door.rules.looked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        asked.abort();
        while door.rules.forgotten.load(Ordering::SeqCst) != 8 {
            tokio::task::yield_now().await;
        }
    });
}
