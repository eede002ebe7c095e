// SPDX-License-Identifier: Apache-2.0
//! Prices that could not be kept exactly: what their author may want to know before publishing a card.

use std::collections::BTreeSet;

use crate::axes::Axes;
use crate::card::{CompileError, compile_overlays};
use crate::card_format::CardDocument;
use crate::price::{RowPrices, parse_prices, with_fallbacks};
use crate::usage_class::ClassTable;
use crate::variant::{TABLE_WORK_MAX, applied_overlays};

/// A price that has more than 12 decimals after its multipliers, and was rounded half to even.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundedPrice {
    /// Row.
    pub row: String,
    /// Class.
    pub usage_class: String,
    /// Positions in `when` that made it, the fewest that do.
    pub overlays_applied: Vec<u16>,
}

/// Lists the rounded prices of a canonical card, one for each row and class.
///
/// Of a row with so many combinations of circumstances that it has no table, each entry of `when` is looked at alone.
///
/// # Errors
/// When the text is not a canonical card.
pub fn rounded_prices(canonical_json: &str) -> Result<Vec<RoundedPrice>, CompileError> {
    let document: CardDocument = serde_json::from_str(canonical_json)
        .map_err(|error| CompileError::new(format!("not a canonical rate card: {error}")))?;
    let wrong = |what: &str| CompileError::new(format!("not a canonical rate card: {what}"));
    let classes = ClassTable::with_declared(&document.classes).map_err(|_| wrong("classes"))?;
    let defaults = parse_prices(&document.defaults, &classes).map_err(|_| wrong("defaults"))?;
    let defaults = with_fallbacks(&defaults, &classes);
    let mut rounded = Vec::new();
    for (name, row) in &document.rows {
        if row.when.iter().all(|entry| entry.multiply.is_none()) {
            continue;
        }
        let base = parse_prices(&row.prices, &classes).map_err(|_| wrong(name))?;
        let overlays = compile_overlays(row, &classes).map_err(|_| wrong(name))?;
        let prices = RowPrices { base, overlays };
        let mut found = BTreeSet::new();
        for applied in combinations(&prices) {
            for class in prices.rounded_classes(&applied, &defaults, &classes) {
                if found.insert(class) {
                    rounded.push(RoundedPrice {
                        row: name.clone(),
                        usage_class: classes
                            .get(class)
                            .map(|class| class.name.to_string())
                            .unwrap_or_default(),
                        overlays_applied: applied.clone(),
                    });
                }
            }
        }
    }
    Ok(rounded)
}

/// The sets of overlays that can apply together, smallest first.
fn combinations(prices: &RowPrices) -> Vec<Vec<u16>> {
    let axes = Axes::new(&prices.overlays);
    let cells = axes
        .cell_count()
        .filter(|cells| cells.saturating_mul(prices.overlays.len()) <= TABLE_WORK_MAX);
    let sets: BTreeSet<Vec<u16>> = match cells {
        Some(cells) => (0..cells)
            .map(|cell| applied_overlays(&prices.overlays, &axes.example(cell)))
            .collect(),
        None => (0..=u16::MAX)
            .zip(&prices.overlays)
            .map(|(position, _)| vec![position])
            .collect(),
    };
    let mut sorted: Vec<Vec<u16>> = sets.into_iter().collect();
    sorted.sort_by_key(Vec::len);
    sorted
}
