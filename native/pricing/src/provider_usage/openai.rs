// SPDX-License-Identifier: Apache-2.0
//! Usage objects in the shape that `OpenAI` gave them, which most providers follow: the prompt includes what a cache
//! gave and took. Whether the answer includes reasoning differs, and where it does the total decides.

use super::classes::{NormalisedUsage, flag};
use super::fields::{Fields, Read};
use super::openai_prompt;

const COMPLETION: [&str; 2] = ["completion_tokens", "output_tokens"];
const COMPLETION_DETAILS: [&str; 3] = [
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
];

/// How reasoning stands to the answer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reasoning {
    /// A part of them, as documented: a larger one is an error, unless the total says otherwise.
    Inside,
    /// Providers differ: the total decides, and without one a reasoning that is no larger is a part.
    InsideUnlessTotal,
    /// Providers differ: the total decides, and without one reasoning stands beside.
    BesideUnlessTotal,
    /// Always beside, whatever the total says.
    Beside,
}

/// What the tokens of an answer without details are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is none: embeddings.
    None,
    Text,
    Audio,
    Image,
}

/// What differs between the APIs that share the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) reasoning: Reasoning,
    pub(super) answer: Answer,
    /// The prompt excludes what a cache gave and took.
    pub(super) prompt_excludes_cache: bool,
}

/// Reads usage in this shape.
pub(super) fn read(usage: &Fields<'_>, shape: Shape) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let unstated = if usage.has("pages_processed") {
        // Pages are what is sold, and no tokens.
        Some(0)
    } else if shape.answer == Answer::None {
        // Some embeddings count nothing but a total, which has no other part.
        usage.count("total_tokens")?
    } else {
        None
    };
    let prompt = openai_prompt::read(usage, shape.prompt_excludes_cache, unstated, &mut normalised)?;
    let connected = read_extras(usage, &mut normalised)?;
    normalised.add("input", connected);
    read_answer(usage, shape, prompt.saturating_add(connected), &mut normalised)?;
    usage
        .text("service_tier")?
        .unwrap_or_default()
        .clone_into(&mut normalised.tier);
    Ok(normalised)
}

/// Counts the answer.
fn read_answer(usage: &Fields<'_>, shape: Shape, prompt: i64, normalised: &mut NormalisedUsage) -> Read<()> {
    let counted = usage.same_count(&COMPLETION)?;
    let total = usage.count("total_tokens")?;
    if counted.is_none() && shape.answer != Answer::None && total.is_some_and(|total| total > prompt) {
        return Err(usage.refuse(
            COMPLETION[0],
            "required, because the total says that there are some",
        ));
    }
    let completion = counted.unwrap_or_default();
    let details = usage.object_of(&COMPLETION_DETAILS)?;
    let holder = details.as_ref().unwrap_or(usage);
    let mut reasoning = read_reasoning(usage, details.as_ref())?;
    if usage
        .seconds_as_ms("prompt_audio_seconds")?
        .is_some_and(|heard_ms| heard_ms > 0)
    {
        // What the total has beside the parts is the audio, which is sold by its seconds.
        reasoning = reasoning.or(Some(0));
    }
    if details.is_some() {
        for name in [
            "accepted_prediction_tokens",
            "rejected_prediction_tokens",
            "text_tokens",
        ] {
            if holder.count_or_zero(name)? > completion {
                return Err(holder.contradict(name, "more than the answer that it is part of"));
            }
        }
    }
    let total = without_citations(usage, [prompt, completion, reasoning.unwrap_or_default()], total)?;
    let split = split_reasoning(holder, shape, [prompt, completion], reasoning, total)?;
    split.flags.iter().for_each(|flag| normalised.flag(flag));
    normalised.add("reasoning", split.reasoning);
    let (audio, image) = match &details {
        Some(details) => read_modalities(details, shape.answer, completion)?,
        None => match shape.answer {
            Answer::Audio => (completion, 0),
            Answer::Image => (0, completion),
            Answer::Text | Answer::None => (0, 0),
        },
    };
    let visible = completion
        .saturating_sub(split.inside)
        .saturating_sub(audio)
        .saturating_sub(image);
    let stated = holder.count_or_zero("text_tokens")?;
    if visible < 0 || (details.is_some() && stated.saturating_add(audio).saturating_add(image) > completion) {
        return Err(holder.contradict_whole("adds up to more than the answer"));
    }
    normalised.add("output", visible);
    normalised.add("output_audio", audio);
    normalised.add("output_image", image);
    Ok(())
}

/// The total, less the citations where it counts them: they stand beside the answer, and not every total has them.
fn without_citations(
    usage: &Fields<'_>,
    [prompt, completion, reasoning]: [i64; 3],
    total: Option<i64>,
) -> Read<Option<i64>> {
    let citation = usage.count_or_zero("citation_tokens")?;
    let answered = prompt.saturating_add(completion);
    let fits = |total: &i64| [answered, answered.saturating_add(reasoning)].contains(total);
    let without = total.map(|total| total.saturating_sub(citation));
    Ok(total.filter(fits).or(without.filter(fits)).or(total))
}

/// Reasoning: in the details, or beside them.
fn read_reasoning(usage: &Fields<'_>, details: Option<&Fields<'_>>) -> Read<Option<i64>> {
    let name = "reasoning_tokens";
    let within = details.map_or(Ok(None), |details| details.count(name))?;
    let beside = usage.count(name)?;
    if let (Some(within), Some(beside)) = (within, beside)
        && within != beside
    {
        return Err(usage.contradict(name, "differs from the same count in the details"));
    }
    Ok(within.or(beside))
}

/// Audio and images of the answer. Where only the text is counted, the rest is what the API gives.
fn read_modalities(details: &Fields<'_>, answer: Answer, completion: i64) -> Read<(i64, i64)> {
    let (audio, image) = (details.count("audio_tokens")?, details.count("image_tokens")?);
    if audio.is_none()
        && image.is_none()
        && let Some(text) = details.count("text_tokens")?
    {
        match answer {
            Answer::Audio => return Ok((completion.saturating_sub(text), 0)),
            Answer::Image => return Ok((0, completion.saturating_sub(text))),
            Answer::Text | Answer::None => {}
        }
    }
    Ok((audio.unwrap_or_default(), image.unwrap_or_default()))
}

/// Reasoning, and how much of it the answer's tokens include.
struct Split {
    reasoning: i64,
    inside: i64,
    flags: Vec<&'static str>,
}

/// Where vendors disagree, the identity of the total decides.
fn split_reasoning(
    holder: &Fields<'_>,
    shape: Shape,
    [prompt, completion]: [i64; 2],
    reasoning: Option<i64>,
    total: Option<i64>,
) -> Read<Split> {
    let rule = shape.reasoning;
    let stated = reasoning.unwrap_or_default();
    let with_answer = prompt.saturating_add(completion);
    let with_reasoning = with_answer.saturating_add(stated);
    let mut flags = Vec::new();
    if stated == 0 {
        let hidden = total.map_or(0, |total| total.saturating_sub(with_answer));
        if hidden > 0 && reasoning.is_none() && shape.answer != Answer::None {
            flags.push(flag::REASONING_INFERRED);
            return Ok(Split {
                reasoning: hidden,
                inside: 0,
                flags,
            });
        }
        if hidden != 0 {
            flags.push(flag::TOTAL_MISMATCH);
        }
        return Ok(Split {
            reasoning: 0,
            inside: 0,
            flags,
        });
    }
    let is_beside = match total {
        _ if rule == Reasoning::Beside => true,
        Some(total) if total == with_reasoning => true,
        _ if stated > completion && rule == Reasoning::Inside => {
            return Err(holder.contradict("reasoning_tokens", "more than the answer that it is part of"));
        }
        _ if stated > completion => true,
        Some(total) if total == with_answer => false,
        _ => rule == Reasoning::BesideUnlessTotal,
    };
    if total.is_some_and(|total| total != with_answer && total != with_reasoning) {
        flags.push(flag::TOTAL_MISMATCH);
    }
    Ok(Split {
        reasoning: stated,
        inside: if is_beside { 0 } else { stated },
        flags,
    })
}

/// Counts what tools did, where the output's items stand beside the usage: the usage itself does not say it.
pub(super) fn add_tools_of_output(answer: &Fields<'_>, normalised: &mut NormalisedUsage) -> Read<()> {
    for item in answer.list("output")? {
        let class = match item.text("type")? {
            Some("web_search_call") => "web_searches",
            Some("file_search_call") => "file_searches",
            Some("code_interpreter_call") => "code_sessions",
            _ => continue,
        };
        normalised.add(class, 1);
    }
    Ok(())
}

/// Meters beside the tokens of the call. Returns the tokens that connectors put into the prompt, beside those counted.
fn read_extras(usage: &Fields<'_>, normalised: &mut NormalisedUsage) -> Read<i64> {
    normalised.add(
        "audio_ms",
        usage.seconds_as_ms("prompt_audio_seconds")?.unwrap_or_default(),
    );
    normalised.add("pages", usage.count_or_zero("pages_processed")?);
    normalised.add("citation", usage.count_or_zero("citation_tokens")?);
    normalised.add("web_searches", usage.count_or_zero("num_search_queries")?);
    for (object, counts) in [
        (
            ["server_tool_use", "server_tool_use_details"],
            [("web_search_requests", "web_searches"); 1].as_slice(),
        ),
        (
            ["server_side_tool_usage_details", "connectors"],
            [
                ("web_search_calls", "web_searches"),
                ("file_search_calls", "file_searches"),
                ("code_interpreter_calls", "code_sessions"),
                ("web_search", "web_searches"),
                ("web_search_premium", "web_searches"),
                ("code_interpreter", "code_sessions"),
            ]
            .as_slice(),
        ),
    ] {
        if let Some(tools) = usage.object_of(&object)? {
            for (name, class) in counts {
                normalised.add(class, tools.count_or_zero(name)?);
            }
        }
    }
    usage.count_or_zero("connector_tokens")
}
