// SPDX-License-Identifier: Apache-2.0
//! One record on its way: identity, price, ledger entry, script arguments, answer.

use std::borrow::Cow;

use taximeter_pricing::{Call, Line, PriceError, RateCard, decimal_string, quota_tokens, unpriced_lines};

use crate::catalogue::{Catalogue, Entry};
use crate::clock::{MS_PER_DAY, NANOS_PER_DAY, NANOS_PER_MS};
use crate::error::{Code, Failure};
use crate::keys;
use crate::proto::taximeter::ledger::v1::{Attribute, EntryKind, LedgerEntry, LedgerLine};
use crate::proto::taximeter::v1::usage_record::Payload;
use crate::proto::taximeter::v1::{
    CostLine, Durability, ErrorReason, LimitStatus, PricingState, RecordResponse, UsageRecord,
};
use crate::quota::{money, money_pair};
use crate::validate;

const HASH_SIZE: usize = 16;
/// Bytes of a dedup mark: fingerprint, card version, occur time in nanoseconds, receive time in milliseconds.
const MARK_SIZE: usize = HASH_SIZE + 4 + 8 + 8;

/// A priced record, ready to be applied.
pub(crate) struct Priced {
    pub(crate) entry: LedgerEntry,
    pub(crate) partition: u16,
}

/// Validates and prices a record by the catalogue.
pub(crate) fn price_record(
    record: &UsageRecord,
    path: &str,
    catalogue: &Catalogue,
    now_ms: i64,
    now_nanos: i64,
) -> Result<Priced, Failure> {
    let classes = validate::record(record, path, now_ms)?;
    let sent_nanos = record.occur_time.as_ref().and_then(validate::timestamp_nanos);
    let occur_time_nanos = sent_nanos
        .and_then(|nanos| i64::try_from(nanos).ok())
        .unwrap_or(now_nanos);
    let card = catalogue.at(occur_time_nanos.div_euclid(NANOS_PER_MS));
    let mut entry = unpriced_entry(record, &classes, occur_time_nanos, now_ms);
    entry.occur_time_assigned = sent_nanos.is_none();
    price_entry(&mut entry, card, &classes, path)?;
    Ok(Priced {
        partition: keys::partition_of(&entry.tenant),
        entry,
    })
}

fn unpriced_entry(
    record: &UsageRecord,
    classes: &[(&str, i64)],
    occur_time_nanos: i64,
    now_ms: i64,
) -> LedgerEntry {
    let mut attributes: Vec<Attribute> = record
        .attributes
        .iter()
        .map(|(key, value)| Attribute {
            key: key.clone(),
            value: value.clone(),
        })
        .collect();
    attributes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let calls = match &record.payload {
        Some(Payload::Usage(usage)) => usage.calls.max(1),
        _ => 1,
    };
    let mut entry = LedgerEntry {
        tenant: record.tenant.clone(),
        record_id: record.record_id.clone(),
        occur_time_nanos,
        receive_time_ms: now_ms,
        model: record.model.clone(),
        provider: record.provider.clone(),
        tier: record.tier.clone(),
        region: record.region.clone(),
        speed: record.speed.clone(),
        attributes,
        quality: record.quality,
        calls,
        ..Default::default()
    };
    let sent_nanos = record.occur_time.as_ref().and_then(validate::timestamp_nanos);
    entry.fingerprint = fingerprint(&entry, classes, sent_nanos).to_vec();
    entry
}

/// Hash of everything the caller said. Texts carry their length, so that no two payloads look alike.
fn fingerprint(
    entry: &LedgerEntry,
    classes: &[(&str, i64)],
    occur_time_nanos: Option<i128>,
) -> [u8; HASH_SIZE] {
    let mut hasher = blake3::Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for value in [
        &entry.tenant,
        &entry.model,
        &entry.provider,
        &entry.tier,
        &entry.region,
        &entry.speed,
    ] {
        text(value);
    }
    for attribute in &entry.attributes {
        text(&attribute.key);
        text(&attribute.value);
    }
    text("usage");
    let mut sorted = classes.to_vec();
    sorted.sort_unstable();
    for (class, count) in sorted {
        text(class);
        text(&count.to_string());
    }
    text("context");
    text(&entry.calls.to_string());
    text(&entry.quality.to_string());
    text(&occur_time_nanos.map_or_else(String::new, |nanos| nanos.to_string()));
    first_bytes(&hasher.finalize())
}

/// The fingerprint of an entry that no caller sent, from its bytes.
pub(crate) fn payload_fingerprint(payload: &[u8]) -> Vec<u8> {
    first_bytes(&blake3::hash(payload)).to_vec()
}

fn first_bytes(hash: &blake3::Hash) -> [u8; HASH_SIZE] {
    hash.as_bytes()
        .first_chunk::<HASH_SIZE>()
        .copied()
        .unwrap_or_default()
}

/// Sets lines, card and sums of an entry. Not refused for a missing price; only for a cost beyond 2^63 - 1.
fn price_entry(
    entry: &mut LedgerEntry,
    card: Option<&Entry>,
    classes: &[(&str, i64)],
    path: &str,
) -> Result<(), Failure> {
    let out_of_range = |_: PriceError| {
        let message = format!("{path}.usage: costs more than 2^63 - 1 pico-units");
        Failure::new(Code::OutOfRange, ErrorReason::CostOutOfRange, message)
    };
    let Some(card) = card else {
        entry.lines = unpriced_lines(classes).into_iter().map(ledger_line).collect();
        entry.quota_tokens = quota_tokens(classes);
        return Ok(());
    };
    let call = Call {
        model: &entry.model,
        provider: &entry.provider,
        tier: &entry.tier,
        region: &entry.region,
        speed: &entry.speed,
        occur_time_nanos: entry.occur_time_nanos,
        calls: entry.calls,
        usage: classes,
    };
    let priced = card.card.prices.price(&call).map_err(out_of_range)?;
    priced
        .row
        .as_deref()
        .unwrap_or_default()
        .clone_into(&mut entry.rate_card_row);
    entry.quota_tokens = priced.quota_tokens;
    entry.cost_picos = priced.cost_picos;
    entry.lines = priced.lines.into_iter().map(ledger_line).collect();
    entry.rate_card_id.clone_from(&card.card.id_bytes);
    entry.rate_card_version = card.version;
    Ok(())
}

pub(crate) fn ledger_line(line: Line) -> LedgerLine {
    LedgerLine {
        usage_class: line.usage_class.to_string(),
        priced_as: line.priced_as.map(|class| class.to_string()).unwrap_or_default(),
        quantity: line.quantity,
        billed_quantity: line.billed_quantity,
        amount_picos: line.amount_picos,
        // A unit is only sold where there is a price.
        per: if line.unpriced { 0 } else { line.per },
        cost_picos: line.cost_picos,
        unpriced: line.unpriced,
        ..Default::default()
    }
}

/// What the script needs to know of one entry.
pub(crate) struct ScriptArguments {
    pub(crate) keys: Vec<String>,
    pub(crate) identity: [u8; HASH_SIZE],
    pub(crate) mark: [u8; MARK_SIZE],
    pub(crate) numbers: Vec<u8>,
}

/// Keys and arguments of one entry for the `record` script.
pub(crate) fn script_arguments(entry: &LedgerEntry, partition: u16, to_ledger: bool) -> ScriptArguments {
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
    let mut names = dedup_keys(entry, partition, hash_number);
    let dedup_count = names.len();
    names.extend(keys::levels(partition, &entry.tenant));
    let level_count = names.len().saturating_sub(dedup_count);
    let (day, tokens, (hi, lo)) = if entry.kind == i32::from(EntryKind::Adjustment) {
        // No day's counters: see adjust.rs.
        (0, 0, (0, 0))
    } else {
        let day = entry.occur_time_nanos.div_euclid(NANOS_PER_DAY);
        (day, entry.quota_tokens, money_pair(entry.cost_picos))
    };
    let mut numbers = Vec::with_capacity(35);
    numbers.push(u8::try_from(dedup_count).unwrap_or(u8::MAX));
    numbers.push(u8::try_from(level_count).unwrap_or(u8::MAX));
    numbers.push(u8::from(to_ledger));
    for number in [
        u64::try_from(day).unwrap_or_default(),
        u64::try_from(tokens).unwrap_or_default(),
        hi,
        lo,
    ] {
        numbers.extend_from_slice(&number.to_le_bytes());
    }
    ScriptArguments {
        keys: names,
        identity: first_bytes(&hash),
        mark: mark(entry),
        numbers,
    }
}

/// Where marks of this id can be; the last one is where a new one goes. Never chosen by `occur_time`, so that a retry
/// finds what the first attempt left. Ids without a date live in generations: any clock within a generation of the
/// writer's finds them.
fn dedup_keys(entry: &LedgerEntry, partition: u16, hash: u16) -> Vec<String> {
    if let Some(id_ms) = validate::uuid_v7_ms(&entry.record_id) {
        return vec![keys::dedup_day(partition, id_ms.div_euclid(MS_PER_DAY), hash)];
    }
    let day = entry.receive_time_ms.div_euclid(MS_PER_DAY);
    let generation = day.div_euclid(keys::GENERATION_DAYS);
    [
        generation.saturating_sub(1),
        generation.saturating_add(1),
        generation,
    ]
    .map(|generation| keys::dedup_generation(partition, generation, hash))
    .to_vec()
}

fn mark(entry: &LedgerEntry) -> [u8; MARK_SIZE] {
    let mut mark = [0; MARK_SIZE];
    let version = u32::try_from(entry.rate_card_version).unwrap_or_default();
    let parts = entry
        .fingerprint
        .iter()
        .copied()
        .chain(version.to_le_bytes())
        .chain(entry.occur_time_nanos.to_le_bytes())
        .chain(entry.receive_time_ms.to_le_bytes());
    mark.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    mark
}

/// What the first application of an id left behind.
pub(crate) struct FirstTime {
    pub(crate) rate_card_version: i64,
    pub(crate) occur_time_nanos: i64,
    pub(crate) receive_time_ms: i64,
}

/// Reads a mark; None when it is damaged.
pub(crate) fn read_mark(mark: &[u8]) -> Option<FirstTime> {
    let (_, rest) = mark.split_first_chunk::<HASH_SIZE>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (occur, rest) = rest.split_first_chunk::<8>()?;
    let (receive, _) = rest.split_first_chunk::<8>()?;
    Some(FirstTime {
        rate_card_version: i64::from(u32::from_le_bytes(*version)),
        occur_time_nanos: i64::from_le_bytes(*occur),
        receive_time_ms: i64::from_le_bytes(*receive),
    })
}

/// Prices an entry again as it was priced the first time: cards never change, so the version and the time suffice.
pub(crate) fn price_again(
    entry: &LedgerEntry,
    first: &FirstTime,
    catalogue: &Catalogue,
    path: &str,
) -> Result<LedgerEntry, Failure> {
    let card = match first.rate_card_version {
        0 => None,
        version => Some(catalogue.version(version).ok_or_else(|| {
            let message = "this instance has not seen the record's rate card yet";
            Failure::new(Code::Unavailable, ErrorReason::CatalogueStale, message)
        })?),
    };
    let mut again = entry.clone();
    again.occur_time_nanos = first.occur_time_nanos;
    again.receive_time_ms = first.receive_time_ms;
    again.rate_card_id.clear();
    again.rate_card_row.clear();
    again.rate_card_version = 0;
    again.cost_picos = 0;
    let lines = std::mem::take(&mut again.lines);
    let classes: Vec<(&str, i64)> = lines
        .iter()
        .map(|line| (line.usage_class.as_str(), line.quantity))
        .collect();
    price_entry(&mut again, card, &classes, path)?;
    Ok(again)
}

/// The answer to Record.
pub(crate) fn response(
    entry: &LedgerEntry,
    card: Option<&RateCard>,
    limits: Vec<LimitStatus>,
    durability: Durability,
    duplicate: bool,
) -> RecordResponse {
    RecordResponse {
        duplicate,
        cost: Some(money(i128::from(entry.cost_picos), currency(card))),
        rate_card_id: hex(&entry.rate_card_id),
        rate_card_row: entry.rate_card_row.clone(),
        pricing_state: pricing_state(entry.lines.iter().map(|line| line.unpriced)).into(),
        lines: entry.lines.iter().map(cost_line).collect(),
        limits,
        durability: durability.into(),
    }
}

fn currency(card: Option<&RateCard>) -> Cow<'_, str> {
    Cow::Borrowed(card.map_or("USD", RateCard::currency))
}

/// State of a record with these lines.
pub(crate) fn pricing_state(unpriced: impl Iterator<Item = bool>) -> PricingState {
    let (mut some, mut all) = (false, true);
    let mut any_line = false;
    for line_unpriced in unpriced {
        any_line = true;
        some |= line_unpriced;
        all &= line_unpriced;
    }
    match (any_line && all, some) {
        (true, _) => PricingState::Unpriced,
        (false, true) => PricingState::PartlyPriced,
        (false, false) => PricingState::Priced,
    }
}

/// A line as callers see it.
pub(crate) fn cost_line(line: &LedgerLine) -> CostLine {
    CostLine {
        usage_class: line.usage_class.clone(),
        priced_as: line.priced_as.clone(),
        quantity: line.quantity,
        billed_quantity: line.billed_quantity,
        unit_price: if line.unpriced {
            String::new()
        } else {
            decimal_string(line.amount_picos)
        },
        per: line.per,
        cost_picos: line.cost_picos,
        unpriced: line.unpriced,
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(
        String::with_capacity(bytes.len().saturating_mul(2)),
        |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        },
    )
}
