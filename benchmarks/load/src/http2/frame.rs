// SPDX-License-Identifier: Apache-2.0
//! Frames of HTTP/2 (RFC 9113, sections 4 and 6).

use crate::Outcome;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of settings and pings the same bit that ends a stream elsewhere.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

pub(super) const HEAD_SIZE: usize = 9;
const PRIORITY_SIZE: usize = 5;
/// What a frame may hold before anybody has said otherwise, and we say nothing.
pub(super) const PAYLOAD_SIZE_MAX: usize = 16_384;
/// The first bit means nothing.
const NUMBER_MASK: u32 = 0x7fff_ffff;

/// A frame that has come.
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the first frame off the input; None when it is not all there.
    pub(super) fn take(input: &mut &'a [u8]) -> Outcome<Option<Self>> {
        let Some((head, rest)) = input.split_first_chunk::<HEAD_SIZE>() else {
            return Ok(None);
        };
        let [high, middle, low, kind, flags, s0, s1, s2, s3] = *head;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low]))?;
        if length > PAYLOAD_SIZE_MAX {
            return Err(format!("a frame of {length} bytes, more than allowed").into());
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        *input = rest;
        Ok(Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & NUMBER_MASK,
            payload,
        }))
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What DATA or HEADERS hold beside padding and priority.
    pub(super) fn content(&self) -> Outcome<&'a [u8]> {
        const CUT_OFF: &str = "a frame shorter than its padding";
        let mut content = self.payload;
        if self.has(PADDED) {
            let (padding, padded) = content.split_first().ok_or(CUT_OFF)?;
            let length = padded.len().checked_sub(usize::from(*padding)).ok_or(CUT_OFF)?;
            content = &padded[..length];
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            content = content.get(PRIORITY_SIZE..).ok_or(CUT_OFF)?;
        }
        Ok(content)
    }

    /// One of the numbers of four bytes that most other frames consist of.
    pub(super) fn number(&self, place: usize) -> Outcome<u32> {
        let (numbers, _) = self.payload.as_chunks::<4>();
        let number = numbers.get(place).ok_or("a frame cut off")?;
        Ok(u32::from_be_bytes(*number))
    }

    /// The same where the first bit means nothing.
    pub(super) fn masked_number(&self, place: usize) -> Outcome<u32> {
        Ok(self.number(place)? & NUMBER_MASK)
    }
}

/// Writes a frame.
pub(super) fn write(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Outcome<()> {
    write_head(output, kind, flags, stream, payload.len())?;
    output.extend_from_slice(payload);
    Ok(())
}

/// Writes the head of a frame whose payload follows.
pub(super) fn write_head(
    output: &mut Vec<u8>,
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
) -> Outcome<()> {
    let [_, high, middle, low] = u32::try_from(length)?.to_be_bytes();
    output.extend_from_slice(&[high, middle, low, kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_one_by_one_and_a_part_waits_for_its_rest() -> Outcome<()> {
        let mut output = Vec::new();
        write(&mut output, DATA, END_STREAM, 5, b"hello")?;
        write(&mut output, PING, 0, 0, b"12345678")?;
        let mut input = &output[..output.len().saturating_sub(1)];
        let frame = Frame::take(&mut input)?.ok_or("no frame")?;
        assert_eq!((frame.kind, frame.flags, frame.stream), (DATA, END_STREAM, 5));
        assert_eq!(frame.content()?, b"hello");
        assert_eq!(input.len(), 16, "the second is left alone");
        assert!(Frame::take(&mut input)?.is_none());
        assert!(
            Frame::take(&mut &[0, 0x40, 1, 0, 0, 0, 0, 0, 0][..]).is_err(),
            "16,385 bytes"
        );
        Ok(())
    }

    #[test]
    fn padding_and_priority_are_no_content() -> Outcome<()> {
        let frame = |kind, flags, payload| Frame {
            kind,
            flags,
            stream: 1,
            payload,
        };
        assert_eq!(frame(DATA, PADDED, b"\x02hello..").content()?, b"hello");
        let both = PADDED | PRIORITY;
        assert_eq!(frame(HEADERS, both, b"\x03pppppblock...").content()?, b"block");
        assert_eq!(
            frame(DATA, 0, b"\x02hello").content()?,
            b"\x02hello",
            "not padded"
        );
        assert!(frame(DATA, PADDED, b"\x03..").content().is_err());
        assert!(frame(DATA, PADDED, b"").content().is_err());
        assert!(frame(HEADERS, PRIORITY, b"pppp").content().is_err());
        Ok(())
    }
}
