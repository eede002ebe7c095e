// SPDX-License-Identifier: Apache-2.0
//! Sending again: tonic has no service config, so this does what gRPC's own retries do elsewhere.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::budget::Budget;
use crate::error::Error;

const ATTEMPTS_MAX: u32 = 5;
const BACKOFF_FIRST_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 2_000;
/// The server answers or fails within 2 s; what takes longer was lost on the way.
const ATTEMPT_MAX: Duration = Duration::from_millis(2_500);

/// What a call may do again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Only where the server could not answer.
    Unavailable,
    /// On every status that leaves the outcome unknown, and until the deadline while no server is there.
    Idempotent,
}

/// Makes a call until it has an answer or a final status: at most five times, and within `limit`.
pub(crate) async fn call<T, F: Future<Output = Result<T, Status>>>(
    budget: &Budget,
    safety: Safety,
    limit: Duration,
    attempt_once: impl Fn() -> F,
) -> Result<T, Error> {
    let deadline = Instant::now() + limit;
    let mut attempt = 1;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let longest = if safety == Safety::Idempotent {
            left.min(ATTEMPT_MAX)
        } else {
            left
        };
        let status = match timeout(longest, attempt_once()).await {
            Ok(Ok(answer)) => {
                budget.note_success();
                return Ok(answer);
            }
            Ok(Err(status)) => of_transport(status),
            Err(_) => Status::deadline_exceeded("no answer in time"),
        };
        // What never left this machine waits for the server to come back; it costs no attempt.
        let is_unsent = safety == Safety::Idempotent && is_refused(&status);
        let may_retry =
            is_unsent || is_retryable(safety, status.code()) && attempt < ATTEMPTS_MAX && budget.may_retry();
        let Some(wait) =
            pushback_or(&status, attempt).filter(|wait| may_retry && Instant::now() + *wait < deadline)
        else {
            return Err(status.into());
        };
        sleep(wait).await;
        attempt += u32::from(!is_unsent);
    }
}

fn is_retryable(safety: Safety, code: Code) -> bool {
    match code {
        Code::Unavailable => true,
        Code::DeadlineExceeded | Code::Internal | Code::Unknown => safety == Safety::Idempotent,
        _ => false,
    }
}

/// A status that no server sent is a connection that broke: gRPC calls that UNAVAILABLE, tonic by several names.
fn of_transport(status: Status) -> Status {
    if status.source().is_some() && matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
    {
        let mut renamed = Status::unavailable(status.message());
        renamed.set_source(std::sync::Arc::new(io::Error::other(status)));
        return renamed;
    }
    status
}

/// Whether no server listened.
fn is_refused(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// How long to wait: as the server asks for, `None` where it asks for no retry, or drawn from 0 to the longest.
fn pushback_or(status: &Status, attempt: u32) -> Option<Duration> {
    if let Some(asked) = status.metadata().get("grpc-retry-pushback-ms") {
        return asked.to_str().ok()?.parse().ok().map(Duration::from_millis);
    }
    let longest_ms = (BACKOFF_FIRST_MS << (attempt - 1)).min(BACKOFF_MAX_MS);
    // Without random bytes everybody waits as long: no worse than before.
    let drawn_ms = getrandom::u64().map_or(longest_ms, |random| random % (longest_ms + 1));
    Some(Duration::from_millis(drawn_ms))
}
