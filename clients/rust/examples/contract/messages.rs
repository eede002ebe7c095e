// SPDX-License-Identifier: Apache-2.0
//! Between the suite's JSON and the messages, for the fields that its cases use.

use serde_json::{Value, json};
use taximeter::Money;
use taximeter::v1::usage_record::Payload;
use taximeter::v1::{self, CheckQuotaRequest, ExtendHoldRequest, LimitStatus, Usage, UsageRecord};

pub(crate) fn text(given: &Value, name: &str) -> String {
    given[name].as_str().unwrap_or_default().to_owned()
}

/// A count, which JSON may carry as text.
fn count(given: &Value, name: &str) -> i64 {
    let value = &given[name];
    value
        .as_i64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .unwrap_or_default()
}

fn duration(given: &Value, name: &str) -> Option<prost_types::Duration> {
    text(given, name).parse().ok()
}

fn usage_of(given: &Value) -> Usage {
    Usage {
        uncached_input_tokens: count(given, "uncached_input_tokens"),
        cache_read_tokens: count(given, "cache_read_tokens"),
        visible_output_tokens: count(given, "visible_output_tokens"),
        reasoning_tokens: count(given, "reasoning_tokens"),
        tool_calls: count(given, "tool_calls"),
        storage_byte_hours: count(given, "storage_byte_hours"),
        ..Default::default()
    }
}

pub(crate) fn record_of(given: &Value) -> UsageRecord {
    let attributes = given["attributes"].as_object().into_iter().flatten();
    UsageRecord {
        record_id: text(given, "record_id"),
        tenant: text(given, "tenant"),
        model: text(given, "model"),
        region: text(given, "region"),
        hold_id: text(given, "hold_id"),
        payload: given.get("usage").map(|usage| Payload::Usage(usage_of(usage))),
        attributes: attributes
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        ..Default::default()
    }
}

pub(crate) fn check_of(given: &Value) -> CheckQuotaRequest {
    CheckQuotaRequest {
        tenant: text(given, "tenant"),
        request_id: text(given, "request_id"),
        model: text(given, "model"),
        estimate: given.get("estimate").map(usage_of),
        requests: count(given, "requests"),
        hold_ttl: duration(given, "hold_ttl"),
        dry_run: given["dry_run"].as_bool().unwrap_or_default(),
        ..Default::default()
    }
}

pub(crate) fn extension_of(given: &Value) -> ExtendHoldRequest {
    ExtendHoldRequest {
        hold_ttl: duration(given, "hold_ttl"),
        model: text(given, "model"),
        estimate: given.get("estimate").map(usage_of),
        ..Default::default()
    }
}

pub(crate) fn limits(found: &[LimitStatus]) -> Vec<Value> {
    found
        .iter()
        .map(|limit| {
            json!({
                "tenant": limit.tenant,
                "kind": limit.kind().as_str_name(),
                "maximum": limit.maximum,
                "used": limit.used,
                "held": limit.held,
                "remaining": limit.remaining,
                "exceeded": limit.exceeded,
                "retry_after": limit.retry_after.map(seconds),
            })
        })
        .collect()
}

pub(crate) fn money(message: &v1::Money) -> Value {
    let amount = Money::from(message);
    json!({"text": amount.to_string(), "picos": amount.picos.to_string()})
}

pub(crate) fn seconds(span: prost_types::Duration) -> String {
    span.to_string()
}

/// The name of a status as gRPC writes it, such as `INVALID_ARGUMENT`.
pub(crate) fn code_name(code: tonic::Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
