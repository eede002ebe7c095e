// SPDX-License-Identifier: Apache-2.0
//! Paths of a rate card such as `rate_card.gpt-5.input`, which repeat of the file what can be repeated safely.

use std::borrow::Cow;

use pyo3::prelude::*;

/// The one key at the top. Paths leave it out.
pub(crate) const ROOT_KEY: &str = "billing";
/// Characters of the file that a message repeats at most.
const SHOWN_LENGTH_MAX: usize = 32;

/// Part of a path: the key as far as it can be repeated safely.
fn path_part(key: &str) -> Cow<'_, str> {
    let is_printable = |character: char| (' '..='~').contains(&character);
    if key.len() <= SHOWN_LENGTH_MAX && key.chars().all(is_printable) {
        return Cow::Borrowed(key);
    }
    let mut characters = key.chars();
    let start = characters.by_ref().take(SHOWN_LENGTH_MAX);
    let mut part: String = start
        .map(|character| if is_printable(character) { character } else { '?' })
        .collect();
    if characters.next().is_some() {
        part.push_str("...");
    }
    Cow::Owned(part)
}

/// Path of a key below a path.
#[pyfunction]
pub(crate) fn join_path(path: &str, key: &str) -> String {
    if !path.is_empty() {
        format!("{path}.{}", path_part(key))
    } else if key == ROOT_KEY {
        String::new()
    } else {
        path_part(key).into_owned()
    }
}

/// Quotes what the file says, as far as it can be repeated safely.
#[pyfunction]
pub(crate) fn shown(text: &str) -> String {
    format!("\"{}\"", path_part(text))
}
