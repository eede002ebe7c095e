// SPDX-License-Identifier: Apache-2.0
//! A tower layer for HTTP servers such as axum's: checks before, records after.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::client::Client;
use crate::clock;
use crate::error::Error;
use crate::rate_limit_headers::rate_limit_headers;
use crate::v1::{CheckQuotaRequest, CheckQuotaResponse, Decision, UsageRecord};

/// The check to make before a request is served, by its headers and its URI.
pub type CheckOf = dyn Fn(&http::HeaderMap, &http::Uri) -> Option<CheckQuotaRequest> + Send + Sync;

/// How a layer meters.
#[derive(Clone)]
pub struct Metering {
    /// The check to make before a request is served: tenant and model, and an estimate with a `hold_ttl` where the
    /// estimate is to be held. `None` means that the request is not metered.
    pub check: Arc<CheckOf>,
    /// Lets requests pass that cannot be decided. They are recorded all the same.
    pub fail_open: bool,
    /// Is told of records and holds that failed after the request.
    pub on_error: Arc<dyn Fn(Error) + Send + Sync>,
}

/// One request behind the layer, in its extensions: what it used is recorded when the handler has answered. A
/// handler that streams keeps a clone until it has said everything; then it is recorded when the last clone goes,
/// as it is when the caller has gone.
#[derive(Clone)]
pub struct Call {
    state: Arc<CallState>,
}

struct CallState {
    client: Client,
    tenant: String,
    decision: Option<CheckQuotaResponse>,
    on_error: Arc<dyn Fn(Error) + Send + Sync>,
    /// What is still to be done; `None` when it is done.
    open: Mutex<Option<Vec<UsageRecord>>>,
}

impl Call {
    /// The answer to the check. `None` where nothing was decided and the layer fails open.
    #[must_use]
    pub fn decision(&self) -> Option<&CheckQuotaResponse> {
        self.state.decision.as_ref()
    }

    /// Says what the request used, once for each model or tool that it called; the first settles the hold, where
    /// there is one. Without a tenant it is that of the check.
    pub fn use_(&self, mut record: UsageRecord) {
        let mut open = self.state.open.lock().unwrap_or_else(PoisonError::into_inner);
        let records = open.get_or_insert_default();
        if record.tenant.is_empty() {
            record.tenant.clone_from(&self.state.tenant);
        }
        if records.is_empty() && record.hold_id.is_empty() {
            self.state.hold_id().clone_into(&mut record.hold_id);
        }
        records.push(record);
    }
}

impl CallState {
    fn hold_id(&self) -> &str {
        self.decision.as_ref().map_or("", |decision| &decision.hold_id)
    }

    /// What records what was used, or frees the hold. Nothing, when that has been done.
    fn finish(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let records = self.open.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let hold = self
            .client
            .hold_of(self.tenant.clone(), self.hold_id().to_owned());
        let (client, on_error) = (self.client.clone(), Arc::clone(&self.on_error));
        Some(async move {
            if records.is_empty()
                && !hold.id().is_empty()
                && let Err(error) = hold.release().await
            {
                on_error(error);
            }
            for record in records {
                if let Err(error) = client.record(record).await {
                    on_error(error);
                }
            }
        })
    }
}

impl Drop for CallState {
    fn drop(&mut self) {
        if let Some(finish) = self.finish()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(finish);
        }
    }
}

/// Checks before the inner service and records after it. A denied request is answered with 429 and the fields of
/// [`rate_limit_headers`], one that cannot be decided with 503.
#[derive(Clone)]
pub struct MeteringLayer {
    client: Client,
    metering: Metering,
}

impl MeteringLayer {
    /// Makes a layer.
    #[must_use]
    pub fn new(client: Client, metering: Metering) -> Self {
        Self { client, metering }
    }
}

impl<S> Layer<S> for MeteringLayer {
    type Service = MeteringService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MeteringService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind a [`MeteringLayer`].
#[derive(Clone)]
pub struct MeteringService<S> {
    inner: S,
    layer: MeteringLayer,
}

impl<S, B, R> Service<Request<B>> for MeteringService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Default + Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that was ready is the one to call; its clone need not be.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let Some(check) = (self.layer.metering.check)(request.headers(), request.uri()) else {
            return Box::pin(inner.call(request));
        };
        let layer = self.layer.clone();
        Box::pin(async move {
            let tenant = check.tenant.clone();
            let decision = match layer.client.check(check).await {
                Ok(decision) => Some(decision),
                Err(_) if layer.metering.fail_open => None,
                Err(_) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE)),
            };
            let headers = decision
                .as_ref()
                .map_or_else(Vec::new, |made| rate_limit_headers(made, clock::now()));
            if decision
                .as_ref()
                .is_some_and(|made| made.decision() != Decision::Allow)
            {
                return Ok(with_headers(refusal(StatusCode::TOO_MANY_REQUESTS), headers));
            }
            let state = Arc::new(CallState {
                client: layer.client,
                tenant,
                decision,
                on_error: layer.metering.on_error,
                open: Mutex::new(Some(Vec::new())),
            });
            request.extensions_mut().insert(Call {
                state: Arc::clone(&state),
            });
            let response = inner.call(request).await;
            // A handler that has kept its call is still saying what it uses.
            if let Ok(state) = Arc::try_unwrap(state)
                && let Some(finish) = state.finish()
            {
                // As a task: it goes on when the caller goes now.
                let _ = tokio::spawn(finish).await;
            }
            response.map(|response| with_headers(response, headers))
        })
    }
}

fn refusal<R: Default>(status: StatusCode) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = status;
    response
}

fn with_headers<R>(mut response: Response<R>, headers: Vec<(&'static str, String)>) -> Response<R> {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
