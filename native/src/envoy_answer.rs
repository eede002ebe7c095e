// SPDX-License-Identifier: Apache-2.0
//! Decisions as Envoy's protocol says them: a status per descriptor, and the header fields of the IETF draft
//! on rate limits, in the same words as the clients write them.

use std::fmt::Write;

use prost_types::{Duration, Timestamp};

use crate::clock;
use crate::envoy::allows;
use crate::keys::is_within;
use crate::proto::envoy::config::core::v3::HeaderValue;
use crate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use crate::proto::taximeter::v1::{CheckQuotaResponse, LimitKind, LimitStatus};
use crate::quota::duration_of_ms;

/// Integers of structured fields have at most 15 digits.
const INTEGER_MAX: i64 = 999_999_999_999_999;
const PICOS_PER_MICRO: i64 = 1_000_000;
const MS_PER_SECOND: i64 = 1_000;
const NANOS_PER_MS: i64 = 1_000_000;

/// Where the decision about a descriptor stands.
pub(crate) struct Place {
    /// Index of its check.
    pub(crate) check: usize,
    pub(crate) tenant: String,
}

/// How a kind of limit is written.
struct Measure {
    name: &'static str,
    unit: &'static str,
    window: Unit,
    window_seconds: u32,
    /// How much of a limit's own unit one of these is.
    size: i64,
}

/// None for a limit that has no window.
const fn measure(kind: LimitKind) -> Option<Measure> {
    let (name, unit, window, window_seconds, size) = match kind {
        LimitKind::RequestsPerMinute => ("requests_per_minute", "requests", Unit::Minute, 60, 1),
        LimitKind::TokensPerDay => ("tokens_per_day", "tokens", Unit::Day, 86_400, 1),
        LimitKind::CostPerDay => ("cost_per_day", "micro-units", Unit::Day, 86_400, PICOS_PER_MICRO),
        // Credits are no limit per time.
        LimitKind::Credits | LimitKind::Unspecified => return None,
    };
    Some(Measure {
        name,
        unit,
        window,
        window_seconds,
        size,
    })
}

/// The answer to a request. `places`: of each descriptor, None where it is under no limit.
pub(crate) fn answer(places: &[Option<Place>], decisions: &[CheckQuotaResponse]) -> RateLimitResponse {
    let now_ms = clock::now_ms();
    let statuses = places.iter().map(|place| {
        let decided = place
            .as_ref()
            .and_then(|place| Some((place, decisions.get(place.check)?)));
        decided.map_or_else(
            || DescriptorStatus {
                code: Code::Ok.into(),
                ..Default::default()
            },
            |(place, decision)| status(&place.tenant, decision, now_ms),
        )
    });
    RateLimitResponse {
        overall_code: code(decisions.iter().all(allows)).into(),
        statuses: statuses.collect(),
        response_headers_to_add: headers(decisions, now_ms),
        ..Default::default()
    }
}

fn code(is_allowed: bool) -> Code {
    if is_allowed { Code::Ok } else { Code::OverLimit }
}

/// A descriptor is over its limit when a limit of its own tenant, or of one above, denied the call.
fn status(tenant: &str, decision: &CheckQuotaResponse, now_ms: i64) -> DescriptorStatus {
    let limits = || {
        let limits = decision
            .limits
            .iter()
            .filter(|limit| !limit.shadow && is_within(tenant, &limit.tenant));
        limits.filter_map(|limit| Some((limit, measure(limit.kind())?)))
    };
    let denied = |(limit, _): &(&LimitStatus, Measure)| !allows(decision) && limit.exceeded;
    let is_allowed = !limits().any(|limit| denied(&limit));
    // One limit can be shown: of those that denied, the one to wait for longest; else the one nearest to its end.
    let shown = if is_allowed {
        limits().min_by(|(a, _), (b, _)| {
            let left = |limit: &LimitStatus, other: &LimitStatus| {
                i128::from(limit.remaining).saturating_mul(i128::from(other.maximum))
            };
            left(a, b).cmp(&left(b, a))
        })
    } else {
        limits()
            .filter(denied)
            .max_by_key(|(limit, _)| until_ms(limit, now_ms).unwrap_or(i64::MAX))
    };
    let Some((limit, measure)) = shown else {
        return DescriptorStatus {
            code: code(is_allowed).into(),
            ..Default::default()
        };
    };
    DescriptorStatus {
        code: code(is_allowed).into(),
        current_limit: Some(RateLimit {
            name: format!("{};{}", measure.name, limit.tenant),
            requests_per_unit: small(limit.maximum, &measure),
            unit: measure.window.into(),
        }),
        limit_remaining: small(limit.remaining, &measure),
        duration_until_reset: until_ms(limit, now_ms).map(duration_of_ms),
        quota: None,
    }
}

/// A quantity in the protocol's 32 bits.
fn small(quantity: i64, measure: &Measure) -> u32 {
    u32::try_from(quantity.div_euclid(measure.size)).unwrap_or(u32::MAX)
}

/// Milliseconds until a limit has room; None where no wait helps.
fn until_ms(limit: &LimitStatus, now_ms: i64) -> Option<i64> {
    let Timestamp { seconds, nanos } = limit.reset_time?;
    let reset_ms = seconds
        .saturating_mul(MS_PER_SECOND)
        .saturating_add(i64::from(nanos).div_euclid(NANOS_PER_MS));
    Some(reset_ms.saturating_sub(now_ms).max(0))
}

fn headers(decisions: &[CheckQuotaResponse], now_ms: i64) -> Vec<HeaderValue> {
    let (mut policies, mut states) = (String::new(), String::new());
    let limits = decisions.iter().flat_map(|decision| &decision.limits);
    // One that is only watched is nothing for callers to keep to.
    for limit in limits.filter(|limit| !limit.shadow) {
        if let Some(measure) = measure(limit.kind()) {
            write_limit(&mut policies, &mut states, limit, &measure, now_ms);
        }
    }
    let mut headers = Vec::with_capacity(3);
    if !policies.is_empty() {
        headers.push(header("RateLimit-Policy", policies));
        headers.push(header("RateLimit", states));
    }
    // The longest wait; where no wait helps for one of them, none is named.
    let denied = decisions.iter().filter(|decision| !allows(decision));
    let waits: Option<Vec<i64>> = denied
        .map(|decision| decision.retry_after.as_ref().map(seconds_of))
        .collect();
    if let Some(longest) = waits.and_then(|waits| waits.into_iter().max()) {
        headers.push(header("Retry-After", longest.to_string()));
    }
    headers
}

/// Writes one limit as a policy and its state. Neither kinds nor tenants hold a character that has to be escaped.
fn write_limit(
    policies: &mut String,
    states: &mut String,
    limit: &LimitStatus,
    measure: &Measure,
    now_ms: i64,
) {
    let name = format!("\"{};{}\"", measure.name, limit.tenant);
    let separator = if policies.is_empty() { "" } else { ", " };
    let shown = |quantity: i64| quantity.div_euclid(measure.size).min(INTEGER_MAX);
    // Writing to a text cannot fail.
    let _ = write!(
        policies,
        "{separator}{name};q={};qu=\"{}\";w={}",
        shown(limit.maximum),
        measure.unit,
        measure.window_seconds
    );
    let _ = write!(states, "{separator}{name};r={}", shown(limit.remaining));
    if let Some(until_ms) = until_ms(limit, now_ms) {
        let _ = write!(states, ";t={}", seconds_of(&duration_of_ms(until_ms)));
    }
}

/// Whole seconds, rounded up: who waits that long has waited long enough.
fn seconds_of(wait: &Duration) -> i64 {
    wait.seconds.saturating_add(i64::from(wait.nanos > 0))
}

fn header(key: &str, value: String) -> HeaderValue {
    HeaderValue {
        key: key.to_owned(),
        value,
        raw_value: Vec::new(),
    }
}
