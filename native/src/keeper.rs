// SPDX-License-Identifier: Apache-2.0
//! What goes on beside the calls: opening a lost store again, applying what was accepted meanwhile, dropping old dedup
//! marks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Value;

use crate::engine::Engine;
use crate::keys::{self, DEDUP_HASH_COUNT, GENERATION_DAYS, PARTITION_COUNT};
use crate::reopen::CALL_LIMIT;
use crate::store::{Store, StoreError};

const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How often to look whether the store is still there: without calls nobody else would notice.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often to look for dedup marks that nothing can need any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3_600);
/// Marks are kept this long at least; records are accepted for less.
const DEDUP_DAYS: i64 = 40;
/// Keys dropped in one command.
const UNLINK_COUNT: usize = 512;

impl Engine {
    /// Opens the store whenever it is lost, applies what was accepted meanwhile, and drops old dedup marks; until the
    /// engine is closed.
    pub(crate) async fn keep(&self) {
        let (mut swept, mut probed): (Option<Instant>, Option<Instant>) = (None, None);
        while !self.closed.load(Ordering::Acquire) {
            match self.store.load_full() {
                // Errors repeat until the store is back; callers are told on every call.
                None => drop(self.open().await),
                Some(_) if self.pending_count() > 0 => self.drain_pending().await,
                Some(store) if self.owes_requests() => {
                    if self.pay_leases(&store).await.is_err() {
                        self.store_lost(&store);
                    }
                }
                Some(store) if probed.is_none_or(|at| at.elapsed() >= PROBE_INTERVAL) => {
                    if store.call(&redis::cmd("PING"), CALL_LIMIT).await.is_err() {
                        self.store_lost(&store);
                    }
                    probed = Some(Instant::now());
                }
                Some(store) if swept.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL) => {
                    // What was not dropped now is dropped an hour later.
                    let _ = self.sweep_dedup_marks(&store).await;
                    swept = Some(Instant::now());
                }
                Some(_) => {}
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(RETRY_DELAY) => {}
            }
        }
    }

    /// Drops marks of days that are past the watermark, then moves it.
    async fn sweep_dedup_marks(&self, store: &Store) -> Result<(), StoreError> {
        for partition in 0..PARTITION_COUNT {
            let day = self.sweep(store, partition, -1).await?;
            if day < 0 {
                continue;
            }
            let mut names: Vec<String> = (0..DEDUP_HASH_COUNT)
                .map(|hash| keys::dedup_day(partition, day, hash))
                .collect();
            let generation = day.div_euclid(GENERATION_DAYS);
            if day.saturating_add(1).div_euclid(GENERATION_DAYS) > generation {
                names.extend(
                    (0..DEDUP_HASH_COUNT).map(|hash| keys::dedup_generation(partition, generation, hash)),
                );
            }
            for chunk in names.chunks(UNLINK_COUNT) {
                store.call(redis::cmd("UNLINK").arg(chunk), CALL_LIMIT).await?;
            }
            self.sweep(store, partition, day).await?;
        }
        Ok(())
    }

    /// Asks which day may be dropped, or says that `dropped` has been.
    async fn sweep(&self, store: &Store, partition: u16, dropped: i64) -> Result<i64, StoreError> {
        let mut command = redis::cmd("FCALL");
        command
            .arg(&self.functions.sweep)
            .arg(1)
            .arg(keys::dedup_watermark(partition));
        command.arg(DEDUP_DAYS).arg(dropped);
        match store.call(&command, CALL_LIMIT).await? {
            Value::Int(day) => Ok(day),
            _ => Err(StoreError::Corrupt),
        }
    }
}
