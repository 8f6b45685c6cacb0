//! Which request goes where, on the standard stack.
//!
//! What answers a request is one future, for which memory is taken and which is moved before it runs. So that it is small,
//! it holds the request once and lends it to what answers events and questions; the future of anything else is boxed.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::door::Door;
use crate::identity::Need;
use crate::outgoing::{Answer, Outgoing};
use crate::problem::Problem;
use crate::route::{OfTable, OfVersions, Route};
use crate::{decide, grpc, ingest, stream, tables, views};

/// How a request is answered.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and to box it is what is to be saved")]
enum Way {
    /// In this future: events and questions.
    Here(Request<Incoming>),
    /// In one of its own.
    Boxed(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// Answers a request from `address`.
pub(crate) fn route(
    door: Arc<Door>,
    address: IpAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Answer, Infallible>> + Send {
    let takes_in = request.method() == Method::POST && Route::takes_in(request.uri().path());
    let mut way = match grpc::is_grpc(&request) {
        false if takes_in => Way::Here(request),
        is_grpc => Way::Boxed(elsewhere(door.clone(), address, is_grpc, request)),
    };
    async move {
        Ok(match &mut way {
            Way::Here(request) => post(&door, address, request).await.unwrap_or_else(|problem| problem.reply().into()),
            Way::Boxed(answer) => answer.await,
        })
    }
}

/// Takes events or a question in.
async fn post(door: &Arc<Door>, address: IpAddr, request: &mut Request<Incoming>) -> Result<Answer, Problem> {
    // A copy of the path is cheap, and lets go of the request.
    let uri = request.uri().clone();
    let route = Route::of("POST", uri.path())?;
    door.admit(address, &route, request.headers())?;
    match &route {
        Route::Events(name) => ingest::post(door, name, uri.query(), request).await,
        Route::Question(name) => decide::post(door, name, uri.query(), request).await,
        _ => Err(Problem::internal("the path of a request changed while it was looked at")),
    }
}

/// Answers what is neither events nor a question.
fn elsewhere(
    door: Arc<Door>,
    address: IpAddr,
    is_grpc: bool,
    request: Request<Incoming>,
) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    Box::pin(async move {
        if is_grpc {
            return call(&door, address, request).await.map(Outgoing::Messages);
        }
        dispatch(&door, address, request).await.unwrap_or_else(|problem| problem.reply().into())
    })
}

/// Answers a call of gRPC. What its messages ask for is looked at when they come; whether the door is open anybody may ask.
async fn call(door: &Arc<Door>, address: IpAddr, mut request: Request<Incoming>) -> Response<tonic::body::Body> {
    let met = match request.uri().path().starts_with(grpc::HEALTH) {
        true => door.guard.admit(address, Need::Nothing, request.headers()),
        false => {
            door.guard.meet(address, request.headers()).map(|caller| drop(request.extensions_mut().insert(caller)))
        }
    };
    match met {
        Ok(()) => door.grpc.get_or_init(|| grpc::Services::new(door)).answer(door, request).await,
        Err(problem) => grpc::refused(problem),
    }
}

async fn dispatch(door: &Arc<Door>, address: IpAddr, mut request: Request<Incoming>) -> Result<Answer, Problem> {
    let uri = request.uri().clone();
    let route = Route::of(request.method().as_str(), uri.path())?;
    door.admit(address, &route, request.headers())?;
    match route {
        Route::Events(name) => ingest::post(door, &name, uri.query(), &mut request).await,
        Route::Question(name) => decide::post(door, &name, uri.query(), &mut request).await,
        Route::Rows(name) => views::get(door, &name, request).await,
        Route::Changes(name) => stream::get(door, &name, request).await,
        Route::Health => Ok(door.health().into()),
        Route::Names(names) => Ok(door.names(names).into()),
        Route::Table(name, of) => table(door, &name, of, request).await,
        Route::Versions(of) => versions(door, of, request).await,
    }
}

/// What is done with a versioned table.
async fn table(door: &Arc<Door>, name: &str, of: OfTable<'_>, request: Request<Incoming>) -> Result<Answer, Problem> {
    let found = tables::find(door, name)?;
    match of {
        OfTable::List => tables::list(found, request).await,
        OfTable::Submit => tables::submit(door, found, request).await,
        OfTable::At(version) => tables::at(found, version.into_owned(), request).await,
        OfTable::Diff(range) => tables::diff(found, &range, request).await,
        OfTable::RollBack => tables::roll_back(door, found, request).await,
    }
}

/// What is asked about the versions of the pipeline's state.
async fn versions(door: &Arc<Door>, of: OfVersions<'_>, request: Request<Incoming>) -> Result<Answer, Problem> {
    let state = tables::state(door)?;
    match of {
        OfVersions::List => tables::state_list(state, request).await,
        OfVersions::Show(version) => tables::state_show(state, version.into_owned(), request).await,
        OfVersions::Diff(range) => tables::state_diff(state, &range, request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of what a function gives.
    fn size<F>(_: impl Fn(Arc<Door>, IpAddr, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_answers_a_request_is_small() {
        assert!(size(route) <= 1_200, "{} bytes are moved for each request", size(route));
    }
}
