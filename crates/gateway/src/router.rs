//! Which request goes where.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tidemill_base::suggest;

use crate::body::Budget;
use crate::hall::Hall;
use crate::options::Options;
use crate::problem::{Answer, Problem, json};
use crate::{ingest, query, views};

/// What every request shares.
pub(crate) struct Doors {
    /// What stands behind the doors.
    pub hall: Arc<Hall>,
    /// What the doors allow.
    pub options: Options,
    /// What bodies may hold.
    pub budget: Budget,
}

/// The state of the door, as `GET /v1/health` tells it.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

/// Answers a request.
pub(crate) async fn route(doors: &Arc<Doors>, request: Request<Incoming>) -> Answer {
    dispatch(doors, request).await.unwrap_or_else(Problem::answer)
}

async fn dispatch(doors: &Arc<Doors>, request: Request<Incoming>) -> Result<Answer, Problem> {
    let path = request.uri().path().to_string();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["v1", "sources", name] if !name.is_empty() => {
            allow(&request, &[Method::POST])?;
            ingest::post(doors, &decoded(name)?, request).await
        }
        ["v1", "views", name] if !name.is_empty() => {
            allow(&request, &[Method::GET, Method::HEAD])?;
            views::get(doors, &decoded(name)?, request).await
        }
        ["v1", "health"] => {
            allow(&request, &[Method::GET, Method::HEAD])?;
            Ok(health(doors))
        }
        ["v1", "sources"] => {
            allow(&request, &[Method::GET, Method::HEAD])?;
            Ok(json(StatusCode::OK, &doors.hall.inbox_names()))
        }
        ["v1", "views"] => {
            allow(&request, &[Method::GET, Method::HEAD])?;
            Ok(json(StatusCode::OK, &doors.hall.view_names()))
        }
        _ => Err(Problem::not_found("path", &path, nearest_path(&parts))),
    }
}

fn allow(request: &Request<Incoming>, methods: &[Method]) -> Result<(), Problem> {
    if methods.contains(request.method()) {
        return Ok(());
    }
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    Err(Problem::method(request.method(), &names.join(", ")))
}

fn decoded(name: &str) -> Result<String, Problem> {
    query::decode(name, false)
        .ok_or_else(|| Problem::bad_query(format!("'{name}' is not percent-encoded UTF-8"), "encode the name as UTF-8"))
}

fn nearest_path(parts: &[&str]) -> String {
    let kinds = ["sources", "views", "health"];
    match parts.get(1).and_then(|kind| suggest::nearest(kind, kinds)) {
        Some("health") => "did you mean /v1/health?".to_string(),
        Some(kind) => format!("did you mean /v1/{kind}/{{name}}?"),
        None => "there are /v1/sources/{name}, /v1/views/{name} and /v1/health".to_string(),
    }
}

fn health(doors: &Doors) -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    if doors.hall.is_draining() {
        json(StatusCode::SERVICE_UNAVAILABLE, &Health { status: "draining", version })
    } else {
        json(StatusCode::OK, &Health { status: "ok", version })
    }
}
