// SPDX-License-Identifier: Apache-2.0
//! One connection, from its first byte to its last: TLS if the port has it, then HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::front::{self, Shared};
use crate::tls;

/// A client that has not finished its TLS handshake by then is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const STREAMS_PER_CONNECTION_MAX: u32 = 1_000;
/// More is refused by HTTP, with a status that gRPC clients cannot tell from a defect of the server.
const HEADER_LIST_SIZE_MAX: u32 = 32 << 10;
const STREAM_WINDOW_SIZE: u32 = 1 << 20;
const CONNECTION_WINDOW_SIZE: u32 = 4 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// For whoever tries a browser or curl without ALPN.
const NOT_HTTP2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n\
    connection: close\r\n\r\nThis port serves gRPC over HTTP/2 and needs ALPN \"h2\".\n";

/// Who is at the other end.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The URI in its certificate, where that says who calls.
    pub(crate) certificate_uri: Option<Arc<str>>,
}

/// Serves a connection until it ends, or until it is told to close and its calls have ended.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    // Answers are single small frames; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    // Who has gone already asks nothing more.
    let Ok(address) = stream.peer_addr() else { return };
    let Some(config) = shared.tls.load_full() else {
        let peer = Peer {
            address,
            certificate_uri: None,
        };
        return serve_http2(Transport::Plain(stream), shared, peer, closing).await;
    };
    let accepted = tokio::select! {
        accepted = shake_hands(stream, config) => accepted,
        // No call is lost by that.
        _ = closing.changed() => None,
    };
    if let Some(stream) = accepted {
        let peer = Peer {
            address,
            certificate_uri: uri_of(&stream, &shared),
        };
        serve_http2(Transport::Tls(Box::new(stream)), shared, peer, closing).await;
    }
}

/// None when the client does not speak TLS, shows no good certificate, takes too long or does not want HTTP/2.
async fn shake_hands(stream: TcpStream, config: Arc<ServerConfig>) -> Option<TlsStream<TcpStream>> {
    let accepted = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
    let mut stream = accepted.ok()?.ok()?;
    if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) {
        return Some(stream);
    }
    let refuse = async {
        stream.write_all(NOT_HTTP2).await?;
        stream.shutdown().await
    };
    // It is refused either way.
    let _ = timeout(HANDSHAKE_TIMEOUT, refuse).await;
    None
}

fn uri_of(stream: &TlsStream<TcpStream>, shared: &Shared) -> Option<Arc<str>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let names_callers = shared.identities.load().name_by_certificate();
    names_callers.then(|| tls::certificate_uri(certificate)).flatten()
}

async fn serve_http2(stream: Transport, shared: Arc<Shared>, peer: Peer, mut closing: watch::Receiver<bool>) {
    let peer = Arc::new(peer);
    let service = service_fn(move |request| {
        let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
        async move { Ok::<_, std::convert::Infallible>(front::answer(&shared, &peer, request).await) }
    });
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_LIST_SIZE_MAX)
        .initial_stream_window_size(STREAM_WINDOW_SIZE)
        .initial_connection_window_size(CONNECTION_WINDOW_SIZE)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A broken connection is its client's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
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
