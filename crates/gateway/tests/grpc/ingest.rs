//! Ingest: what is taken and when it is acknowledged.

use tidemill_proto::v1::push_request::Events;
use tidemill_proto::v1::{Durability, PushReply, PushRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;

pub fn json(id: u64, text: &str) -> PushRequest {
    let events = Some(Events::Json(text.as_bytes().to_vec().into()));
    PushRequest { source: "orders".to_string(), events, id, ..PushRequest::default() }
}

/// The row message of `orders`, as a client's own generator makes it.
#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(int64, optional, tag = "1")]
    a: Option<i64>,
    #[prost(string, optional, tag = "2")]
    b: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OrderRows {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<Order>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OrderColumns {
    #[prost(int64, repeated, tag = "1")]
    a: Vec<i64>,
    #[prost(uint32, tag = "20000")]
    rows: u32,
}

fn message(events: Events) -> PushRequest {
    PushRequest { events: Some(events), ..json(0, "") }
}

#[test]
fn events_are_taken_in_each_form() {
    let door = Door::open();
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let taken = client.push(json(7, "{\"a\":1}\n{\"a\":2}")).await.expect("they are taken").into_inner();
        let expected = PushReply { id: 7, accepted: 2, durability: Durability::Memory.into(), ..PushReply::default() };
        assert_eq!(taken, expected);
        let rows = OrderRows { rows: [3, 4].map(|a| Order { a: Some(a), b: Some("x".into()) }).into() };
        let taken = client.push(message(Events::Rows(rows.encode_to_vec().into()))).await.expect("they are taken");
        assert_eq!(taken.into_inner().offset, 2);
        let columns = OrderColumns { a: (5..1_005).collect(), rows: 1_000 };
        let taken =
            client.push(message(Events::Columns(columns.encode_to_vec().into()))).await.expect("they are taken");
        assert_eq!(taken.into_inner().accepted, 1_000);
    });
    assert_eq!(door.orders.values(), (1..1_005).collect::<Vec<_>>());
}

#[test]
fn long_messages_are_taken_like_short_ones() {
    let door = Door::open();
    let mut client = client(door.channel());
    let text: String = (0..20_000).map(|n| format!("{{\"a\":{n},\"b\":\"a longer text\"}}\n")).collect();
    let rows = OrderRows { rows: (20_000..50_000).map(|a| Order { a: Some(a), b: None }).collect() };
    door.runtime.block_on(async {
        assert_eq!(client.push(json(0, &text)).await.expect("it is taken").into_inner().accepted, 20_000);
        let rows = message(Events::Rows(rows.encode_to_vec().into()));
        assert_eq!(client.push(rows).await.expect("it is taken").into_inner().offset, 20_000);
    });
    assert_eq!(door.orders.values().len(), 50_000);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let door = Door::open();
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let bad = client.push(json(0, "{\"a\":1}\n{\"a\":x}")).await;
        let problem = refused(bad, Code::InvalidArgument, "TM5101", "set skip_bad");
        assert_eq!((problem.records[0].line, problem.records[0].column), (2, 6));
        let rows = OrderRows { rows: vec![Order::default(); 2] };
        let mut cut = rows.encode_to_vec();
        cut.extend_from_slice(&[0x0A, 9, 1]);
        let bad = client.push(message(Events::Rows(cut.into()))).await;
        refused(bad, Code::InvalidArgument, "TM5102", "byte 6 of the message");
        let bad = client.push(PushRequest { source: "order".to_string(), ..json(0, "{}") }).await;
        refused(bad, Code::NotFound, "TM5104", "did you mean 'orders'?");
        let bad = client.push(PushRequest { events: None, ..json(0, "") }).await;
        refused(bad, Code::InvalidArgument, "TM5103", "set one of json, rows and columns");
        let bad = client.push(PushRequest { durability: 1, ..json(0, "{}") }).await;
        refused(bad, Code::InvalidArgument, "TM5103", "DURABILITY_FLUSHED");
    });
    assert!(door.orders.values().is_empty());
}

#[test]
fn bad_records_are_left_out_when_that_is_asked() {
    let door = Door::open();
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let some = PushRequest { skip_bad: true, ..json(0, "{\"a\":1}\n{\"a\":x}\n{\"a\":3}") };
        let taken = client.push(some).await.expect("two are good").into_inner();
        assert_eq!((taken.accepted, taken.rejected, taken.errors[0].line), (2, 1, 2));
        let again = PushRequest { idempotency_key: "k".to_string(), ..json(0, "{\"a\":4}") };
        assert!(!client.push(again.clone()).await.expect("it is taken").into_inner().repeated);
        assert!(client.push(again).await.expect("it was taken").into_inner().repeated);
    });
    assert_eq!(door.orders.values(), [1, 3, 4]);
}

#[test]
fn a_full_source_is_told_and_nothing_is_taken() {
    let door = Door::open();
    door.orders.hold(1);
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        client.push(json(0, "{\"a\":1}")).await.expect("there is room");
        let full = client.push(json(0, "{\"a\":2}")).await;
        let pushback = full.as_ref().expect_err("it is full").metadata().get("grpc-retry-pushback-ms").cloned();
        assert_eq!(pushback, Some("1000".parse().expect("it is ASCII")));
        refused(full, Code::ResourceExhausted, "TM5111", "source 'orders' is full");
    });
}

#[test]
fn a_stream_is_acknowledged_in_order_once_it_is_durable() {
    let door = Door::open();
    let mut client = client(door.channel());
    let (messages, requests) = mpsc::channel(8);
    door.runtime.block_on(async {
        let flushed = |id, text: &str| PushRequest { durability: Durability::Flushed.into(), ..json(id, text) };
        messages.send(flushed(1, "{\"a\":1}")).await.expect("the stream is open");
        messages.send(PushRequest { source: String::new(), ..flushed(2, "{\"a\":2}") }).await.expect("it is open");
        messages.send(json(3, "{\"a\":3}")).await.expect("it is open");
        let mut acks = client.push_stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        while door.orders.values().len() < 3 || door.orders.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        door.orders.flush(Ok(1));
        let first = acks.message().await.expect("it is durable").expect("it is taken");
        assert_eq!((first.id, first.offset, first.durability), (1, 0, Durability::Flushed.into()));
        // The third needs no disk, and waits for the second all the same.
        assert_eq!(door.orders.waiting(), 1);
        door.orders.flush(Ok(2));
        let rest = [acks.message().await, acks.message().await];
        assert_eq!(rest.map(|ack| ack.expect("taken").map(|ack| (ack.id, ack.offset))), [Some((2, 1)), Some((3, 2))]);
        drop(messages);
        assert_eq!(acks.message().await.expect("it ends well"), None);
    });
}

#[test]
fn a_message_that_cannot_be_taken_ends_the_stream_behind_what_was() {
    let door = Door::open();
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let messages = [json(1, "{\"a\":1}"), json(2, "{\"a\":x}"), json(3, "{\"a\":3}")];
        let mut acks = client.push_stream(tokio_stream::iter(messages)).await.expect("a stream").into_inner();
        assert_eq!(acks.message().await.expect("it is taken").map(|ack| ack.id), Some(1));
        let problem = refused(acks.message().await, Code::InvalidArgument, "TM5101", "1 record is not");
        assert_eq!(problem.id, 2);
    });
    assert_eq!(door.orders.values(), [1]);
    door.runtime.block_on(async {
        let lost = PushRequest { durability: Durability::Flushed.into(), ..json(4, "{\"a\":4}") };
        let mut acks = client.push_stream(tokio_stream::iter([lost])).await.expect("a stream").into_inner();
        while door.orders.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        door.orders.flush(Err("the disk is gone"));
        let problem = refused(acks.message().await, Code::Unavailable, "TM5115", "the disk is gone");
        assert_eq!(problem.id, 4);
    });
}

#[test]
fn a_full_source_slows_a_stream_down_and_loses_nothing() {
    let door = Door::open();
    door.orders.hold(2);
    let mut client = client(door.channel());
    door.runtime.block_on(async {
        let messages = (0..50).map(|n| json(n, &format!("{{\"a\":{n}}}")));
        let mut acks =
            client.push_stream(tokio_stream::iter(messages.collect::<Vec<_>>())).await.expect("a stream").into_inner();
        for id in 0..50 {
            assert_eq!(acks.message().await.expect("it is taken").map(|ack| ack.id), Some(id));
            door.orders.hold(id as usize + 3);
        }
        assert_eq!(acks.message().await.expect("it ends well"), None);
    });
    assert_eq!(door.orders.values(), (0..50).collect::<Vec<_>>());
}
