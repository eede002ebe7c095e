// SPDX-License-Identifier: Apache-2.0
//! What a provider's usage comes to.

use super::fields::{QUANTITY_MAX, Read, refused};

/// A provider's usage in disjoint classes: every token is in exactly one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NormalisedUsage {
    /// Quantities by class, without zeros, each class once.
    pub classes: Vec<(&'static str, i64)>,
    /// Calls that the quantities sum up, at least 1.
    pub calls: i64,
    /// Service tier that the provider says it served. Empty when it does not.
    pub tier: String,
    /// Region that the provider says it served. Empty when it does not.
    pub region: String,
    /// Speed that the provider says it served. Empty when it does not.
    pub speed: String,
    /// What a reader should know of the numbers; see the constants of `flag`.
    pub flags: Vec<&'static str>,
}

/// What is remarkable about numbers that are still usable.
pub mod flag {
    /// The total is larger than its parts, and no part says reasoning: the rest was counted as reasoning.
    pub const REASONING_INFERRED: &str = "reasoning_inferred_from_total";
    /// The total is not the sum of its parts. Nothing is ever charged by a total.
    pub const TOTAL_MISMATCH: &str = "total_mismatch";
    /// The counts by modality do not add up to the whole: what is missing was counted as text.
    pub const MODALITIES_INCOMPLETE: &str = "modality_details_incomplete";
    /// Some older servers leave the prompt out when it was cached: it was counted as nothing.
    pub const PROMPT_MISSING: &str = "prompt_eval_count_missing";
    /// The cache writes are more than their parts by time to live: the rest was counted as written with the default
    /// one.
    pub const CACHE_WRITES_INCOMPLETE: &str = "cache_creation_details_incomplete";
    /// An iteration was another model's. It is not counted here: it is a record of its own.
    pub const OTHER_MODEL: &str = "iteration_of_another_model";
}

impl NormalisedUsage {
    pub(super) fn new() -> Self {
        Self {
            calls: 1,
            ..Self::default()
        }
    }

    /// Adds to a class.
    pub(super) fn add(&mut self, class: &'static str, quantity: i64) {
        if quantity == 0 {
            return;
        }
        match self.classes.iter_mut().find(|(name, _)| *name == class) {
            Some((_, sum)) => *sum = sum.saturating_add(quantity),
            None => self.classes.push((class, quantity)),
        }
    }

    /// Notes something remarkable, once.
    pub(super) fn flag(&mut self, flag: &'static str) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    /// True when some numbers follow from others that the provider reported.
    #[must_use]
    pub fn is_inferred(&self) -> bool {
        self.flags.contains(&flag::REASONING_INFERRED)
    }

    /// Refuses sums that no class may have.
    pub(super) fn checked(self) -> Read<Self> {
        if self.classes.iter().any(|(_, sum)| *sum > QUANTITY_MAX) {
            return Err(refused("", "adds up to more than 10,000,000,000"));
        }
        Ok(self)
    }
}
