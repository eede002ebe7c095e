// SPDX-License-Identifier: Apache-2.0
//! A tenant's own prices: what it is charged instead of a card's prices, which stay on each line as the list price.
//!
//! A price that the tenant's rows or defaults have is charged as it is. Everything else costs the list price changed
//! by the markup. The product stays a fraction, so that a line is rounded once, like every other.

use std::sync::Arc;

use serde::Deserialize;

use crate::call::{Call, Line, ListPrice, PriceError, Priced};
use crate::card::{CompileError, RateCard, Row, RowMatch};
use crate::card_format::{CardDocument, FORMAT};
use crate::money::{line_cost_picos, marked_up};
use crate::overlay::Circumstances;
use crate::price::{PriceList, UnitPrice, find_price};
use crate::pricing::{Used, out_of_range};
use crate::usage_class::{ClassIndex, ClassTable};

/// One basis point is this part of the price.
const BASIS_POINTS: i64 = 10_000;
/// Smallest and largest markup: free, and eleven times the list price.
const MARKUP_MIN: i64 = -BASIS_POINTS;
const MARKUP_MAX: i64 = 100_000;

/// The canonical form, whose SHA-256 is the id of the prices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantPricesDocument {
    format: i64,
    #[serde(default)]
    markup_basis_points: i64,
    /// Own prices, in the form of a card.
    #[serde(default)]
    card: Option<CardDocument>,
}

/// Immutable compiled prices of a tenant.
#[derive(Debug)]
pub struct TenantPrices {
    own: Option<RateCard>,
    /// 10,000 is the list price itself.
    factor: i64,
}

impl TenantPrices {
    /// Compiles the canonical JSON of a tenant's prices.
    ///
    /// # Errors
    /// When the text is not canonical, or a price or the markup is out of range.
    pub fn compile(canonical_json: &str) -> Result<Self, CompileError> {
        let document: TenantPricesDocument = serde_json::from_str(canonical_json)
            .map_err(|error| CompileError::new(format!("not canonical tenant prices: {error}")))?;
        if document.format != FORMAT {
            return Err(CompileError::new(format!(
                "format {} is not supported",
                document.format
            )));
        }
        if !(MARKUP_MIN..=MARKUP_MAX).contains(&document.markup_basis_points) {
            return Err(CompileError::new("markup_basis_points: out of range"));
        }
        Ok(Self {
            own: document.card.map(RateCard::from_document).transpose()?,
            factor: BASIS_POINTS.saturating_add(document.markup_basis_points),
        })
    }

    /// Turns the list prices of a priced call into what the tenant is charged, and keeps them beside it.
    pub(crate) fn charge(
        &self,
        call: &Call<'_>,
        now: &Circumstances<'_>,
        used: &[Used<'_>],
        list_classes: &ClassTable,
        priced: &mut Priced,
    ) -> Result<(), PriceError> {
        let own = self
            .own
            .as_ref()
            .map(|card| OwnPrices::at(card, call, now, priced));
        let own = own.transpose()?;
        priced.cost_picos = 0;
        for (line, used) in priced.lines.iter_mut().zip(used) {
            let price = own.as_ref().and_then(|own| own.find(used, line, list_classes));
            let list = list_price(line);
            match price {
                Some(price) => price.charge(line)?,
                None if line.unpriced => {}
                None => self.mark_up(line)?,
            }
            line.list = Some(list);
            priced.cost_picos = priced
                .cost_picos
                .checked_add(line.cost_picos)
                .ok_or_else(|| out_of_range(&line.usage_class))?;
        }
        Ok(())
    }

    fn mark_up(&self, line: &mut Line) -> Result<(), PriceError> {
        let failed = || out_of_range(&line.usage_class);
        let (amount_picos, per) = marked_up(line.amount_picos, line.per, self.factor).ok_or_else(failed)?;
        let cost = line_cost_picos(line.billed_quantity, amount_picos, per).ok_or_else(failed)?;
        (line.amount_picos, line.per, line.cost_picos) = (amount_picos, per, cost);
        Ok(())
    }
}

fn list_price(line: &Line) -> ListPrice {
    ListPrice {
        priced_as: line.priced_as.clone(),
        billed_quantity: line.billed_quantity,
        amount_picos: line.amount_picos,
        per: line.per,
        cost_picos: line.cost_picos,
    }
}

/// An own price and the class that it was written for.
struct OwnPrice {
    price: UnitPrice,
    priced_as: Arc<str>,
}

impl OwnPrice {
    fn charge(self, line: &mut Line) -> Result<(), PriceError> {
        let billed_quantity = line.quantity.max(self.price.min_quantity);
        let cost = line_cost_picos(billed_quantity, self.price.amount_picos, self.price.per);
        line.cost_picos = cost.ok_or_else(|| out_of_range(&line.usage_class))?;
        line.billed_quantity = billed_quantity;
        line.amount_picos = self.price.amount_picos;
        line.per = self.price.per;
        line.priced_as = Some(self.priced_as);
        line.unpriced = false;
        Ok(())
    }
}

/// A tenant's prices for one call.
struct OwnPrices<'a> {
    card: &'a RateCard,
    row: Option<PriceList>,
    /// Nobody knows what the tokens of this model cost, so not even a default applies.
    is_unknown_model: bool,
}

impl<'a> OwnPrices<'a> {
    fn at(
        card: &'a RateCard,
        call: &Call<'_>,
        now: &Circumstances<'_>,
        priced: &Priced,
    ) -> Result<Self, PriceError> {
        let row = find_row(card, call, priced);
        let of_row = row.map(|row| {
            row.variants
                .choose(now, &card.defaults, &card.classes, |variant| {
                    variant.prices.clone()
                })
                .ok_or_else(|| out_of_range(&row.name))
        });
        Ok(Self {
            card,
            is_unknown_model: row.is_none() && priced.unknown_model,
            row: of_row.transpose()?,
        })
    }

    /// The own price of a line: that of its class, or of a class that the list price has fallen back over.
    fn find(&self, used: &Used<'_>, line: &Line, list_classes: &ClassTable) -> Option<OwnPrice> {
        let Some((position, _)) = used.class else {
            return self.find_exact(used.name);
        };
        for ancestor in list_classes.chain(position) {
            let name = &list_classes.get(ancestor)?.name;
            if let Some(found) = self.find_exact(name) {
                return Some(found);
            }
            if line.priced_as.as_ref() == Some(name) {
                return None;
            }
        }
        None
    }

    /// The price that was written for exactly this class.
    fn find_exact(&self, name: &str) -> Option<OwnPrice> {
        let position = self.card.classes.find(name)?;
        let class = self.card.classes.get(position)?;
        let written = |prices: &[(ClassIndex, UnitPrice)]| {
            find_price(prices, position).filter(|price| price.priced_as == position)
        };
        let by_default = || {
            let applies = !(self.is_unknown_model && class.role.is_token);
            applies.then(|| written(&self.card.defaults)).flatten()
        };
        let price = self.row.as_deref().and_then(written).or_else(by_default)?;
        Some(OwnPrice {
            price,
            priced_as: Arc::clone(&class.name),
        })
    }
}

/// The own row of the model, or of the card's row that the model resolved to.
fn find_row<'a>(card: &'a RateCard, call: &Call<'_>, priced: &Priced) -> Option<&'a Row> {
    if let RowMatch::Row(row) = card.find_row(call.model, call.provider) {
        return Some(row);
    }
    match card.find_row(priced.row.as_deref()?, "") {
        RowMatch::Row(row) => Some(row),
        RowMatch::NoModel | RowMatch::Unknown => None,
    }
}
