// SPDX-License-Identifier: Apache-2.0
//! Calls of servers on sockets: hyper's, and one that closes whatever it accepts.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::*;
use crate::floor;
use crate::messages::Messages;
use crate::report::Status;
use crate::workload::Workload;

/// Runs a server until the test's process ends; returns its address.
fn serve<F: Future<Output = Outcome<()>> + Send>(
    server: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> Outcome<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || runtime.block_on(server(listener)));
    Ok(address)
}

/// How many calls ended well, and why others did not.
fn run(address: &str, arguments: &str) -> Outcome<(usize, String)> {
    let arguments = format!("{arguments} --connections 3 --address {address}");
    let options = Options::parse(arguments.split(' ').map(str::to_owned))?;
    let messages = Messages::new(&options, Workload::new(1, false, "")?, 0);
    let calls = Calls::new(&options, messages);
    let lane = Lane::open(&options, &calls, options.connections)?;
    let results = lane.run(Schedule::new(&options, Instant::now(), 0, 1))?;
    let ok = results
        .samples
        .iter()
        .filter(|sample| sample.status == Status::Ok)
        .count();
    Ok((ok, results.failures()))
}

#[test]
fn every_call_is_answered_in_closed_and_open_loop() -> Outcome<()> {
    let address = serve(floor::serve)?;
    for (arguments, count) in [
        ("check --streams 5 --count 2000 --seconds 60", 2_000),
        ("meter --streams 5 --count 500 --seconds 60", 500),
        ("check --streams 1 --count 300 --rate 3000 --seconds 60", 300),
        // Larger than the windows that servers begin with.
        ("record --streams 4 --count 40 --batch 500 --seconds 60", 40),
    ] {
        assert_eq!(run(&address, arguments)?, (count, String::new()), "{arguments}");
    }
    Ok(())
}

#[test]
fn a_server_that_goes_away_in_good_order_costs_no_call() -> Outcome<()> {
    let opened = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&opened);
    let address = serve(move |listener| async move {
        loop {
            let (stream, _) = listener.accept().await?;
            counted.fetch_add(1, Ordering::Relaxed);
            let answered = Arc::new(AtomicU64::new(0));
            let service = hyper::service::service_fn({
                let answered = Arc::clone(&answered);
                move |request| {
                    answered.fetch_add(1, Ordering::Relaxed);
                    floor::answer(request)
                }
            });
            let connection =
                Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                let mut connection = std::pin::pin!(connection);
                std::future::poll_fn(|context| {
                    let polled = connection.as_mut().poll(context);
                    if answered.load(Ordering::Relaxed) > 100 {
                        connection.as_mut().graceful_shutdown();
                    }
                    polled
                })
                .await
            });
        }
    })?;
    let arguments = "check --streams 5 --count 3000 --seconds 60";
    assert_eq!(run(&address, arguments)?, (3_000, String::new()));
    assert!(opened.load(Ordering::Relaxed) > 10, "connections");
    Ok(())
}

#[test]
fn calls_on_a_connection_that_breaks_are_failures_and_the_next_ones_go_on_another() -> Outcome<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || -> Result<Infallible, std::io::Error> {
        loop {
            let (mut stream, _) = listener.accept()?;
            std::thread::spawn(move || {
                // Its settings; then it reads until there is more than a client's beginning.
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
                let mut total = 0_usize;
                while total < 100 {
                    total = total.saturating_add(stream.read(&mut [0; 100])?);
                }
                stream.shutdown(std::net::Shutdown::Write)
            });
        }
    });
    let (ok, failures) = run(&address, "check --streams 2 --count 20 --seconds 60")?;
    assert_eq!((ok, &failures[..]), (0, "20 calls failed: closed by the server"));
    Ok(())
}
