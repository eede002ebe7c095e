// SPDX-License-Identifier: Apache-2.0
//! Rounding of lines and printing of amounts.

use taximeter_pricing::{decimal_string, line_cost_picos};

/// A cost that falls on half a pico goes to the even neighbour.
#[test]
fn halves_round_to_even() {
    assert_eq!(Some(1_812), line_cost_picos(1, 1_812_500_000, 1_000_000));
    assert_eq!(Some(5_438), line_cost_picos(3, 1_812_500_000, 1_000_000));
    assert_eq!(Some(2), line_cost_picos(5, 1, 2));
    assert_eq!(Some(4), line_cost_picos(7, 1, 2));
}

/// Anything above half goes up, anything below goes down.
#[test]
fn the_rest_rounds_to_the_nearest() {
    assert_eq!(
        Some(1_893_166_667),
        line_cost_picos(61_400, 111_000_000_000, 3_600_000)
    );
    assert_eq!(
        Some(308_333_333),
        line_cost_picos(10_000, 111_000_000_000, 3_600_000)
    );
    assert_eq!(Some(1), line_cost_picos(2, 1, 3));
    assert_eq!(Some(0), line_cost_picos(1, 1, 3));
}

/// The largest factors do not overflow on the way, and a cost beyond 64 bits is refused.
#[test]
fn the_range_is_exactly_that_of_i64() {
    assert_eq!(Some(i64::MAX), line_cost_picos(i64::MAX, i64::MAX, i64::MAX));
    assert_eq!(Some(i64::MAX), line_cost_picos(i64::MAX, 1, 1));
    assert_eq!(None, line_cost_picos(i64::MAX, 2, 1));
    assert_eq!(
        None,
        line_cost_picos(20_000_000_000, 600_000_000_000_000, 1_000_000)
    );
    assert_eq!(
        Some(6_000_000_000_000_000_000),
        line_cost_picos(10_000_000_000, 600_000_000_000_000, 1_000_000)
    );
}

/// Negative arguments and a unit of nothing have no cost.
#[test]
fn senseless_arguments_are_refused() {
    assert_eq!(None, line_cost_picos(-1, 1, 1));
    assert_eq!(None, line_cost_picos(1, -1, 1));
    assert_eq!(None, line_cost_picos(1, 1, 0));
    assert_eq!(None, line_cost_picos(1, 1, -1));
}

/// Amounts print exactly and without superfluous zeros.
#[test]
fn amounts_print_as_decimals() {
    assert_eq!("0", decimal_string(0));
    assert_eq!("3", decimal_string(3_000_000_000_000));
    assert_eq!("0.3", decimal_string(300_000_000_000));
    assert_eq!("0.000000000001", decimal_string(1));
    assert_eq!("-0.5", decimal_string(-500_000_000_000));
    assert_eq!("9223372.036854775807", decimal_string(i64::MAX));
    assert_eq!("-9223372.036854775808", decimal_string(i64::MIN));
}
