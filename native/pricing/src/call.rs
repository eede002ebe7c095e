// SPDX-License-Identifier: Apache-2.0
//! What goes into pricing and what comes out.

use std::fmt;
use std::sync::Arc;

/// What is to be priced. Empty strings mean "not stated".
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Name as the caller sent it; empty for usage of the platform itself.
    pub model: &'a str,
    /// Who served the call.
    pub provider: &'a str,
    /// Service tier as served.
    pub tier: &'a str,
    /// Region as served.
    pub region: &'a str,
    /// Speed as served.
    pub speed: &'a str,
    /// When the call ended, nanoseconds since 1970 UTC: selects dates and times of day.
    pub occur_time_nanos: i64,
    /// How many calls the quantities are the sum of. Above 1 no context condition holds.
    pub calls: i64,
    /// Quantities by class, none negative, each class at most once. Zeros make no line.
    pub usage: &'a [(&'a str, i64)],
}

/// The price of one class of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What was used.
    pub usage_class: Arc<str>,
    /// The class whose price it is: `usage_class`, or one that it falls back to. `None` when unpriced.
    pub priced_as: Option<Arc<str>>,
    /// As used.
    pub quantity: i64,
    /// As billed: `quantity`, or the price's minimum.
    pub billed_quantity: i64,
    /// Unit price in picos per `per` units, 0 when unpriced.
    pub amount_picos: i64,
    /// Units that the unit price covers, at least 1.
    pub per: i64,
    /// Half-even rounding of `billed_quantity * amount_picos / per`.
    pub cost_picos: i64,
    /// No price was found. Not the same as a price of zero.
    pub unpriced: bool,
    /// What the card says, where the tenant has prices of its own.
    pub list: Option<ListPrice>,
}

/// The price of a line by the card alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPrice {
    /// The class whose price it is. `None` when the card has no price.
    pub priced_as: Option<Arc<str>>,
    /// As the card would bill.
    pub billed_quantity: i64,
    /// Unit price in picos per `per` units, 0 when the card has no price.
    pub amount_picos: i64,
    /// Units that the unit price covers, at least 1.
    pub per: i64,
    /// Half-even rounding of `billed_quantity * amount_picos / per`.
    pub cost_picos: i64,
}

/// A priced call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priced {
    /// The row, `None` without a model or when no row matches.
    pub row: Option<Arc<str>>,
    /// Positions in the row's `when`, ascending.
    pub overlays_applied: Vec<u16>,
    /// Tokens of the whole prompt: input, cache reads and cache writes of all modalities.
    pub prompt_tokens: i64,
    /// Tokens that count against a tokens-per-day quota.
    pub quota_tokens: i64,
    /// One line per class used, in the order of [`Call::usage`].
    pub lines: Vec<Line>,
    /// Sum of the lines.
    pub cost_picos: i64,
    /// Sum of the lines by the card alone; `cost_picos` unless the tenant has prices of its own.
    pub list_cost_picos: i64,
    /// A model was named that no row matches; its tokens are unpriced.
    pub unknown_model: bool,
}

/// Why a call cannot be priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceError {
    /// A quantity is negative, or with this class a cost or a sum of tokens exceeds `i64`.
    OutOfRange {
        /// The class.
        usage_class: String,
    },
}

impl fmt::Display for PriceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { usage_class } => write!(formatter, "usage.{usage_class}: out of range"),
        }
    }
}

impl std::error::Error for PriceError {}
