// SPDX-License-Identifier: Apache-2.0
//! Calls of the `record` script: entries in, outcomes out.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::cost::StoreSays;
use crate::credits::{CreditSums, decode_moves};
use crate::hold::read_settlement;
use crate::proto::taximeter::ledger::v1::LedgerEntry;
use crate::quota::{Reader, read_statuses};
use crate::script_arguments::{ScriptArguments, script_arguments};
use crate::script_part::{Answers, Part};
use crate::store::{Functions, Store, StoreError};
use crate::store_id::StreamId;

const STREAM_ID_SIZE: usize = 16;

/// What the store did with one entry.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Applied now.
    Applied {
        id: StreamId,
        says: StoreSays,
        /// The entry, as the ledger stream has it.
        encoded: Bytes,
    },
    /// The same record had been applied before; its mark and stream id.
    Same { mark: Vec<u8>, id: StreamId },
    /// Another record has this id; its mark.
    Conflict { mark: Vec<u8> },
    /// A counter would pass its maximum.
    Overflow,
    /// A credit account was not changed; why not, in the words of `scripts/credits.lua`.
    Refused { why: String },
}

/// One entry to apply. `archived_id` is set when the ledger files hold it already: then only counters and mark are
/// written.
pub(crate) struct Application<'a> {
    pub(crate) entry: &'a LedgerEntry,
    pub(crate) archived_id: Option<StreamId>,
    /// A store had applied it before, and has lost it.
    pub(crate) was_applied: bool,
}

/// Applies entries of one partition, in one script call where nothing is wrong with any of them. Returns for each the
/// store's epoch and its outcome, or that a key of this entry is not what it must be.
pub(crate) async fn apply_each(
    store: &Store,
    functions: &Functions,
    partition: u16,
    applications: &[Application<'_>],
    limit: Duration,
) -> Result<Vec<Result<(u64, Outcome), StoreError>>, StoreError> {
    match apply(store, functions, partition, applications, limit).await {
        Ok((epoch, outcomes)) => Ok(outcomes.into_iter().map(|outcome| Ok((epoch, outcome))).collect()),
        // Nothing was written. One by one, so that a tenant with a damaged key fails alone.
        Err(StoreError::Corrupt) => {
            let mut outcomes = Vec::with_capacity(applications.len());
            for application in applications {
                let alone = std::slice::from_ref(application);
                match apply(store, functions, partition, alone, limit).await {
                    Ok((epoch, found)) => outcomes.extend(found.into_iter().map(|one| Ok((epoch, one)))),
                    Err(StoreError::Corrupt) => outcomes.push(Err(StoreError::Corrupt)),
                    Err(error) => return Err(error),
                }
            }
            Ok(outcomes)
        }
        Err(error) => Err(error),
    }
}

/// Applies entries of one partition in one script call. Returns the store's epoch and one outcome per entry.
async fn apply(
    store: &Store,
    functions: &Functions,
    partition: u16,
    applications: &[Application<'_>],
    limit: Duration,
) -> Result<(u64, Vec<Outcome>), StoreError> {
    let arguments: Vec<ScriptArguments> = applications
        .iter()
        .map(|application| {
            let to_ledger = application.archived_id.is_none();
            script_arguments(application.entry, partition, to_ledger, application.was_applied)
        })
        .collect();
    let mut part = Part::new(&functions.record, applications.len());
    let encoded: Vec<Vec<u8>> = applications
        .iter()
        .map(|application| application.entry.encode_to_vec())
        .collect();
    for ((argument, application), encoded) in arguments.iter().zip(applications).zip(&encoded) {
        for key in &argument.keys {
            part.key(key);
        }
        part.argument(&argument.identity);
        part.argument(&argument.mark);
        part.argument(&argument.numbers);
        match application.archived_id {
            None => part.argument(encoded),
            Some(id) => part.argument([id.ms.to_le_bytes(), id.seq.to_le_bytes()].as_flattened()),
        }
    }
    let Answers { head, answers } = store.answers(&mut part, limit).await?;
    let mut head = Reader(&head);
    let now_ms = head.clock_ms()?;
    let epoch = parse_epoch(head.0)?;
    let outcomes = answers
        .iter()
        .zip(applications)
        .zip(encoded)
        .map(|((answer, application), encoded)| outcome(answer, application.entry, now_ms, encoded))
        .collect::<Result<Vec<_>, StoreError>>()?;
    Ok((epoch, outcomes))
}

/// An epoch as the scripts write it.
pub(crate) fn parse_epoch(text: &[u8]) -> Result<u64, StoreError> {
    let text = str::from_utf8(text).map_err(|_| StoreError::Corrupt)?;
    text.parse().map_err(|_| StoreError::Corrupt)
}

fn outcome(reply: &[u8], entry: &LedgerEntry, now_ms: i64, encoded: Vec<u8>) -> Result<Outcome, StoreError> {
    let (kind, rest) = reply.split_first().ok_or(StoreError::Corrupt)?;
    match *kind {
        b'A' => {
            let (id, rest) = rest
                .split_first_chunk::<STREAM_ID_SIZE>()
                .ok_or(StoreError::Corrupt)?;
            let mut reader = Reader(rest);
            let hold = if entry.hold_id.is_empty() {
                None
            } else {
                Some(read_settlement(&mut reader)?)
            };
            let limits = read_statuses(&mut reader, &entry.tenant, now_ms, false)?;
            let moves = reader.0;
            let credits = CreditSums::of(&decode_moves(moves).map_err(|_| StoreError::Corrupt)?);
            let mut applied = encoded;
            if entry.credit_moves.is_empty() {
                // As the script did: fields that are appended to a message belong to it.
                applied.extend_from_slice(moves);
            }
            Ok(Outcome::Applied {
                id: stream_id(id)?,
                says: StoreSays {
                    limits,
                    hold,
                    credits,
                },
                encoded: applied.into(),
            })
        }
        b'D' => {
            let (mark, id) = rest
                .split_last_chunk::<STREAM_ID_SIZE>()
                .ok_or(StoreError::Corrupt)?;
            Ok(Outcome::Same {
                mark: mark.to_vec(),
                id: stream_id(id)?,
            })
        }
        b'C' => Ok(Outcome::Conflict { mark: rest.to_vec() }),
        b'O' => Ok(Outcome::Overflow),
        b'R' => Ok(Outcome::Refused {
            why: String::from_utf8_lossy(rest).into_owned(),
        }),
        _ => Err(StoreError::Corrupt),
    }
}

/// A stream id as the scripts write it.
pub(crate) fn stream_id(packed: &[u8; STREAM_ID_SIZE]) -> Result<StreamId, StoreError> {
    let (ms, seq) = packed.split_first_chunk::<8>().ok_or(StoreError::Corrupt)?;
    let seq = seq.first_chunk::<8>().ok_or(StoreError::Corrupt)?;
    Ok(StreamId {
        ms: u64::from_le_bytes(*ms),
        seq: u64::from_le_bytes(*seq),
    })
}
