// SPDX-License-Identifier: Apache-2.0
//! Entries of a ledger stream as they lie there: alone, or several in one.
//!
//! Records that were applied together are one entry of the stream, which costs the store a fraction. Each has an id
//! of its own all the same, because journal, marks and reports name them: that of the stream's entry is the last
//! one's, and those before it count down from there.

use bytes::{Buf, Bytes};
use prost::{Message, decode_length_delimiter};

use crate::proto::taximeter::ledger::v1::LedgerEntry;
use crate::store::StoreError;
use crate::store_id::StreamId;

/// Names of the one field of a stream's entry, see `scripts/plain.lua`.
const ONE: &[u8] = b"e";
const MANY: &[u8] = b"b";
/// What stands before the length of each entry in `LedgerEntries`: the number of the field and its wire type.
const ENTRIES_TAG: u8 = 0x22;

/// Bytes of a length from here on are followed by another one.
const VARINT_MORE: u8 = 0x80;

/// Appends an entry to `LedgerEntries`. Returns where its own bytes begin.
pub(crate) fn push_entry(entry: &LedgerEntry, entries: &mut Vec<u8>) -> usize {
    entries.push(ENTRIES_TAG);
    let length_at = entries.len();
    // A vector has room for everything. Both at once, because to know its length costs as much as to encode it.
    let _ = entry.encode_length_delimited(entries);
    let length = entries.iter().skip(length_at);
    let more = length.take_while(|byte| **byte >= VARINT_MORE).count();
    length_at.saturating_add(more).saturating_add(1)
}

/// Appends to `found` the entries after `after` of a stream's entry: its id, the name and the value of its field.
pub(crate) fn read_entries(
    id: StreamId,
    name: &[u8],
    value: Vec<u8>,
    after: StreamId,
    found: &mut Vec<(StreamId, Bytes)>,
) -> Result<(), StoreError> {
    let mut rest = Bytes::from(value);
    if name == ONE {
        found.push((id, rest));
        return Ok(());
    } else if name != MANY {
        return Err(StoreError::Corrupt);
    }
    let mut entries = Vec::new();
    while rest.has_remaining() {
        if rest.get_u8() != ENTRIES_TAG {
            return Err(StoreError::Corrupt);
        }
        let size = decode_length_delimiter(&mut rest).map_err(|_| StoreError::Corrupt)?;
        if size > rest.len() {
            return Err(StoreError::Corrupt);
        }
        entries.push(rest.split_to(size));
    }
    let before_last = u64::try_from(entries.len().saturating_sub(1)).map_err(|_| StoreError::Corrupt)?;
    let first = id.seq.checked_sub(before_last).ok_or(StoreError::Corrupt)?;
    let with_ids = (first..).map(|seq| StreamId { seq, ..id }).zip(entries);
    found.extend(with_ids.filter(|(id, _)| *id > after));
    Ok(())
}
