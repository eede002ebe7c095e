// SPDX-License-Identifier: Apache-2.0
//! One call: who calls, may they, and where does the call go.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use prost::Message;
use rustls::ServerConfig;

use crate::access::{self, METHODS, Principal, Rule};
use crate::clock;
use crate::connect;
use crate::connection::Peer;
use crate::engine::Engine;
use crate::envoy;
use crate::error::{Code, Failure, deadline_exceeded, internal, invalid_field};
use crate::forward::Forwarder;
use crate::grpc::{self, AnswerBody, RequestBody};
use crate::identity::Identities;
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use crate::proto::taximeter::v1::record_result::Outcome;
use crate::proto::taximeter::v1::{
    CheckQuotaRequest, ErrorReason, ExtendHoldRequest, RecordBatchRequest, RecordBatchResponse,
    RecordRequest, RecordResult, ReleaseHoldRequest,
};

/// A call served here ends within this, whatever its caller's deadline.
const BUDGET_MAX: Duration = Duration::from_secs(2);
const BATCH_COUNT_MAX: usize = 500;
/// Services with methods that are served here.
const SERVICES_HERE: [&str; 2] = [
    "/taximeter.v1.MeteringService/",
    "/envoy.service.ratelimit.v3.RateLimitService/",
];

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) forwarder: Forwarder,
    pub(crate) tls: ArcSwapOption<ServerConfig>,
    pub(crate) identities: ArcSwap<Identities>,
}

impl Shared {
    /// Finds out who calls: what the call itself carries goes before the connection's certificate.
    fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Principal, Failure> {
        if let Some(uri) = &peer.certificate_uri
            && !headers.contains_key(AUTHORIZATION)
        {
            let principal = self.identities.load().of_certificate(uri);
            return principal.ok_or_else(access::credentials_required);
        }
        access::authenticate(&self.engine.catalogue(), headers, clock::now_ms())
    }

    /// Finds the method of a path, and who calls it. Fails unless the caller may.
    pub(crate) fn admit(&self, peer: &Peer, path: &str, headers: &HeaderMap) -> Result<Admitted, Failure> {
        let found = METHODS.iter().find(|(method, _)| *method == path);
        let (method, rule) = found.ok_or_else(no_such_method)?;
        let principal = self.let_in(*rule, method, peer, headers)?;
        Ok(Admitted { method, principal })
    }

    /// Who calls, where the method is not open to everyone. Fails unless the caller may.
    fn let_in(
        &self,
        rule: Rule,
        method: &'static str,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<Option<Principal>, Failure> {
        if rule == Rule::Open {
            return Ok(None);
        }
        let principal = self.authenticate(peer, headers)?;
        if let Err(failure) = access::authorize(rule, principal.role, method) {
            if rule.is_admin() {
                self.engine.denials.note(&principal.key_id, method, peer.address);
            }
            return Err(failure);
        }
        Ok(Some(principal))
    }
}

/// A call that may be carried out.
pub(crate) struct Admitted {
    method: &'static str,
    /// Who calls, where the method is not open to everyone.
    principal: Option<Principal>,
}

/// Answers one call of a connection.
pub(crate) async fn answer(shared: &Shared, peer: &Peer, request: Request<Incoming>) -> Response<AnswerBody> {
    let version = request.version();
    if let Some(codec) = connect::codec(&request) {
        let called = unwinding(Box::pin(connect::call(shared, peer, request, codec))).await;
        return called.unwrap_or_else(|failure| connect::failed(&failure, version));
    }
    if version < Version::HTTP_2 {
        return connect::unsupported();
    }
    if !grpc::is_grpc(request.headers()) {
        return grpc::unsupported_media_type();
    }
    let called = unwinding(call(shared, peer, request.map(Either::Left))).await;
    called.unwrap_or_else(|failure| grpc::failed(&failure))
}

/// A panic in one call must not take its connection down, nor show what it said.
async fn unwinding<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let outcome = AssertUnwindSafe(call).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(internal("panic")))
}

async fn call(
    shared: &Shared,
    peer: &Peer,
    request: Request<RequestBody>,
) -> Result<Response<AnswerBody>, Failure> {
    grpc::check_metadata_size(request.headers())?;
    let admitted = shared.admit(peer, request.uri().path(), request.headers())?;
    carry_out(shared, peer, admitted, request).await
}

/// There is nothing at the path of a call.
pub(crate) fn no_such_method() -> Failure {
    Failure::new(Code::Unimplemented, ErrorReason::NotServed, "no such method")
}

/// Serves a call here, or has the Python server do it.
pub(crate) async fn carry_out(
    shared: &Shared,
    peer: &Peer,
    admitted: Admitted,
    request: Request<RequestBody>,
) -> Result<Response<AnswerBody>, Failure> {
    let started = Instant::now();
    let Admitted { method, principal } = admitted;
    let name = SERVICES_HERE
        .iter()
        .find_map(|service| method.strip_prefix(service));
    let (Some(name), Some(principal)) = (name, &principal) else {
        return Box::pin(
            shared
                .forwarder
                .forward(request, principal.as_ref(), peer.address),
        )
        .await;
    };
    let budget = grpc::budget(request.headers())
        .unwrap_or(BUDGET_MAX)
        .min(BUDGET_MAX);
    let deadline = Deadline { started, budget };
    match name {
        "Record" => deadline.keep(record(shared, request, principal, &deadline)).await,
        "RecordBatch" => {
            deadline
                .keep(record_batch(shared, request, principal, &deadline))
                .await
        }
        "CheckQuota" => {
            deadline
                .keep(check_quota(shared, request, principal, &deadline))
                .await
        }
        "ExtendHold" => {
            deadline
                .keep(extend_hold(shared, request, principal, &deadline))
                .await
        }
        "ReleaseHold" => {
            deadline
                .keep(release_hold(shared, request, principal, &deadline))
                .await
        }
        "ShouldRateLimit" => deadline.keep(limit(shared, request, principal, &deadline)).await,
        _ => Box::pin(shared.forwarder.forward(request, Some(principal), peer.address)).await,
    }
}

/// When the caller stops waiting.
struct Deadline {
    started: Instant,
    budget: Duration,
}

impl Deadline {
    /// Fails once the budget is spent: checked before anything is written.
    fn check(&self) -> Result<(), Failure> {
        if self.started.elapsed() >= self.budget {
            Err(deadline_exceeded())
        } else {
            Ok(())
        }
    }

    /// Cuts the call off at the deadline. Nothing is lost by that: what the store applied, a retry finds.
    async fn keep<T>(&self, call: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
        // Boxed, because a call in progress is kilobytes and would be copied at each step outwards.
        let call = Box::pin(call);
        tokio::time::timeout(self.budget, call)
            .await
            .unwrap_or_else(|_| Err(deadline_exceeded()))
    }
}

async fn record(
    shared: &Shared,
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let (parts, body) = request.into_parts();
    let message: RecordRequest = grpc::read_message(&parts.headers, body).await?;
    deadline.check()?;
    let response = serve_record(&shared.engine, message, Some(principal)).await?;
    Ok(grpc::ok(&response))
}

/// Record, for the front and for Python alike.
pub(crate) async fn serve_record(
    engine: &Engine,
    message: RecordRequest,
    principal: Option<&Principal>,
) -> Result<crate::proto::taximeter::v1::RecordResponse, Failure> {
    let record = message.record.unwrap_or_default();
    if let Some(principal) = principal {
        principal.reach(&record.tenant)?;
    }
    let mut answers = engine.record(&[record], &["record".to_owned()]).await;
    answers.pop().unwrap_or_else(|| Err(internal("unanswered")))
}

async fn record_batch(
    shared: &Shared,
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let (parts, body) = request.into_parts();
    let message: RecordBatchRequest = grpc::read_message(&parts.headers, body).await?;
    let count = message.records.len();
    if count == 0 || count > BATCH_COUNT_MAX {
        let (reason, description) = if count == 0 {
            (ErrorReason::FieldRequired, "at least 1")
        } else {
            (ErrorReason::BatchTooLarge, "at most 500")
        };
        return Err(invalid_field("records", reason, description).with("count", count.to_string()));
    }
    deadline.check()?;
    let (mut allowed, mut paths) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut results: Vec<Option<RecordResult>> = Vec::with_capacity(count);
    for (at, record) in message.records.into_iter().enumerate() {
        match principal.reach(&record.tenant) {
            Ok(()) => {
                allowed.push(record);
                paths.push(format!("records[{at}]"));
                results.push(None);
            }
            Err(failure) => results.push(Some(result(Err(failure)))),
        }
    }
    let mut answers = shared.engine.record(&allowed, &paths).await.into_iter();
    let results = results
        .into_iter()
        .map(|done| {
            done.unwrap_or_else(|| result(answers.next().unwrap_or_else(|| Err(internal("unanswered")))))
        })
        .collect();
    Ok(grpc::ok(&RecordBatchResponse { results }))
}

fn result(answer: Result<crate::proto::taximeter::v1::RecordResponse, Failure>) -> RecordResult {
    let outcome = match answer {
        Ok(response) => Outcome::Response(response),
        Err(failure) => Outcome::Error(failure.to_status()),
    };
    RecordResult {
        outcome: Some(outcome),
    }
}

/// Reads the message of a call about one tenant, which the caller's key must reach.
async fn read_for_tenant<M: Message + Default>(
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
    tenant_of: fn(&M) -> &str,
) -> Result<M, Failure> {
    let (parts, body) = request.into_parts();
    let message: M = grpc::read_message(&parts.headers, body).await?;
    principal.reach(tenant_of(&message))?;
    deadline.check()?;
    Ok(message)
}

async fn check_quota(
    shared: &Shared,
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&CheckQuotaRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(request, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&shared.engine.check_quota(&message).await?))
}

async fn limit(
    shared: &Shared,
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let (parts, body) = request.into_parts();
    let message: RateLimitRequest = grpc::read_message(&parts.headers, body).await?;
    deadline.check()?;
    Ok(grpc::ok(
        &envoy::should_rate_limit(&shared.engine, &message, principal).await?,
    ))
}

async fn extend_hold(
    shared: &Shared,
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&ExtendHoldRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(request, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&shared.engine.extend_hold(&message).await?))
}

async fn release_hold(
    shared: &Shared,
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&ReleaseHoldRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(request, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&shared.engine.release_hold(&message).await?))
}
