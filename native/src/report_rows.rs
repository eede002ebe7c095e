// SPDX-License-Identifier: Apache-2.0
//! A page of a report, from columns to the message: row by row in Python it takes as long as summing a month.
//!
//! Rows come as an Arrow IPC stream: d0 and so on, texts; `is_other`; quantities, lists of (`usage_class`, quantity);
//! the sums; and quantities and sums once more with `compared_` before their names where the report compares. Numbers
//! have 64 bits, or are decimals where 64 bits do not do.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow_ipc::reader::StreamReader;
use arrow_schema::ArrowError;
use prost::Message;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::proto::taximeter::v1::{Money, ReportGroupValue, ReportMeasures, ReportResponse, ReportRow};
use crate::quota::money;

/// Units of a `Money` have 64 bits.
const COST_PICOS_MAX: i128 = 9_223_372_036_854_775_807 * 1_000_000_000_000;
const COMPARED: &str = "compared_";

/// Returns a serialized `ReportResponse` that has the rows and nothing else. measures: empty for all.
#[pyfunction]
#[pyo3(signature = (rows_ipc, *, dimensions, measures, currency_code))]
// By value is how lists of Python come.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn report_rows<'py>(
    py: Python<'py>,
    rows_ipc: &[u8],
    dimensions: Vec<String>,
    measures: Vec<String>,
    currency_code: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let asked = Asked {
        measures: &measures,
        currency_code,
    };
    let answer = py.detach(|| response(rows_ipc, &dimensions, &asked));
    match answer {
        Ok(response) => Ok(PyBytes::new(py, &response)),
        Err(PageError::Rows(problem)) => Err(PyValueError::new_err(problem)),
        Err(PageError::OutOfRange) => Err(PyOverflowError::new_err("a sum does not fit its field")),
    }
}

/// Why rows do not become a message.
enum PageError {
    /// The columns are not those that `report_rows` takes.
    Rows(String),
    /// A sum does not fit its field.
    OutOfRange,
}

impl From<ArrowError> for PageError {
    fn from(error: ArrowError) -> Self {
        Self::Rows(error.to_string())
    }
}

struct Asked<'a> {
    measures: &'a [String],
    currency_code: &'a str,
}

impl Asked<'_> {
    fn has(&self, name: &str) -> bool {
        self.measures.is_empty() || self.measures.iter().any(|one| one == name)
    }

    fn amount(&self, picos: i128) -> Result<Option<Money>, PageError> {
        if picos.checked_abs().is_none_or(|size| size > COST_PICOS_MAX) {
            return Err(PageError::OutOfRange);
        }
        Ok(Some(money(picos, self.currency_code.into())))
    }
}

fn response(ipc: &[u8], dimensions: &[String], asked: &Asked<'_>) -> Result<Vec<u8>, PageError> {
    let mut answer = ReportResponse::default();
    for batch in StreamReader::try_new(ipc, None)? {
        let batch = batch?;
        let groups = (0..dimensions.len())
            .map(|index| texts(&batch, &format!("d{index}")))
            .collect::<Result<Vec<_>, _>>()?;
        let is_other = flags(&batch, "is_other")?;
        let own = Measures::of(&batch, "")?;
        let compared = match batch.column_by_name(&format!("{COMPARED}calls")) {
            Some(_) => Some(Measures::of(&batch, COMPARED)?),
            None => None,
        };
        for row in 0..batch.num_rows() {
            answer.rows.push(ReportRow {
                group: group(dimensions, &groups, row),
                measures: Some(own.row(row, asked)?),
                compared: compared.as_ref().map(|one| one.row(row, asked)).transpose()?,
                is_other: is_other.value(row),
            });
        }
    }
    Ok(answer.encode_to_vec())
}

fn group(dimensions: &[String], groups: &[StringArray], row: usize) -> Vec<ReportGroupValue> {
    let values = dimensions.iter().zip(groups);
    values
        .map(|(dimension, column)| ReportGroupValue {
            dimension: dimension.clone(),
            value: (!column.is_null(row)).then(|| column.value(row).to_owned()),
        })
        .collect()
}

/// The measures of one interval.
struct Measures {
    quantities: ListArray,
    usage_class: StringArray,
    quantity: Numbers,
    calls: Numbers,
    cost_picos: Numbers,
    unpriced_lines: Numbers,
    adjustment_picos: Numbers,
    adjusted_unpriced_lines: Numbers,
    list_cost_picos: Numbers,
    credits: Numbers,
    overdrawn: Numbers,
}

impl Measures {
    fn of(batch: &RecordBatch, prefix: &str) -> Result<Self, PageError> {
        let numbers = |name: &str| Numbers::of(column(batch, &format!("{prefix}{name}"))?, name);
        let quantities = column(batch, &format!("{prefix}quantities"))?.as_list_opt::<i32>();
        let quantities = quantities.ok_or_else(|| wrong("quantities"))?;
        let parts = quantities.values().as_struct_opt();
        let (classes, amounts) = parts
            .and_then(|parts| {
                Some((
                    parts.column_by_name("usage_class")?,
                    parts.column_by_name("quantity")?,
                ))
            })
            .ok_or_else(|| wrong("quantities"))?;
        let classes = classes.as_string_opt::<i32>();
        Ok(Self {
            quantities: quantities.clone(),
            usage_class: classes.cloned().ok_or_else(|| wrong("usage_class"))?,
            quantity: Numbers::of(amounts, "quantity")?,
            calls: numbers("calls")?,
            cost_picos: numbers("cost_picos")?,
            unpriced_lines: numbers("unpriced_lines")?,
            adjustment_picos: numbers("adjustment_picos")?,
            adjusted_unpriced_lines: numbers("adjusted_unpriced_lines")?,
            list_cost_picos: numbers("list_cost_picos")?,
            credits: numbers("credits")?,
            overdrawn: numbers("overdrawn")?,
        })
    }

    fn row(&self, row: usize, asked: &Asked<'_>) -> Result<ReportMeasures, PageError> {
        let mut found = ReportMeasures::default();
        if asked.has("calls") {
            found.calls = self.calls.int64(row)?;
        }
        if asked.has("quantities") {
            found.quantities = self.quantities(row)?;
        }
        if asked.has("cost") {
            found.cost = asked.amount(self.cost_picos.value(row))?;
            found.adjustment_cost = asked.amount(self.adjustment_picos.value(row))?;
        }
        if asked.has("list_cost") {
            found.list_cost = asked.amount(self.list_cost_picos.value(row))?;
        }
        if asked.has("unpriced_lines") {
            found.unpriced_lines = self.unpriced_lines.int64(row)?;
            found.adjusted_unpriced_lines = self.adjusted_unpriced_lines.int64(row)?;
        }
        if asked.has("credits") {
            found.credit_microcredits = self.credits.int64(row)?;
            found.overdrawn_microcredits = self.overdrawn.int64(row)?;
        }
        Ok(found)
    }

    fn quantities(&self, row: usize) -> Result<BTreeMap<String, i64>, PageError> {
        if self.quantities.is_null(row) {
            return Ok(BTreeMap::new());
        }
        let ends = self.quantities.value_offsets();
        let bound = |index: usize| usize::try_from(ends[index]).map_err(|_| wrong("quantities"));
        (bound(row)?..bound(row.saturating_add(1))?)
            .map(|part| {
                Ok((
                    self.usage_class.value(part).to_owned(),
                    self.quantity.int64(part)?,
                ))
            })
            .collect()
    }
}

/// A column of whole numbers without nulls.
enum Numbers {
    Int64(Int64Array),
    Decimal(Decimal128Array),
}

impl Numbers {
    fn of(column: &ArrayRef, name: &str) -> Result<Self, PageError> {
        if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            return Ok(Self::Int64(numbers.clone()));
        }
        let decimals = column.as_primitive_opt::<Decimal128Type>();
        decimals.cloned().map(Self::Decimal).ok_or_else(|| wrong(name))
    }

    fn value(&self, row: usize) -> i128 {
        match self {
            Self::Int64(numbers) => numbers.value(row).into(),
            Self::Decimal(numbers) => numbers.value(row),
        }
    }

    fn int64(&self, row: usize) -> Result<i64, PageError> {
        i64::try_from(self.value(row)).map_err(|_| PageError::OutOfRange)
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, PageError> {
    let found = batch.column_by_name(name);
    found.ok_or_else(|| PageError::Rows(format!("column {name} is missing")))
}

fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray, PageError> {
    let found = column(batch, name)?.as_string_opt::<i32>();
    found.cloned().ok_or_else(|| wrong(name))
}

fn flags(batch: &RecordBatch, name: &str) -> Result<BooleanArray, PageError> {
    let found = column(batch, name)?.as_boolean_opt();
    found.cloned().ok_or_else(|| wrong(name))
}

fn wrong(name: &str) -> PageError {
    PageError::Rows(format!("column {name} has another type"))
}
