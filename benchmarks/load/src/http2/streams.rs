// SPDX-License-Identifier: Apache-2.0
//! Calls that wait for their answers, by their streams.

use bytes::Bytes;

use crate::Outcome;

/// Before each message of gRPC: whether it is compressed, and its length.
const PREFIX_SIZE: usize = 5;
/// An answer of more bytes is none that a benchmark asks for.
const ANSWER_SIZE_MAX: usize = 16_777_216;

/// Why a call failed: in words that many calls share, and what the server said about this one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: String::new(),
        }
    }
}

/// A call, and the message that answers it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<C> {
    pub(crate) call: C,
    pub(crate) outcome: Result<Bytes, Failure>,
}

enum Status {
    Unknown,
    Ok,
    Failed(Vec<u8>),
}

/// What is known of a call that has been sent.
pub(super) struct Stream<C> {
    call: C,
    /// How many more bytes the server takes, beside what the connection allows.
    pub(super) window: i64,
    /// The part of the request for which there was no room.
    pub(super) unsent: Bytes,
    answer: Vec<u8>,
    status: Status,
    detail: Vec<u8>,
}

impl<C> Stream<C> {
    pub(super) fn new(call: C, window: i64, unsent: Bytes) -> Self {
        Self {
            call,
            window,
            unsent,
            answer: Vec::new(),
            status: Status::Unknown,
            detail: Vec::new(),
        }
    }

    /// Adds a part of the answer.
    pub(super) fn extend(&mut self, part: &[u8]) -> Outcome<()> {
        self.answer.extend_from_slice(part);
        if self.answer.len() > ANSWER_SIZE_MAX {
            return Err("an answer of more than 16 MiB".into());
        }
        Ok(())
    }

    /// Sees a header or trailer.
    pub(super) fn see(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"grpc-status" if value == b"0" => self.status = Status::Ok,
            b"grpc-status" => self.status = Status::Failed(value.to_vec()),
            b"grpc-message" => self.detail = value.to_vec(),
            _ => {}
        }
    }

    /// The call once its answer is all there.
    pub(super) fn end(self) -> Answer<C> {
        let outcome = match self.status {
            Status::Ok => message(self.answer),
            // With HTTP status 200.
            Status::Failed(status) => Err(Failure {
                reason: format!("grpc-status {}", String::from_utf8_lossy(&status)),
                detail: String::from_utf8_lossy(&self.detail).into_owned(),
            }),
            Status::Unknown => Err(Failure::new("no grpc-status")),
        };
        Answer {
            call: self.call,
            outcome,
        }
    }

    /// The call when there will be no answer.
    pub(super) fn fail(self, failure: Failure) -> Answer<C> {
        Answer {
            call: self.call,
            outcome: Err(failure),
        }
    }
}

/// What goes before a message.
pub(crate) fn prefix(message: &[u8]) -> Outcome<[u8; PREFIX_SIZE]> {
    let [a, b, c, d] = u32::try_from(message.len())?.to_be_bytes();
    Ok([0, a, b, c, d])
}

/// The message without its prefix, of which there must be one.
fn message(answer: Vec<u8>) -> Result<Bytes, Failure> {
    let Some(([compressed, length @ ..], rest)) = answer.split_first_chunk::<PREFIX_SIZE>() else {
        return Err(Failure::new("no message"));
    };
    if *compressed != 0 || usize::try_from(u32::from_be_bytes(*length)) != Ok(rest.len()) {
        return Err(Failure::new("not one uncompressed message"));
    }
    Ok(Bytes::from(answer).slice(PREFIX_SIZE..))
}
