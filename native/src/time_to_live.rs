// SPDX-License-Identifier: Apache-2.0
//! How long a hold lives, and what is left of it is remembered.

use prost_types::Duration;

use crate::validate::Problems;

const TTL_SECONDS_MAX: i64 = 3_600;
/// Times to live are rounded up to a grid of at most this many steps: that bounds what a level has to keep.
const GRID_STEPS_MAX: u32 = 64;
/// A check with a name is remembered this long, a hold this long after it expired.
pub(crate) const REMEMBER_SECONDS: u32 = 300;
/// A second that is rounded up, and one that may pass while holds are placed whose marks are kept together.
const MORE_SECONDS: u32 = 2;

/// A time to live as the scripts take it: none at first.
#[derive(Clone, Copy, Default)]
pub(crate) struct TimeToLive {
    pub(crate) seconds: u32,
    /// The grid is two to the power of this, in seconds.
    pub(crate) grid_power: u8,
}

impl TimeToLive {
    /// Checks and rounds up a duration of 1 s to 1 h.
    pub(crate) fn of(ttl: &Duration, problems: &mut Problems) -> Self {
        let whole = ttl.seconds.saturating_add(i64::from(ttl.nanos > 0));
        if !(0..=999_999_999).contains(&ttl.nanos) || ttl.seconds < 1 || whole > TTL_SECONDS_MAX {
            problems.invalid("hold_ttl".to_owned(), "1 s to 1 h");
        }
        let mut found = Self {
            seconds: u32::try_from(whole).unwrap_or_default(),
            grid_power: 0,
        };
        let seconds = whole.min(TTL_SECONDS_MAX);
        while i64::from(found.grid_seconds().saturating_mul(GRID_STEPS_MAX)) < seconds {
            found.grid_power = found.grid_power.saturating_add(1);
        }
        found
    }

    pub(crate) const fn grid_seconds(self) -> u32 {
        1 << self.grid_power
    }

    /// How long marks are kept that lie together: as long as any hold of this grid may live, and is remembered.
    pub(crate) const fn place_seconds(self) -> u32 {
        let steps = GRID_STEPS_MAX.saturating_add(1);
        let longest = self.grid_seconds().saturating_mul(steps);
        longest
            .saturating_add(MORE_SECONDS)
            .saturating_add(REMEMBER_SECONDS)
    }
}
