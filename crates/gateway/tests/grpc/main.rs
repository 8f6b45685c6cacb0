//! gRPC over real sockets: the three services by generated clients, and what is refused.

mod behind;
mod channel;
mod decide;
mod hostile;
mod identity;
mod ingest;
mod reflection;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tidemill_gateway::{Config, Doors, Hall, Options, Token};
use tidemill_proto::v1;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

use behind::{Orders, Score, Ten};
use channel::Channel;
use tidemill_proto::v1::ingest_client::IngestClient;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

/// A door with source `orders`, endpoint `score` and view `ten` behind it, and a client's threads.
struct Door {
    doors: Option<Doors>,
    orders: Arc<Orders>,
    score: Arc<Score>,
    runtime: Runtime,
}

impl Door {
    fn open() -> Self {
        Door::with(Options::default())
    }

    fn with(options: Options) -> Self {
        Door::of(options, Vec::new())
    }

    fn of(options: Options, tokens: Vec<Token>) -> Self {
        let (orders, score) = (Arc::new(Orders::default()), Arc::new(Score::default()));
        let mut hall = Hall::new();
        hall.add_inbox("orders", orders.clone());
        hall.add_endpoint("score", score.clone());
        hall.add_view("ten", Arc::new(Ten));
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = Config { doors: vec![Options { listen, ..options }], tokens };
        let doors = Doors::open(config, hall).expect("the loopback has free ports");
        let runtime = Runtime::new().expect("threads can be had");
        Door { doors: Some(doors), orders, score, runtime }
    }

    fn address(&self) -> SocketAddr {
        self.doors.as_ref().expect("taken on drop only").addresses()[0]
    }

    fn channel(&self) -> Channel {
        self.runtime.block_on(Channel::open(self.address()))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(doors) = self.doors.take() {
            doors.stop(Duration::from_secs(5));
        }
    }
}

/// The problem that a call failed with.
fn problem(status: &Status) -> v1::Problem {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Rich {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    let rich = Rich::decode(status.details()).expect("the details are a google.rpc.Status");
    assert_eq!(rich.code, i32::from(status.code()));
    let detail = rich.details.first().expect("there is one detail");
    assert_eq!(detail.type_url, "type.googleapis.com/tidemill.v1.Problem");
    v1::Problem::decode(detail.value.as_slice()).expect("the detail is a problem")
}

/// Checks why a call failed: its code, the code of its page, and a part of what it says.
fn refused<T: std::fmt::Debug>(called: Result<T, Status>, code: Code, page: &str, part: &str) -> v1::Problem {
    let status = called.expect_err(part);
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(part), "{status:?}");
    let problem = problem(&status);
    assert_eq!(problem.code, page, "{problem:?}");
    problem
}

/// A client of Ingest that takes whatever it is sent.
fn client(channel: Channel) -> IngestClient<Channel> {
    IngestClient::new(channel)
}

#[test]
fn a_door_that_is_closed_ends_streams_and_refuses_calls() {
    let door = Door::open();
    let channel = door.channel();
    let mut ingest = client(channel.clone());
    let mut health = HealthClient::new(channel);
    let (messages, requests) = tokio::sync::mpsc::channel(4);
    door.runtime.block_on(async {
        let asked = HealthCheckRequest { service: "tidemill.v1.Ingest".to_string() };
        let mut serves = health.watch(asked).await.expect("the service is known").into_inner();
        assert_eq!(serves.message().await.expect("it goes on").map(|told| told.status()), Some(ServingStatus::Serving));
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        messages.send(ingest::json(1, "{\"a\":1}")).await.expect("the stream is open");
        let mut acks = ingest.push_stream(requests).await.expect("it is a stream").into_inner();
        assert_eq!(acks.message().await.expect("it is taken").map(|ack| ack.id), Some(1));
        door.doors.as_ref().expect("it is open").refuse_events();
        refused(acks.message().await, Code::Unavailable, "TM5112", "the pipeline is ending");
        refused(ingest.push(ingest::json(2, "{\"a\":1}")).await, Code::Unavailable, "TM5112", "is ending");
        let told = serves.message().await.expect("it goes on").map(|told| told.status());
        assert_eq!(told, Some(ServingStatus::NotServing));
    });
}
