// SPDX-License-Identifier: Apache-2.0
//! Which call is next, and when it is due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::options::Options;

/// Hands out calls until their count or the time is used up.
pub(crate) enum Schedule {
    /// The next call is due when somebody has time for it.
    Closed {
        next: AtomicU64,
        count: u64,
        end: Instant,
    },
    /// Calls are due when a thread of its own says so: the runtime's timers are good to a millisecond only.
    Open {
        due: Mutex<UnboundedReceiver<(u64, Instant)>>,
    },
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
        let (sender, due) = unbounded_channel();
        let count = options.count;
        thread::spawn(move || pace(&sender, rate, count, started, end));
        Self::Open { due: Mutex::new(due) }
    }

    /// Number and due time of the next call; None at the end.
    pub(crate) async fn next(&self) -> Option<(u64, Instant)> {
        match self {
            Self::Closed { next, count, end } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                (number < *count && now < *end).then_some((number, now))
            }
            Self::Open { due } => due.lock().await.recv().await,
        }
    }
}

/// Sends each call when it is due.
fn pace(sender: &UnboundedSender<(u64, Instant)>, rate: u64, count: u64, started: Instant, end: Instant) {
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
        // Nobody listens when every stream has failed.
        if sender.send((number, due)).is_err() {
            return;
        }
    }
}
