//! Bare hyper on one thread, HTTP/1.1 and HTTP/2: each event read into a struct, no router, no limits, nothing kept.

use std::convert::Infallible;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;

async fn answer(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let right = match request.into_body().collect().await {
        Ok(body) => gateway_peers::is_right(&body.to_bytes()),
        Err(_) => false,
    };
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = if right { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST };
    Ok(answer)
}

async fn serve() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", gateway_peers::port())).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().pipeline_flush(true);
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

fn main() -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
}
