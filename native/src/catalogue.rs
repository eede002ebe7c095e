// SPDX-License-Identifier: Apache-2.0
//! The catalogue: keys, rate cards and their timeline, immutable and swapped in as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use taximeter_pricing::RateCard;

use crate::access::{Key, Role, SECRET_HASH_SIZE, decode_hex};

/// One card with its identity.
pub(crate) struct Card {
    /// Lower-case hex SHA-256 of the canonical form.
    pub(crate) id: String,
    /// The same as 32 bytes.
    pub(crate) id_bytes: Vec<u8>,
    /// The compiled card.
    pub(crate) prices: RateCard,
}

/// From `effective_time_ms` on, `card` prices.
pub(crate) struct Entry {
    pub(crate) version: i64,
    effective_time_ms: i64,
    pub(crate) card: Arc<Card>,
}

/// What the front and the engine need to know; one immutable value.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// Oldest first.
    timeline: Vec<Entry>,
    cards: HashMap<String, Arc<Card>>,
    keys: HashMap<String, Key>,
}

/// Why a catalogue was refused; nothing changed.
#[derive(Debug)]
pub(crate) enum CatalogueError {
    /// Not the expected JSON.
    Malformed(String),
    /// A card does not compile.
    Card(String),
}

#[derive(Deserialize)]
struct Document<'a> {
    timeline: Vec<TimelineDocument>,
    #[serde(borrow)]
    rate_cards: HashMap<String, &'a RawValue>,
    keys: Vec<KeyDocument>,
}

#[derive(Deserialize)]
struct TimelineDocument {
    version: i64,
    effective_time_ms: i64,
    rate_card_id: String,
}

#[derive(Deserialize)]
struct KeyDocument {
    key_id: String,
    secret_sha256: String,
    role: String,
    tenants: Vec<String>,
    expire_time_ms: Option<i64>,
}

impl Catalogue {
    /// Reads a catalogue; cards that `before` has compiled already are taken from it.
    pub(crate) fn parse(json: &[u8], before: &Self) -> Result<Self, CatalogueError> {
        let malformed = |error: serde_json::Error| CatalogueError::Malformed(error.to_string());
        let document: Document<'_> = serde_json::from_slice(json).map_err(malformed)?;
        let mut cards = HashMap::new();
        for (id, canonical) in document.rate_cards {
            let card = match before.cards.get(&id) {
                Some(card) => Arc::clone(card),
                None => Arc::new(compile(&id, canonical.get())?),
            };
            cards.insert(id, card);
        }
        let mut timeline = Vec::new();
        for entry in document.timeline {
            let card = cards.get(&entry.rate_card_id).ok_or_else(|| {
                CatalogueError::Malformed(format!(
                    "timeline version {} names an unknown card",
                    entry.version
                ))
            })?;
            timeline.push(Entry {
                version: entry.version,
                effective_time_ms: entry.effective_time_ms,
                card: Arc::clone(card),
            });
        }
        let keys = document.keys.into_iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self {
            timeline,
            cards,
            keys,
        })
    }

    /// The entry in force at an instant. The first one is in force for all earlier times too.
    pub(crate) fn at(&self, time_ms: i64) -> Option<&Entry> {
        self.timeline
            .iter()
            .rev()
            .find(|entry| entry.effective_time_ms <= time_ms)
            .or(self.timeline.first())
    }

    /// The entry of a version.
    pub(crate) fn version(&self, version: i64) -> Option<&Entry> {
        self.timeline.iter().rev().find(|entry| entry.version == version)
    }

    /// A card by its id.
    pub(crate) fn card(&self, id: &str) -> Option<&Arc<Card>> {
        self.cards.get(id)
    }

    /// A key by its id.
    pub(crate) fn key(&self, key_id: &str) -> Option<&Key> {
        self.keys.get(key_id)
    }
}

fn compile(id: &str, canonical_json: &str) -> Result<Card, CatalogueError> {
    let prices = RateCard::compile(canonical_json)
        .map_err(|error| CatalogueError::Card(format!("rate card {id}: {error}")))?;
    let id_bytes = decode_hex::<SECRET_HASH_SIZE>(id)
        .ok_or_else(|| CatalogueError::Malformed(format!("rate card {id}: not a SHA-256")))?;
    Ok(Card {
        id: id.to_owned(),
        id_bytes: id_bytes.to_vec(),
        prices,
    })
}

fn key(document: KeyDocument) -> Result<(String, Key), CatalogueError> {
    let malformed = |what: &str| CatalogueError::Malformed(format!("key {}: {what}", document.key_id));
    let secret_hash = decode_hex(&document.secret_sha256).ok_or_else(|| malformed("secret_sha256"))?;
    let role = Role::from_name(&document.role).ok_or_else(|| malformed("role"))?;
    let key = Key {
        secret_hash,
        role,
        tenants: document.tenants,
        expire_time_ms: document.expire_time_ms,
    };
    Ok((document.key_id, key))
}
