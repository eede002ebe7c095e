// SPDX-License-Identifier: Apache-2.0
//! Many ledger rows priced again by one card, as columns: what comparing cards does millions of times.
//!
//! Rows go in and come out as Arrow IPC streams, one row out per row in. The rows of an entry stand together and carry
//! the same number in `entry`: conditions on the context are about the whole entry.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use taximeter_pricing::{Call, Line, ListPrice, PriceError, RateCard};

use crate::catalogue::Catalogue;
use crate::clock::NANOS_PER_MS;
use crate::cost::hex;
use crate::error::Failure;

const NANOS_PER_MICRO: i64 = 1_000;

/// Why rows cannot be priced.
pub(crate) enum RepriceError {
    /// The columns are not those that `price_rows` takes.
    Rows(String),
    /// This instance may not know the tenants' own prices.
    Stale(Failure),
    /// A line of this entry costs more than 2^63 - 1 picos.
    OutOfRange { entry: i64, error: PriceError },
}

impl From<ArrowError> for RepriceError {
    fn from(error: ArrowError) -> Self {
        Self::Rows(error.to_string())
    }
}

/// Prices each entry of `ipc` by the card, and by what the tenant's own prices were when it happened.
///
/// Columns: entry, tenant, model, provider, tier, region, speed, `occur_time_us`, calls, `usage_class`, quantity. A row
/// without a class, or of no quantity, costs nothing.
pub(crate) fn price_rows(
    card: &RateCard,
    catalogue: &Catalogue,
    ipc: &[u8],
) -> Result<Vec<u8>, RepriceError> {
    let mut priced = PricedColumns::default();
    for batch in StreamReader::try_new(ipc, None)? {
        let rows = Rows::of(&batch?)?;
        let mut first = 0;
        while first < rows.count() {
            let end = rows.end_of_entry(first);
            priced.push_entry(card, catalogue, &rows, first, end)?;
            first = end;
        }
    }
    Ok(priced.finish()?)
}

/// The columns of one batch.
struct Rows {
    entry: Int64Array,
    tenant: StringArray,
    model: StringArray,
    provider: StringArray,
    tier: StringArray,
    region: StringArray,
    speed: StringArray,
    occur_time_us: Int64Array,
    calls: Int64Array,
    usage_class: StringArray,
    quantity: Int64Array,
}

impl Rows {
    fn of(batch: &RecordBatch) -> Result<Self, RepriceError> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| RepriceError::Rows(format!("column {name} is missing")))
        };
        let wrong = |name: &str| RepriceError::Rows(format!("column {name} has another type"));
        let texts = |name: &str| {
            let found = column(name)?.as_string_opt::<i32>();
            found.cloned().ok_or_else(|| wrong(name))
        };
        let numbers = |name: &str| {
            let found = column(name)?.as_primitive_opt::<Int64Type>();
            found.cloned().ok_or_else(|| wrong(name))
        };
        Ok(Self {
            entry: numbers("entry")?,
            tenant: texts("tenant")?,
            model: texts("model")?,
            provider: texts("provider")?,
            tier: texts("tier")?,
            region: texts("region")?,
            speed: texts("speed")?,
            occur_time_us: numbers("occur_time_us")?,
            calls: numbers("calls")?,
            usage_class: texts("usage_class")?,
            quantity: numbers("quantity")?,
        })
    }

    fn count(&self) -> usize {
        self.entry.len()
    }

    /// The first row after `first` that is of another entry.
    fn end_of_entry(&self, first: usize) -> usize {
        let entry = self.entry.value(first);
        (first..self.count())
            .find(|row| self.entry.value(*row) != entry)
            .unwrap_or(self.count())
    }
}

/// An absent text is an empty one, as in the ledger.
fn text(column: &StringArray, row: usize) -> &str {
    if column.is_null(row) {
        ""
    } else {
        column.value(row)
    }
}

#[derive(Default)]
struct PricedColumns {
    rate_card_row: StringBuilder,
    priced_as: StringBuilder,
    billed_quantity: Int64Builder,
    amount_picos: Int64Builder,
    per: Int64Builder,
    cost_picos: Int64Builder,
    unpriced: BooleanBuilder,
    tenant_prices_version: Int64Builder,
    tenant_prices_id: StringBuilder,
    list_priced_as: StringBuilder,
    list_amount_picos: Int64Builder,
    list_per: Int64Builder,
    list_cost_picos: Int64Builder,
}

impl PricedColumns {
    fn push_entry(
        &mut self,
        card: &RateCard,
        catalogue: &Catalogue,
        rows: &Rows,
        first: usize,
        end: usize,
    ) -> Result<(), RepriceError> {
        let usage: Vec<(&str, i64)> = (first..end)
            .map(|row| (text(&rows.usage_class, row), rows.quantity.value(row)))
            .filter(|(_, quantity)| *quantity != 0)
            .collect();
        let call = Call {
            model: text(&rows.model, first),
            provider: text(&rows.provider, first),
            tier: text(&rows.tier, first),
            region: text(&rows.region, first),
            speed: text(&rows.speed, first),
            occur_time_nanos: rows.occur_time_us.value(first).saturating_mul(NANOS_PER_MICRO),
            calls: rows.calls.value(first),
            usage: &usage,
        };
        let time_ms = call.occur_time_nanos.div_euclid(NANOS_PER_MS);
        let own = catalogue.own_prices_at(text(&rows.tenant, first), time_ms);
        let priced =
            card.charge(&call, own.map(|own| own.prices()))
                .map_err(|error| RepriceError::OutOfRange {
                    entry: rows.entry.value(first),
                    error,
                })?;
        // One line per class used, in the order of the usage: rows that made no line get none.
        let mut lines = priced.lines.iter();
        for row in first..end {
            let line = (rows.quantity.value(row) != 0).then(|| lines.next()).flatten();
            self.push_line(priced.row.as_deref(), line);
            self.push_list_line(line);
            self.tenant_prices_version
                .append_value(own.map_or(0, |own| own.version));
            self.tenant_prices_id
                .append_option(own.map(|own| hex(own.id_bytes())));
        }
        Ok(())
    }

    fn push_line(&mut self, row: Option<&str>, line: Option<&Line>) {
        let number = |value: fn(&Line) -> i64| line.map_or(0, value);
        self.rate_card_row.append_option(row);
        self.priced_as
            .append_option(line.and_then(|line| line.priced_as.as_deref()));
        self.billed_quantity
            .append_value(number(|line| line.billed_quantity));
        self.amount_picos.append_value(number(|line| line.amount_picos));
        self.per
            .append_value(number(|line| if line.unpriced { 0 } else { line.per }));
        self.cost_picos.append_value(number(|line| line.cost_picos));
        self.unpriced.append_value(line.is_some_and(|line| line.unpriced));
    }

    /// What the card alone says: where a tenant has no prices of its own, the same as what it is charged.
    fn push_list_line(&mut self, line: Option<&Line>) {
        let list = line.map(|line| {
            line.list.clone().unwrap_or_else(|| ListPrice {
                priced_as: line.priced_as.clone(),
                billed_quantity: line.billed_quantity,
                amount_picos: line.amount_picos,
                per: line.per,
                cost_picos: line.cost_picos,
            })
        });
        let priced = list.as_ref().filter(|list| list.priced_as.is_some());
        let number = |value: fn(&ListPrice) -> i64| priced.map_or(0, value);
        self.list_priced_as
            .append_option(priced.and_then(|list| list.priced_as.as_deref()));
        self.list_amount_picos
            .append_value(number(|list| list.amount_picos));
        self.list_per.append_value(number(|list| list.per));
        self.list_cost_picos.append_value(number(|list| list.cost_picos));
    }

    fn finish(mut self) -> Result<Vec<u8>, ArrowError> {
        let columns: [(&str, ArrayRef, bool); 13] = [
            ("rate_card_row", Arc::new(self.rate_card_row.finish()), true),
            ("priced_as", Arc::new(self.priced_as.finish()), true),
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
                "list_amount_picos",
                Arc::new(self.list_amount_picos.finish()),
                false,
            ),
            ("list_per", Arc::new(self.list_per.finish()), false),
            ("list_cost_picos", Arc::new(self.list_cost_picos.finish()), false),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(&batch)?;
        writer.into_inner()
    }
}
