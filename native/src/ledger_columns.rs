// SPDX-License-Identifier: Apache-2.0
//! Ledger entries as columns: one row per (entry, usage class), written as an Arrow IPC stream.
//!
//! An entry without lines still has one row, whose line columns are null, so that its calls are counted. What an
//! entry says once (tenant, model, attributes) is repeated on each of its rows: the rows are summed by whatever
//! dimension a report asks for, without joining anything.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Int8Builder, Int16Builder, Int64Builder, MapBuilder, MapFieldNames, StringBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;

use crate::proto::taximeter::ledger::v1::{LedgerEntry, LedgerLine};

const NANOS_PER_MICRO: i64 = 1_000;

/// A stream id: milliseconds since 1970 UTC and the sequence number within them.
pub(crate) type StreamId = (i64, i64);

/// Turn entries of one partition into an Arrow IPC stream of ledger rows, in the order given.
///
/// # Errors
///
/// When Arrow refuses the batch, which would be a defect of this module, or memory is exhausted.
pub(crate) fn to_ipc(partition: i16, entries: &[(StreamId, LedgerEntry)]) -> Result<Vec<u8>, ArrowError> {
    let mut columns = LedgerColumns::default();
    for (stream_id, entry) in entries {
        columns.push_entry(partition, *stream_id, entry)?;
    }
    let batch = columns.finish()?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.into_inner()
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
        }
    }
}

impl LedgerColumns {
    fn push_entry(
        &mut self,
        partition: i16,
        stream_id: StreamId,
        entry: &LedgerEntry,
    ) -> Result<(), ArrowError> {
        let rate_card_id = hex(&entry.rate_card_id);
        let tenant_prices_id = hex(&entry.tenant_prices_id);
        let list_is_charged = entry.tenant_prices_version == 0;
        let mut push_row = |calls: i64, line: Option<&LedgerLine>| {
            self.stream_ms.append_value(stream_id.0);
            self.stream_seq.append_value(stream_id.1);
            self.partition.append_value(partition);
            self.calls.append_value(calls);
            self.push_line_values(line);
            self.push_list_values(line, list_is_charged);
            self.tenant_prices_version
                .append_value(entry.tenant_prices_version);
            self.tenant_prices_id.append_option(text(&tenant_prices_id));
            self.push_entry_values(entry, &rate_card_id)
        };
        let Some((first, rest)) = entry.lines.split_first() else {
            return push_row(entry.calls, None);
        };
        push_row(entry.calls, Some(first))?;
        rest.iter().try_for_each(|line| push_row(0, Some(line)))
    }

    fn push_entry_values(&mut self, entry: &LedgerEntry, rate_card_id: &str) -> Result<(), ArrowError> {
        self.tenant.append_value(&entry.tenant);
        self.record_id.append_value(&entry.record_id);
        self.occur_time_us
            .append_value(entry.occur_time_nanos.div_euclid(NANOS_PER_MICRO));
        self.receive_time_ms.append_value(entry.receive_time_ms);
        self.entry_calls.append_value(entry.calls);
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
        let columns: [(&str, ArrayRef, bool); 34] = [
            ("stream_ms", Arc::new(self.stream_ms.finish()), false),
            ("stream_seq", Arc::new(self.stream_seq.finish()), false),
            ("partition", Arc::new(self.partition.finish()), false),
            ("tenant", Arc::new(self.tenant.finish()), false),
            ("record_id", Arc::new(self.record_id.finish()), false),
            ("occur_time_us", Arc::new(self.occur_time_us.finish()), false),
            ("receive_time_ms", Arc::new(self.receive_time_ms.finish()), false),
            ("calls", Arc::new(self.calls.finish()), false),
            ("entry_calls", Arc::new(self.entry_calls.finish()), false),
            ("model", Arc::new(self.model.finish()), true),
            ("provider", Arc::new(self.provider.finish()), true),
            ("tier", Arc::new(self.tier.finish()), true),
            ("region", Arc::new(self.region.finish()), true),
            ("speed", Arc::new(self.speed.finish()), true),
            ("attributes", Arc::new(self.attributes.finish()), false),
            ("quality", Arc::new(self.quality.finish()), false),
            ("rate_card_id", Arc::new(self.rate_card_id.finish()), true),
            (
                "rate_card_version",
                Arc::new(self.rate_card_version.finish()),
                false,
            ),
            ("rate_card_row", Arc::new(self.rate_card_row.finish()), true),
            ("usage_class", Arc::new(self.usage_class.finish()), true),
            ("priced_as", Arc::new(self.priced_as.finish()), true),
            ("quantity", Arc::new(self.quantity.finish()), false),
            ("billed_quantity", Arc::new(self.billed_quantity.finish()), false),
            ("amount_picos", Arc::new(self.amount_picos.finish()), false),
            ("per", Arc::new(self.per.finish()), false),
            ("cost_picos", Arc::new(self.cost_picos.finish()), false),
            ("unpriced", Arc::new(self.unpriced.finish()), false),
            (
                "tenant_prices_version",
                Arc::new(self.tenant_prices_version.finish()),
                false,
            ),
            ("tenant_prices_id", Arc::new(self.tenant_prices_id.finish()), true),
            ("list_priced_as", Arc::new(self.list_priced_as.finish()), true),
            (
                "list_billed_quantity",
                Arc::new(self.list_billed_quantity.finish()),
                false,
            ),
            (
                "list_amount_picos",
                Arc::new(self.list_amount_picos.finish()),
                false,
            ),
            ("list_per", Arc::new(self.list_per.finish()), false),
            ("list_cost_picos", Arc::new(self.list_cost_picos.finish()), false),
        ];
        RecordBatch::try_from_iter_with_nullable(columns)
    }
}

/// Absent where the proto says so with an empty string.
fn text(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    nibbles
        .filter_map(|nibble| char::from_digit(u32::from(nibble), 16))
        .collect()
}
