// SPDX-License-Identifier: Apache-2.0
//! The only place of the engine that reads the wall clock. Decisions use the store's clock instead.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const MS_PER_DAY: i64 = 86_400_000;
pub(crate) const NANOS_PER_MS: i64 = 1_000_000;
pub(crate) const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// Nanoseconds since 1970 UTC.
pub(crate) fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    now_nanos().div_euclid(NANOS_PER_MS)
}
