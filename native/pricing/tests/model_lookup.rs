// SPDX-License-Identifier: Apache-2.0
//! From model names to rows.

use taximeter_pricing::{Call, RateCard};

fn card(rows: &[(&str, &[&str])], unknown_model: Option<&str>) -> RateCard {
    let rows: Vec<String> = rows
        .iter()
        .map(|(name, aliases)| {
            let price = r#"{"input": {"price": "1", "per": 1000000}}"#;
            format!(r#""{name}": {{"aliases": {aliases:?}, "prices": {price}}}"#)
        })
        .collect();
    let policy = unknown_model.map_or_else(String::new, |row| format!(r#", "unknown_model": "{row}""#));
    let json = format!(
        r#"{{"format": 1, "currency": "USD", "rows": {{{}}}{policy}}}"#,
        rows.join(", ")
    );
    RateCard::compile(&json).expect("the card compiles")
}

/// Asks twice, so that the remembered answer is checked too.
fn row_of(card: &RateCard, provider: &str, model: &str) -> String {
    let call = Call {
        model,
        provider,
        tier: "",
        region: "",
        speed: "",
        occur_time_nanos: 0,
        calls: 1,
        usage: &[("input", 1)],
    };
    let rows = [card.price(&call), card.price(&call)].map(|priced| {
        let row = priced.expect("nothing is out of range").row;
        row.map_or_else(|| "-".to_owned(), |row| row.to_string())
    });
    let [first, second] = rows;
    assert_eq!(first, second);
    first
}

/// A row of provider and model comes before one of the model, and that before an alias.
#[test]
fn exact_names_come_first() {
    let card = card(
        &[
            ("openai/m", &[]),
            ("m", &["n"]),
            ("azure/n", &["openai/k"]),
            ("k", &["x/y"]),
        ],
        None,
    );

    assert_eq!("openai/m", row_of(&card, "openai", "m"));
    assert_eq!("m", row_of(&card, "azure", "m"));
    assert_eq!("m", row_of(&card, "", "m"));
    assert_eq!("openai/m", row_of(&card, "", "openai/m"));
    assert_eq!("azure/n", row_of(&card, "azure", "n"));
    assert_eq!("m", row_of(&card, "openai", "n"));
    assert_eq!("k", row_of(&card, "openai", "k"));
    assert_eq!("k", row_of(&card, "x", "y"));
}

/// Dates, versions, regions and vendors are removed one by one, and the least shortened name wins.
#[test]
fn names_are_shortened() {
    let card = card(
        &[
            ("claude-sonnet-4-5", &[]),
            ("gpt-4o", &[]),
            ("gpt-4o-2024-05-13", &[]),
            ("anthropic.claude-opus-4-1", &[]),
        ],
        None,
    );

    for name in [
        "claude-sonnet-4-5-20250929",
        "claude-sonnet-4-5-2025-09-29",
        "claude-sonnet-4-5@20250929",
        "claude-sonnet-4-5-latest",
        "anthropic/claude-sonnet-4-5",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "vertex_ai/claude-sonnet-4-5@20250929",
    ] {
        assert_eq!("claude-sonnet-4-5", row_of(&card, "", name), "{name}");
    }
    assert_eq!("gpt-4o-2024-05-13", row_of(&card, "openai", "gpt-4o-2024-05-13"));
    assert_eq!("gpt-4o", row_of(&card, "openai", "gpt-4o-2024-08-06"));
    assert_eq!("gpt-4o", row_of(&card, "my-gateway", "my-gateway/gpt-4o"));
    assert_eq!(
        "anthropic.claude-opus-4-1",
        row_of(&card, "", "us.anthropic.claude-opus-4-1-20250805-v1:0")
    );
}

/// What only looks like a date, version or vendor stays: a near miss must not be priced as another model.
#[test]
fn near_misses_stay_unknown() {
    let card = card(&[("gpt-5", &[]), ("deepseek", &[]), ("m", &[])], None);

    for name in [
        "gpt-5-nano",
        "gpt-5-20251332",
        "gpt-5-2025-13-01",
        "gpt-5-0613",
        "gpt-520250101",
        "gpt-5-v1",
        "gpt-5-v1:",
        "gpt-5-v:0",
        "gpt-50",
        "gpt-",
        "GPT-5",
        "deepseek-v3",
        "-latest",
        "openai/",
        "other/m",
        "gpt-5\u{434}",
        "é-2025-01-01",
    ] {
        assert_eq!("-", row_of(&card, "openai", name), "{name}");
    }
    assert_eq!("-", row_of(&card, "", &"m".repeat(100_000)));
}

/// Patterns come after all exact names, longer ones first, and see shortened names too.
#[test]
fn the_longest_pattern_wins() {
    let card = card(
        &[
            ("gpt-5", &[]),
            ("gpt-5*", &[]),
            ("gpt-5-nano*", &[]),
            ("*-mini", &[]),
            ("claude-*-4*", &["anthropic.claude-x*"]),
            ("claude-opus-4*", &[]),
            ("local/*", &[]),
        ],
        None,
    );

    assert_eq!("gpt-5", row_of(&card, "", "gpt-5"));
    assert_eq!("gpt-5", row_of(&card, "", "gpt-5-2025-08-07"));
    assert_eq!("gpt-5*", row_of(&card, "", "gpt-5-pro"));
    assert_eq!("gpt-5-nano*", row_of(&card, "", "gpt-5-nano-2025-08-07"));
    // As long as "*-mini", and first in the alphabet of the two.
    assert_eq!("*-mini", row_of(&card, "", "gpt-5-mini"));
    assert_eq!(
        "claude-opus-4*",
        row_of(&card, "", "us.anthropic.claude-opus-4-7-v1:0")
    );
    assert_eq!("claude-*-4*", row_of(&card, "", "claude-sonnet-4-6"));
    assert_eq!("claude-*-4*", row_of(&card, "", "eu.anthropic.claude-x-1"));
    assert_eq!("local/*", row_of(&card, "local", "anything"));
    assert_eq!("-", row_of(&card, "", "anything"));
    assert_eq!("-", row_of(&card, "", "claude-4"));
}

/// A row can be named for all that no other row matches, but not for records without a model.
#[test]
fn unknown_models_can_have_a_row() {
    let card = card(&[("gpt-5", &[]), ("other*", &[])], Some("gpt-5"));

    assert_eq!("gpt-5", row_of(&card, "", "never-heard-of"));
    assert_eq!("other*", row_of(&card, "", "other-1"));
    assert_eq!("-", row_of(&card, "", ""));
}

/// Many distinct unknown names change nothing for the known ones.
#[test]
fn hostile_names_do_not_disturb() {
    let card = card(&[("gpt-5*", &[])], None);

    for number in 0..20_000 {
        assert_eq!("-", row_of(&card, "", &format!("x{number}")));
    }
    assert_eq!("gpt-5*", row_of(&card, "", "gpt-5-mini"));
    assert_eq!("-", row_of(&card, "", "x0"));
}
