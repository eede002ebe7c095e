// SPDX-License-Identifier: Apache-2.0
//! An entry as the `record` script takes it, and the mark that it leaves in the store.

use crate::clock::{MS_PER_DAY, NANOS_PER_DAY};
use crate::credits::{decode_moves, push_credits};
use crate::hold::{SETTLEMENT_SIZE, read_settlement};
use crate::hold_id::HoldId;
use crate::keys;
use crate::proto::taximeter::ledger::v1::{AttributeCap, CreditMove, EntryKind, LedgerEntry};
use crate::proto::taximeter::v1::HoldSettlement;
use crate::quota::{Reader, money_pair};
use crate::record::{HASH_SIZE, first_bytes};
use crate::uuid_v7::uuid_v7_ms;

/// Bytes of a dedup mark: fingerprint, card version, occur time in nanoseconds, receive time in milliseconds, version
/// of the tenant's own prices with what was left of the attributes in its highest bits.
pub(crate) const MARK_SIZE: usize = HASH_SIZE + 4 + 8 + 8 + 4;
/// Versions are far below this; what was left of the attributes counts in units of it.
const CAP_UNIT: u32 = 1 << 30;
/// Flag of a record that settles a hold, beside that of being written to the ledger.
const HAS_HOLD: u8 = 2;
/// Flag of an entry that was applied before, so that its moves of credits are those of the first time, and of one that
/// changes a credit account.
const HAS_MOVES: u8 = 4;
const IS_CREDIT: u8 = 8;
/// Flag of a record whose hold has its mark among others.
const HAS_PLACE: u8 = 16;
/// Room for the numbers of a record with a few lines.
const NUMBERS_CAPACITY: usize = 192;

/// What the script needs to know of one entry.
pub(crate) struct ScriptArguments {
    pub(crate) keys: Vec<String>,
    pub(crate) identity: [u8; HASH_SIZE],
    pub(crate) mark: [u8; MARK_SIZE],
    pub(crate) numbers: Vec<u8>,
}

/// Keys and arguments of one entry for the `record` script.
pub(crate) fn script_arguments(
    entry: &LedgerEntry,
    partition: u16,
    to_ledger: bool,
    was_applied: bool,
) -> ScriptArguments {
    let identity = Identity::of(entry);
    let mut names = identity.bucket(entry).keys(partition);
    let dedup_count = names.len();
    names.extend(keys::levels(partition, &entry.tenant));
    let level_count = names.len().saturating_sub(dedup_count);
    let hold = HoldId::read(&entry.hold_id);
    let (day, tokens, (hi, lo)) = if entry.kind == i32::from(EntryKind::Unspecified) {
        // A hold pins the day: a call that lasts beyond midnight does not eat the next day's quota.
        let day = hold.map_or_else(|| usage_day(entry), |hold| hold.day);
        (day, entry.quota_tokens, money_pair(entry.cost_picos))
    } else {
        // No day's counters: see adjust.rs.
        (0, 0, (0, 0))
    };
    let mut flags = u8::from(to_ledger);
    let mut hold_name = String::new();
    if let Some(hold) = hold {
        let mark = hold.mark(partition, &entry.tenant);
        flags |= if mark.name.is_empty() {
            HAS_HOLD
        } else {
            HAS_HOLD | HAS_PLACE
        };
        names.push(mark.key);
        hold_name = mark.name;
    }
    if was_applied {
        flags |= HAS_MOVES;
    }
    if !entry.credit_change.is_empty() {
        flags |= IS_CREDIT;
    }
    let mut numbers = Vec::with_capacity(NUMBERS_CAPACITY);
    numbers.push(keys::packed(partition));
    numbers.push(u8::try_from(dedup_count).unwrap_or(u8::MAX));
    numbers.push(u8::try_from(level_count).unwrap_or(u8::MAX));
    numbers.push(flags);
    for number in [
        u64::try_from(day).unwrap_or_default(),
        u64::try_from(tokens).unwrap_or_default(),
        hi,
        lo,
    ] {
        numbers.extend_from_slice(&number.to_le_bytes());
    }
    numbers.extend_from_slice(hold_name.as_bytes());
    push_credits(entry, was_applied, &mut numbers);
    ScriptArguments {
        keys: names,
        identity: identity.name,
        mark: mark(entry),
        numbers,
    }
}

/// The day, since 1970, whose counters usage without a hold is added to.
pub(crate) const fn usage_day(entry: &LedgerEntry) -> i64 {
    entry.occur_time_nanos.div_euclid(NANOS_PER_DAY)
}

/// How the store knows a record.
pub(crate) struct Identity {
    /// What its mark is found by.
    pub(crate) name: [u8; HASH_SIZE],
    /// Which of as many hashes as there are it would be in by its name alone.
    hash_number: u16,
}

impl Identity {
    /// Follows from tenant and id alone.
    pub(crate) fn of(entry: &LedgerEntry) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(entry.tenant.as_bytes());
        hasher.update(&[0]);
        hasher.update(entry.record_id.as_bytes());
        let hash = hasher.finalize();
        let hash_number = hash.as_bytes().last_chunk::<2>().map_or(0, |bytes| {
            u16::from_le_bytes(*bytes)
                .checked_rem(keys::DEDUP_HASH_COUNT)
                .unwrap_or_default()
        });
        Self {
            name: first_bytes(&hash),
            hash_number,
        }
    }

    /// Where its mark lies. Never chosen by `occur_time`, so that a retry finds what the first attempt left.
    pub(crate) fn bucket(&self, entry: &LedgerEntry) -> Bucket {
        if let Some(id_ms) = uuid_v7_ms(&entry.record_id) {
            let day = id_ms.div_euclid(MS_PER_DAY);
            return Bucket::OfDay(day, self.hash_of_moment(id_ms));
        }
        let day = entry.receive_time_ms.div_euclid(MS_PER_DAY);
        Bucket::OfGeneration(day.div_euclid(keys::GENERATION_DAYS), self.hash_number)
    }

    /// The hashes have their turns, each window a few of them: in the long run all have as many marks.
    fn hash_of_moment(&self, id_ms: i64) -> u16 {
        let hash_count = i64::from(keys::DEDUP_HASH_COUNT);
        let first = id_ms
            .div_euclid(keys::DEDUP_WINDOW_MS)
            .wrapping_mul(i64::from(keys::DEDUP_WINDOW_HASHES))
            .rem_euclid(hash_count);
        let within = self.hash_number.checked_rem(keys::DEDUP_WINDOW_HASHES);
        u16::try_from(first)
            .unwrap_or_default()
            .saturating_add(within.unwrap_or_default())
    }
}

/// Which hash has the mark of an id: that of a day within the id, or of a generation in which it came, and its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bucket {
    OfDay(i64, u16),
    OfGeneration(i64, u16),
}

impl Bucket {
    /// Where marks can be; the last one is where a new one goes. Ids without a date live in generations: any clock
    /// within a generation of the writer's finds them.
    pub(crate) fn keys(self, partition: u16) -> Vec<String> {
        match self {
            Self::OfDay(day, hash) => vec![keys::dedup_day(partition, day, hash)],
            Self::OfGeneration(generation, hash) => [
                generation.saturating_sub(1),
                generation.saturating_add(1),
                generation,
            ]
            .map(|generation| keys::dedup_generation(partition, generation, hash))
            .to_vec(),
        }
    }
}

/// What the store keeps of a record to know it again.
pub(crate) fn mark(entry: &LedgerEntry) -> [u8; MARK_SIZE] {
    let mut mark = [0; MARK_SIZE];
    let packed = |number: i64| u32::try_from(number).unwrap_or_default();
    let own = packed(i64::from(entry.attribute_cap))
        .wrapping_mul(CAP_UNIT)
        .wrapping_add(packed(entry.tenant_prices_version));
    let parts = entry
        .fingerprint
        .iter()
        .copied()
        .chain(packed(entry.rate_card_version).to_le_bytes())
        .chain(entry.occur_time_nanos.to_le_bytes())
        .chain(entry.receive_time_ms.to_le_bytes())
        .chain(own.to_le_bytes());
    mark.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    mark
}

/// What the first application of an id left behind.
pub(crate) struct FirstTime {
    pub(crate) rate_card_version: i64,
    pub(crate) occur_time_nanos: i64,
    pub(crate) receive_time_ms: i64,
    pub(crate) tenant_prices_version: i64,
    pub(crate) attribute_cap: AttributeCap,
    /// What settling its hold came to.
    pub(crate) hold: Option<HoldSettlement>,
    /// What it did to credits.
    pub(crate) credit_moves: Vec<CreditMove>,
}

/// Reads a mark; None when it is damaged. `has_hold`: its record settles one.
pub(crate) fn read_mark(mark: &[u8], has_hold: bool) -> Option<FirstTime> {
    let (_, rest) = mark.split_first_chunk::<HASH_SIZE>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (occur, rest) = rest.split_first_chunk::<8>()?;
    let (receive, rest) = rest.split_first_chunk::<8>()?;
    // Marks of versions that knew no own prices end here.
    let (own, rest) = rest
        .split_first_chunk::<4>()
        .map_or(([0; 4], rest), |(own, rest)| (*own, rest));
    let own = u32::from_le_bytes(own);
    let (cap, own_version) = (own.checked_div(CAP_UNIT)?, own.checked_rem(CAP_UNIT)?);
    let (settlement, moves) = if has_hold {
        rest.split_at_checked(SETTLEMENT_SIZE).unwrap_or((rest, &[]))
    } else {
        rest.split_at(0)
    };
    Some(FirstTime {
        hold: read_settlement(&mut Reader(settlement)).ok(),
        credit_moves: decode_moves(moves).unwrap_or_default(),
        rate_card_version: i64::from(u32::from_le_bytes(*version)),
        occur_time_nanos: i64::from_le_bytes(*occur),
        receive_time_ms: i64::from_le_bytes(*receive),
        tenant_prices_version: i64::from(own_version),
        attribute_cap: AttributeCap::try_from(i32::try_from(cap).ok()?).ok()?,
    })
}
