// SPDX-License-Identifier: Apache-2.0
//! Checks of what callers send, before the store is asked anything. Every problem of a message is found at once;
//! input is never echoed.

use std::borrow::Cow;
use std::fmt::{self, Display};

use prost_types::Timestamp;
use taximeter_pricing::QUANTITY_MAX;

use crate::clock::{MS_PER_DAY, NANOS_PER_DAY, NANOS_PER_MS};
use crate::error::{Code, Failure, Violation};
use crate::hold_id::{HoldId, SealKey};
use crate::proto::taximeter::v1::usage_record::Payload;
use crate::proto::taximeter::v1::{ErrorReason, Usage, UsageQuality, UsageRecord};
use crate::record_path::RecordPath;
use crate::secret_text::holds_secret;
use crate::used::Used;
use crate::uuid_v7::uuid_v7_ms;

const RECORD_ID_SIZE_MIN: usize = 16;
const RECORD_ID_SIZE_MAX: usize = 64;
const TENANT_LEVEL_COUNT_MAX: usize = 4;
const SEGMENT_SIZE_MAX: usize = 64;
const MODEL_SIZE_MAX: usize = 128;
const LABEL_SIZE_MAX: usize = 64;
const ATTRIBUTE_COUNT_MAX: usize = 16;
const ATTRIBUTE_KEY_SIZE_MAX: usize = 64;
const ATTRIBUTE_VALUE_LENGTH_MAX: usize = 256;
const OTHER_COUNT_MAX: usize = 32;
const CALLS_MAX: i64 = 1_000_000_000;
const TIMESTAMP_SECONDS_MIN: i64 = -62_135_596_800;
const TIMESTAMP_SECONDS_MAX: i64 = 253_402_300_799;
/// Events are accepted from this long ago to a little ahead; dedup remembers longer.
const EVENT_AGE_DAYS_MAX: i64 = 34;
const EVENT_AHEAD_MS_MAX: i64 = 5 * 60 * 1_000;
const RECORD_ID_AGE_DAYS_MAX: i64 = 39;
const RECORD_ID_AHEAD_DAYS_MAX: i64 = 1;
/// Classes with a field of their own in Usage.
const FIELD_CLASSES: [&str; 9] = [
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "tool_calls",
    "sandbox_ms",
    "storage_byte_hours",
];

/// What is wrong with an id that `HoldId` cannot read.
pub(crate) const NOT_A_HOLD: &str = "not a hold of this tenant";

/// Usage by class, without zeros.
pub(crate) type Classes<'a> = Vec<(&'a str, i64)>;

/// Problems found so far.
#[derive(Default)]
pub(crate) struct Problems {
    violations: Vec<Violation>,
}

/// A field by its place in a request, put together only where something is wrong with it.
#[derive(Clone, Copy)]
struct Field {
    /// None for the request itself.
    path: Option<RecordPath>,
    name: &'static str,
}

impl Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            None => formatter.write_str(self.name),
            Some(path) => write!(formatter, "{path}.{}", self.name),
        }
    }
}

impl From<Field> for String {
    fn from(field: Field) -> Self {
        field.to_string()
    }
}

impl Problems {
    fn add(&mut self, field: String, reason: ErrorReason, description: impl Into<Cow<'static, str>>) {
        self.violations.push(Violation {
            field,
            reason,
            description: description.into(),
        });
    }

    /// Notes a field outside its range or alphabet.
    pub(crate) fn invalid(&mut self, field: impl Into<String>, description: &'static str) {
        self.add(field.into(), ErrorReason::FieldInvalid, description);
    }

    /// Notes a number that others contradict.
    pub(crate) fn inconsistent(&mut self, field: impl Into<String>, description: &'static str) {
        self.add(field.into(), ErrorReason::InconsistentUsage, description);
    }

    /// Notes a field that holds what looks like a credential.
    pub(crate) fn secret(&mut self, field: impl Into<String>, description: &'static str) {
        self.add(field.into(), ErrorReason::SecretInField, description);
    }

    /// Adds a field that is missing.
    pub(crate) fn required(&mut self, field: impl Into<String>) {
        self.add(field.into(), ErrorReason::FieldRequired, "required");
    }

    /// Fails when there are any.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        if self.violations.is_empty() {
            return Ok(());
        }
        Err(Failure::invalid(Code::InvalidArgument, self.violations))
    }
}

/// Checks a record. `path` is its place in the request, such as "record". Returns what it used.
pub(crate) fn record<'a>(
    record: &'a UsageRecord,
    path: RecordPath,
    seal_key: &SealKey,
    now_ms: i64,
) -> Result<Used<'a>, Failure> {
    let mut problems = Problems::default();
    let field = |name: &'static str| Field {
        path: Some(path),
        name,
    };
    record_id(&record.record_id, field("record_id"), &mut problems);
    tenant(&record.tenant, field("tenant"), &mut problems);
    let call = [
        &record.model,
        &record.provider,
        &record.tier,
        &record.region,
        &record.speed,
    ];
    call_at(call, Some(path), &mut problems);
    attributes(record, field("attributes"), &mut problems);
    if UsageQuality::try_from(record.quality).is_err() {
        problems.invalid(field("quality"), "not a known value");
    }
    if record
        .occur_time
        .as_ref()
        .is_some_and(|time| timestamp_nanos(time).is_none())
    {
        problems.invalid(field("occur_time"), "not a valid timestamp");
    }
    let used = match &record.payload {
        Some(Payload::Usage(usage)) => Used::of_classes(usage, field("usage"), &mut problems),
        Some(Payload::ProviderUsage(usage)) => {
            Used::of_reported(usage, field("provider_usage"), &mut problems)
        }
        None => {
            problems.required(field("usage"));
            Used::default()
        }
    };
    if record.model.is_empty() && (used.classes.is_empty() || has_tokens(&used.classes)) {
        problems.required(field("model"));
    }
    if !record.hold_id.is_empty() && HoldId::open(&record.hold_id, &record.tenant, seal_key).is_none() {
        problems.invalid(field("hold_id"), NOT_A_HOLD);
    }
    problems.into_result()?;
    times(record, path, now_ms)?;
    Ok(used)
}

/// Checks what says which call it is: model, provider, tier, region, speed.
pub(crate) fn call(values: [&String; 5], problems: &mut Problems) {
    call_at(values, None, problems);
}

fn call_at(values: [&String; 5], path: Option<RecordPath>, problems: &mut Problems) {
    let names = ["model", "provider", "tier", "region", "speed"];
    for (name, value) in names.into_iter().zip(values) {
        let (size_max, description) = if name == "model" {
            (MODEL_SIZE_MAX, "1 to 128 printable characters")
        } else {
            (LABEL_SIZE_MAX, "at most 64 printable characters")
        };
        printable(value, size_max, Field { path, name }, description, problems);
    }
}

/// A record without a model must not use tokens: they could never be priced.
fn has_tokens(classes: &[(&str, i64)]) -> bool {
    classes
        .iter()
        .any(|(class, _)| taximeter_pricing::is_token_class(class))
}

fn times(record: &UsageRecord, path: RecordPath, now_ms: i64) -> Result<(), Failure> {
    let out_of_range = |reason, name: &str, description: &'static str| {
        let violation = Violation {
            field: format!("{path}.{name}"),
            reason,
            description: description.into(),
        };
        Err(Failure::invalid(Code::OutOfRange, vec![violation]))
    };
    if let Some(nanos) = record.occur_time.as_ref().and_then(timestamp_nanos) {
        let age_nanos = i128::from(now_ms)
            .saturating_mul(i128::from(NANOS_PER_MS))
            .saturating_sub(nanos);
        let oldest = i128::from(EVENT_AGE_DAYS_MAX).saturating_mul(i128::from(NANOS_PER_DAY));
        let ahead = i128::from(EVENT_AHEAD_MS_MAX).saturating_mul(i128::from(NANOS_PER_MS));
        if age_nanos > oldest {
            return out_of_range(ErrorReason::EventTooOld, "occur_time", "more than 34 days ago");
        }
        if age_nanos.saturating_add(ahead) < 0 {
            return out_of_range(
                ErrorReason::EventInFuture,
                "occur_time",
                "more than 5 minutes ahead",
            );
        }
    }
    if let Some(id_ms) = uuid_v7_ms(&record.record_id) {
        let age_ms = now_ms.saturating_sub(id_ms);
        let oldest_ms = RECORD_ID_AGE_DAYS_MAX.saturating_mul(MS_PER_DAY);
        let ahead_ms = RECORD_ID_AHEAD_DAYS_MAX.saturating_mul(MS_PER_DAY);
        if age_ms > oldest_ms || age_ms.saturating_add(ahead_ms) < 0 {
            let description = "dated more than 39 days before or 1 day after now";
            return out_of_range(ErrorReason::RecordIdTime, "record_id", description);
        }
    }
    Ok(())
}

/// Nanoseconds since 1970; None when it is not a valid protobuf timestamp.
pub(crate) fn timestamp_nanos(time: &Timestamp) -> Option<i128> {
    let valid = (TIMESTAMP_SECONDS_MIN..=TIMESTAMP_SECONDS_MAX).contains(&time.seconds)
        && (0..=999_999_999).contains(&time.nanos);
    if !valid {
        return None;
    }
    i128::from(time.seconds)
        .checked_mul(1_000_000_000)?
        .checked_add(i128::from(time.nanos))
}

/// Checks an id of 16 to 64 characters of A-Z a-z 0-9 _ -.
pub(crate) fn record_id(id: &str, field: impl Into<String>, problems: &mut Problems) {
    if id.is_empty() {
        problems.required(field);
    } else if !(RECORD_ID_SIZE_MIN..=RECORD_ID_SIZE_MAX).contains(&id.len()) {
        problems.invalid(field, "16 to 64 characters");
    } else if !id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    {
        problems.invalid(field, "only A-Z a-z 0-9 _ -");
    }
}

/// Checks a tenant path.
pub(crate) fn tenant(path: &str, field: impl Into<String>, problems: &mut Problems) {
    if path.is_empty() {
        problems.required(field);
        return;
    }
    let segment_ok = |segment: &str| {
        (1..=SEGMENT_SIZE_MAX).contains(&segment.len())
            && segment.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
            })
            && segment != "."
            && segment != ".."
    };
    if path.split('/').count() > TENANT_LEVEL_COUNT_MAX || !path.split('/').all(segment_ok) {
        problems.invalid(
            field,
            "1 to 4 segments joined by /, each 1 to 64 of a-z 0-9 . _ -",
        );
    }
}

/// Checks an optional text of printable ASCII.
pub(crate) fn printable(
    text: &str,
    size_max: usize,
    field: impl Into<String>,
    description: &'static str,
    problems: &mut Problems,
) {
    if text.len() > size_max || !text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        problems.invalid(field, description);
    }
}

fn attributes(record: &UsageRecord, field: Field, problems: &mut Problems) {
    if record.attributes.len() > ATTRIBUTE_COUNT_MAX {
        problems.invalid(field, "at most 16 entries");
    }
    for (key, value) in &record.attributes {
        let charset = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if key.starts_with("__") {
            let description = "keys must not begin with __";
            problems.add(field.into(), ErrorReason::ReservedAttribute, description);
        } else if key.is_empty() || key.len() > ATTRIBUTE_KEY_SIZE_MAX || !key.bytes().all(charset) {
            problems.invalid(field, "keys: 1 to 64 characters of a-z A-Z 0-9 . _ -");
        }
        if value.chars().count() > ATTRIBUTE_VALUE_LENGTH_MAX || value.chars().any(char::is_control) {
            problems.invalid(field, "values: at most 256 characters without control characters");
        } else if holds_secret(value) {
            problems.secret(field, "values: no credential belongs here");
        }
    }
}

/// Checks usage and returns it by class, without zeros.
pub(crate) fn usage_classes<'a>(
    usage: &'a Usage,
    field: impl Display + Copy,
    problems: &mut Problems,
) -> Vec<(&'a str, i64)> {
    let counts = [
        ("uncached_input_tokens", usage.uncached_input_tokens),
        ("cache_read_tokens", usage.cache_read_tokens),
        ("cache_write_tokens", usage.cache_write_tokens),
        ("cache_write_1h_tokens", usage.cache_write_1h_tokens),
        ("visible_output_tokens", usage.visible_output_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
        ("tool_calls", usage.tool_calls),
        ("sandbox_ms", usage.sandbox_ms),
        ("storage_byte_hours", usage.storage_byte_hours),
    ];
    let mut classes = Vec::with_capacity(8);
    for ((name, count), class) in counts.into_iter().zip(FIELD_CLASSES) {
        let maximum = if class == "storage_byte_hours" {
            i64::MAX
        } else {
            QUANTITY_MAX
        };
        quantity(count, maximum, || format!("{field}.{name}"), problems);
        if count > 0 {
            classes.push((class, count));
        }
    }
    if usage.other.len() > OTHER_COUNT_MAX {
        problems.invalid(format!("{field}.other"), "at most 32 entries");
    }
    for (class, count) in &usage.other {
        let path = || format!("{field}.other");
        let charset = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if class.is_empty() || class.len() > LABEL_SIZE_MAX || !class.bytes().all(charset) {
            problems.invalid(path(), "class ids: 1 to 64 characters of a-z 0-9 _");
        } else if FIELD_CLASSES.contains(&class.as_str()) {
            problems.invalid(path(), "a class that has a field of its own belongs there");
        }
        quantity(*count, QUANTITY_MAX, path, problems);
        if *count > 0 {
            classes.push((class, *count));
        }
    }
    quantity(usage.calls, CALLS_MAX, || format!("{field}.calls"), problems);
    classes
}

fn quantity(count: i64, maximum: i64, field: impl FnOnce() -> String, problems: &mut Problems) {
    if count < 0 {
        problems.invalid(field(), "must be >= 0");
    } else if count > maximum {
        let description = if maximum == CALLS_MAX {
            "at most 1,000,000,000"
        } else {
            "at most 10,000,000,000"
        };
        problems.invalid(field(), description);
    }
}
