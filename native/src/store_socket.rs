// SPDX-License-Identifier: Apache-2.0
//! The Unix socket of the store.
//!
//! A socket of the event loop's own is told each time that the store has taken what was written: a turn of the loop
//! for nothing, just when the store works on it. This one is told of replies only, and of room to write only while it
//! waits for some.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Most that one read takes.
const READ_SIZE: usize = 64 << 10;

/// A connected socket, on the event loop that it was made on.
pub(crate) struct StoreSocket {
    stream: AsyncFd<UnixStream>,
    /// Tells when there is room to write, while there is none.
    room: Option<AsyncFd<UnixStream>>,
    taken: Box<[u8]>,
}

impl StoreSocket {
    /// Connects.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(path).await?.into_std()?;
        Ok(Self {
            stream: register(stream, Interest::READABLE)?,
            room: None,
            taken: vec![0; READ_SIZE].into_boxed_slice(),
        })
    }
}

#[expect(
    deprecated,
    reason = "what is to replace it is unsafe, because of descriptors that others close; a stream's is its own"
)]
fn register(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

impl AsyncRead for StoreSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut readable = ready!(this.stream.poll_read_ready(context))?;
            let size = buffer.remaining().min(this.taken.len());
            let place = this.taken.get_mut(..size).unwrap_or_default();
            let Ok(read) = readable.try_io(|stream| stream.get_ref().read(place)) else {
                continue;
            };
            let count = read?;
            if count > 0 && count < size {
                // All that there was: what comes next is told.
                readable.clear_ready();
            }
            buffer.put_slice(this.taken.get(..count).unwrap_or_default());
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for StoreSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            if let Some(room) = &this.room {
                let _ = ready!(room.poll_write_ready(context))?;
                this.room = None;
            }
            let mut stream = this.stream.get_ref();
            match stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let other = stream.try_clone()?;
                    this.room = Some(register(other, Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(std::net::Shutdown::Write))
    }
}
