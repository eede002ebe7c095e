// SPDX-License-Identifier: Apache-2.0
//! Unit prices, and how a row's base prices and matching overlays become one price per class.

use std::collections::BTreeMap;

use crate::card_format::PriceDocument;
use crate::money::{Decimal, is_exact_product, multiplied_amount_picos};
use crate::overlay::{Multiplier, Overlay};
use crate::usage_class::{ClassIndex, ClassTable};

/// What `per` units cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnitPrice {
    pub(crate) amount_picos: i64,
    /// At least 1.
    pub(crate) per: i64,
    /// Smallest quantity billed, 0 for none.
    pub(crate) min_quantity: i64,
    /// The class whose price it is: the priced class itself or one that it falls back to.
    pub(crate) priced_as: ClassIndex,
}

/// Prices by class, sorted by class.
pub(crate) type PriceList = Vec<(ClassIndex, UnitPrice)>;

/// The price of a class in a sorted list.
pub(crate) fn find_price(prices: &[(ClassIndex, UnitPrice)], class: ClassIndex) -> Option<UnitPrice> {
    let place = prices.binary_search_by_key(&class, |(class, _)| *class).ok()?;
    prices.get(place).map(|(_, price)| *price)
}

/// Compiles prices; the error names the class.
pub(crate) fn parse_prices(
    documents: &BTreeMap<String, PriceDocument>,
    classes: &ClassTable,
) -> Result<PriceList, String> {
    let mut prices = Vec::with_capacity(documents.len());
    for (name, document) in documents {
        let class = classes
            .find(name)
            .ok_or_else(|| format!("unknown class {name}"))?;
        let amount = Decimal::parse(&document.price).and_then(|price| price.amount_picos());
        let amount_picos = amount.ok_or_else(|| format!("{name}: price out of range"))?;
        if document.per < 1 || document.min < 0 {
            return Err(format!("{name}: per and min must be positive"));
        }
        let (per, min_quantity) = (document.per, document.min);
        prices.push((
            class,
            UnitPrice {
                amount_picos,
                per,
                min_quantity,
                priced_as: class,
            },
        ));
    }
    prices.sort_unstable_by_key(|(class, _)| *class);
    Ok(prices)
}

/// Every class with a price in `prices`, its own or that of the nearest class that it falls back to.
pub(crate) fn with_fallbacks(prices: &[(ClassIndex, UnitPrice)], classes: &ClassTable) -> PriceList {
    let mut own = prices.iter().peekable();
    let mut found: PriceList = Vec::with_capacity(usize::from(classes.count()));
    // Parents stand before their children, so what a parent has found is known.
    for class in classes.positions() {
        let price = own
            .next_if(|(priced, _)| *priced == class)
            .map(|(_, price)| *price);
        let inherited = || find_price(&found, classes.get(class)?.parent?);
        if let Some(price) = price.or_else(inherited) {
            found.push((class, price));
        }
    }
    found
}

/// A price on its way through the overlays. Multipliers are kept apart so that the product is rounded once.
#[derive(Clone)]
struct PendingPrice<'a> {
    price: UnitPrice,
    multipliers: Vec<&'a Decimal>,
}

/// A row's prices before circumstances are known.
#[derive(Debug)]
pub(crate) struct RowPrices {
    pub(crate) base: PriceList,
    pub(crate) overlays: Vec<Overlay>,
}

impl RowPrices {
    /// Prices after the overlays at positions `applied`, with fallbacks inside the row but not to `defaults`.
    ///
    /// `defaults` are the card's, with fallbacks: a multiplier that names a class which the row does not price itself
    /// multiplies the price that the class has at that point.
    pub(crate) fn resolve(
        &self,
        applied: &[u16],
        defaults: &[(ClassIndex, UnitPrice)],
        classes: &ClassTable,
    ) -> Option<PriceList> {
        let rounded = self.overlaid(applied, defaults, classes).into_iter().map(
            |(class, PendingPrice { price, multipliers })| {
                let amount_picos = multiplied_amount_picos(price.amount_picos, multipliers)?;
                Some((
                    class,
                    UnitPrice {
                        amount_picos,
                        ..price
                    },
                ))
            },
        );
        Some(with_fallbacks(&rounded.collect::<Option<PriceList>>()?, classes))
    }

    /// The classes whose price after the overlays at positions `applied` has more decimals than an amount can have.
    pub(crate) fn rounded_classes(
        &self,
        applied: &[u16],
        defaults: &[(ClassIndex, UnitPrice)],
        classes: &ClassTable,
    ) -> Vec<ClassIndex> {
        self.overlaid(applied, defaults, classes)
            .into_iter()
            .filter(|(_, PendingPrice { price, multipliers })| {
                !is_exact_product(price.amount_picos, multipliers.iter().copied())
            })
            .map(|(class, _)| class)
            .collect()
    }

    fn overlaid<'a>(
        &'a self,
        applied: &[u16],
        defaults: &[(ClassIndex, UnitPrice)],
        classes: &ClassTable,
    ) -> BTreeMap<ClassIndex, PendingPrice<'a>> {
        let unmultiplied = |price: &UnitPrice| PendingPrice {
            price: *price,
            multipliers: Vec::new(),
        };
        let mut pending: BTreeMap<ClassIndex, PendingPrice<'a>> = self
            .base
            .iter()
            .map(|(class, price)| (*class, unmultiplied(price)))
            .collect();
        for overlay in applied
            .iter()
            .filter_map(|position| self.overlays.get(usize::from(*position)))
        {
            pending.extend(
                overlay
                    .prices
                    .iter()
                    .map(|(class, price)| (*class, unmultiplied(price))),
            );
            match &overlay.multiplier {
                Some(multiplier) if multiplier.classes.is_empty() => {
                    multiply_tokens(&mut pending, &multiplier.factor, classes);
                }
                Some(multiplier) => multiply_named(&mut pending, multiplier, defaults, classes),
                None => {}
            }
        }
        pending
    }

    /// Whether every combination of overlays stays within range, judged by the largest price and all increases.
    pub(crate) fn is_in_range(&self, defaults: &[(ClassIndex, UnitPrice)]) -> bool {
        let overlaid = self.overlays.iter().flat_map(|overlay| &overlay.prices);
        let prices = self.base.iter().chain(overlaid).chain(defaults);
        let largest = prices.map(|(_, price)| price.amount_picos).max().unwrap_or(0);
        let factors = self
            .overlays
            .iter()
            .filter_map(|overlay| overlay.multiplier.as_ref());
        let increases = factors
            .map(|multiplier| &multiplier.factor)
            .filter(|factor| factor.exceeds_one());
        multiplied_amount_picos(largest, increases).is_some()
    }
}

fn multiply_tokens<'a>(
    pending: &mut BTreeMap<ClassIndex, PendingPrice<'a>>,
    factor: &'a Decimal,
    classes: &ClassTable,
) {
    for (class, price) in pending {
        if classes.get(*class).is_some_and(|class| class.role.is_token) {
            price.multipliers.push(factor);
        }
    }
}

fn multiply_named<'a>(
    pending: &mut BTreeMap<ClassIndex, PendingPrice<'a>>,
    multiplier: &'a Multiplier,
    defaults: &[(ClassIndex, UnitPrice)],
    classes: &ClassTable,
) {
    let price_now = |class: ClassIndex| {
        let in_row = classes
            .chain(class)
            .find_map(|ancestor| pending.get(&ancestor).cloned());
        in_row.or_else(|| {
            Some(PendingPrice {
                price: find_price(defaults, class)?,
                multipliers: Vec::new(),
            })
        })
    };
    // All are looked up before any is changed: a class must not inherit its parent's part of the same multiplier.
    let named = multiplier
        .classes
        .iter()
        .filter_map(|class| Some((*class, price_now(*class)?)));
    let mut named: Vec<(ClassIndex, PendingPrice<'a>)> = named.collect();
    for (_, price) in &mut named {
        price.multipliers.push(&multiplier.factor);
    }
    pending.extend(named);
}
