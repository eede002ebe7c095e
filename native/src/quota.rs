// SPDX-License-Identifier: Apache-2.0
//! Limits as the store answers them, and as callers see them.

use std::borrow::Cow;

use prost_types::{Duration, Timestamp};

use crate::keys;
use crate::proto::taximeter::v1::{LimitKind, LimitStatus, Money};
use crate::store::StoreError;

/// Limit flags of a level in the store.
pub(crate) const HAS_REQUESTS: u8 = 1;
pub(crate) const HAS_TOKENS: u8 = 2;
pub(crate) const HAS_COST: u8 = 4;
const HAS_CREDITS: u8 = 8;
/// A limit that is only watched has this many times its flag, too.
pub(crate) const SHADOW: u8 = 16;
/// What follows in a status: what is held; when the day's limits are free; which limits are temporary; credits.
const SHOWS_HELD: u8 = 1;
const SHOWS_FREE: u8 = 2;
const SHOWS_TEMPORARY: u8 = 4;
const SHOWS_CREDITS: u8 = 8;
/// Second that stands for "no wait can help".
const NEVER: i64 = 1;

/// Pico-units of one `hi` of a money pair, see `scripts/levels.lua`.
const MONEY_BASE: i64 = 1_000_000_000;
const PICOS_PER_UNIT: i64 = 1_000_000_000_000;
const MS_PER_SECOND: i64 = 1_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Splits picos, 0 or more, into the pair that the scripts count with.
pub(crate) fn money_pair(picos: i64) -> (u64, u64) {
    let hi = u64::try_from(picos.div_euclid(MONEY_BASE)).unwrap_or_default();
    let lo = u64::try_from(picos.rem_euclid(MONEY_BASE)).unwrap_or_default();
    (hi, lo)
}

/// An exact amount.
pub(crate) fn money(picos: i128, currency_code: Cow<'_, str>) -> Money {
    let unit = i128::from(PICOS_PER_UNIT);
    let units = i64::try_from(picos.checked_div(unit).unwrap_or_default()).unwrap_or(i64::MAX);
    let rest = i64::try_from(picos.checked_rem(unit).unwrap_or_default()).unwrap_or_default();
    Money {
        currency_code: currency_code.into_owned(),
        units,
        picos: rest,
    }
}

/// Reads little-endian fields off a script's answer.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    /// One byte.
    pub(crate) fn byte(&mut self) -> Result<u8, StoreError> {
        let (byte, rest) = self.0.split_first().ok_or(StoreError::Corrupt)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A count of 8 bytes.
    pub(crate) fn count(&mut self) -> Result<i64, StoreError> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(StoreError::Corrupt)?;
        self.0 = rest;
        i64::try_from(u64::from_le_bytes(*bytes)).map_err(|_| StoreError::Corrupt)
    }

    /// An amount in picos.
    pub(crate) fn money(&mut self) -> Result<i64, StoreError> {
        let (hi, lo) = (self.count()?, self.count()?);
        hi.checked_mul(MONEY_BASE)
            .and_then(|picos| picos.checked_add(lo))
            .ok_or(StoreError::Corrupt)
    }

    /// The store's clock: seconds and microseconds.
    pub(crate) fn clock_ms(&mut self) -> Result<i64, StoreError> {
        let (seconds, micros) = (self.count()?, self.count()?);
        let ms = seconds.checked_mul(MS_PER_SECOND).ok_or(StoreError::Corrupt)?;
        ms.checked_add(micros.div_euclid(1_000))
            .ok_or(StoreError::Corrupt)
    }
}

/// How a script decided.
pub(crate) struct DecisionHead {
    pub(crate) allowed: bool,
    pub(crate) now_ms: i64,
    /// When a denied call would pass.
    free: Free,
}

/// When a limit, or all of them, have room.
#[derive(Clone, Copy)]
enum Free {
    At(i64),
    Never,
}

impl Free {
    /// `seconds` as a script writes it: 0 when it did not look.
    fn of(seconds: i64, otherwise_ms: i64) -> Self {
        match seconds {
            0 => Self::At(otherwise_ms),
            NEVER => Self::Never,
            seconds => Self::At(seconds.saturating_mul(MS_PER_SECOND).max(otherwise_ms)),
        }
    }

    fn wait(self, now_ms: i64) -> Option<Duration> {
        match self {
            Self::At(time_ms) => Some(duration_of_ms(time_ms.saturating_sub(now_ms))),
            Self::Never => None,
        }
    }
}

/// Reads the beginning of a decision of the store's `now_ms`.
pub(crate) fn read_decision(reader: &mut Reader<'_>, now_ms: i64) -> Result<DecisionHead, StoreError> {
    let allowed = reader.byte()? == 1;
    let free = Free::of(reader.count()?, now_ms);
    Ok(DecisionHead {
        allowed,
        now_ms,
        free,
    })
}

impl DecisionHead {
    /// Reads the limits that follow.
    pub(crate) fn statuses(
        &self,
        reader: &mut Reader<'_>,
        tenant: &str,
    ) -> Result<Vec<LimitStatus>, StoreError> {
        read_statuses(reader, tenant, self.now_ms, true)
    }

    /// How long a denied call has to wait; None when it was allowed, or when no wait can help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if self.allowed {
            None
        } else {
            self.free.wait(self.now_ms)
        }
    }
}

/// One limit of a level on its way to the caller.
struct Limit {
    flag: u8,
    kind: LimitKind,
    maximum: i64,
    used: i64,
    held: i64,
    free: Free,
    is_watched: bool,
    /// When it ends, for a temporary one.
    until: Option<Timestamp>,
}

/// Reads one status per level of the tenant. `exceeded` and `would_deny` mean that the limit had no room for the call
/// when `deciding`, else that nothing is left.
pub(crate) fn read_statuses(
    reader: &mut Reader<'_>,
    tenant: &str,
    now_ms: i64,
    deciding: bool,
) -> Result<Vec<LimitStatus>, StoreError> {
    let mut statuses = Vec::new();
    for level in keys::level_names(tenant) {
        let flags = reader.byte()?;
        if flags == 0 {
            continue;
        }
        let full = reader.byte()?;
        for limit in read_level(reader, flags, now_ms)? {
            if flags & limit.flag != 0 {
                statuses.push(limit.status(level, now_ms, full & limit.flag != 0, deciding));
            }
        }
    }
    Ok(statuses)
}

/// Reads the limits of one level; those that are not set are in no flag.
fn read_level(reader: &mut Reader<'_>, flags: u8, now_ms: i64) -> Result<[Limit; 4], StoreError> {
    let shows = reader.byte()?;
    let (requests_max, requests_used, requests_free) = (reader.count()?, reader.count()?, reader.count()?);
    let (tokens_max, tokens_used) = (reader.count()?, reader.count()?);
    let (cost_max, cost_used) = (reader.money()?, reader.money()?);
    let (mut tokens_held, mut cost_held) = (0, 0);
    if shows & SHOWS_HELD != 0 {
        (tokens_held, cost_held) = (reader.count()?, reader.money()?);
    }
    let (mut tokens_free, mut cost_free) = (0, 0);
    if shows & SHOWS_FREE != 0 {
        (tokens_free, cost_free) = (reader.count()?, reader.count()?);
    }
    let (mut temporary, mut until) = (0, 0);
    if shows & SHOWS_TEMPORARY != 0 {
        (temporary, until) = (reader.byte()?, reader.count()?);
    }
    let credits = read_credits(reader, flags, shows, now_ms)?;
    let is_watched = |flag: u8| flags & flag.saturating_mul(SHADOW) != 0;
    let until_of = |flag: u8| {
        (temporary & flag != 0).then_some(Timestamp {
            seconds: until,
            nanos: 0,
        })
    };
    let midnight_ms = next_midnight_ms(now_ms);
    // A limit of 0 has no room at midnight either.
    let day_free = |seconds: i64, maximum: i64| match (seconds, maximum) {
        (0, 0) => Free::Never,
        (0, _) => Free::At(midnight_ms),
        (seconds, _) => Free::of(seconds, now_ms),
    };
    Ok([
        Limit {
            flag: HAS_REQUESTS,
            kind: LimitKind::RequestsPerMinute,
            maximum: requests_max,
            used: requests_used,
            held: 0,
            free: Free::of(requests_free, now_ms),
            is_watched: is_watched(HAS_REQUESTS),
            until: until_of(HAS_REQUESTS),
        },
        Limit {
            flag: HAS_TOKENS,
            kind: LimitKind::TokensPerDay,
            maximum: tokens_max,
            used: tokens_used,
            held: tokens_held,
            free: day_free(tokens_free, tokens_max),
            is_watched: is_watched(HAS_TOKENS),
            until: until_of(HAS_TOKENS),
        },
        Limit {
            flag: HAS_COST,
            kind: LimitKind::CostPerDay,
            maximum: cost_max,
            used: cost_used,
            held: cost_held,
            free: day_free(cost_free, cost_max),
            is_watched: is_watched(HAS_COST),
            until: until_of(HAS_COST),
        },
        credits,
    ])
}

/// Reads what a level shows of its credits; without any they are set in no flag.
fn read_credits(reader: &mut Reader<'_>, flags: u8, shows: u8, now_ms: i64) -> Result<Limit, StoreError> {
    let (mut maximum, mut used, mut held, mut free) = (0, 0, 0, NEVER);
    if shows & SHOWS_CREDITS != 0 {
        (maximum, used, held) = (reader.count()?, reader.count()?, reader.count()?);
        free = reader.count()?;
    }
    Ok(Limit {
        flag: HAS_CREDITS,
        kind: LimitKind::Credits,
        maximum,
        used,
        held,
        free: Free::of(free, now_ms),
        is_watched: flags & HAS_CREDITS.saturating_mul(SHADOW) != 0,
        until: None,
    })
}

impl Limit {
    fn status(&self, level: &str, now_ms: i64, is_full: bool, deciding: bool) -> LimitStatus {
        let reset_time = match self.free {
            Free::At(time_ms) => Some(timestamp_of_ms(time_ms)),
            Free::Never => None,
        };
        let has_no_room = if deciding {
            is_full
        } else {
            self.used >= self.maximum
        };
        let left = self.maximum.saturating_sub(self.used).saturating_sub(self.held);
        LimitStatus {
            tenant: level.to_owned(),
            kind: self.kind.into(),
            maximum: self.maximum,
            used: self.used,
            held: self.held,
            remaining: left.max(0),
            reset_time,
            retry_after: if is_full {
                self.free.wait(now_ms)
            } else {
                Some(duration_of_ms(0))
            },
            exceeded: has_no_room && !self.is_watched,
            would_deny: has_no_room && self.is_watched,
            shadow: self.is_watched,
            temporary_until_time: self.until,
        }
    }
}

fn next_midnight_ms(now_ms: i64) -> i64 {
    let day_ms = SECONDS_PER_DAY.saturating_mul(MS_PER_SECOND);
    now_ms.div_euclid(day_ms).saturating_add(1).saturating_mul(day_ms)
}

/// A timestamp of whole milliseconds.
pub(crate) fn timestamp_of_ms(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(MS_PER_SECOND).saturating_mul(1_000_000)).unwrap_or_default();
    Timestamp {
        seconds: ms.div_euclid(MS_PER_SECOND),
        nanos,
    }
}

/// A duration of whole milliseconds, 0 or more.
pub(crate) fn duration_of_ms(ms: i64) -> Duration {
    let Timestamp { seconds, nanos } = timestamp_of_ms(ms);
    Duration { seconds, nanos }
}
