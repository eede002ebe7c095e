// SPDX-License-Identifier: Apache-2.0
//! Leases: calls that an admin lets pass while the store cannot decide.
//!
//! A lease is a number of requests that each instance may allow without the store, for one level of a tenant's path and
//! everything below it. What was spent of it is owed to the store, and comes back only when the store has counted it:
//! however often the store comes and goes, an instance never owes more than the lease.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check::unsigned;
use crate::engine::{Engine, lock};
use crate::keys;
use crate::proto::taximeter::v1::{CheckQuotaRequest, CheckQuotaResponse, Decision};
use crate::reopen::CALL_LIMIT;
use crate::store::{Store, StoreError};

/// What has been spent of all leases and is not counted yet.
#[derive(Default)]
pub(crate) struct Leases {
    /// Requests by the level that has the lease, then by tenant.
    owed: Mutex<HashMap<String, HashMap<String, i64>>>,
    is_owing: AtomicBool,
}

impl Leases {
    /// Takes requests of a tenant from the lease of a level; false when it has not so many left.
    fn take(&self, level: &str, lease: i64, tenant: &str, requests: i64) -> bool {
        let mut owed = lock(&self.owed);
        let spent = owed.get(level).map_or(0, |tenants| {
            tenants
                .values()
                .fold(0_i64, |sum, count| sum.saturating_add(*count))
        });
        if spent.saturating_add(requests) > lease {
            return false;
        }
        let count = owed
            .entry(level.to_owned())
            .or_default()
            .entry(tenant.to_owned())
            .or_default();
        *count = count.saturating_add(requests);
        self.is_owing.store(true, Ordering::Release);
        true
    }

    /// What one tenant owes.
    fn next(&self) -> Option<(String, String, i64)> {
        let owed = lock(&self.owed);
        let found = owed.iter().find_map(|(level, tenants)| {
            let (tenant, count) = tenants.iter().next()?;
            Some((level.clone(), tenant.clone(), *count))
        });
        self.is_owing.store(found.is_some(), Ordering::Release);
        found
    }

    /// The store has counted so much.
    fn forgive(&self, level: &str, tenant: &str, counted: i64) {
        let mut owed = lock(&self.owed);
        let Some(tenants) = owed.get_mut(level) else {
            return;
        };
        if let Some(count) = tenants.get_mut(tenant) {
            *count = count.saturating_sub(counted);
            if *count <= 0 {
                tenants.remove(tenant);
            }
        }
        if tenants.is_empty() {
            owed.remove(level);
        }
    }
}

impl Engine {
    /// Whether leases have been spent that the store has not counted.
    pub(crate) fn owes_requests(&self) -> bool {
        self.leases.is_owing.load(Ordering::Acquire)
    }

    /// Allows a call that the store could not decide, as far as the nearest lease goes.
    pub(crate) fn check_on_lease(
        &self,
        request: &CheckQuotaRequest,
        requests: i64,
    ) -> Option<CheckQuotaResponse> {
        let catalogue = self.catalogue();
        let (level, lease) = keys::level_names(&request.tenant)
            .filter_map(|level| Some((level, catalogue.lease_of(level)?)))
            .last()?;
        self.leases
            .take(level, lease, &request.tenant, requests)
            .then(|| CheckQuotaResponse {
                decision: Decision::Allow.into(),
                degraded: true,
                ..Default::default()
            })
    }

    /// Has the store count what was spent of leases. An unknown outcome counts again: rather too much than too little.
    pub(crate) async fn pay_leases(&self, store: &Store) -> Result<(), StoreError> {
        while let Some((level, tenant, count)) = self.leases.next() {
            let partition = keys::partition_of(&tenant);
            let mut command = Self::level_command(&self.functions.count, partition, &tenant);
            command.arg(unsigned(count));
            match store.call(&command, CALL_LIMIT).await {
                // Where a key is damaged nothing can ever be counted.
                Ok(_) | Err(StoreError::Corrupt) => self.leases.forgive(&level, &tenant, count),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
