//! [`Services`]: which call goes where.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use hyper::body::Incoming;
use tidemill_proto::v1::decide_server::DecideServer;
use tidemill_proto::v1::ingest_server::IngestServer;
use tidemill_proto::v1::view_server::ViewServer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic_health::ServingStatus;

use super::feed::Feed;
use super::{decide, descriptor, ingest, status, view};
use crate::door::Door;
use crate::hall::Hall;
use crate::problem::Problem;

/// What a message may be longer than the body in it.
const ENVELOPE_BYTES_MAX: usize = 4 << 10;

/// The paths of the health service, which anybody may ask.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/";

/// Takes the calls of one service.
type Calls = Box<dyn Fn(Request<Feed>) -> Answered + Send + Sync>;

type Answered = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// The services of a door.
pub(crate) struct Services {
    by_name: BTreeMap<&'static str, Calls>,
}

/// Whether a request is a call.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.is_some_and(|kind| {
        kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
    })
}

impl Services {
    /// The services of a door; made on its threads.
    pub(crate) fn new(door: &Door) -> Self {
        let (hall, message_bytes_max) = (&door.hall, door.options.body_bytes_max + ENVELOPE_BYTES_MAX);
        let mut services = Services { by_name: BTreeMap::new() };
        let ingest = ingest::Service { hall: hall.clone() };
        services.add(IngestServer::new(ingest).max_decoding_message_size(message_bytes_max));
        let question_bytes_max = door.options.question_bytes_max;
        let decide = decide::Service { hall: hall.clone(), question_bytes_max };
        services.add(DecideServer::new(decide).max_decoding_message_size(question_bytes_max + ENVELOPE_BYTES_MAX));
        // The door decides how long answers are, and pages are short.
        let view = ViewServer::new(view::Service { hall: hall.clone() });
        services.add(view.max_encoding_message_size(usize::MAX));
        services.add_health(hall.clone());
        services.add_reflection(hall);
        services
    }

    fn add<S>(&mut self, service: S)
    where
        S: Service<Request<Feed>, Response = Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let calls = move |request| -> Answered {
            let answered = service.clone().call(request);
            Box::pin(async move { answered.await.unwrap_or_else(|never| match never {}) })
        };
        self.by_name.insert(S::NAME, Box::new(calls));
    }

    /// `grpc.health.v1.Health`: the whole, and each service of ours, serves until events are refused.
    fn add_health(&mut self, hall: Arc<Hall>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let names: Vec<&str> = self.by_name.keys().copied().chain([""]).collect();
        self.add(service);
        let (serve, known) = (reporter.clone(), names.clone());
        let mut serving = std::pin::pin!(async move {
            for name in &known {
                serve.set_service_status(name, ServingStatus::Serving).await;
            }
        });
        // Nobody else has the reporter yet: there is nothing to wait for.
        let told = serving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(told.is_ready(), "the health of the services is known from the first call on");
        tokio::spawn(async move {
            hall.drained().await;
            for name in &names {
                reporter.set_service_status(name, ServingStatus::NotServing).await;
            }
        });
    }

    /// `grpc.reflection.v1`, and `v1alpha` for older tools.
    fn add_reflection(&mut self, hall: &Hall) {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(tidemill_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_file_descriptor_set(descriptor::tables(hall))
        };
        match (builder().build_v1(), builder().build_v1alpha()) {
            (Ok(newer), Ok(older)) => {
                self.add(newer);
                self.add(older);
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "reflection is not offered"),
        }
    }

    /// Answers a call.
    pub(crate) async fn answer(&self, door: &Door, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
        let Some(calls) = self.by_name.get(name) else {
            let names: Vec<&str> = self.by_name.keys().copied().collect();
            let detail = format!("there is no service '{name}'; there are {}", names.join(", "));
            return tonic::Status::unimplemented(detail).into_http();
        };
        let (mut parts, body) = request.into_parts();
        let feed = Feed::new(body, door.budget.clone(), door.options.body_timeout);
        parts.extensions.insert(feed.tab());
        calls(Request::from_parts(parts, feed)).await
    }
}

/// What a call is answered that the door does not let in.
pub(crate) fn refused(problem: Problem) -> Response<Body> {
    status::status(problem).into_http()
}
