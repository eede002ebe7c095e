// SPDX-License-Identifier: Apache-2.0
//! `taximeter-load`: sends `CheckQuota` or Record calls, one after the other as a gateway meters a call, or the like of
//! other servers, and prints what happened as one JSON object. As `floor` it answers them with nothing behind, to show
//! what HTTP/2 alone costs; as `question` it writes what it would ask, for other generators to send.
//!
//! Closed loop by default: connections x streams calls are always in flight. With a rate, open loop: call n is due at
//! n / rate whatever happened before, and its latency counts from then, so a stall is seen by all that it delays.

mod alarm;
mod calls;
mod floor;
mod messages;
mod options;
mod proto;
mod protocol;
mod report;
mod schedule;
mod workload;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calls::Caller;
use messages::Messages;
use options::{Options, Role};
use report::{Sample, write_report};
use schedule::Schedule;
use tokio::task::JoinSet;
use workload::Workload;

/// The product's, so that the floor is what its front alone costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => Arc::new(options),
        Err(problem) => return fail(&problem),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads)
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(Into::into)
        .and_then(|runtime| match options.role {
            Role::Floor => runtime.block_on(floor::serve(&options.address)),
            Role::Question => write_question(&options),
            Role::Check | Role::Record | Role::Meter => runtime.block_on(run(options)),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(problem: &str) -> ExitCode {
    report::write_problem(problem);
    ExitCode::FAILURE
}

async fn run(options: Arc<Options>) -> Outcome<()> {
    let mut streams = JoinSet::new();
    let mut callers = Vec::new();
    let messages = Arc::new(messages(&options)?);
    for _ in 0..options.connections {
        callers.push(Caller::connect(&options, Arc::clone(&messages)).await?);
    }
    let started = Instant::now();
    let schedule = Arc::new(Schedule::start(&options, started)?);
    for caller in callers {
        for _ in 0..options.streams {
            streams.spawn(stream(
                caller.clone(),
                Arc::clone(&options),
                Arc::clone(&schedule),
            ));
        }
    }
    let mut samples = Vec::new();
    while let Some(done) = streams.join_next().await {
        samples.extend(done??);
    }
    write_report(&options, started.elapsed(), samples)
}

fn messages(options: &Options) -> Outcome<Messages> {
    let workload = Workload::new(options.tenants, options.is_skewed, &options.sizes)?;
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(Messages::new(
        options,
        workload,
        u64::try_from(started.as_millis())?,
    ))
}

/// Writes one call to standard output: the path on a line, then the framed message.
fn write_question(options: &Options) -> Outcome<()> {
    let question = options.protocol.question(messages(options)?.tenant(0));
    report::write_bytes(options.protocol.path().as_bytes())?;
    report::write_bytes(b"\n")?;
    report::write_bytes(&calls::frame(&question)?)
}

/// One stream: a call after the other, until the schedule ends.
async fn stream(mut caller: Caller, options: Arc<Options>, schedule: Arc<Schedule>) -> Outcome<Vec<Sample>> {
    let mut samples = Vec::new();
    while let Some((number, due)) = schedule.next().await {
        let ended = caller.call(&options, number).await?;
        let latency = ended
            .decided
            .checked_duration_since(due)
            .unwrap_or(Duration::ZERO);
        let status = ended.status;
        samples.push(Sample { latency, status });
    }
    Ok(samples)
}
