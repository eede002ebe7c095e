// SPDX-License-Identifier: Apache-2.0
//! From a model's name to a row: exact names and aliases, then shortened names, then the longest pattern.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::model_name::{candidates, matches};

/// Position of a row in the card.
pub(crate) type RowPosition = usize;

/// Names remembered in each half of the cache.
const CACHE_HALF_MAX: usize = 4_096;
/// Longer names are not remembered, so the cache stays below a few megabytes whatever callers send.
const CACHED_KEY_LENGTH_MAX: usize = 256;

/// Finds rows. Only names that are not exact cost more than two look-ups, and those are remembered.
#[derive(Debug, Default)]
pub(crate) struct ModelLookup {
    names: HashMap<String, RowPosition>,
    aliases: HashMap<String, RowPosition>,
    /// Patterns whose only `*` is at the end, by what stands before it.
    prefixes: HashMap<String, RowPosition>,
    /// Lengths of the keys of `prefixes`, longest first.
    prefix_lengths: Vec<usize>,
    /// All other patterns, longest first.
    patterns: Vec<(String, RowPosition)>,
    /// Whether a name or alias has a slash, so that it may be a provider and a model.
    has_qualified_names: bool,
    cache: RwLock<Cache>,
}

/// How a model's name led to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolvedBy {
    /// The row's name is the model's, with or without the provider in front.
    Name,
    /// An alias of the row is.
    Alias,
    /// The same after a date, a version or a prefix was taken off the model's name.
    ShortenedName,
    /// An alias, after that.
    ShortenedAlias,
    /// The longest pattern that matches.
    Pattern,
    /// The card's row for models that it does not know.
    UnknownModel,
}

/// What a model's name led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Name of the row.
    pub row: String,
    /// How it was found.
    pub by: ResolvedBy,
    /// The name, alias or pattern of the row that matched.
    pub matched: String,
}

/// A row and the name of it that matched.
pub(crate) struct Match {
    pub(crate) row: RowPosition,
    pub(crate) by: ResolvedBy,
    pub(crate) matched: String,
}

/// The row of a name, or that it has none: unknown names are worth remembering too.
#[derive(Debug, Clone, Copy)]
struct Resolved(Option<RowPosition>);

/// Two generations: when the younger is full it becomes the older, so memory is bounded without a list of uses.
#[derive(Debug, Default)]
struct Cache {
    younger: HashMap<String, Resolved>,
    older: HashMap<String, Resolved>,
}

impl ModelLookup {
    /// `rows` yields each row's name and aliases; the error is a name that two rows have.
    pub(crate) fn new<'a>(rows: impl Iterator<Item = (&'a str, &'a [String])>) -> Result<Self, String> {
        let mut lookup = Self::default();
        for (position, (name, aliases)) in rows.enumerate() {
            lookup.add(name, position, false)?;
            for alias in aliases {
                lookup.add(alias, position, true)?;
            }
        }
        let conflicting = lookup
            .aliases
            .keys()
            .find(|alias| lookup.names.contains_key(*alias));
        if let Some(alias) = conflicting {
            return Err(alias.clone());
        }
        lookup.patterns.sort_unstable_by(|left, right| {
            let specificity = |pattern: &String| (Reverse(pattern.len()), pattern.clone());
            specificity(&left.0).cmp(&specificity(&right.0))
        });
        let mut neighbours = lookup.patterns.iter().zip(lookup.patterns.iter().skip(1));
        if let Some(((pattern, _), _)) = neighbours.find(|(left, right)| left.0 == right.0) {
            return Err(pattern.clone());
        }
        lookup.prefix_lengths = lookup.prefixes.keys().map(String::len).collect();
        lookup
            .prefix_lengths
            .sort_unstable_by_key(|length| Reverse(*length));
        lookup.prefix_lengths.dedup();
        Ok(lookup)
    }

    fn add(&mut self, name: &str, position: RowPosition, is_alias: bool) -> Result<(), String> {
        self.has_qualified_names |= name.contains('/');
        let trailing = name.strip_suffix('*').filter(|prefix| !prefix.contains('*'));
        let previous = if let Some(prefix) = trailing {
            self.prefixes.insert(prefix.to_owned(), position)
        } else if name.contains('*') {
            self.patterns.push((name.to_owned(), position));
            None
        } else if is_alias {
            self.aliases.insert(name.to_owned(), position)
        } else {
            self.names.insert(name.to_owned(), position)
        };
        if previous.is_some() {
            Err(name.to_owned())
        } else {
            Ok(())
        }
    }

    /// The row of a name that is not empty.
    pub(crate) fn find(&self, model: &str, provider: &str) -> Option<RowPosition> {
        if (provider.is_empty() || !self.has_qualified_names)
            && let Some(row) = self.names.get(model).or_else(|| self.aliases.get(model))
        {
            return Some(*row);
        }
        let key = if provider.is_empty() {
            model.to_owned()
        } else {
            format!("{provider}/{model}")
        };
        // The provider's part of the key cannot be told from a model's with a slash: mark where it ends.
        let key_of_cache = format!("{}:{key}", provider.len());
        if let Some(Resolved(row)) = self.cached(&key_of_cache) {
            return row;
        }
        let row = self.search(model, provider).map(|found| found.row);
        if key_of_cache.len() <= CACHED_KEY_LENGTH_MAX {
            self.remember(key_of_cache, Resolved(row));
        }
        row
    }

    /// The row of a name, with how it was found.
    pub(crate) fn search(&self, model: &str, provider: &str) -> Option<Match> {
        let models = candidates(model, provider);
        let qualified: Vec<String> = if provider.is_empty() {
            Vec::new()
        } else {
            models.iter().map(|model| format!("{provider}/{model}")).collect()
        };
        let exact = models.iter().enumerate().find_map(|(place, model)| {
            let qualified = qualified.get(place).map(String::as_str);
            let named = |names: &HashMap<String, RowPosition>, by, shortened_by| {
                let (matched, row) = qualified
                    .and_then(|name| names.get_key_value(name))
                    .or_else(|| names.get_key_value(*model))?;
                Some(Match {
                    row: *row,
                    by: if place == 0 { by } else { shortened_by },
                    matched: matched.clone(),
                })
            };
            named(&self.names, ResolvedBy::Name, ResolvedBy::ShortenedName)
                .or_else(|| named(&self.aliases, ResolvedBy::Alias, ResolvedBy::ShortenedAlias))
        });
        exact.or_else(|| {
            let names = qualified.iter().map(String::as_str).chain(models.iter().copied());
            self.longest_pattern(&names.collect::<Vec<_>>())
        })
    }

    /// The longest pattern that one of the names matches; of equally long ones the first in the alphabet.
    fn longest_pattern(&self, names: &[&str]) -> Option<Match> {
        let prefix = self.prefix_lengths.iter().find_map(|length| {
            let rows = names
                .iter()
                .filter_map(|name| self.prefixes.get_key_value(name.get(..*length)?));
            rows.min_by_key(|(prefix, _)| prefix.as_str())
        });
        let pattern = self
            .patterns
            .iter()
            .find(|(pattern, _)| names.iter().any(|name| matches(pattern, name)));
        let with_star = prefix.map(|(prefix, row)| (format!("{prefix}*"), *row));
        let pattern = pattern.map(|(pattern, row)| (pattern.clone(), *row));
        let (matched, row) = with_star
            .into_iter()
            .chain(pattern)
            .min_by_key(|(pattern, _)| (Reverse(pattern.len()), pattern.clone()))?;
        Some(Match {
            row,
            by: ResolvedBy::Pattern,
            matched,
        })
    }

    fn cached(&self, key: &str) -> Option<Resolved> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.younger.get(key).or_else(|| cache.older.get(key)).copied()
    }

    fn remember(&self, key: String, row: Resolved) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.younger.len() >= CACHE_HALF_MAX {
            cache.older = std::mem::take(&mut cache.younger);
        }
        cache.younger.insert(key, row);
    }
}
