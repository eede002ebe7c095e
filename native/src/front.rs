// SPDX-License-Identifier: Apache-2.0
//! One call: who calls, may they, and where does the call go.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use http::{Request, Response, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use prost::Message;
use rustls::ServerConfig;

use crate::access::Principal;
use crate::connect;
use crate::connection::Peer;
use crate::engine::Engine;
use crate::envoy;
use crate::error::{Failure, deadline_exceeded, internal};
use crate::forward::Forwarder;
use crate::gate::{self, Admitted, Gate, Place};
use crate::grpc::{self, AnswerBody, RequestBody};
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use crate::proto::taximeter::v1::{CheckQuotaRequest, ExtendHoldRequest, RecordRequest, ReleaseHoldRequest};
use crate::record_batch;
use crate::record_path::RecordPath;
use crate::workers;

/// A call served here ends within this, whatever its caller's deadline.
const BUDGET_MAX: Duration = Duration::from_secs(2);
/// A forwarded call waits this long for its turn.
const FORWARD_WAIT_MAX: Duration = Duration::from_secs(10);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) forwarder: Forwarder,
    pub(crate) tls: ArcSwapOption<ServerConfig>,
    pub(crate) gate: Gate,
}

/// The methods that are served here.
#[derive(Clone, Copy)]
enum Here {
    Record,
    RecordBatch,
    CheckQuota,
    ExtendHold,
    ReleaseHold,
    ShouldRateLimit,
}

impl Here {
    fn of(method: &str) -> Option<Self> {
        match method {
            "/taximeter.v1.MeteringService/Record" => Some(Self::Record),
            "/taximeter.v1.MeteringService/RecordBatch" => Some(Self::RecordBatch),
            "/taximeter.v1.MeteringService/CheckQuota" => Some(Self::CheckQuota),
            "/taximeter.v1.MeteringService/ExtendHold" => Some(Self::ExtendHold),
            "/taximeter.v1.MeteringService/ReleaseHold" => Some(Self::ReleaseHold),
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit" => Some(Self::ShouldRateLimit),
            _ => None,
        }
    }
}

/// Answers one call of a connection.
pub(crate) async fn answer(shared: &Shared, peer: &Peer, request: Request<Incoming>) -> Response<AnswerBody> {
    let version = request.version();
    if let Some(codec) = connect::codec(&request) {
        let called = unwinding(Box::pin(connect::call(shared, peer, request, codec))).await;
        return match called {
            Ok(response) => response,
            Err(failure) => {
                slow_down(peer, &failure).await;
                connect::failed(&failure, version)
            }
        };
    }
    if version < Version::HTTP_2 {
        return connect::unsupported();
    }
    if !grpc::is_grpc(request.headers()) {
        slow_down(peer, &gate::no_such_method()).await;
        return grpc::unsupported_media_type();
    }
    match unwinding(call(shared, peer, request.map(Either::Left))).await {
        Ok(response) => response,
        Err(failure) => {
            slow_down(peer, &failure).await;
            grpc::failed(&failure)
        }
    }
}

/// Whoever is refused again and again has to wait for it.
async fn slow_down(peer: &Peer, failure: &Failure) {
    if failure.code.is_refusal()
        && let Some(delay) = peer.standing.refusal_delay(Instant::now())
    {
        tokio::time::sleep(delay).await;
    }
}

/// A panic in one call must not take its connection down, nor show what it said.
fn unwinding<T>(call: impl Future<Output = Result<T, Failure>>) -> impl Future<Output = Result<T, Failure>> {
    // Not an async function, which would have room for the call twice.
    let caught = AssertUnwindSafe(call).catch_unwind();
    caught.map(|outcome| outcome.unwrap_or_else(|_| Err(internal("panic"))))
}

async fn call(
    shared: &Shared,
    peer: &Peer,
    request: Request<RequestBody>,
) -> Result<Response<AnswerBody>, Failure> {
    grpc::check_metadata_size(request.headers())?;
    let admitted = shared.gate.admit(peer, request.uri().path(), request.headers())?;
    carry_out(shared, peer, admitted, request).await
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
    let budget = grpc::budget(request.headers());
    let (Some(here), Some(principal)) = (Here::of(method), &principal) else {
        let turn = shared.gate.enter(Place::Forwarded, principal.as_ref(), started)?;
        let permit = turn
            .wait(budget.unwrap_or(FORWARD_WAIT_MAX).min(FORWARD_WAIT_MAX))
            .await?;
        let forwarded = shared
            .forwarder
            .forward(request, principal.as_ref(), peer.address);
        let mut response = Box::pin(forwarded).await?;
        response.body_mut().hold(permit);
        return Ok(response);
    };
    workers::tick();
    let turn = shared.gate.enter(Place::Here, Some(principal), started)?;
    let deadline = Deadline {
        started,
        budget: budget.unwrap_or(BUDGET_MAX).min(BUDGET_MAX),
    };
    let permit = turn.wait(deadline.budget).await?;
    let mut response = deadline
        .keep(serve(shared, here, request, principal, &deadline))
        .await?;
    response.body_mut().hold(permit);
    Ok(response)
}

/// A call in progress. Boxed, because it is kilobytes and would be copied at each step outwards; each kind by itself,
/// because a check needs half of what a record does.
type Serving<'a> = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Failure>> + Send + 'a>>;

fn serve<'a>(
    shared: &'a Shared,
    here: Here,
    request: Request<RequestBody>,
    principal: &'a Principal,
    deadline: &'a Deadline,
) -> Serving<'a> {
    match here {
        Here::Record => Box::pin(record(shared, request, principal, deadline)),
        Here::RecordBatch => Box::pin(record_many(shared, request, principal, deadline)),
        Here::CheckQuota => Box::pin(check_quota(shared, request, principal, deadline)),
        Here::ExtendHold => Box::pin(extend_hold(shared, request, principal, deadline)),
        Here::ReleaseHold => Box::pin(release_hold(shared, request, principal, deadline)),
        Here::ShouldRateLimit => Box::pin(limit(shared, request, principal, deadline)),
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
        let left = self.budget.saturating_sub(self.started.elapsed());
        tokio::time::timeout(left, call)
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
    let mut answers = engine.record(&[record], &[RecordPath::Alone]).await;
    answers.pop().unwrap_or_else(|| Err(internal("unanswered")))
}

async fn record_many(
    shared: &Shared,
    request: Request<RequestBody>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let (parts, body) = request.into_parts();
    let message = record_batch::decode(grpc::read_encoded(&parts.headers, body).await?)?;
    deadline.check()?;
    Ok(record_batch::serve(&shared.engine, message, principal).await)
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
