// SPDX-License-Identifier: Apache-2.0
//! `Estimate`: the price of usage that has not happened.

use std::borrow::Cow;
use std::sync::Arc;

use taximeter_pricing::{Call, Priced};

use crate::catalogue::{Card, Catalogue, OwnPrices};
use crate::check::cost_out_of_range;
use crate::clock;
use crate::cost::{cost_line, pricing_state};
use crate::engine::Engine;
use crate::error::{Code, Failure, invalid_field};
use crate::proto::taximeter::v1::{ErrorReason, EstimateRequest, EstimateResponse, Money};
use crate::quota::money;
use crate::record::ledger_line;
use crate::validate::{self, Problems};

const CALL_COUNT_MAX: i64 = 1_000_000_000;

impl Engine {
    /// Prices usage that has not happened.
    pub(crate) fn estimate(&self, request: &EstimateRequest) -> Result<EstimateResponse, Failure> {
        let catalogue = self.fresh_catalogue()?;
        let usage = request
            .usage
            .as_ref()
            .ok_or_else(|| invalid_field("usage", ErrorReason::FieldRequired, "required"))?;
        let mut problems = Problems::default();
        let classes = validate::usage_classes(usage, "usage", &mut problems);
        problems.into_result()?;
        if !(0..=CALL_COUNT_MAX).contains(&request.call_count) {
            return Err(invalid_field(
                "call_count",
                ErrorReason::FieldInvalid,
                "0 to 1,000,000,000",
            ));
        }
        let occur_time_nanos = match &request.occur_time {
            None => clock::now_nanos(),
            Some(time) => validate::timestamp_nanos(time)
                .and_then(|nanos| i64::try_from(nanos).ok())
                .ok_or_else(|| {
                    invalid_field("occur_time", ErrorReason::FieldInvalid, "not a valid timestamp")
                })?,
        };
        let occur_time_ms = occur_time_nanos.div_euclid(clock::NANOS_PER_MS);
        let card = estimate_card(&catalogue, &request.rate_card_id, occur_time_ms)?;
        let own = catalogue.own_prices_at(&request.limits_tenant, occur_time_ms);
        let call = Call {
            model: &request.model,
            provider: &request.provider,
            tier: &request.tier,
            region: &request.region,
            speed: &request.speed,
            occur_time_nanos,
            calls: usage.calls.max(1),
            usage: &classes,
        };
        let priced = card
            .prices
            .charge(&call, own.map(|own| own.prices()))
            .map_err(|error| cost_out_of_range(&error, "usage"))?;
        if priced.unknown_model {
            let message = "the rate card has no row for this model";
            return Err(Failure::new(Code::NotFound, ErrorReason::ModelUnknown, message));
        }
        let own = own.map(AsRef::as_ref);
        Ok(estimate_response(&card, own, &priced, request.call_count.max(1)))
    }
}

fn estimate_card(catalogue: &Catalogue, id: &str, occur_time_ms: i64) -> Result<Arc<Card>, Failure> {
    let card = if id.is_empty() {
        catalogue.at(occur_time_ms).map(|entry| Arc::clone(&entry.card))
    } else {
        catalogue.card(id).cloned()
    };
    card.ok_or_else(|| Failure::new(Code::NotFound, ErrorReason::CardUnknown, "no such rate card"))
}

fn estimate_response(
    card: &Card,
    own: Option<&OwnPrices>,
    priced: &Priced,
    call_count: i64,
) -> EstimateResponse {
    let currency = || Cow::Borrowed(card.prices.currency());
    let of_calls = |cost_picos: i64, count: i64| -> Money {
        money(
            i128::from(cost_picos).saturating_mul(i128::from(count)),
            currency(),
        )
    };
    let lines = priced.lines.iter();
    EstimateResponse {
        cost_per_call: Some(of_calls(priced.cost_picos, 1)),
        cost: Some(of_calls(priced.cost_picos, call_count)),
        lines: lines
            .map(|line| cost_line(ledger_line(line.clone()), own.is_some()))
            .collect(),
        rate_card_id: card.id.clone(),
        rate_card_row: priced.row.as_deref().unwrap_or_default().to_owned(),
        pricing_state: pricing_state(priced.lines.iter().map(|line| line.unpriced)).into(),
        list_cost: own
            .is_some()
            .then(|| of_calls(priced.list_cost_picos, call_count)),
        tenant_prices_version: own.map_or(0, |own| own.version),
        // Bounds and limits are those of who asked for them.
        ..Default::default()
    }
}
