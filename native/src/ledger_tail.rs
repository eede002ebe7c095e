// SPDX-License-Identifier: Apache-2.0
//! What the archiver has not taken away yet, of many partitions at once, as the rows that a report wants.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::keys::is_within;
use crate::ledger_columns::LedgerColumns;
use crate::ledger_row::occur_time_us;
use crate::proto::taximeter::ledger::v1::LedgerEntry;
use crate::store::{Store, StoreError};
use crate::store_id::StreamId;

/// Partitions that are asked for at once.
const PARTITIONS_AT_ONCE: usize = 16;
/// Entries that these answer together, encoded: at most some 16 KiB each.
const ENTRIES_AT_ONCE: usize = 8_000;
/// Entries are read until they are so large, encoded; as rows they are up to four times that.
const SIZE_MAX: usize = 16 << 20;

/// A part of a partition's stream.
pub(crate) struct Span {
    pub(crate) partition: u16,
    /// The last entry before it; moves on as it is read.
    pub(crate) after: StreamId,
    /// Not after this one.
    pub(crate) through: StreamId,
    /// Whether there may be entries behind `after`.
    pub(crate) has_more: bool,
}

/// What becomes rows.
pub(crate) struct Wanted {
    /// Names of columns.
    pub(crate) columns: Vec<String>,
    /// Half-open, in microseconds since 1970 UTC.
    pub(crate) intervals_us: Vec<(i64, i64)>,
    /// Paths whose own entries and those below are wanted; None for all.
    pub(crate) tenants: Option<Vec<String>>,
}

impl Wanted {
    fn has(&self, entry: &LedgerEntry) -> bool {
        let time_us = occur_time_us(entry);
        let has_time = |(start_us, end_us): &(i64, i64)| *start_us <= time_us && time_us < *end_us;
        self.intervals_us.iter().any(has_time)
            && self
                .tenants
                .as_ref()
                .is_none_or(|tenants| tenants.iter().any(|path| is_within(&entry.tenant, path)))
    }
}

impl Store {
    /// Reads spans, each as far as it has been read with the others. Returns the rows as an Arrow IPC stream, and
    /// whether everything has been read; otherwise the spans say how far.
    pub(crate) async fn read_tail(
        &self,
        spans: &mut [Span],
        wanted: &Wanted,
        limit: Duration,
    ) -> Result<(Vec<u8>, bool), StoreError> {
        let mut columns = LedgerColumns::named(&wanted.columns);
        let mut size: usize = 0;
        let mut open: VecDeque<&mut Span> = spans.iter_mut().collect();
        while !open.is_empty() && size < SIZE_MAX {
            let mut together: Vec<_> = open.drain(..open.len().min(PARTITIONS_AT_ONCE)).collect();
            let count_max = ENTRIES_AT_ONCE.div_euclid(together.len().max(1));
            let reads = together
                .iter()
                .map(|span| self.read_ledger(span.partition, span.after, count_max, limit));
            let found = try_join_all(reads).await?;
            for (span, entries) in together.iter_mut().zip(found) {
                let mut has_more = entries.len() == count_max;
                for (id, encoded) in entries {
                    has_more = has_more && id < span.through;
                    if id > span.through {
                        break;
                    }
                    let encoded_size = encoded.len();
                    if columns.push(span.partition, id, encoded, |entry| wanted.has(entry))? {
                        size = size.saturating_add(encoded_size);
                    }
                    span.after = id;
                }
                span.has_more = has_more;
            }
            open.extend(together.into_iter().filter(|span| span.has_more));
        }
        let is_whole = open.is_empty();
        Ok((columns.into_ipc()?, is_whole))
    }
}
