// SPDX-License-Identifier: Apache-2.0
//! How much may be sent again: a tenth of what is sent, and a reserve. When every call fails, retries would multiply
//! the load on a server that cannot bear it already.

use std::sync::atomic::{AtomicI32, Ordering};

const TENTHS_MAX: i32 = 1_000;
const TENTHS_PER_RETRY: i32 = 10;

/// What is left of it. A retry costs a token, a call earns a tenth of one.
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
    /// Notes a call.
    pub(crate) fn earn(&self) {
        let next = |before: i32| Some((before + 1).min(TENTHS_MAX));
        let _ = self
            .tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Takes one retry; false where there is none left.
    pub(crate) fn spend(&self) -> bool {
        let next = |before: i32| (before >= TENTHS_PER_RETRY).then(|| before - TENTHS_PER_RETRY);
        self.tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    /// A hundred retries may follow each other, and then one for every ten calls.
    #[test]
    fn retries_stop_when_too_much_fails() {
        let budget = Budget::default();
        assert_eq!((0..200).filter(|_| budget.spend()).count(), 100);

        (0..9).for_each(|_| budget.earn());
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend());
    }
}
