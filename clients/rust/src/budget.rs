// SPDX-License-Identifier: Apache-2.0
//! How much may be sent again: a tenth of the calls, and ten in a row, so that retries never feed an outage.

use std::sync::atomic::{AtomicI32, Ordering};

const TENTHS_MAX: i32 = 100;
const TENTHS_PER_FAILURE: i32 = 10;

/// The throttle of gRPC's retry design: a failure takes a token, a success gives a tenth back, and there are no
/// retries below half of the ten tokens.
#[derive(Debug)]
pub(crate) struct Budget {
    tenths: AtomicI32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tenths: AtomicI32::new(TENTHS_MAX),
        }
    }
}

impl Budget {
    /// Notes an answer.
    pub(crate) fn note_success(&self) {
        self.add(1);
    }

    /// Notes a failure; returns whether it may be sent again.
    pub(crate) fn may_retry(&self) -> bool {
        self.add(-TENTHS_PER_FAILURE) > TENTHS_MAX / 2
    }

    fn add(&self, tenths: i32) -> i32 {
        let next = |before: i32| (before + tenths).clamp(0, TENTHS_MAX);
        // The closure always returns a value, so both arms carry the value before.
        let (Ok(before) | Err(before)) =
            self.tenths
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(next(before)));
        next(before)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    /// Four failures in a row may be sent again, the fifth not; ten answers earn one more.
    #[test]
    fn retries_stop_when_too_much_fails() {
        let budget = Budget::default();
        assert_eq!(
            [(); 6].map(|()| budget.may_retry()),
            [true, true, true, true, false, false]
        );

        (0..21).for_each(|_| budget.note_success());
        assert!(budget.may_retry());
    }
}
