//! [`Gathered`]: a connection on which the answers to requests that came together leave together.
//!
//! hyper flushes after each answer, or, told to gather them, keeps those behind which more was read, and loses them when
//! the connection ends there: a client that sends a bad request behind a good one never hears that the good one was taken.
//! So hyper flushes into memory here, and what has gathered is sent when hyper has done what it can for now, by
//! [`Gathered::drive`]. Memory is bounded: when there is too much of it, a write waits until it has left.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What gathers before a write waits.
const GATHERED_BYTES_MAX: usize = 64 << 10;

/// A connection; clones are the same one.
pub(crate) struct Gathered<S>(Arc<Mutex<Inner<S>>>);

struct Inner<S> {
    stream: S,
    gathered: Vec<u8>,
    sent: usize,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Gathered(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gathered<S> {
    /// A connection on which nothing has gathered.
    pub(crate) fn new(stream: S) -> Self {
        Gathered(Arc::new(Mutex::new(Inner { stream, gathered: Vec::new(), sent: 0 })))
    }

    /// Runs what serves the connection, and sends what has gathered whenever that waits, and when it has ended.
    ///
    /// # Errors
    /// What kept it from being sent; what serves the connection has ended then too.
    pub(crate) async fn drive<T>(self, serving: impl Future<Output = T>) -> io::Result<T> {
        let mut serving = pin!(serving);
        let mut ended = None;
        poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(end) = serving.as_mut().poll(cx)
            {
                ended = Some(end);
            }
            ready!(self.inner().send(cx))?;
            ended.take().map_or(Poll::Pending, |end| Poll::Ready(Ok(end)))
        })
        .await
    }

    /// A panic between lock and unlock ends the connection's only task.
    fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    /// Sends what has gathered.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered[self.sent..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.sent += count,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.sent = 0;
        self.gathered.clear();
        Poll::Ready(Ok(()))
    }

    /// Makes room for more.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.len() < GATHERED_BYTES_MAX { Poll::Ready(Ok(())) } else { self.send(cx) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner().stream).poll_read(cx, to)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        ready!(inner.room(cx))?;
        inner.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        ready!(inner.room(cx))?;
        parts.iter().for_each(|part| inner.gathered.extend_from_slice(part));
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What has gathered leaves when nothing more is to be done for now.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        ready!(inner.send(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_written_leaves_when_its_writer_waits_or_ends() {
        let (mut client, server) = duplex(1 << 20);
        let gathered = Gathered::new(server);
        let mut stream = gathered.clone();
        let serving = gathered.drive(async move {
            stream.write_all(b"one ").await.expect("memory takes it");
            stream.flush().await.expect("memory takes it");
            let mut read = [0; 2];
            stream.read_exact(&mut read).await.expect("the client answers");
            stream.write_all(b"two").await.expect("memory takes it");
        });
        let asking = async {
            let mut first = [0; 4];
            client.read_exact(&mut first).await.expect("it leaves while the other end waits");
            client.write_all(b"go").await.expect("the other end reads");
            let mut rest = [0; 3];
            client.read_exact(&mut rest).await.expect("it leaves at the end");
            assert_eq!((&first, &rest), (b"one ", b"two"));
        };
        let (served, ()) = tokio::join!(serving, asking);
        served.expect("the client stays");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_any_more_ends_what_serves_it() {
        let (client, server) = duplex(16);
        let gathered = Gathered::new(server);
        let mut stream = gathered.clone();
        drop(client);
        let serving = gathered.drive(async move {
            stream.write_all(b"an answer").await.expect("memory takes it");
            std::future::pending::<()>().await;
        });
        assert!(serving.await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_makes_the_writer_wait() {
        let (mut client, server) = duplex(16);
        let gathered = Gathered::new(server);
        let mut stream = gathered.clone();
        let sent = 4 * GATHERED_BYTES_MAX;
        let serving = gathered.drive(async move {
            stream.write_all(&vec![b'x'; sent]).await.expect("the client reads in the end");
            stream.0.lock().expect("nobody panics with it").gathered.capacity()
        });
        let mut read = vec![0; sent];
        let (held, read) = tokio::join!(serving, client.read_exact(&mut read));
        assert_eq!(read.expect("all of it comes"), sent);
        assert!(held.expect("the client stays") <= 5 * GATHERED_BYTES_MAX);
    }
}
