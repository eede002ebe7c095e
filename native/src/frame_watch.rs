// SPDX-License-Identifier: Apache-2.0
//! Counts what a client sends besides calls, and ends connections that send too much of it.
//!
//! The HTTP/2 library bounds memory; it answers pings and settings, and makes and forgets streams, as fast as they
//! come. Here each frame that is no part of a call costs one of a budget that time and calls refill. Only the nine
//! bytes before a frame are looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE_SIZE: usize = 24;
const HEADER_SIZE: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
/// `GOAWAY` with `ENHANCE_YOUR_CALM`; calls up to the last one may have been worked on.
const CALM_DOWN: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// Pings, settings and the like: a client that measures its bandwidth and keeps alive sends a few a second.
const CONTROL: Rate = Rate {
    burst: 1_000,
    per_second: 100,
};
/// Window updates and data without content come with calls: a long answer that is read byte by byte, for one.
const CALL_RELATED: Rate = Rate {
    burst: 20_000,
    per_second: 20_000,
};
/// A gateway whose deadlines pass cancels all that it has in flight, again and again.
const RESETS: Rate = Rate {
    burst: 4_000,
    per_second: 2_000,
};

/// What each call adds to the budgets of frames that come with calls.
const PER_CALL: u32 = 4;

struct Rate {
    burst: u32,
    per_second: u32,
}

/// What is left of a rate.
struct Budget {
    rate: &'static Rate,
    left: u32,
    filled: Instant,
}

impl Budget {
    const fn new(rate: &'static Rate, now: Instant) -> Self {
        Self {
            rate,
            left: rate.burst,
            filled: now,
        }
    }

    fn give(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.rate.burst);
    }

    /// False when nothing is left. The clock is read only where the budget has run out.
    fn take(&mut self) -> bool {
        if self.left == 0 {
            let now = Instant::now();
            let elapsed_ms = now.saturating_duration_since(self.filled).as_millis();
            let elapsed_ms = u64::try_from(elapsed_ms).unwrap_or(u64::MAX);
            let gained = elapsed_ms
                .saturating_mul(self.rate.per_second.into())
                .div_euclid(1_000);
            self.left = u32::try_from(gained).unwrap_or(u32::MAX).min(self.rate.burst);
            self.filled = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// Follows the frames that come in.
struct Frames {
    preface_left: usize,
    header: [u8; HEADER_SIZE],
    header_size: usize,
    payload_left: usize,
    control: Budget,
    call_related: Budget,
    resets: Budget,
}

impl Frames {
    const fn new(now: Instant) -> Self {
        Self {
            preface_left: PREFACE_SIZE,
            header: [0; HEADER_SIZE],
            header_size: 0,
            payload_left: 0,
            control: Budget::new(&CONTROL, now),
            call_related: Budget::new(&CALL_RELATED, now),
            resets: Budget::new(&RESETS, now),
        }
    }

    /// False once the client has sent too much of what is no call.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let skipped = self.preface_left.min(bytes.len());
        self.preface_left = self.preface_left.saturating_sub(skipped);
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left = self.payload_left.saturating_sub(skipped);
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = HEADER_SIZE.saturating_sub(self.header_size).min(bytes.len());
            let (part, rest) = bytes.split_at(wanted);
            let end = self.header_size.saturating_add(wanted);
            if let Some(place) = self.header.get_mut(self.header_size..end) {
                place.copy_from_slice(part);
            }
            self.header_size = end;
            bytes = rest;
            if self.header_size == HEADER_SIZE && !self.begin() {
                return false;
            }
        }
        true
    }

    /// Takes note of a frame whose header is complete.
    fn begin(&mut self) -> bool {
        let [high, middle, low, kind, ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.header_size = 0;
        self.payload_left = usize::try_from(length).unwrap_or(usize::MAX);
        match kind {
            // The library bounds the headers of a call. Its answer is measured with a ping, and acknowledged.
            HEADERS => {
                self.control.give(PER_CALL);
                self.call_related.give(PER_CALL);
                true
            }
            DATA if length > 0 => true,
            DATA | WINDOW_UPDATE => self.call_related.take(),
            RST_STREAM => self.resets.take(),
            // Continuations, too: our own clients never need one, and the library bounds those of one call.
            _ => self.control.take(),
        }
    }
}

/// A connection whose frames are watched.
pub(crate) struct Watched<T> {
    stream: T,
    frames: Frames,
    is_between_frames: bool,
}

impl<T> Watched<T> {
    /// Watches a stream from its first byte.
    pub(crate) const fn new(stream: T, now: Instant) -> Self {
        Self {
            stream,
            frames: Frames::new(now),
            is_between_frames: true,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = std::task::ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        if this
            .frames
            .take(buffer.filled().get(before..).unwrap_or_default())
        {
            return Poll::Ready(read);
        }
        if this.is_between_frames {
            // A client that does not read is not told.
            let _ = Pin::new(&mut this.stream).poll_write(context, &CALM_DOWN);
            let _ = Pin::new(&mut this.stream).poll_flush(context);
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_between_frames = false;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    // Without it the library gathers frames of up to a kibibyte, and writes the answers of many calls at once. With it,
    // a system call for each message of 256 bytes, and another one for what follows.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        if flushed.is_ready() {
            // The library flushes once it has written whole frames.
            this.is_between_frames = true;
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
