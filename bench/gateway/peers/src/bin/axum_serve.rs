//! axum::serve on one thread: each event read into a struct.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Router, serve};

async fn take(body: Bytes) -> StatusCode {
    if gateway_peers::is_right(&body) { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST }
}

async fn run() -> std::io::Result<()> {
    let router = Router::new().route("/v1/sources/logs", post(take));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", gateway_peers::port())).await?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    serve(listener, router).await
}

fn main() -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}
