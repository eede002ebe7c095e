// SPDX-License-Identifier: Apache-2.0
//! Hands calls on, unchanged, to the Python server on its private Unix socket.
//!
//! Headers, bodies and trailers stream through in both directions; dropping a call on one side resets it on the
//! other. Only the caller's identity and address are added, and whatever pretended to be one is taken away.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::access::Principal;
use crate::error::{Code, Failure};
use crate::grpc::{AnswerBody, RequestBody};
use crate::proto::taximeter::v1::ErrorReason;

const IDENTITY_PREFIX: &str = "x-taximeter-";
const KEY_ID: HeaderName = HeaderName::from_static("x-taximeter-key-id");
const ROLE: HeaderName = HeaderName::from_static("x-taximeter-role");
const TENANTS: HeaderName = HeaderName::from_static("x-taximeter-tenants");
/// Where the call came from, for the audit log.
const PEER: HeaderName = HeaderName::from_static("x-taximeter-peer");
/// Room for streams of large reports.
const WINDOW_SIZE: u32 = 256 << 10;
/// As many windows as there are calls at once: answers that nobody reads must not hold up those of others.
const CONNECTION_WINDOW_SIZE: u32 = WINDOW_SIZE << 9;

/// One connection to the Python server, made again when it breaks.
pub(crate) struct Forwarder {
    socket: PathBuf,
    connection: Mutex<Option<SendRequest<RequestBody>>>,
}

impl Forwarder {
    /// A forwarder that connects with the first call.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            connection: Mutex::new(None),
        }
    }

    /// Forwards one call of any shape.
    pub(crate) async fn forward(
        &self,
        request: Request<RequestBody>,
        principal: Option<Principal>,
        peer: SocketAddr,
    ) -> Result<Response<AnswerBody>, Failure> {
        let (mut parts, body) = request.into_parts();
        identify(&mut parts.headers, principal.as_ref(), peer)?;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(Authority::from_static("localhost"));
        uri.path_and_query =
            Some(PathAndQuery::try_from(parts.uri.path()).map_err(|_| unreachable_server())?);
        parts.uri = Uri::from_parts(uri).map_err(|_| unreachable_server())?;
        let mut sender = self.sender().await?;
        let response = sender
            .send_request(Request::from_parts(parts, body))
            .await
            .map_err(|_| unreachable_server())?;
        Ok(response.map(AnswerBody::forwarded))
    }

    async fn sender(&self) -> Result<SendRequest<RequestBody>, Failure> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|_| unreachable_server())?;
        let (sender, driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_SIZE)
            .initial_connection_window_size(CONNECTION_WINDOW_SIZE)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| unreachable_server())?;
        tokio::spawn(async move {
            // Its end shows in is_closed.
            let _ = driver.await;
        });
        *connection = Some(sender.clone());
        Ok(sender)
    }
}

fn identify(headers: &mut HeaderMap, principal: Option<&Principal>, peer: SocketAddr) -> Result<(), Failure> {
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(IDENTITY_PREFIX))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    // The secret ends at the front.
    headers.remove(http::header::AUTHORIZATION);
    if let Some(principal) = principal {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| unreachable_server());
        headers.insert(KEY_ID, value(&principal.key_id)?);
        headers.insert(ROLE, HeaderValue::from_static(principal.role.name()));
        headers.insert(TENANTS, value(&principal.tenants.join(","))?);
        headers.insert(PEER, value(&peer.to_string())?);
    }
    Ok(())
}

fn unreachable_server() -> Failure {
    Failure::new(
        Code::Unavailable,
        ErrorReason::StoreUnavailable,
        "the server is starting or stopping",
    )
}
