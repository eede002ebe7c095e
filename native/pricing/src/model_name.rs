// SPDX-License-Identifier: Apache-2.0
//! Model names: the shorter names that a name also answers to, and patterns with `*`.

/// Longer names are compared as they are: the work per name stays bounded.
const NAME_LENGTH_MAX: usize = 256;

/// Most affixes removed at one end of a name.
const AFFIXES_MAX: usize = 4;

/// Prefixes that say who made a model or where it runs, none of which changes what it is.
const PREFIXES: [&str; 78] = [
    "us.",
    "us-gov.",
    "eu.",
    "apac.",
    "jp.",
    "au.",
    "ca.",
    "global.",
    "us/",
    "eu/",
    "global/",
    "apac/",
    "anthropic.",
    "amazon.",
    "meta.",
    "mistral.",
    "cohere.",
    "ai21.",
    "deepseek.",
    "openai.",
    "qwen.",
    "google.",
    "nvidia.",
    "minimax.",
    "moonshot.",
    "moonshotai.",
    "zai.",
    "writer.",
    "stability.",
    "openai/",
    "anthropic/",
    "google/",
    "gemini/",
    "vertex_ai/",
    "azure/",
    "azure_ai/",
    "bedrock/",
    "mistral/",
    "mistralai/",
    "deepseek/",
    "deepseek-ai/",
    "x-ai/",
    "xai/",
    "x_ai/",
    "cohere/",
    "groq/",
    "together_ai/",
    "fireworks_ai/",
    "openrouter/",
    "perplexity/",
    "meta-llama/",
    "qwen/",
    "Qwen/",
    "moonshotai/",
    "moonshot/",
    "z-ai/",
    "zai/",
    "minimax/",
    "amazon/",
    "nvidia/",
    "ollama/",
    "vllm/",
    "hosted_vllm/",
    "huggingface/",
    "models/",
    "publishers/google/models/",
    "publishers/anthropic/models/",
    "publishers/meta/models/",
    "gcp.gemini/",
    "gcp.vertex_ai/",
    "gcp.gen_ai/",
    "aws.bedrock/",
    "azure.ai.openai/",
    "azure.ai.inference/",
    "mistral_ai/",
    "moonshot_ai/",
    "ibm.watsonx.ai/",
    "cloudflare/",
];

/// The name itself, then with ever more removed from its ends; of two with equally many removals the one that lost
/// a suffix comes first. Removed are dates and versions at the end, regions and vendors at the start.
pub(crate) fn candidates<'a>(name: &'a str, provider: &str) -> Vec<&'a str> {
    if name.len() > NAME_LENGTH_MAX {
        return vec![name];
    }
    let starts = removals(name, |rest| without_prefix(rest, provider));
    let ends = removals(name, without_suffix);
    let mut found = Vec::with_capacity(4);
    for removed in 0..=AFFIXES_MAX.saturating_mul(2) {
        for prefixes in 0..=removed {
            let (Some(start), Some(end)) = (starts.get(prefixes), ends.get(removed.saturating_sub(prefixes)))
            else {
                continue;
            };
            let start_offset = name.len().saturating_sub(start.len());
            match name.get(start_offset..end.len()) {
                Some(candidate) if !candidate.is_empty() => found.push(candidate),
                _ => {}
            }
        }
    }
    found
}

/// The name, and what is left of it after each removal.
fn removals<'a>(name: &'a str, remove: impl Fn(&'a str) -> Option<&'a str>) -> Vec<&'a str> {
    let mut left = vec![name];
    left.extend(std::iter::successors(remove(name), |rest| remove(rest)).take(AFFIXES_MAX));
    left
}

fn without_prefix<'a>(name: &'a str, provider: &str) -> Option<&'a str> {
    let after_provider = name
        .strip_prefix(provider)
        .and_then(|rest| rest.strip_prefix('/'));
    after_provider
        .filter(|_| !provider.is_empty())
        .or_else(|| PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)))
        .filter(|rest| !rest.is_empty())
}

fn without_suffix(name: &str) -> Option<&str> {
    let rest = name
        .strip_suffix("-latest")
        .or_else(|| without_revision(name))
        .or_else(|| without_date(name))?;
    Some(rest).filter(|rest| !rest.is_empty())
}

/// Removes `-v1:0`.
fn without_revision(name: &str) -> Option<&str> {
    let (rest, revision) = name.rsplit_once("-v")?;
    let (major, minor) = revision.split_once(':')?;
    (is_number(major) && is_number(minor)).then_some(rest)
}

/// Removes `-20250929`, `-2025-09-29` or the same after `@`.
fn without_date(name: &str) -> Option<&str> {
    [8, 10].into_iter().find_map(|length| {
        let date_offset = name.len().checked_sub(length)?;
        let (head, date) = (name.get(..date_offset)?, name.get(date_offset..)?);
        is_date(date).then(|| head.strip_suffix(['-', '@'])).flatten()
    })
}

fn is_date(text: &str) -> bool {
    let (year, month, day) = match text.len() {
        8 => (text.get(..4), text.get(4..6), text.get(6..)),
        10 if text.get(4..5) == Some("-") && text.get(7..8) == Some("-") => {
            (text.get(..4), text.get(5..7), text.get(8..))
        }
        _ => return false,
    };
    let within = |part: Option<&str>, first: u16, last: u16| {
        part.filter(|part| is_number(part))
            .and_then(|part| part.parse().ok())
            .is_some_and(|value: u16| (first..=last).contains(&value))
    };
    within(year, 2000, 2099) && within(month, 1, 12) && within(day, 1, 31)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `name` matches a pattern in which `*` stands for any characters or none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(last) = parts.next_back() else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(mut rest) = rest.strip_suffix(last) else {
        return false;
    };
    // Taking the leftmost place for each part in between leaves the most room for the others.
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    true
}
