// SPDX-License-Identifier: Apache-2.0
//! `cargo bench --package taximeter-pricing`: what pricing and normalising one event and compiling one card cost.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;

use taximeter_pricing::{Call, RateCard, TenantPrices, normalise};

const ROUNDS: usize = 7;
const EVENTS: u64 = 200_000;
const CARDS: u64 = 5;
const ROWS: usize = 3_000;

/// What providers report of one call: name, provider, API, JSON.
const REPORTED: [(&str, &str, &str, &str); 3] = [
    (
        "normalise OpenAI's usage with all details",
        "openai",
        "chat.completions",
        r#"{"prompt_tokens":1486,"completion_tokens":651,"total_tokens":2137,
        "prompt_tokens_details":{"cached_tokens":1408,"audio_tokens":0},
        "completion_tokens_details":{"reasoning_tokens":512,"audio_tokens":0,
        "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
    ),
    (
        "normalise Anthropic's usage with all details",
        "anthropic",
        "messages",
        r#"{"input_tokens":3,"cache_creation_input_tokens":12304,"cache_read_input_tokens":500,"output_tokens":550,
        "cache_creation":{"ephemeral_5m_input_tokens":12304,"ephemeral_1h_input_tokens":0},"service_tier":"standard"}"#,
    ),
    (
        "normalise Gemini's usage with modalities",
        "gcp.gemini",
        "generateContent",
        r#"{"promptTokenCount":5000,"cachedContentTokenCount":3000,"candidatesTokenCount":400,"thoughtsTokenCount":900,
        "totalTokenCount":6300,"promptTokensDetails":[{"modality":"TEXT","tokenCount":5000}],"cacheTokensDetails":
        [{"modality":"TEXT","tokenCount":3000}],"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":400}]}"#,
    ),
];

/// A card of many rows, one in ten with overlays, as price lists of resellers have them.
fn card() -> String {
    let mut rows = String::new();
    for number in 0..ROWS {
        let when = if number.is_multiple_of(10) {
            r#", "when": [{"context_from": 200001, "prices": {"input": {"price": "6", "per": 1000000}}},
                {"tier": ["batch"], "multiply": "0.5"}, {"region": ["us"], "multiply": "1.1"}]"#
        } else {
            ""
        };
        // Writing to a string cannot fail.
        let _ = write!(
            rows,
            r#"{comma}"model-{number:04}": {{"prices": {{
                "input": {{"price": "{number}.5", "per": 1000000}},
                "output": {{"price": "{number}.25", "per": 1000000}},
                "cache_read": {{"price": "0.3", "per": 1000000}},
                "cache_write": {{"price": "3.75", "per": 1000000}}}}{when}}}"#,
            comma = if number == 0 { "" } else { "," },
        );
    }
    format!(r#"{{"format": 1, "currency": "USD", "rows": {{{rows}}}}}"#)
}

/// Nanoseconds that this thread has had a processor, by the kernel's accounting: others on the machine do not count.
fn processor_nanos() -> u64 {
    let accounting = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = accounting.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The best of several rounds: what the work costs when nothing else disturbs it.
fn best_nanos(count: u64, mut action: impl FnMut()) -> u64 {
    let rounds = (0..ROUNDS).map(|_| {
        let started = processor_nanos();
        for _ in 0..count {
            action();
        }
        processor_nanos().saturating_sub(started)
    });
    rounds
        .min()
        .and_then(|nanos| nanos.checked_div(count))
        .unwrap_or_default()
}

fn main() -> std::io::Result<()> {
    let json = card();
    let compiled = RateCard::compile(&json).map_err(std::io::Error::other)?;
    let own = TenantPrices::compile(r#"{"format": 1, "markup_basis_points": -1250}"#);
    let own = own.map_err(std::io::Error::other)?;
    let usage = [
        ("input", 1_200),
        ("cache_read", 800),
        ("cache_write", 400),
        ("output", 500),
        ("reasoning", 120),
    ];
    let call = Call {
        model: "model-1230",
        provider: "",
        tier: "batch",
        region: "",
        speed: "",
        occur_time_nanos: 1_795_176_000_000_000_000,
        calls: 1,
        usage: &usage,
    };
    let mut out = std::io::stdout();
    let mut show = |name: &str, nanos: u64| writeln!(out, "{name:56}{nanos:>12} ns");
    let event = best_nanos(EVENTS, || {
        black_box(compiled.price(black_box(&call))).ok();
    });
    show("price one event of five classes", event)?;
    let charged = best_nanos(EVENTS, || {
        black_box(compiled.charge(black_box(&call), Some(&own))).ok();
    });
    show("the same with a tenant's markup", charged)?;
    for (name, provider, api, json) in REPORTED {
        let nanos = best_nanos(EVENTS, || {
            black_box(normalise(provider, api, black_box(json), "")).ok();
        });
        show(name, nanos)?;
    }
    let loaded = best_nanos(CARDS, || {
        black_box(RateCard::compile(black_box(&json))).ok();
    });
    show("compile a card of 3,000 rows", loaded)
}
