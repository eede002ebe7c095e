// SPDX-License-Identifier: Apache-2.0
//! One thread's connections, and the calls on them. It waits for sockets and for the next call that is due, and in a
//! turn reads what has come and writes what that leads to: one write per connection, however many calls are in it.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::calls::{Call, Calls, Next, Request};
use crate::connection::{Connection, Input};
use crate::http2::{Answer, Failure, RequestHeaders};
use crate::options::Options;
use crate::poll::Poll;
use crate::report::{Results, Sample};
use crate::schedule::{Line, Schedule};

/// A server that answers nothing for so long is not waited for.
const STALL_MAX: Duration = Duration::from_secs(60);
/// One that ends more connections than this does not want to be measured.
const REOPENED_MAX: u32 = 10_000;

/// Open connections, before their calls are due.
pub(crate) struct Lane<'a> {
    address: &'a str,
    headers: RequestHeaders,
    calls: &'a Calls,
    connections: Vec<Connection>,
    streams: u64,
    poll: Poll,
    input: Input,
    answers: Vec<Answer<Call>>,
    /// Connections that have something to write, each once.
    touched: Vec<usize>,
    reopened: u32,
    results: Results,
}

impl<'a> Lane<'a> {
    /// Opens so many connections.
    pub(crate) fn open(options: &'a Options, calls: &'a Calls, connections: u64) -> Outcome<Self> {
        let mut lane = Self {
            address: &options.address,
            headers: Calls::headers(options),
            calls,
            connections: Vec::new(),
            streams: options.streams,
            poll: Poll::new()?,
            input: Input::new(),
            answers: Vec::new(),
            touched: Vec::new(),
            reopened: 0,
            results: Results::default(),
        };
        for index in 0..usize::try_from(connections)? {
            let connection = Connection::open(lane.address, &lane.headers, &mut lane.input)?;
            lane.poll.add(&connection.socket, index)?;
            lane.connections.push(connection);
        }
        Ok(lane)
    }

    /// Makes the calls of the schedule.
    pub(crate) fn run(mut self, schedule: Schedule) -> Outcome<Results> {
        let mut line = Line::new(schedule, self.connections.len(), self.streams);
        let streams = line.idle_count();
        loop {
            let now = Instant::now();
            self.begin_due(&mut line, now)?;
            if line.has_ended(streams, now) {
                return Ok(self.results);
            }
            if !self.poll.wait(line.wake_at(now), STALL_MAX)? {
                self.give_up(&mut line)?;
            }
            for place in 0..self.poll.ready.len() {
                let index = self.poll.ready[place];
                self.read(index, &mut line)?;
            }
        }
    }

    /// Begins the calls that are due and for which a stream is idle.
    fn begin_due(&mut self, line: &mut Line, now: Instant) -> Outcome<()> {
        while let Some((index, number, due)) = line.take(now) {
            self.send(index, self.calls.begin(number, due))?;
        }
        while let Some(index) = self.touched.pop() {
            self.flush(index, line)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, request: Request) -> Outcome<()> {
        let Request {
            method,
            message,
            call,
        } = request;
        self.touch(index);
        self.connections[index].session.send(method, message, call)
    }

    fn touch(&mut self, index: usize) {
        if !self.touched.contains(&index) {
            self.touched.push(index);
        }
    }

    /// Reads what has come on a connection, and goes on with the calls that it answers.
    fn read(&mut self, index: usize, line: &mut Line) -> Outcome<()> {
        let connection = &mut self.connections[index];
        let outcome = connection.read(&mut self.input, &mut self.answers);
        let is_over = connection.session.is_over();
        let now = Instant::now();
        self.touch(index);
        self.go_on(index, line, now)?;
        match outcome {
            Err(error) => self.reopen(index, Some(&error.to_string()), line),
            Ok(_) if is_over => self.reopen(index, None, line),
            Ok(_) => Ok(()),
        }
    }

    fn go_on(&mut self, index: usize, line: &mut Line, now: Instant) -> Outcome<()> {
        let mut answers = std::mem::take(&mut self.answers);
        for Answer { call, outcome } in answers.drain(..) {
            match self.calls.go_on(call, &outcome, now)? {
                Next::Send(request) => self.send(index, request)?,
                Next::End(sample) => {
                    self.end(sample, outcome.err());
                    line.wait(index);
                }
            }
        }
        self.answers = answers;
        Ok(())
    }

    fn end(&mut self, sample: Sample, failure: Option<Failure>) {
        self.results.samples.push(sample);
        if let Some(failure) = failure {
            self.results.add_failure(failure);
        }
    }

    fn flush(&mut self, index: usize, line: &mut Line) -> Outcome<()> {
        let connection = &mut self.connections[index];
        match connection.flush() {
            Ok(is_empty) => {
                if connection.is_blocked == is_empty {
                    connection.is_blocked = !is_empty;
                    self.poll.watch_room(&connection.socket, index, !is_empty)?;
                }
                Ok(())
            }
            Err(error) => self.reopen(index, Some(&error.to_string()), line),
        }
    }

    /// Puts a new connection in the place of one that has ended, for which there is an error unless the server has
    /// answered whatever it took.
    fn reopen(&mut self, index: usize, error: Option<&str>, line: &mut Line) -> Outcome<()> {
        self.reopened = self.reopened.saturating_add(1);
        if self.reopened > REOPENED_MAX {
            return Err(format!("{}: ends its connections again and again", self.address).into());
        }
        let connection = Connection::open(self.address, &self.headers, &mut self.input)?;
        self.poll.add(&connection.socket, index)?;
        let mut ended = std::mem::replace(&mut self.connections[index], connection);
        if let Some(error) = error {
            ended.session.fail(error, &mut self.answers);
            self.go_on(index, line, Instant::now())?;
        }
        self.touch(index);
        self.connections[index].session.take_over(&mut ended.session)
    }

    /// Fails what has waited too long.
    fn give_up(&mut self, line: &mut Line) -> Outcome<()> {
        for index in 0..self.connections.len() {
            self.reopen(index, Some(&format!("no answer for {STALL_MAX:?}")), line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
