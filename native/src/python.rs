// SPDX-License-Identifier: Apache-2.0
//! The border to Python. The contract is `server/taximeter_server/_native.pyi`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use prost::Message;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict};
use tokio::runtime::Runtime;

use crate::adjust::{self, Posted};
use crate::attribute_cap::AttributeSets;
use crate::catalogue::CatalogueError;
use crate::credits::{Changed, CreditChange};
use crate::engine::{Engine, lock};
use crate::error::{Failure, malformed};
use crate::front::serve_record;
use crate::hold_id::SealKey;
use crate::journal::Journal;
use crate::keys;
use crate::ledger_tail::Wanted;
use crate::limits::{LevelSettings, Limits};
use crate::python_error::{JournalError, rpc_error, store_error};
use crate::python_ledger;
use crate::rate_card::{CardError, RateCard};
use crate::reopen::OpenError;
use crate::reprice::{RepriceError, price_rows};
use crate::store::StoreError;
use crate::store_id::StreamId;
use crate::workers::Workers;

pub(crate) const LEDGER_LIMIT: Duration = Duration::from_secs(10);
const OPEN_RETRY_DELAY: Duration = Duration::from_millis(50);

pub(crate) fn parse_stream_id(text: &str) -> PyResult<StreamId> {
    text.parse().map_err(PyValueError::new_err)
}

/// The engine with the runtime that serves it.
#[pyclass(name = "Engine", module = "taximeter_server._native", frozen)]
pub(crate) struct PyEngine {
    pub(crate) engine: Arc<Engine>,
    pub(crate) runtime: Runtime,
}

#[pymethods]
impl PyEngine {
    #[new]
    #[pyo3(signature = (
        *, store_url, journal_dir, exclusive_store, volatile_store=false, attribute_sets_max=1_000, hold_id_key=None
    ))]
    fn new(
        store_url: &str,
        journal_dir: &str,
        exclusive_store: bool,
        volatile_store: bool,
        attribute_sets_max: u32,
        hold_id_key: Option<&[u8]>,
    ) -> PyResult<Self> {
        let seal_key = match hold_id_key {
            Some(bytes) => {
                SealKey::of(bytes).ok_or_else(|| PyValueError::new_err("hold_id_key: 32 bytes"))?
            }
            None => SealKey::random(),
        };
        let client = redis::Client::open(store_url)
            .map_err(|_| PyValueError::new_err("store_url: unix:///path or redis://host:port"))?;
        let journal = Journal::open(Path::new(journal_dir))
            .map_err(|error| JournalError::new_err(error.to_string()))?;
        let workers = Workers::start()?;
        // For what nobody's call waits for: the keeper, and what Python asks.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("keeper")
            .enable_all()
            .build()?;
        let engine = Arc::new(Engine::new(
            client,
            workers,
            journal,
            exclusive_store,
            volatile_store,
            AttributeSets::new(attribute_sets_max),
            seal_key,
        ));
        Ok(Self { engine, runtime })
    }

    #[expect(clippy::needless_pass_by_value, reason = "Python hands the list over")]
    #[pyo3(signature = (*, archived_ids, timeout_ms))]
    fn open(&self, py: Python<'_>, archived_ids: Vec<PyBackedStr>, timeout_ms: u64) -> PyResult<()> {
        if archived_ids.len() != usize::from(keys::PARTITION_COUNT) {
            return Err(PyValueError::new_err("archived_ids: one per partition"));
        }
        let ids = archived_ids.iter().map(|id| parse_stream_id(id));
        *lock(&self.engine.archived) = ids.collect::<PyResult<_>>()?;
        let deadline = Instant::now().checked_add(Duration::from_millis(timeout_ms));
        let opened = py.detach(|| {
            self.runtime.block_on(async {
                loop {
                    match self.engine.open().await {
                        Err(OpenError::Store(error))
                            if error != StoreError::Corrupt
                                && deadline.is_some_and(|deadline| Instant::now() < deadline) =>
                        {
                            tokio::time::sleep(OPEN_RETRY_DELAY).await;
                        }
                        done => return done,
                    }
                }
            })
        });
        opened.map_err(|error| match error {
            OpenError::Store(error) => store_error(error),
            OpenError::Journal(text) => JournalError::new_err(text),
        })?;
        let engine = Arc::clone(&self.engine);
        self.runtime.spawn(async move { engine.keep().await });
        Ok(())
    }

    fn set_archived(&self, partition: usize, stream_id: &str) -> PyResult<()> {
        let id = parse_stream_id(stream_id)?;
        let mut archived = lock(&self.engine.archived);
        let slot = archived
            .get_mut(partition)
            .ok_or_else(|| PyValueError::new_err("partition: 0 to 63"))?;
        *slot = (*slot).max(id);
        drop(archived);
        self.engine.archive.forget_through(partition, id);
        Ok(())
    }

    fn recorded_count(&self) -> u64 {
        self.engine.archive.recorded_count()
    }

    fn begin_archive(&self) -> PyResult<u64> {
        self.engine.begin_archive().map_err(store_error)
    }

    fn hold_archive(&self, py: Python<'_>, opening: u64) -> PyResult<()> {
        py.detach(|| {
            self.runtime
                .block_on(self.engine.hold_archive(opening, LEDGER_LIMIT))
        })
        .map_err(store_error)
    }

    fn release_archive(&self) {
        self.engine.release_archive();
    }

    fn set_catalogue(&self, py: Python<'_>, catalogue_json: &[u8]) -> PyResult<()> {
        py.detach(|| self.engine.set_catalogue(catalogue_json))
            .map_err(|error| match error {
                CatalogueError::Malformed(text) => PyValueError::new_err(text),
                CatalogueError::Card(text) => CardError::new_err(text),
            })
    }

    fn confirm_catalogue(&self) {
        self.engine.confirm_catalogue();
    }

    fn record<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| {
            let message = Message::decode(request).map_err(|_| malformed())?;
            self.runtime.block_on(serve_record(&self.engine, message, None))
        });
        reply(py, answer)
    }

    fn check_quota<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| {
            let message = Message::decode(request).map_err(|_| malformed())?;
            self.runtime.block_on(self.engine.check_quota(&message))
        });
        reply(py, answer)
    }

    fn extend_hold<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| {
            let message = Message::decode(request).map_err(|_| malformed())?;
            self.runtime.block_on(self.engine.extend_hold(&message))
        });
        reply(py, answer)
    }

    fn release_hold<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| {
            let message = Message::decode(request).map_err(|_| malformed())?;
            self.runtime.block_on(self.engine.release_hold(&message))
        });
        reply(py, answer)
    }

    fn estimate<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| {
            let message = Message::decode(request).map_err(|_| malformed())?;
            self.engine.estimate(&message)
        });
        reply(py, answer)
    }

    fn price_rows<'py>(
        &self,
        py: Python<'py>,
        card: &RateCard,
        rows: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let priced = py.detach(|| {
            let catalogue = self.engine.fresh_catalogue().map_err(RepriceError::Stale)?;
            price_rows(&card.card, &catalogue, rows)
        });
        match priced {
            Ok(columns) => Ok(PyBytes::new(py, &columns)),
            Err(RepriceError::Rows(problem)) => Err(PyValueError::new_err(problem)),
            Err(RepriceError::Stale(failure)) => Err(rpc_error(&failure)),
            Err(RepriceError::OutOfRange { entry, error }) => {
                Err(PyOverflowError::new_err((error.to_string(), entry)))
            }
        }
    }

    fn post_adjustments(&self, py: Python<'_>, adjustments_json: &[u8]) -> PyResult<Vec<&'static str>> {
        let entries = adjust::parse(adjustments_json)
            .ok_or_else(|| PyValueError::new_err("adjustments_json: a list of adjustments"))?;
        let posted = py.detach(|| self.runtime.block_on(self.engine.post_adjustments(&entries)));
        match posted {
            Ok(states) => Ok(states.into_iter().map(Posted::name).collect()),
            Err(failure) => Err(rpc_error(&failure)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    #[pyo3(signature = (*, tenant, change_id, occur_time_ms, receive_time_ms, content, json, note, author))]
    fn change_credits(
        &self,
        py: Python<'_>,
        tenant: String,
        change_id: String,
        occur_time_ms: i64,
        receive_time_ms: i64,
        content: Vec<u8>,
        json: String,
        note: String,
        author: String,
    ) -> PyResult<(&'static str, String)> {
        let change = CreditChange {
            tenant,
            change_id,
            occur_time_ms,
            receive_time_ms,
            content,
            json,
            note,
            author,
        };
        let changed = py.detach(|| self.runtime.block_on(self.engine.change_credits(change)));
        match changed.map_err(|failure| rpc_error(&failure))? {
            Changed::Applied => Ok(("applied", String::new())),
            Changed::Before => Ok(("before", String::new())),
            Changed::Conflict => Ok(("conflict", String::new())),
            Changed::Refused(why) => Ok(("refused", why)),
        }
    }

    fn credit_account<'py>(&self, py: Python<'py>, root: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let json = py
            .detach(|| self.runtime.block_on(self.engine.credit_account(root)))
            .map_err(store_error)?;
        Ok(json.map(|json| PyBytes::new(py, &json)))
    }

    #[expect(clippy::needless_pass_by_value, reason = "Python hands the list over")]
    fn put_limits(&self, py: Python<'_>, levels: Vec<LevelSettings>) -> PyResult<()> {
        py.detach(|| self.runtime.block_on(self.engine.put_limits(&levels)))
            .map_err(store_error)
    }

    #[expect(clippy::needless_pass_by_value, reason = "Python hands the list over")]
    fn remove_limits(&self, py: Python<'_>, names: Vec<String>) -> PyResult<()> {
        py.detach(|| self.runtime.block_on(self.engine.remove_limits(&names)))
            .map_err(store_error)
    }

    #[expect(clippy::needless_pass_by_value, reason = "Python hands the limits over")]
    fn put_plan(&self, py: Python<'_>, name: &str, limits: Option<Limits>) -> PyResult<()> {
        py.detach(|| self.runtime.block_on(self.engine.put_plan(name, limits.as_ref())))
            .map_err(store_error)
    }

    fn quota_status<'py>(&self, py: Python<'py>, tenant: &str) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| self.runtime.block_on(self.engine.quota_status(tenant)));
        reply(py, answer)
    }

    fn store_time_ms(&self, py: Python<'_>) -> PyResult<i64> {
        py.detach(|| {
            let store = self.engine.open_store()?;
            self.runtime.block_on(store.time_ms(LEDGER_LIMIT))
        })
        .map_err(store_error)
    }

    #[pyo3(signature = (after_ids, *, count_max))]
    fn read_to_archive<'py>(
        &self,
        py: Python<'py>,
        after_ids: Vec<String>,
        count_max: usize,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<String>, usize)> {
        python_ledger::read_to_archive(self, py, after_ids, count_max)
    }

    #[pyo3(signature = (spans, *, columns, intervals_us, tenants=None))]
    fn read_tail<'py>(
        &self,
        py: Python<'py>,
        spans: Vec<(u16, String, String)>,
        columns: Vec<String>,
        intervals_us: Vec<(i64, i64)>,
        tenants: Option<Vec<String>>,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<String>, bool)> {
        let wanted = Wanted {
            columns,
            intervals_us,
            tenants,
        };
        python_ledger::read_tail(self, py, spans, &wanted)
    }

    fn ledger_length(&self, py: Python<'_>) -> PyResult<i64> {
        py.detach(|| {
            let store = self.engine.open_store()?;
            self.runtime.block_on(store.ledger_length(LEDGER_LIMIT))
        })
        .map_err(store_error)
    }

    #[pyo3(signature = (partition, *, through_id))]
    fn trim_ledger(&self, py: Python<'_>, partition: u16, through_id: &str) -> PyResult<()> {
        let through = parse_stream_id(through_id)?;
        py.detach(|| {
            let store = self.engine.open_store()?;
            self.runtime
                .block_on(store.trim_ledger(partition, through, LEDGER_LIMIT))
        })
        .map_err(store_error)
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = PyDict::new(py);
        status.set_item("store_available", self.engine.store.load().is_some())?;
        status.set_item("store_version", lock(&self.engine.store_version).clone())?;
        status.set_item("journal_pending_records", self.engine.pending_count())?;
        status.set_item("journal_bytes", self.engine.journal.bytes())?;
        Ok(status)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.engine.closed.store(true, Ordering::Release);
            self.engine.wake.notify_waiters();
            self.engine.journal.close();
            self.engine.store.store(None);
        });
    }
}

fn reply(py: Python<'_>, answer: Result<impl Message, Failure>) -> PyResult<Bound<'_, PyBytes>> {
    match answer {
        Ok(message) => Ok(PyBytes::new(py, &message.encode_to_vec())),
        Err(failure) => Err(rpc_error(&failure)),
    }
}
