// SPDX-License-Identifier: Apache-2.0
//! What is printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use crate::Outcome;
use crate::http2::Failure;
use crate::options::Options;

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Ok,
    Denied,
    Failed,
}

/// One call.
pub(crate) struct Sample {
    pub(crate) latency: Duration,
    pub(crate) status: Status,
}

/// What came of calls.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) samples: Vec<Sample>,
    /// By reason: how many, and what the server said about the first.
    failures: BTreeMap<String, (u64, String)>,
}

impl Results {
    pub(crate) fn add_failure(&mut self, failure: Failure) {
        let (count, _) = self.failures.entry(failure.reason).or_insert((0, failure.detail));
        *count = count.saturating_add(1);
    }

    /// A line for each reason.
    pub(crate) fn failures(&self) -> String {
        let line = |(reason, (count, detail)): (&String, &(u64, String))| {
            let colon = if detail.is_empty() { "" } else { ": " };
            format!("{count} calls failed: {reason}{colon}{detail}")
        };
        self.failures.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Those of several threads together.
    pub(crate) fn of_all(threads: Vec<Self>) -> Self {
        let mut all = Self::default();
        for thread in threads {
            all.samples.extend(thread.samples);
            for (reason, (more, detail)) in thread.failures {
                let (count, _) = all.failures.entry(reason).or_insert((0, detail));
                *count = count.saturating_add(more);
            }
        }
        all
    }
}

/// Prints counts and latencies as JSON; latencies in microseconds. The histogram has pairs of a power of two, and how
/// many calls took at most that long and more than half of it. Why calls failed goes to standard error.
pub(crate) fn write_report(options: &Options, elapsed: Duration, results: Results) -> Outcome<()> {
    if !results.failures.is_empty() {
        write_problem(&results.failures());
    }
    let samples = results.samples;
    let count = |status| samples.iter().filter(|sample| sample.status == status).count();
    let (ok, denied, failed) = (count(Status::Ok), count(Status::Denied), count(Status::Failed));
    let mut latencies: Vec<u128> = samples
        .into_iter()
        .map(|sample| sample.latency.as_micros())
        .collect();
    latencies.sort_unstable();
    let quantile = |per_mille: usize| {
        let rank = latencies.len().saturating_mul(per_mille).div_euclid(1_000);
        latencies
            .get(rank.min(latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    let mut histogram = BTreeMap::new();
    for latency in &latencies {
        let count: &mut u64 = histogram.entry(latency.next_power_of_two()).or_default();
        *count = count.saturating_add(1);
    }
    let calls = u128::try_from(latencies.len())?;
    let per_second = calls
        .saturating_mul(1_000_000)
        .checked_div(elapsed.as_micros().max(1))
        .unwrap_or_default();
    let report = serde_json::json!({
        "calls": latencies.len(),
        "ok": ok,
        "denied": denied,
        "failed": failed,
        "records_per_call": options.batch,
        "elapsed_us": u64::try_from(elapsed.as_micros())?,
        "calls_per_second": u64::try_from(per_second)?,
        "p50_us": u64::try_from(quantile(500))?,
        "p90_us": u64::try_from(quantile(900))?,
        "p99_us": u64::try_from(quantile(990))?,
        "p999_us": u64::try_from(quantile(999))?,
        "histogram_us": histogram.into_iter().collect::<Vec<_>>(),
        "max_us": u64::try_from(latencies.last().copied().unwrap_or_default())?,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

/// Writes bytes to standard output as they are.
pub(crate) fn write_bytes(bytes: &[u8]) -> Outcome<()> {
    std::io::stdout().write_all(bytes)?;
    Ok(())
}

/// Prints a line for people.
pub(crate) fn write_problem(text: &str) {
    // Nobody listens when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
