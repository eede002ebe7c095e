// SPDX-License-Identifier: Apache-2.0
//! What to send, where, how much.

use std::time::Duration;

use crate::protocol::Protocol;

/// What this process is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Check,
    Record,
    /// A check with a hold, then the record that settles it.
    Meter,
    Question,
    Floor,
}

/// Parsed command line. Counts and times are bounded, so that a run always ends.
pub(crate) struct Options {
    pub(crate) role: Role,
    pub(crate) address: String,
    pub(crate) key: String,
    pub(crate) connections: u64,
    pub(crate) streams: u64,
    pub(crate) threads: usize,
    pub(crate) count: u64,
    pub(crate) duration: Duration,
    pub(crate) rate: Option<u64>,
    pub(crate) tenants: u64,
    /// Calls of tenants by Zipf's law, not in turn.
    pub(crate) is_skewed: bool,
    /// Checks hold what they estimate.
    pub(crate) holds: bool,
    /// Lines of tokens that calls take, or nothing.
    pub(crate) sizes: String,
    pub(crate) batch: u64,
    pub(crate) protocol: Protocol,
    pub(crate) tenant_prefix: String,
}

const USAGE: &str = "taximeter-load check|record|meter|question|floor --address HOST:PORT [--key-file FILE] \
    [--connections 16] [--streams 16] [--threads 1] [--count N] [--seconds 10] [--rate PER_SECOND] \
    [--tenants 1] [--skewed yes] [--sizes FILE] [--batch 1] [--tenant-prefix bench] \
    [--protocol taximeter|throttlecrab|ratelimit1|ratelimit3]";
const COUNT_MAX: u64 = 100_000_000;
const SECONDS_MAX: u64 = 600;

impl Options {
    /// Reads the arguments; the error is a text for people.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let role = match arguments.next().as_deref() {
            Some("check") => Role::Check,
            Some("record") => Role::Record,
            Some("meter") => Role::Meter,
            Some("question") => Role::Question,
            Some("floor") => Role::Floor,
            _ => return Err(USAGE.to_owned()),
        };
        let mut options = Self {
            role,
            address: String::new(),
            key: String::new(),
            connections: 16,
            streams: 16,
            threads: 1,
            count: COUNT_MAX,
            duration: Duration::from_secs(10),
            rate: None,
            tenants: 1,
            is_skewed: false,
            holds: false,
            sizes: String::new(),
            batch: 1,
            protocol: Protocol::Taximeter,
            tenant_prefix: "bench".to_owned(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name}: not a number"));
            match name.as_str() {
                "--address" => options.address.clone_from(&value),
                "--key-file" => read(&name, &value)?.trim().clone_into(&mut options.key),
                "--connections" => options.connections = number()?.clamp(1, 4_096),
                "--streams" => options.streams = number()?.clamp(1, 1_000),
                "--threads" => options.threads = usize::try_from(number()?.clamp(1, 64)).unwrap_or(1),
                "--count" => options.count = number()?.min(COUNT_MAX),
                "--seconds" => options.duration = Duration::from_secs(number()?.min(SECONDS_MAX)),
                "--rate" => options.rate = Some(number()?.max(1)),
                "--tenants" => options.tenants = number()?.max(1),
                "--skewed" => options.is_skewed = value == "yes",
                "--holds" => options.holds = value == "yes",
                "--sizes" => options.sizes = read(&name, &value)?,
                "--batch" => options.batch = number()?.clamp(1, 500),
                "--protocol" => options.protocol = Protocol::parse(&value).ok_or(USAGE)?,
                "--tenant-prefix" => options.tenant_prefix.clone_from(&value),
                _ => return Err(format!("{name}: unknown; {USAGE}")),
            }
        }
        if options.address.is_empty() {
            Err(USAGE.to_owned())
        } else {
            Ok(options)
        }
    }
}

fn read(name: &str, file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))
}
