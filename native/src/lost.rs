// SPDX-License-Identifier: Apache-2.0
//! Which of the journal's entries a store may have lost.

use std::collections::HashMap;

use prost::Message;

use crate::proto::taximeter::ledger::v1::LedgerEntry;
use crate::store_id::StreamId;

/// Per partition the store's current epoch and the last stream id that it is known to have kept.
pub(crate) type Thresholds = HashMap<u16, (u64, StreamId)>;

/// An entry that the store may have lost.
pub(crate) struct Lost {
    pub(crate) partition: u16,
    /// Where it was last; None for one that was accepted while the store was away.
    pub(crate) id: Option<StreamId>,
    /// It is noted as restored already, and will be given back after every loss to come.
    pub(crate) is_restored: bool,
    pub(crate) entry: LedgerEntry,
}

/// Gathers entries, each once however often it stands in the journal: as its last note says, because earlier ones name
/// places that it has been lost from.
pub(crate) struct LostEntries<'a> {
    thresholds: &'a Thresholds,
    found: Vec<Lost>,
    places: HashMap<String, usize>,
}

impl<'a> LostEntries<'a> {
    /// Nothing gathered yet.
    pub(crate) fn new(thresholds: &'a Thresholds) -> Self {
        Self {
            thresholds,
            found: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Takes one `Applied` note, oldest first.
    pub(crate) fn add(&mut self, partition: u16, epoch: u64, id: StreamId, entry: &[u8], is_restored: bool) {
        let is_missing = self
            .thresholds
            .get(&partition)
            .is_some_and(|(current, last)| epoch != *current && (id > *last || is_restored));
        // Most notes are of entries that the store has; those are read only while they could be of one that it lost.
        if !is_missing && self.found.is_empty() {
            return;
        }
        let Ok(entry) = LedgerEntry::decode(entry) else {
            return;
        };
        let identity = format!("{}\0{}", entry.tenant, entry.record_id);
        if let Some(known) = self.places.get(&identity).and_then(|at| self.found.get_mut(*at)) {
            known.is_restored = is_restored || (known.is_restored && known.id == Some(id));
            known.id = Some(id);
        } else if is_missing {
            self.places.insert(identity, self.found.len());
            self.found.push(Lost {
                partition,
                id: Some(id),
                is_restored,
                entry,
            });
        }
    }

    /// All of them, in the order of their first notes.
    pub(crate) fn into_entries(self) -> Vec<Lost> {
        self.found
    }
}
