// SPDX-License-Identifier: Apache-2.0
//! The client: one per process, cheap to clone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::batch::Batch;
use crate::budget::Budget;
use crate::config::{ConfigError, Options, Target, resolve};
use crate::error::Error;
use crate::hold::Hold;
use crate::record_id::RecordIds;
use crate::retry::{self, Safety};
use crate::v1::metering_service_client::MeteringServiceClient;
use crate::v1::{CheckQuotaRequest, CheckQuotaResponse, RecordRequest, RecordResponse, UsageRecord};

pub(crate) const CHECK_LIMIT: Duration = Duration::from_secs(1);
const RECORD_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// A channel that sends the key, for the stubs of the other services in [`crate::v1`].
pub type AuthorizedChannel = InterceptedService<Channel, Bearer>;

/// Sends the key with every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// The answer to a record.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Id under which it was recorded.
    pub record_id: String,
    /// Cost, lines and limits.
    pub response: RecordResponse,
}

/// The answer to a check that holds.
#[derive(Clone, Debug)]
pub struct PlacedHold {
    /// The decision.
    pub decision: CheckQuotaResponse,
    /// The hold. `None` where the decision is not ALLOW.
    pub hold: Option<Hold>,
}

/// Records usage and asks before calls whether they may go on. Clones share one connection.
#[derive(Clone)]
pub struct Client {
    channel: AuthorizedChannel,
    metering: MeteringServiceClient<AuthorizedChannel>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    budget: Budget,
    record_ids: RecordIds,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a client within a tokio runtime; it connects at the first call.
    ///
    /// # Errors
    ///
    /// Where the options name no server, or a file that cannot be read.
    pub fn connect(options: &Options) -> Result<Self, ConfigError> {
        let target = resolve(options)?;
        let key = format!("Bearer {}", target.key);
        let value = (!target.key.is_empty()).then(|| {
            key.parse()
                .map_err(|_| ConfigError("the key holds characters that no key has".to_owned()))
        });
        let channel = InterceptedService::new(open(&target)?, Bearer(value.transpose()?));
        Ok(Self {
            metering: MeteringServiceClient::new(channel.clone())
                .max_decoding_message_size(RESPONSE_BYTES_MAX),
            channel,
            shared: Arc::default(),
        })
    }

    /// The channel, for the stubs of the other services in [`crate::v1`]. It sends nothing again.
    #[must_use]
    pub fn channel(&self) -> AuthorizedChannel {
        self.channel.clone()
    }

    /// Decides whether a call may go on, within 1 s. A denial is an answer with DENY.
    ///
    /// # Errors
    ///
    /// An error means that nothing was decided: whether to go on then is the caller's choice.
    pub async fn check(&self, mut request: CheckQuotaRequest) -> Result<CheckQuotaResponse, Error> {
        if request.hold_ttl.is_some() && request.request_id.is_empty() {
            // A check that is named holds once, however often it is sent.
            request.request_id = self.shared.record_ids.next();
        }
        self.call(
            Safety::Unavailable,
            CHECK_LIMIT,
            request,
            async |mut stub, request| stub.check_quota(request).await,
        )
        .await
    }

    /// Records what one call used, and returns once that is durable, within 10 s. Makes a record id where there is
    /// none, and sends the same record again while the outcome is unknown, so that it is charged once.
    ///
    /// # Errors
    ///
    /// Where [`Error::is_not_recorded`] is false the outcome is unknown: record again with the same id, which is
    /// why a caller that wants to do so makes it itself.
    pub async fn record(&self, record: UsageRecord) -> Result<Recorded, Error> {
        let record = self.named(record);
        let record_id = record.record_id.clone();
        let request = RecordRequest { record: Some(record) };
        let response = self
            .call(
                Safety::Idempotent,
                RECORD_LIMIT,
                request,
                async |mut stub, request| stub.record(request).await,
            )
            .await?;
        Ok(Recorded { record_id, response })
    }

    /// Records up to 500 records; returns one outcome for each, in their order. A bad record fails alone, and records
    /// whose outcome is unknown are sent again.
    ///
    /// # Errors
    ///
    /// Where no record has an outcome.
    pub async fn record_batch(
        &self,
        records: Vec<UsageRecord>,
    ) -> Result<Vec<Result<Recorded, Error>>, Error> {
        let records = records.into_iter().map(|record| self.named(record)).collect();
        let batch = Mutex::new(Batch::new(records));
        let batch = || batch.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = || async {
            let request = batch().request();
            let answer = self.metering.clone().record_batch(request).await?;
            batch().take(answer.into_inner())
        };
        let sent = retry::call(&self.shared.budget, Safety::Idempotent, RECORD_LIMIT, attempt).await;
        // After a first answer every record has an outcome; a retry that failed leaves them as they are.
        match (batch().outcomes(), sent) {
            (None, Err(error)) => Err(error),
            (outcomes, _) => Ok(outcomes.unwrap_or_default()),
        }
    }

    /// Checks a request that has an estimate and a `hold_ttl`, and holds the estimate.
    ///
    /// # Errors
    ///
    /// As [`Client::check`].
    pub async fn place_hold(&self, request: CheckQuotaRequest) -> Result<PlacedHold, Error> {
        let tenant = request.tenant.clone();
        let decision = self.check(request).await?;
        let hold = (!decision.hold_id.is_empty()).then(|| self.hold_of(tenant, decision.hold_id.clone()));
        Ok(PlacedHold { decision, hold })
    }

    /// A hold that was placed before, here or in another process.
    #[must_use]
    pub fn hold_of(&self, tenant: String, hold_id: String) -> Hold {
        Hold::new(self.clone(), tenant, hold_id)
    }

    pub(crate) async fn call<Q: Clone, A, F>(
        &self,
        safety: Safety,
        limit: Duration,
        request: Q,
        method: impl Fn(MeteringServiceClient<AuthorizedChannel>, Q) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<tonic::Response<A>, Status>>,
    {
        let attempt = || method(self.metering.clone(), request.clone());
        retry::call(&self.shared.budget, safety, limit, attempt)
            .await
            .map(tonic::Response::into_inner)
    }

    fn named(&self, mut record: UsageRecord) -> UsageRecord {
        if record.record_id.is_empty() {
            record.record_id = self.shared.record_ids.next();
        }
        record
    }
}

fn open(target: &Target) -> Result<Channel, ConfigError> {
    let scheme = if target.is_tls { "https" } else { "http" };
    let bad = |error: tonic::transport::Error| {
        ConfigError(format!("cannot connect to {}: {error}", target.authority))
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", target.authority))
        .and_then(|endpoint| endpoint.user_agent(concat!("taximeter-rust/", env!("CARGO_PKG_VERSION"))))
        .map_err(bad)?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        // A connection that died silently is noticed within 40 s, while calls are waiting on it.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    Ok(with_tls(endpoint, target)?.connect_lazy())
}

#[cfg(feature = "tls")]
fn with_tls(endpoint: Endpoint, target: &Target) -> Result<Endpoint, ConfigError> {
    use tonic::transport::{Certificate, ClientTlsConfig};

    if !target.is_tls {
        return Ok(endpoint);
    }
    let config = match &target.ca_pem {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    endpoint
        .tls_config(config)
        .map_err(|error| ConfigError(format!("cannot set up TLS: {error}")))
}

#[cfg(not(feature = "tls"))]
fn with_tls(endpoint: Endpoint, target: &Target) -> Result<Endpoint, ConfigError> {
    if target.is_tls {
        return Err(ConfigError(format!(
            "{} needs TLS, and this crate was built without it",
            target.authority
        )));
    }
    Ok(endpoint)
}
