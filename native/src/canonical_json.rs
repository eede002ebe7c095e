// SPDX-License-Identifier: Apache-2.0
//! The one way of writing a document: keys sorted, no spaces. What it is the hash of is the same on every machine.

use std::io::Write as _;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

/// Writes mappings, lists, whole numbers and texts of ASCII as JSON with sorted keys.
#[pyfunction]
pub(crate) fn canonical_json<'py>(
    py: Python<'py>,
    document: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut written = Vec::new();
    write(document, &mut written)?;
    Ok(PyBytes::new(py, &written))
}

fn write(value: &Bound<'_, PyAny>, written: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(text) = value.cast::<PyString>() {
        write_text(&text.to_cow()?, written)
    } else if let Ok(mapping) = value.cast::<PyDict>() {
        write_mapping(mapping, written)
    } else if value.is_exact_instance_of::<PyInt>() {
        let number: i64 = value.extract()?;
        write!(written, "{number}").map_err(PyErr::from)
    } else if let Ok(list) = value.cast::<PyList>() {
        write_list(list.iter(), written)
    } else if let Ok(list) = value.cast::<PyTuple>() {
        write_list(list.iter(), written)
    } else {
        Err(PyTypeError::new_err(
            "mappings, lists, whole numbers and texts only",
        ))
    }
}

fn write_mapping(mapping: &Bound<'_, PyDict>, written: &mut Vec<u8>) -> PyResult<()> {
    let mut entries = Vec::with_capacity(mapping.len());
    for (key, value) in mapping.iter() {
        entries.push((key.extract::<PyBackedStr>()?, value));
    }
    entries.sort_unstable_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    written.push(b'{');
    for (position, (key, value)) in entries.iter().enumerate() {
        if position > 0 {
            written.push(b',');
        }
        write_text(key, written)?;
        written.push(b':');
        write(value, written)?;
    }
    written.push(b'}');
    Ok(())
}

fn write_list<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, written: &mut Vec<u8>) -> PyResult<()> {
    written.push(b'[');
    for (position, item) in items.enumerate() {
        if position > 0 {
            written.push(b',');
        }
        write(&item, written)?;
    }
    written.push(b']');
    Ok(())
}

/// There is one way of writing ASCII in JSON, and more than one of writing anything else.
fn write_text(text: &str, written: &mut Vec<u8>) -> PyResult<()> {
    if !text.is_ascii() {
        return Err(PyValueError::new_err("texts of ASCII only"));
    }
    serde_json::to_writer(written, text).map_err(|error| PyValueError::new_err(error.to_string()))
}
