// SPDX-License-Identifier: Apache-2.0
//! How many calls are worked on at once, and whose.
//!
//! A caller alone may use the whole server. As soon as others call, each has a share: what goes beyond it waits its
//! turn, and what would wait behind too many is refused at once. So a flood stands in its own way and in nobody else's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::engine::lock;
use crate::error::{Code, Failure, deadline_exceeded};
use crate::proto::taximeter::v1::ErrorReason;

/// Who called and who was busy is remembered for one to two of these.
const WINDOW: Duration = Duration::from_secs(1);

/// Bounds of calls in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionLimits {
    /// Of all callers, worked on or waiting. One caller gets half of them at most.
    pub(crate) calls_max: usize,
    /// What busy callers share while they are not alone.
    pub(crate) shared_max: usize,
    /// Every caller may have as many worked on, however many others there are.
    pub(crate) own_min: usize,
}

/// Gives out permits to work on calls.
pub(crate) struct Admission {
    limits: AdmissionLimits,
    state: Mutex<State>,
}

struct State {
    calls: usize,
    callers: HashMap<Arc<str>, Caller>,
    round: u64,
    round_end: Instant,
    /// Callers seen in this round and in the one before.
    active: Tally,
    /// Callers that had as many calls worked on as anyone may always have.
    busy: Tally,
}

#[derive(Default)]
struct Caller {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
    active_round: u64,
    busy_round: u64,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    now: usize,
    before: usize,
}

impl Tally {
    fn count(&mut self, seen_round: &mut u64, round: u64) {
        if *seen_round != round {
            *seen_round = round;
            self.now = self.now.saturating_add(1);
        }
    }

    const fn roll(&mut self) {
        self.before = self.now;
        self.now = 0;
    }

    fn value(self) -> usize {
        self.now.max(self.before)
    }
}

impl Admission {
    /// Nobody calls yet.
    pub(crate) fn new(limits: AdmissionLimits, now: Instant) -> Self {
        Self {
            limits,
            state: Mutex::new(State {
                calls: 0,
                callers: HashMap::new(),
                // A caller that is new has round 0.
                round: 1,
                round_end: now,
                active: Tally::default(),
                busy: Tally::default(),
            }),
        }
    }

    /// The turn of one more call. Fails at once when too many wait already.
    pub(crate) fn enter(self: &Arc<Self>, caller: &Arc<str>, now: Instant) -> Result<Turn, Failure> {
        let mut state = lock(&self.state);
        state.roll(now);
        if state.calls >= self.limits.calls_max {
            return Err(overloaded());
        }
        let (cap, entry) = state.enter(caller, self.limits);
        let own_max = self.limits.calls_max.div_ceil(2);
        if entry.running.saturating_add(entry.waiting.len()) >= own_max {
            return Err(overloaded());
        }
        let turn = if entry.running < cap {
            entry.running = entry.running.saturating_add(1);
            Turn::Now(self.permit(caller))
        } else {
            let (sender, receiver) = oneshot::channel();
            entry.waiting.push_back(sender);
            Turn::Later(receiver)
        };
        state.calls = state.calls.saturating_add(1);
        Ok(turn)
    }

    fn permit(self: &Arc<Self>, caller: &Arc<str>) -> Permit {
        Permit {
            admission: Arc::clone(self),
            caller: Arc::clone(caller),
        }
    }

    /// Ends a call, and lets those begin that waited for it.
    fn release(self: &Arc<Self>, caller: &Arc<str>) {
        let mut turns = Vec::new();
        {
            let mut state = lock(&self.state);
            state.calls = state.calls.saturating_sub(1);
            let (cap, entry) = state.enter(caller, self.limits);
            entry.running = entry.running.saturating_sub(1);
            let mut gone: usize = 0;
            while entry.running < cap
                && let Some(turn) = entry.waiting.pop_front()
            {
                if turn.is_closed() {
                    gone = gone.saturating_add(1);
                } else {
                    entry.running = entry.running.saturating_add(1);
                    turns.push(turn);
                }
            }
            state.calls = state.calls.saturating_sub(gone);
        }
        for turn in turns {
            // Who has left meanwhile gives the permit back by dropping it.
            let _ = turn.send(self.permit(caller));
        }
    }
}

impl State {
    /// Begins a new round when it is time, and forgets callers that have gone.
    fn roll(&mut self, now: Instant) {
        if now < self.round_end {
            return;
        }
        self.round = self.round.saturating_add(1);
        self.round_end = now.checked_add(WINDOW).unwrap_or(now);
        self.active.roll();
        self.busy.roll();
        let oldest = self.round.saturating_sub(1);
        self.callers.retain(|_, caller| {
            caller.running > 0 || !caller.waiting.is_empty() || caller.active_round >= oldest
        });
    }

    /// The caller, and how many of its calls may be worked on now.
    fn enter(&mut self, caller: &Arc<str>, limits: AdmissionLimits) -> (usize, &mut Caller) {
        let entry = self.callers.entry(Arc::clone(caller)).or_default();
        self.active.count(&mut entry.active_round, self.round);
        if entry.running >= limits.own_min {
            self.busy.count(&mut entry.busy_round, self.round);
        }
        let cap = if self.active.value() <= 1 {
            limits.calls_max
        } else {
            let share = limits
                .shared_max
                .checked_div(self.busy.value())
                .unwrap_or(limits.shared_max);
            share.max(limits.own_min)
        };
        (cap, entry)
    }
}

/// When a call may be worked on.
pub(crate) enum Turn {
    Now(Permit),
    Later(oneshot::Receiver<Permit>),
}

impl Turn {
    /// Waits for it, but no longer than the limit.
    pub(crate) async fn wait(self, limit: Duration) -> Result<Permit, Failure> {
        match self {
            Self::Now(permit) => Ok(permit),
            Self::Later(turn) => match timeout(limit, turn).await {
                Ok(permit) => permit.map_err(|_| overloaded()),
                Err(_) => Err(deadline_exceeded()),
            },
        }
    }
}

/// Leave to work on one call, until dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    caller: Arc<str>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.release(&self.caller);
    }
}

fn overloaded() -> Failure {
    let message = "too many calls in progress";
    Failure::new(Code::ResourceExhausted, ErrorReason::Overloaded, message)
}
