// SPDX-License-Identifier: Apache-2.0
//! Credits on their way to and from the scripts, and changes of credit accounts. What credits do is in
//! `scripts/credits.lua`; amounts here are in pico-units until the script, which alone knows the rate, has converted
//! them.
//!
//! A change is a ledger entry like a record: the journal has it, a store that lost it is given it back, and its id
//! makes it happen once.

use ::bytes::Bytes;
use prost::{DecodeError, Message};

use crate::archive::Stored;
use crate::clock::NANOS_PER_MS;
use crate::engine::{Engine, journal_failure, store_failure};
use crate::error::Failure;
use crate::keys;
use crate::proto::taximeter::ledger::v1::{CreditMove, EntryKind, LedgerEntry};
use crate::quota::money_pair;
use crate::record::payload_fingerprint;
use crate::reopen::CALL_LIMIT;
use crate::script_arguments::read_mark;
use crate::script_call::Outcome;
use crate::store::{StoreError, bytes};

/// What an entry did to credits, in microcredits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CreditSums {
    /// Taken, less what was given back.
    pub(crate) debited: i64,
    /// The part of it that no grant covers.
    pub(crate) overdrawn: i64,
}

impl CreditSums {
    /// The sums of moves; None of none.
    pub(crate) fn of(moves: &[CreditMove]) -> Option<Self> {
        let sum = |moves: &mut dyn Iterator<Item = &CreditMove>| {
            moves.fold(0_i64, |sum, one| sum.saturating_add(taken_by(one)))
        };
        (!moves.is_empty()).then(|| Self {
            debited: sum(&mut moves.iter()),
            overdrawn: sum(&mut moves.iter().filter(|one| one.grant_id.is_empty())),
        })
    }
}

/// What a move takes from the balance; negative where it gives.
pub(crate) fn taken_by(one: &CreditMove) -> i64 {
    one.taken.saturating_sub(one.given)
}

/// Moves as the script appends them to an entry.
pub(crate) fn decode_moves(appended: &[u8]) -> Result<Vec<CreditMove>, DecodeError> {
    Ok(LedgerEntry::decode(appended)?.credit_moves)
}

/// An entry as it was written the first time, by its mark: with what it did to credits.
pub(crate) fn encoded_first(entry: &LedgerEntry, mark: &[u8]) -> Bytes {
    let mut encoded = entry.encode_to_vec();
    if entry.credit_moves.is_empty()
        && let Some(first) = read_mark(mark, !entry.hold_id.is_empty())
        && !first.credit_moves.is_empty()
    {
        let moves = LedgerEntry {
            credit_moves: first.credit_moves,
            ..Default::default()
        };
        encoded.extend_from_slice(&moves.encode_to_vec());
    }
    encoded.into()
}

/// Appends what the `record` script needs to know of an entry's credits. `was_applied`: with its moves, even none.
pub(crate) fn push_credits(entry: &LedgerEntry, was_applied: bool, packed: &mut Vec<u8>) {
    if !entry.credit_change.is_empty() {
        let size = u32::try_from(entry.credit_change.len()).unwrap_or(u32::MAX);
        packed.extend_from_slice(&size.to_le_bytes());
        packed.extend_from_slice(entry.credit_change.as_bytes());
    }
    if was_applied {
        push_moves(&entry.credit_moves, packed);
    } else if entry.credit_change.is_empty() {
        push_moves(&entry.credit_returns, packed);
        let is_correction = entry.kind != i32::from(EntryKind::Unspecified);
        let costs = (1..).zip(&entry.lines).map(|(number, line)| {
            let cost_picos = if is_correction {
                line.credit_cost_picos
            } else {
                line.cost_picos
            };
            (number, line.usage_class.as_str(), cost_picos)
        });
        push_call(&entry.model, &entry.rate_card_row, costs, packed);
    }
}

/// Appends what a call costs: lines as (number, class, pico-units).
pub(crate) fn push_call<'a>(
    model: &str,
    row: &str,
    lines: impl Iterator<Item = (u16, &'a str, i64)>,
    packed: &mut Vec<u8>,
) {
    push_text(model, packed);
    push_text(row, packed);
    let at = packed.len();
    packed.extend_from_slice(&[0; 2]);
    let mut count = 0_u16;
    for (number, class, cost_picos) in lines.filter(|(_, _, cost_picos)| *cost_picos > 0) {
        let (hi, lo) = money_pair(cost_picos);
        packed.extend_from_slice(&number.to_le_bytes());
        packed.extend_from_slice(&hi.to_le_bytes());
        packed.extend_from_slice(&lo.to_le_bytes());
        push_text(class, packed);
        count = count.saturating_add(1);
    }
    for (slot, byte) in packed.iter_mut().skip(at).zip(count.to_le_bytes()) {
        *slot = byte;
    }
}

/// Names are at most 200 characters of one byte each; a longer one would be cut, and so in no grant's scope.
fn push_text(text: &str, packed: &mut Vec<u8>) {
    let size = u8::try_from(text.len()).unwrap_or(u8::MAX);
    packed.push(size);
    packed.extend(text.bytes().take(usize::from(size)));
}

fn push_moves(moves: &[CreditMove], packed: &mut Vec<u8>) {
    let count = u16::try_from(moves.len()).unwrap_or(u16::MAX);
    packed.extend_from_slice(&count.to_le_bytes());
    for one in moves.iter().take(usize::from(count)) {
        packed.extend_from_slice(&u16::try_from(one.line).unwrap_or_default().to_le_bytes());
        push_text(&one.grant_id, packed);
        packed.extend_from_slice(&one.given.to_le_bytes());
        packed.extend_from_slice(&one.taken.to_le_bytes());
    }
}

/// What became of a change of a credit account.
pub(crate) enum Changed {
    /// It is in force now.
    Applied,
    /// It had been made before.
    Before,
    /// Its id had been used for another change.
    Conflict,
    /// It was refused; why, in the words of the script.
    Refused(String),
}

/// A change as Python hands it over.
pub(crate) struct CreditChange {
    pub(crate) tenant: String,
    pub(crate) change_id: String,
    pub(crate) occur_time_ms: i64,
    pub(crate) receive_time_ms: i64,
    /// What tells two changes apart.
    pub(crate) content: Vec<u8>,
    pub(crate) json: String,
    pub(crate) note: String,
    pub(crate) author: String,
}

impl Engine {
    /// Changes a credit account; durable once answered. After a failure it may have been made: make it again.
    pub(crate) async fn change_credits(&self, change: CreditChange) -> Result<Changed, Failure> {
        let partition = keys::partition_of(&change.tenant);
        let entry = LedgerEntry {
            tenant: change.tenant,
            record_id: change.change_id,
            fingerprint: payload_fingerprint(&change.content),
            occur_time_nanos: change.occur_time_ms.saturating_mul(NANOS_PER_MS),
            receive_time_ms: change.receive_time_ms,
            kind: EntryKind::Credit.into(),
            credit_change: change.json,
            note: change.note,
            author: change.author,
            ..Default::default()
        };
        let store = self.open_store().map_err(store_failure)?;
        let outcomes = self.apply_now(&store, partition, [&entry]).await?;
        let outcome = outcomes.into_iter().next().unwrap_or(Err(StoreError::Corrupt));
        let (epoch, outcome) = outcome.map_err(store_failure)?;
        let (id, encoded, changed) = match outcome {
            Outcome::Applied { id, encoded, .. } => (id, encoded, Changed::Applied),
            Outcome::Same { mark, id } => (id, encoded_first(&entry, &mark), Changed::Before),
            Outcome::Conflict { .. } => return Ok(Changed::Conflict),
            Outcome::Overflow => return Ok(Changed::Refused("too much".to_owned())),
            Outcome::Refused { why } => return Ok(Changed::Refused(why)),
        };
        let stored = Stored {
            epoch,
            id,
            entry: encoded,
            is_restored: false,
        };
        self.journal_entries(partition, vec![stored])
            .await
            .map_err(|_| journal_failure())?;
        if self.is_open(&store) {
            Ok(changed)
        } else {
            // See `post_batch` in adjust.rs.
            Err(store_failure(StoreError::NotOpen))
        }
    }

    /// The credit account of a root tenant as JSON, None when it has none.
    pub(crate) async fn credit_account(&self, root: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let partition = keys::partition_of(root);
        let command = Self::level_command(&self.functions.credit_account, partition, root);
        let store = self.open_store()?;
        match store.call(&command, CALL_LIMIT).await? {
            redis::Value::Nil => Ok(None),
            value => bytes(value).map(Some),
        }
    }
}
