// SPDX-License-Identifier: Apache-2.0
//! The public port at the border to Python. The contract is `server/taximeter_server/_native.pyi`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use rustls::ServerConfig;

use crate::forward::Forwarder;
use crate::front::Shared;
use crate::identity::Identities;
use crate::listener::Listener;
use crate::python::PyEngine;
use crate::tls::{ClientCertificates, server_config};

create_exception!(taximeter_server._native, TlsError, PyException);

/// Callers that need no key of the server's own.
#[pyclass(name = "Identities", module = "taximeter_server._native", frozen)]
pub(crate) struct PyIdentities {
    identities: Arc<Identities>,
}

#[pymethods]
impl PyIdentities {
    #[new]
    fn new(identities_json: &[u8]) -> PyResult<Self> {
        let identities = Identities::parse(identities_json)
            .ok_or_else(|| PyValueError::new_err("identities_json: not of the canonical form"))?;
        Ok(Self {
            identities: Arc::new(identities),
        })
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
    #[pyo3(signature = (engine, *, listen, forward_socket, tls=None, identities=None))]
    fn new(
        engine: &PyEngine,
        listen: &str,
        forward_socket: PathBuf,
        tls: Option<&PyTls>,
        identities: Option<&PyIdentities>,
    ) -> PyResult<Self> {
        let listener = TcpListener::bind(listen)?;
        let shared = Arc::new(Shared {
            engine: Arc::clone(&engine.engine),
            forwarder: Forwarder::new(forward_socket),
            tls: ArcSwapOption::new(tls.map(|tls| Arc::clone(&tls.config))),
            identities: ArcSwap::new(
                identities.map_or_else(Arc::default, |identities| Arc::clone(&identities.identities)),
            ),
        });
        let listener = Listener::start(engine.runtime.handle(), listener, Arc::clone(&shared))?;
        Ok(Self { listener, shared })
    }

    #[getter]
    fn address(&self) -> String {
        self.listener.address().to_string()
    }

    fn set_access(&self, tls: Option<&PyTls>, identities: &PyIdentities) {
        // In this order: whoever a new certificate lets in is known, and who no longer is known is refused.
        self.shared.identities.store(Arc::clone(&identities.identities));
        self.shared.tls.store(tls.map(|tls| Arc::clone(&tls.config)));
    }

    #[pyo3(signature = (*, timeout_ms))]
    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.listener.drain(Duration::from_millis(timeout_ms)))
    }
}
