// SPDX-License-Identifier: Apache-2.0
//! Usage as providers report it: one answer of each shape. tests/usage has the whole tables.

use taximeter_pricing::{NormalisedUsage, UsageError, normalise};

type Classes = &'static [(&'static str, i64)];

/// Provider, API, what it answers, and the classes of that.
const CASES: [(&str, &str, &str, Classes); 11] = [
    (
        "openai",
        "chat.completions",
        r#"{"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}"#,
        &[("input", 5), ("cache_read", 4), ("output", 5)],
    ),
    (
        "anthropic",
        "messages.stream",
        r#"[{"input_tokens": 9, "output_tokens": 1}, {"output_tokens": 5}]"#,
        &[("input", 9), ("output", 5)],
    ),
    (
        "gcp.gemini",
        "generateContent",
        r#"{"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 2}"#,
        &[("input", 9), ("output", 5), ("reasoning", 2)],
    ),
    (
        "aws.bedrock",
        "converse",
        r#"{"inputTokens": 9, "outputTokens": 5, "cacheReadInputTokens": 4}"#,
        &[("input", 9), ("cache_read", 4), ("output", 5)],
    ),
    (
        "cohere",
        "chat",
        r#"{"billed_units": {"input_tokens": 9.0, "output_tokens": 5.0}}"#,
        &[("input", 9), ("output", 5)],
    ),
    (
        "ollama",
        "api/chat",
        r#"{"prompt_eval_count": 9, "eval_count": 5}"#,
        &[("input", 9), ("output", 5)],
    ),
    (
        "x_ai",
        "chat",
        r#"{"prompt_text_tokens": 9, "cached_prompt_text_tokens": 4, "completion_tokens": 5}"#,
        &[("input", 9), ("cache_read", 4), ("output", 5)],
    ),
    (
        "otel",
        "span",
        r#"{"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 5}"#,
        &[("input", 9), ("output", 5)],
    ),
    ("voyage", "embeddings", r#"{"total_tokens": 9}"#, &[("input", 9)]),
    (
        "mistral_ai",
        "ocr",
        r#"{"pages_processed": 3, "doc_size_bytes": 9}"#,
        &[("pages", 3)],
    ),
    (
        "perplexity",
        "responses",
        r#"{"input_tokens": 9, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}}"#,
        &[("input", 9), ("output", 3), ("reasoning", 2)],
    ),
];

/// One answer of each shape gives its classes.
#[test]
fn every_shape_is_read() {
    for (provider, api, json, expected) in CASES {
        let mut found = normalise(provider, api, json, "")
            .expect("the usage is read")
            .classes;
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(expected, found, "{provider} {api}");
    }
}

/// What contradicts itself names its field, and nothing is guessed.
#[test]
fn contradictions_name_their_field() {
    let refused = |provider, api, json| -> UsageError {
        let found: Result<NormalisedUsage, UsageError> = normalise(provider, api, json, "");
        found.expect_err("the usage is refused")
    };

    let json =
        r#"{"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}"#;
    assert_eq!(
        "usage_json.prompt_tokens_details.cached_tokens: more than the prompt that it is part of",
        refused("openai", "chat.completions", json).to_string()
    );
    assert_eq!("provider", refused("nobody", "chat", "{}").field);
    assert_eq!("api", refused("openai", "converse", "{}").field);
    assert_eq!(
        "usage_json.a",
        refused("openai", "chat", r#"{"a": 1, "a": 1}"#).field
    );
}
