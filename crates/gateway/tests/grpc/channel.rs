//! [`Channel`]: a connection of hyper's as tonic's clients use it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Bytes, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;
use tonic::codegen::{Service, StdError};

/// A connection to a door; clones share it.
pub struct Channel<B = Body> {
    send: SendRequest<B>,
    authority: Authority,
}

impl<B> Clone for Channel<B> {
    fn clone(&self) -> Self {
        Channel { send: self.send.clone(), authority: self.authority.clone() }
    }
}

impl<B> Channel<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    /// Connects, on the threads that run this.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.expect("the door is open");
        let (send, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Channel { send, authority: address.to_string().parse().expect("an address and a port") }
    }
}

impl<B: HttpBody + Send + 'static> Service<Request<B>> for Channel<B> {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.send.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).expect("it has a path");
        Box::pin(self.send.send_request(request))
    }
}
