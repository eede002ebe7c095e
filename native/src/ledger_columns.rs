// SPDX-License-Identifier: Apache-2.0
//! Ledger entries as columns: one row per (entry, usage class), written as an Arrow IPC stream.
//!
//! An entry without lines still has one row, whose line columns are null, so that its calls are counted. What an
//! entry says once (tenant, model, attributes) is repeated on each of its rows: the rows are summed by whatever
//! dimension a report asks for, without joining anything. What nobody wants is not made: a report needs a third of
//! the columns, and a copy of the others would cost more than the report.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BooleanBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, Int8Array, Int16Array, Int64Array, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use bytes::Bytes;
use prost::Message;

use crate::ledger_row::{Entry, Row, credit_moves, entry_calls, occur_time_us, text};
use crate::proto::taximeter::ledger::v1::{LedgerEntry, LedgerLine};
use crate::store::StoreError;
use crate::store_id::StreamId;

/// What a row has in a column, and of which type it is. Texts and what is made of them can be null.
#[derive(Clone, Copy)]
enum Of {
    Int8(fn(Row) -> i8),
    Int16(fn(Row) -> i16),
    Int64(fn(Row) -> i64),
    Bool(fn(&LedgerLine) -> bool),
    Name(fn(Row) -> &str),
    Text(fn(Row) -> Option<&str>),
    Made(fn(Row) -> Option<String>),
    Attributes,
}
use Of::{Attributes, Bool, Int8, Int16, Int64, Made, Name, Text};

/// The columns of `SCHEMA` in `server/taximeter_server/ledger.py`.
const COLUMNS: [(&str, Of); 49] = [
    ("stream_ms", Int64(|row| row.entry.place.0)),
    ("stream_seq", Int64(|row| row.entry.place.1)),
    ("partition", Int16(|row| row.entry.partition)),
    ("tenant", Name(|row| &row.says().tenant)),
    ("record_id", Name(|row| &row.says().record_id)),
    ("occur_time_us", Int64(|row| occur_time_us(row.says()))),
    ("receive_time_ms", Int64(|row| row.says().receive_time_ms)),
    (
        "calls",
        Int64(|row| if row.is_first() { row.says().calls } else { 0 }),
    ),
    ("entry_calls", Int64(entry_calls)),
    ("model", Text(|row| text(&row.says().model))),
    ("provider", Text(|row| text(&row.says().provider))),
    ("tier", Text(|row| text(&row.says().tier))),
    ("region", Text(|row| text(&row.says().region))),
    ("speed", Text(|row| text(&row.says().speed))),
    ("attributes", Attributes),
    // A quality of a later version reads as unspecified, rather than keeping the entry out of the ledger.
    (
        "quality",
        Int8(|row| i8::try_from(row.says().quality).unwrap_or(0)),
    ),
    ("rate_card_id", Text(|row| row.entry.rate_card_id())),
    ("rate_card_version", Int64(|row| row.says().rate_card_version)),
    ("rate_card_row", Text(|row| text(&row.says().rate_card_row))),
    (
        "usage_class",
        Text(|row| row.line.map(|line| line.usage_class.as_str())),
    ),
    ("priced_as", Text(|row| text(&row.line?.priced_as))),
    ("quantity", Int64(|row| row.number_of(|line| line.quantity))),
    (
        "billed_quantity",
        Int64(|row| row.number_of(|line| line.billed_quantity)),
    ),
    (
        "amount_picos",
        Int64(|row| row.number_of(|line| line.amount_picos)),
    ),
    ("per", Int64(|row| row.number_of(|line| line.per))),
    ("cost_picos", Int64(|row| row.number_of(|line| line.cost_picos))),
    ("unpriced", Bool(|line| line.unpriced)),
    (
        "tenant_prices_version",
        Int64(|row| row.says().tenant_prices_version),
    ),
    ("tenant_prices_id", Text(|row| row.entry.tenant_prices_id())),
    (
        "list_priced_as",
        Text(|row| text(row.list(row.line?, |line| &line.priced_as, |line| &line.list_priced_as))),
    ),
    (
        "list_billed_quantity",
        Int64(|row| row.list_number(|line| line.billed_quantity, |line| line.list_billed_quantity)),
    ),
    (
        "list_amount_picos",
        Int64(|row| row.list_number(|line| line.amount_picos, |line| line.list_amount_picos)),
    ),
    (
        "list_per",
        Int64(|row| row.list_number(|line| line.per, |line| line.list_per)),
    ),
    (
        "list_cost_picos",
        Int64(|row| row.list_number(|line| line.cost_picos, |line| line.list_cost_picos)),
    ),
    ("kind", Int8(|row| i8::try_from(row.says().kind).unwrap_or(0))),
    (
        "adjusted_record_id",
        Text(|row| text(&row.says().adjusted_record_id)),
    ),
    ("note", Text(|row| text(&row.says().note))),
    ("author", Text(|row| text(&row.says().author))),
    (
        "adjusted_quantity",
        Int64(|row| row.number_of(|line| line.adjusted_quantity)),
    ),
    (
        "previous_cost_picos",
        Int64(|row| row.number_of(|line| line.previous_cost_picos)),
    ),
    ("prices_unpriced", Bool(|line| line.prices_unpriced)),
    // What the provider reported stands on the first row only: it is long, and nothing sums it.
    ("usage_provider", Text(|row| text(&row.first()?.usage_provider))),
    ("usage_api", Text(|row| text(&row.first()?.usage_api))),
    ("usage_json", Text(|row| text(&row.first()?.usage_json))),
    (
        "usage_flags",
        Made(|row| Some(row.first()?.usage_flags.join(",")).filter(|flags| !flags.is_empty())),
    ),
    ("credits", Int64(|row| row.taken(|_| true))),
    ("overdrawn", Int64(|row| row.taken(|one| one.grant_id.is_empty()))),
    ("credit_moves", Made(credit_moves)),
    ("credit_change", Text(|row| text(&row.first()?.credit_change))),
];

/// The values of a column.
enum Values {
    Int8(fn(Row) -> i8, Vec<i8>),
    Int16(fn(Row) -> i16, Vec<i16>),
    Int64(fn(Row) -> i64, Vec<i64>),
    Bool(fn(&LedgerLine) -> bool, BooleanBuilder),
    Name(fn(Row) -> &str, StringBuilder),
    Text(fn(Row) -> Option<&str>, StringBuilder),
    Made(fn(Row) -> Option<String>, StringBuilder),
    Attributes(Box<MapBuilder<StringBuilder, StringBuilder>>),
}

impl From<Of> for Values {
    fn from(of: Of) -> Self {
        match of {
            Int8(of) => Self::Int8(of, Vec::new()),
            Int16(of) => Self::Int16(of, Vec::new()),
            Int64(of) => Self::Int64(of, Vec::new()),
            Bool(of) => Self::Bool(of, BooleanBuilder::new()),
            Name(of) => Self::Name(of, StringBuilder::new()),
            Text(of) => Self::Text(of, StringBuilder::new()),
            Made(of) => Self::Made(of, StringBuilder::new()),
            Attributes => {
                // The names that Parquet and the other Arrow implementations use for maps.
                let names = MapFieldNames {
                    entry: "entries".into(),
                    key: "key".into(),
                    value: "value".into(),
                };
                let (keys, values) = (StringBuilder::new(), StringBuilder::new());
                Self::Attributes(Box::new(MapBuilder::new(Some(names), keys, values)))
            }
        }
    }
}

impl Values {
    fn push(&mut self, entry: &Entry) -> Result<(), ArrowError> {
        let rows = entry.rows();
        match self {
            Self::Int8(of, values) => values.extend(rows.map(*of)),
            Self::Int16(of, values) => values.extend(rows.map(*of)),
            Self::Int64(of, values) => values.extend(rows.map(*of)),
            Self::Bool(of, values) => rows.for_each(|row| values.append_value(row.line.is_some_and(*of))),
            Self::Name(of, values) => rows.for_each(|row| values.append_value(of(row))),
            Self::Text(of, values) => rows.for_each(|row| values.append_option(of(row))),
            Self::Made(of, values) => rows.for_each(|row| values.append_option(of(row))),
            Self::Attributes(values) => {
                for _ in rows {
                    for attribute in &entry.says.attributes {
                        values.keys().append_value(&attribute.key);
                        values.values().append_value(&attribute.value);
                    }
                    values.append(true)?;
                }
            }
        }
        Ok(())
    }

    /// The array, and whether it can have nulls.
    fn finish(self) -> (ArrayRef, bool) {
        match self {
            Self::Int8(_, values) => (Arc::new(Int8Array::from(values)), false),
            Self::Int16(_, values) => (Arc::new(Int16Array::from(values)), false),
            Self::Int64(_, values) => (Arc::new(Int64Array::from(values)), false),
            Self::Bool(_, mut values) => (ArrayBuilder::finish(&mut values), false),
            Self::Name(_, mut values) => (ArrayBuilder::finish(&mut values), false),
            Self::Text(_, mut values) | Self::Made(_, mut values) => {
                (ArrayBuilder::finish(&mut values), true)
            }
            Self::Attributes(mut values) => (ArrayBuilder::finish(&mut *values), false),
        }
    }
}

/// Columns of rows that are being gathered.
pub(crate) struct LedgerColumns {
    columns: Vec<(&'static str, Values)>,
}

impl LedgerColumns {
    /// All columns.
    pub(crate) fn all() -> Self {
        Self::where_name(|_| true)
    }

    /// Those that are named, in the order of all of them.
    pub(crate) fn named(names: &[String]) -> Self {
        Self::where_name(|name| names.iter().any(|wanted| wanted == name))
    }

    fn where_name(is_wanted: impl Fn(&str) -> bool) -> Self {
        let wanted = COLUMNS.into_iter().filter(|(name, _)| is_wanted(name));
        Self {
            columns: wanted.map(|(name, of)| (name, of.into())).collect(),
        }
    }

    /// Adds the rows of an encoded entry, if it is wanted. Returns whether it is.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is no entry, or when Arrow refuses a value, which would be a defect of this module.
    pub(crate) fn push(
        &mut self,
        partition: u16,
        id: StreamId,
        encoded: Bytes,
        is_wanted: impl Fn(&LedgerEntry) -> bool,
    ) -> Result<bool, StoreError> {
        let says = LedgerEntry::decode(encoded).map_err(|_| StoreError::Corrupt)?;
        if !is_wanted(&says) {
            return Ok(false);
        }
        let entry = Entry::new(partition, id, says)?;
        let mut columns = self.columns.iter_mut();
        columns
            .try_for_each(|(_, values)| values.push(&entry))
            .map_err(|_| StoreError::Corrupt)?;
        Ok(true)
    }

    /// The Arrow IPC stream of all rows.
    ///
    /// # Errors
    ///
    /// `Corrupt` when Arrow refuses them, which would be a defect of this module.
    pub(crate) fn into_ipc(self) -> Result<Vec<u8>, StoreError> {
        self.try_into_ipc().map_err(|_| StoreError::Corrupt)
    }

    fn try_into_ipc(self) -> Result<Vec<u8>, ArrowError> {
        let batch = self.try_into_batch()?;
        let room = Vec::with_capacity(batch.get_array_memory_size());
        let mut writer = StreamWriter::try_new(room, &batch.schema())?;
        writer.write(&batch)?;
        writer.into_inner()
    }

    /// All rows.
    pub(crate) fn try_into_batch(self) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.into_iter().map(|(name, values)| {
            let (array, is_nullable) = values.finish();
            (name, array, is_nullable)
        });
        RecordBatch::try_from_iter_with_nullable(columns)
    }
}
