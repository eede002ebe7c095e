// SPDX-License-Identifier: Apache-2.0
//! Ids of holds. An id says by itself which card and which day the hold pins, so that a record of it is priced and
//! counted alike whether the store still knows the hold or not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rustix::rand::{GetRandomFlags, getrandom};

const PREFIX: &str = "hold_";
const NONCE_SIZE: usize = 12;
const TIME_SIZE: usize = 6;
const DAY_SIZE: usize = 3;
const TAG_SIZE: usize = 3;
const SIZE: usize = NONCE_SIZE + TIME_SIZE + DAY_SIZE + TAG_SIZE;

/// What makes a hold one of its kind within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonce([u8; NONCE_SIZE]);

impl Nonce {
    /// That of a request with a name: the same name gives the same hold.
    pub(crate) fn of_request(tenant: &str, request_id: &str) -> Self {
        Self(hash(tenant, request_id.as_bytes()))
    }

    /// A new one.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; NONCE_SIZE];
        // So few bytes come whole, and never fail on a system that has started.
        let _ = getrandom(&mut bytes, GetRandomFlags::empty());
        Self(bytes)
    }

    /// Name of the hold in the store: the same nonce under another tenant names another one.
    pub(crate) fn store_name(self, tenant: &str) -> String {
        BASE64.encode(hash::<NONCE_SIZE>(tenant, &self.0))
    }
}

/// A hold as its id describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldId {
    pub(crate) nonce: Nonce,
    /// Instant that selects the card.
    pub(crate) card_time_ms: i64,
    /// Day, counted from 1970, whose quota it counts against.
    pub(crate) day: i64,
}

impl HoldId {
    /// The id as callers see it.
    pub(crate) fn text(&self, tenant: &str) -> String {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(&self.nonce.0);
        bytes.extend(self.card_time_ms.to_be_bytes().iter().skip(8 - TIME_SIZE));
        bytes.extend(self.day.to_be_bytes().iter().skip(8 - DAY_SIZE));
        bytes.extend_from_slice(&hash::<TAG_SIZE>(tenant, &bytes));
        format!("{PREFIX}{}", BASE64.encode(bytes))
    }

    /// Reads an id; None when it is none of this tenant.
    pub(crate) fn parse(text: &str, tenant: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (content, tag) = bytes.split_last_chunk::<TAG_SIZE>()?;
        if bytes.len() != SIZE || hash::<TAG_SIZE>(tenant, content) != *tag {
            return None;
        }
        let (nonce, rest) = content.split_first_chunk::<NONCE_SIZE>()?;
        let (time, day) = rest.split_at_checked(TIME_SIZE)?;
        Some(Self {
            nonce: Nonce(*nonce),
            card_time_ms: big_endian(time),
            day: big_endian(day),
        })
    }
}

fn big_endian(bytes: &[u8]) -> i64 {
    bytes
        .iter()
        .fold(0, |number: i64, byte| number.wrapping_shl(8) | i64::from(*byte))
}

fn hash<const SIZE: usize>(tenant: &str, content: &[u8]) -> [u8; SIZE] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tenant.as_bytes());
    hasher.update(&[0]);
    hasher.update(content);
    hasher
        .finalize()
        .as_bytes()
        .first_chunk::<SIZE>()
        .copied()
        .unwrap_or([0; SIZE])
}
