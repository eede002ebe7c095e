// SPDX-License-Identifier: Apache-2.0
//! Which tenant makes a call, and how many tokens it takes: the same for the same number, in every run.

use crate::Outcome;

const ZIPF_SCALE: u64 = 1_000_000_000;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Tokens of one call.
#[derive(Clone, Copy)]
pub(crate) struct Tokens {
    pub(crate) input: i64,
    pub(crate) cached: i64,
    pub(crate) output: i64,
}

/// Calls whose size nobody has told.
const TYPICAL: Tokens = Tokens {
    input: 1_469,
    cached: 512,
    output: 193,
};

/// Tenants in turn, or by Zipf's law: the second has half the calls of the first, the third a third.
pub(crate) struct Workload {
    tenants: u64,
    /// Weights of all tenants up to each one; empty for tenants in turn.
    weights: Vec<u64>,
    sizes: Vec<Tokens>,
}

impl Workload {
    /// `sizes`: lines of "input cached output", in tokens; empty for calls that are all alike.
    pub(crate) fn new(tenants: u64, is_skewed: bool, sizes: &str) -> Outcome<Self> {
        let mut total = 0_u64;
        let weights = (1..=tenants)
            .filter(|_| is_skewed)
            .map(|rank| {
                total = total.saturating_add(ZIPF_SCALE.checked_div(rank).unwrap_or_default());
                total
            })
            .collect();
        let sizes = sizes.lines().map(tokens).collect::<Outcome<Vec<_>>>()?;
        Ok(Self {
            tenants,
            weights,
            sizes,
        })
    }

    /// Number of the tenant that makes a call.
    pub(crate) fn tenant(&self, call: u64) -> u64 {
        let Some(total) = self.weights.last() else {
            return call.checked_rem(self.tenants).unwrap_or_default();
        };
        let drawn = scattered(call).checked_rem(*total).unwrap_or_default();
        u64::try_from(self.weights.partition_point(|weight| *weight <= drawn)).unwrap_or_default()
    }

    /// What a call takes.
    pub(crate) fn tokens(&self, call: u64) -> Tokens {
        let count = u64::try_from(self.sizes.len()).unwrap_or_default();
        let drawn = scattered(call.wrapping_add(GOLDEN)).checked_rem(count);
        drawn
            .and_then(|index| self.sizes.get(usize::try_from(index).ok()?))
            .copied()
            .unwrap_or(TYPICAL)
    }
}

fn tokens(line: &str) -> Outcome<Tokens> {
    let numbers = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<i64>, _>>()?;
    let [input, cached, output] = numbers[..] else {
        return Err(format!("{line:?}: not three numbers of tokens").into());
    };
    Ok(Tokens {
        input,
        cached,
        output,
    })
}

/// `SplitMix64`: neighbours come out far apart.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(GOLDEN).wrapping_add(GOLDEN);
    mixed = (mixed ^ mixed.wrapping_shr(30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed.wrapping_shr(27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed.wrapping_shr(31)
}
