// SPDX-License-Identifier: Apache-2.0
//! Tenants' own prices: which price is charged, and what stays as the list price.

use taximeter_pricing::{Call, Line, PriceError, Priced, RateCard, TenantPrices};

const CARD: &str = r#"{
    "format": 1, "currency": "USD",
    "defaults": {"tool_calls": {"price": "0.0005", "per": 1}},
    "rows": {
        "alpha*": {
            "aliases": ["alias"],
            "prices": {"input": {"price": "1", "per": 1000000}, "output": {"price": "4", "per": 1000000},
                       "cache_read": {"price": "0.1", "per": 1000000},
                       "audio_ms": {"price": "0.36", "per": 3600000, "min": 10000}},
            "when": [{"tier": ["batch"], "multiply": "0.5"}]
        }
    }
}"#;
const MAX: i64 = i64::MAX;

fn charge(own: &str, model: &str, tier: &str, usage: &[(&str, i64)]) -> Result<Priced, PriceError> {
    let own = TenantPrices::compile(own).expect("the prices compile");
    let call = Call {
        model,
        provider: "",
        tier,
        region: "",
        speed: "",
        occur_time_nanos: 0,
        calls: 1,
        usage,
    };
    RateCard::compile(CARD)
        .expect("the card compiles")
        .charge(&call, Some(&own))
}

fn only_line(own: &str, model: &str, tier: &str, usage: (&str, i64)) -> Line {
    let priced = charge(own, model, tier, &[usage]).expect("the call has a price");
    let [line] = priced.lines.as_slice() else {
        panic!("one line per class")
    };
    assert_eq!(priced.cost_picos, line.cost_picos);
    assert_eq!(
        Some(priced.list_cost_picos),
        line.list.as_ref().map(|list| list.cost_picos)
    );
    line.clone()
}

/// Charged and list price of a line: amount, per, class, cost.
type Shown<'a> = (i64, i64, Option<&'a str>, i64);

fn shown(line: &Line) -> (Shown<'_>, Shown<'_>) {
    let list = line.list.as_ref().expect("own prices keep the list price");
    (
        (
            line.amount_picos,
            line.per,
            line.priced_as.as_deref(),
            line.cost_picos,
        ),
        (
            list.amount_picos,
            list.per,
            list.priced_as.as_deref(),
            list.cost_picos,
        ),
    )
}

/// A markup changes the list price, after its overlays; a class that falls back is changed likewise.
#[test]
fn markup_changes_every_list_price() {
    let own = r#"{"format": 1, "markup_basis_points": -1250}"#;

    let line = only_line(own, "alpha", "batch", ("reasoning", 3_000_000));

    assert_eq!(
        shown(&line),
        (
            (1_750_000_000_000, 1_000_000, Some("output"), 5_250_000_000_000),
            (2_000_000_000_000, 1_000_000, Some("output"), 6_000_000_000_000)
        )
    );
}

/// A price that is not a whole number of picos stays a fraction: the line is rounded, once, half to even.
#[test]
fn markup_is_rounded_with_the_line_only() {
    let own = r#"{"format": 1, "markup_basis_points": 1,
                  "card": {"format": 1, "currency": "USD", "rows": {}}}"#;
    let third = r#"{"format": 1, "currency": "USD", "rows": {
        "m": {"prices": {"images": {"price": "0.000000000003", "per": 2}}}}}"#;
    let own = TenantPrices::compile(own).expect("the prices compile");
    let card = RateCard::compile(third).expect("the card compiles");
    let cost = |quantity| {
        let usage = [("images", quantity)];
        let call = Call {
            model: "m",
            provider: "",
            tier: "",
            region: "",
            speed: "",
            occur_time_nanos: 0,
            calls: 1,
            usage: &usage,
        };
        let priced = card.charge(&call, Some(&own)).expect("in range");
        (
            priced.lines[0].amount_picos,
            priced.lines[0].per,
            priced.cost_picos,
        )
    };

    // 3 picos for 2, times 10,001 over 10,000.
    assert_eq!(cost(1), (30_003, 20_000, 2));
    assert_eq!(cost(10_000), (30_003, 20_000, 15_002));
    assert_eq!(cost(20_000), (30_003, 20_000, 30_003));
}

/// An own price replaces the price of its class whatever the card's overlays say, and its minimum counts.
#[test]
fn own_price_is_charged_as_it_stands() {
    let own = r#"{"format": 1, "markup_basis_points": 10000, "card": {"format": 1, "currency": "USD", "rows": {
        "alpha": {"prices": {"output": {"price": "3", "per": 1000000}, "audio_ms": {"price": "0.3", "per": 3600000}},
                  "when": [{"tier": ["batch"], "multiply": "0.1"}]}}}}"#;

    let output = only_line(own, "alpha", "", ("output", 1_000_000));
    let batch = only_line(own, "alpha", "batch", ("output", 1_000_000));
    let audio = only_line(own, "alpha", "", ("audio_ms", 3_600));
    let input = only_line(own, "alpha", "", ("input", 1_000_000));

    assert_eq!(output.cost_picos, 3_000_000_000_000);
    assert_eq!(batch.cost_picos, 300_000_000_000);
    assert_eq!((audio.billed_quantity, audio.cost_picos), (3_600, 300_000_000));
    let list = audio.list.expect("the list price is kept");
    assert_eq!((list.billed_quantity, list.cost_picos), (10_000, 1_000_000_000));
    // Not in the own row, so the markup is for it.
    assert_eq!(input.cost_picos, 2_000_000_000_000);
}

/// An own price is that of classes which fall back to it on the card, and of no class with a price of its own there.
#[test]
fn own_price_follows_the_fallbacks_of_the_card() {
    let own = r#"{"format": 1, "card": {"format": 1, "currency": "USD", "rows": {
        "alpha": {"prices": {"input": {"price": "0.8", "per": 1000000}}}}}}"#;

    let falls_back = only_line(own, "alpha", "", ("cache_write_1h", 1_000_000));
    let has_its_own = only_line(own, "alpha", "", ("cache_read", 1_000_000));

    assert_eq!(
        (falls_back.priced_as.as_deref(), falls_back.cost_picos),
        (Some("input"), 800_000_000_000)
    );
    assert_eq!(
        (has_its_own.priced_as.as_deref(), has_its_own.cost_picos),
        (Some("cache_read"), 100_000_000_000)
    );
}

/// The own row is that of the model, or that of the card's row which the model resolved to.
#[test]
fn own_row_is_found_by_the_name_of_the_cards_row_too() {
    let by_row = r#"{"format": 1, "card": {"format": 1, "currency": "USD", "rows": {
        "alpha*": {"prices": {"input": {"price": "0.7", "per": 1000000}}}}}}"#;
    let by_model = r#"{"format": 1, "card": {"format": 1, "currency": "USD", "rows": {
        "alpha*": {"prices": {"input": {"price": "0.7", "per": 1000000}}},
        "alpha-2": {"prices": {"input": {"price": "0.6", "per": 1000000}}}}}}"#;

    for (own, model, cost_picos) in [
        (by_row, "alpha-2", 700_000_000_000),
        (by_row, "alias", 700_000_000_000),
        (by_model, "alpha-2", 600_000_000_000),
        (by_model, "alias", 700_000_000_000),
    ] {
        assert_eq!(
            only_line(own, model, "", ("input", 1_000_000)).cost_picos,
            cost_picos,
            "{model}"
        );
    }
}

/// What the card cannot price stays unpriced under a markup, and has a price where the tenant has one.
#[test]
fn own_price_can_price_what_the_card_cannot() {
    let markup = r#"{"format": 1, "markup_basis_points": 500}"#;
    let own = r#"{"format": 1, "card": {"format": 1, "currency": "USD",
        "defaults": {"output": {"price": "9", "per": 1000000}, "tool_calls": {"price": "0.0001", "per": 1}},
        "rows": {"private": {"prices": {"input": {"price": "2", "per": 1000000}}}}}}"#;

    let unpriced = only_line(markup, "private", "", ("input", 1_000_000));
    let private = only_line(own, "private", "", ("input", 1_000_000));
    let by_default = only_line(own, "private", "", ("output", 1_000_000));
    let unknown = only_line(own, "nobody-knows", "", ("output", 1_000_000));
    let tool_calls = only_line(own, "nobody-knows", "", ("tool_calls", 2));

    assert!(unpriced.unpriced && unknown.unpriced);
    assert_eq!((private.unpriced, private.cost_picos), (false, 2_000_000_000_000));
    let list = private.list.expect("the list price is kept");
    assert_eq!((list.priced_as, list.cost_picos), (None, 0));
    assert_eq!(by_default.cost_picos, 9_000_000_000_000);
    assert_eq!(tool_calls.cost_picos, 200_000_000);
}

/// A price or cost that does not fit is an error, never a wrong number; one that fits in lowest terms is no error.
#[test]
fn range_is_kept() {
    let dear = |price: &str, per: i64| {
        format!(
            r#"{{"format": 1, "currency": "USD", "rows": {{
                "m": {{"prices": {{"images": {{"price": "{price}", "per": {per}}}}}}}}}}}"#
        )
    };
    let charged = |card: &str, own: &str, quantity: i64| {
        let usage = [("images", quantity)];
        let call = Call {
            model: "m",
            provider: "",
            tier: "",
            region: "",
            speed: "",
            occur_time_nanos: 0,
            calls: 1,
            usage: &usage,
        };
        let own = TenantPrices::compile(own).expect("the prices compile");
        let priced = RateCard::compile(card)
            .expect("the card compiles")
            .charge(&call, Some(&own));
        priced.map(|priced| priced.cost_picos)
    };
    let doubled = r#"{"format": 1, "markup_basis_points": 10000}"#;
    let free = r#"{"format": 1, "markup_basis_points": -10000}"#;
    let out_of_range = Err(PriceError::OutOfRange {
        usage_class: "images".to_owned(),
    });

    assert_eq!(charged(&dear("9223372.036854775807", 1), free, 1), Ok(0));
    assert_eq!(
        charged(&dear("9223372.036854775806", 4), doubled, 1),
        Ok(4_611_686_018_427_387_903)
    );
    assert_eq!(
        charged(&dear("9223372.036854775807", 1), doubled, 1),
        out_of_range
    );
    assert_eq!(charged(&dear("0.000000000001", 1), doubled, MAX), out_of_range);
}

/// Only what the server has accepted compiles.
#[test]
fn what_is_not_canonical_is_refused() {
    for own in [
        "{}",
        r#"{"format": 2}"#,
        r#"{"format": 1, "markup_basis_points": -10001}"#,
        r#"{"format": 1, "markup_basis_points": 100001}"#,
        r#"{"format": 1, "markup": 1}"#,
        r#"{"format": 1, "card": {"format": 1, "currency": "USD", "rows": {
            "m": {"prices": {"inptu": {"price": "1", "per": 1}}}}}}"#,
    ] {
        assert!(TenantPrices::compile(own).is_err(), "{own}");
    }
}
