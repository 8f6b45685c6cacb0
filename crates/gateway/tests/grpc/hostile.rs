//! What is refused, and what it costs.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tidemill_proto::v1::push_request::Events;
use tonic::Code;
use tonic::codegen::Service as _;

use super::*;

/// Calls a path with raw bytes: the code and the message of the answer.
fn call(door: &Door, path: &str, body: Bytes) -> (String, String) {
    let address = door.address();
    door.runtime.block_on(async {
        let mut channel = Channel::open(address).await;
        let request = Request::post(path).header("content-type", "application/grpc+proto").header("te", "trailers");
        let answer = channel.call(request.body(Full::new(body)).expect("a request")).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let trailers = body.collect().await.expect("a whole answer").trailers().cloned().unwrap_or_default();
        let told = |name: &str| {
            let value = head.headers.get(name).or(trailers.get(name)).map(|value| value.as_bytes());
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        (told("grpc-status"), told("grpc-message"))
    })
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

const PUSH: &str = "/tidemill.v1.Ingest/Push";

#[test]
fn calls_that_are_none_are_told_so() {
    let door = Door::open();
    let check = |path: &str, body: Bytes, code: Code, part: &str| {
        let (status, message) = call(&door, path, body);
        assert_eq!((status, message.contains(part)), (i32::from(code).to_string(), true), "{path}: {message}");
    };
    check("/tidemill.v1.Ingests/Push", framed(b""), Code::Unimplemented, "Ingests");
    check("/tidemill.v1.Ingest/Pull", framed(b""), Code::Unimplemented, "");
    check("/", framed(b""), Code::Unimplemented, "");
    check(PUSH, framed(&[0xFF; 8]), Code::Internal, "");
    check(PUSH, framed(b"").slice(..3), Code::Internal, "");
    check(PUSH, Bytes::new(), Code::Internal, "");
    // Compressed, which was never offered.
    check(PUSH, Bytes::from_static(&[1, 0, 0, 0, 0]), Code::Internal, "");
    let events = ingest::json(1, "{\"a\":1}").encode_to_vec();
    let (status, _) = call(&door, PUSH, framed(&events));
    assert_eq!(status, "0");
    assert_eq!(door.orders.values(), [1]);
}

#[test]
fn a_message_may_be_as_long_as_a_body() {
    let door = Door::with(Options { body_bytes_max: 100_000, ..Options::default() });
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let fits = client.push(ingest::json(0, &" ".repeat(100_000))).await;
        fits.expect("it is as long as a body may be");
        let status = client.push(ingest::json(0, &" ".repeat(110_000))).await.expect_err("it is too long");
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    });
}

#[test]
fn messages_pay_out_of_the_budget_of_all_bodies() {
    let door = Door::with(Options { inflight_bytes_max: 1 << 20, ..Options::default() });
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let long = client.push(ingest::json(0, &" ".repeat(2 << 20))).await;
        refused(long, Code::ResourceExhausted, "TM5111", "more than is held at once");
        // What was paid is given back.
        for _ in 0..20 {
            client.push(ingest::json(0, &" ".repeat(700_000))).await.expect("it fits alone");
        }
        let stream = (0..20).map(|id| ingest::json(id, &" ".repeat(700_000))).collect::<Vec<_>>();
        let mut acks = client.push_stream(tokio_stream::iter(stream)).await.expect("a stream").into_inner();
        for id in 0..20 {
            assert_eq!(acks.message().await.expect("it is taken").map(|ack| ack.id), Some(id));
        }
    });
}

#[test]
fn half_a_message_is_not_waited_for_forever() {
    let door = Door::with(Options { body_timeout: Duration::from_millis(50), ..Options::default() });
    let address = door.address();
    door.runtime.block_on(async {
        let mut channel = Channel::open(address).await;
        // A message of a hundred bytes of which ten come.
        let (half, body) = tokio::sync::mpsc::channel(1);
        half.send(Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(framed(&[0; 100]).slice(..15))))
            .await
            .expect("it is open");
        let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(body));
        let request = Request::post(PUSH).header("content-type", "application/grpc");
        let answer = channel.call(request.body(body).expect("a request")).await.expect("an answer");
        let status = answer.headers().get("grpc-status").map(|status| status.as_bytes().to_vec());
        assert_eq!(status.as_deref(), Some(i32::from(Code::DeadlineExceeded).to_string().as_bytes()));
        drop(half);
    });
    assert!(door.orders.values().is_empty());
}

#[test]
fn events_of_a_client_that_is_cut_off_are_taken_once_or_not_at_all() {
    let door = Door::open();
    for round in 0..20_u64 {
        let mut client = client(door.channel());
        door.runtime.block_on(async {
            let messages: Vec<_> =
                (0..100).map(|n| ingest::json(n, &format!("{{\"a\":{}}}", round * 100 + n))).collect();
            let mut acks = client.push_stream(tokio_stream::iter(messages)).await.expect("a stream").into_inner();
            for _ in 0..round {
                acks.message().await.expect("it is taken");
            }
        });
    }
    let events = Some(Events::Json("{\"a\":-1}".as_bytes().into()));
    let mut client = client(door.channel());
    let last = v1::PushRequest { events, ..ingest::json(0, "") };
    door.runtime.block_on(client.push(last)).expect("others are not disturbed");
    let mut values = door.orders.values();
    values.sort_unstable();
    let taken = values.len();
    values.dedup();
    assert_eq!(values.len(), taken);
    for round in 0..20 {
        let of_round: Vec<i64> = values.iter().copied().filter(|value| value.div_euclid(100) == round).collect();
        // What was taken is a beginning of what was sent, and at least what was acknowledged.
        let expected: Vec<i64> = (round * 100..round * 100 + of_round.len() as i64).collect();
        assert_eq!(of_round, expected);
        assert!(of_round.len() as i64 >= round);
    }
}
