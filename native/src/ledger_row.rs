// SPDX-License-Identifier: Apache-2.0
//! A ledger entry as rows, one per usage class: what each says.

use std::cell::OnceCell;

use crate::cost::hex;
use crate::credits::taken_by;
use crate::proto::taximeter::ledger::v1::{CreditMove, EntryKind, LedgerEntry, LedgerLine};
use crate::store::StoreError;
use crate::store_id::StreamId;

const NANOS_PER_MICRO: i64 = 1_000;

/// An entry with its place.
pub(crate) struct Entry {
    pub(crate) partition: i16,
    /// Milliseconds since 1970 UTC and the number within them.
    pub(crate) place: (i64, i64),
    pub(crate) says: LedgerEntry,
    rate_card_id: OnceCell<String>,
    tenant_prices_id: OnceCell<String>,
}

impl Entry {
    /// # Errors
    ///
    /// `Corrupt` when a number does not fit its column.
    pub(crate) fn new(partition: u16, id: StreamId, says: LedgerEntry) -> Result<Self, StoreError> {
        let signed = |number: u64| i64::try_from(number).map_err(|_| StoreError::Corrupt);
        Ok(Self {
            partition: i16::try_from(partition).map_err(|_| StoreError::Corrupt)?,
            place: (signed(id.ms)?, signed(id.seq)?),
            says,
            rate_card_id: OnceCell::new(),
            tenant_prices_id: OnceCell::new(),
        })
    }

    /// One per line; one where there is none. They are numbered from 1, as credit moves name them.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let lines = &self.says.lines;
        let without = lines.is_empty().then_some(None);
        let all = without.into_iter().chain(lines.iter().map(Some));
        (1..).zip(all).map(|(number, line)| Row {
            entry: self,
            line,
            number,
        })
    }

    pub(crate) fn rate_card_id(&self) -> Option<&str> {
        text(self.rate_card_id.get_or_init(|| hex(&self.says.rate_card_id)))
    }

    pub(crate) fn tenant_prices_id(&self) -> Option<&str> {
        text(
            self.tenant_prices_id
                .get_or_init(|| hex(&self.says.tenant_prices_id)),
        )
    }
}

/// One line of an entry, or the entry without lines.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) line: Option<&'a LedgerLine>,
    number: i32,
}

impl<'a> Row<'a> {
    pub(crate) fn says(self) -> &'a LedgerEntry {
        &self.entry.says
    }

    pub(crate) fn is_first(self) -> bool {
        self.number == 1
    }

    pub(crate) fn first(self) -> Option<&'a LedgerEntry> {
        self.is_first().then(|| self.says())
    }

    pub(crate) fn number_of(self, value: fn(&LedgerLine) -> i64) -> i64 {
        self.line.map_or(0, value)
    }

    /// What the card would charge; the entry leaves it out where that is what was charged.
    pub(crate) fn list<T>(
        self,
        line: &'a LedgerLine,
        charged: fn(&'a LedgerLine) -> T,
        list: fn(&'a LedgerLine) -> T,
    ) -> T {
        if self.says().tenant_prices_version == 0 {
            charged(line)
        } else {
            list(line)
        }
    }

    pub(crate) fn list_number(
        self,
        charged: fn(&'a LedgerLine) -> i64,
        list: fn(&'a LedgerLine) -> i64,
    ) -> i64 {
        self.line.map_or(0, |line| self.list(line, charged, list))
    }

    /// Moves of credits that are of the line; what is of no line stands on the first row.
    pub(crate) fn moves(self) -> impl Iterator<Item = &'a CreditMove> {
        let is_of_row =
            move |one: &&CreditMove| one.line == self.number || (self.is_first() && one.line == 0);
        self.says().credit_moves.iter().filter(is_of_row)
    }

    /// What those moves take of credits that fulfil a condition; nothing where the account itself changes.
    pub(crate) fn taken(self, is_kept: fn(&CreditMove) -> bool) -> i64 {
        if !self.says().credit_change.is_empty() {
            return 0;
        }
        let kept = self.moves().filter(|one| is_kept(one));
        kept.fold(0, |sum, one| sum.saturating_add(taken_by(one)))
    }
}

/// What takes calls back, or adds them, says how many for each class.
pub(crate) fn entry_calls(row: Row) -> i64 {
    let says = row.says();
    let line = row.line.filter(|_| says.kind > i32::from(EntryKind::Adjustment));
    line.map_or(says.calls, |line| line.calls)
}

pub(crate) fn credit_moves(row: Row) -> Option<String> {
    let moves: Vec<_> = row
        .moves()
        .map(|one| (one.grant_id.as_str(), taken_by(one)))
        .collect();
    (!moves.is_empty()).then(|| serde_json::json!(moves).to_string())
}

/// When an entry's usage occurred, in microseconds since 1970 UTC, rounded down.
pub(crate) fn occur_time_us(entry: &LedgerEntry) -> i64 {
    entry.occur_time_nanos.div_euclid(NANOS_PER_MICRO)
}

/// Absent where the proto says so with an empty string.
pub(crate) fn text(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}
