// SPDX-License-Identifier: Apache-2.0
//! Overlays: under which circumstances an entry of `when` applies, and what it does to a row's prices.

use crate::calendar::{self, DAYS};
use crate::card_format::WhenDocument;
use crate::money::Decimal;
use crate::price::{PriceList, parse_prices};
use crate::usage_class::{ClassIndex, ClassTable};

/// What conditions look at. `prompt_tokens` is `None` for a record of several calls: their contexts are unknown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) tier: &'a str,
    pub(crate) region: &'a str,
    pub(crate) speed: &'a str,
    pub(crate) prompt_tokens: Option<i64>,
    pub(crate) epoch_second: i64,
    /// Monday 0.
    pub(crate) day: u8,
    pub(crate) minute_of_day: u16,
}

/// Conditions that must all hold; an empty list or `None` always does.
#[derive(Debug)]
pub(crate) struct Conditions {
    pub(crate) tiers: Vec<String>,
    pub(crate) regions: Vec<String>,
    pub(crate) speeds: Vec<String>,
    pub(crate) context_from_tokens: Option<i64>,
    pub(crate) from_second: Option<i64>,
    pub(crate) until_second: Option<i64>,
    pub(crate) days: Vec<u8>,
    /// Minutes of the day, half-open.
    pub(crate) windows: Vec<(u16, u16)>,
}

impl Conditions {
    fn compile(document: &WhenDocument) -> Option<Self> {
        let instant = |text: &Option<String>| match text {
            None => Some(None),
            Some(text) => calendar::parse_instant(text).map(Some),
        };
        let day = |name: &String| u8::try_from(DAYS.iter().position(|day| day == name)?).ok();
        let values = [&document.tier, &document.region, &document.speed];
        // The empty string stands for "not stated" in a call and matches no condition.
        let stated = values
            .iter()
            .all(|list| list.iter().all(|value| !value.is_empty()));
        let context_stated = document.context_from.is_none_or(|tokens| tokens >= 0);
        (stated && context_stated).then_some(())?;
        Some(Self {
            tiers: document.tier.clone(),
            regions: document.region.clone(),
            speeds: document.speed.clone(),
            context_from_tokens: document.context_from,
            from_second: instant(&document.from)?,
            until_second: instant(&document.until)?,
            days: document.days.iter().map(day).collect::<Option<_>>()?,
            windows: document
                .utc
                .iter()
                .map(|text| calendar::parse_window(text))
                .collect::<Option<_>>()?,
        })
    }

    pub(crate) fn hold(&self, now: &Circumstances<'_>) -> bool {
        any_of(&self.tiers, now.tier)
            && any_of(&self.regions, now.region)
            && any_of(&self.speeds, now.speed)
            && self.context_holds(now.prompt_tokens)
            && self.from_second.is_none_or(|from| now.epoch_second >= from)
            && self.until_second.is_none_or(|until| now.epoch_second < until)
            && self.week_holds(now.day, now.minute_of_day)
    }

    fn context_holds(&self, prompt_tokens: Option<i64>) -> bool {
        self.context_from_tokens
            .is_none_or(|from| prompt_tokens.is_some_and(|tokens| tokens >= from))
    }

    pub(crate) fn week_holds(&self, day: u8, minute_of_day: u16) -> bool {
        let within = |(start, end): &(u16, u16)| (*start..*end).contains(&minute_of_day);
        (self.days.is_empty() || self.days.contains(&day))
            && (self.windows.is_empty() || self.windows.iter().any(within))
    }
}

fn any_of(accepted: &[String], value: &str) -> bool {
    accepted.is_empty() || accepted.iter().any(|accepted| accepted == value)
}

/// A multiplier and the classes it is for; no classes means all token classes that the row prices.
#[derive(Debug)]
pub(crate) struct Multiplier {
    pub(crate) factor: Decimal,
    pub(crate) classes: Vec<ClassIndex>,
}

/// One entry of `when`.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) conditions: Conditions,
    pub(crate) prices: PriceList,
    pub(crate) multiplier: Option<Multiplier>,
}

impl Overlay {
    /// The error names what is wrong.
    pub(crate) fn compile(document: &WhenDocument, classes: &ClassTable) -> Result<Self, String> {
        let conditions = Conditions::compile(document).ok_or("a condition is not canonical")?;
        let factor = document.multiply.as_deref().map(Decimal::parse);
        let named = document
            .classes
            .iter()
            .map(|name| classes.find(name).ok_or_else(|| format!("unknown class {name}")));
        let named = named.collect::<Result<Vec<_>, _>>()?;
        let multiplier = match factor {
            None if named.is_empty() => None,
            Some(Some(factor)) => Some(Multiplier {
                factor,
                classes: named,
            }),
            _ => return Err("multiply: not a decimal".to_owned()),
        };
        Ok(Self {
            conditions,
            prices: parse_prices(&document.prices, classes)?,
            multiplier,
        })
    }
}
