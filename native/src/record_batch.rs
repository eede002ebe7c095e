// SPDX-License-Identifier: Apache-2.0
//! `RecordBatch`: many records of one call, each with an outcome of its own.

use bytes::Bytes;
use http::Response;
use prost::{Message, encode_length_delimiter, length_delimiter_len};

use crate::access::Principal;
use crate::engine::Engine;
use crate::error::{Failure, internal, invalid_field, malformed};
use crate::grpc::{self, AnswerBody};
use crate::proto::taximeter::v1::{ErrorReason, RecordBatchRequest, RecordResponse};
use crate::record_path::RecordPath;

const COUNT_MAX: usize = 500;
/// Less than nearly every record takes in a message.
const ENCODED_SIZE_MIN: usize = 64;
/// Room for what an answer takes in a message.
const ANSWER_CAPACITY: usize = 320;
/// What stands before lengths: of a result in `RecordBatchResponse`, and of what it holds.
const RESULT_TAG: u8 = 0x0a;
const RESPONSE_TAG: u8 = 0x0a;
const ERROR_TAG: u8 = 0x12;

/// Reads the records of a call. Fails when there are none, or too many.
pub(crate) fn decode(encoded: Bytes) -> Result<RecordBatchRequest, Failure> {
    // Records are large, and to grow would move them.
    let room = encoded.len().checked_div(ENCODED_SIZE_MIN).unwrap_or_default();
    let mut message = RecordBatchRequest {
        records: Vec::with_capacity(room.min(COUNT_MAX)),
    };
    message.merge(encoded).map_err(|_| malformed())?;
    let count = message.records.len();
    let (reason, description) = match count {
        0 => (ErrorReason::FieldRequired, "at least 1"),
        1..=COUNT_MAX => return Ok(message),
        _ => (ErrorReason::BatchTooLarge, "at most 500"),
    };
    Err(invalid_field("records", reason, description).with("count", count.to_string()))
}

/// Records what the caller may record.
pub(crate) async fn serve(
    engine: &Engine,
    message: RecordBatchRequest,
    principal: &Principal,
) -> Response<AnswerBody> {
    let RecordBatchRequest { mut records } = message;
    let (mut refused, mut paths) = (Vec::new(), Vec::with_capacity(records.len()));
    let mut at = 0_usize;
    records.retain(|record| {
        let reached = principal.reach(&record.tenant);
        let may = reached.is_ok();
        match reached {
            Ok(()) => paths.push(RecordPath::InBatch(at)),
            Err(failure) => refused.push((at, failure)),
        }
        at = at.saturating_add(1);
        may
    });
    let answers = engine.record(&records, &paths).await;
    let (mut answers, mut refused) = (answers.into_iter(), refused.into_iter().peekable());
    grpc::ok_with(at.saturating_mul(ANSWER_CAPACITY), |frame| {
        let mut scratch = Vec::with_capacity(ANSWER_CAPACITY);
        for place in 0..at {
            let answer = match refused.next_if(|(at, _)| *at == place) {
                Some((_, failure)) => Err(failure),
                None => answers.next().unwrap_or_else(|| Err(internal("unanswered"))),
            };
            push_result(answer, &mut scratch, frame);
        }
    })
}

/// Appends a `RecordResult` to a `RecordBatchResponse`. By hand, because a message that is made of messages made of
/// messages asks the innermost ones for their length once for each that they are in.
fn push_result(answer: Result<RecordResponse, Failure>, scratch: &mut Vec<u8>, results: &mut Vec<u8>) {
    scratch.clear();
    // A vector has room for everything.
    let (tag, _) = match answer {
        Ok(response) => (RESPONSE_TAG, response.encode(scratch)),
        Err(failure) => (ERROR_TAG, failure.to_status().encode(scratch)),
    };
    let size = scratch.len();
    results.push(RESULT_TAG);
    let _ = encode_length_delimiter(
        size.saturating_add(length_delimiter_len(size)).saturating_add(1),
        results,
    );
    results.push(tag);
    let _ = encode_length_delimiter(size, results);
    results.extend_from_slice(scratch);
}
