// SPDX-License-Identifier: Apache-2.0
//! Waits for sockets, and for times to the microsecond.

use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::Outcome;

/// By how much the kernel may let a timer be late, for threads that start from now on.
const TIMER_SLACK_FILE: &str = "/proc/self/timerslack_ns";
const EVENTS_MAX: usize = 64;
/// The timer's number among the sockets'.
const TIMER: u64 = u64::MAX;
/// A time of nothing would stop the timer.
const SOON: Duration = Duration::from_nanos(1);

/// Lets threads that start from now on wake in time. Without such a file they are up to 50 us late, and latencies of an
/// open loop say so.
pub(crate) fn set_timer_slack() {
    let _ = std::fs::write(TIMER_SLACK_FILE, "1");
}

/// Sockets by the numbers that they were added with.
pub(crate) struct Poll {
    epoll: OwnedFd,
    /// Set once for each time: the timeout of a wait is set again by every wait, and a virtual machine pays for that.
    timer: OwnedFd,
    alarm: Option<Instant>,
    /// Those of the last wait.
    pub(crate) ready: Vec<usize>,
}

impl Poll {
    pub(crate) fn new() -> Outcome<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &timer,
            EventData::new_u64(TIMER),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            timer,
            alarm: None,
            ready: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Watches for something to read, until the socket is closed.
    pub(crate) fn add(&self, socket: &TcpStream, number: usize) -> Outcome<()> {
        let data = EventData::new_u64(u64::try_from(number)?);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Watches for room to write, too, or no longer.
    pub(crate) fn watch_room(&self, socket: &TcpStream, number: usize, is_wanted: bool) -> Outcome<()> {
        let data = EventData::new_u64(u64::try_from(number)?);
        let flags = if is_wanted {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        Ok(epoll::modify(&self.epoll, socket, data, flags)?)
    }

    /// Waits until a time, a socket or the timeout, whichever comes first; returns whether it was one of the first two.
    pub(crate) fn wait(&mut self, until: Option<Instant>, timeout: Duration) -> Outcome<bool> {
        if let Some(until) = until
            && self.alarm != Some(until)
        {
            let time = until.saturating_duration_since(Instant::now()).max(SOON);
            let alarm = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec::try_from(time)?,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &alarm)?;
            self.alarm = Some(until);
        }
        self.ready.clear();
        let timeout = Timespec::try_from(timeout)?;
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        let events = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        for event in &*events {
            let data = event.data;
            if data.u64() != TIMER {
                self.ready.push(usize::try_from(data.u64())?);
            }
        }
        Ok(!events.is_empty())
    }
}
