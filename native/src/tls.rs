// SPDX-License-Identifier: Apache-2.0
//! What the port shows and asks for under TLS: certificates, versions, protocol.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use webpki::EndEntityCert;

use crate::identity::{self, Identities};

/// HTTP/2 as ALPN names it; who does not ask for it gets HTTP/1.1.
pub(crate) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A file that cannot be used; `setting` names it.
#[derive(Debug)]
pub(crate) struct TlsProblem {
    pub(crate) setting: &'static str,
    pub(crate) problem: String,
}

/// The certificates that clients must or may show.
pub(crate) struct ClientCertificates<'a> {
    pub(crate) ca_pem: &'a [u8],
    pub(crate) optional: bool,
    pub(crate) identities: Arc<Identities>,
}

/// Puts together what connections are accepted with: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1.
pub(crate) fn server_config(
    certificate_pem: &[u8],
    key_pem: &[u8],
    clients: Option<&ClientCertificates<'_>>,
) -> Result<ServerConfig, TlsProblem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(certificate_pem, "tls_cert")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| problem("tls_key", "holds no unencrypted private key in PEM form"))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| problem("tls_cert", error.to_string()))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, &provider)?),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            Error::InconsistentKeys(_) => problem("tls_key", "is not the key of the certificate"),
            Error::InvalidCertificate(_) => problem("tls_cert", "is no certificate that can be read"),
            _ => problem("tls_key", "is no key of a supported kind"),
        })?;
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    if clients.is_some() {
        // A session that is resumed would not be asked for its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// The URI of a verified certificate; None when it has none.
pub(crate) fn certificate_uri(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    EndEntityCert::try_from(certificate)
        .ok()?
        .valid_uri_names()
        .next()
        .map(Arc::from)
}

fn verifier(
    clients: &ClientCertificates<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsProblem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(clients.ca_pem, "tls_client_ca")? {
        roots
            .add(certificate)
            .map_err(|_| problem("tls_client_ca", "holds something that is no CA certificate"))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if clients.optional {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder
        .build()
        .map_err(|error| problem("tls_client_ca", error.to_string()))?;
    Ok(Arc::new(KnownCallers {
        inner,
        identities: Arc::clone(&clients.identities),
    }))
}

fn certificates(pem: &[u8], setting: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| problem(setting, "holds no certificate in PEM form"))
}

fn problem(setting: &'static str, problem: impl Into<String>) -> TlsProblem {
    TlsProblem {
        setting,
        problem: problem.into(),
    }
}

/// Accepts certificates that the CA has issued, to callers that the server knows.
#[derive(Debug)]
struct KnownCallers {
    inner: Arc<dyn ClientCertVerifier>,
    identities: Arc<Identities>,
}

impl KnownCallers {
    /// More than one URI could be two callers; who it is must not depend on their order.
    fn knows(&self, certificate: &CertificateDer<'_>) -> Option<()> {
        let parsed = EndEntityCert::try_from(certificate).ok()?;
        let uris: Vec<&str> = parsed.valid_uri_names().collect();
        if !self.identities.name_by_certificate() {
            return Some(());
        }
        let [uri] = uris.as_slice() else { return None };
        let known = identity::is_name(uri) && self.identities.of_certificate(&Arc::from(*uri)).is_some();
        known.then_some(())
    }
}

impl ClientCertVerifier for KnownCallers {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.knows(end_entity)
            .map(|()| verified)
            .ok_or(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
