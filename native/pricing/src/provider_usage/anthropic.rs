// SPDX-License-Identifier: Apache-2.0
//! Anthropic's messages: the input excludes what a cache gave and took, the output includes thinking. The counts of a
//! stream are cumulative, so the last one of each field holds.

use super::classes::{NormalisedUsage, flag};
use super::fields::{Fields, Read, UsageError, refused};
use super::json::Value;

/// The states of one usage object, oldest first; one where there was no stream.
struct States<'v>(Vec<Fields<'v>>);

impl<'v> States<'v> {
    /// The newest state that has a field.
    fn with(&self, name: &str) -> Option<&Fields<'v>> {
        self.0.iter().rev().find(|state| state.has(name))
    }

    fn count(&self, name: &str) -> Read<Option<i64>> {
        self.with(name).map_or(Ok(None), |state| state.count(name))
    }

    fn count_or_zero(&self, name: &str) -> Read<i64> {
        Ok(self.count(name)?.unwrap_or_default())
    }

    fn object(&self, name: &str) -> Read<Option<Fields<'v>>> {
        self.with(name).map_or(Ok(None), |state| state.object(name))
    }

    fn text(&self, name: &str) -> Read<Option<&'v str>> {
        self.with(name).map_or(Ok(None), |state| state.text(name))
    }

    /// An error, of the kind that `error` makes, at the newest state that has the field.
    fn refuse(
        &self,
        name: &str,
        error: impl FnOnce(&Fields<'v>, &str, &'static str) -> UsageError,
        description: &'static str,
    ) -> UsageError {
        let state = self.with(name).or_else(|| self.0.last());
        state.map_or_else(
            || refused("", description),
            |state| error(state, name, description),
        )
    }
}

/// Reads a usage object. `model`: whose iterations count; empty for the answer's own counts.
pub(super) fn read(usage: Fields<'_>, model: &str) -> Read<NormalisedUsage> {
    read_states(&States(vec![usage]), model)
}

/// True for the events of a stream of messages.
pub(super) fn are_events(events: &[Value<'_>]) -> bool {
    let is_start =
        |event: &Fields<'_>| matches!(event.text("type"), Ok(Some("message_start" | "message_delta")));
    Fields::items(events, "").is_ok_and(|events| events.iter().any(is_start))
}

/// Reads the events of a stream: those that have usage, or usage objects themselves.
pub(super) fn read_events(events: &[Value<'_>], model: &str) -> Read<NormalisedUsage> {
    let mut states = Vec::new();
    for event in Fields::items(events, "")? {
        let message = event.object("message")?;
        let holder = message.as_ref().unwrap_or(&event);
        match holder.object("usage")? {
            Some(usage) => states.push(usage),
            None if !event.has("type") => states.push(event),
            // Other events of the stream say nothing of usage.
            None => {}
        }
    }
    if states.is_empty() {
        return Err(refused("", "no event has usage"));
    }
    read_states(&States(states), model)
}

fn read_states(usage: &States<'_>, model: &str) -> Read<NormalisedUsage> {
    let mut normalised = NormalisedUsage::new();
    if model.is_empty() {
        add_own(usage, &mut normalised)?;
    } else {
        add_iterations_of(usage, model, &mut normalised)?;
    }
    if let Some(tier) = usage.text("service_tier")? {
        tier.clone_into(&mut normalised.tier);
    }
    if let Some(speed) = usage.text("speed")? {
        speed.clone_into(&mut normalised.speed);
    }
    // Models from before regions could be chosen say "not_available".
    if let Some(region) = usage.text("inference_geo")?.filter(|geo| *geo != "not_available") {
        region.clone_into(&mut normalised.region);
    }
    Ok(normalised)
}

/// Adds what the answer's own model is billed for.
fn add_own(usage: &States<'_>, normalised: &mut NormalisedUsage) -> Read<()> {
    for name in ["input_tokens", "output_tokens"] {
        if usage.count(name)?.is_none() {
            return Err(usage.refuse(name, Fields::refuse, "required"));
        }
    }
    add_counts(usage, normalised)?;
    if let Some(tools) = usage.object("server_tool_use")? {
        normalised.add("web_searches", tools.count_or_zero("web_search_requests")?);
    }
    for iteration in iterations(usage)? {
        match iteration.text("type")? {
            // The only ones that the counts above leave out.
            Some("compaction") => add_counts(&States(vec![iteration]), normalised)?,
            Some("message") | None => {}
            Some(_) => normalised.flag(flag::OTHER_MODEL),
        }
    }
    Ok(())
}

/// Adds the iterations that name a model of their own, where it is this one: an advisor, or a fallback.
fn add_iterations_of(usage: &States<'_>, model: &str, normalised: &mut NormalisedUsage) -> Read<()> {
    let mut is_found = false;
    for iteration in iterations(usage)? {
        let is_other = !matches!(iteration.text("type")?, Some("message" | "compaction") | None);
        if is_other && iteration.text("model")? == Some(model) {
            is_found = true;
            add_counts(&States(vec![iteration]), normalised)?;
        }
    }
    if is_found {
        Ok(())
    } else {
        Err(UsageError::iteration_model(
            "no iteration of the answer is this model's",
        ))
    }
}

fn iterations<'v>(usage: &States<'v>) -> Read<Vec<Fields<'v>>> {
    usage
        .with("iterations")
        .map_or_else(|| Ok(Vec::new()), |state| state.list("iterations"))
}

fn add_counts(usage: &States<'_>, normalised: &mut NormalisedUsage) -> Read<()> {
    normalised.add("input", usage.count_or_zero("input_tokens")?);
    normalised.add("cache_read", usage.count_or_zero("cache_read_input_tokens")?);
    add_cache_writes(usage, normalised)?;
    let output = usage.count_or_zero("output_tokens")?;
    let details = usage.object("output_tokens_details")?;
    let thinking = match &details {
        Some(details) => details.count_or_zero("thinking_tokens")?,
        None => 0,
    };
    if let Some(details) = details.filter(|_| thinking > output) {
        return Err(details.contradict("thinking_tokens", "more than the output that it is part of"));
    }
    normalised.add("output", output.saturating_sub(thinking));
    normalised.add("reasoning", thinking);
    Ok(())
}

fn add_cache_writes(usage: &States<'_>, normalised: &mut NormalisedUsage) -> Read<()> {
    let sum = usage.count("cache_creation_input_tokens")?;
    let names = ["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"];
    let parts = usage.object("cache_creation")?;
    let Some(parts) = parts.filter(|parts| parts.name_of(&names).is_some()) else {
        normalised.add("cache_write", sum.unwrap_or_default());
        return Ok(());
    };
    let (written, written_1h) = (parts.count_or_zero(names[0])?, parts.count_or_zero(names[1])?);
    let of_parts = written.saturating_add(written_1h);
    let rest = sum.unwrap_or(of_parts).saturating_sub(of_parts);
    if rest < 0 {
        let description = "adds up to more than cache_creation_input_tokens";
        return Err(usage.refuse("cache_creation", Fields::contradict, description));
    }
    if rest > 0 {
        // A stream's sum may be newer than its parts, too.
        normalised.flag(flag::CACHE_WRITES_INCOMPLETE);
    }
    normalised.add("cache_write", written.saturating_add(rest));
    normalised.add("cache_write_1h", written_1h);
    Ok(())
}
