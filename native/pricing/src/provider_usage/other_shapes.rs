// SPDX-License-Identifier: Apache-2.0
//! Shapes that one provider or one API has to itself.

use super::classes::{NormalisedUsage, flag};
use super::fields::{Fields, Read, refused};
use super::json::Value;
use super::openai::{self, Shape};

/// Cohere: what is billed is smaller than what was counted, and written as decimals.
pub(super) fn read_cohere(usage: &Fields<'_>) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let billed = usage
        .object("billed_units")?
        .ok_or_else(|| usage.refuse("billed_units", "required"))?;
    for (name, class) in [
        ("input_tokens", "input"),
        ("output_tokens", "output"),
        ("image_tokens", "input_image"),
        ("search_units", "rerank_units"),
        ("classifications", "classifications"),
        ("images", "images"),
        ("pages", "pages"),
    ] {
        normalised.add(class, billed.whole(name)?);
    }
    Ok(normalised)
}

/// Ollama's own API: the cached part is inside the prompt.
pub(super) fn read_ollama(usage: &Fields<'_>) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let (prompt, answer) = (usage.count("prompt_eval_count")?, usage.count("eval_count")?);
    if prompt.is_none() && answer.is_none() {
        return Err(usage.refuse("prompt_eval_count", "required"));
    }
    let cached = usage.count_or_zero("prompt_eval_cached_count")?;
    match prompt {
        Some(prompt) if cached > prompt => {
            let description = "more than the prompt that it is part of";
            return Err(usage.contradict("prompt_eval_cached_count", description));
        }
        Some(prompt) => normalised.add("input", prompt.saturating_sub(cached)),
        None => normalised.flag(flag::PROMPT_MISSING),
    }
    normalised.add("cache_read", cached);
    normalised.add("output", answer.unwrap_or_default());
    Ok(normalised)
}

/// A transcription is billed by its tokens or by the length of the audio.
pub(super) fn read_transcription(usage: &Fields<'_>, shape: Shape) -> Read<NormalisedUsage> {
    let is_by_length = match usage.text("type")? {
        Some("duration") => true,
        Some("tokens") => false,
        Some(_) => return Err(usage.refuse("type", "must be tokens or duration")),
        None => usage.has("seconds"),
    };
    if !is_by_length {
        return openai::read(usage, shape);
    }
    let mut normalised = NormalisedUsage::new();
    let length_ms = usage.seconds_as_ms("seconds")?;
    normalised.add(
        "audio_ms",
        length_ms.ok_or_else(|| usage.refuse("seconds", "required"))?,
    );
    Ok(normalised)
}

/// True for the events of a realtime session that has answered.
pub(super) fn are_responses(events: &[Value<'_>]) -> bool {
    Fields::items(events, "").is_ok_and(|events| events.iter().any(is_response))
}

fn is_response(event: &Fields<'_>) -> bool {
    matches!(event.text("type"), Ok(Some("response.done")))
}

/// The responses of a realtime session, each a call with a usage of its own. What else has usage, such as the
/// transcription of what was heard, is another model's.
pub(super) fn read_responses(events: &[Value<'_>], shape: Shape) -> Read<NormalisedUsage> {
    let mut session = NormalisedUsage::new();
    let mut calls = 0_i64;
    for event in Fields::items(events, "")?
        .iter()
        .filter(|event| is_response(event))
    {
        let response = event.object("response")?;
        let Some(usage) = response.map_or(Ok(None), |response| response.object("usage"))? else {
            // A response that was cancelled before it began.
            continue;
        };
        let read = openai::read(&usage, shape)?;
        calls = calls.saturating_add(1);
        for (class, quantity) in read.classes {
            session.add(class, quantity);
        }
        for flag in read.flags {
            session.flag(flag);
        }
    }
    if calls == 0 {
        return Err(refused("", "no event has usage"));
    }
    session.calls = calls;
    Ok(session)
}

/// xAI's gRPC API: the prompt comes in parts, and reasoning stands beside the completion.
pub(super) fn read_xai_sampling(usage: &Fields<'_>) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let mut text = usage.required("prompt_text_tokens")?;
    let cached = usage.count_or_zero("cached_prompt_text_tokens")?;
    let image = usage.count_or_zero("prompt_image_tokens")?;
    let completion = usage.count_or_zero("completion_tokens")?;
    let reasoning = usage.count_or_zero("reasoning_tokens")?;
    let in_parts = text.saturating_add(cached).saturating_add(image);
    let prompt = usage.count("prompt_tokens")?.unwrap_or(in_parts);
    if prompt == in_parts.saturating_sub(cached) && cached <= text {
        // The whole says that the text includes what was cached.
        text = text.saturating_sub(cached);
    } else if prompt != in_parts {
        return Err(usage.contradict("prompt_tokens", "is not the sum of its parts"));
    }
    let total = prompt.saturating_add(completion).saturating_add(reasoning);
    if usage.count("total_tokens")?.is_some_and(|stated| stated != total) {
        normalised.flag(flag::TOTAL_MISMATCH);
    }
    for (class, count) in [
        ("input", text),
        ("cache_read", cached),
        ("input_image", image),
        ("output", completion),
        ("reasoning", reasoning),
    ] {
        normalised.add(class, count);
    }
    for tool in usage.texts("server_side_tools_used")? {
        let class = match tool.strip_prefix("SERVER_SIDE_TOOL_") {
            Some("WEB_SEARCH") => "web_searches",
            Some("COLLECTIONS_SEARCH") => "file_searches",
            Some("CODE_EXECUTION") => "code_sessions",
            _ => continue,
        };
        normalised.add(class, 1);
    }
    Ok(normalised)
}

/// Attributes of an `OpenTelemetry` span: inclusive whoever the provider is.
pub(super) fn read_otel(usage: &Fields<'_>) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let count = |names: &[&str]| Ok(usage.same_count(names)?.unwrap_or_default());
    let input = count(&["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"])?;
    let output = count(&["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"])?;
    let read = count(&[
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
    ])?;
    let written = count(&[
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ])?;
    let reasoning = count(&["gen_ai.usage.reasoning.output_tokens"])?;
    if !usage.has("gen_ai.usage.input_tokens")
        && !usage.has("gen_ai.usage.prompt_tokens")
        && !usage.has("gen_ai.usage.output_tokens")
        && !usage.has("gen_ai.usage.completion_tokens")
    {
        return Err(usage.refuse("gen_ai.usage.input_tokens", "required"));
    }
    if read.saturating_add(written) > input {
        let name = if read > input { "read" } else { "write" };
        let name = format!("gen_ai.usage.cache_{name}.input_tokens");
        return Err(usage.contradict(&name, "more than the input that it is part of"));
    }
    if reasoning > output {
        let name = "gen_ai.usage.reasoning.output_tokens";
        return Err(usage.contradict(name, "more than the output that it is part of"));
    }
    normalised.add("input", input.saturating_sub(read).saturating_sub(written));
    normalised.add("cache_read", read);
    normalised.add("cache_write", written);
    normalised.add("output", output.saturating_sub(reasoning));
    normalised.add("reasoning", reasoning);
    Ok(normalised)
}

/// `OpenAI`'s own usage report: disjoint already. Modalities of the input are those of what no cache gave.
pub(super) fn read_openai_report(usage: &Fields<'_>) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let input = usage.required("input_tokens")?;
    let cached = usage.count_or_zero("input_cached_tokens")?;
    let written = usage.count_or_zero("input_cache_write_tokens")?;
    let parts = cached.saturating_add(written);
    if parts > input {
        return Err(usage.contradict("input_cached_tokens", "more than the input that it is part of"));
    }
    let uncached = input.saturating_sub(parts);
    if usage
        .count("input_uncached_tokens")?
        .is_some_and(|stated| stated != uncached)
    {
        let description = "is not the input without its cached parts";
        return Err(usage.contradict("input_uncached_tokens", description));
    }
    let output = usage.count_or_zero("output_tokens")?;
    for (whole, [text, audio, image], classes) in [
        (
            uncached,
            ["input_text_tokens", "input_audio_tokens", "input_image_tokens"],
            ["input", "input_audio", "input_image"],
        ),
        (
            cached,
            [
                "input_cached_text_tokens",
                "input_cached_audio_tokens",
                "input_cached_image_tokens",
            ],
            ["cache_read", "cache_read_audio", "cache_read_image"],
        ),
        (
            output,
            ["output_text_tokens", "output_audio_tokens", "output_image_tokens"],
            ["output", "output_audio", "output_image"],
        ),
    ] {
        let (stated, spoken, drawn) = (
            usage.count(text)?,
            usage.count_or_zero(audio)?,
            usage.count_or_zero(image)?,
        );
        let others = spoken.saturating_add(drawn);
        let sum = stated.unwrap_or_default().saturating_add(others);
        if sum > whole {
            let name = usage.name_of(&[text, audio, image]).unwrap_or(text);
            return Err(usage.contradict(name, "modalities add up to more than what they are parts of"));
        }
        if stated.is_some_and(|text| text > 0) && sum < whole {
            normalised.flag(flag::MODALITIES_INCOMPLETE);
        }
        normalised.add(classes[0], whole.saturating_sub(others));
        normalised.add(classes[1], spoken);
        normalised.add(classes[2], drawn);
    }
    normalised.add("cache_write", written);
    normalised.calls = usage.count_or_zero("num_model_requests")?.max(1);
    if let Some(tier) = usage.text("service_tier")? {
        tier.clone_into(&mut normalised.tier);
    }
    Ok(normalised)
}
