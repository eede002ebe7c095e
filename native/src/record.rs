// SPDX-License-Identifier: Apache-2.0
//! One record on its way: identity, price, ledger entry, script arguments.

use std::sync::Arc;

use taximeter_pricing::{Call, Line, PriceError, quota_tokens, unpriced_lines};

use crate::catalogue::{Catalogue, Entry, OwnPrices};
use crate::clock::NANOS_PER_MS;
use crate::error::{Code, Failure};
use crate::fingerprint::fingerprint;
use crate::hold_id::{HoldId, SealKey};
use crate::keys;
use crate::proto::taximeter::ledger::v1::{Attribute, LedgerEntry, LedgerLine};
use crate::proto::taximeter::v1::{ErrorReason, UsageQuality, UsageRecord};
use crate::record_path::RecordPath;
use crate::script_arguments::FirstTime;
use crate::used::Used;
use crate::validate;

/// Bytes of the hashes that name payloads and records.
pub(crate) const HASH_SIZE: usize = 16;

/// A priced record, ready to be applied.
pub(crate) struct Priced {
    pub(crate) entry: LedgerEntry,
    pub(crate) partition: u16,
}

/// Validates and prices a record by the catalogue.
pub(crate) fn price_record(
    record: &UsageRecord,
    path: RecordPath,
    catalogue: &Catalogue,
    seal_key: &SealKey,
    now_ms: i64,
    now_nanos: i64,
) -> Result<Priced, Failure> {
    let used = validate::record(record, path, seal_key, now_ms)?;
    let sent_nanos = sent_nanos(record);
    let occur_time_nanos = sent_nanos.unwrap_or(now_nanos);
    // A hold pins the prices that its estimate was priced by.
    let price_time_ms = HoldId::read(&record.hold_id).map_or_else(
        || occur_time_nanos.div_euclid(NANOS_PER_MS),
        |hold| hold.card_time_ms,
    );
    let prices = PricesInForce {
        card: catalogue.at(price_time_ms),
        own: catalogue
            .own_prices_at(&record.tenant, price_time_ms)
            .map(AsRef::as_ref),
    };
    let mut entry = unpriced_entry(record, &used, occur_time_nanos, now_ms);
    entry.occur_time_assigned = sent_nanos.is_none();
    price_entry(&mut entry, prices, &used.classes, path)?;
    Ok(Priced {
        partition: keys::partition_of(&entry.tenant),
        entry,
    })
}

/// When the caller says that it was, in nanoseconds since 1970: what is valid, and near now, fits.
fn sent_nanos(record: &UsageRecord) -> Option<i64> {
    let nanos = record.occur_time.as_ref().and_then(validate::timestamp_nanos)?;
    i64::try_from(nanos).ok()
}

fn unpriced_entry(record: &UsageRecord, used: &Used<'_>, occur_time_nanos: i64, now_ms: i64) -> LedgerEntry {
    let mut attributes: Vec<Attribute> = record
        .attributes
        .iter()
        .map(|(key, value)| Attribute {
            key: key.clone(),
            value: value.clone(),
        })
        .collect();
    attributes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
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
        calls: used.calls,
        hold_id: record.hold_id.clone(),
        ..Default::default()
    };
    if let Some((reported, _)) = &used.reported {
        entry.usage_provider.clone_from(&reported.provider);
        entry.usage_api.clone_from(&reported.api);
        if !reported.iteration_model.is_empty() {
            // Another model of the same answer is another payload.
            entry.usage_api = format!("{}#{}", reported.api, reported.iteration_model);
        }
        entry.usage_json.clone_from(&reported.usage_json);
    }
    entry.fingerprint = fingerprint(&entry, &used.classes, sent_nanos(record)).to_vec();
    // What the caller said ends here; what its provider's answer adds follows from it.
    add_served(&mut entry, used);
    entry
}

/// What the provider's answer adds.
fn add_served(entry: &mut LedgerEntry, used: &Used<'_>) {
    let Some((_, normalised)) = &used.reported else {
        return;
    };
    used.replace_asked(
        &mut entry.provider,
        [&mut entry.tier, &mut entry.region, &mut entry.speed],
    );
    entry.usage_flags = normalised.flags.iter().map(|flag| (*flag).to_owned()).collect();
    let is_reported = entry.quality != i32::from(UsageQuality::Estimated);
    if normalised.is_inferred() && is_reported {
        entry.quality = UsageQuality::Inferred.into();
    }
}

/// The fingerprint of an entry that no caller sent, from its bytes.
pub(crate) fn payload_fingerprint(payload: &[u8]) -> Vec<u8> {
    first_bytes(&blake3::hash(payload)).to_vec()
}

/// The first bytes of a hash.
pub(crate) fn first_bytes(hash: &blake3::Hash) -> [u8; HASH_SIZE] {
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
    path: RecordPath,
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
    // By their bytes: a shared text that is displayed is written piece by piece.
    let name = |class: Option<Arc<str>>| class.map(|class| (*class).to_owned()).unwrap_or_default();
    let charged = LedgerLine {
        usage_class: (*line.usage_class).to_owned(),
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

/// Prices an entry again as it was priced the first time: cards never change, so the version and the time suffice.
pub(crate) fn price_again(
    entry: &LedgerEntry,
    first: &FirstTime,
    catalogue: &Catalogue,
    path: RecordPath,
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
