// SPDX-License-Identifier: Apache-2.0
//! A provider's usage object as disjoint classes: every token in exactly one, none guessed.
//!
//! [`normalise`] chooses the shape by (provider, api), reads the JSON with its digits as they are, and subtracts parts
//! from wholes. A part that is larger than its whole is an error that names the field; a total that does not fit is
//! only a flag, because real answers break it.
//!
//! - `json`, `decimal`, `fields`: reading
//! - `api`: which shape
//! - `openai` with `openai_prompt`, `anthropic`, `gemini`, `bedrock`, `other_shapes`: the shapes
//! - `classes`: what comes out

mod anthropic;
mod api;
mod bedrock;
mod classes;
mod decimal;
mod fields;
mod gemini;
mod json;
mod openai;
mod openai_prompt;
mod other_shapes;

pub use classes::{NormalisedUsage, flag};
pub use fields::{QUANTITY_MAX, UsageError};

use api::{Api, Unknown};
use fields::{Fields, Read, refused};
use json::Value;

/// Largest JSON text that is read, in bytes.
pub const USAGE_JSON_SIZE_MAX: usize = 16 * 1024;

/// Objects that hold a usage object, where the whole answer was sent.
const HOLDERS: [&str; 6] = [
    "usage",
    "usageMetadata",
    "usage_metadata",
    "usage_info",
    "amazon-bedrock-invocationMetrics",
    "meta",
];
/// Objects of the last event of a stream that hold the answer, or its usage.
const LAST_EVENTS: [&str; 6] = [
    "response",
    "x_groq",
    "message",
    "delta",
    "metadata",
    "interaction",
];

/// Turns the usage object of a provider's API into disjoint classes. With an `iteration_model` only what the answer
/// bills as that model's, where it bills several; without one what it bills as its own.
///
/// # Errors
///
/// The field that is wrong: `provider`, `api`, `iteration_model`, or a path within `usage_json`.
pub fn normalise(
    provider: &str,
    api: &str,
    usage_json: &str,
    iteration_model: &str,
) -> Read<NormalisedUsage> {
    let api = api::find(provider, api).map_err(|unknown| {
        let (field, description) = match unknown {
            Unknown::Provider => ("provider", "not a provider whose usage is known"),
            Unknown::Api => ("api", "not an API of this provider whose usage is known"),
        };
        UsageError {
            field: field.to_owned(),
            description,
            is_contradiction: false,
        }
    })?;
    if usage_json.len() > USAGE_JSON_SIZE_MAX {
        return Err(refused("", "at most 16,384 bytes"));
    }
    let root = json::parse(usage_json).map_err(|error| {
        let path: String = error
            .place
            .iter()
            .map(|step| {
                if step.starts_with('[') {
                    step.clone()
                } else {
                    format!(".{step}")
                }
            })
            .collect();
        refused(&path, error.description)
    })?;
    if !iteration_model.is_empty() && !matches!(api, Api::Messages | Api::Invoke(_)) {
        return Err(UsageError::iteration_model(
            "an answer of this API bills one model",
        ));
    }
    let answer = match (api, &root) {
        (Api::Messages, Value::List(events)) => {
            return anthropic::read_events(events, iteration_model)?.checked();
        }
        (Api::Invoke(_), Value::List(events)) if anthropic::are_events(events) => {
            return anthropic::read_events(events, iteration_model)?.checked();
        }
        (Api::Realtime(shape), Value::List(events)) if other_shapes::are_responses(events) => {
            return other_shapes::read_responses(events, shape)?.checked();
        }
        (_, Value::List(chunks)) => last_with_usage(chunks)?,
        _ => holder(Fields::of(&root, String::new())?),
    };
    let usage = answer.object_of(&HOLDERS)?.unwrap_or_else(|| answer.clone());
    let mut normalised = read(api, usage, &answer, iteration_model)?.checked()?;
    if normalised.tier.is_empty() {
        // Most say beside the usage which tier they served.
        answer
            .text("service_tier")?
            .unwrap_or_default()
            .clone_into(&mut normalised.tier);
    }
    Ok(normalised)
}

/// What holds the usage object: the answer, or what is within the last event of its stream.
fn holder(answer: Fields<'_>) -> Fields<'_> {
    if answer.name_of(&HOLDERS).is_some() {
        return answer;
    }
    // Answers have fields of these names, too, that are something else.
    let mut held = LAST_EVENTS
        .iter()
        .filter_map(|name| answer.object(name).ok().flatten());
    held.find(|held| held.name_of(&HOLDERS).is_some())
        .unwrap_or(answer)
}

/// The last chunk of a stream that has usage: each says what was used up to there.
fn last_with_usage<'v>(chunks: &'v [Value<'v>]) -> Read<Fields<'v>> {
    let mut last = None;
    for chunk in Fields::items(chunks, "")? {
        let chunk = holder(chunk);
        if last.is_none() || chunk.name_of(&HOLDERS).is_some() {
            last = Some(chunk);
        }
    }
    last.ok_or_else(|| refused("", "no event has usage"))
}

fn read(api: Api, usage: Fields<'_>, answer: &Fields<'_>, model: &str) -> Read<NormalisedUsage> {
    match api {
        // The fields of xAI's gRPC API are nobody else's.
        Api::OpenAi(_) if usage.has("prompt_text_tokens") => other_shapes::read_xai_sampling(&usage),
        Api::OpenAi(shape) | Api::Realtime(shape) => openai::read(&usage, shape),
        Api::Responses(shape) => {
            let mut normalised = openai::read(&usage, shape)?;
            openai::add_tools_of_output(answer, &mut normalised)?;
            Ok(normalised)
        }
        Api::Batch(shape) => {
            let mut normalised = openai::read(&usage, shape)?;
            "batch".clone_into(&mut normalised.tier);
            if let Some(requests) = answer.object("request_counts")? {
                normalised.calls = requests.count_or_zero("completed")?.max(1);
            }
            Ok(normalised)
        }
        Api::Transcription(shape) => other_shapes::read_transcription(&usage, shape),
        Api::OpenAiReport => other_shapes::read_openai_report(&usage),
        Api::Messages => anthropic::read(usage, model),
        Api::GenerateContent => {
            let mut normalised = gemini::read(&usage, &gemini::GENERATE_CONTENT)?;
            gemini::add_searches(answer, &mut normalised)?;
            Ok(normalised)
        }
        Api::Interactions => gemini::read(&usage, &gemini::INTERACTIONS),
        Api::Converse => {
            let mut normalised = bedrock::read_converse(&usage)?;
            bedrock::read_served(answer, &mut normalised)?;
            Ok(normalised)
        }
        Api::Invoke(shape) => bedrock::read_invoked(usage, shape, model),
        Api::Cohere => other_shapes::read_cohere(&usage),
        Api::Ollama => other_shapes::read_ollama(&usage),
        Api::Xai => other_shapes::read_xai_sampling(&usage),
        Api::Otel => other_shapes::read_otel(&usage),
    }
}
