// SPDX-License-Identifier: Apache-2.0
//! The hot path of Taximeter as a Python extension module.
//!
//! Follow a call: `listener` (port), `connection` (on one of the `workers`; `tls`, `frame_watch`), `gate` (credentials
//! of `access`, `identity` or `token`, `admission`), `front` (dispatch) to `engine` (Record), `check`
//! (`CheckQuota`) or `hold` (`hold_id`, `time_to_live`), to `record_group`, `plain_records` or `script_call`,
//! `script_part` and `scripts` in the store, to `journal`;
//! everything else goes to `forward`. `reopen` gives a restarted store back what it lost, `keeper` calls it. `reprice`
//! and `adjust` correct what was charged, `credits` is what is paid with. `callers` is what is remembered of who
//! called. `ledger_tail` reads what is not archived for reports and `archive_read` for the archiver, `ledger_columns`
//! makes rows of it.
//! `card_yaml` reads rate cards into a `card_tree`, `report_rows` makes a message of a page of a report.
//! `python` is the border.

mod access;
mod adjust;
mod admission;
mod archive;
mod archive_read;
mod attribute_cap;
mod callers;
mod canonical_json;
mod card_path;
mod card_tree;
mod card_yaml;
mod catalogue;
mod check;
mod clock;
mod connect;
mod connection;
mod cost;
mod credits;
mod engine;
mod envoy;
mod envoy_answer;
mod error;
mod estimate;
mod fingerprint;
mod forward;
mod frame_watch;
mod front;
mod gate;
mod grpc;
mod hold;
mod hold_id;
mod identity;
mod journal;
mod journal_format;
mod json;
mod keeper;
mod keys;
mod lease;
mod ledger_columns;
mod ledger_entries;
mod ledger_row;
mod ledger_tail;
mod limits;
mod listener;
mod lost;
mod pending;
mod plain_records;
mod priced_call;
mod proto;
mod provider_usage;
mod python;
mod python_error;
mod python_front;
mod python_ledger;
mod quota;
mod rate_card;
mod record;
mod record_batch;
mod record_group;
mod record_path;
mod reopen;
mod report_rows;
mod reprice;
mod resp;
mod script_arguments;
mod script_call;
mod script_part;
mod secret_text;
mod standing;
mod store;
mod store_connection;
mod store_id;
mod store_socket;
mod stream_runs;
mod time_to_live;
mod tls;
mod token;
mod used;
mod uuid_v7;
mod validate;
mod workers;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// See build.rs.
const STORE_ALLOCATOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/store_allocator.so"));

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("PARTITION_COUNT", keys::PARTITION_COUNT)?;
    module.add("ROOT_KEY", card_path::ROOT_KEY)?;
    module.add("STORE_ALLOCATOR", PyBytes::new(py, STORE_ALLOCATOR))?;
    module.add(
        "StoreUnavailableError",
        py.get_type::<python_error::StoreUnavailableError>(),
    )?;
    module.add(
        "StoreCorruptError",
        py.get_type::<python_error::StoreCorruptError>(),
    )?;
    module.add("JournalError", py.get_type::<python_error::JournalError>())?;
    module.add("RpcError", py.get_type::<python_error::RpcError>())?;
    module.add("TlsError", py.get_type::<python_front::TlsError>())?;
    module.add("CardError", py.get_type::<rate_card::CardError>())?;
    module.add_class::<rate_card::RateCard>()?;
    module.add_class::<rate_card::TenantPrices>()?;
    module.add_class::<priced_call::PricedCall>()?;
    module.add_class::<priced_call::PricedLine>()?;
    module.add_class::<priced_call::CardPrice>()?;
    module.add_class::<python::PyEngine>()?;
    module.add_class::<python_front::PyFront>()?;
    module.add_class::<python_front::PyIdentities>()?;
    module.add_class::<python_front::PyTls>()?;
    module.add_class::<card_tree::Mark>()?;
    module.add_class::<card_tree::Scalar>()?;
    module.add_class::<card_tree::MappingNode>()?;
    module.add_class::<card_tree::SequenceNode>()?;
    module.add_class::<card_tree::RefusedNode>()?;
    module.add_function(wrap_pyfunction!(canonical_json::canonical_json, module)?)?;
    module.add_function(wrap_pyfunction!(card_path::join_path, module)?)?;
    module.add_function(wrap_pyfunction!(card_path::shown, module)?)?;
    module.add_function(wrap_pyfunction!(card_yaml::read_card_yaml, module)?)?;
    module.add_function(wrap_pyfunction!(access::method_roles, module)?)?;
    module.add_function(wrap_pyfunction!(keys::partition_of, module)?)?;
    module.add_function(wrap_pyfunction!(callers::key_uses, module)?)?;
    module.add_function(wrap_pyfunction!(callers::take_denials, module)?)?;
    module.add_function(wrap_pyfunction!(rate_card::rounded_prices, module)?)?;
    module.add_function(wrap_pyfunction!(report_rows::report_rows, module)?)?;
    module.add("UsageError", py.get_type::<provider_usage::UsageError>())?;
    module.add_function(wrap_pyfunction!(provider_usage::normalise_usage, module)?)?;
    module.add_function(wrap_pyfunction!(rate_card::usage_quantities, module)?)?;
    Ok(())
}
