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

/// The answer to Record. Takes lines and texts out of the entry, which nobody needs any more.
pub(crate) fn response(
    entry: &mut LedgerEntry,
    card: Option<&RateCard>,
    says: StoreSays,
    durability: Durability,
    duplicate: bool,
) -> RecordResponse {
    let has_list_price = entry.tenant_prices_version != 0;
    let lines = std::mem::take(&mut entry.lines);
    RecordResponse {
        duplicate,
        cost: Some(money(i128::from(entry.cost_picos), currency(card))),
        rate_card_id: hex(&entry.rate_card_id),
        rate_card_row: std::mem::take(&mut entry.rate_card_row),
        pricing_state: pricing_state(lines.iter().map(|line| line.unpriced)).into(),
        lines: lines
            .into_iter()
            .map(|line| cost_line(line, has_list_price))
            .collect(),
        limits: says.limits,
        durability: durability.into(),
        hold: says.hold,
        list_cost: has_list_price.then(|| money(i128::from(entry.list_cost_picos), currency(card))),
        tenant_prices_version: entry.tenant_prices_version,
        warnings: warnings(entry),
        usage_flags: std::mem::take(&mut entry.usage_flags),
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

/// A line as callers see it. `has_list_price`: the tenant has prices of its own, so the line keeps the card's too.
pub(crate) fn cost_line(line: LedgerLine, has_list_price: bool) -> CostLine {
    let unit_price = |is_priced: bool, amount_picos: i64| {
        if is_priced {
            decimal_string(amount_picos)
        } else {
            String::new()
        }
    };
    CostLine {
        usage_class: line.usage_class,
        priced_as: line.priced_as,
        quantity: line.quantity,
        billed_quantity: line.billed_quantity,
        unit_price: unit_price(!line.unpriced, line.amount_picos),
        per: line.per,
        cost_picos: line.cost_picos,
        unpriced: line.unpriced,
        list_price: has_list_price.then(|| ListPrice {
            priced_as: line.list_priced_as,
            billed_quantity: line.list_billed_quantity,
            unit_price: unit_price(line.list_per > 0, line.list_amount_picos),
            per: line.list_per,
            cost_picos: line.list_cost_picos,
        }),
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| if nibble < 10 { b'0' } else { b'a' - 10 }.wrapping_add(nibble);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]);
    String::from_utf8(digits.collect()).unwrap_or_default()
}
