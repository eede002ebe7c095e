// SPDX-License-Identifier: Apache-2.0
//! Google's usage metadata: the prompt includes what a cache gave; thoughts and the prompts of tools stand beside.

use super::classes::{NormalisedUsage, flag};
use super::fields::{Fields, Read};

/// What one API calls the fields; the first of two names is the wire's, the second the Python SDK's.
pub(super) struct Names {
    prompt: &'static [&'static str],
    cached: &'static [&'static str],
    answer: &'static [&'static str],
    thoughts: &'static [&'static str],
    tool_prompt: &'static [&'static str],
    total: &'static [&'static str],
    prompt_details: &'static [&'static str],
    cached_details: &'static [&'static str],
    answer_details: &'static [&'static str],
    tool_prompt_details: &'static [&'static str],
}

/// `generateContent` and Live.
pub(super) const GENERATE_CONTENT: Names = Names {
    prompt: &["promptTokenCount", "prompt_token_count"],
    cached: &["cachedContentTokenCount", "cached_content_token_count"],
    answer: &[
        "candidatesTokenCount",
        "candidates_token_count",
        "responseTokenCount",
        "response_token_count",
    ],
    thoughts: &["thoughtsTokenCount", "thoughts_token_count"],
    tool_prompt: &["toolUsePromptTokenCount", "tool_use_prompt_token_count"],
    total: &["totalTokenCount", "total_token_count"],
    prompt_details: &["promptTokensDetails", "prompt_tokens_details"],
    cached_details: &["cacheTokensDetails", "cache_tokens_details"],
    answer_details: &[
        "candidatesTokensDetails",
        "candidates_tokens_details",
        "responseTokensDetails",
        "response_tokens_details",
    ],
    tool_prompt_details: &["toolUsePromptTokensDetails", "tool_use_prompt_tokens_details"],
};

/// Interactions.
pub(super) const INTERACTIONS: Names = Names {
    prompt: &["total_input_tokens"],
    cached: &["total_cached_tokens"],
    answer: &["total_output_tokens"],
    thoughts: &["total_thought_tokens", "total_reasoning_tokens"],
    tool_prompt: &["total_tool_use_tokens"],
    total: &["total_tokens"],
    prompt_details: &["input_tokens_by_modality"],
    cached_details: &["cached_tokens_by_modality"],
    answer_details: &["output_tokens_by_modality"],
    tool_prompt_details: &["tool_use_tokens_by_modality"],
};

/// Tokens by modality.
#[derive(Debug, Default, Clone, Copy)]
struct Modalities {
    text: i64,
    audio: i64,
    /// Documents, too: their pages are read as images.
    image: i64,
    video: i64,
}

impl Modalities {
    const fn beside_text(self) -> i64 {
        self.audio.saturating_add(self.image).saturating_add(self.video)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            text: self.text.saturating_add(other.text),
            audio: self.audio.saturating_add(other.audio),
            image: self.image.saturating_add(other.image),
            video: self.video.saturating_add(other.video),
        }
    }
}

/// Reads usage metadata.
pub(super) fn read(usage: &Fields<'_>, names: &Names) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    let count = |names: &[&str]| Ok(usage.same_count(names)?.unwrap_or_default());
    let prompt = read_prompt(usage, names)?;
    let (cached, tool_prompt) = (count(names.cached)?, count(names.tool_prompt)?);
    if cached > prompt {
        let name = usage.name_of(names.cached).unwrap_or(names.cached[0]);
        return Err(usage.contradict(name, "more than the prompt that it is part of"));
    }
    let of_prompt = by_modality(usage, names.prompt_details, prompt, &mut normalised)?;
    let of_tools = by_modality(usage, names.tool_prompt_details, tool_prompt, &mut normalised)?;
    let of_cache = cached_by_modality(usage, names, cached, of_prompt, &mut normalised)?;
    let input = of_prompt.plus(of_tools);
    normalised.add("input", input.text.saturating_sub(of_cache.text));
    normalised.add("input_audio", input.audio.saturating_sub(of_cache.audio));
    normalised.add("input_image", input.image.saturating_sub(of_cache.image));
    normalised.add("input_video", input.video.saturating_sub(of_cache.video));
    // Nobody sells cached video at a price of its own.
    normalised.add("cache_read", of_cache.text.saturating_add(of_cache.video));
    normalised.add("cache_read_audio", of_cache.audio);
    normalised.add("cache_read_image", of_cache.image);

    let answer = count(names.answer)?;
    let of_answer = by_modality(usage, names.answer_details, answer, &mut normalised)?;
    normalised.add("output", of_answer.text.saturating_add(of_answer.video));
    normalised.add("output_audio", of_answer.audio);
    normalised.add("output_image", of_answer.image);
    let thoughts = usage.same_count(names.thoughts)?;
    let known = prompt
        .saturating_add(tool_prompt)
        .saturating_add(answer)
        .saturating_add(thoughts.unwrap_or_default());
    let rest = usage
        .same_count(names.total)?
        .map_or(0, |total| total.saturating_sub(known));
    match thoughts {
        None if rest > 0 => {
            normalised.add("reasoning", rest);
            normalised.flag(flag::REASONING_INFERRED);
        }
        thoughts => {
            normalised.add("reasoning", thoughts.unwrap_or_default());
            if rest != 0 {
                normalised.flag(flag::TOTAL_MISMATCH);
            }
        }
    }
    read_served(usage, &mut normalised)?;
    Ok(normalised)
}

/// The prompt. Counts of zero are left out of Google's JSON: it is nothing where the total has nothing else either.
fn read_prompt(usage: &Fields<'_>, names: &Names) -> Read<i64> {
    if let Some(prompt) = usage.same_count(names.prompt)? {
        return Ok(prompt);
    }
    let mut beside = 0_i64;
    for part in [names.answer, names.thoughts, names.tool_prompt] {
        beside = beside.saturating_add(usage.same_count(part)?.unwrap_or_default());
    }
    match usage.same_count(names.total)? {
        Some(total) if total == beside => Ok(0),
        _ => Err(usage.refuse(names.prompt[0], "required")),
    }
}

/// Splits a count by its list of modalities. What the list leaves out counts as text; more than the count is an error.
fn by_modality(
    usage: &Fields<'_>,
    names: &[&str],
    whole: i64,
    normalised: &mut NormalisedUsage,
) -> Read<Modalities> {
    let mut found = Modalities::default();
    let Some(name) = usage.name_of(names) else {
        found.text = whole;
        return Ok(found);
    };
    for item in usage.list(name)? {
        let tokens = item
            .same_count(&["tokenCount", "token_count", "tokens"])?
            .unwrap_or_default();
        let sum = match item.text("modality")?.map(str::to_ascii_uppercase).as_deref() {
            Some("AUDIO") => &mut found.audio,
            Some("IMAGE" | "DOCUMENT") => &mut found.image,
            Some("VIDEO") => &mut found.video,
            _ => &mut found.text,
        };
        *sum = sum.saturating_add(tokens);
    }
    let stated = found.text.saturating_add(found.beside_text());
    if stated > whole {
        return Err(usage.contradict(name, "adds up to more than the count that it splits"));
    }
    if stated < whole {
        if stated > 0 {
            normalised.flag(flag::MODALITIES_INCOMPLETE);
        }
        found.text = whole.saturating_sub(found.beside_text());
    }
    Ok(found)
}

/// What a cache gave, by modality; no more of one than the prompt has.
fn cached_by_modality(
    usage: &Fields<'_>,
    names: &Names,
    cached: i64,
    prompt: Modalities,
    normalised: &mut NormalisedUsage,
) -> Read<Modalities> {
    let mut found = by_modality(usage, names.cached_details, cached, normalised)?;
    let name = match usage.name_of(names.cached_details) {
        // An empty list says no more than a missing one.
        Some(name) if usage.list(name)?.is_empty() => None,
        name => name,
    };
    if name.is_none() && found.text > prompt.text {
        // Cached tokens that cannot be text are of the other modality where there is only one.
        let excess = found.text.saturating_sub(prompt.text);
        let only = |others: i64| others == 0;
        if only(prompt.image.saturating_add(prompt.video)) {
            found.audio = excess;
        } else if only(prompt.audio.saturating_add(prompt.video)) {
            found.image = excess;
        } else if only(prompt.audio.saturating_add(prompt.image)) {
            found.video = excess;
        } else {
            let name = names.cached_details[0];
            return Err(usage.refuse(name, "required, because more was cached than the prompt has text"));
        }
        found.text = prompt.text;
    }
    let fits = found.text <= prompt.text
        && found.audio <= prompt.audio
        && found.image <= prompt.image
        && found.video <= prompt.video;
    match name {
        Some(name) if !fits => Err(usage.contradict(name, "more than the prompt has of a modality")),
        _ => Ok(found),
    }
}

/// Counts searches where the whole answer was sent: its grounding tells of them, the usage does not. Models before
/// Gemini 3 are billed by the prompt that was grounded, later ones by each query.
pub(super) fn add_searches(answer: &Fields<'_>, normalised: &mut NormalisedUsage) -> Read<()> {
    let mut holders = answer.list("candidates")?;
    holders.extend(answer.object_of(&["serverContent", "server_content"])?);
    let mut queries = 0_i64;
    for holder in holders {
        let Some(grounding) = holder.object_of(&["groundingMetadata", "grounding_metadata"])? else {
            continue;
        };
        for name in ["webSearchQueries", "web_search_queries"] {
            let searched = grounding
                .texts(name)?
                .into_iter()
                .filter(|query| !query.is_empty());
            queries = queries.saturating_add(i64::try_from(searched.count()).unwrap_or(i64::MAX));
        }
    }
    let mut version = None;
    for name in ["modelVersion", "model_version"] {
        version = version.or(answer.text(name)?);
    }
    let is_by_prompt = version.is_some_and(|version| {
        let version = version.strip_prefix("models/").unwrap_or(version);
        version.starts_with("gemini-1") || version.starts_with("gemini-2")
    });
    normalised.add(
        "web_searches",
        if is_by_prompt { queries.min(1) } else { queries },
    );
    Ok(())
}

/// What beside tokens was used, and which tier was served.
fn read_served(usage: &Fields<'_>, normalised: &mut NormalisedUsage) -> Read<()> {
    for tool in usage.list("grounding_tool_count")? {
        let kind = tool.name_of(&["type", "tool"]).unwrap_or("type");
        if tool.text(kind)?.is_none_or(|kind| kind.contains("search")) {
            normalised.add("web_searches", tool.count_or_zero("count")?);
        }
    }
    let mut tier = None;
    for name in ["serviceTier", "service_tier"] {
        tier = tier.or(usage.text(name)?);
    }
    let mut traffic = None;
    for name in ["trafficType", "traffic_type"] {
        traffic = traffic.or(usage.text(name)?);
    }
    normalised.tier = match (tier, traffic) {
        (Some(tier), _) => tier.to_ascii_lowercase(),
        (None, Some("ON_DEMAND_PRIORITY")) => "priority".to_owned(),
        (None, Some("ON_DEMAND_FLEX")) => "flex".to_owned(),
        (None, Some("PROVISIONED_THROUGHPUT")) => "provisioned".to_owned(),
        (None, _) => String::new(),
    };
    Ok(())
}
