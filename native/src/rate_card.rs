// SPDX-License-Identifier: Apache-2.0
//! `RateCard`: pricing from Python, by the same code as the front's.

use prost::Message;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyMapping};
use sha2::{Digest, Sha256};
use taximeter_pricing::{Call, PriceError, Priced, ResolvedBy, RoundedPrice};

use crate::error::malformed;
use crate::priced_call::PricedCall;
use crate::proto::taximeter::v1::Usage;
use crate::python_error::rpc_error;
use crate::validate::{Problems, usage_classes};

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
    fn price(
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
    ) -> PyResult<PricedCall> {
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
        self.charge(call, usage, tenant_prices).map(PricedCall::new)
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

/// Checks a `taximeter.v1.Usage` and returns what it says by class, without zeros. `field`: its path in the request.
#[pyfunction]
pub(crate) fn usage_quantities(usage: &[u8], field: &str) -> PyResult<Vec<(String, i64)>> {
    let usage: Usage = Message::decode(usage).map_err(|_| rpc_error(&malformed()))?;
    let mut problems = Problems::default();
    let classes = usage_classes(&usage, field, &mut problems);
    problems.into_result().map_err(|failure| rpc_error(&failure))?;
    let owned = classes
        .into_iter()
        .map(|(class, count)| (class.to_owned(), count));
    Ok(owned.collect())
}

/// Lower-case hex SHA-256 of a canonical card.
pub(crate) fn rate_card_id(canonical_json: &[u8]) -> String {
    format!("{:x}", Sha256::digest(canonical_json))
}
