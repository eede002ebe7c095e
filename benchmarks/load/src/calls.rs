// SPDX-License-Identifier: Apache-2.0
//! One connection and the calls on it.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::TcpStream;

use crate::Outcome;
use crate::messages::Messages;
use crate::options::{Options, Role};
use crate::protocol::Decided;

const RECORD: &str = "/taximeter.v1.MeteringService/Record";
const RECORD_BATCH: &str = "/taximeter.v1.MeteringService/RecordBatch";
/// What a `RecordResult` begins with whose outcome is a response.
const RECORDED_TAG: u8 = 0x0a;
const PREFIX_SIZE: usize = 5;

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Ok,
    Denied,
    Failed,
}

/// How a call ended, and when its caller knew whether to go on: a record after a check is nobody's wait.
pub(crate) struct Ended {
    pub(crate) status: Status,
    pub(crate) decided: Instant,
}

/// A `RecordBatchResponse` whose results are only looked at: what is measured has the same cores.
#[derive(Clone, PartialEq, Message)]
struct Results {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    results: Vec<Bytes>,
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Caller {
    sender: SendRequest<Full<Bytes>>,
    /// Requests without their bodies: nothing is put together again for each call.
    question: Request<()>,
    record: Request<()>,
    record_batch: Request<()>,
    messages: Arc<Messages>,
}

impl Caller {
    /// Connects; HTTP/2 without TLS.
    pub(crate) async fn connect(options: &Options, messages: Arc<Messages>) -> Outcome<Self> {
        let stream = TcpStream::connect(&options.address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            // Calls in flight see its end as their own failure.
            let _ = driver.await;
        });
        Ok(Self {
            sender,
            question: request(options.protocol.path(), &options.key)?,
            record: request(RECORD, &options.key)?,
            record_batch: request(RECORD_BATCH, &options.key)?,
            messages,
        })
    }

    /// Makes one call.
    pub(crate) async fn call(&mut self, options: &Options, number: u64) -> Outcome<Ended> {
        match options.role {
            Role::Meter => self.meter(number).await,
            Role::Record if options.batch > 1 => self.record_batch(number).await,
            Role::Record => {
                let message = self.messages.record(number, String::new());
                let (status, _) = self.send(self.record.clone(), &message).await?;
                Ok(ended(status))
            }
            Role::Check | Role::Question | Role::Floor => {
                let protocol = options.protocol;
                let message = if options.holds {
                    self.messages.check_with_hold(number)
                } else {
                    protocol.question(self.messages.tenant(number))
                };
                let (status, answer) = self.send(self.question.clone(), &message).await?;
                let is_denied = status == Status::Ok && protocol.is_denied(answer)?;
                Ok(ended(if is_denied { Status::Denied } else { status }))
            }
        }
    }

    /// A call to a model as a gateway meters it: may it go on, and then what it used.
    async fn meter(&mut self, number: u64) -> Outcome<Ended> {
        let message = self.messages.check_with_hold(number);
        let (status, answer) = self.send(self.question.clone(), &message).await?;
        let decided = Instant::now();
        let answer = Decided::decode(answer)?;
        if status != Status::Ok || answer.is_denied() {
            let status = if status == Status::Ok {
                Status::Denied
            } else {
                status
            };
            return Ok(Ended { status, decided });
        }
        let message = self.messages.record(number, answer.hold_id);
        let (status, _) = self.send(self.record.clone(), &message).await?;
        Ok(Ended { status, decided })
    }

    async fn record_batch(&mut self, number: u64) -> Outcome<Ended> {
        let message = self.messages.record_batch(number);
        let (status, reply) = self.send(self.record_batch.clone(), &message).await?;
        let results = Results::decode(reply)?.results;
        let failed = results.iter().any(|result| result.first() != Some(&RECORDED_TAG));
        Ok(ended(if failed { Status::Failed } else { status }))
    }

    async fn send(&mut self, request: Request<()>, message: &[u8]) -> Outcome<(Status, Bytes)> {
        let body = Full::new(frame(message)?);
        self.sender.ready().await?;
        let response = self.sender.send_request(request.map(|()| body)).await?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await?;
        // gRPC failures come with HTTP status 200: only the trailers, or headers without a body, tell.
        let is_ok = |headers: &HeaderMap| headers.get("grpc-status").is_some_and(|status| status == "0");
        let ok = collected.trailers().is_some_and(is_ok) || is_ok(&parts.headers);
        let body = collected.to_bytes();
        let message = if body.len() > PREFIX_SIZE {
            body.slice(PREFIX_SIZE..)
        } else {
            Bytes::new()
        };
        Ok((if ok { Status::Ok } else { Status::Failed }, message))
    }
}

fn ended(status: Status) -> Ended {
    Ended {
        status,
        decided: Instant::now(),
    }
}

fn request(path: &str, key: &str) -> Outcome<Request<()>> {
    let request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {key}"))
        .body(())?;
    Ok(request)
}

/// A message as gRPC sends it.
pub(crate) fn frame(message: &[u8]) -> Outcome<Bytes> {
    let mut frame = BytesMut::with_capacity(message.len().saturating_add(PREFIX_SIZE));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.put_slice(message);
    Ok(frame.freeze())
}
