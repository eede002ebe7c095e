// SPDX-License-Identifier: Apache-2.0
//! What a call used, in classes, whichever way the caller said it.

use std::fmt::Display;

use taximeter_pricing::{NormalisedUsage, normalise};

use crate::proto::taximeter::v1::{ProviderUsage, Usage};
use crate::secret_text::holds_secret;
use crate::validate::{Classes, Problems, usage_classes};

/// What a call used.
#[derive(Default)]
pub(crate) struct Used<'a> {
    /// Without zeros.
    pub(crate) classes: Classes<'a>,
    /// Calls summed up, at least 1.
    pub(crate) calls: i64,
    /// What its provider reported, where it was sent so; the classes are those of it.
    pub(crate) reported: Option<(&'a ProviderUsage, NormalisedUsage)>,
}

impl<'a> Used<'a> {
    /// Usage that was sent in classes. `path` is its place in the request.
    pub(crate) fn of_classes(usage: &'a Usage, path: impl Display + Copy, problems: &mut Problems) -> Self {
        Self {
            classes: usage_classes(usage, path, problems),
            calls: usage.calls.max(1),
            reported: None,
        }
    }

    /// Usage that was sent as a provider reported it. `path` is its place in the request.
    pub(crate) fn of_reported(
        usage: &'a ProviderUsage,
        path: impl Display + Copy,
        problems: &mut Problems,
    ) -> Self {
        let fields = [
            ("provider", &usage.provider),
            ("api", &usage.api),
            ("usage_json", &usage.usage_json),
        ];
        let missing: Vec<_> = fields.iter().filter(|(_, text)| text.is_empty()).collect();
        for (name, _) in &missing {
            problems.required(format!("{path}.{name}"));
        }
        if !missing.is_empty() {
            return Self::default();
        }
        if holds_secret(&usage.usage_json) {
            problems.secret(format!("{path}.usage_json"), "no credential belongs here");
        }
        match normalise(
            &usage.provider,
            &usage.api,
            &usage.usage_json,
            &usage.iteration_model,
        ) {
            Ok(normalised) => Self {
                classes: normalised.classes.clone(),
                calls: normalised.calls,
                reported: Some((usage, normalised)),
            },
            Err(error) => {
                let field = format!("{path}.{}", error.field);
                if error.is_contradiction {
                    problems.inconsistent(field, error.description);
                } else {
                    problems.invalid(field, error.description);
                }
                Self::default()
            }
        }
    }

    /// The same in the fields of a message.
    pub(crate) fn to_usage(&self) -> Usage {
        let mut usage = Usage {
            calls: self.calls,
            ..Usage::default()
        };
        for (class, count) in &self.classes {
            let field = match *class {
                "input" => &mut usage.uncached_input_tokens,
                "cache_read" => &mut usage.cache_read_tokens,
                "cache_write" => &mut usage.cache_write_tokens,
                "cache_write_1h" => &mut usage.cache_write_1h_tokens,
                "output" => &mut usage.visible_output_tokens,
                "reasoning" => &mut usage.reasoning_tokens,
                "tool_calls" => &mut usage.tool_calls,
                "sandbox_ms" => &mut usage.sandbox_ms,
                "storage_byte_hours" => &mut usage.storage_byte_hours,
                other => usage.other.entry(other.to_owned()).or_default(),
            };
            *field = *count;
        }
        usage
    }

    /// Puts what was served in the place of what was asked for: the answer decides, not the request.
    pub(crate) fn replace_asked(&self, provider: &mut String, asked: [&mut String; 3]) {
        let Some((reported, normalised)) = &self.reported else {
            return;
        };
        if provider.is_empty() {
            provider.clone_from(&reported.provider);
        }
        let served = [&normalised.tier, &normalised.region, &normalised.speed];
        for (field, served) in asked.into_iter().zip(served) {
            if !served.is_empty() {
                field.clone_from(served);
            }
        }
    }
}
