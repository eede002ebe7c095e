// SPDX-License-Identifier: Apache-2.0
//! What the archiver needs so that a store that loses its tail doubles nothing.
//!
//! Invariants: what the ledger files hold stands in the journal, so that its dedup marks can be given back; and no
//! store is opened again between the archiver's reading of entries and its naming them in the manifest, or else the
//! manifest is not written: they would be given back to a stream, and be in the files, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::engine::{Engine, lock};
use crate::journal::NotDurable;
use crate::journal_format::Note;
use crate::keys::PARTITION_COUNT;
use crate::store::StoreError;
use crate::store_id::StreamId;
use crate::stream_runs::StreamRuns;

/// Runs of ids remembered per partition. Beyond it they are forgotten, and their entries are journaled once more.
const JOURNALED_RUNS_MAX: usize = 100_000;

/// Of entries whose epoch was not noted when they were applied. Never the current one.
const UNKNOWN_EPOCH: u64 = 0;

/// Why entries cannot be archived now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ArchiveError {
    Store(StoreError),
    Journal,
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<NotDurable> for ArchiveError {
    fn from(_: NotDurable) -> Self {
        Self::Journal
    }
}

/// An entry that the store has and the journal is to have.
pub(crate) struct Stored {
    pub(crate) epoch: u64,
    pub(crate) id: StreamId,
    /// Encoded.
    pub(crate) entry: Bytes,
    /// Whether its place in the stream was not given back to the store, because the ledger files have it.
    pub(crate) is_restored: bool,
}

/// State shared by the archiver, the calls and whoever opens the store.
pub(crate) struct Archive {
    /// Held while a store is being opened, and while a manifest is being replaced.
    gate: Arc<AsyncMutex<()>>,
    held: Mutex<Option<OwnedMutexGuard<()>>>,
    /// How often a store was opened.
    openings: AtomicU64,
    /// How many records have been journaled.
    recorded: AtomicU64,
    /// Per partition ids of entries that stand in the journal and are not archived.
    journaled: Mutex<Vec<StreamRuns>>,
}

impl Archive {
    /// Nothing opened, nothing journaled.
    pub(crate) fn new() -> Self {
        Self {
            gate: Arc::new(AsyncMutex::new(())),
            held: Mutex::new(None),
            openings: AtomicU64::new(0),
            recorded: AtomicU64::new(0),
            journaled: Mutex::new(vec![StreamRuns::default(); usize::from(PARTITION_COUNT)]),
        }
    }

    /// Begins an opening: a manifest that is being replaced is waited for, what was read before is refused.
    pub(crate) async fn begin_opening(&self) -> OwnedMutexGuard<()> {
        let guard = Arc::clone(&self.gate).lock_owned().await;
        self.openings.fetch_add(1, Ordering::AcqRel);
        guard
    }

    /// How many records have been applied and journaled so far, repetitions included.
    pub(crate) fn recorded_count(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    /// The entries stand in the journal.
    fn note_journaled(&self, partition: u16, journaled: Vec<StreamId>) {
        let count = u64::try_from(journaled.len()).unwrap_or(u64::MAX);
        self.recorded.fetch_add(count, Ordering::Relaxed);
        if let Some(ids) = lock(&self.journaled).get_mut(usize::from(partition)) {
            if ids.len() >= JOURNALED_RUNS_MAX {
                ids.clear();
            }
            ids.add(journaled);
        }
    }

    /// Whether each of the ids is known to stand in the journal.
    fn are_journaled(&self, partition: u16, ids: impl Iterator<Item = StreamId>) -> Vec<bool> {
        let journaled = lock(&self.journaled);
        let known = journaled.get(usize::from(partition));
        ids.map(|id| known.is_some_and(|known| known.contains(id)))
            .collect()
    }

    /// Forgets ids that the ledger files hold.
    pub(crate) fn forget_through(&self, partition: usize, id: StreamId) {
        if let Some(ids) = lock(&self.journaled).get_mut(partition) {
            ids.forget_through(id);
        }
    }
}

impl Engine {
    /// Makes entries of one partition durable that the store has.
    pub(crate) async fn journal_entries(
        &self,
        partition: u16,
        stored: Vec<Stored>,
    ) -> Result<(), NotDurable> {
        let ids: Vec<StreamId> = stored.iter().map(|one| one.id).collect();
        let notes = stored.into_iter().map(|one| Note::Applied {
            partition,
            epoch: one.epoch,
            id: one.id,
            entry: one.entry,
            is_restored: one.is_restored,
        });
        self.journal.append(notes.collect()).await?;
        self.archive.note_journaled(partition, ids);
        Ok(())
    }

    /// Names the opening of the store that entries are about to be read from.
    pub(crate) fn begin_archive(&self) -> Result<u64, StoreError> {
        let opening = self.archive.openings.load(Ordering::Acquire);
        self.open_store().map(|_| opening)
    }

    /// Reads entries like `Store::read_ledger`, and makes sure that the journal has each of them.
    pub(crate) async fn read_to_archive(
        &self,
        partition: u16,
        after: StreamId,
        count_max: usize,
        limit: Duration,
    ) -> Result<Vec<(StreamId, Bytes)>, ArchiveError> {
        let store = self.open_store()?;
        let entries = store.read_ledger(partition, after, count_max, limit).await?;
        let journaled = self
            .archive
            .are_journaled(partition, entries.iter().map(|(id, _)| *id));
        let missing = entries.iter().zip(journaled).filter(|(_, is_known)| !is_known);
        let missing = missing.map(|((id, entry), _)| Note::Applied {
            partition,
            epoch: UNKNOWN_EPOCH,
            id: *id,
            entry: entry.clone(),
            is_restored: false,
        });
        self.journal.append(missing.collect()).await?;
        Ok(entries)
    }

    /// Keeps the store from being opened again until `release_archive`. Fails when it has been since `opening`.
    pub(crate) async fn hold_archive(&self, opening: u64, limit: Duration) -> Result<(), StoreError> {
        let gate = Arc::clone(&self.archive.gate).lock_owned();
        let guard = tokio::time::timeout(limit, gate)
            .await
            .map_err(|_| StoreError::Timeout)?;
        if self.archive.openings.load(Ordering::Acquire) != opening {
            return Err(StoreError::NotOpen);
        }
        *lock(&self.archive.held) = Some(guard);
        Ok(())
    }

    /// Lets the store be opened again.
    pub(crate) fn release_archive(&self) {
        lock(&self.archive.held).take();
    }
}
