// SPDX-License-Identifier: Apache-2.0
//! One pipelined connection to the store.
//!
//! Calls append their command to one buffer and wait for their turn; one task writes what has gathered, all at once,
//! and hands out the replies in order. Script calls that can go together become one, see `script_part.rs`. Ours,
//! because the general client costs more per call than the call.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use redis::{Client, Cmd, ConnectionAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::engine::lock;
use crate::resp::{Reply, ReplyReader};
use crate::script_part::{Answered, Gathered, Part};
use crate::store::StoreError;
use crate::store_socket::StoreSocket;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_SIZE: usize = 64 << 10;

/// A connection; dropped with its last owner.
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    driver: AtomicWaker,
}

#[derive(Default)]
struct Queue {
    /// Commands that nobody has begun to write.
    commands: Vec<u8>,
    /// Script calls that wait for others to go with, no longer than until the commands are written.
    gathered: Vec<Gathered>,
    /// Who waits for which reply, oldest first.
    waiting: VecDeque<Waiting>,
    is_closed: bool,
}

/// Who waits for one reply.
enum Waiting {
    One(oneshot::Sender<Reply>),
    Parts(Gathered),
}

impl Connection {
    /// Connects and signs in; what drives the connection runs on the caller's event loop.
    pub(crate) async fn open(client: &Client) -> Result<Self, StoreError> {
        timeout(CONNECT_TIMEOUT, Self::open_unlimited(client))
            .await
            .map_err(|_| StoreError::Unavailable)?
    }

    async fn open_unlimited(client: &Client) -> Result<Self, StoreError> {
        let info = client.get_connection_info();
        let shared = Arc::new(Shared::default());
        match info.addr() {
            ConnectionAddr::Unix(path) => {
                let stream = StoreSocket::connect(path)
                    .await
                    .map_err(|_| StoreError::Unavailable)?;
                tokio::spawn(drive(stream, Arc::clone(&shared)));
            }
            ConnectionAddr::Tcp(host, port) => {
                let address = (host.as_str(), *port);
                let stream = TcpStream::connect(address)
                    .await
                    .map_err(|_| StoreError::Unavailable)?;
                // Commands are written whole; waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                tokio::spawn(drive(stream, Arc::clone(&shared)));
            }
            _ => return Err(StoreError::Unavailable),
        }
        let connection = Self { shared };
        let settings = info.redis_settings();
        if let Some(password) = settings.password() {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = settings.username() {
                auth.arg(username);
            }
            connection.sign_in(auth.arg(password)).await?;
        }
        if settings.db() != 0 {
            let mut select = redis::cmd("SELECT");
            connection.sign_in(select.arg(settings.db())).await?;
        }
        Ok(connection)
    }

    async fn sign_in(&self, command: &Cmd) -> Result<(), StoreError> {
        match self.reply(command, CONNECT_TIMEOUT).await? {
            Reply::Value(_) => Ok(()),
            Reply::Error(text) => Err(StoreError::of_reply(&text)),
        }
    }

    /// Runs one command within the limit; a refusal is a reply.
    pub(crate) async fn reply(&self, command: &Cmd, limit: Duration) -> Result<Reply, StoreError> {
        let (sender, reply) = oneshot::channel();
        {
            let mut queue = self.queue()?;
            command.write_packed_command(&mut queue.commands);
            queue.waiting.push_back(Waiting::One(sender));
        }
        self.wait(reply, limit).await
    }

    /// Runs a part of a script call within the limit, together with those that come at the same time.
    pub(crate) async fn answers(&self, part: &Part, limit: Duration) -> Result<Answered, StoreError> {
        let (sender, answered) = oneshot::channel();
        Gathered::take_in(&mut self.queue()?.gathered, part, sender);
        self.wait(answered, limit).await
    }

    fn queue(&self) -> Result<MutexGuard<'_, Queue>, StoreError> {
        let queue = lock(&self.shared.queue);
        if queue.is_closed {
            Err(StoreError::Unavailable)
        } else {
            Ok(queue)
        }
    }

    async fn wait<T>(&self, reply: oneshot::Receiver<T>, limit: Duration) -> Result<T, StoreError> {
        self.shared.driver.wake();
        match timeout(limit, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(StoreError::Unavailable),
            Err(_) => Err(StoreError::Timeout),
        }
    }
}

impl Queue {
    /// Moves what is to be written now into the buffer, which is empty.
    fn take_commands(&mut self, buffer: &mut Vec<u8>) {
        for gathered in self.gathered.drain(..) {
            gathered.write(&mut self.commands);
            self.waiting.push_back(Waiting::Parts(gathered));
        }
        // The two buffers take turns: what has gathered is written from where it stands.
        std::mem::swap(buffer, &mut self.commands);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    /// Fails everybody who waits, and everybody who comes.
    fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        queue.gathered.clear();
        queue.waiting.clear();
        drop(queue);
        self.driver.wake();
    }
}

/// Writes commands and hands out replies until the connection breaks or nobody owns it.
async fn drive(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let mut driver = Driver {
        stream,
        shared: Arc::clone(&shared),
        writing: Vec::new(),
        written_size: 0,
        reading: BytesMut::new(),
        reader: ReplyReader::default(),
    };
    // However it ends, there is nobody to tell but those who wait.
    let _ = std::future::poll_fn(|context| driver.poll(context)).await;
    shared.close();
}

struct Driver<S> {
    stream: S,
    shared: Arc<Shared>,
    /// Commands that are being written, and how much of them has been.
    writing: Vec<u8>,
    written_size: usize,
    reading: BytesMut,
    reader: ReplyReader,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Ready only once the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.driver.register(context.waker());
        // Replies first: who gets one may have the next command ready, and all are written together.
        if let Poll::Ready(ended) = self.poll_read(context) {
            return Poll::Ready(ended);
        }
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            return Poll::Ready(Err(error));
        }
        if lock(&self.shared.queue).is_closed {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut rest = self.writing.get(self.written_size..).unwrap_or_default();
            if rest.is_empty() {
                self.writing.clear();
                self.written_size = 0;
                lock(&self.shared.queue).take_commands(&mut self.writing);
                rest = &self.writing;
                if rest.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            let size = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if size == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written_size = self.written_size.saturating_add(size);
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.reading.reserve(READ_SIZE);
            let count = ready!(pin!(self.stream.read_buf(&mut self.reading)).poll(context))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.hand_out()?;
        }
    }

    fn hand_out(&mut self) -> io::Result<()> {
        while let Some(reply) = self
            .reader
            .next(&mut self.reading)
            .map_err(|_| io::ErrorKind::InvalidData)?
        {
            let waiting = lock(&self.shared.queue).waiting.pop_front();
            let waiting = waiting.ok_or(io::ErrorKind::InvalidData)?;
            match waiting {
                // Whoever gave up waiting does not want it.
                Waiting::One(waiting) => drop(waiting.send(reply)),
                Waiting::Parts(gathered) => gathered.hand_out(reply),
            }
        }
        Ok(())
    }
}
