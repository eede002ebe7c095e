// SPDX-License-Identifier: Apache-2.0
//! The canonical rate card as JSON: what the server makes of a YAML file, and what a card's id is the hash of.
//!
//! Everything optional is absent when it says nothing, decimals are strings of plain digits, conditions are sorted
//! lists, instants are `2026-03-13T00:00:00Z`. The order of `when` entries is the order of evaluation.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The only version of the canonical form.
pub(crate) const FORMAT: i64 = 1;

/// A card.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CardDocument {
    pub(crate) format: i64,
    pub(crate) currency: String,
    #[serde(default)]
    pub(crate) classes: BTreeMap<String, ClassDocument>,
    #[serde(default)]
    pub(crate) defaults: BTreeMap<String, PriceDocument>,
    pub(crate) rows: BTreeMap<String, RowDocument>,
    /// Row for names that no row matches; absent means that they are not priced.
    #[serde(default)]
    pub(crate) unknown_model: Option<String>,
}

/// A class that the card declares.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClassDocument {
    pub(crate) per: i64,
    #[serde(default)]
    pub(crate) parent: Option<String>,
}

/// A price.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceDocument {
    pub(crate) price: String,
    pub(crate) per: i64,
    /// Smallest quantity billed.
    #[serde(default)]
    pub(crate) min: i64,
}

/// The prices of a model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RowDocument {
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    #[serde(default)]
    pub(crate) prices: BTreeMap<String, PriceDocument>,
    #[serde(default)]
    pub(crate) when: Vec<WhenDocument>,
}

/// An overlay: all conditions that are there must hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhenDocument {
    #[serde(default)]
    pub(crate) tier: Vec<String>,
    #[serde(default)]
    pub(crate) region: Vec<String>,
    #[serde(default)]
    pub(crate) speed: Vec<String>,
    /// Smallest prompt, in tokens.
    #[serde(default)]
    pub(crate) context_from: Option<i64>,
    /// `HH:MM-HH:MM`, half-open, not wrapping, end at most 24:00.
    #[serde(default)]
    pub(crate) utc: Vec<String>,
    /// `mon` to `sun`.
    #[serde(default)]
    pub(crate) days: Vec<String>,
    #[serde(default)]
    pub(crate) from: Option<String>,
    #[serde(default)]
    pub(crate) until: Option<String>,
    #[serde(default)]
    pub(crate) prices: BTreeMap<String, PriceDocument>,
    #[serde(default)]
    pub(crate) multiply: Option<String>,
    /// Classes that `multiply` is for; empty means all token classes.
    #[serde(default)]
    pub(crate) classes: Vec<String>,
}
