// SPDX-License-Identifier: Apache-2.0
//! A row's prices for every combination of circumstances that its overlays tell apart, as a table.

use std::collections::HashMap;

use crate::axes::Axes;
use crate::overlay::{Circumstances, Overlay};
use crate::price::{PriceList, RowPrices, UnitPrice};
use crate::usage_class::{ClassIndex, ClassTable};

/// Largest table of a row, in combinations times overlays. A row beyond it is resolved anew for each call: slower,
/// never refused, so that a table cannot be made to eat the memory or the start-up time of the server.
pub(crate) const TABLE_WORK_MAX: usize = 16_384;

/// Prices under one set of overlays.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// Positions in `when`.
    pub(crate) overlays_applied: Vec<u16>,
    pub(crate) prices: PriceList,
}

/// All variants of a row.
#[derive(Debug)]
pub(crate) enum Variants {
    /// No overlays.
    Single(Variant),
    /// `cells` has the position of a variant for each combination of `axes`.
    Table {
        axes: Axes,
        cells: Vec<u32>,
        variants: Vec<Variant>,
    },
    /// Too many combinations for a table.
    Direct(RowPrices),
}

impl Variants {
    /// `None` when a price is out of range.
    pub(crate) fn compile(
        row: RowPrices,
        defaults: &[(ClassIndex, UnitPrice)],
        classes: &ClassTable,
    ) -> Option<Self> {
        if !row.is_in_range(defaults) {
            return None;
        }
        if row.overlays.is_empty() {
            return Some(Self::Single(variant(&row, Vec::new(), defaults, classes)?));
        }
        let axes = Axes::new(&row.overlays);
        let work = axes
            .cell_count()
            .and_then(|cells| cells.checked_mul(row.overlays.len()));
        if work.is_none_or(|work| work > TABLE_WORK_MAX) {
            return Some(Self::Direct(row));
        }
        let mut variants = Vec::new();
        let mut cells = Vec::new();
        let mut known: HashMap<Vec<u16>, u32> = HashMap::new();
        for cell in 0..axes.cell_count()? {
            let applied = applied_overlays(&row.overlays, &axes.example(cell));
            let position = if let Some(position) = known.get(&applied) {
                *position
            } else {
                let position = u32::try_from(variants.len()).ok()?;
                known.insert(applied.clone(), position);
                variants.push(variant(&row, applied, defaults, classes)?);
                position
            };
            cells.push(position);
        }
        Some(Self::Table {
            axes,
            cells,
            variants,
        })
    }

    /// Lets `price` see the variant that is in force.
    pub(crate) fn choose<T>(
        &self,
        now: &Circumstances<'_>,
        defaults: &[(ClassIndex, UnitPrice)],
        classes: &ClassTable,
        price: impl FnOnce(&Variant) -> T,
    ) -> Option<T> {
        match self {
            Self::Single(variant) => Some(price(variant)),
            Self::Table {
                axes,
                cells,
                variants,
            } => {
                let position = usize::try_from(*cells.get(axes.cell(now)?)?).ok()?;
                variants.get(position).map(price)
            }
            Self::Direct(row) => {
                let applied = applied_overlays(&row.overlays, now);
                variant(row, applied, defaults, classes).as_ref().map(price)
            }
        }
    }
}

fn variant(
    row: &RowPrices,
    overlays_applied: Vec<u16>,
    defaults: &[(ClassIndex, UnitPrice)],
    classes: &ClassTable,
) -> Option<Variant> {
    let prices = row.resolve(&overlays_applied, defaults, classes)?;
    Some(Variant {
        overlays_applied,
        prices,
    })
}

/// Positions of the overlays that hold.
pub(crate) fn applied_overlays(overlays: &[Overlay], now: &Circumstances<'_>) -> Vec<u16> {
    let holds = |overlay: &Overlay| overlay.conditions.hold(now);
    (0..=u16::MAX)
        .zip(overlays)
        .filter(|(_, overlay)| holds(overlay))
        .map(|(position, _)| position)
        .collect()
}
