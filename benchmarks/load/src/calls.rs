// SPDX-License-Identifier: Apache-2.0
//! One connection and the calls on it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::TcpStream;

use crate::Outcome;
use crate::options::{Options, Role};
use crate::proto::taximeter::v1::usage_record::Payload;
use crate::proto::taximeter::v1::{
    RecordBatchRequest, RecordBatchResponse, RecordRequest, Usage, UsageRecord, record_result,
};

const RECORD: &str = "/taximeter.v1.MeteringService/Record";
const RECORD_BATCH: &str = "/taximeter.v1.MeteringService/RecordBatch";
const PREFIX_SIZE: usize = 5;

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Ok,
    Denied,
    Failed,
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Caller {
    sender: SendRequest<Full<Bytes>>,
    authorization: HeaderValue,
    run: u64,
    started_ms: u64,
}

impl Caller {
    /// Connects; HTTP/2 without TLS.
    pub(crate) async fn connect(options: &Options) -> Outcome<Self> {
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
        let authorization = HeaderValue::from_str(&format!("Bearer {}", options.key))?;
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(Self {
            sender,
            authorization,
            run: u64::from(std::process::id()),
            started_ms: u64::try_from(started.as_millis())?,
        })
    }

    /// Makes one call.
    pub(crate) async fn call(&mut self, options: &Options, number: u64) -> Outcome<Status> {
        let tenant = format!(
            "{}-{}",
            options.tenant_prefix,
            number.checked_rem(options.tenants).unwrap_or_default()
        );
        match options.role {
            Role::Record if options.batch > 1 => self.record_batch(options, number, &tenant).await,
            Role::Record => {
                let message = RecordRequest {
                    record: Some(self.usage(&tenant, number, 0)),
                };
                let (status, _) = self.send(RECORD, &message.encode_to_vec()).await?;
                Ok(status)
            }
            Role::Check | Role::Floor => {
                let protocol = options.protocol;
                let (status, answer) = self.send(protocol.path(), &protocol.question(tenant)).await?;
                Ok(if status == Status::Ok && protocol.is_denied(answer)? {
                    Status::Denied
                } else {
                    status
                })
            }
        }
    }

    async fn record_batch(&mut self, options: &Options, number: u64, tenant: &str) -> Outcome<Status> {
        let records = (0..options.batch)
            .map(|item| self.usage(tenant, number, item))
            .collect();
        let (status, reply) = self
            .send(RECORD_BATCH, &RecordBatchRequest { records }.encode_to_vec())
            .await?;
        let is_error = |outcome| matches!(outcome, Some(record_result::Outcome::Error(_)) | None);
        let failed = RecordBatchResponse::decode(reply)?
            .results
            .into_iter()
            .any(|result| is_error(result.outcome));
        Ok(if failed { Status::Failed } else { status })
    }

    fn usage(&self, tenant: &str, number: u64, item: u64) -> UsageRecord {
        let usage = Usage {
            uncached_input_tokens: 1_469,
            cache_read_tokens: 512,
            visible_output_tokens: 129,
            reasoning_tokens: 64,
            ..Default::default()
        };
        UsageRecord {
            record_id: self.record_id(number, item),
            tenant: tenant.to_owned(),
            model: "claude-sonnet-4-6".to_owned(),
            payload: Some(Payload::Usage(usage)),
            ..Default::default()
        }
    }

    /// A `UUIDv7` of the start of the run, unique by run, call and item.
    fn record_id(&self, number: u64, item: u64) -> String {
        let (high, low) = (self.started_ms.wrapping_shr(16), self.started_ms & 0xffff);
        format!(
            "{high:08x}-{low:04x}-7{item:03x}-8{:03x}-{number:012x}",
            self.run & 0xfff
        )
    }

    async fn send(&mut self, path: &str, message: &[u8]) -> Outcome<(Status, Bytes)> {
        let mut frame = BytesMut::with_capacity(message.len().saturating_add(PREFIX_SIZE));
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len())?);
        frame.put_slice(message);
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", self.authorization.clone())
            .body(Full::new(frame.freeze()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
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
