// SPDX-License-Identifier: Apache-2.0
//! Setting limits: of levels, and of plans.

use std::time::Duration;

use futures_util::future::join_all;
use pyo3::FromPyObject;
use redis::Cmd;

use crate::engine::Engine;
use crate::keys::{self, PARTITION_COUNT};
use crate::quota::{HAS_COST, HAS_REQUESTS, HAS_TOKENS, SHADOW, money_pair};
use crate::store::{Store, StoreError};

const LIMIT: Duration = Duration::from_secs(2);
/// Levels set in one go: few enough that checks hardly wait for them.
const LEVEL_COUNT: usize = 100;
const MS_PER_SECOND: i64 = 1_000;

/// Limits of one level or plan; None is no limit. Python's `tenants.Limits`.
#[derive(FromPyObject)]
pub(crate) struct Limits {
    requests_per_minute: Option<i64>,
    tokens_per_day: Option<i64>,
    cost_per_day_picos: Option<i64>,
    /// Names of the limits that are only watched.
    shadow: Vec<String>,
}

/// Limits that stand in for others until an instant.
#[derive(FromPyObject)]
pub(crate) struct TemporaryLimits {
    limits: Limits,
    until_ms: i64,
}

/// Settings of one level. Python's `tenants.Tenant`.
#[derive(FromPyObject)]
pub(crate) struct LevelSettings {
    name: String,
    limits: Limits,
    /// Empty for none.
    plan: String,
    temporary_limits: Option<TemporaryLimits>,
}

impl Limits {
    /// As `LIMITS` in `scripts/limits.lua`.
    fn packed(&self) -> Vec<u8> {
        let mut flags = 0_u8;
        for (flag, name, maximum) in [
            (HAS_REQUESTS, "requests_per_minute", self.requests_per_minute),
            (HAS_TOKENS, "tokens_per_day", self.tokens_per_day),
            (HAS_COST, "cost_per_day", self.cost_per_day_picos),
        ] {
            if maximum.is_some() {
                flags |= flag;
            }
            if self.shadow.iter().any(|shadowed| shadowed == name) {
                flags |= flag.saturating_mul(SHADOW);
            }
        }
        let (hi, lo) = money_pair(self.cost_per_day_picos.unwrap_or_default());
        let count = |maximum: Option<i64>| u64::try_from(maximum.unwrap_or_default()).unwrap_or_default();
        let numbers = [
            count(self.requests_per_minute),
            count(self.tokens_per_day),
            hi,
            lo,
        ];
        let mut packed = vec![flags];
        packed.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
        packed
    }
}

impl Engine {
    /// Sets the limits of levels; in force with the next call on any instance. Those before one that fails are set.
    pub(crate) async fn put_limits(&self, levels: &[LevelSettings]) -> Result<(), StoreError> {
        self.set_levels(levels, |level| self.put_command(level)).await
    }

    /// Takes the settings of levels away: what they have then is the default plan of their depth. What is used and held
    /// stays. Those before one that fails have none any more.
    pub(crate) async fn remove_limits(&self, names: &[String]) -> Result<(), StoreError> {
        self.set_levels(names, |name| self.remove_command(name)).await
    }

    async fn set_levels<T>(&self, levels: &[T], command: impl Fn(&T) -> Cmd) -> Result<(), StoreError> {
        let store = self.open_store()?;
        for chunk in levels.chunks(LEVEL_COUNT) {
            let commands: Vec<Cmd> = chunk.iter().map(&command).collect();
            for reply in join_all(
                commands
                    .iter()
                    .map(|command| self.quota_call(&store, command, LIMIT)),
            )
            .await
            {
                reply?;
            }
        }
        Ok(())
    }

    fn remove_command(&self, name: &str) -> Cmd {
        let partition = keys::partition_of(name);
        let mut command = redis::cmd("FCALL");
        command
            .arg(&self.functions.remove_limits)
            .arg(1)
            .arg(keys::level(partition, name))
            .arg(partition);
        command
    }

    fn put_command(&self, level: &LevelSettings) -> Cmd {
        let partition = keys::partition_of(&level.name);
        let temporary = level.temporary_limits.as_ref();
        let until_ms = temporary.map_or(0, |temporary| temporary.until_ms);
        // Never too short: the store counts whole seconds.
        let until_second = until_ms
            .saturating_add(MS_PER_SECOND - 1)
            .div_euclid(MS_PER_SECOND);
        let plan_key = if level.plan.is_empty() {
            String::new()
        } else {
            keys::plan(partition, &level.plan)
        };
        let mut command = redis::cmd("FCALL");
        command
            .arg(&self.functions.put_limits)
            .arg(1)
            .arg(keys::level(partition, &level.name))
            .arg(partition)
            .arg(level.limits.packed())
            .arg(plan_key)
            .arg(until_second)
            .arg(
                temporary
                    .map(|temporary| temporary.limits.packed())
                    .unwrap_or_default(),
            );
        command
    }

    /// Sets the limits of a plan, or removes it: in one command, and so for all its tenants in the same instant.
    pub(crate) async fn put_plan(&self, name: &str, limits: Option<&Limits>) -> Result<(), StoreError> {
        let packed = limits.map(Limits::packed);
        let mut command = redis::cmd(if packed.is_some() { "MSET" } else { "DEL" });
        for partition in 0..PARTITION_COUNT {
            command.arg(keys::plan(partition, name));
            if let Some(packed) = &packed {
                command.arg(packed);
            }
        }
        let store: &Store = &*self.open_store()?;
        store.call(&command, LIMIT).await.map(drop)
    }
}
