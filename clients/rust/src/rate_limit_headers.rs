// SPDX-License-Identifier: Apache-2.0
//! The header fields of an HTTP answer that tell its caller about limits, for gateways in front of a model.

use std::time::{Duration, SystemTime};

use crate::v1::{CheckQuotaResponse, Decision, LimitKind};

/// Integers of structured fields have at most 15 digits.
const INTEGER_MAX: i64 = 999_999_999_999_999;

/// By kind of limit: unit, window in seconds, and how much of the limit's own unit one of these is.
const UNITS: [(LimitKind, (&str, u32, i64)); 3] = [
    (LimitKind::RequestsPerMinute, ("requests", 60, 1)),
    (LimitKind::TokensPerDay, ("tokens", 86_400, 1)),
    (LimitKind::CostPerDay, ("micro-units", 86_400, 1_000_000)),
];

/// `Retry-After` of RFC 9110, and `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.
/// `now` is when the call was decided.
///
/// Each limit is a policy named by kind and level. Costs are in millionths of the currency's unit, rounded down.
/// `Retry-After`, in whole seconds rounded up, is there when the call was denied and waiting helps; a denied call
/// is to be answered with status 429. Limits that are only watched are left out.
#[must_use]
pub fn rate_limit_headers(decision: &CheckQuotaResponse, now: SystemTime) -> Vec<(&'static str, String)> {
    let mut policies = Vec::new();
    let mut states = Vec::new();
    for limit in decision.limits.iter().filter(|limit| !limit.shadow) {
        let Some((_, (unit, window_s, size))) = UNITS.iter().find(|(kind, _)| *kind == limit.kind()) else {
            continue;
        };
        let kind = limit
            .kind()
            .as_str_name()
            .trim_start_matches("LIMIT_KIND_")
            .to_ascii_lowercase();
        // Neither kinds nor tenants hold a character that would have to be escaped.
        let name = format!("\"{kind};{}\"", limit.tenant);
        let quota = (limit.maximum / size).min(INTEGER_MAX);
        policies.push(format!("{name};q={quota};qu=\"{unit}\";w={window_s}"));
        let reset = limit
            .reset_time
            .and_then(|time| SystemTime::try_from(time).ok())
            .map(|time| format!(";t={}", seconds_up(time.duration_since(now).unwrap_or_default())));
        let remaining = (limit.remaining / size).min(INTEGER_MAX);
        states.push(format!("{name};r={remaining}{}", reset.unwrap_or_default()));
    }
    let mut headers = Vec::new();
    if !policies.is_empty() {
        headers.push(("RateLimit-Policy", policies.join(", ")));
        headers.push(("RateLimit", states.join(", ")));
    }
    if decision.decision() != Decision::Allow
        && let Some(wait) = decision
            .retry_after
            .and_then(|wait| Duration::try_from(wait).ok())
    {
        headers.push(("Retry-After", seconds_up(wait).to_string()));
    }
    headers
}

/// Rounds up: who waits that long has waited long enough.
fn seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
