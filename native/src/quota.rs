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

    fn money(&mut self) -> Result<i64, StoreError> {
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

/// Reads one status per level of the tenant. `exceeded` means that the limit denied the call when `deciding`, else
/// that nothing is left.
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
        let failed = reader.byte()?;
        let (requests_max, requests_used, freed_seconds) =
            (reader.count()?, reader.count()?, reader.count()?);
        let (tokens_max, tokens_used) = (reader.count()?, reader.count()?);
        let (cost_max, cost_used) = (reader.money()?, reader.money()?);
        let window_free_ms = freed_seconds.saturating_mul(MS_PER_SECOND).max(now_ms);
        let midnight_ms = next_midnight_ms(now_ms);
        let limits = [
            (
                HAS_REQUESTS,
                LimitKind::RequestsPerMinute,
                requests_max,
                requests_used,
                window_free_ms,
            ),
            (
                HAS_TOKENS,
                LimitKind::TokensPerDay,
                tokens_max,
                tokens_used,
                midnight_ms,
            ),
            (HAS_COST, LimitKind::CostPerDay, cost_max, cost_used, midnight_ms),
        ];
        for (flag, kind, maximum, used, reset_ms) in limits {
            if flags & flag == 0 {
                continue;
            }
            let denied = failed & flag != 0;
            let wait_ms = if denied {
                reset_ms.saturating_sub(now_ms)
            } else {
                0
            };
            statuses.push(LimitStatus {
                tenant: level.to_owned(),
                kind: kind.into(),
                maximum,
                used,
                held: 0,
                remaining: maximum.saturating_sub(used).max(0),
                reset_time: Some(timestamp_of_ms(reset_ms)),
                retry_after: Some(duration_of_ms(wait_ms)),
                exceeded: if deciding { denied } else { used >= maximum },
            });
        }
    }
    Ok(statuses)
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
