// SPDX-License-Identifier: Apache-2.0
//! The engine: what Record and `CheckQuota` do, whoever calls.
//!
//! Invariants: OK to Record means applied in the store and fsynced in the journal, or, as JOURNALED, fsynced in the
//! journal. Nothing is applied to a store before everything it lost has been given back (`reopen.rs`).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::archive::Archive;
use crate::attribute_cap::AttributeSets;
use crate::callers::Denials;
use crate::catalogue::{Catalogue, CatalogueError};
use crate::clock;
use crate::cost::{StoreSays, response};
use crate::error::{Code, Failure};
use crate::hold_id::SealKey;
use crate::journal::Journal;
use crate::keys::PARTITION_COUNT;
use crate::lease::Leases;
use crate::proto::taximeter::ledger::v1::LedgerEntry;
use crate::proto::taximeter::v1::{Durability, ErrorReason, RecordResponse, UsageRecord};
use crate::record::{Priced, price_record};
use crate::record_path::RecordPath;
use crate::store::{Functions, Store, StoreError};
use crate::store_id::StreamId;
use crate::workers::Workers;

/// An instance that has not heard of the catalogue for this long does not price. Prices take force 5 s after they were
/// published. They may reach the store a quarter second after that, a confirmation may be half a second old when it
/// arrives, and the last quarter is for clocks that differ.
const CATALOGUE_AGE_MAX: Duration = Duration::from_secs(4);

/// State shared by all calls.
pub(crate) struct Engine {
    pub(crate) client: redis::Client,
    /// Serve the calls; each has its connection to the store.
    pub(crate) workers: Workers,
    pub(crate) functions: Functions,
    pub(crate) journal: Journal,
    /// Present while the store is open: connected, and given back what it lost.
    pub(crate) store: ArcSwapOption<Store>,
    pub(crate) store_version: Mutex<String>,
    /// Per partition the last stream id that the ledger files hold.
    pub(crate) archived: Mutex<Vec<StreamId>>,
    /// What else the archiver shares with the calls.
    pub(crate) archive: Archive,
    /// Per partition the store epochs whose losses this journal has given back.
    pub(crate) replayed: Mutex<Option<HashMap<u16, HashSet<u64>>>>,
    /// Accepted as JOURNALED and not yet applied, oldest first.
    pub(crate) pending: Mutex<VecDeque<LedgerEntry>>,
    /// Wakes the keeper.
    pub(crate) wake: Notify,
    pub(crate) closed: AtomicBool,
    pub(crate) attribute_sets: AttributeSets,
    /// Seals the ids of holds.
    pub(crate) seal_key: SealKey,
    catalogue: ArcSwap<Catalogue>,
    started: Instant,
    /// Milliseconds after `started` at which the catalogue was last known to be the store's.
    confirmed_ms: AtomicU64,
    exclusive_store: bool,
    pub(crate) volatile_store: bool,
    /// Refused calls of admin methods, until Python takes them.
    pub(crate) denials: Denials,
    /// What was spent of leases.
    pub(crate) leases: Leases,
}

/// A lock that a panic elsewhere does not poison: every critical section leaves its value whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// An engine whose store is not open yet.
    pub(crate) fn new(
        client: redis::Client,
        workers: Workers,
        journal: Journal,
        exclusive_store: bool,
        volatile_store: bool,
        attribute_sets: AttributeSets,
        seal_key: SealKey,
    ) -> Self {
        Self {
            client,
            workers,
            functions: Functions::new(),
            journal,
            store: ArcSwapOption::empty(),
            store_version: Mutex::new("unknown".to_owned()),
            archived: Mutex::new(vec![StreamId::ZERO; usize::from(PARTITION_COUNT)]),
            archive: Archive::new(),
            replayed: Mutex::new(None),
            pending: Mutex::new(VecDeque::new()),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            attribute_sets,
            seal_key,
            catalogue: ArcSwap::from_pointee(Catalogue::default()),
            started: Instant::now(),
            confirmed_ms: AtomicU64::new(0),
            exclusive_store,
            volatile_store,
            denials: Denials::default(),
            leases: Leases::default(),
        }
    }

    /// Swaps a new catalogue in.
    pub(crate) fn set_catalogue(&self, json: &[u8]) -> Result<(), CatalogueError> {
        let catalogue = Catalogue::parse(json, &self.catalogue.load())?;
        self.catalogue.store(catalogue.into());
        self.confirm_catalogue();
        Ok(())
    }

    /// The catalogue is still the store's.
    pub(crate) fn confirm_catalogue(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.confirmed_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The catalogue, whatever its age.
    pub(crate) fn catalogue(&self) -> arc_swap::Guard<Arc<Catalogue>> {
        self.catalogue.load()
    }

    /// The catalogue to price with. An instance that lost touch refuses rather than price differently; nobody else
    /// can change an exclusive store's.
    pub(crate) fn fresh_catalogue(&self) -> Result<arc_swap::Guard<Arc<Catalogue>>, Failure> {
        let confirmed = Duration::from_millis(self.confirmed_ms.load(Ordering::Relaxed));
        if !self.exclusive_store && self.started.elapsed().saturating_sub(confirmed) > CATALOGUE_AGE_MAX {
            let message = "this instance has lost touch with the rate-card timeline";
            return Err(Failure::new(
                Code::Unavailable,
                ErrorReason::CatalogueStale,
                message,
            ));
        }
        Ok(self.catalogue.load())
    }

    /// Notes that a call found the store gone; the keeper opens it again.
    pub(crate) fn store_lost(&self, store: &Arc<Store>) {
        // Only the one that failed: the keeper may have opened the next already.
        self.store.compare_and_swap(store, None);
        self.wake.notify_one();
    }

    /// Records each record; answers are in the order given. `paths` are their places in the request.
    pub(crate) async fn record(
        &self,
        records: &[UsageRecord],
        paths: &[RecordPath],
    ) -> Vec<Result<RecordResponse, Failure>> {
        let catalogue = match self.fresh_catalogue() {
            Ok(catalogue) => catalogue,
            Err(failure) => return records.iter().map(|_| Err(failure.clone())).collect(),
        };
        let now_nanos = clock::now_nanos();
        let now_ms = now_nanos.div_euclid(clock::NANOS_PER_MS);
        let mut answers: Vec<Option<Result<RecordResponse, Failure>>> = Vec::with_capacity(records.len());
        let mut groups: BTreeMap<u16, (Vec<usize>, Vec<LedgerEntry>)> = BTreeMap::new();
        for (at, (record, path)) in records.iter().zip(paths).enumerate() {
            match price_record(record, *path, &catalogue, &self.seal_key, now_ms, now_nanos) {
                Ok(Priced { partition, entry }) => {
                    // Most calls are of one partition, and entries are large.
                    let room = if groups.is_empty() { records.len() } else { 0 };
                    let (places, entries) = groups
                        .entry(partition)
                        .or_insert_with(|| (Vec::with_capacity(room), Vec::with_capacity(room)));
                    places.push(at);
                    entries.push(entry);
                    answers.push(None);
                }
                Err(failure) => answers.push(Some(Err(failure))),
            }
        }
        let mut groups = groups.into_iter().map(|(partition, (places, entries))| {
            self.record_places(partition, places, entries, paths, &catalogue)
        });
        // What goes on at the same time is moved about; most calls are of one partition.
        let recorded = match (groups.next(), groups.len()) {
            (Some(group), 0) => vec![group.await],
            (first, _) => join_all(first.into_iter().chain(groups).map(Box::pin)).await,
        };
        for (at, answer) in recorded.into_iter().flatten() {
            if let Some(slot) = answers.get_mut(at) {
                *slot = Some(answer);
            }
        }
        let missing = || Err(crate::error::internal("unanswered"));
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(missing))
            .collect()
    }

    /// Records entries of one partition. Returns the answers with the places of the records in the call.
    async fn record_places(
        &self,
        partition: u16,
        places: Vec<usize>,
        entries: Vec<LedgerEntry>,
        paths: &[RecordPath],
        catalogue: &Catalogue,
    ) -> Vec<(usize, Result<RecordResponse, Failure>)> {
        let paths: Vec<RecordPath> = places.iter().filter_map(|at| paths.get(*at).copied()).collect();
        let answers = self.record_group(partition, entries, &paths, catalogue).await;
        places.into_iter().zip(answers).collect()
    }

    /// Whether this store is still the open one.
    pub(crate) fn is_open(&self, store: &Arc<Store>) -> bool {
        self.store
            .load()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, store))
    }

    /// The open store, or why a call cannot be served.
    pub(crate) fn open_store(&self) -> Result<Arc<Store>, StoreError> {
        self.store.load_full().ok_or(StoreError::Unavailable)
    }
}

/// The answer to Record for an entry, whose texts go with it.
pub(crate) fn answer(
    entry: &mut LedgerEntry,
    catalogue: &Catalogue,
    says: StoreSays,
    durability: Durability,
    duplicate: bool,
) -> RecordResponse {
    let card = catalogue
        .version(entry.rate_card_version)
        .map(|card| &card.card.prices);
    response(entry, card, says, durability, duplicate)
}

/// What a store error means to a caller of Record.
pub(crate) fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Full => Failure::new(
            Code::Unavailable,
            ErrorReason::StoreFull,
            "the store has no memory left",
        ),
        StoreError::Corrupt => {
            let message = "a key in the store is not what it must be";
            Failure::new(Code::Internal, ErrorReason::StoreCorrupt, message)
        }
        StoreError::Unavailable | StoreError::Timeout | StoreError::NotOpen => Failure::new(
            Code::Unavailable,
            ErrorReason::StoreUnavailable,
            "the store did not answer",
        ),
    }
}

/// What a journal that cannot be written means to a caller of Record.
pub(crate) fn journal_failure() -> Failure {
    Failure::new(
        Code::Unavailable,
        ErrorReason::JournalUnavailable,
        "the journal could not be written",
    )
}
