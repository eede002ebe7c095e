// SPDX-License-Identifier: Apache-2.0
//! JSON numbers that are not integers, such as seconds, as integers of a smaller unit: by their digits, never floats.

/// Digits that are looked at; an `i128` holds any number of so many.
const DIGIT_COUNT_MAX: usize = 36;
const EXPONENT_MAX: i32 = 400;

/// A number in integers of 10^-decimals, rounded half to even, and whether nothing was rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) value: i64,
    pub(super) is_exact: bool,
}

/// Reads a JSON number that is not negative. `None` when it is, or does not fit.
pub(super) fn scaled(number: &str, decimals: i32) -> Option<Scaled> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(Scaled {
            value: 0,
            is_exact: true,
        });
    }
    if digits.len() > DIGIT_COUNT_MAX {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    if exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let shift = exponent
        .checked_sub(i32::try_from(fraction.len()).ok()?)?
        .checked_add(decimals)?;
    let value: u128 = digits.parse().ok()?;
    if let Ok(power) = u32::try_from(shift) {
        let value = value.checked_mul(10_u128.checked_pow(power)?)?;
        return Some(Scaled {
            value: i64::try_from(value).ok()?,
            is_exact: true,
        });
    }
    let Some(divisor) = 10_u128.checked_pow(shift.unsigned_abs()) else {
        // Fewer digits than places to shift: less than half of the smallest unit.
        return Some(Scaled {
            value: 0,
            is_exact: false,
        });
    };
    let (quotient, remainder) = (value.checked_div(divisor)?, value.checked_rem(divisor)?);
    let against_half = remainder.checked_mul(2)?.cmp(&divisor);
    let rounds_up = against_half.is_gt() || (against_half.is_eq() && quotient & 1 == 1);
    Some(Scaled {
        value: i64::try_from(quotient.checked_add(u128::from(rounds_up))?).ok()?,
        is_exact: remainder == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{Scaled, scaled};

    /// Seconds become milliseconds by their digits.
    #[test]
    fn decimals_are_scaled_exactly() {
        let milliseconds = |number| scaled(number, 3).map(|found| (found.value, found.is_exact));

        assert_eq!(Some((61_400, true)), milliseconds("61.4"));
        assert_eq!(Some((27_000, true)), milliseconds("27"));
        assert_eq!(Some((1_000, true)), milliseconds("1e0"));
        assert_eq!(Some((1_500_000, true)), milliseconds("1.5E3"));
        assert_eq!(Some((0, true)), milliseconds("0.000"));
        assert_eq!(Some((2, false)), milliseconds("0.0025"));
        assert_eq!(Some((4, false)), milliseconds("0.0035"));
        assert_eq!(Some((1, false)), milliseconds("0.00051"));
        assert_eq!(Some((0, false)), milliseconds("1e-300"));
    }

    /// What does not fit is not read.
    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(None, scaled("1e30", 3));
        assert_eq!(None, scaled("1e99999999999", 3));
        assert_eq!(None, scaled("9223372036854775808", 0));
        assert_eq!(
            Some(Scaled {
                value: i64::MAX,
                is_exact: true
            }),
            scaled("9223372036854775807", 0)
        );
        assert_eq!(None, scaled("-1", 0));
    }
}
