// SPDX-License-Identifier: Apache-2.0
//! Replies of the store, read as they arrive.
//!
//! RESP2, <https://valkey.io/topics/protocol/>. What has been read is never read again: a reply of megabytes that
//! comes in pieces costs its size once.

use bytes::{Buf, BytesMut};
use redis::Value;

/// Arrays within arrays; the scripts nest two.
const DEPTH_MAX: usize = 8;
const LINE_SIZE_MAX: usize = 64 << 10;
/// No reply asked for here is larger.
const BULK_SIZE_MAX: usize = 512 << 20;
const ELEMENT_COUNT_MAX: usize = 16 << 20;
const END: &[u8] = b"\r\n";

/// One reply of the store.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Value(Value),
    /// What it refused, such as "WRONGTYPE Operation against a key".
    Error(String),
}

/// The bytes are not RESP2.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotResp;

/// An array whose elements are still coming.
struct Open {
    missing: usize,
    elements: Vec<Value>,
}

/// Turns bytes into replies.
#[derive(Default)]
pub(crate) struct ReplyReader {
    open: Vec<Open>,
    /// Size of a bulk string whose header has been read.
    bulk_size: Option<usize>,
}

/// What one step read.
enum Step {
    Value(Value),
    Array(usize),
    Bulk(usize),
    Error(String),
}

impl ReplyReader {
    /// Takes the next whole reply from the front of `bytes`; None when there is none yet.
    pub(crate) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Reply>, NotResp> {
        while let Some(step) = self.step(bytes)? {
            let value = match step {
                Step::Error(text) if self.open.is_empty() => return Ok(Some(Reply::Error(text))),
                // An error within an array would be one command's of a transaction, and none is sent.
                Step::Error(_) => return Err(NotResp),
                Step::Bulk(size) => {
                    self.bulk_size = Some(size);
                    continue;
                }
                Step::Array(0) => Value::Array(Vec::new()),
                Step::Array(count) => {
                    if self.open.len() >= DEPTH_MAX {
                        return Err(NotResp);
                    }
                    self.open.push(Open {
                        missing: count,
                        elements: Vec::with_capacity(count.min(1_024)),
                    });
                    continue;
                }
                Step::Value(value) => value,
            };
            if let Some(whole) = self.close(value) {
                return Ok(Some(Reply::Value(whole)));
            }
        }
        Ok(None)
    }

    /// Puts a value where it belongs; returns it, or the arrays that it completes, when nothing is open any more.
    fn close(&mut self, value: Value) -> Option<Value> {
        let mut value = value;
        while let Some(mut array) = self.open.pop() {
            array.elements.push(value);
            array.missing = array.missing.saturating_sub(1);
            if array.missing > 0 {
                self.open.push(array);
                return None;
            }
            value = Value::Array(array.elements);
        }
        Some(value)
    }

    fn step(&mut self, bytes: &mut BytesMut) -> Result<Option<Step>, NotResp> {
        if let Some(size) = self.bulk_size {
            let Some(end) = bytes.get(size..size.saturating_add(END.len())) else {
                return Ok(None);
            };
            if end != END {
                return Err(NotResp);
            }
            let bulk = bytes.get(..size).unwrap_or_default().to_vec();
            bytes.advance(size.saturating_add(END.len()));
            self.bulk_size = None;
            return Ok(Some(Step::Value(Value::BulkString(bulk))));
        }
        let Some(size) = bytes.windows(END.len()).position(|window| window == END) else {
            return if bytes.len() > LINE_SIZE_MAX {
                Err(NotResp)
            } else {
                Ok(None)
            };
        };
        let step = read_line(bytes.get(..size).unwrap_or_default())?;
        bytes.advance(size.saturating_add(END.len()));
        Ok(Some(step))
    }
}

fn read_line(line: &[u8]) -> Result<Step, NotResp> {
    let (kind, rest) = line.split_first().ok_or(NotResp)?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    match *kind {
        b'+' if rest == b"OK" => Ok(Step::Value(Value::Okay)),
        b'+' => Ok(Step::Value(Value::SimpleString(text()))),
        b'-' => Ok(Step::Error(text())),
        b':' => Ok(Step::Value(Value::Int(number(rest)?))),
        b'$' => match number(rest)? {
            -1 => Ok(Step::Value(Value::Nil)),
            size => Ok(Step::Bulk(size_within(size, BULK_SIZE_MAX)?)),
        },
        b'*' => match number(rest)? {
            -1 => Ok(Step::Value(Value::Nil)),
            count => Ok(Step::Array(size_within(count, ELEMENT_COUNT_MAX)?)),
        },
        _ => Err(NotResp),
    }
}

fn number(digits: &[u8]) -> Result<i64, NotResp> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(NotResp)
}

fn size_within(size: i64, maximum: usize) -> Result<usize, NotResp> {
    usize::try_from(size)
        .ok()
        .filter(|size| *size <= maximum)
        .ok_or(NotResp)
}
