// SPDX-License-Identifier: Apache-2.0
//! `taximeter-load`: sends `CheckQuota` or Record calls, one after the other as a gateway meters a call, or the like of
//! other servers, and prints what happened as one JSON object. As `floor` it answers them with nothing behind, to show
//! what HTTP/2 alone costs; as `question` it writes what it would ask, for other generators to send.
//!
//! Closed loop by default: connections x streams calls are always in flight. With a rate, open loop: call n is due at
//! n / rate whatever happened before, and its latency counts from then, so a stall is seen by all that it delays.

mod calls;
mod connection;
mod floor;
mod http2;
mod lane;
mod messages;
mod options;
mod poll;
mod proto;
mod protocol;
mod report;
mod schedule;
mod workload;

use std::process::ExitCode;
use std::time::Instant;

use calls::Calls;
use lane::Lane;
use messages::Messages;
use options::{Options, Role};
use report::{Results, write_report};
use schedule::Schedule;
use workload::Workload;

/// The product's, so that the floor is what its front alone costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => return fail(&problem),
    };
    let outcome = match options.role {
        Role::Floor => serve_floor(&options),
        Role::Question => write_question(&options),
        Role::Check | Role::Record | Role::Meter => run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(problem: &str) -> ExitCode {
    report::write_problem(problem);
    ExitCode::FAILURE
}

fn serve_floor(options: &Options) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(&options.address).await?;
        report::write_problem(&format!("serving on {}", listener.local_addr()?));
        floor::serve(listener).await
    })
}

/// Makes the calls, on threads that share nothing: connections and calls are dealt to them.
fn run(options: &Options) -> Outcome<()> {
    let calls = Calls::new(options, messages(options)?);
    let threads = u64::try_from(options.threads)?.min(options.connections);
    let mut lanes = Vec::new();
    for thread in 0..threads {
        let others = options.connections.saturating_sub(thread).saturating_sub(1);
        let connections = others.checked_div(threads).unwrap_or_default().saturating_add(1);
        lanes.push(Lane::open(options, &calls, connections)?);
    }
    poll::set_timer_slack();
    let started = Instant::now();
    let ended = std::thread::scope(|scope| {
        let running: Vec<_> = (0..)
            .zip(lanes)
            .map(|(thread, lane)| {
                let schedule = Schedule::new(options, started, thread, threads);
                scope.spawn(move || lane.run(schedule))
            })
            .collect();
        running
            .into_iter()
            .map(|lane| lane.join().map_err(|_| "a thread panicked")?)
            .collect::<Outcome<Vec<_>>>()
    })?;
    let elapsed = started.elapsed();
    write_report(options, elapsed, Results::of_all(ended))
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
    report::write_bytes(&http2::prefix(&question)?)?;
    report::write_bytes(&question)
}
