// SPDX-License-Identifier: Apache-2.0
//! The connection to the store: the script library, calls into it, and what its errors mean.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::{Client, Cmd, Value};

use crate::keys;
use crate::ledger_entries::read_entries;
use crate::resp::Reply;
use crate::script_part::{Answers, Part};
use crate::store_connection::{CONNECT_TIMEOUT, Connection};
use crate::store_id::StreamId;
use crate::workers::{Workers, current_index};

/// Entries of a stream that are read first, to see how many records each has.
const FIRST_READ_COUNT: usize = 4;
/// Records that one command reads, or one entry's: the store does nothing else meanwhile, and a check has to wait.
const READ_RECORDS_MAX: usize = 32;

const SCRIPTS: &str = concat!(
    include_str!("scripts/amounts.lua"),
    include_str!("scripts/attributes.lua"),
    include_str!("scripts/held.lua"),
    include_str!("scripts/limits.lua"),
    include_str!("scripts/credits.lua"),
    include_str!("scripts/credit_changes.lua"),
    include_str!("scripts/credit_limit.lua"),
    include_str!("scripts/levels.lua"),
    include_str!("scripts/thresholds.lua"),
    include_str!("scripts/decide.lua"),
    include_str!("scripts/marks.lua"),
    include_str!("scripts/holds.lua"),
    include_str!("scripts/plain.lua"),
    include_str!("scripts/meter.lua")
);

/// Why the store did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// No connection, or one that broke. Whether it was done is unknown.
    Unavailable,
    /// No answer in time. Whether it was done is unknown.
    Timeout,
    /// It answers, but has been restarted or promoted since it was opened. Nothing was done.
    NotOpen,
    /// Out of memory. Nothing was done.
    Full,
    /// A key is not what it must be. Nothing was done.
    Corrupt,
}

impl StoreError {
    /// Whether the store has to be opened again.
    pub(crate) const fn is_loss(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::NotOpen)
    }

    /// What an error reply means. Errors raised inside a function carry the first error's text.
    pub(crate) fn of_reply(text: &str) -> Self {
        let code = text.split(' ').next().unwrap_or_default();
        if code == "OOM" {
            Self::Full
        } else if text.contains("NOTOPEN") || text.contains("Function not found") {
            Self::NotOpen
        } else if ["WRONGTYPE", "CORRUPT", "data string"]
            .iter()
            .any(|sign| text.contains(sign))
        {
            Self::Corrupt
        } else {
            Self::Unavailable
        }
    }
}

/// Function names of the loaded library.
#[derive(Clone, Debug)]
pub(crate) struct Functions {
    pub(crate) open: String,
    pub(crate) record: Arc<str>,
    pub(crate) record_plain: Arc<str>,
    pub(crate) decide: Arc<str>,
    pub(crate) extend: String,
    pub(crate) release: String,
    pub(crate) put_limits: String,
    pub(crate) remove_limits: String,
    pub(crate) count: String,
    pub(crate) quota_status: String,
    pub(crate) sweep: String,
    pub(crate) admit_attributes: String,
    pub(crate) credit_account: String,
}

impl Functions {
    /// Names carry the hash of the scripts: versions never call each other's functions.
    pub(crate) fn new() -> Self {
        let prefix = prefix();
        let name = |function: &str| format!("{prefix}_{function}");
        Self {
            open: name("open"),
            record: name("record").into(),
            record_plain: name("record_plain").into(),
            decide: name("decide").into(),
            extend: name("extend"),
            release: name("release"),
            put_limits: name("put_limits"),
            remove_limits: name("remove_limits"),
            count: name("count"),
            quota_status: name("quota_status"),
            sweep: name("sweep"),
            admit_attributes: name("admit_attributes"),
            credit_account: name("credit_account"),
        }
    }
}

fn prefix() -> String {
    let hash = blake3::hash(SCRIPTS.as_bytes()).to_hex();
    format!("taximeter_{}", hash.as_str().get(..12).unwrap_or_default())
}

/// Connections, each shared by many calls and pipelined.
pub(crate) struct Store {
    /// One per worker, for the calls that it serves.
    of_workers: Vec<Connection>,
    /// For everybody else: to take in the megabytes that archiver and reports read would hold up a worker's calls.
    of_others: Connection,
}

impl Store {
    /// Connects and loads the script library where it is missing.
    pub(crate) async fn connect(client: &Client, workers: &Workers) -> Result<Self, StoreError> {
        let connecting = workers.handles().iter().map(|worker| {
            let client = client.clone();
            // What drives a connection runs where it was made.
            worker.spawn(async move { Connection::open(&client).await })
        });
        let mut of_workers = Vec::new();
        for connection in join_all(connecting).await {
            of_workers.push(connection.map_err(|_| StoreError::Unavailable)??);
        }
        let store = Self {
            of_workers,
            of_others: Connection::open(client).await?,
        };
        store.load_scripts().await?;
        Ok(store)
    }

    async fn load_scripts(&self) -> Result<(), StoreError> {
        let prefix = prefix();
        let source = format!("#!lua name={prefix}\n{}", SCRIPTS.replace("@prefix@", &prefix));
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg(source);
        match self.connection().reply(&load, CONNECT_TIMEOUT).await? {
            Reply::Value(_) => Ok(()),
            // Another instance, or an earlier start, loaded the same text.
            Reply::Error(text) if text.contains("already exists") => Ok(()),
            Reply::Error(text) => Err(StoreError::of_reply(&text)),
        }
    }

    /// The connection of the worker that this runs on, or of those that run on none.
    fn connection(&self) -> &Connection {
        let of_worker = current_index().and_then(|index| self.of_workers.get(index));
        of_worker.unwrap_or(&self.of_others)
    }

    /// Runs one command within the limit.
    pub(crate) async fn call(&self, command: &Cmd, limit: Duration) -> Result<Value, StoreError> {
        match self.connection().reply(command, limit).await? {
            Reply::Value(value) => Ok(value),
            Reply::Error(text) => Err(StoreError::of_reply(&text)),
        }
    }

    /// Runs a part of a script call within the limit. One that is wrong fails alone.
    pub(crate) async fn answers(&self, part: &mut Part, limit: Duration) -> Result<Answers, StoreError> {
        let connection = self.connection();
        let answered = connection.answers(part, limit).await?;
        match answered.answers {
            // Nothing was written.
            Err(StoreError::Corrupt) if answered.was_shared => {
                part.separate();
                connection.answers(part, limit).await?.answers
            }
            answers => answers,
        }
    }

    /// Name and version, such as "valkey 9.1.2".
    pub(crate) async fn version(&self, limit: Duration) -> Result<String, StoreError> {
        let info = text(self.call(redis::cmd("INFO").arg("server"), limit).await?)?;
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        Ok(match (field("valkey_version:"), field("redis_version:")) {
            (Some(version), _) => format!("valkey {version}"),
            (None, Some(version)) => format!("redis {version}"),
            (None, None) => "unknown".to_owned(),
        })
    }

    /// The store's clock in milliseconds since 1970 UTC.
    pub(crate) async fn time_ms(&self, limit: Duration) -> Result<i64, StoreError> {
        let parts = array(self.call(&redis::cmd("TIME"), limit).await?)?;
        let mut numbers = parts.into_iter().map(|part| text(part).ok()?.parse::<i64>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(seconds), Some(micros)) => Ok(seconds
                .saturating_mul(1_000)
                .saturating_add(micros.div_euclid(1_000))),
            _ => Err(StoreError::Corrupt),
        }
    }

    /// Entries of a partition's ledger after `after`, oldest first, at most so many.
    pub(crate) async fn read_ledger(
        &self,
        partition: u16,
        after: StreamId,
        count_max: usize,
        limit: Duration,
    ) -> Result<Vec<(StreamId, Bytes)>, StoreError> {
        let mut found: Vec<(StreamId, Bytes)> = Vec::new();
        let (mut asked, mut missing) = (FIRST_READ_COUNT.min(count_max), count_max);
        while missing > 0 {
            let last = found.last().map_or(after, |(id, _)| *id);
            let mut command = redis::cmd("XRANGE");
            command
                .arg(keys::ledger(partition))
                .arg(format!("({last}"))
                .arg("+")
                .arg("COUNT")
                .arg(asked);
            let (before, read) = (found.len(), array(self.call(&command, limit).await?)?);
            let read_count = read.len();
            for value in read {
                read_stream_entry(value, after, &mut found)?;
            }
            if read_count < asked {
                break;
            }
            missing = count_max.saturating_sub(found.len());
            // As many of the stream's entries as these had: each may stand for hundreds, and none should be read twice.
            let records = found.len().saturating_sub(before).max(1);
            asked = missing
                .min(READ_RECORDS_MAX)
                .saturating_mul(read_count)
                .div_ceil(records);
        }
        found.truncate(count_max);
        Ok(found)
    }
}

impl Store {
    /// Entries of all partitions' streams, whatever they hold.
    pub(crate) async fn ledger_length(&self, limit: Duration) -> Result<i64, StoreError> {
        let mut sum = 0_i64;
        for partition in 0..keys::PARTITION_COUNT {
            match self
                .call(redis::cmd("XLEN").arg(keys::ledger(partition)), limit)
                .await?
            {
                Value::Int(length) => sum = sum.saturating_add(length),
                _ => return Err(StoreError::Corrupt),
            }
        }
        Ok(sum)
    }

    /// Drops entries of a partition's ledger up to and including `through`.
    pub(crate) async fn trim_ledger(
        &self,
        partition: u16,
        through: StreamId,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let next = StreamId {
            seq: through.seq.saturating_add(1),
            ..through
        };
        let mut command = redis::cmd("XTRIM");
        command
            .arg(keys::ledger(partition))
            .arg("MINID")
            .arg(next.to_string());
        self.call(&command, limit).await.map(drop)
    }
}

fn read_stream_entry(
    value: Value,
    after: StreamId,
    found: &mut Vec<(StreamId, Bytes)>,
) -> Result<(), StoreError> {
    let mut parts = array(value)?.into_iter();
    let id = text(parts.next().unwrap_or_default())?
        .parse()
        .map_err(|_| StoreError::Corrupt)?;
    let mut fields = array(parts.next().unwrap_or_default())?.into_iter();
    match (fields.next(), fields.next()) {
        (Some(name), Some(entry)) => read_entries(id, &bytes(name)?, bytes(entry)?, after, found),
        _ => Err(StoreError::Corrupt),
    }
}

/// The elements of an array reply.
pub(crate) fn array(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        _ => Err(StoreError::Corrupt),
    }
}

/// The bytes of a string reply.
pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(StoreError::Corrupt),
    }
}

/// The text of a string reply.
pub(crate) fn text(value: Value) -> Result<String, StoreError> {
    String::from_utf8(bytes(value)?).map_err(|_| StoreError::Corrupt)
}
