// SPDX-License-Identifier: Apache-2.0
//! One record on its way: identity, price, ledger entry, script arguments.

use std::sync::Arc;

use taximeter_pricing::{Call, Line, PriceError, quota_tokens, unpriced_lines};

use crate::catalogue::{Catalogue, Entry, OwnPrices};
use crate::clock::{MS_PER_DAY, NANOS_PER_DAY, NANOS_PER_MS};
use crate::error::{Code, Failure};
use crate::keys;
use crate::proto::taximeter::ledger::v1::{Attribute, EntryKind, LedgerEntry, LedgerLine};
use crate::proto::taximeter::v1::usage_record::Payload;
use crate::proto::taximeter::v1::{ErrorReason, UsageRecord};
use crate::quota::money_pair;
use crate::validate;

const HASH_SIZE: usize = 16;
/// Bytes of a dedup mark: fingerprint, card version, occur time in nanoseconds, receive time in milliseconds, version
/// of the tenant's own prices.
const MARK_SIZE: usize = HASH_SIZE + 4 + 8 + 8 + 4;

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
    let occur_time_ms = occur_time_nanos.div_euclid(NANOS_PER_MS);
    let prices = PricesInForce {
        card: catalogue.at(occur_time_ms),
        own: catalogue
            .own_prices_at(&record.tenant, occur_time_ms)
            .map(AsRef::as_ref),
    };
    let mut entry = unpriced_entry(record, &classes, occur_time_nanos, now_ms);
    entry.occur_time_assigned = sent_nanos.is_none();
    price_entry(&mut entry, prices, &classes, path)?;
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

/// What a record is priced by.
#[derive(Clone, Copy)]
struct PricesInForce<'a> {
    card: Option<&'a Entry>,
    own: Option<&'a OwnPrices>,
}

/// Sets lines, card and sums of an entry. Not refused for a missing price; only for a cost beyond 2^63 - 1.
fn price_entry(
    entry: &mut LedgerEntry,
    in_force: PricesInForce<'_>,
    classes: &[(&str, i64)],
    path: &str,
) -> Result<(), Failure> {
    let out_of_range = |_: PriceError| {
        let message = format!("{path}.usage: costs more than 2^63 - 1 pico-units");
        Failure::new(Code::OutOfRange, ErrorReason::CostOutOfRange, message)
    };
    let Some(card) = in_force.card else {
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
    let priced = card
        .card
        .prices
        .charge(&call, in_force.own.map(OwnPrices::prices))
        .map_err(out_of_range)?;
    if let Some(own) = in_force.own {
        entry.tenant_prices_version = own.version;
        entry.tenant_prices_id = own.id_bytes().to_vec();
        entry.list_cost_picos = priced.list_cost_picos;
    }
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
    let name = |class: Option<Arc<str>>| class.map(|class| class.to_string()).unwrap_or_default();
    let charged = LedgerLine {
        usage_class: line.usage_class.to_string(),
        priced_as: name(line.priced_as),
        quantity: line.quantity,
        billed_quantity: line.billed_quantity,
        amount_picos: line.amount_picos,
        // A unit is only sold where there is a price.
        per: if line.unpriced { 0 } else { line.per },
        cost_picos: line.cost_picos,
        unpriced: line.unpriced,
        ..Default::default()
    };
    match line.list {
        None => charged,
        Some(list) => LedgerLine {
            list_per: if list.priced_as.is_some() { list.per } else { 0 },
            list_priced_as: name(list.priced_as),
            list_billed_quantity: list.billed_quantity,
            list_amount_picos: list.amount_picos,
            list_cost_picos: list.cost_picos,
            ..charged
        },
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
    let packed = |version: i64| u32::try_from(version).unwrap_or_default().to_le_bytes();
    let parts = entry
        .fingerprint
        .iter()
        .copied()
        .chain(packed(entry.rate_card_version))
        .chain(entry.occur_time_nanos.to_le_bytes())
        .chain(entry.receive_time_ms.to_le_bytes())
        .chain(packed(entry.tenant_prices_version));
    mark.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    mark
}

/// What the first application of an id left behind.
pub(crate) struct FirstTime {
    pub(crate) rate_card_version: i64,
    pub(crate) occur_time_nanos: i64,
    pub(crate) receive_time_ms: i64,
    tenant_prices_version: i64,
}

/// Reads a mark; None when it is damaged.
pub(crate) fn read_mark(mark: &[u8]) -> Option<FirstTime> {
    let (_, rest) = mark.split_first_chunk::<HASH_SIZE>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (occur, rest) = rest.split_first_chunk::<8>()?;
    let (receive, rest) = rest.split_first_chunk::<8>()?;
    // Marks of versions that knew no own prices end here.
    let own = rest.first_chunk::<4>().copied().unwrap_or_default();
    Some(FirstTime {
        rate_card_version: i64::from(u32::from_le_bytes(*version)),
        occur_time_nanos: i64::from_le_bytes(*occur),
        receive_time_ms: i64::from_le_bytes(*receive),
        tenant_prices_version: i64::from(u32::from_le_bytes(own)),
    })
}

/// Prices an entry again as it was priced the first time: cards never change, so the version and the time suffice.
pub(crate) fn price_again(
    entry: &LedgerEntry,
    first: &FirstTime,
    catalogue: &Catalogue,
    path: &str,
) -> Result<LedgerEntry, Failure> {
    let unseen = || {
        let message = "this instance has not seen the record's prices yet";
        Failure::new(Code::Unavailable, ErrorReason::CatalogueStale, message)
    };
    let card = match first.rate_card_version {
        0 => None,
        version => Some(catalogue.version(version).ok_or_else(unseen)?),
    };
    let own = match first.tenant_prices_version {
        0 => None,
        version => Some(catalogue.own_prices_version(version).ok_or_else(unseen)?.as_ref()),
    };
    let mut again = entry.clone();
    again.occur_time_nanos = first.occur_time_nanos;
    again.receive_time_ms = first.receive_time_ms;
    again.rate_card_id.clear();
    again.rate_card_row.clear();
    again.rate_card_version = 0;
    again.cost_picos = 0;
    again.tenant_prices_id.clear();
    again.tenant_prices_version = 0;
    again.list_cost_picos = 0;
    let lines = std::mem::take(&mut again.lines);
    let classes: Vec<(&str, i64)> = lines
        .iter()
        .map(|line| (line.usage_class.as_str(), line.quantity))
        .collect();
    price_entry(&mut again, PricesInForce { card, own }, &classes, path)?;
    Ok(again)
}
