// SPDX-License-Identifier: Apache-2.0
//! Ids of holds. An id says by itself which card and which day the hold pins, so that a record of it is priced and
//! counted alike whether the store still knows the hold or not. It is sealed for its tenant: who may meter cannot make
//! one of another day or an older card.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::keys;

const PREFIX: &str = "hold_";
const NONCE_SIZE: usize = 12;
const TIME_SIZE: usize = 6;
const PLACE_SIZE: usize = 1;
const DAY_SIZE: usize = 2;
const SEAL_SIZE: usize = 9;
const SIZE: usize = NONCE_SIZE + TIME_SIZE + PLACE_SIZE + DAY_SIZE + SEAL_SIZE;
const SEAL_KEY_SIZE: usize = 32;

/// Seals ids; the same on all instances of a store.
pub(crate) struct SealKey([u8; SEAL_KEY_SIZE]);

impl SealKey {
    /// A key from its bytes; None for a wrong number of them.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A new one, whose ids no other instance opens.
    pub(crate) fn random() -> Self {
        Self(random_bytes())
    }

    fn seal(&self, tenant: &str, content: &[u8]) -> [u8; SEAL_SIZE] {
        hash(blake3::Hasher::new_keyed(&self.0), tenant, content)
    }
}

fn random_bytes<const SIZE: usize>() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    // So few bytes come whole, and never fail on a system that has started.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    bytes
}

/// What makes a hold one of its kind within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonce([u8; NONCE_SIZE]);

impl Nonce {
    /// That of a request with a name: the same name gives the same hold.
    pub(crate) fn of_request(tenant: &str, request_id: &str) -> Self {
        Self(hash(blake3::Hasher::new(), tenant, request_id.as_bytes()))
    }

    /// A new one.
    pub(crate) fn random() -> Self {
        Self(random_bytes())
    }

    /// Name of the hold in the store: the same nonce under another tenant names another one.
    pub(crate) fn store_name(self, tenant: &str) -> String {
        BASE64.encode(hash::<NONCE_SIZE>(blake3::Hasher::new(), tenant, &self.0))
    }
}

/// Where the mark of a hold is, as the scripts take it.
pub(crate) struct Mark {
    pub(crate) key: String,
    /// Which of a hash it is; empty when the key is its own.
    pub(crate) name: String,
}

/// A hold as its id describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldId {
    pub(crate) nonce: Nonce,
    /// Instant that selects the card.
    pub(crate) card_time_ms: i64,
    /// Where its mark is one of many: the power of two that is the grid of its time to live, which says how long they
    /// are kept. None when the mark is found by the nonce alone.
    pub(crate) grid_power: Option<u8>,
    /// Day, counted from 1970, whose quota it counts against.
    pub(crate) day: i64,
}

impl HoldId {
    /// Where the store has the mark of the hold.
    pub(crate) fn mark(&self, partition: u16, tenant: &str) -> Mark {
        let name = self.nonce.store_name(tenant);
        match self.grid_power {
            Some(grid_power) => Mark {
                key: keys::hold_place(self.card_time_ms, grid_power),
                name,
            },
            None => Mark {
                key: keys::hold(partition, &name),
                name: String::new(),
            },
        }
    }

    /// The id as callers see it.
    pub(crate) fn text(&self, tenant: &str, key: &SealKey) -> String {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(&self.nonce.0);
        bytes.extend(self.card_time_ms.to_be_bytes().iter().skip(8 - TIME_SIZE));
        bytes.push(self.grid_power.map_or(0, |power| power.saturating_add(1)));
        bytes.extend(self.day.to_be_bytes().iter().skip(8 - DAY_SIZE));
        bytes.extend_from_slice(&key.seal(tenant, &bytes));
        format!("{PREFIX}{}", BASE64.encode(bytes))
    }

    /// Opens an id that a caller sent; None when it was not sealed for this tenant.
    pub(crate) fn open(text: &str, tenant: &str, key: &SealKey) -> Option<Self> {
        let bytes = decode(text)?;
        let (content, seal) = bytes.split_last_chunk::<SEAL_SIZE>()?;
        if constant_time_eq(&key.seal(tenant, content), seal) {
            Self::of_content(content)
        } else {
            None
        }
    }

    /// Reads an id that was opened before, when its record was accepted. None when there is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Self::of_content(&decode(text)?)
    }

    fn of_content(content: &[u8]) -> Option<Self> {
        let (nonce, rest) = content.split_first_chunk::<NONCE_SIZE>()?;
        let (time, rest) = rest.split_at_checked(TIME_SIZE)?;
        // Zero in ids of versions that knew no places: it was the first byte of the day.
        let (place, rest) = rest.split_first()?;
        let day = rest.get(..DAY_SIZE)?;
        Some(Self {
            nonce: Nonce(*nonce),
            card_time_ms: big_endian(time),
            grid_power: place.checked_sub(1),
            day: big_endian(day),
        })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
    (bytes.len() == SIZE).then_some(bytes)
}

/// Compares without telling by its time how much is equal.
fn constant_time_eq(a: &[u8; SEAL_SIZE], b: &[u8; SEAL_SIZE]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn big_endian(bytes: &[u8]) -> i64 {
    bytes
        .iter()
        .fold(0, |number: i64, byte| number.wrapping_shl(8) | i64::from(*byte))
}

fn hash<const SIZE: usize>(mut hasher: blake3::Hasher, tenant: &str, content: &[u8]) -> [u8; SIZE] {
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
