// SPDX-License-Identifier: Apache-2.0
//! A priced call as Python sees it. It stays as pricing made it; each value becomes Python's when it is asked for.

use pyo3::prelude::*;
use taximeter_pricing::{Line, ListPrice, Priced, decimal_string};

/// A priced call.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct PricedCall {
    priced: Priced,
}

impl PricedCall {
    pub(crate) const fn new(priced: Priced) -> Self {
        Self { priced }
    }
}

#[pymethods]
impl PricedCall {
    #[getter]
    fn row(&self) -> Option<&str> {
        self.priced.row.as_deref()
    }

    #[getter]
    fn overlays_applied(&self) -> Vec<u16> {
        self.priced.overlays_applied.clone()
    }

    #[getter]
    const fn prompt_tokens(&self) -> i64 {
        self.priced.prompt_tokens
    }

    #[getter]
    const fn quota_tokens(&self) -> i64 {
        self.priced.quota_tokens
    }

    #[getter]
    fn lines(&self) -> Vec<PricedLine> {
        let lines = self.priced.lines.iter().cloned();
        lines.map(|line| PricedLine { line }).collect()
    }

    #[getter]
    const fn cost_picos(&self) -> i64 {
        self.priced.cost_picos
    }

    #[getter]
    const fn list_cost_picos(&self) -> i64 {
        self.priced.list_cost_picos
    }

    #[getter]
    const fn unknown_model(&self) -> bool {
        self.priced.unknown_model
    }
}

/// The price of one class of a call.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct PricedLine {
    line: Line,
}

#[pymethods]
impl PricedLine {
    #[getter]
    fn usage_class(&self) -> &str {
        &self.line.usage_class
    }

    #[getter]
    fn priced_as(&self) -> Option<&str> {
        self.line.priced_as.as_deref()
    }

    #[getter]
    const fn quantity(&self) -> i64 {
        self.line.quantity
    }

    #[getter]
    const fn billed_quantity(&self) -> i64 {
        self.line.billed_quantity
    }

    #[getter]
    fn unit_price(&self) -> Option<String> {
        (!self.line.unpriced).then(|| decimal_string(self.line.amount_picos))
    }

    #[getter]
    const fn amount_picos(&self) -> i64 {
        self.line.amount_picos
    }

    #[getter]
    const fn per(&self) -> i64 {
        self.line.per
    }

    #[getter]
    const fn cost_picos(&self) -> i64 {
        self.line.cost_picos
    }

    #[getter]
    const fn unpriced(&self) -> bool {
        self.line.unpriced
    }

    #[getter]
    fn list_price(&self) -> Option<CardPrice> {
        self.line.list.clone().map(|list| CardPrice { list })
    }
}

/// What the card says of a line, where the tenant has prices of its own.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct CardPrice {
    list: ListPrice,
}

#[pymethods]
impl CardPrice {
    #[getter]
    fn priced_as(&self) -> Option<&str> {
        self.list.priced_as.as_deref()
    }

    #[getter]
    const fn billed_quantity(&self) -> i64 {
        self.list.billed_quantity
    }

    #[getter]
    const fn amount_picos(&self) -> i64 {
        self.list.amount_picos
    }

    #[getter]
    const fn per(&self) -> i64 {
        self.list.per
    }

    #[getter]
    const fn cost_picos(&self) -> i64 {
        self.list.cost_picos
    }
}
