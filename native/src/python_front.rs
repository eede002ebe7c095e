// SPDX-License-Identifier: Apache-2.0
//! The public port at the border to Python. The contract is `server/taximeter_server/_native.pyi`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use rustls::ServerConfig;

use crate::connection::ConnectionLimits;
use crate::forward::Forwarder;
use crate::front::Shared;
use crate::gate::Gate;
use crate::identity::Identities;
use crate::listener::Listener;
use crate::python::PyEngine;
use crate::tls::{ClientCertificates, server_config};
use crate::token::Tokens;

create_exception!(taximeter_server._native, TlsError, PyException);

/// Callers that need no key of the server's own.
#[pyclass(name = "Identities", module = "taximeter_server._native", frozen)]
pub(crate) struct PyIdentities {
    identities: Arc<Identities>,
}

#[pymethods]
impl PyIdentities {
    #[new]
    fn new(identities_json: &[u8], token_keys_json: &[u8]) -> PyResult<Self> {
        let identities =
            Identities::parse(identities_json, token_keys_json).map_err(PyValueError::new_err)?;
        Ok(Self {
            identities: Arc::new(identities),
        })
    }

    #[getter]
    fn token_key_count(&self) -> usize {
        self.identities.tokens.as_ref().map_or(0, Tokens::key_count)
    }
}

/// Certificates of the public port.
#[pyclass(name = "Tls", module = "taximeter_server._native", frozen)]
pub(crate) struct PyTls {
    config: Arc<ServerConfig>,
}

#[pymethods]
impl PyTls {
    #[new]
    #[pyo3(signature = (*, certificate_pem, key_pem, client_ca_pem, client_optional, identities))]
    fn new(
        certificate_pem: &[u8],
        key_pem: &[u8],
        client_ca_pem: Option<&[u8]>,
        client_optional: bool,
        identities: &PyIdentities,
    ) -> PyResult<Self> {
        let clients = client_ca_pem.map(|ca_pem| ClientCertificates {
            ca_pem,
            optional: client_optional,
            identities: Arc::clone(&identities.identities),
        });
        let config = server_config(certificate_pem, key_pem, clients.as_ref())
            .map_err(|error| TlsError::new_err((error.setting, error.problem)))?;
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

/// The public port.
#[pyclass(name = "Front", module = "taximeter_server._native", frozen)]
pub(crate) struct PyFront {
    listener: Listener,
    shared: Arc<Shared>,
}

#[pymethods]
impl PyFront {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "each has its name in Python")]
    #[pyo3(signature = (
        engine, *, listen, forward_socket, calls_max, connections_max, connection_age_max_ms, tls=None, identities=None
    ))]
    fn new(
        engine: &PyEngine,
        listen: &str,
        forward_socket: PathBuf,
        calls_max: usize,
        connections_max: usize,
        connection_age_max_ms: u64,
        tls: Option<&PyTls>,
        identities: Option<&PyIdentities>,
    ) -> PyResult<Self> {
        let listener = TcpListener::bind(listen)?;
        let shared = Arc::new(Shared {
            engine: Arc::clone(&engine.engine),
            forwarder: Forwarder::new(forward_socket),
            tls: ArcSwapOption::new(tls.map(|tls| Arc::clone(&tls.config))),
            gate: Gate::new(
                Arc::clone(&engine.engine),
                identities.map_or_else(Arc::default, |identities| Arc::clone(&identities.identities)),
                calls_max,
            ),
        });
        let limits = ConnectionLimits {
            connections_max,
            age_max: Duration::from_millis(connection_age_max_ms),
        };
        let listener = Listener::start(engine.runtime.handle(), listener, Arc::clone(&shared), limits)?;
        Ok(Self { listener, shared })
    }

    #[getter]
    fn address(&self) -> String {
        self.listener.address().to_string()
    }

    fn set_access(&self, tls: Option<&PyTls>, identities: &PyIdentities) {
        // In this order: whoever a new certificate lets in is known, and who no longer is known is refused.
        self.shared
            .gate
            .identities
            .store(Arc::clone(&identities.identities));
        self.shared.tls.store(tls.map(|tls| Arc::clone(&tls.config)));
    }

    fn take_unknown_token_key(&self) -> bool {
        let identities = self.shared.gate.identities.load();
        identities.tokens.as_ref().is_some_and(Tokens::take_unknown_key)
    }

    #[pyo3(signature = (*, timeout_ms))]
    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.listener.drain(Duration::from_millis(timeout_ms)))
    }
}
