// SPDX-License-Identifier: Apache-2.0
//! One connection, from its first byte to its last: TLS if the port has it, then HTTP/2, or HTTP/1.1 for callers
//! without gRPC.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::frame_watch::Watched;
use crate::front::{self, Shared};
use crate::grpc::AnswerBody;
use crate::standing::Standing;
use crate::tls;

/// A client that has not finished its TLS handshake by then is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a call that may be made is closed after this: it began slowly, or wants nothing.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Clients that are told to go finish their calls within this.
const AGE_GRACE: Duration = Duration::from_secs(30);
/// Clients wait with further calls, or open another connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Streams that the client cancelled before they were looked at, and that it broke: more ends the connection.
const PENDING_RESETS_MAX: usize = 32;
const BROKEN_STREAMS_MAX: usize = 1_024;
/// What waits to be sent on a stream that its client does not read.
const SEND_BUFFER_SIZE_MAX: usize = 64 << 10;
/// More is refused by HTTP, with a status that gRPC clients cannot tell from a defect of the server.
const HEADER_LIST_SIZE_MAX: u32 = 32 << 10;
const STREAM_WINDOW_SIZE: u32 = 1 << 20;
const CONNECTION_WINDOW_SIZE: u32 = 4 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A client that has not sent what tells HTTP/2 from HTTP/1.1, or the headers of a request of the latter, is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Its first bytes arrive together, but for a client that means harm.
const SNIFF_DELAY: Duration = Duration::from_millis(5);
/// HTTP/2 begins with "PRI * HTTP/2.0", and no method of HTTP/1.1 begins so.
const HTTP2_PREFACE: &[u8; 3] = b"PRI";

/// Longest line and header block of HTTP/1.1.
const HTTP1_BUFFER_SIZE: usize = 32 << 10;

type Answered = Result<Response<AnswerBody>, Infallible>;

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) connections_max: usize,
    pub(crate) age_max: Duration,
}

/// Who is at the other end.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The URI in its certificate, where that says who calls.
    pub(crate) certificate_uri: Option<Arc<str>>,
    pub(crate) standing: Arc<Standing>,
}

/// What ends a connection, other than its client.
pub(crate) struct Ends {
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) age_max: Duration,
}

/// Serves a connection until it ends, or until it is told to close and its calls have ended.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>, ends: Ends) {
    // Answers are single small frames; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let standing = Arc::clone(&ends.standing);
    tokio::select! {
        biased;
        () = begin(stream, shared, ends) => {}
        () = standing.evicted.notified() => {}
    }
}

async fn begin(stream: TcpStream, shared: Arc<Shared>, mut ends: Ends) {
    // Who has gone already asks nothing more.
    let Ok(address) = stream.peer_addr() else { return };
    let mut peer = Peer {
        address,
        certificate_uri: None,
        standing: Arc::clone(&ends.standing),
    };
    let Some(config) = shared.tls.load_full() else {
        let is_http2 = tokio::select! {
            is_http2 = timeout(HEADER_TIMEOUT, begins_http2(&stream)) => is_http2,
            // No call is lost by that.
            _ = ends.closing.changed() => return,
        };
        return match is_http2 {
            Ok(Ok(true)) => serve_http2(Transport::Plain(stream), shared, peer, ends).await,
            Ok(Ok(false)) => serve_http1(Transport::Plain(stream), shared, peer, ends).await,
            Ok(Err(_)) | Err(_) => {}
        };
    };
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)) => accepted,
        // Nor by that.
        _ = ends.closing.changed() => return,
    };
    // Who does not speak TLS, shows no good certificate or takes too long has nothing to say.
    if let Ok(Ok(stream)) = accepted {
        peer.certificate_uri = uri_of(&stream, &shared);
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
        let stream = Transport::Tls(Box::new(stream));
        if is_http2 {
            serve_http2(stream, shared, peer, ends).await;
        } else {
            serve_http1(stream, shared, peer, ends).await;
        }
    }
}

async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let size = stream.peek(&mut first).await?;
        let seen = first.get(..size).unwrap_or_default();
        if size == 0 || !HTTP2_PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if size == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(SNIFF_DELAY).await;
    }
}

fn uri_of(stream: &TlsStream<TcpStream>, shared: &Shared) -> Option<Arc<str>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let names_callers = shared.gate.identities.load().name_by_certificate();
    names_callers.then(|| tls::certificate_uri(certificate)).flatten()
}

async fn serve_http2(stream: Transport, shared: Arc<Shared>, peer: Peer, mut ends: Ends) {
    let service = service_fn(answering(shared, peer));
    let stream = Watched::new(stream, Instant::now());
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(BROKEN_STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_SIZE_MAX)
        .max_send_buf_size(SEND_BUFFER_SIZE_MAX)
        .initial_stream_window_size(STREAM_WINDOW_SIZE)
        .initial_connection_window_size(CONNECTION_WINDOW_SIZE)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    serve_until_end(connection, &mut ends).await;
}

async fn serve_http1(stream: Transport, shared: Arc<Shared>, peer: Peer, mut ends: Ends) {
    let service = service_fn(answering(shared, peer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_SIZE)
        .serve_connection(TokioIo::new(stream), service);
    serve_until_end(connection, &mut ends).await;
}

/// Serves a connection until its client or `ends` ends it.
async fn serve_until_end(connection: impl GracefulConnection, ends: &mut Ends) {
    let mut connection = pin!(connection);
    // A broken connection is its client's business.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        end = must_end(ends) => {
            connection.as_mut().graceful_shutdown();
            match end {
                End::Unused => {}
                End::Aged => drop(timeout(AGE_GRACE, connection).await),
                End::Draining => drop(connection.await),
            }
        }
    }
}

/// Why a connection has to end.
enum End {
    /// All do.
    Draining,
    /// It has lived long: its client shall connect again, perhaps to another server.
    Aged,
    /// It holds a place and makes no call.
    Unused,
}

async fn must_end(ends: &mut Ends) -> End {
    let age_max = spread(ends.age_max);
    let first_call = FIRST_CALL_TIMEOUT.min(age_max);
    tokio::select! {
        _ = ends.closing.changed() => return End::Draining,
        () = sleep(first_call) => {}
    }
    if !ends.standing.is_used() {
        return End::Unused;
    }
    tokio::select! {
        _ = ends.closing.changed() => End::Draining,
        () = sleep(age_max.saturating_sub(first_call)) => End::Aged,
    }
}

/// The age, less up to a tenth of it: connections that began together do not end together.
fn spread(age: Duration) -> Duration {
    let tenth = age.checked_div(10).unwrap_or_default();
    let part = u32::from(random_byte());
    let less = tenth.saturating_mul(part).checked_div(256).unwrap_or_default();
    age.saturating_sub(less)
}

fn random_byte() -> u8 {
    let mut byte = [0_u8; 1];
    // Without randomness all connections live equally long.
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    byte[0]
}

/// What answers the requests of a connection.
fn answering(
    shared: Arc<Shared>,
    peer: Peer,
) -> impl Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
    let peer = Arc::new(peer);
    move |request| {
        let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
        Box::pin(async move { Ok(front::answer(&shared, &peer, request).await) })
    }
}

/// The bytes of a connection, encrypted or not.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
