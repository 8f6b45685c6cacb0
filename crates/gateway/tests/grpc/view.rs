//! View: rows at once, in pages, and as they change.

use arrow_array::RecordBatch;
use tidemill_format::protobuf::ProtobufDecoder;
use tidemill_gateway::View as _;
use tidemill_proto::v1::view_client::ViewClient;
use tidemill_proto::v1::{Change, FollowRequest, KeyPart, ReadReply, ReadRequest, RowFormat};
use tonic::Code;

use super::*;

fn reading(key: &[(&str, &str)]) -> ReadRequest {
    let part = |(column, value): &(&str, &str)| KeyPart { column: column.to_string(), value: value.to_string() };
    ReadRequest { view: "ten".to_string(), key: key.iter().map(part).collect(), ..ReadRequest::default() }
}

fn lines(reply: &ReadReply) -> String {
    String::from_utf8(reply.rows.to_vec()).expect("JSON is text")
}

#[test]
fn rows_are_read_all_or_by_key() {
    let door = Door::open();
    let mut client = ViewClient::new(door.channel());
    door.runtime.block_on(async {
        let one = client.read(reading(&[("", "k3")])).await.expect("there is one").into_inner();
        assert_eq!(
            (lines(&one).as_str(), one.version, one.count, one.more),
            ("{\"k\":\"k3\",\"n\":3}\n", 42, 1, false)
        );
        let none = client.read(reading(&[("k", "kx")])).await.expect("there is none").into_inner();
        assert_eq!((none.count, none.rows.len()), (0, 0));
        let some = client.read(ReadRequest { limit: 4, ..reading(&[]) }).await.expect("rows").into_inner();
        assert_eq!((some.count, some.more), (4, true));
        let wrong = client.read(reading(&[("x", "1")])).await;
        refused(wrong, Code::InvalidArgument, "TM5103", "the key of this view is 'k' alone; set key");
        let wrong = client.read(ReadRequest { limit: 1_000_000, ..reading(&[]) }).await;
        refused(wrong, Code::InvalidArgument, "TM5103", "Scan has no limit");
        let wrong = client.read(ReadRequest { view: "tem".to_string(), ..reading(&[]) }).await;
        refused(wrong, Code::NotFound, "TM5104", "did you mean 'ten'?");
        let wrong = client.read(ReadRequest { format: 9, ..reading(&[]) }).await;
        refused(wrong, Code::InvalidArgument, "TM5103", "there is no format 9");
    });
}

#[test]
fn rows_come_as_messages_too() {
    let door = Door::open();
    let mut client = ViewClient::new(door.channel());
    let schema = Ten.columns().expect("it says them");
    let decode = |format, reply: &ReadReply| {
        let mut decoder = ProtobufDecoder::new(&schema, schema.clone()).expect("every type has its form");
        let mut out = tidemill_format::Decoded::default();
        match format {
            RowFormat::Rows => decoder.decode_rows(&reply.rows, &mut out),
            _ => decoder.decode_columns(&reply.rows, &mut out),
        }
        .expect("a whole message");
        out.batches.into_iter().map(|decoded| decoded.batch).next().expect("there are rows")
    };
    let expected: RecordBatch = Ten.read(&Default::default()).map(|rows| rows.batches[0].clone()).expect("it has rows");
    door.runtime.block_on(async {
        for format in [RowFormat::Rows, RowFormat::Columns] {
            let asked = ReadRequest { format: format.into(), ..reading(&[]) };
            let reply = client.read(asked).await.expect("rows").into_inner();
            assert_eq!(decode(format, &reply).columns(), all().columns(), "{format:?}");
        }
    });
    assert_eq!(expected.num_rows(), 0, "a limit of none is none");
}

fn all() -> RecordBatch {
    let lookup = tidemill_gateway::Lookup { limit: usize::MAX, ..Default::default() };
    Ten.read(&lookup).map(|rows| rows.batches[0].clone()).expect("it has rows")
}

#[test]
fn a_scan_comes_in_pages_of_one_version() {
    let door = Door::open();
    let mut client = ViewClient::new(door.channel());
    door.runtime.block_on(async {
        let mut pages = client.scan(reading(&[])).await.expect("a stream").into_inner();
        let (mut text, mut more) = (String::new(), true);
        while let Some(page) = pages.message().await.expect("it goes on") {
            assert!(more, "the page before said that it was the last");
            assert_eq!(page.version, 42);
            text.push_str(&lines(&page));
            more = page.more;
        }
        assert!(!more && text.lines().count() == 10, "{text}");
        let mut pages = client.scan(reading(&[("k", "kx")])).await.expect("a stream").into_inner();
        let page = pages.message().await.expect("it goes on").expect("one page tells the version");
        assert_eq!((page.version, page.count, page.more), (42, 0, false));
        assert_eq!(pages.message().await.expect("it ends well"), None);
    });
}

#[test]
fn a_view_is_followed_from_its_rows_on() {
    let door = Door::open();
    let mut client = ViewClient::new(door.channel());
    door.runtime.block_on(async {
        let asked = FollowRequest { view: "ten".to_string(), ..FollowRequest::default() };
        let mut changes = client.follow(asked).await.expect("a stream").into_inner();
        let first = changes.message().await.expect("it goes on").expect("the rows");
        assert_eq!((first.version, first.inserted_count, first.snapshot, first.more), (42, 10, true, false));
        let expected = Change {
            version: 43,
            deleted: "{\"k\":\"k3\",\"n\":3}\n".into(),
            deleted_count: 1,
            inserted: "{\"k\":\"k4\",\"n\":4}\n{\"k\":\"k4\",\"n\":4}\n{\"k\":\"k20\",\"n\":20}\n".into(),
            inserted_count: 3,
            ..Change::default()
        };
        let mut change = changes.message().await.expect("it goes on").expect("a change");
        // The rows that came lie in two batches, which may be two messages.
        while change.more {
            let next = changes.message().await.expect("it goes on").expect("the rest of it");
            change.inserted = [change.inserted, next.inserted].concat().into();
            change.inserted_count += next.inserted_count;
            change.more = next.more;
        }
        assert_eq!(change, expected);
        refused(changes.message().await, Code::Aborted, "TM5140", "follow the view again");
    });
}
