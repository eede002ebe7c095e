// SPDX-License-Identifier: Apache-2.0
//! Which call is next, and when it is due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::options::Options;

/// More calls than this fall due in bunches: to wake up for each would cost more than to make it.
const WAKES_PER_SECOND_MAX: u64 = 5_000;

/// What a schedule has next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Number and due time of a call.
    Now(u64, Instant),
    Later(Instant),
    /// There are no more.
    Never,
}

/// The calls of one thread, until their count or the time is used up.
pub(crate) struct Schedule {
    next: u64,
    /// Threads take turns: so many calls are everybody's together.
    step: u64,
    count: u64,
    started: Instant,
    end: Instant,
    /// Calls are due when the clock says so, and without it when somebody has time for them.
    rate: Option<u64>,
}

impl Schedule {
    pub(crate) fn new(options: &Options, started: Instant, thread: u64, threads: u64) -> Self {
        Self {
            next: thread,
            step: threads,
            count: options.count,
            started,
            end: started.checked_add(options.duration).unwrap_or(started),
            rate: options.rate,
        }
    }

    fn due(&self, now: Instant) -> Due {
        if self.next >= self.count {
            return Due::Never;
        }
        let due = self.rate.map_or(now, |rate| self.due_at(rate));
        if due >= self.end {
            Due::Never
        } else if due > now {
            Due::Later(due)
        } else {
            Due::Now(self.next, due)
        }
    }

    fn due_at(&self, rate: u64) -> Instant {
        let bunch = rate.div_ceil(WAKES_PER_SECOND_MAX);
        let first = self
            .next
            .saturating_sub(self.next.checked_rem(bunch).unwrap_or_default());
        let nanos = u128::from(first)
            .saturating_mul(1_000_000_000)
            .checked_div(u128::from(rate))
            .unwrap_or_default();
        let offset = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.started.checked_add(offset).unwrap_or(self.end)
    }
}

/// Where streams and calls that are due meet. Calls for which no stream is idle stay due.
pub(crate) struct Line {
    schedule: Schedule,
    /// Those that have waited longest first, so that all connections are used.
    idle: VecDeque<usize>,
}

impl Line {
    /// `connections`: how many there are, with so many streams each.
    pub(crate) fn new(schedule: Schedule, connections: usize, streams: u64) -> Self {
        let idle = (0..connections).flat_map(|connection| (0..streams).map(move |_| connection));
        Self {
            schedule,
            idle: idle.collect(),
        }
    }

    pub(crate) fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// A stream of that connection has nothing to do.
    pub(crate) fn wait(&mut self, connection: usize) {
        self.idle.push_back(connection);
    }

    /// Takes the next call that is due, and the connection to make it on.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(usize, u64, Instant)> {
        let connection = *self.idle.front()?;
        let Due::Now(number, due) = self.schedule.due(now) else {
            return None;
        };
        self.idle.pop_front();
        self.schedule.next = self.schedule.next.saturating_add(self.schedule.step);
        Some((connection, number, due))
    }

    /// When to ask again; None when only an answer can change anything.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        match self.schedule.due(now) {
            _ if self.idle.is_empty() => None,
            Due::Now(..) => Some(now),
            Due::Later(due) => Some(due),
            Due::Never => None,
        }
    }

    /// Whether so many streams, which are all of them, are idle, and no call is left.
    pub(crate) fn has_ended(&self, streams: usize, now: Instant) -> bool {
        self.idle.len() == streams && self.schedule.due(now) == Due::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn schedule(started: Instant, rate: Option<u64>, count: u64) -> Schedule {
        Schedule {
            next: 0,
            step: 1,
            count,
            started,
            end: started.checked_add(Duration::from_secs(1)).unwrap_or(started),
            rate,
        }
    }

    fn after(started: Instant, millis: u32) -> Instant {
        started
            .checked_add(MILLISECOND.saturating_mul(millis))
            .unwrap_or(started)
    }

    #[test]
    fn a_call_takes_one_idle_stream_and_leaves_the_others_waiting() {
        let now = Instant::now();
        let mut line = Line::new(schedule(now, Some(1_000), 10), 3, 1);
        assert_eq!(line.take(now), Some((0, 0, now)));
        assert_eq!(
            (line.take(now), line.idle.len()),
            (None, 2),
            "no other call is due"
        );
        assert_eq!(line.wake_at(now), Some(after(now, 1)));
        let later = after(now, 3);
        assert_eq!(line.take(later), Some((1, 1, after(now, 1))));
        assert_eq!(line.take(later), Some((2, 2, after(now, 2))));
        assert_eq!(
            (line.take(later), line.wake_at(later)),
            (None, None),
            "nobody is idle"
        );
        line.wait(1);
        assert_eq!(line.take(after(now, 5)), Some((1, 3, later)), "due since then");
    }

    #[test]
    fn fast_calls_fall_due_in_bunches() {
        let now = Instant::now();
        let mut line = Line::new(schedule(now, Some(10_000), 10), 1, 16);
        let mut dues = Vec::new();
        while let Some((_, number, due)) = line.take(after(now, 1)) {
            dues.push((number, due.saturating_duration_since(now).as_micros()));
        }
        let expected = [
            (0, 0),
            (1, 0),
            (2, 200),
            (3, 200),
            (4, 400),
            (5, 400),
            (6, 600),
            (7, 600),
            (8, 800),
            (9, 800),
        ];
        assert_eq!(dues, expected);
    }

    #[test]
    fn without_a_rate_every_idle_stream_has_a_call_until_the_end() {
        let now = Instant::now();
        let mut line = Line::new(schedule(now, None, 5), 2, 2);
        let later = after(now, 7);
        for (connection, number) in [(0, 0), (0, 1), (1, 2), (1, 3)] {
            assert_eq!(line.take(later), Some((connection, number, later)));
        }
        assert_eq!(line.take(later), None);
        assert!(!line.has_ended(4, later), "all are busy");
        (0..4).for_each(|_| line.wait(0));
        assert!(!line.has_ended(4, later), "one is left");
        assert!(line.has_ended(4, after(now, 1_000)), "the time is over");
        assert_eq!(line.take(later), Some((0, 4, later)));
        line.wait(0);
        assert!(line.has_ended(4, later), "none is left");
    }

    #[test]
    fn calls_that_were_due_before_the_end_are_made_after_it() {
        let now = Instant::now();
        let mut line = Line::new(schedule(now, Some(2), 10), 1, 1);
        let late = after(now, 5_000);
        assert_eq!(line.take(late), Some((0, 0, now)));
        line.wait(0);
        assert_eq!(line.take(late), Some((0, 1, after(now, 500))));
        line.wait(0);
        assert!(line.has_ended(1, late));
    }

    #[test]
    fn threads_take_turns() {
        let now = Instant::now();
        let mut schedule = schedule(now, None, 8);
        (schedule.next, schedule.step) = (1, 3);
        let mut line = Line::new(schedule, 1, 9);
        let numbers: Vec<u64> = std::iter::from_fn(|| line.take(now))
            .map(|(_, number, _)| number)
            .collect();
        assert_eq!(numbers, [1, 4, 7]);
    }
}
