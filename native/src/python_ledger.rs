// SPDX-License-Identifier: Apache-2.0
//! How Python reads the ledger's streams: for the archiver everything of one, for reports what they want of all.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::archive::ArchiveError;
use crate::ledger_columns::LedgerColumns;
use crate::ledger_tail::{Span, Wanted};
use crate::python::{LEDGER_LIMIT, PyEngine, parse_stream_id};
use crate::python_error::{archive_error, store_error};

/// All rows of entries after `after_id` as an Arrow IPC stream, the last id read and the number of entries.
pub(crate) fn read_ledger<'py>(
    python: &PyEngine,
    py: Python<'py>,
    partition: u16,
    after_id: &str,
    count_max: usize,
    to_archive: bool,
) -> PyResult<(Bound<'py, PyBytes>, String, usize)> {
    let after = parse_stream_id(after_id)?;
    let read = || {
        let entries = python.runtime.block_on(async {
            let engine = &python.engine;
            if to_archive {
                return engine
                    .read_to_archive(partition, after, count_max, LEDGER_LIMIT)
                    .await;
            }
            let store = engine.open_store()?;
            Ok(store
                .read_ledger(partition, after, count_max, LEDGER_LIMIT)
                .await?)
        })?;
        let last = entries.last().map_or(after, |(id, _)| *id);
        let count = entries.len();
        let mut columns = LedgerColumns::all();
        // One after the other, each gone before the next: decoded they are ten times as large.
        for (id, encoded) in entries {
            columns.push(partition, id, encoded, |_| true)?;
        }
        Ok((columns.into_ipc()?, last, count))
    };
    let (columns, last, count) = py
        .detach(read)
        .map_err(|error: ArchiveError| archive_error(error))?;
    Ok((PyBytes::new(py, &columns), last.to_string(), count))
}

/// The wanted rows of spans (partition, id before them, last id) as an Arrow IPC stream, the last id read of each, and
/// whether that is everything.
pub(crate) fn read_tail<'py>(
    python: &PyEngine,
    py: Python<'py>,
    spans: Vec<(u16, String, String)>,
    wanted: &Wanted,
) -> PyResult<(Bound<'py, PyBytes>, Vec<String>, bool)> {
    let span = |(partition, after_id, through_id): (u16, String, String)| {
        Ok(Span {
            partition,
            after: parse_stream_id(&after_id)?,
            through: parse_stream_id(&through_id)?,
            has_more: true,
        })
    };
    let mut spans = spans.into_iter().map(span).collect::<PyResult<Vec<_>>>()?;
    let read = || {
        let store = python.engine.open_store()?;
        python
            .runtime
            .block_on(store.read_tail(&mut spans, wanted, LEDGER_LIMIT))
    };
    let (columns, is_whole) = py.detach(read).map_err(store_error)?;
    let last_ids = spans.iter().map(|span| span.after.to_string()).collect();
    Ok((PyBytes::new(py, &columns), last_ids, is_whole))
}
