// SPDX-License-Identifier: Apache-2.0
//! YAML as rate cards use it, from the parser's events to mappings, lists and text with their places in the file.
//!
//! Events are read one by one and reading stops at the first limit, so no file costs more than reading it once. The
//! problems go to a `taximeter_server.rate_card_problems.ProblemList`, which says when there are enough of them.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use crate::card_path::{join_path, shown};

const DEPTH_MAX: usize = 32;
/// Rows and entries of `when` together; also the entries of any one mapping or list.
const RULES_MAX: usize = 10_000;
/// Texts up to this length are kept once: classes and prices come again in every row.
const SHARED_LENGTH_MAX: usize = 32;

const ALIAS_MESSAGE: &str = "aliases are not accepted: repeat the value";
/// What the parser says of an alias of nothing.
const UNKNOWN_ANCHOR: &str = "unknown anchor";
/// What it says of nesting that is too deep for itself, which it reads ahead of.
const TOO_DEEP: &str = "recursion limit exceeded";

/// A place in the file.
#[pyclass(frozen, eq, hash, module = "taximeter_server._native")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    #[pyo3(get)]
    line: usize,
    #[pyo3(get)]
    column: usize,
}

#[pymethods]
impl Mark {
    #[new]
    const fn new(line: usize, column: usize) -> Self {
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
pub(crate) struct Scalar {
    #[pyo3(get)]
    text: Py<PyString>,
    /// Whether nothing stands here.
    #[pyo3(get)]
    is_null: bool,
    #[pyo3(get)]
    mark: Mark,
}

/// Keys and values in the order of the file, without the repetitions of a key.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct MappingNode {
    #[pyo3(get)]
    mark: Mark,
    #[pyo3(get)]
    entries: Py<PyDict>,
}

/// A list.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct SequenceNode {
    #[pyo3(get)]
    mark: Mark,
    #[pyo3(get)]
    items: Py<PyList>,
}

/// Stands for an alias or a tagged value, which has been noted as a problem.
#[pyclass(frozen, module = "taximeter_server._native")]
pub(crate) struct RefusedNode {
    #[pyo3(get)]
    mark: Mark,
}

/// Reads one document; None when the file is empty. Raises what `problems` raises when reading cannot go on.
#[pyfunction]
pub(crate) fn read_card_yaml<'py>(
    py: Python<'py>,
    text: &str,
    problems: Bound<'py, PyAny>,
) -> PyResult<Option<Py<PyAny>>> {
    let mut builder = Builder::new(py, problems);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span.start.into())?,
            Err(error) => return Err(builder.unreadable(&error)?),
        }
    }
    Ok(builder.root)
}

fn depth_message() -> String {
    format!("nested deeper than {DEPTH_MAX} levels")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Scalar,
    Refused,
    Collection,
}

struct Node {
    value: Py<PyAny>,
    /// What the node is as a key.
    text: String,
    shape: Shape,
    mark: Mark,
}

enum Inside {
    Mapping(Py<PyDict>),
    Sequence(Py<PyList>),
}

/// A collection whose end has not been read.
struct Open {
    inside: Inside,
    path: String,
    is_rules: bool,
    /// The key whose value is next; None when a key is.
    key: Option<(String, Py<PyAny>, Mark)>,
    length: usize,
    lines: HashMap<String, usize>,
}

struct Builder<'py> {
    py: Python<'py>,
    root: Option<Py<PyAny>>,
    problems: Bound<'py, PyAny>,
    open: Vec<Open>,
    shared: HashMap<String, Py<PyString>>,
    documents: usize,
    rules: usize,
}

impl<'py> Builder<'py> {
    fn new(py: Python<'py>, problems: Bound<'py, PyAny>) -> Self {
        Self {
            py,
            root: None,
            problems,
            open: Vec::new(),
            shared: HashMap::new(),
            documents: 0,
            rules: 0,
        }
    }

    fn note(&self, mark: Mark, path: &str, reason: &str, message: &str) -> PyResult<()> {
        self.problems
            .call_method1("add", (mark, path, reason, message))
            .map(drop)
    }

    /// Notes a problem that makes the rest of the file unreadable; returns the error to raise.
    fn stop(&self, mark: Mark, path: &str, reason: &str, message: String) -> PyResult<PyErr> {
        self.problems
            .call_method1("stop", (mark, path, reason, message))
            .map(PyErr::from_value)
    }

    fn unreadable(&self, error: &ScanError) -> PyResult<PyErr> {
        let mark = (*error.marker()).into();
        if error.info().ends_with(UNKNOWN_ANCHOR) {
            return self.stop(mark, &self.path(), "YAML_ALIAS", ALIAS_MESSAGE.to_owned());
        }
        if error.info() == TOO_DEEP {
            return self.stop(mark, "", "YAML_DEPTH", depth_message());
        }
        let message = format!("not valid YAML: {}", error.info());
        self.stop(mark, "", "YAML_SYNTAX", message)
    }

    fn take(&mut self, event: Event<'_>, mark: Mark) -> PyResult<()> {
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let node = if self.is_untagged(mark, anchor, tag.is_some())? {
                    self.scalar(value.into_owned(), style == ScalarStyle::Plain, mark)?
                } else {
                    self.refused(mark)?
                };
                self.add(node)
            }
            Event::MappingStart(anchor, tag) => {
                self.is_untagged(mark, anchor, tag.is_some())?;
                let entries = PyDict::new(self.py).unbind();
                let node = MappingNode {
                    mark,
                    entries: entries.clone_ref(self.py),
                };
                let value = Py::new(self.py, node)?.into_any();
                self.start(value, Inside::Mapping(entries), mark)
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_untagged(mark, anchor, tag.is_some())?;
                let items = PyList::empty(self.py).unbind();
                let node = SequenceNode {
                    mark,
                    items: items.clone_ref(self.py),
                };
                let value = Py::new(self.py, node)?.into_any();
                self.start(value, Inside::Sequence(items), mark)
            }
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                Ok(())
            }
            Event::Alias(_) => {
                self.note(mark, &self.path(), "YAML_ALIAS", ALIAS_MESSAGE)?;
                let node = self.refused(mark)?;
                self.add(node)
            }
            Event::DocumentStart(_) => {
                self.documents = self.documents.saturating_add(1);
                if self.documents > 1 {
                    let message = "one file holds one document".to_owned();
                    return Err(self.stop(mark, "", "YAML_DOCUMENTS", message)?);
                }
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// Notes an anchor or tag; something tagged is not what it looks like, so nothing is made of it.
    fn is_untagged(&self, mark: Mark, anchor: usize, has_tag: bool) -> PyResult<bool> {
        if anchor != 0 {
            let message = "anchors and aliases are not accepted: repeat the value";
            self.note(mark, &self.path(), "YAML_ALIAS", message)?;
        }
        if has_tag {
            self.note(mark, &self.path(), "YAML_TAG", "tags are not accepted")?;
        }
        Ok(!has_tag)
    }

    fn scalar(&mut self, text: String, plain: bool, mark: Mark) -> PyResult<Node> {
        let is_null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
        let node = Scalar {
            text: self.shared(&text),
            is_null,
            mark,
        };
        let value = Py::new(self.py, node)?.into_any();
        Ok(Node {
            value,
            text,
            shape: Shape::Scalar,
            mark,
        })
    }

    fn shared(&mut self, text: &str) -> Py<PyString> {
        if text.len() > SHARED_LENGTH_MAX {
            return PyString::new(self.py, text).unbind();
        }
        if let Some(found) = self.shared.get(text) {
            return found.clone_ref(self.py);
        }
        let made = PyString::new(self.py, text).unbind();
        self.shared.insert(text.to_owned(), made.clone_ref(self.py));
        made
    }

    fn refused(&self, mark: Mark) -> PyResult<Node> {
        let value = Py::new(self.py, RefusedNode { mark })?.into_any();
        Ok(Node {
            value,
            text: String::new(),
            shape: Shape::Refused,
            mark,
        })
    }

    fn start(&mut self, value: Py<PyAny>, inside: Inside, mark: Mark) -> PyResult<()> {
        let path = self.path();
        if self.open.len() >= DEPTH_MAX {
            return Err(self.stop(mark, &path, "YAML_DEPTH", depth_message())?);
        }
        self.add(Node {
            value,
            text: String::new(),
            shape: Shape::Collection,
            mark,
        })?;
        let is_rules = match inside {
            Inside::Mapping(_) => path == "rate_card",
            Inside::Sequence(_) => path.strip_suffix(".when").is_some(),
        };
        self.open.push(Open {
            inside,
            path,
            is_rules,
            key: None,
            length: 0,
            lines: HashMap::new(),
        });
        Ok(())
    }

    fn add(&mut self, node: Node) -> PyResult<()> {
        let Some(parent) = self.open.last() else {
            self.root = Some(node.value);
            return Ok(());
        };
        match &parent.inside {
            Inside::Sequence(items) => {
                items.bind(self.py).append(&node.value)?;
                self.count(node.mark)
            }
            Inside::Mapping(_) if parent.key.is_none() => self.add_key(node),
            Inside::Mapping(entries) => {
                let entries = entries.clone_ref(self.py);
                self.add_value(&entries, node.value)
            }
        }
    }

    fn add_key(&mut self, node: Node) -> PyResult<()> {
        self.count(node.mark)?;
        let key = if node.shape == Shape::Scalar {
            node
        } else {
            if node.shape == Shape::Collection {
                let path = self.open.last().map_or("", |parent| &parent.path);
                self.note(node.mark, path, "YAML_KEY", "a key must be text")?;
            }
            self.scalar(String::new(), false, node.mark)?
        };
        if let Some(parent) = self.open.last_mut() {
            parent.key = Some((key.text, key.value, key.mark));
        }
        Ok(())
    }

    fn add_value(&mut self, entries: &Py<PyDict>, value: Py<PyAny>) -> PyResult<()> {
        let Some(parent) = self.open.last_mut() else {
            return Ok(());
        };
        let Some((text, key, mark)) = parent.key.take() else {
            return Ok(());
        };
        if let Some(line) = parent.lines.get(&text) {
            let message = format!("duplicate key: {} stands in line {line} already", shown(&text));
            let path = join_path(&parent.path, &text);
            return self.note(mark, &path, "YAML_DUPLICATE_KEY", &message);
        }
        let name = self.shared(&text);
        if let Some(parent) = self.open.last_mut() {
            parent.lines.insert(text, mark.line);
        }
        entries.bind(self.py).set_item(name, (key, value))
    }

    fn count(&mut self, mark: Mark) -> PyResult<()> {
        let Some(parent) = self.open.last_mut() else {
            return Ok(());
        };
        parent.length = parent.length.saturating_add(1);
        self.rules = self.rules.saturating_add(usize::from(parent.is_rules));
        if parent.length > RULES_MAX || self.rules > RULES_MAX {
            let path = parent.path.clone();
            let message = format!("more than {RULES_MAX} rules: rows and entries of when");
            return Err(self.stop(mark, &path, "YAML_RULES", message)?);
        }
        Ok(())
    }

    /// Path of the node that comes next.
    fn path(&self) -> String {
        let Some(parent) = self.open.last() else {
            return String::new();
        };
        match (&parent.inside, &parent.key) {
            (Inside::Sequence(_), _) => format!("{}[{}]", parent.path, parent.length),
            (Inside::Mapping(_), None) => parent.path.clone(),
            (Inside::Mapping(_), Some((key, _, _))) => join_path(&parent.path, key),
        }
    }
}
