// SPDX-License-Identifier: Apache-2.0
//! Amounts: integers of 1e-12 currency units ("picos"), and the only two places where one is rounded.

/// Decimals of the smallest amount.
pub(crate) const PICO_DECIMALS: usize = 12;

const PICOS_PER_UNIT: u64 = 1_000_000_000_000;

/// Cost of `quantity` units at `amount_picos` per `per` units, rounded half to even.
///
/// The product of two `i64` fits an `i128`, so one division and one rounding are all that happens to a line.
/// `None` when an argument is negative, `per` is zero, or the cost exceeds `i64`.
#[must_use]
pub fn line_cost_picos(quantity: i64, amount_picos: i64, per: i64) -> Option<i64> {
    let quantity = u128::try_from(quantity).ok()?;
    let amount = u128::try_from(amount_picos).ok()?;
    let divisor = u128::try_from(per).ok()?;
    let product = quantity.checked_mul(amount)?;
    let quotient = product.checked_div(divisor)?;
    let remainder = product.checked_rem(divisor)?;
    let above_half = remainder.checked_mul(2)?.cmp(&divisor);
    let cost = if above_half.is_gt() || (above_half.is_eq() && quotient & 1 == 1) {
        quotient.checked_add(1)?
    } else {
        quotient
    };
    i64::try_from(cost).ok()
}

/// The price changed to `factor` ten-thousandths, exactly: the new amount and per.
///
/// `per` grows only where the amount would not be whole otherwise. `None` when an argument is negative, or the price in
/// lowest terms does not fit.
pub(crate) fn marked_up(amount_picos: i64, per: i64, factor: i64) -> Option<(i64, i64)> {
    let amount = u128::try_from(amount_picos)
        .ok()?
        .checked_mul(u128::try_from(factor).ok()?)?;
    let per = u128::try_from(per).ok()?;
    let shared = greatest_common_divisor(amount, FACTOR_UNIT);
    let scaled = (
        amount.checked_div(shared)?,
        per.checked_mul(FACTOR_UNIT.checked_div(shared)?)?,
    );
    let fits = |(amount, per): (u128, u128)| Some((i64::try_from(amount).ok()?, i64::try_from(per).ok()?));
    fits(scaled).or_else(|| {
        let shared = greatest_common_divisor(scaled.0, scaled.1);
        fits((scaled.0.checked_div(shared)?, scaled.1.checked_div(shared)?))
    })
}

/// Factors are in parts of this.
const FACTOR_UNIT: u128 = 10_000;

/// At least 1 unless both are 0.
fn greatest_common_divisor(left: u128, right: u128) -> u128 {
    let (mut left, mut right) = (left, right);
    while let Some(remainder) = left.checked_rem(right) {
        (left, right) = (right, remainder);
    }
    left
}

/// The amount as a decimal of currency units without superfluous zeros, such as `0.3`.
#[must_use]
pub fn decimal_string(amount_picos: i64) -> String {
    let magnitude = amount_picos.unsigned_abs();
    let units = magnitude.div_euclid(PICOS_PER_UNIT);
    let picos = magnitude.rem_euclid(PICOS_PER_UNIT);
    let mut text = if amount_picos < 0 {
        format!("-{units}")
    } else {
        units.to_string()
    };
    if picos == 0 {
        return text;
    }
    text.push('.');
    let (mut rest, mut unit) = (picos, PICOS_PER_UNIT);
    while rest > 0 {
        unit = unit.div_euclid(10);
        let digit = u32::try_from(rest.div_euclid(unit)).ok();
        text.extend(digit.and_then(|digit| char::from_digit(digit, 10)));
        rest = rest.rem_euclid(unit);
    }
    text
}

/// A non-negative decimal of plain digits, exact: `digits` without leading zeros, `scale` of them decimals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: Vec<u8>,
    scale: usize,
}

/// Longest decimal accepted: 20 digits and a point, with room for a leading zero.
const DECIMAL_LENGTH_MAX: usize = 24;

impl Decimal {
    /// Reads `3`, `0.5`: no sign, no exponent, at most 12 decimals.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > DECIMAL_LENGTH_MAX {
            return None;
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits_only(whole) || !digits_only(fraction) || fraction.len() > PICO_DECIMALS {
            return None;
        }
        let digits = whole
            .bytes()
            .chain(fraction.bytes())
            .filter_map(|byte| byte.checked_sub(b'0'));
        Some(Self {
            digits: digits.collect(),
            scale: fraction.len(),
        })
    }

    /// The amount in picos; `None` beyond `i64`.
    pub(crate) fn amount_picos(&self) -> Option<i64> {
        round_to_picos(&self.digits, self.scale)
    }

    /// Whether the value is above one.
    pub(crate) fn exceeds_one(&self) -> bool {
        self.amount_picos()
            .is_none_or(|picos| picos.unsigned_abs() > PICOS_PER_UNIT)
    }
}

/// Product of an amount and multipliers, rounded half to even once, to whole picos; `None` beyond `i64`.
///
/// Exact until that one rounding, so neither the order of overlays nor their number adds error.
pub(crate) fn multiplied_amount_picos<'a>(
    amount_picos: i64,
    multipliers: impl IntoIterator<Item = &'a Decimal>,
) -> Option<i64> {
    let (digits, scale) = product(amount_picos, multipliers)?;
    round_to_picos(&digits, scale)
}

/// Whether the product of an amount and multipliers is whole picos; true also beyond any range.
pub(crate) fn is_exact_product<'a>(
    amount_picos: i64,
    multipliers: impl IntoIterator<Item = &'a Decimal>,
) -> bool {
    let Some((digits, scale)) = product(amount_picos, multipliers) else {
        return true;
    };
    let dropped = scale.saturating_sub(PICO_DECIMALS);
    digits.iter().rev().take(dropped).all(|digit| *digit == 0)
}

/// The exact product of an amount and multipliers: digits, and how many of them are decimals.
fn product<'a>(
    amount_picos: i64,
    multipliers: impl IntoIterator<Item = &'a Decimal>,
) -> Option<(Vec<u8>, usize)> {
    let mut digits: Vec<u8> = u64::try_from(amount_picos)
        .ok()?
        .to_string()
        .bytes()
        .filter_map(|byte| byte.checked_sub(b'0'))
        .collect();
    let mut scale = PICO_DECIMALS;
    for multiplier in multipliers {
        digits = multiply_digits(&digits, &multiplier.digits)?;
        scale = scale.checked_add(multiplier.scale)?;
    }
    Some((digits, scale))
}

/// Schoolbook product of two decimal digit strings, most significant digit first. Only compiling a card needs it.
fn multiply_digits(left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
    let mut columns = vec![0_u32; left.len().checked_add(right.len())?];
    for (left_place, left_digit) in left.iter().rev().enumerate() {
        let mut carry = 0_u32;
        let tail = columns.get_mut(left_place..)?;
        for (column, right_digit) in tail
            .iter_mut()
            .zip(right.iter().rev().chain(std::iter::repeat(&0)))
        {
            let sum = u32::from(*left_digit)
                .checked_mul(u32::from(*right_digit))?
                .checked_add(*column)?
                .checked_add(carry)?;
            *column = sum.rem_euclid(10);
            carry = sum.div_euclid(10);
        }
    }
    let significant = columns
        .iter()
        .rposition(|digit| *digit != 0)
        .map_or(1, |place| place.saturating_add(1));
    columns.truncate(significant);
    columns
        .into_iter()
        .rev()
        .map(|digit| u8::try_from(digit).ok())
        .collect()
}

/// The digits with `scale` decimals as whole picos, half to even.
fn round_to_picos(digits: &[u8], scale: usize) -> Option<i64> {
    let dropped = scale.saturating_sub(PICO_DECIMALS);
    let appended = PICO_DECIMALS.saturating_sub(scale);
    let kept_length = digits.len().saturating_sub(dropped);
    let kept = digits.get(..kept_length)?;
    let picos = kept
        .iter()
        .chain(std::iter::repeat_n(&0, appended))
        .try_fold(0_i64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(i64::from(*digit))
        })?;
    if rounds_up(digits.get(kept_length..)?, dropped, picos) {
        picos.checked_add(1)
    } else {
        Some(picos)
    }
}

/// Whether the dropped digits, `count` places of which leading zeros may be missing, are above half or make a tie odd.
fn rounds_up(dropped: &[u8], count: usize, picos: i64) -> bool {
    let Some((first, rest)) = dropped.split_first() else {
        return false;
    };
    if dropped.len() < count || *first < 5 {
        return false;
    }
    *first > 5 || rest.iter().any(|digit| *digit != 0) || picos & 1 == 1
}
