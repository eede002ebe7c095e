// SPDX-License-Identifier: Apache-2.0
//! Exact amounts: an integer of pico-units, never a float.

use std::fmt;

use crate::v1;

const PICOS_PER_UNIT: u128 = 1_000_000_000_000;
const FRACTION_DIGITS: usize = 12;
const FRACTION_DIGITS_MIN: usize = 2;
/// 10^26 units still fit, as picos, into 128 bits.
const UNIT_DIGITS_MAX: usize = 26;

/// An exact amount of one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Money {
    /// ISO 4217 code in capitals, such as "USD". Empty where the server knows no currency yet.
    pub currency_code: String,
    /// The whole amount in pico-units, 10^-12 of the currency.
    pub picos: i128,
}

impl From<&v1::Money> for Money {
    fn from(message: &v1::Money) -> Self {
        Self {
            currency_code: message.currency_code.clone(),
            picos: i128::from(message.units) * 1_000_000_000_000 + i128::from(message.picos),
        }
    }
}

impl fmt::Display for Money {
    /// Writes the amount with at least two digits after the point, such as "12.50 USD".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.picos.unsigned_abs();
        let digits = format!("{:012}", size % PICOS_PER_UNIT);
        let kept = digits.trim_end_matches('0').len().max(FRACTION_DIGITS_MIN);
        let sign = if self.picos < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{}", size / PICOS_PER_UNIT, &digits[..kept])?;
        if self.currency_code.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.currency_code)
    }
}

/// A text that is no amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmountError(String);

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an amount: plain digits such as 12.50, at most 12 after the point",
            self.0
        )
    }
}

impl std::error::Error for AmountError {}

/// Reads an amount such as "12.50" exactly into pico-units.
///
/// # Errors
///
/// For anything but plain digits with an optional sign, at most 26 before the point and 12 after it.
pub fn parse_picos(text: &str) -> Result<i128, AmountError> {
    let bad = || AmountError(text.to_owned());
    let (sign, plain) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (units, fraction) = plain.split_once('.').unwrap_or((plain, "0"));
    let is_digits = |part: &str, max: usize| {
        (1..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_digits(units, UNIT_DIGITS_MAX) || !is_digits(fraction, FRACTION_DIGITS) {
        return Err(bad());
    }
    let picos: i128 = format!("{units}{fraction:0<12}").parse().map_err(|_| bad())?;
    Ok(sign * picos)
}
