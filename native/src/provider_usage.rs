// SPDX-License-Identifier: Apache-2.0
//! The normaliser of providers' usage, for Python.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

create_exception!(taximeter_server._native, UsageError, PyValueError);

/// A provider's usage as disjoint classes.
#[pyfunction]
#[pyo3(signature = (*, provider, api, usage_json, iteration_model=""))]
pub(crate) fn normalise_usage<'py>(
    py: Python<'py>,
    provider: &str,
    api: &str,
    usage_json: &str,
    iteration_model: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let normalised = taximeter_pricing::normalise(provider, api, usage_json, iteration_model)
        .map_err(|error| UsageError::new_err((error.field, error.description)))?;
    let classes = PyDict::new(py);
    for (class, quantity) in &normalised.classes {
        classes.set_item(class, quantity)?;
    }
    let answer = PyDict::new(py);
    answer.set_item("classes", classes)?;
    answer.set_item("calls", normalised.calls)?;
    answer.set_item("tier", normalised.tier)?;
    answer.set_item("region", normalised.region)?;
    answer.set_item("speed", normalised.speed)?;
    answer.set_item("flags", PyList::new(py, normalised.flags)?)?;
    Ok(answer)
}
