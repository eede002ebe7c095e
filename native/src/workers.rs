// SPDX-License-Identifier: Apache-2.0
//! The threads that serve calls, each with an event loop of its own.
//!
//! A connection stays on one of them, and so do its calls, the store connection they use and the answers they wait for:
//! no call wakes a second thread. A shared pool would wake one more whenever it finds work, which at a few thousand
//! calls a second costs more than the calls.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// A large batch on one must not hold up every other connection.
const COUNT_MIN: usize = 2;
/// The store is one process: more would only contend with it.
const COUNT_MAX: usize = 8;

/// Shorter than what calls wait for the store, and longer than most calls take.
const TICK: Duration = Duration::from_millis(100);

thread_local! {
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
    static TICKING: Cell<Ticking> = const { Cell::new(Ticking::Off) };
}

/// Whether a worker has a timer that is due soon, and whether there were calls since it began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ticking {
    Off,
    Unused,
    Used,
}

/// To be called with each call on a worker. A timer that is due before all others wakes the event loop that it is
/// made on: two system calls and one turn of the loop, for each limit of each call. While there are calls, the tick is
/// due before them.
pub(crate) fn tick() {
    if TICKING.replace(Ticking::Used) == Ticking::Off {
        tokio::spawn(async {
            while TICKING.replace(Ticking::Unused) == Ticking::Used {
                tokio::time::sleep(TICK).await;
            }
            TICKING.set(Ticking::Off);
        });
    }
}

/// Which worker the caller runs on; None for everybody else.
pub(crate) fn current_index() -> Option<usize> {
    INDEX.get()
}

/// Event loops that run until this is dropped.
pub(crate) struct Workers {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts one per core, within bounds.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism()
            .map_or(COUNT_MIN, usize::from)
            .clamp(COUNT_MIN, COUNT_MAX);
        let (stop, stopped) = watch::channel(false);
        let mut workers = Self {
            handles: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
            stop,
            next: AtomicUsize::new(0),
        };
        for index in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.handles.push(runtime.handle().clone());
            let mut stopped = stopped.clone();
            let thread = thread::Builder::new().name("taximeter".into()).spawn(move || {
                INDEX.set(Some(index));
                // Ends when the sender says so or is gone.
                let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// All event loops; the order is that of `current_index`.
    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The event loop that takes the next connection.
    pub(crate) fn next(&self) -> Option<&Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.handles.get(turn.checked_rem(self.handles.len())?)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Without receivers all have stopped already.
        let _ = self.stop.send(true);
        let own = thread::current().id();
        for thread in self.threads.drain(..) {
            // The last call in progress may be what drops this, and cannot wait for its own thread. A worker that
            // panicked has ended, too.
            if thread.thread().id() != own {
                let _ = thread.join();
            }
        }
    }
}
