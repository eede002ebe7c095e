// SPDX-License-Identifier: Apache-2.0
//! Callers that the server knows without a key of its own: by their client certificates, or by signed tokens.
//!
//! What is accepted comes from the operator's identities file, which `server/taximeter_server/identities.py` reads.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;

use crate::access::{Principal, Role};
use crate::token::{TokenRules, Tokens};

/// Longer names of callers are refused.
const NAME_SIZE_MAX: usize = 256;

/// Who is who. The default knows nobody.
#[derive(Default)]
pub(crate) struct Identities {
    certificates: Vec<CertificateRule>,
    pub(crate) tokens: Option<Tokens>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Identities")
    }
}

/// Certificates with such a URI are these callers.
#[derive(Clone, Debug)]
struct CertificateRule {
    uri: String,
    /// The URI is the beginning of those that fit.
    is_prefix: bool,
    role: Role,
    tenants: Arc<[String]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    certificates: Vec<CertificateDocument>,
    token: Option<TokenRules>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateDocument {
    uri: String,
    role: String,
    tenants: Vec<String>,
}

impl Identities {
    /// Reads the canonical form and the keys of tokens; fails with what is wrong.
    pub(crate) fn parse(json: &[u8], token_keys: &[u8]) -> Result<Self, &'static str> {
        let document: Document = serde_json::from_slice(json).map_err(|_| "not of the canonical form")?;
        let keys: JwkSet = serde_json::from_slice(token_keys).map_err(|_| "token.keys: holds no JWKS")?;
        let certificates = document.certificates.into_iter().map(|rule| {
            let prefix = rule.uri.strip_suffix('*');
            Some(CertificateRule {
                uri: prefix.unwrap_or(&rule.uri).to_owned(),
                is_prefix: prefix.is_some(),
                role: Role::from_name(&rule.role)?,
                tenants: rule.tenants.into(),
            })
        });
        Ok(Self {
            certificates: certificates.collect::<Option<_>>().ok_or("no such role")?,
            tokens: document.token.map(|rules| Tokens::new(rules, &keys)),
        })
    }

    /// Whether certificates say who calls, and not only that the caller may connect.
    pub(crate) fn name_by_certificate(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// The caller with such a URI in its certificate: the first rule that fits decides.
    pub(crate) fn of_certificate(&self, uri: &Arc<str>) -> Option<Principal> {
        let rule = self.certificates.iter().find(|rule| rule.fits(uri))?;
        Some(Principal {
            key_id: Arc::clone(uri),
            role: rule.role,
            tenants: Arc::clone(&rule.tenants),
        })
    }
}

impl CertificateRule {
    fn fits(&self, uri: &str) -> bool {
        if self.is_prefix {
            uri.starts_with(&self.uri)
        } else {
            uri == self.uri
        }
    }
}

/// Whether a name from outside may stand for a caller, in metadata and in the ledger.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_SIZE_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}
