// SPDX-License-Identifier: Apache-2.0
//! One connection's side of HTTP/2 (RFC 9113), without its socket: bytes that come go in, bytes to send pile up.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};

use super::frame;
use super::hpack::Decoder;
use super::request_headers::RequestHeaders;
use super::streams::{Answer, Failure, Stream, prefix};
use crate::Outcome;

mod receiving;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTING_PUSH: u16 = 2;
const SETTING_WINDOW: u16 = 4;
/// What a window is before anybody has said otherwise.
const WINDOW_DEFAULT: u32 = 65_535;
/// As large as can be: no answer waits for a stream's window, which is never opened further.
const WINDOW_MAX: u32 = 0x7fff_ffff;
const STREAM_MAX: u32 = 0x7fff_ffff;

/// What the server has said of itself.
struct Peer {
    is_known: bool,
    streams_max: usize,
    /// Of a new stream.
    window: i64,
    payload_size_max: usize,
}

/// A call that has no stream yet.
struct Waiting<C> {
    method: usize,
    message: Bytes,
    call: C,
}

/// `C`: what the caller wants to have back with an answer.
pub(crate) struct Session<C> {
    /// To be sent.
    pub(crate) output: Vec<u8>,
    headers: RequestHeaders,
    /// Of the last call, packed.
    block: Vec<u8>,
    decoder: Decoder,
    peer: Peer,
    /// How many more bytes the server takes on all streams.
    window: i64,
    /// How many bytes it has sent since it was told that it may send more.
    used: u32,
    streams: BTreeMap<u32, Stream<C>>,
    /// Those with a part that is not sent, in their order.
    unsent: VecDeque<u32>,
    waiting: VecDeque<Waiting<C>>,
    next_stream: u32,
    fragments: Option<receiving::Fragments>,
    is_going_away: bool,
}

impl<C> Session<C> {
    /// Begins with what a client says first.
    pub(crate) fn new(headers: RequestHeaders) -> Outcome<Self> {
        let mut output = PREFACE.to_vec();
        let mut settings = Vec::new();
        for (name, value) in [(SETTING_PUSH, 0), (SETTING_WINDOW, WINDOW_MAX)] {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame::write(&mut output, frame::SETTINGS, 0, 0, &settings)?;
        let more = WINDOW_MAX.saturating_sub(WINDOW_DEFAULT);
        frame::write(&mut output, frame::WINDOW_UPDATE, 0, 0, &more.to_be_bytes())?;
        Ok(Self {
            output,
            headers,
            block: Vec::new(),
            decoder: Decoder::new(),
            peer: Peer {
                is_known: false,
                streams_max: usize::MAX,
                window: i64::from(WINDOW_DEFAULT),
                payload_size_max: frame::PAYLOAD_SIZE_MAX,
            },
            window: i64::from(WINDOW_DEFAULT),
            used: 0,
            streams: BTreeMap::new(),
            unsent: VecDeque::new(),
            waiting: VecDeque::new(),
            next_stream: 1,
            fragments: None,
            is_going_away: false,
        })
    }

    /// Whether the server has sent its settings.
    pub(crate) fn is_ready(&self) -> bool {
        self.peer.is_known
    }

    /// Whether the server takes no more calls, and has answered all that it took.
    pub(crate) fn is_over(&self) -> bool {
        self.takes_no_more() && self.streams.is_empty()
    }

    /// Sends a call, now or when there is room for it.
    pub(crate) fn send(&mut self, method: usize, message: Vec<u8>, call: C) -> Outcome<()> {
        let message = Bytes::from(message);
        let waiting = Waiting {
            method,
            message,
            call,
        };
        if self.waiting.is_empty() && self.has_room() {
            return self.open(waiting);
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Ends all calls for the same reason.
    pub(crate) fn fail(&mut self, reason: &str, answers: &mut Vec<Answer<C>>) {
        let streams = std::mem::take(&mut self.streams).into_values();
        answers.extend(streams.map(|stream| stream.fail(Failure::new(reason))));
        answers.extend(self.waiting.drain(..).map(|waiting| Answer {
            call: waiting.call,
            outcome: Err(Failure::new(reason)),
        }));
    }

    /// Goes on where another has ended: with the calls that it has not sent.
    pub(crate) fn take_over(&mut self, other: &mut Self) -> Outcome<()> {
        self.waiting.append(&mut other.waiting);
        self.send_waiting()
    }

    fn takes_no_more(&self) -> bool {
        self.is_going_away || self.next_stream > STREAM_MAX
    }

    fn has_room(&self) -> bool {
        self.streams.len() < self.peer.streams_max && !self.takes_no_more()
    }

    fn send_waiting(&mut self) -> Outcome<()> {
        while self.has_room()
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.open(waiting)?;
        }
        Ok(())
    }

    fn open(&mut self, waiting: Waiting<C>) -> Outcome<()> {
        let Waiting {
            method,
            message,
            call,
        } = waiting;
        let id = self.next_stream;
        self.next_stream = id.saturating_add(2);
        self.block.clear();
        self.headers.write(&mut self.block, method);
        frame::write(
            &mut self.output,
            frame::HEADERS,
            frame::END_HEADERS,
            id,
            &self.block,
        )?;
        let prefix = prefix(&message)?;
        let size = message.len().saturating_add(prefix.len());
        let room = usize::try_from(self.window.min(self.peer.window)).unwrap_or_default();
        if self.unsent.is_empty() && size <= room.min(self.peer.payload_size_max) {
            frame::write_head(&mut self.output, frame::DATA, frame::END_STREAM, id, size)?;
            self.output.extend_from_slice(&prefix);
            self.output.extend_from_slice(&message);
            let size = i64::try_from(size)?;
            self.window = self.window.saturating_sub(size);
            let window = self.peer.window.saturating_sub(size);
            self.streams.insert(id, Stream::new(call, window, Bytes::new()));
            return Ok(());
        }
        let all = [&prefix[..], &message].concat();
        self.streams
            .insert(id, Stream::new(call, self.peer.window, all.into()));
        self.unsent.push_back(id);
        self.send_unsent()
    }

    /// Sends of each stream what its window and the connection's have room for.
    fn send_unsent(&mut self) -> Outcome<()> {
        for _ in 0..self.unsent.len() {
            let Some(id) = self.unsent.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            while !stream.unsent.is_empty() {
                let room = usize::try_from(self.window.min(stream.window)).unwrap_or_default();
                let size = room.min(self.peer.payload_size_max).min(stream.unsent.len());
                if size == 0 {
                    break;
                }
                let is_last = size == stream.unsent.len();
                let flags = if is_last { frame::END_STREAM } else { 0 };
                frame::write(&mut self.output, frame::DATA, flags, id, &stream.unsent[..size])?;
                stream.unsent.advance(size);
                let size = i64::try_from(size)?;
                self.window = self.window.saturating_sub(size);
                stream.window = stream.window.saturating_sub(size);
            }
            if !stream.unsent.is_empty() {
                self.unsent.push_back(id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
