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
use crate::{ingest, query, tables, views};

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
        ["v1", "tables", name, rest @ ..] if !name.is_empty() && !rest.is_empty() => {
            table(doors, &decoded(name)?, rest, &path, request).await
        }
        ["v1", "versions", rest @ ..] => versions(doors, rest, &path, request).await,
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
        ["v1", "tables"] => {
            allow(&request, &[Method::GET, Method::HEAD])?;
            Ok(json(StatusCode::OK, &doors.hall.table_names()))
        }
        _ => Err(Problem::not_found("path", &path, nearest_path(&parts))),
    }
}

/// What is asked of a versioned table.
async fn table(
    doors: &Arc<Doors>,
    name: &str,
    rest: &[&str],
    path: &str,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    let reading = [Method::GET, Method::HEAD];
    let found = || tables::find(doors, name);
    match rest {
        ["versions"] => {
            allow(&request, &[Method::GET, Method::HEAD, Method::POST])?;
            match *request.method() {
                Method::POST => tables::submit(doors, found()?, request).await,
                _ => tables::list(found()?, request).await,
            }
        }
        ["at", version] => {
            allow(&request, &reading)?;
            tables::at(found()?, decoded(version)?, request).await
        }
        ["diff", range] => {
            allow(&request, &reading)?;
            tables::diff(found()?, &decoded(range)?, request).await
        }
        ["rollback"] => {
            allow(&request, &[Method::POST])?;
            tables::roll_back(doors, found()?, request).await
        }
        _ => Err(Problem::not_found(
            "path",
            path,
            "a table has versions, at/{version}, diff/{a}..{b} and rollback under it",
        )),
    }
}

/// What is asked of the versions of the pipeline's state.
async fn versions(
    doors: &Arc<Doors>,
    rest: &[&str],
    path: &str,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    allow(&request, &[Method::GET, Method::HEAD])?;
    let state = || tables::state(doors);
    match rest {
        [] => tables::state_list(state()?, request).await,
        ["diff", range] => tables::state_diff(state()?, &decoded(range)?, request).await,
        [version] => tables::state_show(state()?, decoded(version)?, request).await,
        _ => Err(Problem::not_found("path", path, "there are /v1/versions/{version} and /v1/versions/diff/{a}..{b}")),
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
    let kinds = ["sources", "views", "tables", "versions", "health"];
    match parts.get(1).and_then(|kind| suggest::nearest(kind, kinds)) {
        Some(kind @ ("health" | "versions")) => format!("did you mean /v1/{kind}?"),
        Some("tables") => "did you mean /v1/tables/{name}/versions?".to_string(),
        Some(kind) => format!("did you mean /v1/{kind}/{{name}}?"),
        None => "there are /v1/sources, /v1/views, /v1/tables, /v1/versions and /v1/health".to_string(),
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
