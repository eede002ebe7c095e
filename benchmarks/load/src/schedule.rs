// SPDX-License-Identifier: Apache-2.0
//! Which call is next, and when it is due.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::Outcome;
use crate::alarm::Alarm;
use crate::options::Options;

/// More calls than this fall due in bunches: to wake up for each would cost more than to make it.
const WAKES_PER_SECOND_MAX: u64 = 5_000;
/// By how much the kernel may let a timer be late, for threads that start from now on.
const TIMER_SLACK_FILE: &str = "/proc/self/timerslack_ns";

/// Number and due time of a call.
type Due = (u64, Instant);

/// Hands out calls until their count or the time is used up.
pub(crate) enum Schedule {
    /// The next call is due when somebody has time for it.
    Closed {
        next: AtomicU64,
        count: u64,
        end: Instant,
    },
    /// Calls are due when the clock says so.
    Open { line: Arc<Mutex<Line>> },
}

/// Where streams and calls that are due meet.
#[derive(Default)]
pub(crate) struct Line {
    /// Due, and every stream busy.
    due: VecDeque<Due>,
    /// Those that have waited longest first, so that all connections are used.
    idle: VecDeque<oneshot::Sender<Due>>,
    has_ended: bool,
}

impl Line {
    fn hand_out(&mut self, number: u64, due: Instant) {
        let mut call = (number, due);
        // An idle stream is taken only while there is a call for it: one whose sender is dropped ends.
        while let Some(stream) = self.idle.pop_front() {
            match stream.send(call) {
                Ok(()) => return,
                // It has failed meanwhile.
                Err(returned) => call = returned,
            }
        }
        self.due.push_back(call);
    }

    fn end(&mut self) {
        self.has_ended = true;
        // Streams that wait find no sender any more.
        self.idle.clear();
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Schedule {
    /// Begins now.
    pub(crate) fn start(options: &Options, started: Instant) -> Outcome<Self> {
        let end = started.checked_add(options.duration).unwrap_or(started);
        let Some(rate) = options.rate else {
            return Ok(Self::Closed {
                next: AtomicU64::new(0),
                count: options.count,
                end,
            });
        };
        // Without such a file calls are up to 50 us late, and their latencies say so.
        let _ = std::fs::write(TIMER_SLACK_FILE, "1");
        let (alarm, line) = (Alarm::new()?, Arc::new(Mutex::new(Line::default())));
        let (paced, count) = (Arc::clone(&line), options.count);
        tokio::spawn(async move {
            let outcome = pace(&alarm, &paced, rate, count, started, end).await;
            lock(&paced).end();
            outcome
        });
        Ok(Self::Open { line })
    }

    /// Number and due time of the next call; None at the end.
    pub(crate) async fn next(&self) -> Option<Due> {
        match self {
            Self::Closed { next, count, end } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                (number < *count && now < *end).then_some((number, now))
            }
            Self::Open { line } => {
                let woken = {
                    let mut line = lock(line);
                    if let Some(due) = line.due.pop_front() {
                        return Some(due);
                    }
                    if line.has_ended {
                        return None;
                    }
                    let (sender, woken) = oneshot::channel();
                    line.idle.push_back(sender);
                    woken
                };
                woken.await.ok()
            }
        }
    }
}

/// Hands out each call when it is due.
async fn pace(
    alarm: &Alarm,
    line: &Mutex<Line>,
    rate: u64,
    count: u64,
    started: Instant,
    end: Instant,
) -> Outcome<()> {
    let bunch = rate.div_ceil(WAKES_PER_SECOND_MAX);
    for number in 0..count {
        let first = number.saturating_sub(number.checked_rem(bunch).unwrap_or_default());
        let nanos = u128::from(first)
            .saturating_mul(1_000_000_000)
            .checked_div(u128::from(rate))
            .unwrap_or_default();
        let offset = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let due = started.checked_add(offset).unwrap_or(end);
        if due >= end {
            break;
        }
        alarm.sleep(due.saturating_duration_since(Instant::now())).await?;
        lock(line).hand_out(number, due);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_takes_one_idle_stream_and_leaves_the_others_waiting() {
        let mut line = Line::default();
        let mut streams = Vec::new();
        for _ in 0..3 {
            let (sender, woken) = oneshot::channel();
            line.idle.push_back(sender);
            streams.push(woken);
        }
        let due = Instant::now();
        drop(streams.remove(0));
        line.hand_out(7, due);
        assert_eq!(
            streams.remove(0).await,
            Ok((7, due)),
            "the first that still listens"
        );
        assert_eq!((line.idle.len(), line.due.len()), (1, 0));
        line.hand_out(8, due);
        line.hand_out(9, due);
        assert_eq!(streams.remove(0).await, Ok((8, due)));
        assert_eq!(line.due, [(9, due)], "nobody is idle");
    }
}
