// SPDX-License-Identifier: Apache-2.0
//! The combinations of circumstances that a row's overlays tell apart, numbered.

use std::collections::{BTreeSet, HashMap};

use crate::calendar::MINUTES_PER_DAY;
use crate::overlay::{Circumstances, Conditions, Overlay};

/// What a row's overlays tell apart: each axis has one place more than values, for all that is not mentioned.
#[derive(Debug)]
pub(crate) struct Axes {
    tiers: Vec<String>,
    regions: Vec<String>,
    speeds: Vec<String>,
    /// Smallest prompts, ascending.
    context_floors: Vec<i64>,
    /// Instants at which something begins or ends, ascending.
    second_floors: Vec<i64>,
    /// Parts of the week that all overlays treat alike.
    week: WeekAxis,
}

impl Axes {
    pub(crate) fn new(overlays: &[Overlay]) -> Self {
        let conditions: Vec<&Conditions> = overlays.iter().map(|overlay| &overlay.conditions).collect();
        let dates = |conditions: &&Conditions| [conditions.from_second, conditions.until_second];
        Self {
            tiers: distinct(conditions.iter().flat_map(|conditions| conditions.tiers.clone())),
            regions: distinct(
                conditions
                    .iter()
                    .flat_map(|conditions| conditions.regions.clone()),
            ),
            speeds: distinct(conditions.iter().flat_map(|conditions| conditions.speeds.clone())),
            context_floors: distinct(
                conditions
                    .iter()
                    .filter_map(|conditions| conditions.context_from_tokens),
            ),
            second_floors: distinct(conditions.iter().flat_map(dates).flatten()),
            week: WeekAxis::new(&conditions),
        }
    }

    fn lengths(&self) -> [usize; 6] {
        let named = [self.tiers.len(), self.regions.len(), self.speeds.len()];
        let [tiers, regions, speeds] = named.map(|length| length.saturating_add(1));
        let floors = [self.context_floors.len(), self.second_floors.len()];
        let [contexts, seconds] = floors.map(|length| length.saturating_add(1));
        [
            tiers,
            regions,
            speeds,
            contexts,
            seconds,
            self.week.examples.len(),
        ]
    }

    /// `None` when there are more than can be counted.
    pub(crate) fn cell_count(&self) -> Option<usize> {
        self.lengths().into_iter().try_fold(1_usize, usize::checked_mul)
    }

    /// The cell of the circumstances.
    pub(crate) fn cell(&self, now: &Circumstances<'_>) -> Option<usize> {
        let places = [
            place(&self.tiers, now.tier),
            place(&self.regions, now.region),
            place(&self.speeds, now.speed),
            // Without a known prompt no context condition holds: the place below the first floor.
            now.prompt_tokens.map_or(0, |tokens| {
                self.context_floors.partition_point(|floor| *floor <= tokens)
            }),
            self.second_floors
                .partition_point(|floor| *floor <= now.epoch_second),
            self.week.place(now.day, now.minute_of_day),
        ];
        places
            .into_iter()
            .zip(self.lengths())
            .try_fold(0_usize, |cell, (place, length)| {
                cell.checked_mul(length)?.checked_add(place)
            })
    }

    /// Circumstances that belong to a cell.
    pub(crate) fn example(&self, cell: usize) -> Circumstances<'_> {
        let mut rest = cell;
        let mut places = [0_usize; 6];
        for (place, length) in places.iter_mut().zip(self.lengths()).rev() {
            *place = rest.checked_rem(length).unwrap_or(0);
            rest = rest.checked_div(length).unwrap_or(0);
        }
        let [tier, region, speed, context, second, week] = places;
        let (day, minute_of_day) = self.week.examples.get(week).copied().unwrap_or((0, 0));
        Circumstances {
            tier: named(&self.tiers, tier),
            region: named(&self.regions, region),
            speed: named(&self.speeds, speed),
            prompt_tokens: context
                .checked_sub(1)
                .and_then(|floor| self.context_floors.get(floor))
                .copied(),
            epoch_second: match second.checked_sub(1) {
                None => i64::MIN,
                Some(floor) => self.second_floors.get(floor).copied().unwrap_or(i64::MAX),
            },
            day,
            minute_of_day,
        }
    }
}

/// 0 for a value that is not mentioned, otherwise its position plus one.
fn place(values: &[String], value: &str) -> usize {
    values
        .binary_search_by(|known| known.as_str().cmp(value))
        .map_or(0, |position| position.saturating_add(1))
}

/// No condition mentions the empty string, so it can stand for every value that is not mentioned.
fn named(values: &[String], place: usize) -> &str {
    place
        .checked_sub(1)
        .and_then(|position| values.get(position))
        .map_or("", String::as_str)
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

/// Bands of the week, and which of them are treated alike.
#[derive(Debug)]
struct WeekAxis {
    /// Minutes of the week at which bands begin, ascending.
    floors: Vec<u16>,
    /// Place on the axis of the band that begins at the same position of `floors`.
    places: Vec<usize>,
    /// A day and minute of the day for each place.
    examples: Vec<(u8, u16)>,
}

impl WeekAxis {
    fn new(conditions: &[&Conditions]) -> Self {
        let mut minutes = BTreeSet::from([0]);
        minutes.extend(
            conditions
                .iter()
                .flat_map(|conditions| &conditions.windows)
                .flat_map(|(start, end)| [*start, *end]),
        );
        let timed = conditions
            .iter()
            .any(|conditions| !conditions.days.is_empty() || !conditions.windows.is_empty());
        let mut axis = Self {
            floors: Vec::new(),
            places: Vec::new(),
            examples: Vec::new(),
        };
        let mut known: HashMap<Vec<bool>, usize> = HashMap::new();
        for day in 0..if timed { 7 } else { 1 } {
            for minute in minutes.range(..MINUTES_PER_DAY) {
                let holds = conditions
                    .iter()
                    .map(|conditions| conditions.week_holds(day, *minute))
                    .collect();
                let next_place = axis.examples.len();
                let place = *known.entry(holds).or_insert(next_place);
                if place == next_place {
                    axis.examples.push((day, *minute));
                }
                axis.floors.push(minute_of_week(day, *minute));
                axis.places.push(place);
            }
        }
        axis
    }

    fn place(&self, day: u8, minute_of_day: u16) -> usize {
        let now = minute_of_week(day, minute_of_day);
        let band = self
            .floors
            .partition_point(|floor| *floor <= now)
            .saturating_sub(1);
        self.places.get(band).copied().unwrap_or(0)
    }
}

fn minute_of_week(day: u8, minute_of_day: u16) -> u16 {
    u16::from(day)
        .saturating_mul(MINUTES_PER_DAY)
        .saturating_add(minute_of_day)
}
