// SPDX-License-Identifier: Apache-2.0
//! AWS Bedrock: Converse in its own shape, and `InvokeModel`, whose answers have the shape of the model's maker.

use super::anthropic;
use super::classes::{NormalisedUsage, flag};
use super::fields::{Fields, Read, UsageError};
use super::openai::{self, Shape};

const INPUT: [&str; 2] = ["inputTokens", "inputTokenCount"];
const OUTPUT: [&str; 2] = ["outputTokens", "outputTokenCount"];
const CACHE_READ: [&str; 3] = [
    "cacheReadInputTokens",
    "cacheReadInputTokenCount",
    "cacheReadTokens",
];
const CACHE_WRITE: [&str; 3] = [
    "cacheWriteInputTokens",
    "cacheWriteInputTokenCount",
    "cacheWriteTokens",
];

/// Reads usage of Converse, whose input excludes what a cache gave and took; events of Cursor look alike.
pub(super) fn read_converse(usage: &Fields<'_>) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let count = |names: &[&str]| usage.same_count(names);
    let input = count(&INPUT)?.ok_or_else(|| usage.refuse(INPUT[0], "required"))?;
    let output = count(&OUTPUT)?.unwrap_or_default();
    let read = count(&CACHE_READ)?.unwrap_or_default();
    let written = count(&CACHE_WRITE)?;
    let details = usage.list("cacheDetails")?;
    let (mut short_lived, mut long_lived) = (written.unwrap_or_default(), 0);
    if !details.is_empty() {
        short_lived = 0;
        for detail in &details {
            let tokens = detail.count_or_zero("inputTokens")?;
            let sum = match detail.text("ttl")? {
                Some("5m") => &mut short_lived,
                Some("1h") => &mut long_lived,
                _ => return Err(detail.refuse("ttl", "must be 5m or 1h")),
            };
            *sum = sum.saturating_add(tokens);
        }
        let stated = short_lived.saturating_add(long_lived);
        let rest = written.unwrap_or(stated).saturating_sub(stated);
        if rest < 0 {
            return Err(usage.contradict("cacheDetails", "adds up to more than the cache writes"));
        }
        if rest > 0 {
            normalised.flag(flag::CACHE_WRITES_INCOMPLETE);
            short_lived = short_lived.saturating_add(rest);
        }
    }
    normalised.add("input", input);
    normalised.add("cache_read", read);
    normalised.add("cache_write", short_lived);
    normalised.add("cache_write_1h", long_lived);
    normalised.add("output", output);
    let sum = [input, output, read, short_lived, long_lived]
        .into_iter()
        .fold(0_i64, i64::saturating_add);
    if usage.count("totalTokens")?.is_some_and(|total| total != sum) {
        normalised.flag(flag::TOTAL_MISMATCH);
    }
    Ok(normalised)
}

/// Notes what an answer of Converse says of how it was served, beside its usage.
pub(super) fn read_served(answer: &Fields<'_>, normalised: &mut NormalisedUsage) -> Read<()> {
    let name = "serviceTier";
    let tier = match answer.object(name) {
        Ok(Some(tier)) => tier.text("type")?,
        Ok(None) => None,
        // As batches and logs write it.
        Err(_) => answer.text(name)?,
    };
    tier.unwrap_or_default().clone_into(&mut normalised.tier);
    if let Some(performance) = answer.object("performanceConfig")? {
        performance
            .text("latency")?
            .unwrap_or_default()
            .clone_into(&mut normalised.speed);
    }
    Ok(())
}

/// Reads the answer of a model that was invoked by the shape that it has.
pub(super) fn read_invoked(usage: Fields<'_>, openai_shape: Shape, model: &str) -> Read<NormalisedUsage> {
    let has_any = |names: &[&str]| usage.name_of(names).is_some();
    if has_any(&["input_tokens"]) {
        return anthropic::read(usage, model);
    }
    if !model.is_empty() {
        return Err(UsageError::iteration_model("this answer bills one model"));
    }
    if has_any(&INPUT) {
        return read_converse(&usage);
    }
    if has_any(&["prompt_tokens"]) {
        return openai::read(&usage, openai_shape);
    }
    let mut normalised = NormalisedUsage::new();
    if has_any(&["prompt_token_count"]) {
        normalised.add("input", usage.required("prompt_token_count")?);
        normalised.add("output", usage.count_or_zero("generation_token_count")?);
        return Ok(normalised);
    }
    normalised.add("input", usage.required("inputTextTokenCount")?);
    for result in usage.list("results")? {
        normalised.add("output", result.count_or_zero("tokenCount")?);
    }
    Ok(normalised)
}
