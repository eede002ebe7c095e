// SPDX-License-Identifier: Apache-2.0
//! Corrections of records, posted by the same durable path as the records: adjustments of what they cost, and what
//! takes records back or amends them.
//!
//! A correction names its record and is identified by what it corrects, so posting it again changes nothing. It
//! touches no counter of a quota: what a tenant may do today does not depend on what another day should have cost.
//! While the store is away none is accepted, because what is to be corrected is then not known for certain.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use serde::Deserialize;

use crate::access::decode_hex;
use crate::archive::Stored;
use crate::clock;
use crate::credits::encoded_first;
use crate::engine::{Engine, journal_failure, store_failure};
use crate::error::Failure;
use crate::keys;
use crate::proto::taximeter::ledger::v1::{Attribute, CreditMove, EntryKind, LedgerEntry, LedgerLine};
use crate::record::payload_fingerprint;
use crate::reopen::{CALL_LIMIT, REPLAY_COUNT};
use crate::script_call::{Application, Outcome, apply_each};
use crate::store::{Store, StoreError};

const NANOS_PER_MICRO: i64 = 1_000;
const SHA256_SIZE: usize = 32;

/// What became of an adjustment.
#[derive(Clone, Copy)]
pub(crate) enum Posted {
    /// It is in the ledger now.
    Applied,
    /// It had been posted before.
    Before,
    /// The record has been adjusted otherwise meanwhile.
    Conflict,
}

impl Posted {
    /// Its name for Python.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Before => "before",
            Self::Conflict => "conflict",
        }
    }
}

/// An adjustment as Python hands it over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustmentDocument {
    kind: CorrectionKind,
    /// Calls that the correction adds, negative where it takes some back.
    #[serde(default)]
    calls: i64,
    tenant: String,
    record_id: String,
    adjusted_record_id: String,
    occur_time_us: i64,
    model: String,
    provider: String,
    tier: String,
    region: String,
    speed: String,
    attributes: BTreeMap<String, String>,
    quality: i32,
    rate_card_id: String,
    rate_card_version: i64,
    rate_card_row: String,
    /// 0 and empty where the card alone is charged by.
    tenant_prices_version: i64,
    tenant_prices_id: String,
    note: String,
    author: String,
    lines: Vec<LineDocument>,
    #[serde(default)]
    credit_returns: Vec<ReturnDocument>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CorrectionKind {
    Adjustment,
    Void,
    Amendment,
}

impl From<CorrectionKind> for EntryKind {
    fn from(kind: CorrectionKind) -> Self {
        match kind {
            CorrectionKind::Adjustment => Self::Adjustment,
            CorrectionKind::Void => Self::Void,
            CorrectionKind::Amendment => Self::Amendment,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineDocument {
    /// Quantities that the correction adds, negative where it takes some back; adjustments add none.
    #[serde(default)]
    quantity: i64,
    #[serde(default)]
    billed_quantity: i64,
    #[serde(default)]
    calls: i64,
    #[serde(default)]
    unpriced: bool,
    #[serde(default)]
    list_billed_quantity: i64,
    usage_class: String,
    priced_as: String,
    amount_picos: i64,
    per: i64,
    adjusted_quantity: i64,
    previous_cost_picos: i64,
    cost_picos: i64,
    prices_unpriced: bool,
    list_priced_as: String,
    list_amount_picos: i64,
    list_per: i64,
    list_cost_picos: i64,
    /// What credits are debited for the line anew.
    #[serde(default)]
    credit_cost_picos: i64,
}

/// What is given back of credits that had been debited.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReturnDocument {
    /// Line of the correction, from 1; 0 for none.
    line: i32,
    /// Empty for what no grant covered.
    grant_id: String,
    microcredits: i64,
}

/// Reads adjustments. `None` when the text is not a list of them, or a sum exceeds `i64`.
pub(crate) fn parse(json: &[u8]) -> Option<Vec<LedgerEntry>> {
    let documents: Vec<AdjustmentDocument> = serde_json::from_slice(json).ok()?;
    documents.into_iter().map(entry_of).collect()
}

fn entry_of(document: AdjustmentDocument) -> Option<LedgerEntry> {
    let sum = |cost: fn(&LineDocument) -> i64| {
        let mut costs = document.lines.iter().map(cost);
        costs.try_fold(0_i64, i64::checked_add)
    };
    let cost_picos = sum(|line| line.cost_picos)?;
    let has_list_price = document.tenant_prices_version != 0;
    let list_cost_picos = if has_list_price {
        sum(|line| line.list_cost_picos)?
    } else {
        0
    };
    let tenant_prices_id = if has_list_price {
        sha256_of(&document.tenant_prices_id)?
    } else {
        Vec::new()
    };
    let mut entry = LedgerEntry {
        tenant: document.tenant,
        record_id: document.record_id,
        occur_time_nanos: document.occur_time_us.checked_mul(NANOS_PER_MICRO)?,
        model: document.model,
        provider: document.provider,
        tier: document.tier,
        region: document.region,
        speed: document.speed,
        attributes: document
            .attributes
            .into_iter()
            .map(|(key, value)| Attribute { key, value })
            .collect(),
        quality: document.quality,
        rate_card_id: sha256_of(&document.rate_card_id)?,
        rate_card_version: document.rate_card_version,
        rate_card_row: document.rate_card_row,
        lines: document
            .lines
            .into_iter()
            .map(|line| line_of(line, has_list_price))
            .collect(),
        cost_picos,
        tenant_prices_version: document.tenant_prices_version,
        tenant_prices_id,
        list_cost_picos,
        kind: EntryKind::from(document.kind).into(),
        calls: document.calls,
        adjusted_record_id: document.adjusted_record_id,
        credit_returns: document.credit_returns.into_iter().map(move_of).collect(),
        ..Default::default()
    };
    // Who posted it, when and why do not tell two corrections apart; what they correct does.
    entry.fingerprint = payload_fingerprint(&entry.encode_to_vec());
    entry.receive_time_ms = clock::now_ms();
    entry.note = document.note;
    entry.author = document.author;
    Some(entry)
}

/// The bytes of an id in hex, none of an empty one: no card was in force.
fn sha256_of(id: &str) -> Option<Vec<u8>> {
    if id.is_empty() {
        return Some(Vec::new());
    }
    Some(decode_hex::<SHA256_SIZE>(id)?.to_vec())
}

fn move_of(document: ReturnDocument) -> CreditMove {
    CreditMove {
        line: document.line,
        grant_id: document.grant_id,
        given: document.microcredits.max(0),
        taken: document.microcredits.saturating_neg().max(0),
    }
}

fn line_of(document: LineDocument, has_list_price: bool) -> LedgerLine {
    let line = LedgerLine {
        usage_class: document.usage_class,
        priced_as: document.priced_as,
        quantity: document.quantity,
        calls: document.calls,
        billed_quantity: document.billed_quantity,
        unpriced: document.unpriced,
        amount_picos: document.amount_picos,
        per: document.per,
        cost_picos: document.cost_picos,
        adjusted_quantity: document.adjusted_quantity,
        previous_cost_picos: document.previous_cost_picos,
        prices_unpriced: document.prices_unpriced,
        credit_cost_picos: document.credit_cost_picos,
        ..Default::default()
    };
    if !has_list_price {
        return line;
    }
    LedgerLine {
        list_priced_as: document.list_priced_as,
        list_billed_quantity: document.list_billed_quantity,
        list_amount_picos: document.list_amount_picos,
        list_per: document.list_per,
        list_cost_picos: document.list_cost_picos,
        ..line
    }
}

impl Engine {
    /// Posts adjustments, each durable once answered. A failure says nothing about any of them: post them again.
    pub(crate) async fn post_adjustments(&self, entries: &[LedgerEntry]) -> Result<Vec<Posted>, Failure> {
        let mut groups: BTreeMap<u16, Vec<(usize, &LedgerEntry)>> = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            let partition = keys::partition_of(&entry.tenant);
            groups.entry(partition).or_default().push((place, entry));
        }
        let mut posted = vec![Posted::Conflict; entries.len()];
        for (partition, group) in groups {
            for batch in group.chunks(REPLAY_COUNT) {
                for (place, outcome) in self.post_batch(partition, batch).await? {
                    if let Some(slot) = posted.get_mut(place) {
                        *slot = outcome;
                    }
                }
            }
        }
        Ok(posted)
    }

    /// Applies entries of one partition that admins make. Those before a failure may have been applied.
    pub(crate) async fn apply_now<'a>(
        &self,
        store: &Arc<Store>,
        partition: u16,
        entries: impl IntoIterator<Item = &'a LedgerEntry>,
    ) -> Result<Vec<Result<(u64, Outcome), StoreError>>, Failure> {
        let applications: Vec<Application<'_>> = entries
            .into_iter()
            .map(|entry| Application {
                entry,
                archived_id: None,
                was_applied: false,
            })
            .collect();
        apply_each(store, &self.functions, partition, &applications, CALL_LIMIT)
            .await
            .map_err(|error| {
                if error.is_loss() {
                    self.store_lost(store);
                }
                store_failure(error)
            })
    }

    async fn post_batch(
        &self,
        partition: u16,
        batch: &[(usize, &LedgerEntry)],
    ) -> Result<Vec<(usize, Posted)>, Failure> {
        let store = self.open_store().map_err(store_failure)?;
        let entries = batch.iter().map(|(_, entry)| *entry);
        let outcomes = self.apply_now(&store, partition, entries).await?;
        let mut posted = Vec::with_capacity(batch.len());
        let mut stored = Vec::with_capacity(batch.len());
        for ((place, entry), outcome) in batch.iter().zip(outcomes) {
            let (epoch, outcome) = outcome.map_err(store_failure)?;
            let (id, encoded, state) = match outcome {
                Outcome::Applied { id, encoded, .. } => (id, encoded, Posted::Applied),
                Outcome::Same { mark, id } => (id, encoded_first(entry, &mark), Posted::Before),
                Outcome::Conflict { .. } | Outcome::Overflow | Outcome::Refused { .. } => {
                    posted.push((*place, Posted::Conflict));
                    continue;
                }
            };
            stored.push(Stored {
                epoch,
                id,
                entry: encoded,
                is_restored: false,
            });
            posted.push((*place, state));
        }
        self.journal_entries(partition, stored)
            .await
            .map_err(|_| journal_failure())?;
        if self.is_open(&store) {
            Ok(posted)
        } else {
            // What this store had may be lost, and the journal read before the entries stood there.
            Err(store_failure(StoreError::NotOpen))
        }
    }
}
