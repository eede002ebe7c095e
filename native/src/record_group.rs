// SPDX-License-Identifier: Apache-2.0
//! Records of one partition on their way through store and journal: one script call, one place in the journal's next
//! group, and an answer for each.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use prost::Message;

use crate::archive::Stored;
use crate::attribute_cap::as_first_time;
use crate::catalogue::Catalogue;
use crate::cost::StoreSays;
use crate::credits::CreditSums;
use crate::engine::{Engine, answer, journal_failure, store_failure};
use crate::error::{Code, Failure};
use crate::fingerprint::differing_parts;
use crate::plain_records::record_each;
use crate::proto::taximeter::ledger::v1::{Attribute, LedgerEntry};
use crate::proto::taximeter::v1::{Durability, ErrorReason, RecordResponse};
use crate::record::price_again;
use crate::record_path::RecordPath;
use crate::script_arguments::read_mark;
use crate::script_call::Outcome;
use crate::store::{Store, StoreError};

/// A Record waits this long for the store, then relies on the journal.
const RECORD_LIMIT: Duration = Duration::from_secs(1);

/// An entry that the store has, now or since an earlier attempt.
struct Applied<'a> {
    entry: &'a mut LedgerEntry,
    /// As it was applied the first time, where that was before. Boxed, because it is large, and most have none.
    first: Option<Box<LedgerEntry>>,
    says: StoreSays,
}

impl Applied<'_> {
    fn entry(&mut self) -> &mut LedgerEntry {
        self.first.as_deref_mut().unwrap_or(self.entry)
    }
}

impl Engine {
    /// Applies entries of one partition and makes them durable. `paths` are their places in the request.
    pub(crate) async fn record_group(
        &self,
        partition: u16,
        mut entries: Vec<LedgerEntry>,
        paths: &[RecordPath],
        catalogue: &Catalogue,
    ) -> Vec<Result<RecordResponse, Failure>> {
        let sent = self
            .cap_attributes(self.store.load_full().as_ref(), partition, &mut entries)
            .await;
        let Some(store) = self.store.load_full() else {
            return Box::pin(self.accept_all_pending(entries, catalogue)).await;
        };
        let outcomes = match record_each(&store, &self.functions, partition, &entries, RECORD_LIMIT).await {
            Ok(outcomes) => outcomes,
            Err(StoreError::Unavailable | StoreError::Timeout | StoreError::NotOpen) => {
                self.store_lost(&store);
                return Box::pin(self.accept_all_pending(entries, catalogue)).await;
            }
            Err(error) => return entries.iter().map(|_| Err(store_failure(error))).collect(),
        };
        let mut stored = Vec::with_capacity(entries.len());
        let applied = entries
            .iter_mut()
            .zip(&sent)
            .zip(paths)
            .zip(outcomes)
            .map(|(((entry, sent), path), outcome)| {
                let (epoch, outcome) = outcome.map_err(store_failure)?;
                let one = Offered {
                    entry,
                    sent: sent.as_deref(),
                    path: *path,
                };
                settle(one, epoch, outcome, catalogue, &mut stored)
            })
            .collect();
        self.make_durable(&store, partition, applied, stored, catalogue)
            .await
    }

    async fn accept_all_pending(
        &self,
        entries: Vec<LedgerEntry>,
        catalogue: &Catalogue,
    ) -> Vec<Result<RecordResponse, Failure>> {
        let accepted = entries
            .into_iter()
            .map(|entry| self.accept_pending(entry, catalogue));
        join_all(accepted).await
    }

    /// Answers for what the store has, once the journal has it, too.
    async fn make_durable(
        &self,
        store: &Arc<Store>,
        partition: u16,
        applied: Vec<Result<Applied<'_>, Failure>>,
        stored: Vec<Stored>,
        catalogue: &Catalogue,
    ) -> Vec<Result<RecordResponse, Failure>> {
        if self.journal_entries(partition, stored).await.is_err() {
            return applied
                .into_iter()
                .map(|one| one.and(Err(journal_failure())))
                .collect();
        }
        if !self.is_open(store) {
            // What the store lost may have been read from the journal before the entries stood there: offered once
            // more.
            let accepted = applied
                .into_iter()
                .map(|one| async { self.accept_pending(std::mem::take(one?.entry()), catalogue).await });
            return Box::pin(join_all(accepted)).await;
        }
        let durability = self.store_durability();
        applied
            .into_iter()
            .map(|one| {
                let mut one = one?;
                let says = std::mem::take(&mut one.says);
                let duplicate = one.first.is_some();
                Ok(answer(one.entry(), catalogue, says, durability, duplicate))
            })
            .collect()
    }

    const fn store_durability(&self) -> Durability {
        if self.volatile_store {
            Durability::Volatile
        } else {
            Durability::Committed
        }
    }
}

/// An entry that the store was offered.
struct Offered<'a> {
    entry: &'a mut LedgerEntry,
    /// Its attributes as sent, where less is left of them.
    sent: Option<&'a [Attribute]>,
    /// Its place in the request.
    path: RecordPath,
}

/// What the store's outcome means for one entry; what the journal must have goes to `stored`.
fn settle<'a>(
    offered: Offered<'a>,
    epoch: u64,
    outcome: Outcome,
    catalogue: &Catalogue,
    stored: &mut Vec<Stored>,
) -> Result<Applied<'a>, Failure> {
    let Offered { entry, sent, path } = offered;
    let (id, encoded, applied) = match outcome {
        Outcome::Applied { id, says, encoded } => {
            let applied = Applied {
                entry,
                first: None,
                says,
            };
            (id, encoded, applied)
        }
        Outcome::Same { mark, id } => {
            let first = read_mark(&mark, !entry.hold_id.is_empty())
                .ok_or_else(|| store_failure(StoreError::Corrupt))?;
            let mut again = price_again(entry, &first, catalogue, path)?;
            as_first_time(&mut again, sent, first.attribute_cap);
            again.credit_moves.clone_from(&first.credit_moves);
            // Journaled once more: the first attempt may have been cut off between the store and its journal.
            let encoded = again.encode_to_vec().into();
            let applied = Applied {
                entry,
                first: Some(Box::new(again)),
                says: StoreSays {
                    limits: Vec::new(),
                    hold: first.hold,
                    credits: CreditSums::of(&first.credit_moves),
                },
            };
            (id, encoded, applied)
        }
        Outcome::Conflict { mark } => return Err(conflict(entry, &mark, path)),
        Outcome::Overflow | Outcome::Refused { .. } => {
            let message = format!("{path}.usage: a counter would pass its maximum");
            let reason = ErrorReason::CounterOverflow;
            return Err(Failure::new(Code::OutOfRange, reason, message));
        }
    };
    stored.push(Stored {
        epoch,
        id,
        entry: encoded,
        is_restored: false,
    });
    Ok(applied)
}

fn conflict(entry: &LedgerEntry, mark: &[u8], path: RecordPath) -> Failure {
    let failure = Failure::new(
        Code::AlreadyExists,
        ErrorReason::RecordIdConflict,
        format!("{path}.record_id: used before with another payload"),
    );
    match read_mark(mark, false) {
        Some(first) => failure
            .with("first_receive_time_ms", first.receive_time_ms.to_string())
            .with("differing_fields", differing_parts(&entry.fingerprint, mark)),
        None => failure,
    }
}
