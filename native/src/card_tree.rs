// SPDX-License-Identifier: Apache-2.0
//! What the YAML of a rate card says: mappings, lists and text with their places in the file.
//!
//! Python's objects are made of a part when somebody asks for it. Most rows of a large card are prices alone, and those
//! are read in place.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString};
use saphyr_parser::Marker;

/// A place in the file.
#[pyclass(frozen, eq, hash, module = "taximeter_server._native")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    #[pyo3(get)]
    pub(crate) line: usize,
    #[pyo3(get)]
    column: usize,
}

#[pymethods]
impl Mark {
    #[new]
    pub(crate) const fn new(line: usize, column: usize) -> Self {
        Self { line, column }
    }

    fn __repr__(&self) -> String {
        format!("Mark({}, {})", self.line, self.column)
    }
}

impl From<Marker> for Mark {
    fn from(mark: Marker) -> Self {
        Self::new(mark.line(), mark.col().saturating_add(1))
    }
}

/// Text as it stands in the file.
#[pyclass(frozen, module = "taximeter_server._native")]
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: Arc<str>,
    /// Whether nothing stands here.
    #[pyo3(get)]
    pub(crate) is_null: bool,
    #[pyo3(get)]
    pub(crate) mark: Mark,
}

#[pymethods]
impl Scalar {
    #[getter]
    fn text(&self) -> &str {
        &self.text
    }
}

/// What stands in one place.
#[derive(Clone)]
pub(crate) enum Node {
    Scalar(Scalar),
    Mapping(Arc<Mapping>),
    Sequence(Arc<Sequence>),
    /// An alias or a tagged value, which has been noted as a problem.
    Refused(Mark),
}

pub(crate) struct Mapping {
    pub(crate) mark: Mark,
    pub(crate) entries: Vec<(Scalar, Node)>,
}

pub(crate) struct Sequence {
    pub(crate) mark: Mark,
    pub(crate) items: Vec<Node>,
}

impl Node {
    pub(crate) fn to_python(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Self::Scalar(scalar) => Py::new(py, scalar.clone())?.into_any(),
            Self::Mapping(mapping) => Py::new(py, MappingNode::of(mapping))?.into_any(),
            Self::Sequence(sequence) => Py::new(py, SequenceNode::of(sequence))?.into_any(),
            Self::Refused(mark) => Py::new(py, RefusedNode { mark: *mark })?.into_any(),
        })
    }
}

/// Keys and values in the order of the file, without the repetitions of a key.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct MappingNode {
    mapping: Arc<Mapping>,
    entries: PyOnceLock<Py<PyDict>>,
}

impl MappingNode {
    fn of(mapping: &Arc<Mapping>) -> Self {
        Self {
            mapping: Arc::clone(mapping),
            entries: PyOnceLock::new(),
        }
    }
}

#[pymethods]
impl MappingNode {
    #[getter]
    fn mark(&self) -> Mark {
        self.mapping.mark
    }

    #[getter]
    fn entries(&self, py: Python<'_>) -> PyResult<&Py<PyDict>> {
        self.entries.get_or_try_init(py, || {
            let entries = PyDict::new(py);
            for (key, value) in &self.mapping.entries {
                entries.set_item(&*key.text, (key.clone(), value.to_python(py)?))?;
            }
            Ok(entries.unbind())
        })
    }

    /// What `parse` makes of each text and the value of its key in `known`; None when a key is not known, a value is
    /// no text, or `parse` makes nothing of one.
    fn plain<'py>(
        &self,
        py: Python<'py>,
        known: &Bound<'py, PyDict>,
        parse: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let parsed = PyDict::new(py);
        for (key, value) in &self.mapping.entries {
            let Node::Scalar(value) = value else {
                return Ok(None);
            };
            let name = PyString::intern(py, &key.text);
            let Some(meaning) = known.get_item(&name)? else {
                return Ok(None);
            };
            let found = parse.call1((&*value.text, meaning))?;
            if found.is_none() {
                return Ok(None);
            }
            parsed.set_item(name, found)?;
        }
        Ok(Some(parsed))
    }
}

/// A list.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct SequenceNode {
    sequence: Arc<Sequence>,
    items: PyOnceLock<Py<PyList>>,
}

impl SequenceNode {
    fn of(sequence: &Arc<Sequence>) -> Self {
        Self {
            sequence: Arc::clone(sequence),
            items: PyOnceLock::new(),
        }
    }
}

#[pymethods]
impl SequenceNode {
    #[getter]
    fn mark(&self) -> Mark {
        self.sequence.mark
    }

    #[getter]
    fn items(&self, py: Python<'_>) -> PyResult<&Py<PyList>> {
        self.items.get_or_try_init(py, || {
            let items = self.sequence.items.iter().map(|item| item.to_python(py));
            Ok(PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.unbind())
        })
    }
}

/// Stands for an alias or a tagged value, which has been noted as a problem.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct RefusedNode {
    #[pyo3(get)]
    mark: Mark,
}
