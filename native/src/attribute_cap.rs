// SPDX-License-Identifier: Apache-2.0
//! At most so many sets of attributes per tenant and UTC day of `occur_time`; what comes beyond counts under
//! `__other__`.
//!
//! The store has the list, so that all instances agree. Each instance remembers what it was told, so a set costs a call
//! only where it is new. The tenant is the path of the record: one user's sets do not use up those of another, and a
//! path is a dimension of every report already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::NANOS_PER_DAY;
use crate::engine::{Engine, lock};
use crate::keys;
use crate::proto::taximeter::ledger::v1::{Attribute, AttributeCap, LedgerEntry};
use crate::record::{HASH_SIZE, first_bytes};
use crate::store::{Store, StoreError, bytes};

/// Stands for values, and keys, beyond the cap. Keys of callers do not begin with `__`.
const OTHER: &str = "__other__";
/// A Record waits this long at most for what the store says of new sets, and is then accepted on the journal alone.
const ADMIT_LIMIT: Duration = Duration::from_millis(500);
/// Sets remembered, twice: of some 50 bytes each.
const KNOWN_COUNT_MAX: usize = 1 << 17;
/// Bytes of a hash in the store: enough for some thousand sets.
const STORED_HASH_SIZE: usize = 8;

/// One set of attributes of one tenant's day.
type SetId = [u8; HASH_SIZE];

/// What the store said of sets; those met lately stay.
#[derive(Default)]
pub(crate) struct KnownSets {
    recent: HashMap<SetId, AttributeCap>,
    before: HashMap<SetId, AttributeCap>,
}

impl KnownSets {
    fn find(&mut self, id: &SetId) -> Option<AttributeCap> {
        if let Some(cap) = self.recent.get(id) {
            return Some(*cap);
        }
        let cap = self.before.remove(id)?;
        self.insert(*id, cap);
        Some(cap)
    }

    fn insert(&mut self, id: SetId, cap: AttributeCap) {
        if self.recent.len() >= KNOWN_COUNT_MAX {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(id, cap);
    }
}

/// The cap, and what is known of it.
pub(crate) struct AttributeSets {
    /// Sets, and sets of keys, per tenant and day.
    count_max: u32,
    known: Mutex<KnownSets>,
}

impl AttributeSets {
    pub(crate) fn new(count_max: u32) -> Self {
        Self {
            count_max,
            known: Mutex::default(),
        }
    }
}

/// A new set, and the places in its group that have it.
struct NewSet {
    id: SetId,
    place: usize,
}

impl Engine {
    /// Caps the attributes of entries of one partition. Returns for each what had been sent, where less is left of it.
    /// While the store is away, sets that are new are left as they are: nobody knows what others have sent.
    pub(crate) async fn cap_attributes(
        &self,
        store: Option<&Arc<Store>>,
        partition: u16,
        entries: &mut [LedgerEntry],
    ) -> Vec<Option<Vec<Attribute>>> {
        let mut caps = vec![AttributeCap::Unspecified; entries.len()];
        let mut new_sets = Vec::new();
        for (place, (entry, cap)) in entries.iter().zip(&mut caps).enumerate() {
            if entry.attributes.is_empty() {
                continue;
            }
            let id = set_id(entry);
            match lock(&self.attribute_sets.known).find(&id) {
                Some(known) => *cap = known,
                None => new_sets.push(NewSet { id, place }),
            }
        }
        if let (Some(store), false) = (store, new_sets.is_empty()) {
            match Box::pin(self.admit(store, partition, entries, &new_sets)).await {
                Ok(admitted) => {
                    let mut known = lock(&self.attribute_sets.known);
                    for (new, admitted) in new_sets.iter().zip(admitted) {
                        known.insert(new.id, admitted);
                        if let Some(cap) = caps.get_mut(new.place) {
                            *cap = admitted;
                        }
                    }
                }
                // What else is wrong, the record's own call will say.
                Err(StoreError::Unavailable | StoreError::Timeout | StoreError::NotOpen) => {
                    self.store_lost(store);
                }
                Err(StoreError::Full | StoreError::Corrupt) => {}
            }
        }
        entries
            .iter_mut()
            .zip(caps)
            .map(|(entry, cap)| (cap != AttributeCap::Unspecified).then(|| apply(entry, cap)))
            .collect()
    }

    /// What the store leaves of new sets.
    async fn admit(
        &self,
        store: &Store,
        partition: u16,
        entries: &[LedgerEntry],
        new_sets: &[NewSet],
    ) -> Result<Vec<AttributeCap>, StoreError> {
        let mut command = redis::cmd("FCALL");
        command
            .arg(&self.functions.admit_attributes)
            .arg(new_sets.len().saturating_mul(2));
        let found = || {
            new_sets
                .iter()
                .filter_map(|new| Some((new, entries.get(new.place)?)))
        };
        for (_, entry) in found() {
            for key in keys::attribute_sets(partition, day(entry), &entry.tenant) {
                command.arg(key);
            }
        }
        command.arg(partition).arg(self.attribute_sets.count_max);
        for (new, entry) in found() {
            let keys_id = hash(entry, |attribute, text| text(&attribute.key));
            command
                .arg(new.id.get(..STORED_HASH_SIZE))
                .arg(keys_id.get(..STORED_HASH_SIZE));
        }
        let left = bytes(store.call(&command, ADMIT_LIMIT).await?)?;
        if left.len() != new_sets.len() {
            return Err(StoreError::Corrupt);
        }
        let cap = |left: u8| AttributeCap::try_from(i32::from(left)).map_err(|_| StoreError::Corrupt);
        left.into_iter().map(cap).collect()
    }
}

/// An entry with what was left of its attributes the first time. `sent`: those sent now, where less is left of them.
pub(crate) fn as_first_time(entry: &mut LedgerEntry, sent: Option<&[Attribute]>, first: AttributeCap) {
    if entry.attribute_cap == i32::from(first) {
        return;
    }
    if let Some(sent) = sent {
        entry.attributes = sent.to_vec();
    }
    apply(entry, first);
}

/// Leaves of the attributes what the cap says; returns them as they were.
fn apply(entry: &mut LedgerEntry, cap: AttributeCap) -> Vec<Attribute> {
    let sent = entry.attributes.clone();
    let other = |key: String| Attribute {
        key,
        value: OTHER.to_owned(),
    };
    match cap {
        AttributeCap::Unspecified => {}
        AttributeCap::Values => {
            for attribute in &mut entry.attributes {
                OTHER.clone_into(&mut attribute.value);
            }
        }
        AttributeCap::All => entry.attributes = vec![other(OTHER.to_owned())],
    }
    entry.attribute_cap = cap.into();
    sent
}

fn day(entry: &LedgerEntry) -> i64 {
    entry.occur_time_nanos.div_euclid(NANOS_PER_DAY)
}

fn set_id(entry: &LedgerEntry) -> SetId {
    hash(entry, |attribute, text| {
        text(&attribute.key);
        text(&attribute.value);
    })
}

/// Hash of texts of the attributes; they are sorted. Texts carry their length, so that no two lists look alike.
fn hash(entry: &LedgerEntry, texts: impl Fn(&Attribute, &mut dyn FnMut(&str))) -> SetId {
    let mut hasher = blake3::Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(&entry.tenant);
    text(&day(entry).to_string());
    for attribute in &entry.attributes {
        texts(attribute, &mut text);
    }
    first_bytes(&hasher.finalize())
}
