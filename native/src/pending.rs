// SPDX-License-Identifier: Apache-2.0
//! Records accepted while the store was away: journaled, and applied on its return.

use futures_util::future::try_join_all;
use prost::Message;

use crate::catalogue::Catalogue;
use crate::cost::StoreSays;
use crate::engine::{Engine, answer, journal_failure, lock, store_failure};
use crate::error::Failure;
use crate::journal_format::Note;
use crate::keys;
use crate::lost::Lost;
use crate::proto::taximeter::ledger::v1::LedgerEntry;
use crate::proto::taximeter::v1::{Durability, RecordResponse};
use crate::reopen::{REPLAY_COUNT, batches};
use crate::store::StoreError;

/// Records waiting for the store to return; beyond it Record is UNAVAILABLE.
const PENDING_COUNT_MAX: usize = 1_000_000;

impl Engine {
    /// Accepts an entry while the store is away.
    pub(crate) async fn accept_pending(
        &self,
        mut entry: LedgerEntry,
        catalogue: &Catalogue,
    ) -> Result<RecordResponse, Failure> {
        let note = Note::Pending {
            entry: entry.encode_to_vec(),
        };
        let ticket = {
            // Queue and journal in one step: a `Drained` note stands behind exactly the entries it covers.
            let mut pending = lock(&self.pending);
            if pending.len() >= PENDING_COUNT_MAX {
                return Err(store_failure(StoreError::Unavailable));
            }
            let ticket = self.journal.enqueue(vec![note]).map_err(|_| journal_failure())?;
            pending.push_back(entry.clone());
            self.journal
                .set_pending(u64::try_from(pending.len()).unwrap_or(u64::MAX));
            ticket
        };
        ticket.wait().await.map_err(|_| journal_failure())?;
        self.wake.notify_one();
        Ok(answer(
            &mut entry,
            catalogue,
            StoreSays::default(),
            Durability::Journaled,
            false,
        ))
    }

    /// Records accepted and not yet applied.
    pub(crate) fn pending_count(&self) -> usize {
        lock(&self.pending).len()
    }

    /// Applies the records accepted while the store was away, oldest first.
    pub(crate) async fn drain_pending(&self) {
        let Some(store) = self.store.load_full() else {
            return;
        };
        let archived = lock(&self.archived).clone();
        loop {
            let batch: Vec<Lost> = lock(&self.pending)
                .iter()
                .take(REPLAY_COUNT)
                .map(|entry| Lost {
                    partition: keys::partition_of(&entry.tenant),
                    id: None,
                    is_restored: false,
                    entry: entry.clone(),
                })
                .collect();
            let count = batch.len();
            if count == 0 {
                return;
            }
            // No partition has two groups in so few records, so none overtakes another.
            let groups = batches(batch);
            let applied = groups
                .iter()
                .map(|group| self.apply_again(&store, group, &archived));
            if try_join_all(applied).await.is_err() {
                self.store_lost(&store);
                return;
            }
            self.forget_pending(count).await;
        }
    }

    /// Drops applied records; the note that they are done is written only when none is left, because it covers all.
    async fn forget_pending(&self, count: usize) {
        let ticket = {
            let mut pending = lock(&self.pending);
            let applied = count.min(pending.len());
            pending.drain(..applied);
            self.journal
                .set_pending(u64::try_from(pending.len()).unwrap_or(u64::MAX));
            if pending.is_empty() {
                self.journal.enqueue(vec![Note::Drained]).ok()
            } else {
                None
            }
        };
        if let Some(ticket) = ticket {
            // Without the note they are offered again after a restart, and found applied.
            let _ = ticket.wait().await;
        }
    }
}
