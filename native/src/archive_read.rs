// SPDX-License-Identifier: Apache-2.0
//! What the archiver takes of all streams at once, as rows in the order that its files have.
//!
//! Sorted here, where an entry is one piece of bytes, and not there, where it is some rows of many columns.

use std::collections::VecDeque;
use std::time::Duration;

use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use bytes::Bytes;
use futures_util::future::try_join_all;
use prost::Message;

use crate::archive::ArchiveError;
use crate::engine::Engine;
use crate::ledger_columns::LedgerColumns;
use crate::store::StoreError;
use crate::store_id::StreamId;

/// Partitions that are asked for at once.
const PARTITIONS_AT_ONCE: usize = 16;
/// Entries that are taken of one of them before the others have their turn.
const READ_ENTRIES_MAX: usize = 5_000;
/// How many times as large as an encoded entry its rows are, at most as a rule.
const SIZE_OF_ROWS: usize = 4;

/// Entries of one partition, oldest first.
pub(crate) struct Part {
    pub(crate) partition: u16,
    /// The last one; before any was read, the one after which to read.
    pub(crate) last: StreamId,
    entries: Vec<(StreamId, Bytes)>,
    has_more: bool,
}

/// What is read of an entry to sort it.
#[derive(Message)]
struct EntryOfTenant {
    #[prost(string, tag = "1")]
    tenant: String,
}

impl Part {
    pub(crate) fn new(partition: u16, after: StreamId) -> Self {
        Self {
            partition,
            last: after,
            entries: Vec::new(),
            has_more: true,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Entries by tenant, and those of a tenant oldest first.
    fn by_tenant(self) -> Result<impl Iterator<Item = (StreamId, Bytes)>, StoreError> {
        let keyed = self.entries.into_iter().map(|(id, encoded)| {
            let entry = EntryOfTenant::decode(encoded.clone()).map_err(|_| StoreError::Corrupt)?;
            Ok((entry.tenant, id, encoded))
        });
        let mut keyed = keyed.collect::<Result<Vec<_>, StoreError>>()?;
        keyed.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(keyed.into_iter().map(|(_, id, encoded)| (id, encoded)))
    }
}

impl Engine {
    /// Reads on in each part, of all together at most `count_max` entries, which the journal has then. While there is
    /// more than that, each gets its share.
    pub(crate) async fn read_parts_to_archive(
        &self,
        parts: &mut [Part],
        count_max: usize,
        limit: Duration,
    ) -> Result<(), ArchiveError> {
        let mut room = count_max;
        let mut open: VecDeque<&mut Part> = parts.iter_mut().collect();
        while room > 0 && !open.is_empty() {
            let share = room.div_euclid(open.len()).clamp(1, READ_ENTRIES_MAX);
            let together = open.len().min(PARTITIONS_AT_ONCE).min(room);
            let mut together: Vec<_> = open.drain(..together).collect();
            let reads = together
                .iter()
                .map(|part| self.read_to_archive(part.partition, part.last, share, limit));
            let found = try_join_all(reads).await?;
            for (part, entries) in together.iter_mut().zip(found) {
                room = room.saturating_sub(entries.len());
                part.has_more = entries.len() == share;
                part.last = entries.last().map_or(part.last, |(id, _)| *id);
                part.entries.extend(entries);
            }
            open.extend(together.into_iter().filter(|part| part.has_more));
        }
        Ok(())
    }
}

/// The rows of parts as an Arrow IPC stream, by partition, tenant and place in the stream.
///
/// # Errors
///
/// `Corrupt` when something is no entry, or when Arrow refuses the rows, which would be a defect of `ledger_columns`.
pub(crate) fn to_ipc(parts: Vec<Part>) -> Result<Vec<u8>, StoreError> {
    let encoded = parts.iter().flat_map(|part| &part.entries);
    let size: usize = encoded.map(|(_, encoded)| encoded.len()).sum();
    let columns = LedgerColumns::all().try_into_batch().map_err(refused)?.schema();
    let room = Vec::with_capacity(size.saturating_mul(SIZE_OF_ROWS));
    let mut writer = StreamWriter::try_new(room, &columns).map_err(refused)?;
    // A batch for each, whose memory serves the next one: the kernel clears fresh memory, which takes longer than
    // all that is done with it.
    for part in parts {
        let mut columns = LedgerColumns::all();
        let partition = part.partition;
        // One after the other, each gone before the next: decoded they are ten times as large.
        for (id, encoded) in part.by_tenant()? {
            columns.push(partition, id, encoded, |_| true)?;
        }
        writer
            .write(&columns.try_into_batch().map_err(refused)?)
            .map_err(refused)?;
    }
    writer.into_inner().map_err(refused)
}

fn refused(_: ArrowError) -> StoreError {
    StoreError::Corrupt
}
