// SPDX-License-Identifier: Apache-2.0
//! Failures as Python's exceptions.

use prost::Message;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::archive::ArchiveError;
use crate::error::Failure;
use crate::store::StoreError;

create_exception!(taximeter_server._native, StoreUnavailableError, PyException);
create_exception!(taximeter_server._native, StoreCorruptError, PyException);
create_exception!(taximeter_server._native, JournalError, PyException);
create_exception!(taximeter_server._native, RpcError, PyException);

/// What a store error means to Python.
pub(crate) fn store_error(error: StoreError) -> PyErr {
    match error {
        StoreError::Corrupt => StoreCorruptError::new_err("a key in the store is not what it must be"),
        StoreError::Full => StoreUnavailableError::new_err("the store has no memory left"),
        StoreError::Unavailable | StoreError::Timeout | StoreError::NotOpen => {
            StoreUnavailableError::new_err("the store did not answer")
        }
    }
}

/// What an error of the archive means to Python.
pub(crate) fn archive_error(error: ArchiveError) -> PyErr {
    match error {
        ArchiveError::Store(error) => store_error(error),
        ArchiveError::Journal => JournalError::new_err("the journal could not be written"),
    }
}

/// A failure of a call: code, message, serialized status.
pub(crate) fn rpc_error(failure: &Failure) -> PyErr {
    let status = failure.to_status();
    RpcError::new_err((status.code, status.message.clone(), status.encode_to_vec()))
}
