// SPDX-License-Identifier: Apache-2.0
//! The prompt of a usage object in the shape of `OpenAI`: what a cache gave and took, and the modalities, each a part.

use super::classes::{NormalisedUsage, flag};
use super::fields::{Fields, Read};

const PROMPT: [&str; 2] = ["prompt_tokens", "input_tokens"];
const PROMPT_DETAILS: [&str; 4] = [
    "prompt_tokens_details",
    "prompt_token_details",
    "input_tokens_details",
    "input_token_details",
];
const CACHED: [&str; 1] = ["cached_tokens"];
/// Counts of cached tokens beside the details: Together and Moonshot, Mistral, `DeepSeek`, `LiteLLM`.
const CACHED_BESIDE: [&str; 4] = [
    "cached_tokens",
    "num_cached_tokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
];
const CACHE_WRITTEN: [&str; 3] = [
    "cache_write_tokens",
    "created_cache_tokens",
    "cache_creation_tokens",
];
const CACHE_WRITTEN_BESIDE: [&str; 1] = ["cache_creation_input_tokens"];

/// The prompt by modality; each includes its cached part.
struct Modalities {
    text: i64,
    audio: i64,
    image: i64,
    video: i64,
}

/// Counts the prompt and returns all of it, cached parts included. `unstated` is what one that is not counted comes to.
pub(super) fn read(
    usage: &Fields<'_>,
    excludes_cache: bool,
    unstated: Option<i64>,
    normalised: &mut NormalisedUsage,
) -> Read<i64> {
    let counted = usage.same_count(&PROMPT)?.or(unstated);
    let name = usage.name_of(&PROMPT).unwrap_or(PROMPT[0]);
    let counted = counted.ok_or_else(|| usage.refuse(name, "required"))?;
    let details = usage.object_of(&PROMPT_DETAILS)?;
    let (cached, written) = read_cache(usage, details.as_ref())?;
    let prompt = if excludes_cache {
        counted.saturating_add(cached).saturating_add(written)
    } else {
        counted
    };
    let holder = details.as_ref().unwrap_or(usage);
    if cached.saturating_add(written) > prompt {
        let larger = if cached > prompt {
            &CACHED[..]
        } else {
            &CACHE_WRITTEN[..]
        };
        let beside = [&CACHED_BESIDE[..], &CACHE_WRITTEN_BESIDE[..]].concat();
        return Err(match holder.name_of(larger) {
            Some(name) => holder.contradict(name, "more than the prompt that it is part of"),
            None => usage.contradict(
                usage.name_of(&beside).unwrap_or(name),
                "more than the prompt that it is part of",
            ),
        });
    }
    let modalities = read_modalities(holder, details.is_some(), prompt, normalised)?;
    let by_modality = read_cached_modalities(holder, cached, written, &modalities)?;
    normalised.add("input", modalities.text.saturating_sub(by_modality.text));
    normalised.add("input_audio", modalities.audio.saturating_sub(by_modality.audio));
    normalised.add("input_image", modalities.image.saturating_sub(by_modality.image));
    normalised.add("input_video", modalities.video);
    normalised.add("cache_read", by_modality.text.saturating_sub(written));
    normalised.add("cache_read_audio", by_modality.audio);
    normalised.add("cache_read_image", by_modality.image);
    let written_1h = read_written_1h(holder, written)?;
    normalised.add("cache_write", written.saturating_sub(written_1h));
    normalised.add("cache_write_1h", written_1h);
    Ok(prompt)
}

/// Tokens that a cache gave and took.
fn read_cache(usage: &Fields<'_>, details: Option<&Fields<'_>>) -> Read<(i64, i64)> {
    let one = |inside: &[&str], beside: &[&str]| -> Read<i64> {
        let within = details.map_or(Ok(None), |details| details.same_count(inside))?;
        let other = usage.same_count(beside)?;
        if let (Some(within), Some(other)) = (within, other)
            && within != other
        {
            let name = usage.name_of(beside).unwrap_or_default();
            return Err(usage.contradict(name, "differs from the same count in the details"));
        }
        Ok(within.or(other).unwrap_or_default())
    };
    let cached = one(&CACHED, &CACHED_BESIDE)?;
    if let (Some(hit), Some(missed)) = (
        usage.count("prompt_cache_hit_tokens")?,
        usage.count("prompt_cache_miss_tokens")?,
    ) && usage
        .same_count(&PROMPT)?
        .is_some_and(|prompt| hit.saturating_add(missed) != prompt)
    {
        let description = "hits and misses must add up to the prompt";
        return Err(usage.contradict("prompt_cache_miss_tokens", description));
    }
    Ok((cached, one(&CACHE_WRITTEN, &CACHE_WRITTEN_BESIDE)?))
}

fn read_modalities(
    holder: &Fields<'_>,
    has_details: bool,
    prompt: i64,
    normalised: &mut NormalisedUsage,
) -> Read<Modalities> {
    if !has_details {
        return Ok(Modalities {
            text: prompt,
            audio: 0,
            image: 0,
            video: 0,
        });
    }
    let (audio, image, video) = (
        holder.count_or_zero("audio_tokens")?,
        holder.count_or_zero("image_tokens")?,
        holder.count_or_zero("video_tokens")?,
    );
    let other = audio.saturating_add(image).saturating_add(video);
    let stated = holder.count("text_tokens")?;
    let stated_sum = stated.unwrap_or_default().saturating_add(other);
    if stated_sum > prompt {
        let names = ["audio_tokens", "image_tokens", "video_tokens", "text_tokens"];
        let single = names
            .into_iter()
            .find(|name| matches!(holder.count(name), Ok(Some(count)) if count > prompt));
        let description = "more than the prompt that it is part of";
        return Err(single.map_or_else(
            || holder.contradict_whole("modalities add up to more than the prompt"),
            |name| holder.contradict(name, description),
        ));
    }
    if stated.is_some_and(|text| text > 0) && stated_sum < prompt {
        normalised.flag(flag::MODALITIES_INCOMPLETE);
    }
    Ok(Modalities {
        text: prompt.saturating_sub(other),
        audio,
        image,
        video,
    })
}

/// What is to be taken off each modality: what a cache gave, and for text also what it took.
fn read_cached_modalities(
    holder: &Fields<'_>,
    cached: i64,
    written: i64,
    prompt: &Modalities,
) -> Read<Modalities> {
    let beyond = "more than the tokens of its modality";
    let (mut audio, mut image) = (0, 0);
    if let Some(details) = holder.object("cached_tokens_details")? {
        audio = details.count_or_zero("audio_tokens")?;
        image = details.count_or_zero("image_tokens")?;
        for (name, count, whole) in [
            ("audio_tokens", audio, prompt.audio),
            ("image_tokens", image, prompt.image),
            ("text_tokens", details.count_or_zero("text_tokens")?, prompt.text),
        ] {
            if count > whole {
                return Err(details.contradict(name, beyond));
            }
        }
        let stated = audio
            .saturating_add(image)
            .saturating_add(details.count_or_zero("text_tokens")?);
        if stated > cached {
            return Err(details.contradict_whole("modalities add up to more than the cached tokens"));
        }
    }
    let mut text = cached
        .saturating_sub(audio)
        .saturating_sub(image)
        .saturating_add(written);
    let excess = text.saturating_sub(prompt.text);
    if excess > 0 {
        // Cached tokens that cannot be text are images where nothing else is left that they could be.
        let can_only_be_image = prompt.audio == 0 && prompt.video == 0 && image == 0;
        if !can_only_be_image || excess > prompt.image || excess > cached {
            let name = holder.name_of(&CACHED).unwrap_or(CACHED[0]);
            return Err(holder.contradict(name, beyond));
        }
        image = excess;
        text = prompt.text;
    }
    Ok(Modalities {
        text,
        audio,
        image,
        video: 0,
    })
}

/// The part of cache writes that lives for an hour, as `LiteLLM` says it of Anthropic's models.
fn read_written_1h(holder: &Fields<'_>, written: i64) -> Read<i64> {
    let Some(details) = holder.object("cache_creation_token_details")? else {
        return Ok(0);
    };
    let written_1h = details.count_or_zero("ephemeral_1h_input_tokens")?;
    let sum = written_1h.saturating_add(details.count_or_zero("ephemeral_5m_input_tokens")?);
    if sum > written {
        return Err(details.contradict_whole("adds up to more than the cache writes"));
    }
    Ok(written_1h)
}
