// SPDX-License-Identifier: Apache-2.0
//! Records that the store has only to count and keep, as most are; see `scripts/plain.lua`.
//!
//! Those of one tenant and day are summed up here, and their entries encoded into one, so that the store does once for
//! all of them what it does for each of others. What needs more than that, or is not new, goes alone.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use crate::cost::StoreSays;
use crate::keys;
use crate::ledger_entries::push_entry;
use crate::proto::taximeter::ledger::v1::{EntryKind, LedgerEntry};
use crate::quota::{Reader, money_pair, read_statuses};
use crate::record::HASH_SIZE;
use crate::script_arguments::{Bucket, Identity, MARK_SIZE, mark, usage_day};
use crate::script_call::{Application, Outcome, apply_each, parse_epoch, stream_id};
use crate::script_part::{Answers, Part};
use crate::store::{Functions, Store, StoreError};
use crate::store_id::StreamId;

/// Room for an entry with a few lines.
const ENTRY_CAPACITY: usize = 512;
/// Bytes of what the script is told of a group in numbers.
const NUMBERS_SIZE: usize = 40;
/// Bytes of a record's name and of its mark.
const MARKED_SIZE: usize = HASH_SIZE + MARK_SIZE;

/// What became of each entry, with the store's epoch; or that a key of this entry is not what it must be.
type Outcomes = Vec<Result<(u64, Outcome), StoreError>>;

/// Applies entries that callers recorded, of one partition.
pub(crate) async fn record_each(
    store: &Store,
    functions: &Functions,
    partition: u16,
    entries: &[LedgerEntry],
    limit: Duration,
) -> Result<Outcomes, StoreError> {
    let mut outcomes: Vec<Option<(u64, Outcome)>> = entries.iter().map(|_| None).collect();
    let groups = groups(entries);
    if !groups.is_empty() {
        match record_plain(store, functions, partition, &groups, limit).await {
            Ok((epoch, recorded)) => {
                for (place, outcome) in recorded {
                    if let Some(slot) = outcomes.get_mut(place) {
                        *slot = Some((epoch, outcome));
                    }
                }
            }
            // Nothing was written.
            Err(StoreError::Corrupt) => {}
            Err(error) => return Err(error),
        }
    }
    let left: Vec<Application<'_>> = entries
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| outcome.is_none())
        .map(|(entry, _)| Application {
            entry,
            archived_id: None,
            was_applied: false,
        })
        .collect();
    let mut alone = if left.is_empty() {
        Vec::new()
    } else {
        // Boxed, because few need it, and every call would be larger by it.
        Box::pin(apply_each(store, functions, partition, &left, limit)).await?
    }
    .into_iter();
    outcomes
        .into_iter()
        .map(|outcome| {
            outcome
                .map(Ok)
                .or_else(|| alone.next())
                .ok_or(StoreError::Corrupt)
        })
        .collect()
}

/// New records of one tenant's day.
struct Group<'a> {
    tenant: &'a str,
    day: i64,
    is_dated: bool,
    tokens: i64,
    cost_picos: i64,
    /// Those of one bucket stand side by side.
    members: Vec<Member<'a>>,
}

struct Member<'a> {
    /// In the call.
    place: usize,
    entry: &'a LedgerEntry,
    name: [u8; HASH_SIZE],
    bucket: Bucket,
}

impl Member<'_> {
    const fn is_dated(&self) -> bool {
        matches!(self.bucket, Bucket::OfDay(..))
    }
}

impl<'a> Group<'a> {
    fn of(member: Member<'a>) -> Self {
        Self {
            tenant: &member.entry.tenant,
            day: usage_day(member.entry),
            is_dated: member.is_dated(),
            tokens: member.entry.quota_tokens,
            cost_picos: member.entry.cost_picos,
            members: vec![member],
        }
    }

    /// Takes a record in, or gives it back when it belongs elsewhere.
    fn take_in(&mut self, member: Member<'a>) -> Result<(), Member<'a>> {
        let entry = member.entry;
        let sums = (
            self.tokens.checked_add(entry.quota_tokens),
            self.cost_picos.checked_add(entry.cost_picos),
        );
        let is_of_group =
            self.tenant == entry.tenant && self.day == usage_day(entry) && self.is_dated == member.is_dated();
        let (true, (Some(tokens), Some(cost_picos))) = (is_of_group, sums) else {
            return Err(member);
        };
        (self.tokens, self.cost_picos) = (tokens, cost_picos);
        self.members.push(member);
        Ok(())
    }
}

/// Entries that need only be counted and kept, by tenant and day. None of them when two have one id: then their order
/// says which of them is the other's repetition.
fn groups(entries: &[LedgerEntry]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut seen: HashSet<[u8; HASH_SIZE]> = HashSet::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        let identity = Identity::of(entry);
        if !seen.insert(identity.name) {
            return Vec::new();
        }
        if entry.kind != i32::from(EntryKind::Unspecified) || !entry.hold_id.is_empty() {
            continue;
        }
        let mut member = Some(Member {
            place,
            entry,
            name: identity.name,
            bucket: identity.bucket(entry),
        });
        // Those of one tenant stand side by side, mostly.
        for group in groups.iter_mut().rev() {
            match member.take().map(|one| group.take_in(one)) {
                Some(Err(back)) => member = Some(back),
                _ => break,
            }
        }
        groups.extend(member.map(Group::of));
    }
    for group in &mut groups {
        group.members.sort_by_key(|member| member.bucket);
    }
    groups
}

/// Applies groups in one script call. Returns the store's epoch, and outcomes with the places in the call of what was
/// recorded.
async fn record_plain(
    store: &Store,
    functions: &Functions,
    partition: u16,
    groups: &[Group<'_>],
    limit: Duration,
) -> Result<(u64, Vec<(usize, Outcome)>), StoreError> {
    let count = groups.iter().map(|group| group.members.len()).sum();
    let mut part = Part::new(&functions.record_plain, groups.len());
    part.set_weight(count);
    let encoded: Vec<Vec<Bytes>> = groups
        .iter()
        .map(|group| push_group(partition, group, &mut part))
        .collect();
    let Answers { head, answers } = store.answers(&mut part, limit).await?;
    let mut head = Reader(&head);
    let now_ms = head.clock_ms()?;
    let epoch = parse_epoch(head.0)?;
    let mut recorded = Vec::with_capacity(count);
    for ((group, entries), answer) in groups.iter().zip(encoded).zip(answers) {
        let Some(answer) = answer.strip_prefix(b"A") else {
            continue;
        };
        let (first, statuses) = answer.split_first_chunk().ok_or(StoreError::Corrupt)?;
        let first = stream_id(first)?;
        let limits = read_statuses(&mut Reader(statuses), group.tenant, now_ms, false)?;
        for ((seq, member), encoded) in (first.seq..).zip(&group.members).zip(entries) {
            let outcome = Outcome::Applied {
                id: StreamId { seq, ..first },
                says: StoreSays {
                    limits: limits.clone(),
                    ..StoreSays::default()
                },
                encoded,
            };
            recorded.push((member.place, outcome));
        }
    }
    Ok((epoch, recorded))
}

/// Adds a group to a call. Returns its entries, encoded.
fn push_group(partition: u16, group: &Group<'_>, part: &mut Part) -> Vec<Bytes> {
    let count = group.members.len();
    let level_count = part.level_keys(partition, group.tenant);
    let (mut packed, mut starts) = (
        Vec::with_capacity(count.saturating_mul(ENTRY_CAPACITY)),
        Vec::with_capacity(count),
    );
    for member in &group.members {
        starts.push((push_entry(member.entry, &mut packed), packed.len()));
    }
    let buckets = || group.members.chunk_by(|one, next| one.bucket == next.bucket);
    let mut dedup_key_count = 0;
    for (bucket, _) in buckets().filter_map(|members| members.split_first()) {
        let keys = bucket.bucket.keys(partition);
        dedup_key_count = keys.len();
        for key in &keys {
            part.key(key);
        }
    }
    let front = starts.first().map_or(0, |(start, _)| *start);
    let mut numbers = Vec::with_capacity(NUMBERS_SIZE);
    let small = |size| u8::try_from(size).unwrap_or_default();
    numbers.extend([
        keys::packed(partition),
        level_count,
        small(dedup_key_count),
        small(front),
    ]);
    for number in [count, buckets().count()] {
        numbers.extend(u16::try_from(number).unwrap_or_default().to_le_bytes());
    }
    let (hi, lo) = money_pair(group.cost_picos);
    for number in [group.day.unsigned_abs(), group.tokens.unsigned_abs(), hi, lo] {
        numbers.extend(number.to_le_bytes());
    }
    part.argument(&numbers);
    part.argument(&packed);
    for members in buckets() {
        let mut marked = Vec::with_capacity(members.len().saturating_mul(MARKED_SIZE));
        for member in members {
            marked.extend_from_slice(&member.name);
            marked.extend_from_slice(&mark(member.entry));
        }
        part.argument(&marked);
    }
    let packed = Bytes::from(packed);
    starts
        .into_iter()
        .map(|(start, end)| packed.slice(start..end))
        .collect()
}
