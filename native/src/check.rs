// SPDX-License-Identifier: Apache-2.0
//! `CheckQuota` and `GetQuotaStatus`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use taximeter_pricing::{Call, PriceError};

use crate::catalogue::Card;
use crate::clock;
use crate::cost::pricing_state;
use crate::credits::push_call;
use crate::engine::{Engine, store_failure};
use crate::error::{Code, Failure};
use crate::keys;
use crate::proto::taximeter::v1::{
    CheckQuotaRequest, CheckQuotaResponse, Decision, ErrorReason, GetQuotaStatusResponse, LimitStatus,
    PricingState,
};
use crate::quota::{DecisionHead, Reader, money, money_pair, read_decision, read_statuses};
use crate::script_part::{Answers, Part};
use crate::store::{Store, StoreError, bytes};
use crate::time_to_live::TimeToLive;
use crate::used::Used;
use crate::validate::{self, Classes, Problems};

/// A decision waits this long for the store; the caller has its answer within 250 ms.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_millis(150);
const ADMIN_LIMIT: Duration = Duration::from_secs(2);
/// Room for what a few lines cost.
const CREDIT_CALL_CAPACITY: usize = 96;
/// Bytes of the longest argument of a check, without that.
const ARGUMENT_SIZE: usize = 71;
/// Requests that one check may count.
pub(crate) const REQUESTS_MAX: i64 = 1_000_000;

/// Flags of a check, see `scripts/holds.lua`.
const DRY_RUN: u8 = 1;
pub(crate) const IS_NAMED: u8 = 2;
pub(crate) const HAS_MARK: u8 = 4;

/// What a check asks for.
pub(crate) struct Asked {
    pub(crate) flags: u8,
    pub(crate) requests: i64,
    pub(crate) tokens: i64,
    pub(crate) cost_picos: i64,
}

impl Asked {
    /// As the script reads it.
    pub(crate) fn packed(&self, partition: u16, level_count: u8) -> Vec<u8> {
        let (hi, lo) = money_pair(self.cost_picos);
        let mut packed = Vec::with_capacity(ARGUMENT_SIZE);
        packed.extend([self.flags, level_count, keys::packed(partition)]);
        for number in [unsigned(self.requests), unsigned(self.tokens), hi, lo] {
            packed.extend(number.to_le_bytes());
        }
        packed
    }
}

/// What an estimate costs.
#[derive(Default)]
pub(crate) struct Estimated {
    pub(crate) tokens: i64,
    pub(crate) cost_picos: i64,
    card: Option<Arc<Card>>,
    tenant_prices_version: i64,
    state: PricingState,
    /// What credits are to be taken for, as the scripts read it; empty when nothing is known.
    pub(crate) credit_call: Vec<u8>,
}

/// A check that can be decided.
pub(crate) struct Validated<'a> {
    /// Requests that it counts.
    requests: i64,
    /// Its estimate by class.
    classes: Classes<'a>,
    ttl: Option<TimeToLive>,
}

impl Engine {
    /// Decides; a denial is an answer, not being able to decide is a failure.
    pub(crate) async fn check_quota(
        &self,
        request: &CheckQuotaRequest,
    ) -> Result<CheckQuotaResponse, Failure> {
        let mut problems = Problems::default();
        let in_classes = in_classes(request, &mut problems);
        let request = in_classes.as_ref().unwrap_or(request);
        let valid = validated(request, problems)?;
        let requests = valid.requests;
        match self.check_with_store(request, valid).await {
            Err(failure) if failure.is_undecided() && !request.dry_run => {
                self.check_on_lease(request, requests).ok_or(failure)
            }
            decided => decided,
        }
    }

    async fn check_with_store(
        &self,
        request: &CheckQuotaRequest,
        valid: Validated<'_>,
    ) -> Result<CheckQuotaResponse, Failure> {
        let Validated {
            requests,
            classes,
            ttl,
        } = valid;
        if !request.dry_run && (ttl.is_some() || !request.request_id.is_empty()) {
            return Box::pin(self.reserve(request, requests, &classes, ttl)).await;
        }
        let estimated = self.price_estimate(request, &classes, clock::now_ms())?;
        let partition = keys::partition_of(&request.tenant);
        let asked = Asked {
            flags: if request.dry_run { DRY_RUN } else { 0 },
            requests,
            tokens: estimated.tokens,
            cost_picos: estimated.cost_picos,
        };
        let mut part = Part::new(&self.functions.decide, 1);
        let level_count = part.level_keys(partition, &request.tenant);
        let mut argument = asked.packed(partition, level_count);
        argument.extend_from_slice(&estimated.credit_call);
        part.argument(&argument);
        let (now_ms, answer) = self.decide(part).await?;
        let mut reader = Reader(&answer);
        let head = read_decision(&mut reader, now_ms).map_err(undecided)?;
        let limits = head.statuses(&mut reader, &request.tenant).map_err(undecided)?;
        Ok(head.response(limits, request, &estimated))
    }

    /// Prices an estimate by the card in force at an instant.
    pub(crate) fn price_estimate(
        &self,
        request: &CheckQuotaRequest,
        classes: &[(&str, i64)],
        time_ms: i64,
    ) -> Result<Estimated, Failure> {
        let Some(usage) = &request.estimate else {
            return Ok(Estimated::default());
        };
        let catalogue = self.fresh_catalogue()?;
        let Some(entry) = catalogue.at(time_ms) else {
            let tokens = taximeter_pricing::quota_tokens(classes);
            return Ok(Estimated {
                tokens,
                state: PricingState::Unpriced,
                ..Estimated::default()
            });
        };
        let call = Call {
            model: &request.model,
            provider: &request.provider,
            tier: &request.tier,
            region: &request.region,
            speed: &request.speed,
            occur_time_nanos: time_ms.saturating_mul(clock::NANOS_PER_MS),
            calls: usage.calls.max(1),
            usage: classes,
        };
        let own = catalogue.own_prices_at(&request.tenant, time_ms);
        let mut credit_call = Vec::with_capacity(CREDIT_CALL_CAPACITY);
        let priced = entry
            .card
            .prices
            .charge(&call, own.map(|own| own.prices()))
            .map_err(|error| cost_out_of_range(&error, "estimate"))?;
        let costs = priced
            .lines
            .iter()
            .map(|line| (0, &*line.usage_class, line.cost_picos));
        let row = priced.row.as_deref().unwrap_or_default();
        push_call(&request.model, row, costs, &mut credit_call);
        Ok(Estimated {
            credit_call,
            tokens: priced.quota_tokens,
            cost_picos: priced.cost_picos,
            card: Some(Arc::clone(&entry.card)),
            tenant_prices_version: own.map_or(0, |own| own.version),
            state: pricing_state(priced.lines.iter().map(|line| line.unpriced)),
        })
    }

    /// Every limit of the tenant and its parents, consuming nothing.
    pub(crate) async fn quota_status(&self, tenant: &str) -> Result<GetQuotaStatusResponse, Failure> {
        let mut problems = Problems::default();
        validate::tenant(tenant, "tenant".to_owned(), &mut problems);
        problems.into_result()?;
        let partition = keys::partition_of(tenant);
        let command = Self::level_command(&self.functions.quota_status, partition, tenant);
        let store = self.open_store().map_err(store_failure)?;
        let reply = self
            .quota_call(&store, &command, ADMIN_LIMIT)
            .await
            .map_err(store_failure)?;
        let mut reader = Reader(&reply);
        let now_ms = reader.clock_ms().map_err(store_failure)?;
        read_decision(&mut reader, now_ms).map_err(store_failure)?;
        let limits = read_statuses(&mut reader, tenant, now_ms, false).map_err(store_failure)?;
        Ok(GetQuotaStatusResponse { limits })
    }

    pub(crate) fn level_command(function: &str, partition: u16, tenant: &str) -> Cmd {
        let mut command = redis::cmd("FCALL");
        command.arg(function).arg(keys::level_names(tenant).count());
        for key in keys::levels(partition, tenant) {
            command.arg(key);
        }
        command.arg(partition);
        command
    }

    /// One check, decided within the time that a caller waits for it. Returns the store's clock and the answer.
    pub(crate) async fn decide(&self, mut part: Part) -> Result<(i64, Vec<u8>), Failure> {
        let store = self.open_store().map_err(undecided)?;
        let answers = store.answers(&mut part, CHECK_LIMIT).await;
        let Answers { head, answers } = self.noted(&store, answers).map_err(undecided)?;
        let now_ms = Reader(&head).clock_ms().map_err(undecided)?;
        let answer = answers.into_iter().next();
        Ok((now_ms, answer.ok_or_else(|| undecided(StoreError::Corrupt))?))
    }

    /// One call about quotas.
    pub(crate) async fn quota_call(
        &self,
        store: &Arc<Store>,
        command: &Cmd,
        limit: Duration,
    ) -> Result<Vec<u8>, StoreError> {
        bytes(self.noted(store, store.call(command, limit).await)?)
    }

    /// The answer of a store, of which note is taken when it has been lost.
    fn noted<T>(&self, store: &Arc<Store>, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        // A slow answer is no reason to reconnect; Record gives up on a store that stays silent.
        if matches!(answer, Err(StoreError::Unavailable | StoreError::NotOpen)) {
            self.store_lost(store);
        }
        answer
    }
}

/// What a price beyond 64 bits means to a caller.
pub(crate) fn cost_out_of_range(_error: &PriceError, field: &'static str) -> Failure {
    let message = format!("{field}: costs more than 2^63 - 1 pico-units");
    Failure::new(Code::OutOfRange, ErrorReason::CostOutOfRange, message)
}

impl DecisionHead {
    /// The answer to a check.
    pub(crate) fn response(
        &self,
        limits: Vec<LimitStatus>,
        request: &CheckQuotaRequest,
        estimated: &Estimated,
    ) -> CheckQuotaResponse {
        let card = estimated.card.as_ref();
        let decision = if self.allowed {
            Decision::Allow
        } else {
            Decision::Deny
        };
        CheckQuotaResponse {
            decision: decision.into(),
            would_deny: limits.iter().any(|limit| limit.would_deny),
            limits,
            retry_after: self.retry_after(),
            rate_card_id: card.map(|card| card.id.clone()).unwrap_or_default(),
            estimated_cost: request.estimate.is_some().then(|| {
                let currency = card.map_or("USD", |card| card.prices.currency());
                money(i128::from(estimated.cost_picos), Cow::Borrowed(currency))
            }),
            pricing_state: estimated.state.into(),
            tenant_prices_version: estimated.tenant_prices_version,
            ..Default::default()
        }
    }
}

/// The same request with its estimate in classes, where a provider's usage stands for it.
pub(crate) fn in_classes(request: &CheckQuotaRequest, problems: &mut Problems) -> Option<CheckQuotaRequest> {
    let reported = request.provider_usage.as_ref()?;
    if request.estimate.is_some() {
        problems.invalid("provider_usage".to_owned(), "excludes estimate");
    }
    let used = Used::of_reported(reported, "provider_usage", problems);
    let mut made = CheckQuotaRequest {
        estimate: Some(used.to_usage()),
        provider_usage: None,
        ..request.clone()
    };
    used.replace_asked(
        &mut made.provider,
        [&mut made.tier, &mut made.region, &mut made.speed],
    );
    Some(made)
}

/// Checks a request. `problems`: those found before.
fn validated(request: &CheckQuotaRequest, mut problems: Problems) -> Result<Validated<'_>, Failure> {
    validate::tenant(&request.tenant, "tenant".to_owned(), &mut problems);
    if !request.request_id.is_empty() {
        validate::record_id(&request.request_id, "request_id".to_owned(), &mut problems);
    }
    validate_call(request, &mut problems);
    if !(0..=REQUESTS_MAX).contains(&request.requests) {
        problems.invalid("requests".to_owned(), "0 to 1,000,000");
    }
    let classes = estimated_classes(request, &mut problems);
    let ttl = request.hold_ttl.as_ref();
    let ttl = ttl.map(|ttl| TimeToLive::of(ttl, &mut problems));
    if ttl.is_some() && request.estimate.is_none() {
        problems.required("estimate".to_owned());
    }
    problems.into_result()?;
    Ok(Validated {
        requests: request.requests.max(1),
        classes,
        ttl,
    })
}

/// Checks what a request says of the call to come, but for its estimate.
pub(crate) fn validate_call(request: &CheckQuotaRequest, problems: &mut Problems) {
    validate::call(
        [
            &request.model,
            &request.provider,
            &request.tier,
            &request.region,
            &request.speed,
        ],
        problems,
    );
}

/// The estimate by class; none is an empty one.
pub(crate) fn estimated_classes<'a>(request: &'a CheckQuotaRequest, problems: &mut Problems) -> Classes<'a> {
    match &request.estimate {
        Some(usage) => validate::usage_classes(usage, "estimate", problems),
        None => Vec::new(),
    }
}

/// Not being able to decide is never a denial.
pub(crate) fn undecided(error: StoreError) -> Failure {
    match error {
        StoreError::Corrupt | StoreError::Full => store_failure(error),
        StoreError::Unavailable | StoreError::Timeout | StoreError::NotOpen => {
            let message = "the store did not answer, so nothing was decided";
            Failure::new(Code::Unavailable, ErrorReason::QuotaUndecided, message)
        }
    }
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
