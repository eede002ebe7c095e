// SPDX-License-Identifier: Apache-2.0
//! Pricing of one call: choose a row, choose its variant, then one multiplication and one division per class.

use std::sync::Arc;

use crate::calendar;
use crate::call::{Call, Line, PriceError, Priced};
use crate::card::{RateCard, Row, RowMatch};
use crate::money::line_cost_picos;
use crate::overlay::Circumstances;
use crate::price::{UnitPrice, find_price};
use crate::tenant_prices::TenantPrices;
use crate::usage_class::{ClassIndex, ClassTable, UsageClass};
use crate::variant::Variant;

pub(crate) fn out_of_range(usage_class: &str) -> PriceError {
    PriceError::OutOfRange {
        usage_class: usage_class.to_owned(),
    }
}

/// One class of a call, looked up once.
pub(crate) struct Used<'a> {
    pub(crate) name: &'a str,
    quantity: i64,
    /// `None` for a class that the card does not know.
    pub(crate) class: Option<(ClassIndex, &'a UsageClass)>,
}

impl RateCard {
    /// Prices a call by this card alone.
    ///
    /// # Errors
    /// [`PriceError::OutOfRange`] instead of a wrong number.
    pub fn price(&self, call: &Call<'_>) -> Result<Priced, PriceError> {
        self.charge(call, None)
    }

    /// Prices a call by this card and by the tenant's own prices where it has any.
    ///
    /// # Errors
    /// [`PriceError::OutOfRange`] instead of a wrong number.
    pub fn charge(
        &self,
        call: &Call<'_>,
        tenant_prices: Option<&TenantPrices>,
    ) -> Result<Priced, PriceError> {
        let used = self.look_up(call.usage)?;
        let sums = TokenSums::of(&used)?;
        let epoch_second = calendar::epoch_second(call.occur_time_nanos);
        let (day, minute_of_day) = calendar::day_and_minute(epoch_second);
        let now = Circumstances {
            tier: call.tier,
            region: call.region,
            speed: call.speed,
            prompt_tokens: (call.calls <= 1).then_some(sums.prompt_tokens),
            epoch_second,
            day,
            minute_of_day,
        };
        let row_match = self.find_row(call.model, call.provider);
        let mut priced = Priced {
            row: None,
            overlays_applied: Vec::new(),
            prompt_tokens: sums.prompt_tokens,
            quota_tokens: sums.quota_tokens,
            lines: Vec::with_capacity(used.len()),
            cost_picos: 0,
            list_cost_picos: 0,
            unknown_model: matches!(row_match, RowMatch::Unknown),
        };
        match row_match {
            RowMatch::Row(row) => self.price_by_row(row, &now, &used, &mut priced)?,
            RowMatch::NoModel => {
                self.price_lines(&used, &mut priced, |class, _| self.default_price(class))?;
            }
            // Nobody knows what these tokens cost, so not even a default applies.
            RowMatch::Unknown => self.price_lines(&used, &mut priced, |class, details| {
                if details.role.is_token {
                    None
                } else {
                    self.default_price(class)
                }
            })?,
        }
        priced.list_cost_picos = priced.cost_picos;
        if let Some(tenant_prices) = tenant_prices {
            tenant_prices.charge(call, &now, &used, &self.classes, &mut priced)?;
        }
        Ok(priced)
    }

    fn look_up<'a>(&'a self, usage: &[(&'a str, i64)]) -> Result<Vec<Used<'a>>, PriceError> {
        let mut used = Vec::with_capacity(usage.len());
        for (name, quantity) in usage.iter().filter(|(_, quantity)| *quantity != 0) {
            if *quantity < 0 {
                return Err(out_of_range(name));
            }
            let class = self
                .classes
                .find(name)
                .and_then(|position| Some((position, self.classes.get(position)?)));
            used.push(Used {
                name,
                quantity: *quantity,
                class,
            });
        }
        Ok(used)
    }

    fn price_by_row(
        &self,
        row: &Row,
        now: &Circumstances<'_>,
        used: &[Used<'_>],
        priced: &mut Priced,
    ) -> Result<(), PriceError> {
        priced.row = Some(Arc::clone(&row.name));
        let by_variant = |variant: &Variant| {
            priced.overlays_applied.clone_from(&variant.overlays_applied);
            self.price_lines(used, priced, |class, _| {
                find_price(&variant.prices, class).or_else(|| self.default_price(class))
            })
        };
        // Compiling has shown that every variant is in range, so there always is one.
        row.variants
            .choose(now, &self.defaults, &self.classes, by_variant)
            .unwrap_or_else(|| Err(out_of_range(&row.name)))
    }

    fn default_price(&self, class: ClassIndex) -> Option<UnitPrice> {
        find_price(&self.defaults, class)
    }

    fn price_lines(
        &self,
        used: &[Used<'_>],
        priced: &mut Priced,
        price_of: impl Fn(ClassIndex, &UsageClass) -> Option<UnitPrice>,
    ) -> Result<(), PriceError> {
        for Used {
            name,
            quantity,
            class,
        } in used
        {
            let price = class.and_then(|(position, class)| price_of(position, class));
            let line = match (class, price) {
                (Some((_, class)), Some(price)) => self.priced_line(class, *quantity, price)?,
                (class, _) => unpriced_line(name, class.map(|(_, class)| class), *quantity),
            };
            let sum = priced.cost_picos.checked_add(line.cost_picos);
            priced.cost_picos = sum.ok_or_else(|| out_of_range(name))?;
            priced.lines.push(line);
        }
        Ok(())
    }

    fn priced_line(&self, class: &UsageClass, quantity: i64, price: UnitPrice) -> Result<Line, PriceError> {
        let billed_quantity = quantity.max(price.min_quantity);
        let cost = line_cost_picos(billed_quantity, price.amount_picos, price.per);
        let priced_as = self
            .classes
            .get(price.priced_as)
            .map(|source| Arc::clone(&source.name));
        Ok(Line {
            usage_class: Arc::clone(&class.name),
            priced_as,
            quantity,
            billed_quantity,
            amount_picos: price.amount_picos,
            per: price.per,
            cost_picos: cost.ok_or_else(|| out_of_range(&class.name))?,
            unpriced: false,
            list: None,
        })
    }
}

fn unpriced_line(name: &str, class: Option<&UsageClass>, quantity: i64) -> Line {
    Line {
        usage_class: class.map_or_else(|| Arc::from(name), |class| Arc::clone(&class.name)),
        priced_as: None,
        quantity,
        billed_quantity: quantity,
        amount_picos: 0,
        per: class.map_or(1, |class| class.default_per),
        cost_picos: 0,
        unpriced: true,
        list: None,
    }
}

/// Sums over a call's tokens.
struct TokenSums {
    prompt_tokens: i64,
    quota_tokens: i64,
}

impl TokenSums {
    fn of(used: &[Used<'_>]) -> Result<Self, PriceError> {
        let mut sums = Self {
            prompt_tokens: 0,
            quota_tokens: 0,
        };
        for Used {
            name,
            quantity,
            class,
        } in used
        {
            let Some((_, class)) = class else { continue };
            let add = |sum: i64, counts: bool| {
                if counts {
                    sum.checked_add(*quantity)
                } else {
                    Some(sum)
                }
            };
            let prompt_tokens = add(sums.prompt_tokens, class.role.is_prompt);
            let quota_tokens = add(sums.quota_tokens, class.role.is_quota);
            sums = match (prompt_tokens, quota_tokens) {
                (Some(prompt_tokens), Some(quota_tokens)) => Self {
                    prompt_tokens,
                    quota_tokens,
                },
                _ => return Err(out_of_range(name)),
            };
        }
        Ok(sums)
    }
}

/// Tokens that count against a quota when no card is in force: input, output and reasoning of all modalities.
/// Stops at the largest `i64`; negative quantities count nothing.
#[must_use]
pub fn quota_tokens(usage: &[(&str, i64)]) -> i64 {
    let classes = ClassTable::built_in();
    let counts = |name: &str| {
        classes
            .find(name)
            .and_then(|position| classes.get(position))
            .is_some_and(|class| class.role.is_quota)
    };
    let counted = usage
        .iter()
        .filter(|(name, _)| counts(name))
        .map(|(_, quantity)| (*quantity).max(0));
    counted.fold(0, i64::saturating_add)
}

/// The lines of a call for which no card is in force.
#[must_use]
pub fn unpriced_lines(usage: &[(&str, i64)]) -> Vec<Line> {
    let classes = ClassTable::built_in();
    let class = |name: &str| classes.find(name).and_then(|position| classes.get(position));
    let used = usage.iter().filter(|(_, quantity)| *quantity != 0);
    used.map(|(name, quantity)| unpriced_line(name, class(name), *quantity))
        .collect()
}

/// True for a built-in class that counts tokens.
#[must_use]
pub fn is_token_class(class: &str) -> bool {
    let table = ClassTable::built_in();
    table
        .find(class)
        .and_then(|position| table.get(position))
        .is_some_and(|class| class.role.is_token)
}
