// SPDX-License-Identifier: Apache-2.0
//! Names of the keys in the store. Pinned by `tests/native/test_keys.py`; the global documents are named in
//! `store.py`.
//!
//! All keys of a partition carry the hash tag `{tx:P}`, so that a call touches one node of a cluster. A tenant's
//! partition follows from its first segment: a whole hierarchy lives together.

use pyo3::prelude::*;

/// Number of partitions. Fixed when a store is created.
pub(crate) const PARTITION_COUNT: u16 = 64;
/// Dedup marks of one day and partition are spread over this many hashes, so that each stays in the compact encoding.
pub(crate) const DEDUP_HASH_COUNT: u16 = 4096;
/// Marks of ids dated within so many milliseconds lie in as few hashes, so that those of a batch are written together;
/// in one alone they would outgrow the compact encoding when records come fast.
pub(crate) const DEDUP_WINDOW_MS: i64 = 64;
pub(crate) const DEDUP_WINDOW_HASHES: u16 = 8;
/// Days that one generation of marks holds for ids without a date of their own.
pub(crate) const GENERATION_DAYS: i64 = 40;
/// Conflicts found when journaled records were applied: a hash, so that finding one twice lists it once.
pub(crate) const CONFLICTS: &str = "{tx:cfg}:conflicts";

/// Partition of a tenant, 0 to 63.
#[pyfunction]
pub(crate) fn partition_of(tenant: &str) -> u16 {
    let root = tenant.split('/').next().unwrap_or_default();
    let hash = crc32c::crc32c(root.as_bytes());
    u16::try_from(hash.checked_rem(u32::from(PARTITION_COUNT)).unwrap_or_default()).unwrap_or_default()
}

/// Whether a tenant is `path` or below it. By segment: acme is acme and acme/research, not acmes.
pub(crate) fn is_within(tenant: &str, path: &str) -> bool {
    let rest = tenant.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A partition as the scripts of several read it.
pub(crate) fn packed(partition: u16) -> u8 {
    u8::try_from(partition).unwrap_or(u8::MAX)
}

/// The partition's ledger stream.
pub(crate) fn ledger(partition: u16) -> String {
    format!("{{tx:{partition}}}:ledger")
}

/// The partition's list of epochs, see `scripts/meter.lua`.
pub(crate) fn epochs(partition: u16) -> String {
    format!("{{tx:{partition}}}:epochs")
}

/// Day below which the partition's dedup marks have been dropped, and when it last moved.
pub(crate) fn dedup_watermark(partition: u16) -> String {
    format!("{{tx:{partition}}}:dedup_watermark")
}

/// Holds that are placed within so many milliseconds have their marks in one hash, unless they live much longer or
/// shorter. Short enough for the hash to be compact: it may have some hundred.
const HOLD_PLACE_MS: i64 = 4;

/// Where the marks lie of holds that were placed at a time and are kept equally long; see `scripts/marks.lua`. Not in a
/// partition: calls of several go together, and write their marks together.
pub(crate) fn hold_place(time_ms: i64, grid_power: u8) -> String {
    format!(
        "{{tx:holds}}:{:x}:{grid_power}",
        time_ms.div_euclid(HOLD_PLACE_MS)
    )
}

/// What became of a check with a name, or of a hold that has no place; `name` is made by `hold_id.rs`.
pub(crate) fn hold(partition: u16, name: &str) -> String {
    format!("{{tx:{partition}}}:hold:{name}")
}

/// The sets of attributes that a tenant's day (days since 1970) has admitted, and its sets of attribute keys.
pub(crate) fn attribute_sets(partition: u16, day: i64, tenant: &str) -> [String; 2] {
    ["attributes", "attribute_keys"].map(|name| format!("{{tx:{partition}}}:{name}:{day}:{tenant}"))
}

/// The limits of a plan, in the partitions of all its tenants: scripts find it by the names of levels, see
/// `scripts/limits.lua`.
pub(crate) fn plan(partition: u16, name: &str) -> String {
    format!("{{tx:{partition}}}:plan:{name}")
}

/// Key of one level.
pub(crate) fn level(partition: u16, name: &str) -> String {
    format!("{{tx:{partition}}}:t:{name}")
}

/// Keys of all levels of a tenant's path, root first.
pub(crate) fn levels(partition: u16, tenant: &str) -> impl Iterator<Item = String> + '_ {
    level_names(tenant).map(move |name| level(partition, name))
}

/// Paths of all levels of a tenant's path, root first: `a/b` gives `a`, `a/b`.
pub(crate) fn level_names(tenant: &str) -> impl Iterator<Item = &str> {
    tenant
        .bytes()
        .enumerate()
        .filter_map(|(at, byte)| (byte == b'/').then_some(at))
        .chain(std::iter::once(tenant.len()))
        .map(|end| tenant.get(..end).unwrap_or(tenant))
}

/// Hash of dedup marks for ids dated on `day` (days since 1970).
pub(crate) fn dedup_day(partition: u16, day: i64, hash: u16) -> String {
    format!("{{tx:{partition}}}:dedup:d{day}:{hash:03x}")
}

/// Hash of dedup marks for ids without a date, by generation of 40 days.
pub(crate) fn dedup_generation(partition: u16, generation: i64, hash: u16) -> String {
    format!("{{tx:{partition}}}:dedup:g{generation}:{hash:03x}")
}
