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
const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";
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

/// Makes a call until it has an answer or a final status: at most five times, and within `limit`. The error
/// is that of the last attempt, or of the one before where the time was over before it.
pub(crate) async fn call<T, F: Future<Output = Result<T, Status>>>(
    budget: &Budget,
    safety: Safety,
    limit: Duration,
    attempt_once: impl Fn() -> F,
) -> Result<T, Error> {
    let deadline = Instant::now() + limit;
    budget.earn();
    let mut known: Option<Status> = None;
    let mut attempt = 1;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let longest = if safety == Safety::Idempotent {
            left.min(ATTEMPT_MAX)
        } else {
            left
        };
        let status = match timeout(longest, attempt_once()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => of_transport(status),
            Err(_) => Status::deadline_exceeded("no answer in time"),
        };
        // What never left this machine waits for the server to come back; it costs no attempt.
        let is_unsent = safety == Safety::Idempotent && is_refused(&status);
        let may_retry = is_unsent || is_retryable(safety, &status) && attempt < ATTEMPTS_MAX;
        let wait =
            pushback_or(&status, attempt).filter(|wait| may_retry && Instant::now() + *wait < deadline);
        // Where the time was over before the server could say anything new, what it said before tells more.
        let last = match known.take() {
            Some(before) if status.code() == Code::DeadlineExceeded => before,
            _ => status,
        };
        let Some(wait) = wait.filter(|_| is_unsent || budget.spend()) else {
            return Err(last.into());
        };
        known = Some(last);
        sleep(wait).await;
        attempt += u32::from(!is_unsent);
    }
}

fn is_retryable(safety: Safety, status: &Status) -> bool {
    let code = status.code();
    code == Code::Unavailable
        || safety == Safety::Idempotent && is_unknown(code)
        // The server says when it will have time.
        || code == Code::ResourceExhausted && status.metadata().contains_key(PUSHBACK_KEY)
}

/// Whether a status leaves open if a record was recorded, so that sending it again may tell.
pub(crate) fn is_unknown(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Unknown
    )
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
    if let Some(asked) = status.metadata().get(PUSHBACK_KEY) {
        return asked.to_str().ok()?.parse().ok().map(Duration::from_millis);
    }
    let longest_ms = (BACKOFF_FIRST_MS << (attempt - 1)).min(BACKOFF_MAX_MS);
    // Without random bytes everybody waits as long: no worse than before.
    let drawn_ms = getrandom::u64().map_or(longest_ms, |random| random % (longest_ms + 1));
    Some(Duration::from_millis(drawn_ms))
}
