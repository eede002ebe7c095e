// SPDX-License-Identifier: Apache-2.0
//! Priced records and lines as callers see them.

use std::borrow::Cow;

use taximeter_pricing::{RateCard, decimal_string};

use crate::credits::CreditSums;
use crate::proto::taximeter::ledger::v1::{AttributeCap, LedgerEntry, LedgerLine};
use crate::proto::taximeter::v1::{
    CostLine, Durability, HoldSettlement, LimitStatus, ListPrice, PricingState, RecordResponse,
    RecordWarning, RecordWarningKind,
};
use crate::quota::money;

/// What only the store can say of a record.
#[derive(Debug, Default)]
pub(crate) struct StoreSays {
    pub(crate) limits: Vec<LimitStatus>,
    pub(crate) hold: Option<HoldSettlement>,
    /// None where the tenant has no credit account.
    pub(crate) credits: Option<CreditSums>,
}

/// The answer to Record.
pub(crate) fn response(
    entry: &LedgerEntry,
    card: Option<&RateCard>,
    says: StoreSays,
    durability: Durability,
    duplicate: bool,
) -> RecordResponse {
    RecordResponse {
        duplicate,
        cost: Some(money(i128::from(entry.cost_picos), currency(card))),
        rate_card_id: hex(&entry.rate_card_id),
        rate_card_row: entry.rate_card_row.clone(),
        pricing_state: pricing_state(entry.lines.iter().map(|line| line.unpriced)).into(),
        lines: cost_lines(entry),
        limits: says.limits,
        durability: durability.into(),
        hold: says.hold,
        list_cost: (entry.tenant_prices_version != 0)
            .then(|| money(i128::from(entry.list_cost_picos), currency(card))),
        tenant_prices_version: entry.tenant_prices_version,
        warnings: warnings(entry),
        usage_flags: entry.usage_flags.clone(),
        credit_microcredits: says.credits.map_or(0, |credits| credits.debited),
        overdrawn_microcredits: says.credits.map_or(0, |credits| credits.overdrawn),
    }
}

/// What the caller should know of a record that was recorded all the same.
fn warnings(entry: &LedgerEntry) -> Vec<RecordWarning> {
    let message = match AttributeCap::try_from(entry.attribute_cap) {
        Ok(AttributeCap::Values) => {
            "attributes: the tenant has as many sets of them as it may on this day; this record's values count under \
             \"__other__\""
        }
        Ok(AttributeCap::All) => {
            "attributes: the tenant has as many sets of them, and of their keys, as it may on this day; this record \
             counts under one attribute \"__other__\""
        }
        Ok(AttributeCap::Unspecified) | Err(_) => return Vec::new(),
    };
    vec![RecordWarning {
        kind: RecordWarningKind::LabelCap.into(),
        message: message.to_owned(),
    }]
}

fn currency(card: Option<&RateCard>) -> Cow<'_, str> {
    Cow::Borrowed(card.map_or("USD", RateCard::currency))
}

/// State of a record with these lines.
pub(crate) fn pricing_state(unpriced: impl Iterator<Item = bool>) -> PricingState {
    let (mut some, mut all) = (false, true);
    let mut any_line = false;
    for line_unpriced in unpriced {
        any_line = true;
        some |= line_unpriced;
        all &= line_unpriced;
    }
    match (any_line && all, some) {
        (true, _) => PricingState::Unpriced,
        (false, true) => PricingState::PartlyPriced,
        (false, false) => PricingState::Priced,
    }
}

/// The lines of an entry as callers see them.
pub(crate) fn cost_lines(entry: &LedgerEntry) -> Vec<CostLine> {
    let has_list_price = entry.tenant_prices_version != 0;
    let lines = entry.lines.iter();
    lines.map(|line| cost_line(line, has_list_price)).collect()
}

/// A line as callers see it. `has_list_price`: the tenant has prices of its own, so the line keeps the card's too.
pub(crate) fn cost_line(line: &LedgerLine, has_list_price: bool) -> CostLine {
    let unit_price = |is_priced: bool, amount_picos: i64| {
        if is_priced {
            decimal_string(amount_picos)
        } else {
            String::new()
        }
    };
    CostLine {
        usage_class: line.usage_class.clone(),
        priced_as: line.priced_as.clone(),
        quantity: line.quantity,
        billed_quantity: line.billed_quantity,
        unit_price: unit_price(!line.unpriced, line.amount_picos),
        per: line.per,
        cost_picos: line.cost_picos,
        unpriced: line.unpriced,
        list_price: has_list_price.then(|| ListPrice {
            priced_as: line.list_priced_as.clone(),
            billed_quantity: line.list_billed_quantity,
            unit_price: unit_price(line.list_per > 0, line.list_amount_picos),
            per: line.list_per,
            cost_picos: line.list_cost_picos,
        }),
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    text.extend(nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)));
    text
}
