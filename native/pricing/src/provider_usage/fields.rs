// SPDX-License-Identifier: Apache-2.0
//! Reading the fields of a usage object. Whatever is wrong is an error that names the place; a null is a missing field.

use std::fmt;

use super::decimal::scaled;
use super::json::{Member, Value};

/// Largest quantity of one class.
pub const QUANTITY_MAX: i64 = 10_000_000_000;
const TEXT_SIZE_MAX: usize = 64;
const MS_DECIMALS: i32 = 3;

/// Why usage was refused: the field of the message, with the path inside the JSON, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError {
    /// Such as `usage_json.prompt_tokens_details.cached_tokens`, `provider` or `iteration_model`.
    pub field: String,
    /// What is wrong, one phrase.
    pub description: &'static str,
    /// Each number is one by itself, and they cannot all be true.
    pub is_contradiction: bool,
}

impl UsageError {
    /// An error at the model whose part of an answer was asked for.
    pub(super) fn iteration_model(description: &'static str) -> Self {
        Self {
            field: "iteration_model".to_owned(),
            description,
            is_contradiction: false,
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.description)
    }
}

impl std::error::Error for UsageError {}

/// What reading gives.
pub(super) type Read<T> = Result<T, UsageError>;

/// An object within the usage, and the way to it.
#[derive(Clone)]
pub(super) struct Fields<'v> {
    members: &'v [Member<'v>],
    /// Empty at the root; else begins with a point or a bracket.
    path: String,
}

impl<'v> Fields<'v> {
    /// The object that a value is.
    pub(super) fn of(value: &'v Value<'v>, path: String) -> Read<Self> {
        match value {
            Value::Object(members) => Ok(Self { members, path }),
            _ => Err(refused(&path, "must be an object")),
        }
    }

    /// An error at one of the fields.
    pub(super) fn refuse(&self, name: &str, description: &'static str) -> UsageError {
        refused(&self.path_of(name), description)
    }

    /// A field that contradicts others.
    pub(super) fn contradict(&self, name: &str, description: &'static str) -> UsageError {
        contradicted(&self.path_of(name), description)
    }

    /// The object's parts contradict what they are parts of.
    pub(super) fn contradict_whole(&self, description: &'static str) -> UsageError {
        contradicted(&self.path, description)
    }

    /// A field, unless it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&'v Value<'v>> {
        let found = self.members.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value)
            .filter(|value| !matches!(value, Value::Null))
    }

    /// True when a field is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first of several names that a provider gives the same field.
    pub(super) fn name_of<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().find(|name| self.has(name)).copied()
    }

    /// A count of things: an integer from 0.
    pub(super) fn count(&self, name: &str) -> Read<Option<i64>> {
        self.get(name)
            .map(|value| {
                let Value::Number(digits) = value else {
                    return Err(self.refuse(name, "must be an integer"));
                };
                if digits.starts_with('-') {
                    return Err(self.refuse(name, "must be >= 0"));
                }
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(self.refuse(name, "must be an integer"));
                }
                let count = digits.parse().ok().filter(|count| *count <= QUANTITY_MAX);
                count.ok_or_else(|| self.refuse(name, "at most 10,000,000,000"))
            })
            .transpose()
    }

    /// A count, 0 where it is missing.
    pub(super) fn count_or_zero(&self, name: &str) -> Read<i64> {
        Ok(self.count(name)?.unwrap_or_default())
    }

    /// A count that cannot be missing.
    pub(super) fn required(&self, name: &str) -> Read<i64> {
        self.count(name)?.ok_or_else(|| self.refuse(name, "required"))
    }

    /// A count that goes by several names. Where more than one is there, they must agree.
    pub(super) fn same_count(&self, names: &[&str]) -> Read<Option<i64>> {
        let mut found = None;
        for name in names {
            if let Some(count) = self.count(name)? {
                if found.is_some_and(|other| other != count) {
                    return Err(self.contradict(name, "differs from the same count under another name"));
                }
                found = Some(count);
            }
        }
        Ok(found)
    }

    /// A whole number that may be written as a decimal, such as `12.0`.
    pub(super) fn whole(&self, name: &str) -> Read<i64> {
        let found = self.scaled(name, 0, "must be a whole number")?;
        Ok(found.unwrap_or_default())
    }

    /// Seconds, as milliseconds rounded half to even.
    pub(super) fn seconds_as_ms(&self, name: &str) -> Read<Option<i64>> {
        let decimals = MS_DECIMALS;
        self.scaled(name, decimals, "must be a number")
    }

    fn scaled(&self, name: &str, decimals: i32, kind: &'static str) -> Read<Option<i64>> {
        self.get(name)
            .map(|value| {
                let Value::Number(number) = value else {
                    return Err(self.refuse(name, kind));
                };
                if number.starts_with('-') {
                    return Err(self.refuse(name, "must be >= 0"));
                }
                let found = scaled(number, decimals)
                    .filter(|found| found.value <= QUANTITY_MAX)
                    .ok_or_else(|| self.refuse(name, "at most 10,000,000,000"))?;
                if decimals == 0 && !found.is_exact {
                    return Err(self.refuse(name, kind));
                }
                Ok(found.value)
            })
            .transpose()
    }

    /// A short text of printable ASCII.
    pub(super) fn text(&self, name: &str) -> Read<Option<&'v str>> {
        self.get(name)
            .map(|value| match value {
                Value::Text(text)
                    if text.len() <= TEXT_SIZE_MAX
                        && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) =>
                {
                    Ok(text.as_ref())
                }
                _ => Err(self.refuse(name, "must be a text of at most 64 printable characters")),
            })
            .transpose()
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Read<Option<Self>> {
        self.get(name)
            .map(|value| Self::of(value, self.path_of(name)))
            .transpose()
    }

    /// The object under the first of several names.
    pub(super) fn object_of(&self, names: &[&str]) -> Read<Option<Self>> {
        self.name_of(names).map_or(Ok(None), |name| self.object(name))
    }

    /// A list of objects, empty where it is missing.
    pub(super) fn list(&self, name: &str) -> Read<Vec<Self>> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::List(items)) => Self::items(items, &self.path_of(name)),
            Some(_) => Err(self.refuse(name, "must be a list")),
        }
    }

    /// The texts of a list, empty where it is missing; whatever else stands in it is passed over.
    pub(super) fn texts(&self, name: &str) -> Read<Vec<&'v str>> {
        let text = |value: &'v Value<'v>| match value {
            Value::Text(text) => Some(text.as_ref()),
            _ => None,
        };
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::List(items)) => Ok(items.iter().filter_map(text).collect()),
            Some(_) => Err(self.refuse(name, "must be a list")),
        }
    }

    /// The objects of a list.
    pub(super) fn items(items: &'v [Value<'v>], path: &str) -> Read<Vec<Self>> {
        let numbered = items.iter().enumerate();
        numbered
            .map(|(at, item)| Self::of(item, format!("{path}[{at}]")))
            .collect()
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

/// An error at a path within the JSON.
pub(super) fn refused(path: &str, description: &'static str) -> UsageError {
    UsageError {
        field: format!("usage_json{path}"),
        description,
        is_contradiction: false,
    }
}

/// Numbers that contradict each other, at a path within the JSON.
fn contradicted(path: &str, description: &'static str) -> UsageError {
    UsageError {
        is_contradiction: true,
        ..refused(path, description)
    }
}
