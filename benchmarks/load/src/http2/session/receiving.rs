// SPDX-License-Identifier: Apache-2.0
//! What the server sends.

use super::super::frame::{self, Frame};
use super::super::streams::{Answer, Failure};
use super::{SETTING_WINDOW, Session};
use crate::Outcome;

const SETTING_TABLE_SIZE: u16 = 1;
const SETTING_STREAMS: u16 = 3;
const SETTING_PAYLOAD: u16 = 5;
/// How much of the connection's window may be used before it is opened again.
const WINDOW_USED_MAX: u32 = 0x3fff_ffff;
const BLOCK_SIZE_MAX: usize = 65_536;
const CANCEL: u32 = 8;

/// Headers that have come in part.
pub(super) struct Fragments {
    stream: u32,
    ends_stream: bool,
    block: Vec<u8>,
}

impl<C> Session<C> {
    /// Reads what has come: returns how many bytes of it, the rest being a part of a frame. After an error the
    /// connection cannot go on.
    pub(crate) fn receive(&mut self, input: &[u8], answers: &mut Vec<Answer<C>>) -> Outcome<usize> {
        let mut rest = input;
        while let Some(frame) = Frame::take(&mut rest)? {
            self.take(&frame, answers)?;
        }
        if self.used > WINDOW_USED_MAX {
            frame::write(
                &mut self.output,
                frame::WINDOW_UPDATE,
                0,
                0,
                &self.used.to_be_bytes(),
            )?;
            self.used = 0;
        }
        self.send_waiting()?;
        Ok(input.len().saturating_sub(rest.len()))
    }

    fn take(&mut self, frame: &Frame<'_>, answers: &mut Vec<Answer<C>>) -> Outcome<()> {
        if self.fragments.is_some() != (frame.kind == frame::CONTINUATION) {
            return Err("headers without their end, or an end without headers".into());
        }
        match frame.kind {
            frame::DATA => self.data(frame, answers),
            frame::HEADERS => {
                let fragments = Fragments {
                    stream: frame.stream,
                    ends_stream: frame.has(frame::END_STREAM),
                    block: Vec::new(),
                };
                self.fields(frame, frame.content()?, fragments, answers)
            }
            frame::CONTINUATION => {
                let fragments = self.fragments.take().filter(|begun| begun.stream == frame.stream);
                let fragments = fragments.ok_or("the rest of headers on another stream")?;
                self.fields(frame, frame.payload, fragments, answers)
            }
            frame::RST_STREAM => {
                let failure = Failure::new(format!("reset by the server, code {}", frame.number(0)?));
                let stream = self.streams.remove(&frame.stream);
                answers.extend(stream.map(|stream| stream.fail(failure)));
                Ok(())
            }
            frame::SETTINGS | frame::PING if frame.has(frame::ACK) => Ok(()),
            frame::SETTINGS => self.settings(frame.payload),
            frame::PING => frame::write(&mut self.output, frame::PING, frame::ACK, 0, frame.payload),
            frame::GOAWAY => self.go_away(frame, answers),
            frame::WINDOW_UPDATE => {
                let more = i64::from(frame.masked_number(0)?);
                if frame.stream == 0 {
                    self.window = self.window.saturating_add(more);
                } else if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.window = stream.window.saturating_add(more);
                }
                self.send_unsent()
            }
            frame::PUSH_PROMISE => Err("the server pushes, which it was told not to".into()),
            // What is not known is to be ignored; priorities of answers do not matter here.
            _ => Ok(()),
        }
    }

    fn data(&mut self, frame: &Frame<'_>, answers: &mut Vec<Answer<C>>) -> Outcome<()> {
        // Padding counts, and so does what comes for calls that have ended.
        self.used = self.used.saturating_add(u32::try_from(frame.payload.len())?);
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return Ok(());
        };
        stream.extend(frame.content()?)?;
        if frame.has(frame::END_STREAM) {
            self.end(frame.stream, answers)?;
        }
        Ok(())
    }

    /// Headers or trailers, or a part of them.
    fn fields(
        &mut self,
        frame: &Frame<'_>,
        part: &[u8],
        mut fragments: Fragments,
        answers: &mut Vec<Answer<C>>,
    ) -> Outcome<()> {
        let is_whole = frame.has(frame::END_HEADERS);
        if !is_whole || !fragments.block.is_empty() {
            fragments.block.extend_from_slice(part);
            if fragments.block.len() > BLOCK_SIZE_MAX {
                return Err("headers of more than 64 KiB".into());
            }
        }
        if !is_whole {
            self.fragments = Some(fragments);
            return Ok(());
        }
        let block = if fragments.block.is_empty() {
            part
        } else {
            &fragments.block
        };
        let mut stream = self.streams.get_mut(&fragments.stream);
        // Those of calls that have ended fill the table, too.
        self.decoder.decode(block, |name, value| {
            if let Some(stream) = &mut stream {
                stream.see(name, value);
            }
        })?;
        if fragments.ends_stream {
            self.end(fragments.stream, answers)?;
        }
        Ok(())
    }

    fn end(&mut self, id: u32, answers: &mut Vec<Answer<C>>) -> Outcome<()> {
        let Some(stream) = self.streams.remove(&id) else {
            return Ok(());
        };
        if !stream.unsent.is_empty() {
            // Answered before it was asked in full: the rest is not going to come.
            frame::write(&mut self.output, frame::RST_STREAM, 0, id, &CANCEL.to_be_bytes())?;
        }
        answers.push(stream.end());
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) -> Outcome<()> {
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err("settings cut off".into());
        }
        for [n0, n1, v0, v1, v2, v3] in settings {
            let value = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
            match u16::from_be_bytes([*n0, *n1]) {
                SETTING_TABLE_SIZE => self.headers.allow_table(usize::try_from(value)?),
                SETTING_STREAMS => self.peer.streams_max = usize::try_from(value)?,
                SETTING_PAYLOAD => self.peer.payload_size_max = usize::try_from(value)?,
                SETTING_WINDOW => {
                    // Of streams that are open, too, which may have used more than it is now.
                    let more = i64::from(value).saturating_sub(self.peer.window);
                    for stream in self.streams.values_mut() {
                        stream.window = stream.window.saturating_add(more);
                    }
                    self.peer.window = i64::from(value);
                }
                _ => {}
            }
        }
        self.peer.is_known = true;
        frame::write(&mut self.output, frame::SETTINGS, frame::ACK, 0, &[])?;
        self.send_unsent()
    }

    fn go_away(&mut self, frame: &Frame<'_>, answers: &mut Vec<Answer<C>>) -> Outcome<()> {
        self.is_going_away = true;
        let (last, code) = (frame.masked_number(0)?, frame.number(1)?);
        let detail = String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default());
        // The server has not looked at those after the last one.
        let refused = self.streams.split_off(&last.saturating_add(1)).into_values();
        answers.extend(refused.map(|stream| {
            stream.fail(Failure {
                reason: format!("not taken by a server that goes away, code {code}"),
                detail: detail.clone().into_owned(),
            })
        }));
        Ok(())
    }
}
