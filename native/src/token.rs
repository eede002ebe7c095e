// SPDX-License-Identifier: Apache-2.0
//! Callers that an identity provider vouches for: signed tokens (JWT) as bearer credentials.
//!
//! Only public-key algorithms are known here, and each key has its one: what a token says of its algorithm is compared,
//! never followed. A verified token is remembered, so that the next call with it costs a hash, like a key.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::access::{Principal, Role};
use crate::engine::lock;
use crate::identity::is_name;

/// Longer tokens are refused unread.
const TOKEN_SIZE_MAX: usize = 6 << 10;
/// Verified tokens that are remembered.
const REMEMBERED_MAX: usize = 10_000;
/// Clocks of issuer and server may differ by this.
const LEEWAY_S: u32 = 30;
const MS_PER_SECOND: i64 = 1_000;
/// Names of callers begin with this: no subject can pass for a key.
const NAME_PREFIX: &str = "jwt:";

/// What tokens are accepted, as the identities file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRules {
    issuer: String,
    audience: String,
    algorithms: Vec<Algorithm>,
    /// Path of the claim, outermost first.
    role_claim: Vec<String>,
    /// Values of the claim and the roles that they give; the first that a token has decides.
    roles: Vec<(String, String)>,
    tenants_claim: Option<Vec<String>>,
}

/// Verifies tokens.
pub(crate) struct Tokens {
    rules: TokenRules,
    keys: Vec<Key>,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    unknown_key: AtomicBool,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    public: DecodingKey,
}

struct Remembered {
    principal: Principal,
    expire_time_ms: i64,
}

type Claims = Map<String, Value>;

impl Tokens {
    /// Keys that are not for signatures by a known algorithm are passed over.
    pub(crate) fn new(rules: TokenRules, keys: &JwkSet) -> Self {
        Self {
            keys: keys.keys.iter().filter_map(Key::from_jwk).collect(),
            rules,
            remembered: Mutex::new(HashMap::new()),
            unknown_key: AtomicBool::new(false),
        }
    }

    /// How many keys can verify tokens.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Whether a token named a key that is not known since this was asked last.
    pub(crate) fn take_unknown_key(&self) -> bool {
        self.unknown_key.swap(false, Ordering::Relaxed)
    }

    /// The caller of a good token.
    pub(crate) fn verify(&self, token: &[u8], now_ms: i64) -> Option<Principal> {
        if token.len() > TOKEN_SIZE_MAX {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(found) = lock(&self.remembered).get(&hash) {
            return (found.expire_time_ms > now_ms).then(|| found.principal.clone());
        }
        let claims = self.claims(token)?;
        let leeway_ms = i64::from(LEEWAY_S).saturating_mul(MS_PER_SECOND);
        // The library does not look at when a token was issued.
        let issued_s = claims.get("iat").map_or(Some(0), Value::as_i64)?;
        if issued_s.saturating_mul(MS_PER_SECOND) > now_ms.saturating_add(leeway_ms) {
            return None;
        }
        let principal = self.principal(&claims)?;
        let expire_s = claims.get("exp")?.as_i64()?;
        let expire_time_ms = expire_s.saturating_mul(MS_PER_SECOND).saturating_add(leeway_ms);
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, one| one.expire_time_ms > now_ms);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(
                hash,
                Remembered {
                    principal: principal.clone(),
                    expire_time_ms,
                },
            );
        }
        Some(principal)
    }

    /// The claims of a token whose signature, issuer, audience and times are good.
    fn claims(&self, token: &[u8]) -> Option<Claims> {
        let header = decode_header(token).ok()?;
        if !self.rules.algorithms.contains(&header.alg) {
            return None;
        }
        let mut fits = self
            .keys
            .iter()
            .filter(|key| key.algorithm == header.alg && (header.kid.is_none() || key.id == header.kid));
        let (Some(key), None) = (fits.next(), fits.next()) else {
            self.unknown_key.store(true, Ordering::Relaxed);
            return None;
        };
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY_S.into();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        decode::<Claims>(token, &key.public, &validation)
            .ok()
            .map(|token| token.claims)
    }

    fn principal(&self, claims: &Claims) -> Option<Principal> {
        let name = format!("{NAME_PREFIX}{}", claims.get("sub")?.as_str()?);
        let has = texts(claims, &self.rules.role_claim)?;
        let (_, role) = self
            .rules
            .roles
            .iter()
            .find(|(value, _)| has.contains(&value.as_str()))?;
        let tenants = match &self.rules.tenants_claim {
            None => Vec::new(),
            Some(path) => {
                let tenants = texts(claims, path)?;
                // No tenant at all would mean every tenant.
                if tenants.is_empty() || !tenants.iter().all(|tenant| is_tenant(tenant)) {
                    return None;
                }
                tenants.into_iter().map(str::to_owned).collect()
            }
        };
        is_name(&name).then_some(())?;
        Some(Principal {
            key_id: name.into(),
            role: Role::from_name(role)?,
            tenants: tenants.into(),
        })
    }
}

impl Key {
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(curve) if curve.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        Some(Self {
            id: jwk.common.key_id.clone(),
            algorithm,
            public: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

/// The texts of a claim that is one or a list; None when it is missing or something else.
fn texts<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Option<Vec<&'a str>> {
    let (first, rest) = path.split_first()?;
    let mut value = claims.get(first)?;
    for name in rest {
        value = value.get(name)?;
    }
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn is_tenant(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    is_name(text) && text.bytes().all(is_plain)
}
