// SPDX-License-Identifier: Apache-2.0
//! `RateCard`: pricing from Python, by the same code as the front's.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyList, PyMapping};
use sha2::{Digest, Sha256};
use taximeter_pricing::{
    Call, Line, ListPrice, PriceError, Priced, ResolvedBy, RoundedPrice, decimal_string,
};

pyo3::create_exception!(
    taximeter_server._native,
    CardError,
    PyValueError,
    "A canonical rate card that does not compile."
);

/// A compiled rate card. Source of the canonical form: `taximeter_server.rate_card`.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct RateCard {
    pub(crate) card: taximeter_pricing::RateCard,
    rate_card_id: String,
}

#[pymethods]
impl RateCard {
    #[new]
    fn new(py: Python<'_>, canonical_json: &[u8]) -> PyResult<Self> {
        let text = str::from_utf8(canonical_json)
            .map_err(|error| CardError::new_err(format!("not UTF-8: {error}")))?;
        let card = py.detach(|| taximeter_pricing::RateCard::compile(text));
        let card = card.map_err(|error| CardError::new_err(error.to_string()))?;
        Ok(Self {
            card,
            rate_card_id: rate_card_id(canonical_json),
        })
    }

    #[getter]
    fn rate_card_id(&self) -> &str {
        &self.rate_card_id
    }

    fn resolve<'py>(
        &self,
        py: Python<'py>,
        model: &str,
        provider: &str,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(found) = self.card.resolve(model, provider) else {
            return Ok(None);
        };
        let answer = PyDict::new(py);
        answer.set_item("row", found.row)?;
        answer.set_item("by", resolved_by(found.by))?;
        answer.set_item("matched", found.matched)?;
        Ok(Some(answer))
    }

    // The contract's keywords: one parameter per fact of a call.
    #[expect(clippy::too_many_arguments)]
    #[pyo3(signature = (
        *, model, usage, provider = "", occur_time_nanos, tier = "", region = "", speed = "", calls = 1,
        tenant_prices = None
    ))]
    fn price<'py>(
        &self,
        py: Python<'py>,
        model: &str,
        usage: &Bound<'py, PyMapping>,
        provider: &str,
        occur_time_nanos: i64,
        tier: &str,
        region: &str,
        speed: &str,
        calls: i64,
        tenant_prices: Option<&TenantPrices>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let call = Call {
            model,
            provider,
            tier,
            region,
            speed,
            occur_time_nanos,
            calls,
            usage: &[],
        };
        let priced = self.charge(call, usage, tenant_prices)?;
        priced_to_python(py, &priced, tenant_prices.is_some())
    }

    #[expect(clippy::too_many_arguments)]
    #[pyo3(signature = (
        *, model, usage, provider = "", occur_time_nanos, tier = "", region = "", speed = "", calls = 1,
        tenant_prices = None
    ))]
    fn cost_picos(
        &self,
        model: &str,
        usage: &Bound<'_, PyMapping>,
        provider: &str,
        occur_time_nanos: i64,
        tier: &str,
        region: &str,
        speed: &str,
        calls: i64,
        tenant_prices: Option<&TenantPrices>,
    ) -> PyResult<Option<i64>> {
        let call = Call {
            model,
            provider,
            tier,
            region,
            speed,
            occur_time_nanos,
            calls,
            usage: &[],
        };
        let priced = self.charge(call, usage, tenant_prices)?;
        let is_priced = priced.lines.iter().all(|line| !line.unpriced);
        Ok(is_priced.then_some(priced.cost_picos))
    }
}

impl RateCard {
    /// Prices a call whose usage is still Python's.
    fn charge(
        &self,
        call: Call<'_>,
        usage: &Bound<'_, PyMapping>,
        tenant_prices: Option<&TenantPrices>,
    ) -> PyResult<Priced> {
        let usage = Quantities::of(usage)?;
        let usage = usage.borrowed();
        let call = Call {
            usage: &usage,
            ..call
        };
        let own = tenant_prices.map(|own| &own.prices);
        self.card.charge(&call, own).map_err(|error| overflow(&error))
    }
}

fn overflow(error: &PriceError) -> PyErr {
    PyOverflowError::new_err(error.to_string())
}

/// Quantities by class, as Python gave them; the names stay where they are.
struct Quantities(Vec<(PyBackedStr, i64)>);

impl Quantities {
    fn of(usage: &Bound<'_, PyMapping>) -> PyResult<Self> {
        // A dictionary is read in place; any other mapping has to make a list first.
        let quantities = match usage.cast::<PyDict>() {
            Ok(usage) => usage
                .iter()
                .map(|(name, quantity)| Ok((name.extract()?, quantity.extract()?)))
                .collect::<PyResult<Vec<(PyBackedStr, i64)>>>()?,
            Err(_) => usage
                .items()?
                .iter()
                .map(|item| item.extract())
                .collect::<PyResult<Vec<_>>>()?,
        };
        match quantities.iter().find(|(_, quantity)| *quantity < 0) {
            Some((name, _)) => Err(PyValueError::new_err(format!(
                "usage.{name}: must not be negative"
            ))),
            None => Ok(Self(quantities)),
        }
    }

    fn borrowed(&self) -> Vec<(&str, i64)> {
        let quantities = self.0.iter();
        quantities.map(|(name, quantity)| (&**name, *quantity)).collect()
    }
}

/// A tenant's compiled prices. Source of the canonical form: `taximeter_server.tenant_prices`.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct TenantPrices {
    prices: taximeter_pricing::TenantPrices,
}

#[pymethods]
impl TenantPrices {
    #[new]
    fn new(py: Python<'_>, canonical_json: &[u8]) -> PyResult<Self> {
        let text = str::from_utf8(canonical_json)
            .map_err(|error| CardError::new_err(format!("not UTF-8: {error}")))?;
        let prices = py.detach(|| taximeter_pricing::TenantPrices::compile(text));
        let prices = prices.map_err(|error| CardError::new_err(error.to_string()))?;
        Ok(Self { prices })
    }
}

const fn resolved_by(by: ResolvedBy) -> &'static str {
    match by {
        ResolvedBy::Name => "name",
        ResolvedBy::Alias => "alias",
        ResolvedBy::ShortenedName => "shortened_name",
        ResolvedBy::ShortenedAlias => "shortened_alias",
        ResolvedBy::Pattern => "pattern",
        ResolvedBy::UnknownModel => "unknown_model",
    }
}

/// Prices of a canonical card that were rounded, as (row, class, positions in `when`).
#[pyfunction]
pub(crate) fn rounded_prices(
    py: Python<'_>,
    canonical_json: &[u8],
) -> PyResult<Vec<(String, String, Vec<u16>)>> {
    let text =
        str::from_utf8(canonical_json).map_err(|error| CardError::new_err(format!("not UTF-8: {error}")))?;
    let rounded = py
        .detach(|| taximeter_pricing::rounded_prices(text))
        .map_err(|error| CardError::new_err(error.to_string()))?;
    let parts = |price: RoundedPrice| (price.row, price.usage_class, price.overlays_applied);
    Ok(rounded.into_iter().map(parts).collect())
}

/// Lower-case hex SHA-256 of a canonical card.
pub(crate) fn rate_card_id(canonical_json: &[u8]) -> String {
    format!("{:x}", Sha256::digest(canonical_json))
}

fn priced_to_python<'py>(
    py: Python<'py>,
    priced: &Priced,
    has_own_prices: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let lines = priced
        .lines
        .iter()
        .map(|line| line_to_python(py, line))
        .collect::<PyResult<Vec<_>>>()?;
    let answer = PyDict::new(py);
    answer.set_item("row", priced.row.as_deref())?;
    answer.set_item("overlays_applied", PyList::new(py, &priced.overlays_applied)?)?;
    answer.set_item("prompt_tokens", priced.prompt_tokens)?;
    answer.set_item("quota_tokens", priced.quota_tokens)?;
    answer.set_item("lines", lines)?;
    answer.set_item("cost_picos", priced.cost_picos)?;
    if has_own_prices {
        answer.set_item("list_cost_picos", priced.list_cost_picos)?;
    }
    answer.set_item("unknown_model", priced.unknown_model)?;
    Ok(answer)
}

fn line_to_python<'py>(py: Python<'py>, line: &Line) -> PyResult<Bound<'py, PyDict>> {
    let answer = PyDict::new(py);
    answer.set_item("usage_class", &*line.usage_class)?;
    answer.set_item("priced_as", line.priced_as.as_deref())?;
    answer.set_item("quantity", line.quantity)?;
    answer.set_item("billed_quantity", line.billed_quantity)?;
    answer.set_item(
        "unit_price",
        (!line.unpriced).then(|| decimal_string(line.amount_picos)),
    )?;
    answer.set_item("amount_picos", line.amount_picos)?;
    answer.set_item("per", line.per)?;
    answer.set_item("cost_picos", line.cost_picos)?;
    answer.set_item("unpriced", line.unpriced)?;
    if let Some(list) = &line.list {
        answer.set_item("list", list_to_python(py, list)?)?;
    }
    Ok(answer)
}

fn list_to_python<'py>(py: Python<'py>, list: &ListPrice) -> PyResult<Bound<'py, PyDict>> {
    let answer = PyDict::new(py);
    answer.set_item("priced_as", list.priced_as.as_deref())?;
    answer.set_item("billed_quantity", list.billed_quantity)?;
    answer.set_item("amount_picos", list.amount_picos)?;
    answer.set_item("per", list.per)?;
    answer.set_item("cost_picos", list.cost_picos)?;
    Ok(answer)
}
