// SPDX-License-Identifier: Apache-2.0
//! Sleep to the microsecond. The runtime's own timers are good to a millisecond, and a thread that sleeps and then
//! wakes the runtime costs more than the call that it is for.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::Outcome;

const COUNT_SIZE: usize = 8;

/// A timer of the kernel's.
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// Must be called in the runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that do not own themselves; this one does"
    )]
    pub(crate) fn new() -> Outcome<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?;
        Ok(Self { timer })
    }

    /// Waits so long; not at all when that is nothing.
    pub(crate) async fn sleep(&self, time: Duration) -> Outcome<()> {
        if time.is_zero() {
            return Ok(());
        }
        let alarm = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(time)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &alarm)?;
        let mut ready = self.timer.readable().await?;
        // How often it went off says nothing, and it goes off once.
        let mut count = [0_u8; COUNT_SIZE];
        rustix::io::read(&self.timer, &mut count)?;
        ready.clear_ready();
        Ok(())
    }
}
