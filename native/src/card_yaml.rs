// SPDX-License-Identifier: Apache-2.0
//! YAML as rate cards use it, from the parser's events to mappings, lists and text with their places in the file.
//!
//! Events are read one by one and reading stops at the first limit, so no file costs more than reading it once. The
//! problems go to a `taximeter_server.rate_card_problems.ProblemList`, which says when there are enough of them.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use crate::card_path::{join_path, shown};
use crate::card_tree::{Mapping, Mark, Node, Scalar, Sequence};

const DEPTH_MAX: usize = 32;
/// Rows and entries of `when` together; also the entries of any one mapping or list.
const RULES_MAX: usize = 10_000;
/// Keys of a mapping that are compared one by one; of a larger one the lines are kept by key.
const COMPARED_KEYS_MAX: usize = 16;

const ALIAS_MESSAGE: &str = "aliases are not accepted: repeat the value";
/// What the parser says of an alias of nothing.
const UNKNOWN_ANCHOR: &str = "unknown anchor";
/// What it says of nesting that is too deep for itself, which it reads ahead of.
const TOO_DEEP: &str = "recursion limit exceeded";

/// Reads one document; None when the file is empty. Raises what `problems` raises when reading cannot go on.
#[pyfunction]
pub(crate) fn read_card_yaml<'py>(
    py: Python<'py>,
    text: &str,
    problems: Bound<'py, PyAny>,
) -> PyResult<Option<Py<PyAny>>> {
    let mut builder = Builder::new(problems);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span.start.into())?,
            Err(error) => return Err(builder.unreadable(&error)?),
        }
    }
    builder.root.map(|root| root.to_python(py)).transpose()
}

fn depth_message() -> String {
    format!("nested deeper than {DEPTH_MAX} levels")
}

enum Inside {
    Mapping {
        entries: Vec<(Scalar, Node)>,
        /// The key whose value is next; None when a key is.
        key: Option<Scalar>,
        /// Where the keys stand; empty while they are few.
        lines: HashMap<Arc<str>, usize>,
    },
    Sequence(Vec<Node>),
}

/// A collection whose end has not been read.
struct Open {
    inside: Inside,
    mark: Mark,
    path: String,
    is_rules: bool,
    /// Whether it stands where a key should, which has been noted as a problem.
    is_key: bool,
    length: usize,
}

struct Builder<'py> {
    root: Option<Node>,
    problems: Bound<'py, PyAny>,
    open: Vec<Open>,
    documents: usize,
    rules: usize,
}

impl<'py> Builder<'py> {
    const fn new(problems: Bound<'py, PyAny>) -> Self {
        Self {
            root: None,
            problems,
            open: Vec::new(),
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
                    let is_plain = style == ScalarStyle::Plain;
                    Node::Scalar(Scalar {
                        is_null: is_plain && matches!(&*value, "" | "~" | "null" | "Null" | "NULL"),
                        text: Arc::from(value),
                        mark,
                    })
                } else {
                    Node::Refused(mark)
                };
                self.add(node, mark)
            }
            Event::MappingStart(anchor, tag) => {
                self.is_untagged(mark, anchor, tag.is_some())?;
                let inside = Inside::Mapping {
                    entries: Vec::new(),
                    key: None,
                    lines: HashMap::new(),
                };
                self.start(inside, mark)
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_untagged(mark, anchor, tag.is_some())?;
                self.start(Inside::Sequence(Vec::new()), mark)
            }
            Event::MappingEnd | Event::SequenceEnd => self.end(),
            Event::Alias(_) => {
                self.note(mark, &self.path(), "YAML_ALIAS", ALIAS_MESSAGE)?;
                self.add(Node::Refused(mark), mark)
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

    fn start(&mut self, inside: Inside, mark: Mark) -> PyResult<()> {
        let path = self.path();
        if self.open.len() >= DEPTH_MAX {
            return Err(self.stop(mark, &path, "YAML_DEPTH", depth_message())?);
        }
        let is_key = self.expects_key();
        if is_key {
            self.count(mark)?;
            self.note(mark, &path, "YAML_KEY", "a key must be text")?;
        } else if self.is_in_sequence() {
            self.count(mark)?;
        }
        let is_rules = match inside {
            Inside::Mapping { .. } => path == "rate_card",
            Inside::Sequence(_) => path.strip_suffix(".when").is_some(),
        };
        self.open.push(Open {
            inside,
            mark,
            path,
            is_rules,
            is_key,
            length: 0,
        });
        Ok(())
    }

    fn end(&mut self) -> PyResult<()> {
        let Some(ended) = self.open.pop() else {
            return Ok(());
        };
        let mark = ended.mark;
        if ended.is_key {
            self.put_key(empty_key(mark));
            return Ok(());
        }
        self.put(match ended.inside {
            Inside::Mapping { entries, .. } => Node::Mapping(Arc::new(Mapping { mark, entries })),
            Inside::Sequence(items) => Node::Sequence(Arc::new(Sequence { mark, items })),
        })
    }

    fn expects_key(&self) -> bool {
        let inside = self.open.last().map(|parent| &parent.inside);
        matches!(inside, Some(Inside::Mapping { key: None, .. }))
    }

    fn is_in_sequence(&self) -> bool {
        let inside = self.open.last().map(|parent| &parent.inside);
        matches!(inside, Some(Inside::Sequence(_)))
    }

    /// Takes what is no collection.
    fn add(&mut self, node: Node, mark: Mark) -> PyResult<()> {
        if self.expects_key() {
            self.count(mark)?;
            self.put_key(match node {
                Node::Scalar(key) => key,
                _ => empty_key(mark),
            });
            return Ok(());
        }
        if self.is_in_sequence() {
            self.count(mark)?;
        }
        self.put(node)
    }

    fn put_key(&mut self, found: Scalar) {
        if let Some(Inside::Mapping { key, .. }) = self.open.last_mut().map(|parent| &mut parent.inside) {
            *key = Some(found);
        }
    }

    /// Puts what is whole into what is open.
    fn put(&mut self, node: Node) -> PyResult<()> {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.inside {
            Inside::Sequence(items) => items.push(node),
            Inside::Mapping { entries, key, lines } => {
                let Some(key) = key.take() else {
                    return Ok(());
                };
                if let Some(line) = line_of(&key.text, entries, lines) {
                    let message = format!(
                        "duplicate key: {} stands in line {line} already",
                        shown(&key.text)
                    );
                    let path = join_path(&parent.path, &key.text);
                    return self.note(key.mark, &path, "YAML_DUPLICATE_KEY", &message);
                }
                entries.push((key, node));
            }
        }
        Ok(())
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
        match &parent.inside {
            Inside::Sequence(_) => format!("{}[{}]", parent.path, parent.length),
            Inside::Mapping { key: None, .. } => parent.path.clone(),
            Inside::Mapping { key: Some(key), .. } => join_path(&parent.path, &key.text),
        }
    }
}

/// What stands for a key that is no text.
fn empty_key(mark: Mark) -> Scalar {
    Scalar {
        text: Arc::from(""),
        is_null: false,
        mark,
    }
}

/// The line in which a mapping has a key already.
fn line_of(key: &str, entries: &[(Scalar, Node)], lines: &mut HashMap<Arc<str>, usize>) -> Option<usize> {
    if entries.len() <= COMPARED_KEYS_MAX {
        let same = entries.iter().find(|(known, _)| &*known.text == key);
        return same.map(|(known, _)| known.mark.line);
    }
    for (known, _) in entries.iter().skip(lines.len()) {
        lines.insert(Arc::clone(&known.text), known.mark.line);
    }
    lines.get(key).copied()
}
