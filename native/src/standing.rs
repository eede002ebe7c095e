// SPDX-License-Identifier: Apache-2.0
//! What a connection has done so far, and who has to go when there are too many.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::engine::lock;

/// A connection that is refused more often than this for long waits for its refusals: they cost nearly what calls do.
const REFUSAL_INTERVAL: Duration = Duration::from_millis(10);
/// What may come faster, counted from a connection that has not been refused.
const REFUSAL_BURST: Duration = Duration::from_secs(1);
const REFUSAL_DELAY_MAX: Duration = Duration::from_secs(1);

/// The past of one connection.
pub(crate) struct Standing {
    called: AtomicBool,
    known: AtomicBool,
    /// Tells the connection to end at once.
    pub(crate) evicted: Notify,
    /// When the next refusal is due, if they come as often as they may.
    next_refusal: Mutex<Option<Instant>>,
}

impl Standing {
    pub(crate) fn new() -> Self {
        Self {
            called: AtomicBool::new(false),
            known: AtomicBool::new(false),
            evicted: Notify::new(),
            next_refusal: Mutex::new(None),
        }
    }

    /// Somebody made a call that needs no credentials.
    pub(crate) fn set_called(&self) {
        self.called.store(true, Ordering::Relaxed);
    }

    /// Somebody whom the server knows made a call.
    pub(crate) fn set_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Whether there was any call that was worth its connection.
    pub(crate) fn is_used(&self) -> bool {
        self.is_known() || self.called.load(Ordering::Relaxed)
    }

    fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// How long the next refusal has to wait: whoever is refused again and again must not keep the server busy.
    pub(crate) fn refusal_delay(&self, now: Instant) -> Option<Duration> {
        let mut next = lock(&self.next_refusal);
        let earliest = now.checked_sub(REFUSAL_BURST).unwrap_or(now);
        let due = next.map_or(earliest, |next| next.max(earliest));
        let delay = due.saturating_duration_since(now).min(REFUSAL_DELAY_MAX);
        // Who gives up waiting makes room for nothing, so what is due never runs away.
        let latest = now.checked_add(REFUSAL_DELAY_MAX).unwrap_or(now);
        *next = due.checked_add(REFUSAL_INTERVAL).map(|due| due.min(latest));
        (!delay.is_zero()).then_some(delay)
    }
}

/// Connections in the order in which they came, as long as nobody whom the server knows has called on them.
#[derive(Default)]
pub(crate) struct Strangers {
    oldest_first: VecDeque<Weak<Standing>>,
}

impl Strangers {
    /// Adds a new connection; `connections_max` bounds what is remembered.
    pub(crate) fn add(&mut self, standing: &Arc<Standing>, connections_max: usize) {
        if self.oldest_first.len() > connections_max.saturating_mul(2) {
            self.oldest_first
                .retain(|one| one.upgrade().is_some_and(|one| !one.is_known()));
        }
        self.oldest_first.push_back(Arc::downgrade(standing));
    }

    /// Ends the oldest. False when there is none.
    pub(crate) fn evict(&mut self) -> bool {
        while let Some(one) = self.oldest_first.pop_front() {
            if let Some(one) = one.upgrade()
                && !one.is_known()
            {
                one.evicted.notify_one();
                return true;
            }
        }
        false
    }
}
