// SPDX-License-Identifier: Apache-2.0
//! Which call is next, and when it is due.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::options::Options;

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
    /// Calls are due when a thread of its own says so: the runtime's timers are good to a millisecond only.
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

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Schedule {
    /// Begins now.
    pub(crate) fn start(options: &Options, started: Instant) -> Self {
        let end = started.checked_add(options.duration).unwrap_or(started);
        let Some(rate) = options.rate else {
            return Self::Closed {
                next: AtomicU64::new(0),
                count: options.count,
                end,
            };
        };
        let line = Arc::new(Mutex::new(Line::default()));
        let (paced, count) = (Arc::clone(&line), options.count);
        thread::spawn(move || {
            pace(&paced, rate, count, started, end);
            let mut line = lock(&paced);
            line.has_ended = true;
            // Streams that wait find no sender any more.
            line.idle.clear();
        });
        Self::Open { line }
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
fn pace(line: &Mutex<Line>, rate: u64, count: u64, started: Instant, end: Instant) {
    for number in 0..count {
        let nanos = u128::from(number)
            .saturating_mul(1_000_000_000)
            .checked_div(u128::from(rate))
            .unwrap_or_default();
        let offset = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let due = started.checked_add(offset).unwrap_or(end);
        if due >= end {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut line = lock(line);
        // A stream that has failed meanwhile takes none.
        let mut call = Some((number, due));
        while let (Some(taken), Some(stream)) = (call, line.idle.pop_front()) {
            call = stream.send(taken).err();
        }
        line.due.extend(call);
    }
}
