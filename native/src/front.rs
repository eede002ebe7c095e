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
use crate::admission::Turn;
use crate::connect;
use crate::connection::Peer;
use crate::engine::Engine;
use crate::envoy;
use crate::error::{Failure, deadline_exceeded, internal};
use crate::forward::Forwarder;
use crate::gate::{self, Admitted, Gate, Place};
use crate::grpc::{self, AnswerBody, RequestBody, Sent};
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
    begin(shared, peer, admitted, request)?.finish().await
}

/// The answer of a call, when there is one. Boxed, because a call in progress is kilobytes and would be copied at each
/// step outwards; each kind by itself, because a check needs half of what a record does.
type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Failure>> + Send + 'a>>;

/// A call that is let in.
pub(crate) struct Begun<'a> {
    turn: Turn,
    deadline: Deadline,
    /// Not cut off: whoever the call is forwarded to keeps its deadline.
    is_forwarded: bool,
    answering: Answering<'a>,
}

/// Lets a call in, to be served here or by the Python server.
pub(crate) fn begin<'a>(
    shared: &'a Shared,
    peer: &'a Peer,
    admitted: Admitted,
    request: Request<RequestBody>,
) -> Result<Begun<'a>, Failure> {
    let started = Instant::now();
    let Admitted { method, principal } = admitted;
    let budget = grpc::budget(request.headers());
    match (Here::of(method), principal) {
        (Some(here), Some(principal)) => {
            workers::tick();
            let deadline = Deadline::new(started, budget, BUDGET_MAX);
            Ok(Begun {
                turn: shared.gate.enter(Place::Here, Some(&principal), started)?,
                deadline,
                is_forwarded: false,
                answering: serve(&shared.engine, here, Sent::of(request), principal, deadline),
            })
        }
        (_, principal) => Ok(Begun {
            turn: shared.gate.enter(Place::Forwarded, principal.as_ref(), started)?,
            deadline: Deadline::new(started, budget, FORWARD_WAIT_MAX),
            is_forwarded: true,
            answering: Box::pin(shared.forwarder.forward(request, principal, peer.address)),
        }),
    }
}

impl Begun<'_> {
    /// Has it answered when its turn comes.
    pub(crate) async fn finish(self) -> Result<Response<AnswerBody>, Failure> {
        let permit = self.turn.wait(self.deadline.budget).await?;
        let mut response = if self.is_forwarded {
            self.answering.await?
        } else {
            self.deadline.keep(self.answering).await?
        };
        response.body_mut().hold(permit);
        Ok(response)
    }
}

fn serve(engine: &Engine, here: Here, sent: Sent, principal: Principal, deadline: Deadline) -> Answering<'_> {
    match here {
        Here::Record => Box::pin(record(engine, sent, principal, deadline)),
        Here::RecordBatch => Box::pin(record_many(engine, sent, principal, deadline)),
        Here::CheckQuota => Box::pin(check_quota(engine, sent, principal, deadline)),
        Here::ExtendHold => Box::pin(extend_hold(engine, sent, principal, deadline)),
        Here::ReleaseHold => Box::pin(release_hold(engine, sent, principal, deadline)),
        Here::ShouldRateLimit => Box::pin(limit(engine, sent, principal, deadline)),
    }
}

/// When the caller stops waiting.
#[derive(Clone, Copy)]
struct Deadline {
    started: Instant,
    budget: Duration,
}

impl Deadline {
    /// The caller's, or the maximum, whichever comes first.
    fn new(started: Instant, budget: Option<Duration>, maximum: Duration) -> Self {
        let budget = budget.map_or(maximum, |budget| budget.min(maximum));
        Self { started, budget }
    }

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
    engine: &Engine,
    sent: Sent,
    principal: Principal,
    deadline: Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let message: RecordRequest = grpc::read_message(sent).await?;
    deadline.check()?;
    let response = serve_record(engine, message, Some(&principal)).await?;
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
    engine: &Engine,
    sent: Sent,
    principal: Principal,
    deadline: Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let message = record_batch::decode(grpc::read_encoded(sent).await?)?;
    deadline.check()?;
    Ok(record_batch::serve(engine, message, &principal).await)
}

/// Reads the message of a call about one tenant, which the caller's key must reach.
async fn read_for_tenant<M: Message + Default>(
    sent: Sent,
    principal: Principal,
    deadline: Deadline,
    tenant_of: fn(&M) -> &str,
) -> Result<M, Failure> {
    let message: M = grpc::read_message(sent).await?;
    principal.reach(tenant_of(&message))?;
    deadline.check()?;
    Ok(message)
}

async fn check_quota(
    engine: &Engine,
    sent: Sent,
    principal: Principal,
    deadline: Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&CheckQuotaRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(sent, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&engine.check_quota(&message).await?))
}

async fn limit(
    engine: &Engine,
    sent: Sent,
    principal: Principal,
    deadline: Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let message: RateLimitRequest = grpc::read_message(sent).await?;
    deadline.check()?;
    Ok(grpc::ok(
        &envoy::should_rate_limit(engine, &message, &principal).await?,
    ))
}

async fn extend_hold(
    engine: &Engine,
    sent: Sent,
    principal: Principal,
    deadline: Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&ExtendHoldRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(sent, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&engine.extend_hold(&message).await?))
}

async fn release_hold(
    engine: &Engine,
    sent: Sent,
    principal: Principal,
    deadline: Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&ReleaseHoldRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(sent, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&engine.release_hold(&message).await?))
}
