// SPDX-License-Identifier: Apache-2.0
//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Time since 1970, in milliseconds.
pub(crate) fn system_clock_ms() -> u64 {
    let since = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
