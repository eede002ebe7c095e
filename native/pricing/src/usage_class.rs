// SPDX-License-Identifier: Apache-2.0
//! Usage classes: every token of a call is in exactly one; meters without tokens have classes of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use crate::card_format::ClassDocument;

/// Position of a class in its [`ClassTable`].
pub(crate) type ClassIndex = u16;

/// How a class takes part in the sums over a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClassRole {
    /// Counted in tokens: overlays multiply it unless they name classes.
    pub(crate) is_token: bool,
    /// Part of the prompt that `context` conditions compare.
    pub(crate) is_prompt: bool,
    /// Part of the tokens-per-day quota.
    pub(crate) is_quota: bool,
}

const UNCACHED_PROMPT: ClassRole = ClassRole {
    is_token: true,
    is_prompt: true,
    is_quota: true,
};
const CACHED_PROMPT: ClassRole = ClassRole {
    is_token: true,
    is_prompt: true,
    is_quota: false,
};
const COMPLETION: ClassRole = ClassRole {
    is_token: true,
    is_prompt: false,
    is_quota: true,
};
const METER: ClassRole = ClassRole {
    is_token: false,
    is_prompt: false,
    is_quota: false,
};

const PER_MILLION: i64 = 1_000_000;
const PER_HOUR_MS: i64 = 3_600_000;
/// One gigabyte for 30 days.
const PER_GIGABYTE_MONTH: i64 = 720_000_000_000;

/// Name, the class it falls back to, units that one price covers, role. Parents stand before their children.
const BUILT_IN: [(&str, Option<&str>, i64, ClassRole); 25] = [
    ("input", None, PER_MILLION, UNCACHED_PROMPT),
    ("cache_read", Some("input"), PER_MILLION, CACHED_PROMPT),
    ("cache_write", Some("input"), PER_MILLION, CACHED_PROMPT),
    ("cache_write_1h", Some("cache_write"), PER_MILLION, CACHED_PROMPT),
    ("output", None, PER_MILLION, COMPLETION),
    ("reasoning", Some("output"), PER_MILLION, COMPLETION),
    ("input_audio", Some("input"), PER_MILLION, UNCACHED_PROMPT),
    ("input_image", Some("input"), PER_MILLION, UNCACHED_PROMPT),
    ("input_video", Some("input"), PER_MILLION, UNCACHED_PROMPT),
    ("cache_read_audio", Some("cache_read"), PER_MILLION, CACHED_PROMPT),
    ("cache_read_image", Some("cache_read"), PER_MILLION, CACHED_PROMPT),
    ("output_audio", Some("output"), PER_MILLION, COMPLETION),
    ("output_image", Some("output"), PER_MILLION, COMPLETION),
    ("requests", None, 1, METER),
    ("web_searches", None, 1_000, METER),
    ("file_searches", None, 1_000, METER),
    ("tool_calls", None, 1, METER),
    ("code_sessions", None, 1, METER),
    ("audio_ms", None, PER_HOUR_MS, METER),
    ("sandbox_ms", None, PER_HOUR_MS, METER),
    ("storage_byte_hours", None, PER_GIGABYTE_MONTH, METER),
    ("pages", None, 1_000, METER),
    ("rerank_units", None, 1_000, METER),
    ("images", None, 1, METER),
    ("characters", None, PER_MILLION, METER),
];

/// One class.
#[derive(Debug, Clone)]
pub(crate) struct UsageClass {
    pub(crate) name: Arc<str>,
    pub(crate) parent: Option<ClassIndex>,
    pub(crate) default_per: i64,
    pub(crate) role: ClassRole,
}

/// The built-in classes and those that a card declares.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClassTable {
    classes: Vec<UsageClass>,
    index: HashMap<Arc<str>, ClassIndex>,
}

static BUILT_IN_TABLE: LazyLock<ClassTable> = LazyLock::new(|| {
    let mut table = ClassTable::default();
    for (name, parent, default_per, role) in BUILT_IN {
        let parent = parent.and_then(|parent| table.find(parent));
        table.insert(UsageClass {
            name: Arc::from(name),
            parent,
            default_per,
            role,
        });
    }
    table
});

impl ClassTable {
    /// The classes that need no declaration.
    pub(crate) fn built_in() -> &'static Self {
        &BUILT_IN_TABLE
    }

    /// The built-in classes and `declared`; the name of a class that shadows another, has a parent that does not
    /// exist, or is its own ancestor, is the error.
    pub(crate) fn with_declared(declared: &BTreeMap<String, ClassDocument>) -> Result<Self, String> {
        let mut table = Self::built_in().clone();
        let mut pending: Vec<_> = declared.iter().collect();
        if let Some((name, _)) = pending.iter().find(|(name, _)| table.find(name).is_some()) {
            return Err((*name).clone());
        }
        while !pending.is_empty() {
            let pending_before = pending.len();
            pending.retain(|(name, class)| !table.insert_declared(name, class));
            if pending.len() == pending_before {
                break;
            }
        }
        pending
            .first()
            .map_or(Ok(table), |(name, _)| Err((*name).clone()))
    }

    /// False while the parent is not there yet.
    fn insert_declared(&mut self, name: &str, class: &ClassDocument) -> bool {
        let parent = match &class.parent {
            None => None,
            Some(parent) => match self.find(parent) {
                None => return false,
                found => found,
            },
        };
        // A declared class is counted as its parent is: tokens of a cached modality stay out of the quota.
        let role = parent
            .and_then(|parent| self.get(parent))
            .map_or(METER, |parent| parent.role);
        self.insert(UsageClass {
            name: Arc::from(name),
            parent,
            default_per: class.per,
            role,
        });
        true
    }

    fn insert(&mut self, class: UsageClass) {
        if let Ok(position) = ClassIndex::try_from(self.classes.len()) {
            self.index.insert(Arc::clone(&class.name), position);
            self.classes.push(class);
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<ClassIndex> {
        self.index.get(name).copied()
    }

    pub(crate) fn get(&self, position: ClassIndex) -> Option<&UsageClass> {
        self.classes.get(usize::from(position))
    }

    pub(crate) fn count(&self) -> ClassIndex {
        ClassIndex::try_from(self.classes.len()).unwrap_or(ClassIndex::MAX)
    }

    pub(crate) fn positions(&self) -> impl Iterator<Item = ClassIndex> + use<> {
        0..self.count()
    }

    /// The class, its parent, and so on. Finite, because parents are inserted first.
    pub(crate) fn chain(&self, position: ClassIndex) -> impl Iterator<Item = ClassIndex> + '_ {
        std::iter::successors(Some(position), |position| {
            self.get(*position).and_then(|class| class.parent)
        })
    }
}
