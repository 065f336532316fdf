//! A link to one peer for one protocol, and the streams on it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use borsh::{BorshDeserialize, BorshSerialize};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    PeerId,
    frame::{LinkError, read_frame, write_frame},
};

/// The reading half of a stream.
#[derive(Debug)]
pub struct ReadHalf(iroh::endpoint::RecvStream);

/// The writing half of a stream. Shutting it down tells the peer that nothing more will be sent; dropping it does as well.
#[derive(Debug)]
pub struct WriteHalf(iroh::endpoint::SendStream);

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.0), context, buffer)
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.0), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.0), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.0), context)
    }
}

/// Longest wait for the request on a stream that a peer opened.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A served connection on which no stream was open for so long is closed; it costs whoever needs it again one handshake.
const UNUSED: Duration = Duration::from_secs(300);
/// Code with which a connection is closed in order.
const CODE_DONE: u32 = 0;
/// Code with which a peer that broke the protocol is cut off.
const CODE_VIOLATION: u32 = 1;

/// Bounds on what a peer may do on one served connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest request frame in bytes.
    pub request: usize,
    /// Most streams open at once.
    pub streams: u32,
}

/// An encrypted connection to a peer whose key was verified. Clones share it; it closes when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: iroh::endpoint::Connection,
    /// Without its endpoint a connection is dead.
    _endpoint: iroh::Endpoint,
}

impl Connection {
    pub(crate) fn new(inner: iroh::endpoint::Connection, endpoint: iroh::Endpoint) -> Self {
        Self {
            inner,
            _endpoint: endpoint,
        }
    }

    /// The peer at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.inner.remote_id().into()
    }

    /// Opens a stream. The peer sees it once something is sent on it.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the connection is gone.
    pub async fn open(&self) -> Result<Stream, LinkError> {
        let (write, read) = self
            .inner
            .open_bi()
            .await
            .map_err(|error| LinkError::Closed(error.to_string()))?;
        Ok(Stream {
            peer: self.peer(),
            read: ReadHalf(read),
            write: WriteHalf(write),
        })
    }

    /// The next stream that the peer opens.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the connection is gone.
    pub async fn accept(&self) -> Result<Stream, LinkError> {
        let (write, read) = self
            .inner
            .accept_bi()
            .await
            .map_err(|error| LinkError::Closed(error.to_string()))?;
        Ok(Stream {
            peer: self.peer(),
            read: ReadHalf(read),
            write: WriteHalf(write),
        })
    }

    /// Sends a request on a stream of its own and waits for the answer.
    ///
    /// # Errors
    /// [`LinkError`] when the connection or stream fails, the answer is longer than `maximum` bytes or malformed, or does
    /// not come within `deadline`.
    pub async fn call<Q: BorshSerialize, A: BorshDeserialize>(
        &self,
        request: &Q,
        maximum: usize,
        deadline: Duration,
    ) -> Result<A, LinkError> {
        let exchange = async {
            let mut stream = self.open().await?;
            stream.send(request, usize::MAX).await?;
            stream.finish();
            stream.receive(maximum).await?.ok_or(LinkError::Truncated)
        };
        timeout(deadline, exchange)
            .await
            .map_err(|_| LinkError::Deadline(deadline))?
    }

    /// Bounds how many streams the peer may have open at once.
    pub fn limit_streams(&self, streams: u32) {
        self.inner.set_max_concurrent_bi_streams(streams.into());
    }

    /// Closes the connection in order.
    pub fn close(&self) {
        self.inner.close(CODE_DONE.into(), b"done");
    }

    /// Cuts off a peer that broke the protocol, and says so once in the log.
    pub fn cut_off(&self, reason: &LinkError) {
        if self.inner.close_reason().is_none() {
            warn!(peer = %self.peer(), protocol = %String::from_utf8_lossy(self.inner.alpn()), %reason, "peer cut off");
            let text = reason.to_string();
            self.inner.close(CODE_VIOLATION.into(), text.as_bytes());
        }
    }

    /// Waits until the connection is gone and says why.
    pub async fn closed(&self) -> String {
        self.inner.closed().await.to_string()
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.close_reason().is_some()
    }

    pub(crate) fn inner(&self) -> &iroh::endpoint::Connection {
        &self.inner
    }
}

/// One conversation on a connection: frames, and raw bytes after the last frame.
#[derive(Debug)]
pub struct Stream {
    peer: PeerId,
    read: ReadHalf,
    write: WriteHalf,
}

impl Stream {
    /// The peer at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Sends one frame of at most `maximum` bytes.
    ///
    /// # Errors
    /// As [`write_frame`].
    pub async fn send<T: BorshSerialize + ?Sized>(&mut self, message: &T, maximum: usize) -> Result<(), LinkError> {
        write_frame(&mut self.write, message, maximum).await
    }

    /// Receives one frame of at most `maximum` bytes; `None` at the end of the stream.
    ///
    /// # Errors
    /// As [`read_frame`].
    pub async fn receive<T: BorshDeserialize>(&mut self, maximum: usize) -> Result<Option<T>, LinkError> {
        read_frame(&mut self.read, maximum).await
    }

    /// Receives one frame within `deadline`.
    ///
    /// # Errors
    /// As [`read_frame`], [`LinkError::Deadline`] when it does not come in time, [`LinkError::Truncated`] at the end.
    pub async fn receive_within<T: BorshDeserialize>(
        &mut self,
        maximum: usize,
        deadline: Duration,
    ) -> Result<T, LinkError> {
        let frame = timeout(deadline, self.receive(maximum))
            .await
            .map_err(|_| LinkError::Deadline(deadline))?;
        frame?.ok_or(LinkError::Truncated)
    }

    /// Says that nothing more will be sent. The peer may still send.
    pub fn finish(&mut self) {
        // The only error is that the stream was finished or reset before, which leaves nothing to do.
        let _ = self.write.0.finish();
    }

    /// The halves, for raw bytes.
    #[must_use]
    pub fn into_halves(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }
}

/// Answers the streams that a peer opens until the connection ends: reads one request from each and hands it to
/// `handler` with the stream, on which one answer, many, or raw bytes may follow. Streams run side by side and end with
/// the connection.
///
/// A peer that sends an over-long or malformed frame is cut off; a stream without a request in time is dropped; a connection
/// without a stream for five minutes is closed.
pub async fn serve_requests<Q, H, F>(connection: Connection, limits: Limits, handler: H)
where
    Q: BorshDeserialize + Send + 'static,
    H: Fn(Q, Stream) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), LinkError>> + Send + 'static,
{
    serve_used(connection, limits, UNUSED, handler).await;
}

async fn serve_used<Q, H, F>(connection: Connection, limits: Limits, unused: Duration, handler: H)
where
    Q: BorshDeserialize + Send + 'static,
    H: Fn(Q, Stream) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), LinkError>> + Send + 'static,
{
    connection.limit_streams(limits.streams);
    let handler = Arc::new(handler);
    let mut running = JoinSet::new();
    loop {
        let idle = running.is_empty();
        tokio::select! {
            accepted = connection.accept() => {
                let Ok(stream) = accepted else { break };
                running.spawn(serve_stream(connection.clone(), stream, limits.request, Arc::clone(&handler)));
            }
            Some(_) = running.join_next() => {}
            () = sleep(unused), if idle => {
                connection.close();
                break;
            }
        }
    }
}

/// Like [`serve_requests`] with one answer to each request.
pub async fn serve_calls<Q, A, H, F>(connection: Connection, limits: Limits, maximum_answer: usize, handler: H)
where
    Q: BorshDeserialize + Send + 'static,
    A: BorshSerialize + Send + Sync + 'static,
    H: Fn(PeerId, Q) -> F + Send + Sync + 'static,
    F: Future<Output = A> + Send + 'static,
{
    serve_requests(connection, limits, move |request, mut stream| {
        let answer = handler(stream.peer(), request);
        async move {
            stream.send(&answer.await, maximum_answer).await?;
            stream.finish();
            Ok(())
        }
    })
    .await;
}

async fn serve_stream<Q, H, F>(connection: Connection, mut stream: Stream, maximum: usize, handler: Arc<H>)
where
    Q: BorshDeserialize,
    H: Fn(Q, Stream) -> F,
    F: Future<Output = Result<(), LinkError>>,
{
    let served = match stream.receive_within(maximum, REQUEST_DEADLINE).await {
        Ok(request) => handler(request, stream).await,
        Err(error) => {
            if error.is_violation() {
                connection.cut_off(&error);
            }
            Err(error)
        }
    };
    if let Err(error) = served {
        debug!(peer = %connection.peer(), %error, "stream ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, LinkKey, PeerAddress, Protocols};

    const PROTOCOL: &[u8] = b"test";
    const LONG: Duration = Duration::from_secs(20);

    async fn endpoint(seed: u8) -> Endpoint {
        let loopback = ([127, 0, 0, 1], 0).into();
        Endpoint::bind(&LinkKey::from_seed(&[seed; 32]), loopback)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_no_stream_is_open_for_a_time_and_not_before() {
        let (server, client) = (endpoint(1).await, endpoint(2).await);
        let limits = Limits {
            request: 64,
            streams: 4,
        };
        let unused = Duration::from_millis(300);
        let protocols = Protocols::new().with(PROTOCOL, move |connection| {
            serve_used(connection, limits, unused, |_: u8, mut stream: Stream| async move {
                // Answers when the peer says that it is done.
                let _: Option<u8> = stream.receive(64).await?;
                stream.send(&1_u8, 64).await
            })
        });
        let _serving = server.serve(protocols);
        let address = PeerAddress::new(server.id(), server.bound()).unwrap();
        let connection = client.dial(&address, PROTOCOL).await.unwrap();
        let mut stream = connection.open().await.unwrap();
        stream.send(&1_u8, 64).await.unwrap();
        let open = timeout(unused * 4, connection.closed()).await;
        assert!(open.is_err(), "closed while a stream was open: {open:?}");
        stream.finish();
        assert_eq!(stream.receive_within::<u8>(64, LONG).await.unwrap(), 1);
        timeout(LONG, connection.closed()).await.unwrap();
    }
}
