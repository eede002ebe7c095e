// SPDX-License-Identifier: Apache-2.0
//! A socket and the session on it. Reads and writes as much as there is at once.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Outcome;
use crate::calls::Call;
use crate::http2::{Answer, RequestHeaders, Session};

const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);
const INPUT_SIZE: usize = 262_144;

/// Where connections read to: one after the other, so that it stays in the core's cache.
pub(crate) struct Input(Vec<u8>);

impl Input {
    pub(crate) fn new() -> Self {
        Self(vec![0; INPUT_SIZE])
    }
}

/// An open connection, HTTP/2 without TLS.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) session: Session<Call>,
    /// How much of the session's output has been written.
    written: usize,
    /// The socket has not taken all of it.
    pub(crate) is_blocked: bool,
    /// The beginning of a frame whose rest has not come.
    part: Vec<u8>,
}

impl Connection {
    /// Connects, and waits for the server's settings: what comes then does not wait.
    pub(crate) fn open(address: &str, headers: &RequestHeaders, input: &mut Input) -> Outcome<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(BEGIN_TIMEOUT))?;
        let session = Session::new(headers.clone())?;
        let mut connection = Self {
            socket,
            session,
            written: 0,
            is_blocked: false,
            part: Vec::new(),
        };
        connection.flush()?;
        while !connection.session.is_ready() {
            if connection.read(input, &mut Vec::new())? == 0 {
                return Err(format!("{address}: no HTTP/2 settings within {BEGIN_TIMEOUT:?}").into());
            }
        }
        connection.socket.set_nonblocking(true)?;
        connection.flush()?;
        Ok(connection)
    }

    /// Reads what is there: returns how many bytes, none when there is nothing yet.
    pub(crate) fn read(&mut self, input: &mut Input, answers: &mut Vec<Answer<Call>>) -> Outcome<usize> {
        let begun = self.part.len();
        let (part, room) = input.0.split_at_mut_checked(begun).ok_or("a frame without end")?;
        part.copy_from_slice(&self.part);
        let size = match self.socket.read(room) {
            Ok(0) => return Err("closed by the server".into()),
            Ok(size) => size,
            Err(error) if is_for_later(error.kind()) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let there = &input.0[..begun.saturating_add(size)];
        let taken = self.session.receive(there, answers)?;
        self.part.clear();
        self.part.extend_from_slice(&there[taken..]);
        Ok(size)
    }

    /// Writes what the session has to say: returns whether the socket took all of it.
    pub(crate) fn flush(&mut self) -> Outcome<bool> {
        while let Some(rest @ [_, ..]) = self.session.output.get(self.written..) {
            match self.socket.write(rest) {
                Ok(size) => self.written = self.written.saturating_add(size),
                Err(error) if is_for_later(error.kind()) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.session.output.clear();
        self.written = 0;
        Ok(true)
    }
}

fn is_for_later(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
