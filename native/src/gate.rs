// SPDX-License-Identifier: Apache-2.0
//! Who is let in: credentials, roles, and how many calls at once. All of it before any work is done.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::access::{self, METHODS, Principal, Rule};
use crate::admission::{Admission, AdmissionLimits, Turn};
use crate::clock;
use crate::connection::Peer;
use crate::engine::Engine;
use crate::error::{Code, Failure};
use crate::identity::Identities;
use crate::proto::taximeter::v1::ErrorReason;

/// Enough to keep the store busy, and few enough that one more call is answered soon.
const SHARED_HERE_MAX: usize = 64;
const OWN_HERE_MIN: usize = 8;
/// Python serves these one after the other.
const FORWARDED: AdmissionLimits = AdmissionLimits {
    calls_max: 256,
    shared_max: 32,
    own_min: 8,
};
/// Health, asked for without credentials: nobody waits, and nobody is told from others.
const OPEN: AdmissionLimits = AdmissionLimits {
    calls_max: 256,
    shared_max: 256,
    own_min: 256,
};

/// Where a call is served, each with calls of its own.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Here,
    Forwarded,
}

/// A call that may be carried out.
pub(crate) struct Admitted {
    pub(crate) method: &'static str,
    /// Who calls, where the method is not open to everyone.
    pub(crate) principal: Option<Principal>,
}

/// Lets calls in.
pub(crate) struct Gate {
    engine: Arc<Engine>,
    pub(crate) identities: ArcSwap<Identities>,
    here: Arc<Admission>,
    forwarded: Arc<Admission>,
    open: Arc<Admission>,
    anyone: Arc<str>,
}

impl Gate {
    /// `calls_max`: calls served here at once, in progress or waiting.
    pub(crate) fn new(engine: Arc<Engine>, identities: Arc<Identities>, calls_max: usize) -> Self {
        let here = AdmissionLimits {
            calls_max,
            shared_max: SHARED_HERE_MAX,
            own_min: OWN_HERE_MIN,
        };
        let now = Instant::now();
        let admission = |limits| Arc::new(Admission::new(limits, now));
        Self {
            engine,
            identities: ArcSwap::new(identities),
            here: admission(here),
            forwarded: admission(FORWARDED),
            open: admission(OPEN),
            anyone: Arc::from(""),
        }
    }

    /// Finds the method of a path, and who calls it. Fails unless the caller may.
    pub(crate) fn admit(&self, peer: &Peer, path: &str, headers: &HeaderMap) -> Result<Admitted, Failure> {
        let found = METHODS.iter().find(|(method, _)| *method == path);
        let (method, rule) = found.ok_or_else(no_such_method)?;
        let principal = self.let_in(*rule, method, peer, headers)?;
        Ok(Admitted { method, principal })
    }

    /// Who calls, where the method is not open to everyone. Fails unless the caller may.
    fn let_in(
        &self,
        rule: Rule,
        method: &'static str,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<Option<Principal>, Failure> {
        if rule == Rule::Open {
            peer.standing.set_called();
            return Ok(None);
        }
        let principal = self.authenticate(peer, headers)?;
        peer.standing.set_known();
        if let Err(failure) = access::authorize(rule, principal.role, method) {
            if rule.is_admin() {
                self.engine.denials.note(&principal.key_id, method, peer.address);
            }
            return Err(failure);
        }
        Ok(Some(principal))
    }

    /// The turn of a call. Fails when the caller, or all callers, have too many in progress.
    pub(crate) fn enter(
        &self,
        place: Place,
        principal: Option<&Principal>,
        now: Instant,
    ) -> Result<Turn, Failure> {
        let Some(principal) = principal else {
            return self.open.enter(&self.anyone, now);
        };
        match place {
            Place::Here => self.here.enter(&principal.key_id, now),
            Place::Forwarded => self.forwarded.enter(&principal.key_id, now),
        }
    }

    /// What the call itself carries goes before the connection's certificate.
    fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Principal, Failure> {
        if let Some(uri) = &peer.certificate_uri
            && !headers.contains_key(AUTHORIZATION)
        {
            let principal = self.identities.load().of_certificate(uri);
            return principal.ok_or_else(access::credentials_required);
        }
        let secret = access::bearer(headers).ok_or_else(access::credentials_required)?;
        let now_ms = clock::now_ms();
        if !access::is_key(secret)
            && let Some(tokens) = &self.identities.load().tokens
        {
            return tokens
                .verify(secret, now_ms)
                .ok_or_else(access::credentials_required);
        }
        access::authenticate(&self.engine.catalogue(), secret, now_ms)
    }
}

/// There is nothing at the path of a call.
pub(crate) fn no_such_method() -> Failure {
    Failure::new(Code::Unimplemented, ErrorReason::NotServed, "no such method")
}
