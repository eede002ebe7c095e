// SPDX-License-Identifier: Apache-2.0
//! Exact pricing of usage by compiled rate cards. No I/O, no clock, no floating point.
//!
//! [`RateCard::compile`] turns the canonical JSON of a card into tables; [`RateCard::price`] prices a call by them.
//! Amounts are integers of 1e-12 currency units ("picos"). A unit price after multipliers is rounded half to even to
//! a whole pico once, when the card is compiled; each line is rounded once more, when it is priced; sums are exact.
//!
//! - `money`: arithmetic and rounding
//! - `usage_class`: classes, what they fall back to, which sums they are part of
//! - `card_format`: the canonical JSON
//! - `card`, `price`, `overlay`, `axes`, `variant`: compiling it
//! - `rounded`: which prices of a card are not exact
//! - `model_lookup`, `model_name`: from a model's name to a row
//! - `call`, `pricing`: pricing a call
//! - `tenant_prices`: what a tenant is charged instead
//! - `provider_usage`: what providers report, as disjoint classes

mod axes;
mod calendar;
mod call;
mod card;
mod card_format;
mod model_lookup;
mod model_name;
mod money;
mod overlay;
mod price;
mod pricing;
mod provider_usage;
mod rounded;
mod tenant_prices;
mod usage_class;
mod variant;

pub use call::{Call, Line, ListPrice, PriceError, Priced};
pub use card::{CompileError, RateCard};
pub use model_lookup::{Resolution, ResolvedBy};
pub use money::{decimal_string, line_cost_picos};
pub use pricing::{is_token_class, quota_tokens, unpriced_lines};
pub use provider_usage::{NormalisedUsage, QUANTITY_MAX, USAGE_JSON_SIZE_MAX, UsageError, flag, normalise};
pub use rounded::{RoundedPrice, rounded_prices};
pub use tenant_prices::TenantPrices;
