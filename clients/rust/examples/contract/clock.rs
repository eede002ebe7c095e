// SPDX-License-Identifier: Apache-2.0
//! The one place here that reads the wall clock.

use std::time::SystemTime;

pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
