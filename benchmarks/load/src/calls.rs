// SPDX-License-Identifier: Apache-2.0
//! What a call says, and what its answers mean for it.

use std::time::Instant;

use bytes::Bytes;
use prost::Message;

use crate::Outcome;
use crate::http2::{Failure, RequestHeaders};
use crate::messages::Messages;
use crate::options::{Options, Role};
use crate::protocol::{Decided, Protocol};
use crate::report::{Sample, Status};

const RECORD: &str = "/taximeter.v1.MeteringService/Record";
const RECORD_BATCH: &str = "/taximeter.v1.MeteringService/RecordBatch";
/// What a `RecordResult` begins with whose outcome is a response.
const RECORDED_TAG: u8 = 0x0a;
/// Places of the methods in the headers of requests.
const QUESTION_METHOD: usize = 0;
const RECORD_METHOD: usize = 1;
const RECORD_BATCH_METHOD: usize = 2;

/// A `RecordBatchResponse` whose results are only looked at: what is measured has the same cores.
#[derive(Clone, PartialEq, Message)]
struct Results {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    results: Vec<Bytes>,
}

/// One call of the schedule, on its way.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    number: u64,
    due: Instant,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Question,
    Record,
    RecordBatch,
    /// May it go on?
    Hold,
    /// What it used, after the answer at that time: the record is nobody's wait.
    Settle {
        decided: Instant,
    },
}

/// What to do after an answer.
pub(crate) enum Next {
    Send(Request),
    End(Sample),
}

/// What is to be sent for a call.
pub(crate) struct Request {
    pub(crate) method: usize,
    pub(crate) message: Vec<u8>,
    pub(crate) call: Call,
}

/// Makes calls of one kind.
pub(crate) struct Calls {
    role: Role,
    is_batch: bool,
    holds: bool,
    protocol: Protocol,
    messages: Messages,
}

impl Calls {
    pub(crate) fn new(options: &Options, messages: Messages) -> Self {
        Self {
            role: options.role,
            is_batch: options.batch > 1,
            holds: options.holds,
            protocol: options.protocol,
            messages,
        }
    }

    /// Headers of a connection on which they go.
    pub(crate) fn headers(options: &Options) -> RequestHeaders {
        RequestHeaders::new(&[options.protocol.path(), RECORD, RECORD_BATCH], &options.key)
    }

    /// Begins a call.
    pub(crate) fn begin(&self, number: u64, due: Instant) -> Request {
        let (step, method, message) = match self.role {
            Role::Meter => (Step::Hold, QUESTION_METHOD, self.messages.check_with_hold(number)),
            Role::Record if self.is_batch => (
                Step::RecordBatch,
                RECORD_BATCH_METHOD,
                self.messages.record_batch(number),
            ),
            Role::Record => (
                Step::Record,
                RECORD_METHOD,
                self.messages.record(number, String::new()),
            ),
            Role::Check | Role::Question | Role::Floor => {
                let message = if self.holds {
                    self.messages.check_with_hold(number)
                } else {
                    self.protocol.question(self.messages.tenant(number))
                };
                (Step::Question, QUESTION_METHOD, message)
            }
        };
        let call = Call { number, due, step };
        Request {
            method,
            message,
            call,
        }
    }

    /// Goes on with a call whose answer came at that time.
    pub(crate) fn go_on(&self, call: Call, outcome: &Result<Bytes, Failure>, now: Instant) -> Outcome<Next> {
        let Ok(answer) = outcome else {
            return Ok(call.end(Status::Failed, now));
        };
        let status = match call.step {
            Step::Question if self.protocol.is_denied(answer)? => Status::Denied,
            Step::RecordBatch if has_failed(answer)? => Status::Failed,
            Step::Question | Step::Record | Step::RecordBatch | Step::Settle { .. } => Status::Ok,
            Step::Hold => {
                let answer = Decided::decode(answer.as_ref())?;
                if answer.is_denied() {
                    Status::Denied
                } else {
                    return Ok(Next::Send(self.settle(call, answer.hold_id, now)));
                }
            }
        };
        Ok(call.end(status, now))
    }

    fn settle(&self, call: Call, hold_id: String, decided: Instant) -> Request {
        Request {
            method: RECORD_METHOD,
            message: self.messages.record(call.number, hold_id),
            call: Call {
                step: Step::Settle { decided },
                ..call
            },
        }
    }
}

impl Call {
    fn end(self, status: Status, now: Instant) -> Next {
        let decided = match self.step {
            Step::Settle { decided } => decided,
            _ => now,
        };
        let latency = decided.saturating_duration_since(self.due);
        Next::End(Sample { latency, status })
    }
}

fn has_failed(answer: &Bytes) -> Outcome<bool> {
    let results = Results::decode(answer.clone())?.results;
    Ok(results.iter().any(|result| result.first() != Some(&RECORDED_TAG)))
}
