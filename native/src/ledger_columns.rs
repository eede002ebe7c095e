// SPDX-License-Identifier: Apache-2.0
//! Ledger entries as columns: one row per (entry, usage class), written as an Arrow IPC stream.
//!
//! An entry without lines still has one row, whose line columns are null, so that its calls are counted. What an
//! entry says once (tenant, model, attributes) is repeated on each of its rows: the rows are summed by whatever
//! dimension a report asks for, without joining anything.

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Int8Builder, Int16Builder, Int64Builder, MapBuilder, MapFieldNames,
    StringBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use bytes::Bytes;
use prost::Message;

use crate::cost::hex;
use crate::credits::taken_by;
use crate::proto::taximeter::ledger::v1::{CreditMove, EntryKind, LedgerEntry, LedgerLine};
use crate::store::StoreError;
use crate::store_id::StreamId;

const NANOS_PER_MICRO: i64 = 1_000;

/// Turn encoded entries of one partition into an Arrow IPC stream of ledger rows, in the order given.
///
/// # Errors
///
/// `Corrupt` when one of them is no entry, or when Arrow refuses the batch, which would be a defect of this module.
pub(crate) fn to_ipc(partition: i16, entries: Vec<(StreamId, Bytes)>) -> Result<Vec<u8>, StoreError> {
    let mut columns = LedgerColumns::default();
    // One after the other, each gone before the next: decoded they are ten times as large.
    for (id, encoded) in entries {
        let entry = LedgerEntry::decode(encoded).map_err(|_| StoreError::Corrupt)?;
        let signed = |number: u64| i64::try_from(number).map_err(|_| StoreError::Corrupt);
        let place = (signed(id.ms)?, signed(id.seq)?);
        columns
            .push_entry(partition, place, &entry)
            .map_err(|_| StoreError::Corrupt)?;
    }
    columns.into_ipc().map_err(|_| StoreError::Corrupt)
}

struct LedgerColumns {
    stream_ms: Int64Builder,
    stream_seq: Int64Builder,
    partition: Int16Builder,
    tenant: StringBuilder,
    record_id: StringBuilder,
    occur_time_us: Int64Builder,
    receive_time_ms: Int64Builder,
    calls: Int64Builder,
    entry_calls: Int64Builder,
    model: StringBuilder,
    provider: StringBuilder,
    tier: StringBuilder,
    region: StringBuilder,
    speed: StringBuilder,
    attributes: MapBuilder<StringBuilder, StringBuilder>,
    quality: Int8Builder,
    rate_card_id: StringBuilder,
    rate_card_version: Int64Builder,
    rate_card_row: StringBuilder,
    usage_class: StringBuilder,
    priced_as: StringBuilder,
    quantity: Int64Builder,
    billed_quantity: Int64Builder,
    amount_picos: Int64Builder,
    per: Int64Builder,
    cost_picos: Int64Builder,
    unpriced: BooleanBuilder,
    tenant_prices_version: Int64Builder,
    tenant_prices_id: StringBuilder,
    list_priced_as: StringBuilder,
    list_billed_quantity: Int64Builder,
    list_amount_picos: Int64Builder,
    list_per: Int64Builder,
    list_cost_picos: Int64Builder,
    kind: Int8Builder,
    adjusted_record_id: StringBuilder,
    note: StringBuilder,
    author: StringBuilder,
    adjusted_quantity: Int64Builder,
    previous_cost_picos: Int64Builder,
    prices_unpriced: BooleanBuilder,
    usage_provider: StringBuilder,
    usage_api: StringBuilder,
    usage_json: StringBuilder,
    usage_flags: StringBuilder,
    credits: Int64Builder,
    overdrawn: Int64Builder,
    credit_moves: StringBuilder,
    credit_change: StringBuilder,
}

impl Default for LedgerColumns {
    fn default() -> Self {
        // The names that Parquet and the other Arrow implementations use for maps.
        let names = MapFieldNames {
            entry: "entries".into(),
            key: "key".into(),
            value: "value".into(),
        };
        Self {
            stream_ms: Int64Builder::new(),
            stream_seq: Int64Builder::new(),
            partition: Int16Builder::new(),
            tenant: StringBuilder::new(),
            record_id: StringBuilder::new(),
            occur_time_us: Int64Builder::new(),
            receive_time_ms: Int64Builder::new(),
            calls: Int64Builder::new(),
            entry_calls: Int64Builder::new(),
            model: StringBuilder::new(),
            provider: StringBuilder::new(),
            tier: StringBuilder::new(),
            region: StringBuilder::new(),
            speed: StringBuilder::new(),
            attributes: MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new()),
            quality: Int8Builder::new(),
            rate_card_id: StringBuilder::new(),
            rate_card_version: Int64Builder::new(),
            rate_card_row: StringBuilder::new(),
            usage_class: StringBuilder::new(),
            priced_as: StringBuilder::new(),
            quantity: Int64Builder::new(),
            billed_quantity: Int64Builder::new(),
            amount_picos: Int64Builder::new(),
            per: Int64Builder::new(),
            cost_picos: Int64Builder::new(),
            unpriced: BooleanBuilder::new(),
            tenant_prices_version: Int64Builder::new(),
            tenant_prices_id: StringBuilder::new(),
            list_priced_as: StringBuilder::new(),
            list_billed_quantity: Int64Builder::new(),
            list_amount_picos: Int64Builder::new(),
            list_per: Int64Builder::new(),
            list_cost_picos: Int64Builder::new(),
            kind: Int8Builder::new(),
            adjusted_record_id: StringBuilder::new(),
            note: StringBuilder::new(),
            author: StringBuilder::new(),
            adjusted_quantity: Int64Builder::new(),
            previous_cost_picos: Int64Builder::new(),
            prices_unpriced: BooleanBuilder::new(),
            usage_provider: StringBuilder::new(),
            usage_api: StringBuilder::new(),
            usage_json: StringBuilder::new(),
            usage_flags: StringBuilder::new(),
            credits: Int64Builder::new(),
            overdrawn: Int64Builder::new(),
            credit_moves: StringBuilder::new(),
            credit_change: StringBuilder::new(),
        }
    }
}

impl LedgerColumns {
    fn into_ipc(self) -> Result<Vec<u8>, ArrowError> {
        let batch = self.finish()?;
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(&batch)?;
        writer.into_inner()
    }

    /// `stream_id`: milliseconds since 1970 UTC and the number within them.
    fn push_entry(
        &mut self,
        partition: i16,
        stream_id: (i64, i64),
        entry: &LedgerEntry,
    ) -> Result<(), ArrowError> {
        let rate_card_id = hex(&entry.rate_card_id);
        let tenant_prices_id = hex(&entry.tenant_prices_id);
        let list_is_charged = entry.tenant_prices_version == 0;
        let mut push_row = |number: i32, line: Option<&LedgerLine>| {
            let is_first = number == 1;
            self.stream_ms.append_value(stream_id.0);
            self.stream_seq.append_value(stream_id.1);
            self.partition.append_value(partition);
            self.calls.append_value(if is_first { entry.calls } else { 0 });
            self.push_reported(is_first, entry);
            self.push_credits(number, entry);
            self.push_line_values(line);
            self.push_list_values(line, list_is_charged);
            self.tenant_prices_version
                .append_value(entry.tenant_prices_version);
            self.tenant_prices_id.append_option(text(&tenant_prices_id));
            // What takes calls back, or adds them, says how many for each class.
            let entry_calls = if entry.kind > i32::from(EntryKind::Adjustment) {
                line.map_or(entry.calls, |line| line.calls)
            } else {
                entry.calls
            };
            self.entry_calls.append_value(entry_calls);
            self.push_entry_values(entry, &rate_card_id)
        };
        let Some((first, rest)) = entry.lines.split_first() else {
            return push_row(1, None);
        };
        push_row(1, Some(first))?;
        (2..)
            .zip(rest)
            .try_for_each(|(number, line)| push_row(number, Some(line)))
    }

    /// What a line took of credits; what is of no line stands on the first row.
    fn push_credits(&mut self, number: i32, entry: &LedgerEntry) {
        let is_of_row = |one: &&CreditMove| one.line == number || (number == 1 && one.line == 0);
        let of_row = || entry.credit_moves.iter().filter(is_of_row);
        let sum = |moves: &mut dyn Iterator<Item = &CreditMove>| {
            moves.fold(0_i64, |sum, one| sum.saturating_add(taken_by(one)))
        };
        let is_usage = entry.credit_change.is_empty();
        self.credits
            .append_value(if is_usage { sum(&mut of_row()) } else { 0 });
        self.overdrawn.append_value(if is_usage {
            sum(&mut of_row().filter(|one| one.grant_id.is_empty()))
        } else {
            0
        });
        let moves: Vec<_> = of_row()
            .map(|one| (one.grant_id.as_str(), taken_by(one)))
            .collect();
        self.credit_moves
            .append_option((!moves.is_empty()).then(|| serde_json::json!(moves).to_string()));
        let is_said = number == 1 && !is_usage;
        self.credit_change
            .append_option(is_said.then_some(entry.credit_change.as_str()));
    }

    /// What the provider reported stands on the first row only: it is long, and nothing sums it.
    fn push_reported(&mut self, is_first: bool, entry: &LedgerEntry) {
        let said = |value: &str| (is_first && !value.is_empty()).then(|| value.to_owned());
        self.usage_provider.append_option(said(&entry.usage_provider));
        self.usage_api.append_option(said(&entry.usage_api));
        self.usage_json.append_option(said(&entry.usage_json));
        self.usage_flags.append_option(said(&entry.usage_flags.join(",")));
    }

    fn push_entry_values(&mut self, entry: &LedgerEntry, rate_card_id: &str) -> Result<(), ArrowError> {
        self.tenant.append_value(&entry.tenant);
        self.record_id.append_value(&entry.record_id);
        self.occur_time_us
            .append_value(entry.occur_time_nanos.div_euclid(NANOS_PER_MICRO));
        self.receive_time_ms.append_value(entry.receive_time_ms);
        self.model.append_option(text(&entry.model));
        self.provider.append_option(text(&entry.provider));
        self.tier.append_option(text(&entry.tier));
        self.region.append_option(text(&entry.region));
        self.speed.append_option(text(&entry.speed));
        for attribute in &entry.attributes {
            self.attributes.keys().append_value(&attribute.key);
            self.attributes.values().append_value(&attribute.value);
        }
        self.attributes.append(true)?;
        // A quality of a later version reads as unspecified, rather than keeping the entry out of the ledger.
        self.quality
            .append_value(i8::try_from(entry.quality).unwrap_or(0));
        self.rate_card_id.append_option(text(rate_card_id));
        self.rate_card_version.append_value(entry.rate_card_version);
        self.rate_card_row.append_option(text(&entry.rate_card_row));
        self.kind.append_value(i8::try_from(entry.kind).unwrap_or(0));
        self.adjusted_record_id
            .append_option(text(&entry.adjusted_record_id));
        self.note.append_option(text(&entry.note));
        self.author.append_option(text(&entry.author));
        Ok(())
    }

    fn push_line_values(&mut self, line: Option<&LedgerLine>) {
        self.usage_class
            .append_option(line.map(|line| line.usage_class.as_str()));
        self.priced_as
            .append_option(line.and_then(|line| text(&line.priced_as)));
        self.quantity.append_value(line.map_or(0, |line| line.quantity));
        self.billed_quantity
            .append_value(line.map_or(0, |line| line.billed_quantity));
        self.amount_picos
            .append_value(line.map_or(0, |line| line.amount_picos));
        self.per.append_value(line.map_or(0, |line| line.per));
        self.cost_picos
            .append_value(line.map_or(0, |line| line.cost_picos));
        self.unpriced.append_value(line.is_some_and(|line| line.unpriced));
        self.adjusted_quantity
            .append_value(line.map_or(0, |line| line.adjusted_quantity));
        self.previous_cost_picos
            .append_value(line.map_or(0, |line| line.previous_cost_picos));
        self.prices_unpriced
            .append_value(line.is_some_and(|line| line.prices_unpriced));
    }

    /// What the card would charge; the entry leaves it out where that is what was charged.
    fn push_list_values(&mut self, line: Option<&LedgerLine>, list_is_charged: bool) {
        let of = |charged: fn(&LedgerLine) -> i64, list: fn(&LedgerLine) -> i64| {
            line.map_or(0, if list_is_charged { charged } else { list })
        };
        let priced_as = line.map(|line| {
            if list_is_charged {
                line.priced_as.as_str()
            } else {
                line.list_priced_as.as_str()
            }
        });
        self.list_priced_as.append_option(priced_as.and_then(text));
        self.list_billed_quantity
            .append_value(of(|line| line.billed_quantity, |line| line.list_billed_quantity));
        self.list_amount_picos
            .append_value(of(|line| line.amount_picos, |line| line.list_amount_picos));
        self.list_per
            .append_value(of(|line| line.per, |line| line.list_per));
        self.list_cost_picos
            .append_value(of(|line| line.cost_picos, |line| line.list_cost_picos));
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let columns: [(&str, ArrayRef, bool); 49] = [
            ("stream_ms", array(&mut self.stream_ms), false),
            ("stream_seq", array(&mut self.stream_seq), false),
            ("partition", array(&mut self.partition), false),
            ("tenant", array(&mut self.tenant), false),
            ("record_id", array(&mut self.record_id), false),
            ("occur_time_us", array(&mut self.occur_time_us), false),
            ("receive_time_ms", array(&mut self.receive_time_ms), false),
            ("calls", array(&mut self.calls), false),
            ("entry_calls", array(&mut self.entry_calls), false),
            ("model", array(&mut self.model), true),
            ("provider", array(&mut self.provider), true),
            ("tier", array(&mut self.tier), true),
            ("region", array(&mut self.region), true),
            ("speed", array(&mut self.speed), true),
            ("attributes", array(&mut self.attributes), false),
            ("quality", array(&mut self.quality), false),
            ("rate_card_id", array(&mut self.rate_card_id), true),
            ("rate_card_version", array(&mut self.rate_card_version), false),
            ("rate_card_row", array(&mut self.rate_card_row), true),
            ("usage_class", array(&mut self.usage_class), true),
            ("priced_as", array(&mut self.priced_as), true),
            ("quantity", array(&mut self.quantity), false),
            ("billed_quantity", array(&mut self.billed_quantity), false),
            ("amount_picos", array(&mut self.amount_picos), false),
            ("per", array(&mut self.per), false),
            ("cost_picos", array(&mut self.cost_picos), false),
            ("unpriced", array(&mut self.unpriced), false),
            (
                "tenant_prices_version",
                array(&mut self.tenant_prices_version),
                false,
            ),
            ("tenant_prices_id", array(&mut self.tenant_prices_id), true),
            ("list_priced_as", array(&mut self.list_priced_as), true),
            (
                "list_billed_quantity",
                array(&mut self.list_billed_quantity),
                false,
            ),
            ("list_amount_picos", array(&mut self.list_amount_picos), false),
            ("list_per", array(&mut self.list_per), false),
            ("list_cost_picos", array(&mut self.list_cost_picos), false),
            ("kind", array(&mut self.kind), false),
            ("adjusted_record_id", array(&mut self.adjusted_record_id), true),
            ("note", array(&mut self.note), true),
            ("author", array(&mut self.author), true),
            ("adjusted_quantity", array(&mut self.adjusted_quantity), false),
            ("previous_cost_picos", array(&mut self.previous_cost_picos), false),
            ("prices_unpriced", array(&mut self.prices_unpriced), false),
            ("usage_provider", array(&mut self.usage_provider), true),
            ("usage_api", array(&mut self.usage_api), true),
            ("usage_json", array(&mut self.usage_json), true),
            ("usage_flags", array(&mut self.usage_flags), true),
            ("credits", array(&mut self.credits), false),
            ("overdrawn", array(&mut self.overdrawn), false),
            ("credit_moves", array(&mut self.credit_moves), true),
            ("credit_change", array(&mut self.credit_change), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns)
    }
}

fn array(builder: &mut impl ArrayBuilder) -> ArrayRef {
    builder.finish()
}

/// Absent where the proto says so with an empty string.
fn text(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}
