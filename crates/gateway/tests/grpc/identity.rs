//! Who may call, and how often.

use sha2::{Digest as _, Sha256};
use tidemill_gateway::{Rate, Rates, Scope};
use tidemill_proto::v1::decide_client::DecideClient;
use tidemill_proto::v1::view_client::ViewClient;
use tidemill_proto::v1::{AskRequest, ReadRequest};
use tonic::{Code, Request};

use super::*;

const SECRET: &str = "tm_a-secret";

fn guarded() -> Door {
    let scopes = vec![Scope::parse("ingest:ord*").expect("a scope"), Scope::parse("read:ten").expect("a scope")];
    let token = Token { name: "shop".to_string(), sha256: Sha256::digest(SECRET).into(), scopes };
    Door::of(Options::default(), vec![token])
}

fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("it is ASCII"));
    request
}

#[test]
fn a_caller_may_do_what_its_token_says() {
    let door = guarded();
    let channel = door.channel();
    let (mut ingest, mut view) = (client(channel.clone()), ViewClient::new(channel.clone()));
    let (mut decide, mut health) = (DecideClient::new(channel.clone()), HealthClient::new(channel));
    let events = || ingest::json(0, "{\"a\":1}");
    door.runtime.block_on(async {
        ingest.push(by(SECRET, events())).await.expect("it may");
        view.read(by(SECRET, ReadRequest { view: "ten".to_string(), ..ReadRequest::default() })).await.expect("it may");
        let ask = AskRequest { endpoint: "score".to_string(), ..AskRequest::default() };
        let denied = decide.ask(by(SECRET, ask)).await;
        assert_eq!(denied.expect_err("it may not").code(), Code::PermissionDenied);
        for called in [ingest.push(events()).await, ingest.push(by("tm_another", events())).await] {
            assert_eq!(called.expect_err("nobody knows it").code(), Code::Unauthenticated);
        }
        let stream = ingest.push_stream(tokio_stream::iter([events()])).await;
        assert_eq!(stream.expect_err("nobody knows it").code(), Code::Unauthenticated);
        let mut acks =
            ingest.push_stream(by(SECRET, tokio_stream::iter([events()]))).await.expect("it may").into_inner();
        assert!(acks.message().await.expect("it is taken").is_some());
        health.check(HealthCheckRequest::default()).await.expect("anybody may ask that");
    });
}

#[test]
fn a_caller_that_is_too_quick_is_told_so_and_a_stream_is_slowed_down() {
    let rate = Rate::parse("200/s burst 2").expect("a rate");
    let rates = Rates { source: Some(rate), ..Rates::default() };
    let door = Door::with(Options { rates, ..Options::default() });
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let messages: Vec<_> = (0..20).map(|id| ingest::json(id, &format!("{{\"a\":{id}}}"))).collect();
        let mut acks = client.push_stream(tokio_stream::iter(messages)).await.expect("a stream").into_inner();
        for id in 0..20 {
            assert_eq!(acks.message().await.expect("it is taken").map(|ack| ack.id), Some(id));
        }
        assert_eq!(acks.message().await.expect("it ends well"), None);
    });
    assert_eq!(door.orders.values(), (0..20).collect::<Vec<_>>());
    let slow = Rates { source: Rate::parse("1/min burst 1"), ..Rates::default() };
    let door = Door::with(Options { rates: slow, ..Options::default() });
    let mut client = self::client(door.channel());
    door.runtime.block_on(async {
        client.push(ingest::json(0, "{\"a\":1}")).await.expect("the first may");
        let status = client.push(ingest::json(0, "{\"a\":1}")).await.expect_err("the second may not");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(!problem(&status).help.is_empty());
    });
}
