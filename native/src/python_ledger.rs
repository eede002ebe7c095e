// SPDX-License-Identifier: Apache-2.0
//! How Python reads the ledger's streams: for the archiver everything, for reports what they want.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::archive::ArchiveError;
use crate::archive_read::{self, Part};
use crate::ledger_tail::{Span, Wanted};
use crate::python::{LEDGER_LIMIT, PyEngine, parse_stream_id};
use crate::python_error::{archive_error, store_error};

/// All rows of entries after `after_ids`, by partition, in the order of the archiver's files as an Arrow IPC stream;
/// the last id read of each partition; and the number of entries.
pub(crate) fn read_to_archive<'py>(
    python: &PyEngine,
    py: Python<'py>,
    after_ids: Vec<String>,
    count_max: usize,
) -> PyResult<(Bound<'py, PyBytes>, Vec<String>, usize)> {
    let part = |(partition, id): (u16, String)| Ok(Part::new(partition, parse_stream_id(&id)?));
    let mut parts = (0..).zip(after_ids).map(part).collect::<PyResult<Vec<_>>>()?;
    let read = || {
        let read = python
            .engine
            .read_parts_to_archive(&mut parts, count_max, LEDGER_LIMIT);
        python.runtime.block_on(read)?;
        let last_ids: Vec<_> = parts.iter().map(|part| part.last.to_string()).collect();
        let count = parts.iter().map(Part::count).sum();
        Ok((archive_read::to_ipc(parts)?, last_ids, count))
    };
    let (columns, last_ids, count) = py
        .detach(read)
        .map_err(|error: ArchiveError| archive_error(error))?;
    Ok((PyBytes::new(py, &columns), last_ids, count))
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
