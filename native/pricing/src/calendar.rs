// SPDX-License-Identifier: Apache-2.0
//! UTC instants of a card: dates as seconds since 1970, times of day and days as minutes of the week.

const SECONDS_PER_DAY: i64 = 86_400;
pub(crate) const MINUTES_PER_DAY: u16 = 1_440;
pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Whole seconds since 1970, rounded down: an instant is before a whole second exactly when its floor is.
pub(crate) fn epoch_second(time_nanos: i64) -> i64 {
    time_nanos.div_euclid(1_000_000_000)
}

/// Day of the week, Monday 0, and minute of the day.
pub(crate) fn day_and_minute(epoch_second: i64) -> (u8, u16) {
    // 1970-01-01 was a Thursday.
    let day = epoch_second
        .div_euclid(SECONDS_PER_DAY)
        .saturating_add(3)
        .rem_euclid(7);
    let minute = epoch_second.rem_euclid(SECONDS_PER_DAY).div_euclid(60);
    (u8::try_from(day).unwrap_or(0), u16::try_from(minute).unwrap_or(0))
}

/// Reads `2026-03-13T00:00:00Z` into seconds since 1970.
pub(crate) fn parse_instant(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (year, month_day) = date.split_once('-')?;
    let (month, day) = month_day.split_once('-')?;
    let (hour, minute_second) = time.split_once(':')?;
    let (minute, second) = minute_second.split_once(':')?;
    let days = days_since_epoch(
        number(year, 4, 1..=9999)?,
        number(month, 2, 1..=12)?,
        number(day, 2, 1..=31)?,
    )?;
    let minutes = number(hour, 2, 0..=23)?
        .checked_mul(60)?
        .checked_add(number(minute, 2, 0..=59)?)?;
    let seconds = minutes.checked_mul(60)?.checked_add(number(second, 2, 0..=59)?)?;
    days.checked_mul(SECONDS_PER_DAY)?.checked_add(seconds)
}

/// Reads `HH:MM-HH:MM` into minutes of the day, start before end.
pub(crate) fn parse_window(text: &str) -> Option<(u16, u16)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (minute_of_day(start)?, minute_of_day(end)?);
    (start < end).then_some((start, end))
}

fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let minutes = number(hour, 2, 0..=24)?
        .checked_mul(60)?
        .checked_add(number(minute, 2, 0..=59)?)?;
    u16::try_from(minutes)
        .ok()
        .filter(|minutes| *minutes <= MINUTES_PER_DAY)
}

fn number(text: &str, width: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let plain = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| plain && range.contains(value))
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; `None` for a day that its month lacks.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let month_lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month_position = usize::try_from(month.checked_sub(1)?).ok()?;
    if day > *month_lengths.get(month_position)? {
        return None;
    }
    let full_years = year.checked_sub(1)?;
    let leap_days = full_years
        .div_euclid(4)
        .checked_sub(full_years.div_euclid(100))?
        .checked_add(full_years.div_euclid(400))?;
    let days_before_year = full_years.checked_mul(365)?.checked_add(leap_days)?;
    let days_before_month: i64 = month_lengths.iter().take(month_position).sum();
    let day_from_year_one = days_before_year
        .checked_add(days_before_month)?
        .checked_add(day.checked_sub(1)?)?;
    // 0001-01-01 is 719,162 days before 1970-01-01.
    day_from_year_one.checked_sub(719_162)
}
