//! Decide: answers and fallbacks, one a call and many on a stream.

use tidemill_proto::v1::ask_request::Request as Columns;
use tidemill_proto::v1::decide_client::DecideClient;
use tidemill_proto::v1::{AskReply, AskRequest, RowFormat};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use super::*;

fn asking(id: u64, text: &str) -> AskRequest {
    let request = Some(Columns::Json(text.as_bytes().to_vec().into()));
    AskRequest { endpoint: "score".to_string(), request, id, ..AskRequest::default() }
}

fn answer(id: u64, json: &'static str) -> AskReply {
    AskReply { id, json: json.as_bytes().into(), rule: "9f3a".to_string(), version: 7, ..AskReply::default() }
}

fn fallback(id: u64) -> AskReply {
    AskReply { fallback: "deadline".to_string(), version: 0, ..answer(id, "{\"fallback\":true}") }
}

#[test]
fn a_request_is_answered() {
    let door = Door::open();
    let mut client = DecideClient::new(door.channel());
    door.runtime.block_on(async {
        let told = client.ask(asking(5, "{\"a\":1}")).await.expect("it is answered").into_inner();
        assert_eq!(told, answer(5, "{\"a\":1}"));
        let again = client.ask(asking(6, "again")).await.expect("it is answered").into_inner();
        assert!(again.repeated);
        // A row is a message of one row: a tag, a length, and the row's six bytes.
        let row = AskRequest { request: Some(Columns::Row(vec![8, 1, 0x12, 2, b'h', b'i'].into())), ..asking(7, "") };
        let told = client.ask(row).await.expect("it is answered").into_inner();
        assert_eq!(told, answer(7, "{\"bytes\":8}"));
    });
}

#[test]
fn rows_of_an_answer_are_messages_where_that_is_asked_for() {
    let door = Door::open();
    let mut client = DecideClient::new(door.channel());
    let body =
        "{\"rows\":[{\"decision\":\"hi\",\"n\":1},{\"decision\":null,\"n\":300}],\"rule\":\"9f3a\",\"version\":7}";
    let as_rows = |id, text| AskRequest { format: RowFormat::Rows.into(), ..asking(id, text) };
    // Two rows, each a tag, a length, and its columns.
    let expected = [&[0x0a, 6, 0x0a, 2, b'h', b'i', 0x10, 1][..], &[0x0a, 3, 0x10, 0xac, 2]].concat();
    let rows = |id| AskReply { json: vec![].into(), rows: expected.clone().into(), ..answer(id, "") };
    door.runtime.block_on(async {
        assert_eq!(client.ask(as_rows(1, body)).await.expect("it is answered").into_inner(), rows(1));
        assert_eq!(client.ask(asking(2, body)).await.expect("it is answered").into_inner().json, body.as_bytes());
        let requests = vec![as_rows(3, body), AskRequest { format: 9, ..asking(4, body) }, as_rows(5, "bad")];
        let mut replies = client.ask_stream(tokio_stream::iter(requests)).await.expect("a stream").into_inner();
        assert_eq!(replies.message().await.expect("it goes on"), Some(rows(3)));
        for (id, page, part) in [(4, "TM5103", "no format 9"), (5, "TM5102", "no JSON")] {
            let reply = replies.message().await.expect("it goes on").expect("an answer");
            let problem = reply.problem.expect("it was refused");
            assert_eq!((reply.id, problem.code.as_str()), (id, page));
            assert!(problem.detail.contains(part), "{problem:?}");
        }
    });
}

#[test]
fn a_refusal_is_told() {
    let door = Door::open();
    let mut client = DecideClient::new(door.channel());
    door.runtime.block_on(async {
        refused(client.ask(asking(0, "full")).await, Code::ResourceExhausted, "TM5111", "endpoint 'score' is full");
        refused(client.ask(asking(0, "bad")).await, Code::InvalidArgument, "TM5102", "this is no JSON");
        refused(client.ask(asking(0, "late")).await, Code::DeadlineExceeded, "TM5116", "within the deadline");
        refused(client.ask(asking(0, "told")).await, Code::Internal, "TM9999", "an expression failed; mend it");
        let other = AskRequest { endpoint: "scores".to_string(), ..asking(0, "{}") };
        refused(client.ask(other).await, Code::NotFound, "TM5104", "did you mean 'score'?");
        let nothing = AskRequest { request: None, ..asking(0, "") };
        refused(client.ask(nothing).await, Code::InvalidArgument, "TM5103", "set one of json and row");
        let long = "x".repeat((64 << 10) + 1);
        refused(client.ask(asking(0, &long)).await, Code::InvalidArgument, "TM5107", "65536 bytes long");
    });
}

#[test]
fn the_shortest_of_the_deadlines_counts() {
    let door = Door::open();
    let mut client = DecideClient::new(door.channel());
    door.runtime.block_on(async {
        let short = AskRequest { deadline_micros: 1_000, ..asking(1, "wait") };
        assert_eq!(client.ask(short).await.expect("the fallback").into_inner(), fallback(1));
        let mut called = Request::new(asking(2, "wait"));
        called.set_timeout(Duration::from_millis(200));
        assert_eq!(client.ask(called).await.expect("the fallback").into_inner(), fallback(2));
    });
}

#[test]
fn answers_on_a_stream_come_as_they_are_ready() {
    let door = Door::open();
    let mut client = DecideClient::new(door.channel());
    let (messages, requests) = mpsc::channel(8);
    door.runtime.block_on(async {
        for message in [
            asking(10, "wait"),
            AskRequest { endpoint: String::new(), ..asking(11, "wait") },
            asking(12, "{}"),
            asking(13, "bad"),
            AskRequest { endpoint: "other".to_string(), ..asking(14, "{}") },
        ] {
            messages.send(message).await.expect("the stream is open");
        }
        let mut replies = client.ask_stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        assert_eq!(replies.message().await.expect("it goes on"), Some(answer(12, "{}")));
        for (id, page) in [(13, "TM5102"), (14, "TM5104")] {
            let reply = replies.message().await.expect("it goes on").expect("an answer");
            let problem = reply.problem.expect("it was refused");
            assert_eq!((reply.id, problem.id, problem.code.as_str()), (id, id, page));
        }
        drop(messages);
        assert_eq!(door.score.waiting(), 2);
        door.score.answer_waiting();
        assert_eq!(replies.message().await.expect("it goes on"), Some(answer(11, "{\"late\":1}")));
        assert_eq!(replies.message().await.expect("it goes on"), Some(answer(10, "{\"late\":0}")));
        assert_eq!(replies.message().await.expect("it ends well"), None);
    });
}

#[test]
fn a_stream_takes_no_more_than_it_can_answer() {
    let door = Door::open();
    let mut client = DecideClient::new(door.channel());
    door.runtime.block_on(async {
        let late = |id| AskRequest { deadline_micros: 20_000, ..asking(id, "wait") };
        let messages: Vec<_> = (0..3_000).map(late).collect();
        let mut replies = client.ask_stream(tokio_stream::iter(messages)).await.expect("a stream").into_inner();
        let mut ids = Vec::new();
        let mut most = 0;
        while let Some(reply) = replies.message().await.expect("it goes on") {
            assert_eq!(reply.fallback, "deadline");
            ids.push(reply.id);
            most = most.max(door.score.waiting());
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..3_000).collect::<Vec<_>>());
        assert!(most <= 1_024, "{most} waited at once");
    });
}
