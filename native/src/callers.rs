// SPDX-License-Identifier: Apache-2.0
//! What is remembered of callers until Python takes it: when keys were last used, and who tried an admin's methods.
//!
//! Bounded, because anybody with any key decides how much is tried.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::lock;
use crate::python::PyEngine;

/// A use is noted this long after the last one noted: a busy key does not write to memory that all workers read.
const USE_STEP_MS: i64 = 60_000;
/// Pairs of key and method that are told apart; what comes beyond is counted without names.
const DENIAL_COUNT_MAX: usize = 100;

/// When a key was last used. Shared by all catalogues that know the key.
#[derive(Clone, Default)]
pub(crate) struct LastUse(Arc<AtomicI64>);

impl LastUse {
    /// Notes a use, to the minute.
    pub(crate) fn note(&self, now_ms: i64) {
        if now_ms.saturating_sub(self.0.load(Ordering::Relaxed)) >= USE_STEP_MS {
            self.0.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Milliseconds since 1970; None when this server has not seen the key.
    pub(crate) fn time_ms(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|time_ms| *time_ms > 0)
    }
}

/// Calls of admin methods by keys whose role does not reach them.
#[derive(Default)]
pub(crate) struct Denials(Mutex<HashMap<(Arc<str>, &'static str), Denied>>);

#[derive(Clone, Copy)]
struct Denied {
    count: u64,
    last_peer: SocketAddr,
}

impl Denials {
    /// Counts one call.
    pub(crate) fn note(&self, key_id: &Arc<str>, method: &'static str, peer: SocketAddr) {
        let mut denials = lock(&self.0);
        let mut name = (Arc::clone(key_id), method);
        if denials.len() >= DENIAL_COUNT_MAX && !denials.contains_key(&name) {
            name = ("".into(), "");
        }
        let denied = denials.entry(name).or_insert(Denied {
            count: 0,
            last_peer: peer,
        });
        denied.count = denied.count.saturating_add(1);
        denied.last_peer = peer;
    }
}

/// Takes the counts: (key id, method, count, last peer). Key and method are empty for what was not told apart.
#[pyfunction]
pub(crate) fn take_denials(engine: &PyEngine) -> Vec<(String, &'static str, u64, String)> {
    let denials = std::mem::take(&mut *lock(&engine.engine.denials.0));
    let texts = denials.into_iter().map(|((key_id, method), denied)| {
        (
            key_id.to_string(),
            method,
            denied.count,
            denied.last_peer.to_string(),
        )
    });
    texts.collect()
}

/// When each key that this server has seen was last used, milliseconds since 1970 by key id.
#[pyfunction]
pub(crate) fn key_uses<'py>(py: Python<'py>, engine: &PyEngine) -> PyResult<Bound<'py, PyDict>> {
    let uses = PyDict::new(py);
    for (key_id, last_use) in engine.engine.catalogue().last_uses() {
        if let Some(time_ms) = last_use.time_ms() {
            uses.set_item(key_id, time_ms)?;
        }
    }
    Ok(uses)
}
