// SPDX-License-Identifier: Apache-2.0
//! Pricing by compiled cards.

use taximeter_pricing::{Call, PriceError, Priced, RateCard, quota_tokens, unpriced_lines};

const CARD: &str = r#"{
    "format": 1, "currency": "USD",
    "classes": {"citation": {"per": 1000000, "parent": "input"}, "gpu_ms": {"per": 3600000}},
    "defaults": {"tool_calls": {"price": "0.0005", "per": 1}},
    "rows": {
        "alpha": {
            "aliases": ["alpha-alias"],
            "prices": {"input": {"price": "1", "per": 1000000}, "output": {"price": "4", "per": 1000000},
                       "audio_ms": {"price": "0.36", "per": 3600000, "min": 10000}},
            "when": [
                {"context_from": 1000, "prices": {"input": {"price": "2", "per": 1000000}}},
                {"tier": ["batch", "flex"], "multiply": "0.5"},
                {"tier": ["batch"], "region": ["eu"], "multiply": "3", "classes": ["reasoning", "tool_calls"]},
                {"days": ["fri"], "utc": ["22:00-24:00"], "prices": {"output": {"price": "8", "per": 1000000}}},
                {"from": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z", "multiply": "10"}
            ]
        },
        "beta-*": {"prices": {"input": {"price": "7", "per": 1000000}}}
    }
}"#;

/// 2026-11-20T12:00:00Z, a Friday.
const FRIDAY_NOON: i64 = 1_795_176_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
/// 2026-03-01T00:00:00Z.
const MARCH: i64 = 1_772_323_200_000_000_000;

fn card() -> RateCard {
    RateCard::compile(CARD).expect("the card compiles")
}

fn call<'a>(model: &'a str, usage: &'a [(&'a str, i64)]) -> Call<'a> {
    Call {
        model,
        provider: "",
        tier: "",
        region: "",
        speed: "",
        occur_time_nanos: FRIDAY_NOON,
        calls: 1,
        usage,
    }
}

fn price(call: &Call<'_>) -> Priced {
    card().price(call).expect("the call has a price")
}

/// One line per class used, with the row's prices and the class they came from.
#[test]
fn base_prices_and_fallbacks() {
    let priced = price(&call(
        "alpha",
        &[
            ("input", 100),
            ("cache_write_1h", 10),
            ("reasoning", 5),
            ("output", 0),
        ],
    ));

    assert_eq!(Some("alpha"), priced.row.as_deref());
    assert_eq!(
        (110, 105, 130_000_000),
        (priced.prompt_tokens, priced.quota_tokens, priced.cost_picos)
    );
    let sources: Vec<_> = priced
        .lines
        .iter()
        .map(|line| line.priced_as.as_deref())
        .collect();
    assert_eq!(vec![Some("input"), Some("input"), Some("output")], sources);
}

/// A context condition looks at the whole prompt, begins at its bound, and never holds for several calls.
#[test]
fn context_conditions() {
    let at = [("input", 400), ("cache_read", 600)];
    let below = [("input", 400), ("cache_read", 599)];

    assert_eq!(vec![0], price(&call("alpha", &at)).overlays_applied);
    assert!(price(&call("alpha", &below)).overlays_applied.is_empty());
    assert!(
        price(&Call {
            calls: 2,
            ..call("alpha", &at)
        })
        .overlays_applied
        .is_empty()
    );
    assert_eq!(
        vec![0],
        price(&Call {
            calls: 0,
            ..call("alpha", &at)
        })
        .overlays_applied
    );
}

/// A multiplier that names classes reaches those that the row prices only by a fallback or a default.
#[test]
fn named_classes_are_multiplied() {
    let usage = [("output", 1_000_000), ("reasoning", 1_000_000), ("tool_calls", 1)];
    let priced = price(&Call {
        tier: "batch",
        region: "eu",
        ..call("alpha", &usage)
    });

    let costs: Vec<_> = priced.lines.iter().map(|line| line.cost_picos).collect();
    assert_eq!(vec![1, 2], priced.overlays_applied);
    assert_eq!(vec![2_000_000_000_000, 6_000_000_000_000, 1_500_000_000], costs);
    assert_eq!(
        Some("output"),
        priced.lines.get(1).and_then(|line| line.priced_as.as_deref())
    );
}

/// Times of day, days and dates are half-open intervals in UTC.
#[test]
fn time_conditions() {
    let applied = |time: i64| {
        price(&Call {
            occur_time_nanos: time,
            ..call("alpha", &[])
        })
        .overlays_applied
    };
    let friday_22 = FRIDAY_NOON.saturating_add(SECOND.saturating_mul(36_000));
    let saturday = FRIDAY_NOON.saturating_add(SECOND.saturating_mul(43_200));

    assert_eq!(vec![3], applied(friday_22));
    assert!(applied(friday_22.saturating_sub(1)).is_empty());
    assert_eq!(vec![3], applied(saturday.saturating_sub(1)));
    assert!(applied(saturday).is_empty());
    assert_eq!(vec![4], applied(MARCH));
    assert!(applied(MARCH.saturating_sub(1)).is_empty());
    assert_eq!(
        vec![4],
        applied(
            MARCH
                .saturating_add(SECOND.saturating_mul(86_400))
                .saturating_sub(1)
        )
    );
    assert!(applied(MARCH.saturating_add(SECOND.saturating_mul(86_400))).is_empty());
    assert!(applied(i64::MIN).is_empty());
    // The last instant is a Friday, 2262-04-11T23:47:16Z.
    assert_eq!(vec![3], applied(i64::MAX));
}

/// A minimum raises what is billed, not what was used, and only where something was used.
#[test]
fn minimum_quantity() {
    let priced = price(&call("alpha", &[("audio_ms", 1)]));

    let line = priced.lines.first().expect("one line");
    assert_eq!(
        (1, 10_000, 1_000_000_000),
        (line.quantity, line.billed_quantity, line.cost_picos)
    );
    assert!(price(&call("alpha", &[("audio_ms", 0)])).lines.is_empty());
}

/// A class without a price costs nothing and says so; declared token classes count as their parents do.
#[test]
fn unpriced_and_declared_classes() {
    let priced = price(&call(
        "alpha",
        &[("gpu_ms", 5), ("never_heard_of", 6), ("citation", 1_000_000)],
    ));

    let unpriced: Vec<_> = priced.lines.iter().map(|line| line.unpriced).collect();
    assert_eq!(vec![true, true, false], unpriced);
    assert_eq!(
        (1_000_000, 1_000_000),
        (priced.prompt_tokens, priced.quota_tokens)
    );
    assert_eq!(2_000_000_000_000, priced.cost_picos);
}

/// Without a row tokens are unpriced, while meters keep their defaults.
#[test]
fn unknown_model() {
    let priced = price(&call("gamma", &[("input", 5), ("tool_calls", 2)]));

    assert!(priced.unknown_model && priced.row.is_none());
    let unpriced: Vec<_> = priced.lines.iter().map(|line| line.unpriced).collect();
    assert_eq!(vec![true, false], unpriced);
    assert!(!price(&call("", &[("tool_calls", 2)])).unknown_model);
}

/// What does not fit 64 bits is an error that names the class.
#[test]
fn out_of_range() {
    let refused = |usage: &[(&str, i64)]| match card().price(&call("alpha", usage)) {
        Err(PriceError::OutOfRange { usage_class }) => usage_class,
        Ok(priced) => format!("priced: {priced:?}"),
    };

    assert_eq!(
        "audio_ms",
        refused(&[("audio_ms", i64::MAX), ("input", 1)]).as_str()
    );
    assert_eq!(
        "cache_read",
        refused(&[("input", i64::MAX), ("cache_read", 1)]).as_str()
    );
    assert_eq!("input", refused(&[("input", -1)]).as_str());
}

/// Usage can be summed and listed when no card is in force.
#[test]
fn without_a_card() {
    let usage = [
        ("input", 1),
        ("cache_read", 2),
        ("reasoning", 4),
        ("output_audio", 8),
        ("pages", 16),
        ("output", 0),
    ];

    assert_eq!(13, quota_tokens(&usage));
    assert_eq!(i64::MAX, quota_tokens(&[("input", i64::MAX), ("output", 1)]));
    let lines = unpriced_lines(&usage);
    assert!(
        lines
            .iter()
            .all(|line| line.unpriced && line.cost_picos == 0 && line.priced_as.is_none())
    );
    assert_eq!(
        vec![1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000],
        lines.iter().map(|line| line.per).collect::<Vec<_>>()
    );
}

/// A text that is not a canonical card is refused with a reason.
#[test]
fn bad_cards_do_not_compile() {
    let refused =
        |card: &str| RateCard::compile(card).map_or_else(|error| error.to_string(), |_| "compiled".into());
    let with_row = |row: &str| format!(r#"{{"format": 1, "currency": "USD", "rows": {{"a": {row}}}}}"#);

    assert!(refused("{}").starts_with("not a canonical rate card"));
    assert_eq!(
        "format 2 is not supported",
        refused(r#"{"format": 2, "currency": "USD", "rows": {}}"#)
    );
    assert!(
        refused(&with_row(r#"{"prices": {"inptu": {"price": "1", "per": 1}}}"#))
            .contains("unknown class inptu")
    );
    assert!(refused(&with_row(r#"{"prices": {"input": {"price": "1", "per": 0}}}"#)).contains("per"));
    assert!(refused(&with_row(r#"{"prices": {"input": {"price": "1e3", "per": 1}}}"#)).contains("price"));
    assert!(refused(&with_row(r#"{"when": [{"until": "2026-02-29T00:00:00Z"}]}"#)).contains("when[0]"));
    let large = r#"{"prices": {"input": {"price": "9000000", "per": 1}}, "when": [{"multiply": "2"}]}"#;
    assert!(refused(&with_row(large)).contains("out of range"));
}
