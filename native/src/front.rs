// SPDX-License-Identifier: Apache-2.0
//! The public port: who calls, may they, and where does the call go.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::access::{self, METHODS, Principal, Rule};
use crate::clock;
use crate::engine::Engine;
use crate::envoy;
use crate::error::{Code, Failure, deadline_exceeded, internal, invalid_field};
use crate::forward::Forwarder;
use crate::grpc::{self, AnswerBody};
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use crate::proto::taximeter::v1::record_result::Outcome;
use crate::proto::taximeter::v1::{
    CheckQuotaRequest, ErrorReason, ExtendHoldRequest, RecordBatchRequest, RecordBatchResponse,
    RecordRequest, RecordResult, ReleaseHoldRequest,
};

const STREAMS_PER_CONNECTION_MAX: u32 = 1_000;
/// More is refused by HTTP, with a status that gRPC clients cannot tell from a defect of the server.
const HEADER_LIST_SIZE_MAX: u32 = 32 << 10;
const STREAM_WINDOW_SIZE: u32 = 1 << 20;
const CONNECTION_WINDOW_SIZE: u32 = 4 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A call served here ends within this, whatever its caller's deadline.
const BUDGET_MAX: Duration = Duration::from_secs(2);
const BATCH_COUNT_MAX: usize = 500;
/// Services with methods that are served here.
const SERVICES_HERE: [&str; 2] = [
    "/taximeter.v1.MeteringService/",
    "/envoy.service.ratelimit.v3.RateLimitService/",
];
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// A bound port that serves until drained.
pub(crate) struct Front {
    address: SocketAddr,
    runtime: Handle,
    stop: watch::Sender<bool>,
    drained: std::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

struct Shared {
    engine: Arc<Engine>,
    forwarder: Forwarder,
}

impl Front {
    /// Serves the listener on the runtime.
    pub(crate) fn start(
        runtime: &Handle,
        engine: Arc<Engine>,
        listener: StdListener,
        forward_socket: PathBuf,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let (stop, stopped) = watch::channel(false);
        let (done, drained) = oneshot::channel();
        let shared = Arc::new(Shared {
            engine,
            forwarder: Forwarder::new(forward_socket),
        });
        runtime.spawn(accept(listener, shared, stopped, done));
        Ok(Self {
            address,
            runtime: runtime.clone(),
            stop,
            drained: std::sync::Mutex::new(Some(drained)),
        })
    }

    /// Address as bound.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and lets calls in flight finish. False when the limit cut some off.
    pub(crate) fn drain(&self, limit: Duration) -> bool {
        // Without a receiver the front has stopped already.
        let _ = self.stop.send(true);
        let Some(drained) = crate::engine::lock(&self.drained).take() else {
            return true;
        };
        self.runtime
            .block_on(async { tokio::time::timeout(limit, drained).await.is_ok() })
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
    done: oneshot::Sender<()>,
) {
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            connection = listener.accept() => match connection {
                Ok((stream, _)) => hand_over(stream, &shared, graceful.watcher()),
                // Out of descriptors, for one: the next moment may be better.
                Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
            },
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
    // A drain that gave up no longer listens.
    let _ = done.send(());
}

/// Gives a connection to a worker, where it stays.
fn hand_over(stream: TcpStream, shared: &Arc<Shared>, watcher: Watcher) {
    let (Ok(stream), Some(worker)) = (stream.into_std(), shared.engine.workers.next()) else {
        return;
    };
    let shared = Arc::clone(shared);
    worker.spawn(async move {
        if let Ok(stream) = TcpStream::from_std(stream) {
            serve(stream, shared, watcher).await;
        }
    });
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, watcher: Watcher) {
    // Answers are single small frames; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    // Who has gone already asks nothing more.
    let Ok(peer) = stream.peer_addr() else { return };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(answer(&shared, request, peer).await) }
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
    // A broken connection is its client's business.
    let _ = watcher.watch(connection).await;
}

async fn answer(shared: &Shared, request: Request<Incoming>, peer: SocketAddr) -> Response<AnswerBody> {
    if !grpc::is_grpc(request.headers()) {
        return grpc::unsupported_media_type();
    }
    if let Err(failure) = grpc::check_metadata_size(request.headers()) {
        return grpc::failed(&failure);
    }
    // A panic in one call must not take its connection down, nor show what it said.
    match AssertUnwindSafe(dispatch(shared, request, peer))
        .catch_unwind()
        .await
    {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => grpc::failed(&failure),
        Err(_) => grpc::failed(&internal("panic")),
    }
}

async fn dispatch(
    shared: &Shared,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<AnswerBody>, Failure> {
    let started = Instant::now();
    let path = request.uri().path();
    let Some((method, rule)) = METHODS.iter().find(|(method, _)| *method == path) else {
        return Err(Failure::new(
            Code::Unimplemented,
            ErrorReason::NotServed,
            "no such method",
        ));
    };
    let principal = match rule {
        Rule::Open => None,
        rule => {
            let catalogue = shared.engine.catalogue();
            let principal = access::authenticate(&catalogue, request.headers(), clock::now_ms())?;
            if let Err(failure) = access::authorize(*rule, principal.role, method) {
                if rule.is_admin() {
                    shared.engine.denials.note(&principal.key_id, method, peer);
                }
                return Err(failure);
            }
            Some(principal)
        }
    };
    let name = SERVICES_HERE
        .iter()
        .find_map(|service| method.strip_prefix(service));
    let (Some(name), Some(principal)) = (name, &principal) else {
        return Box::pin(shared.forwarder.forward(request, principal.as_ref(), peer)).await;
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
        _ => Box::pin(shared.forwarder.forward(request, Some(principal), peer)).await,
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
    request: Request<Incoming>,
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
    request: Request<Incoming>,
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
    request: Request<Incoming>,
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
    request: Request<Incoming>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&CheckQuotaRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(request, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&shared.engine.check_quota(&message).await?))
}

async fn limit(
    shared: &Shared,
    request: Request<Incoming>,
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
    request: Request<Incoming>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&ExtendHoldRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(request, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&shared.engine.extend_hold(&message).await?))
}

async fn release_hold(
    shared: &Shared,
    request: Request<Incoming>,
    principal: &Principal,
    deadline: &Deadline,
) -> Result<Response<AnswerBody>, Failure> {
    let tenant_of: fn(&ReleaseHoldRequest) -> &str = |message| &message.tenant;
    let message = read_for_tenant(request, principal, deadline, tenant_of).await?;
    Ok(grpc::ok(&shared.engine.release_hold(&message).await?))
}
