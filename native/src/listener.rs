// SPDX-License-Identifier: Apache-2.0
//! The public port: takes connections, gives each to a worker, and drains them in the end.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::connection::{self, ConnectionLimits, Ends};
use crate::front::Shared;
use crate::standing::{Standing, Strangers};

const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// A bound port that serves until drained.
pub(crate) struct Listener {
    address: SocketAddr,
    runtime: Handle,
    stop: watch::Sender<bool>,
    drained: std::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

impl Listener {
    /// Serves the listener on the runtime.
    pub(crate) fn start(
        runtime: &Handle,
        listener: StdListener,
        shared: Arc<Shared>,
        limits: ConnectionLimits,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let (stop, stopped) = watch::channel(false);
        let (done, drained) = oneshot::channel();
        runtime.spawn(accept(listener, shared, limits, stopped, done));
        Ok(Self {
            address,
            runtime: runtime.clone(),
            stop,
            drained: std::sync::Mutex::new(Some(drained)),
        })
    }

    /// Address as bound.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and lets calls in flight finish. False when the limit cut some off.
    pub(crate) fn drain(&self, limit: Duration) -> bool {
        // Without a receiver the port has stopped already.
        let _ = self.stop.send(true);
        let Some(drained) = crate::engine::lock(&self.drained).take() else {
            return true;
        };
        self.runtime
            .block_on(async { tokio::time::timeout(limit, drained).await.is_ok() })
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    limits: ConnectionLimits,
    mut stopped: watch::Receiver<bool>,
    done: oneshot::Sender<()>,
) {
    let (close, closing) = watch::channel(false);
    let mut strangers = Strangers::default();
    loop {
        tokio::select! {
            connection = listener.accept() => match connection {
                // The receiver here is no connection.
                Ok((stream, _)) if close.receiver_count() <= limits.connections_max || strangers.evict() => {
                    let standing = Arc::new(Standing::new());
                    strangers.add(&standing, limits.connections_max);
                    hand_over(stream, &shared, Ends { closing: closing.clone(), standing, age_max: limits.age_max });
                }
                // Everybody who is connected is known. Clients try again, and connections age.
                Ok(_) => {}
                // Out of descriptors, for one: the next moment may be better.
                Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
            },
            _ = stopped.changed() => break,
        }
    }
    drop((listener, closing));
    // Each connection holds a receiver until it has ended.
    let _ = close.send(true);
    close.closed().await;
    // A drain that gave up no longer listens.
    let _ = done.send(());
}

/// Gives a connection to a worker, where it stays.
fn hand_over(stream: TcpStream, shared: &Arc<Shared>, ends: Ends) {
    let (Ok(stream), Some(worker)) = (stream.into_std(), shared.engine.workers.next()) else {
        return;
    };
    let shared = Arc::clone(shared);
    worker.spawn(async move {
        if let Ok(stream) = TcpStream::from_std(stream) {
            connection::serve(stream, shared, ends).await;
        }
    });
}
