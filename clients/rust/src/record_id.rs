// SPDX-License-Identifier: Apache-2.0
//! Record ids: `UUIDv7` of RFC 9562, in order within one generator.

use std::sync::{Mutex, PoisonError};

use crate::clock::system_clock_ms;

const COUNTER_MAX: u64 = 0xFFF;
const COUNTER_START_MASK: u64 = 0x7FF;
const VARIANT: u64 = 0x8000_0000_0000_0000;

/// Makes record ids. The 12 bits after the version count up within a millisecond from a random start; where they
/// would overflow, the id borrows the next millisecond.
#[derive(Debug)]
pub struct RecordIds {
    clock: fn() -> u64,
    /// Milliseconds and counter of the last id.
    last: Mutex<(u64, u64)>,
}

impl Default for RecordIds {
    fn default() -> Self {
        Self::new(system_clock_ms)
    }
}

impl RecordIds {
    /// Takes the clock, in Unix milliseconds.
    #[must_use]
    pub fn new(clock: fn() -> u64) -> Self {
        Self {
            clock,
            last: Mutex::new((0, 0)),
        }
    }

    /// A new id of 36 characters, greater than every id that this generator made before.
    ///
    /// # Panics
    ///
    /// Where the system has no random bytes.
    #[must_use]
    #[expect(clippy::expect_used, reason = "no system that runs this lacks random bytes")]
    pub fn next(&self) -> String {
        let start = getrandom::u64().expect("the system has random bytes") & COUNTER_START_MASK;
        let low = getrandom::u64().expect("the system has random bytes") >> 2 | VARIANT;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = (self.clock)();
        *last = match *last {
            (time_ms, _) if now_ms > time_ms => (now_ms, start),
            // The clock stands still or went back: the order holds, the time in the id waits for it.
            (time_ms, counter) if counter < COUNTER_MAX => (time_ms, counter + 1),
            (time_ms, _) => (time_ms + 1, start),
        };
        let high = last.0 << 16 | 0x7000 | last.1;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xFFFF,
            high & 0xFFFF,
            low >> 48,
            low & 0xFFFF_FFFF_FFFF
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::RecordIds;

    static NOW_MS: AtomicU64 = AtomicU64::new(1_780_000_000_000);

    /// Ids sort in the order they were made, also when the clock stands still or goes back.
    #[test]
    fn ids_are_in_order() {
        let ids = RecordIds::new(|| NOW_MS.load(Ordering::Relaxed));
        let first: Vec<_> = (0..5_000).map(|_| ids.next()).collect();
        NOW_MS.fetch_sub(3_600_000, Ordering::Relaxed);
        let made: Vec<_> = first.into_iter().chain((0..5_000).map(|_| ids.next())).collect();

        assert!(made.is_sorted_by(|one, other| one < other));
        assert!(made[0].starts_with("019e7044-8800-7"), "{}", made[0]);
        assert!(
            made.iter()
                .all(|id| id.len() == 36 && matches!(id.as_bytes()[19], b'8'..=b'9' | b'a'..=b'b'))
        );
    }
}
