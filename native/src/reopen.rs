// SPDX-License-Identifier: Apache-2.0
//! Opening the store, and giving back what it lost.
//!
//! A store's persistence is a consistent prefix of what was applied. Each process of the store begins a new epoch per
//! partition and notes the last stream id that it still has. Everything in the journal with a later id, applied in
//! another epoch, is what it lost; all of it is applied again before calls are served. Dedup marks make that
//! idempotent, and a `Replayed` note ends it, so a crash in between only repeats it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::try_join_all;
use prost::Message;

use crate::archive::Stored;
use crate::clock;
use crate::cost::{cost_line, hex};
use crate::credits::encoded_first;
use crate::engine::{Engine, lock};
use crate::journal_format::Note;
use crate::keys::{self, PARTITION_COUNT};
use crate::lost::{Lost, LostEntries, Thresholds};
use crate::proto::taximeter::ledger::v1::{LedgerEntry, LedgerLine};
use crate::script_call::{Application, Outcome, apply_each, parse_epoch};
use crate::store::{Store, StoreError, array, bytes, text};
use crate::store_id::StreamId;

pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(2);
/// Entries applied again in one script call.
pub(crate) const REPLAY_COUNT: usize = 100;
/// The scripts keep this many epochs; see `open` there.
const EPOCH_COUNT_MAX: usize = 64;

/// Why the store could not be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    Store(StoreError),
    Journal(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What `open` of one partition says.
struct Opened {
    partition: u16,
    epoch: u64,
    /// Epochs with the last stream id that the store had when they began, oldest first.
    epochs: Vec<(u64, StreamId)>,
}

impl Engine {
    /// Connects, opens all partitions and applies again what the store lost.
    pub(crate) async fn open(&self) -> Result<(), OpenError> {
        let store = Store::connect(&self.client, &self.workers).await?;
        *lock(&self.store_version) = store.version(CALL_LIMIT).await?;
        // Until the end: what the archiver has read of the store before must not get into the files meanwhile.
        let _opening = self.archive.begin_opening().await;
        let archived = lock(&self.archived).clone();
        let opened = try_join_all((0..PARTITION_COUNT).map(|partition| {
            let id = archived
                .get(usize::from(partition))
                .copied()
                .unwrap_or(StreamId::ZERO);
            self.open_partition(&store, partition, id)
        }))
        .await?;
        self.give_back(&store, &opened, &archived).await?;
        self.store.store(Some(Arc::new(store)));
        Ok(())
    }

    async fn open_partition(
        &self,
        store: &Store,
        partition: u16,
        archived: StreamId,
    ) -> Result<Opened, StoreError> {
        let mut command = redis::cmd("FCALL");
        command
            .arg(&self.functions.open)
            .arg(2)
            .arg(keys::epochs(partition))
            .arg(keys::ledger(partition));
        command.arg(partition).arg(archived.to_string());
        let mut reply = array(store.call(&command, CALL_LIMIT).await?)?.into_iter();
        let epoch = parse_epoch(&bytes(reply.next().unwrap_or_default())?)?;
        let epochs = reply
            .map(|value| {
                let line = text(value)?;
                let (epoch, id) = line.split_once(' ').ok_or(StoreError::Corrupt)?;
                let epoch = epoch.parse().map_err(|_| StoreError::Corrupt)?;
                Ok((epoch, id.parse().map_err(|_| StoreError::Corrupt)?))
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Opened {
            partition,
            epoch,
            epochs,
        })
    }

    async fn give_back(
        &self,
        store: &Store,
        opened: &[Opened],
        archived: &[StreamId],
    ) -> Result<(), OpenError> {
        let known = lock(&self.replayed).clone();
        let (first_time, replayed) = match known {
            Some(replayed) => (false, replayed),
            None => (true, self.replayed_in_journal()?),
        };
        let thresholds: Thresholds = opened
            .iter()
            .filter_map(|partition| Some((partition.partition, threshold(partition, &replayed)?)))
            .collect();
        if first_time || !thresholds.is_empty() {
            self.journal.set_settled(false);
            let (lost, pending) = self.lost_entries(&thresholds)?;
            for batch in batches(lost) {
                self.apply_again(store, &batch, archived).await?;
            }
            if first_time {
                self.journal
                    .set_pending(u64::try_from(pending.len()).unwrap_or(u64::MAX));
                lock(&self.pending).extend(pending);
            }
        }
        self.note_replayed(opened, replayed, thresholds.is_empty()).await
    }

    /// Remembers the epochs as given back.
    async fn note_replayed(
        &self,
        opened: &[Opened],
        mut replayed: HashMap<u16, HashSet<u64>>,
        known_already: bool,
    ) -> Result<(), OpenError> {
        let mut epochs = Vec::new();
        for partition in opened {
            for (epoch, _) in &partition.epochs {
                if replayed.entry(partition.partition).or_default().insert(*epoch) {
                    epochs.push((partition.partition, *epoch));
                }
            }
        }
        if !known_already {
            let failed = |_| OpenError::Journal("the journal could not be written".to_owned());
            self.journal
                .append(vec![Note::Replayed { epochs }])
                .await
                .map_err(failed)?;
        }
        *lock(&self.replayed) = Some(replayed);
        self.journal.set_settled(true);
        Ok(())
    }

    fn replayed_in_journal(&self) -> Result<HashMap<u16, HashSet<u64>>, OpenError> {
        let mut replayed: HashMap<u16, HashSet<u64>> = HashMap::new();
        self.scan(|note| {
            if let Note::Replayed { epochs } = note {
                for (partition, epoch) in epochs {
                    replayed.entry(partition).or_default().insert(epoch);
                }
            }
        })?;
        Ok(replayed)
    }

    /// Entries that the store may have lost, and those that were accepted while it was away.
    fn lost_entries(&self, thresholds: &Thresholds) -> Result<(Vec<Lost>, Vec<LedgerEntry>), OpenError> {
        let (mut lost, mut pending) = (LostEntries::new(thresholds), Vec::new());
        self.scan(|note| match note {
            Note::Applied {
                partition,
                epoch,
                id,
                entry,
                is_restored,
            } => lost.add(partition, epoch, id, &entry, is_restored),
            Note::Pending { entry } => pending.extend(LedgerEntry::decode(entry.as_slice())),
            Note::Drained => pending.clear(),
            Note::Replayed { .. } => {}
        })?;
        Ok((lost.into_entries(), pending))
    }

    fn scan(&self, visit: impl FnMut(Note)) -> Result<(), OpenError> {
        self.journal
            .scan(visit)
            .map_err(|error| OpenError::Journal(error.to_string()))
    }

    /// Applies entries of one partition and journals where they went.
    pub(crate) async fn apply_again(
        &self,
        store: &Store,
        batch: &[Lost],
        archived: &[StreamId],
    ) -> Result<(), OpenError> {
        let Some(first) = batch.first() else { return Ok(()) };
        let partition = first.partition;
        let through = archived
            .get(usize::from(partition))
            .copied()
            .unwrap_or(StreamId::ZERO);
        let applications: Vec<Application<'_>> = batch
            .iter()
            .map(|lost| Application {
                entry: &lost.entry,
                archived_id: lost.id.filter(|id| *id <= through),
                was_applied: lost.id.is_some(),
            })
            .collect();
        let outcomes = apply_each(store, &self.functions, partition, &applications, CALL_LIMIT).await?;
        let mut stored = Vec::new();
        for (lost, outcome) in batch.iter().zip(outcomes) {
            let (epoch, id, entry, was_noted) = match outcome {
                Ok((epoch, Outcome::Applied { id, encoded, .. })) => (epoch, id, encoded, false),
                // Otherwise by a call that gave up waiting, or by a replay that was cut off before it was noted.
                Ok((epoch, Outcome::Same { mark, id })) => {
                    let was_noted = lost.id == Some(id) && id > through;
                    (epoch, id, encoded_first(&lost.entry, &mark), was_noted)
                }
                Ok((_, Outcome::Conflict { .. } | Outcome::Overflow | Outcome::Refused { .. })) | Err(_) => {
                    self.note_conflict(store, &lost.entry).await?;
                    continue;
                }
            };
            if !was_noted && !lost.is_restored {
                stored.push(Stored {
                    epoch,
                    id,
                    entry,
                    is_restored: id <= through,
                });
            }
        }
        let failed = |_| OpenError::Journal("the journal could not be written".to_owned());
        self.journal_entries(partition, stored).await.map_err(failed)?;
        Ok(())
    }

    /// Keeps a record that can no longer be applied where an admin sees it.
    async fn note_conflict(&self, store: &Store, entry: &LedgerEntry) -> Result<(), StoreError> {
        let document = serde_json::json!({
            "tenant": entry.tenant,
            "record_id": entry.record_id,
            "receive_time_ms": entry.receive_time_ms,
            "find_time_ms": clock::now_ms(),
            "model": entry.model,
            "lines": entry.lines.iter().map(line_document).collect::<Vec<_>>(),
            "entry_base64": BASE64.encode(entry.encode_to_vec()),
        });
        let field = format!("{} {} {}", entry.tenant, entry.record_id, hex(&entry.fingerprint));
        let mut command = redis::cmd("HSETNX");
        command.arg(keys::CONFLICTS).arg(field).arg(document.to_string());
        store.call(&command, CALL_LIMIT).await.map(drop)
    }
}

fn line_document(line: &LedgerLine) -> serde_json::Value {
    let line = cost_line(line.clone(), false);
    serde_json::json!({
        "usage_class": line.usage_class,
        "priced_as": line.priced_as,
        "quantity": line.quantity,
        "billed_quantity": line.billed_quantity,
        "unit_price": line.unit_price,
        "per": line.per,
        "cost_picos": line.cost_picos,
        "unpriced": line.unpriced,
    })
}

/// The last stream id that the store is known to have kept, with the current epoch; None when nothing was lost.
fn threshold(opened: &Opened, replayed: &HashMap<u16, HashSet<u64>>) -> Option<(u64, StreamId)> {
    let done = replayed.get(&opened.partition);
    let is_done = |epoch: &u64| done.is_some_and(|epochs| epochs.contains(epoch));
    if opened.epochs.iter().all(|(epoch, _)| is_done(epoch)) {
        return None;
    }
    let overrun =
        opened.epochs.len() >= EPOCH_COUNT_MAX && !opened.epochs.iter().any(|(epoch, _)| is_done(epoch));
    let lowest = opened
        .epochs
        .iter()
        .filter(|(epoch, _)| !is_done(epoch))
        .map(|(_, last)| *last)
        .min();
    Some((
        opened.epoch,
        if overrun {
            StreamId::ZERO
        } else {
            lowest.unwrap_or(StreamId::ZERO)
        },
    ))
}

/// Splits entries into groups of one partition each, keeping the order within a partition.
pub(crate) fn batches(lost: Vec<Lost>) -> Vec<Vec<Lost>> {
    let mut groups: HashMap<u16, Vec<Vec<Lost>>> = HashMap::new();
    for entry in lost {
        let group = groups.entry(entry.partition).or_default();
        match group.last_mut() {
            Some(batch) if batch.len() < REPLAY_COUNT => batch.push(entry),
            _ => group.push(vec![entry]),
        }
    }
    groups.into_values().flatten().collect()
}
