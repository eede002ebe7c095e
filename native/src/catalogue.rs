// SPDX-License-Identifier: Apache-2.0
//! The catalogue: keys, rate cards and their timeline, immutable and swapped in as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use taximeter_pricing::{RateCard, TenantPrices};

use crate::access::{Key, Role, SECRET_HASH_SIZE, decode_hex};
use crate::callers::LastUse;

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
    is_withdrawn: bool,
    pub(crate) card: Arc<Card>,
}

/// One version of a tenant's own prices.
pub(crate) struct OwnPrices {
    pub(crate) version: i64,
    document: Arc<OwnPricesDocument>,
}

struct OwnPricesDocument {
    id_bytes: Vec<u8>,
    prices: TenantPrices,
}

impl OwnPrices {
    /// SHA-256 of the canonical form.
    pub(crate) fn id_bytes(&self) -> &[u8] {
        &self.document.id_bytes
    }

    pub(crate) fn prices(&self) -> &TenantPrices {
        &self.document.prices
    }
}

/// From `effective_time_ms` on, this level of a tenant's path has these prices, or none of its own.
struct LevelEntry {
    effective_time_ms: i64,
    prices: Option<Arc<OwnPrices>>,
}

/// What the front and the engine need to know; one immutable value.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// Oldest first. Entries that were withdrawn are never in force, but may have priced what is dated ahead.
    timeline: Vec<Entry>,
    cards: HashMap<String, Arc<Card>>,
    /// By level of a tenant's path, oldest first, without what was withdrawn.
    levels: HashMap<String, Vec<LevelEntry>>,
    /// By version, those withdrawn too.
    own_prices: HashMap<i64, Arc<OwnPrices>>,
    own_documents: HashMap<String, Arc<OwnPricesDocument>>,
    keys: HashMap<String, Key>,
    /// Requests that an instance may let pass while the store cannot decide, by level.
    leases: HashMap<String, i64>,
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
    #[serde(default)]
    tenant_prices: Vec<TenantPricesEntryDocument>,
    #[serde(borrow, default)]
    tenant_price_documents: HashMap<String, &'a RawValue>,
    keys: Vec<KeyDocument>,
    #[serde(default)]
    leases: HashMap<String, i64>,
}

#[derive(Deserialize)]
struct TimelineDocument {
    version: i64,
    effective_time_ms: i64,
    rate_card_id: String,
    #[serde(default)]
    withdrawn: bool,
}

#[derive(Deserialize)]
struct TenantPricesEntryDocument {
    version: i64,
    effective_time_ms: i64,
    tenant: String,
    /// None where the level's own prices end.
    tenant_prices_id: Option<String>,
    withdrawn: bool,
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
                is_withdrawn: entry.withdrawn,
                card: Arc::clone(card),
            });
        }
        let own_documents = own_documents(document.tenant_price_documents, before)?;
        let (levels, own_prices) = levels(document.tenant_prices, &own_documents)?;
        let keys = document
            .keys
            .into_iter()
            .map(|found| key(found, before))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            timeline,
            cards,
            levels,
            own_prices,
            own_documents,
            keys,
            leases: document.leases,
        })
    }

    /// The entry in force at an instant. The first one is in force for all earlier times too.
    pub(crate) fn at(&self, time_ms: i64) -> Option<&Entry> {
        self.timeline
            .iter()
            .rev()
            .find(|entry| !entry.is_withdrawn && entry.effective_time_ms <= time_ms)
            .or(self.timeline.first())
    }

    /// The own prices of a tenant at an instant: those of the nearest level that has any, from the tenant upwards.
    pub(crate) fn own_prices_at(&self, tenant: &str, time_ms: i64) -> Option<&Arc<OwnPrices>> {
        if self.levels.is_empty() {
            return None;
        }
        let parents = tenant
            .rmatch_indices('/')
            .filter_map(|(end, _)| tenant.get(..end));
        std::iter::once(tenant).chain(parents).find_map(|level| {
            let entries = self.levels.get(level)?;
            let in_force = entries
                .iter()
                .rev()
                .find(|entry| entry.effective_time_ms <= time_ms)?;
            in_force.prices.as_ref()
        })
    }

    /// The own prices of a version.
    pub(crate) fn own_prices_version(&self, version: i64) -> Option<&Arc<OwnPrices>> {
        self.own_prices.get(&version)
    }

    /// The entry of a version.
    pub(crate) fn version(&self, version: i64) -> Option<&Entry> {
        self.timeline.iter().rev().find(|entry| entry.version == version)
    }

    /// A card by its id.
    pub(crate) fn card(&self, id: &str) -> Option<&Arc<Card>> {
        self.cards.get(id)
    }

    /// Requests that an instance may let pass at a level while the store cannot decide.
    pub(crate) fn lease_of(&self, level: &str) -> Option<i64> {
        self.leases.get(level).copied()
    }

    /// A key by its id.
    pub(crate) fn key(&self, key_id: &str) -> Option<&Key> {
        self.keys.get(key_id)
    }

    /// When each key was last used, by its id.
    pub(crate) fn last_uses(&self) -> impl Iterator<Item = (&str, &LastUse)> {
        self.keys
            .iter()
            .map(|(key_id, key)| (key_id.as_str(), &key.last_use))
    }
}

fn compile(id: &str, canonical_json: &str) -> Result<Card, CatalogueError> {
    let prices = RateCard::compile(canonical_json)
        .map_err(|error| CatalogueError::Card(format!("rate card {id}: {error}")))?;
    Ok(Card {
        id: id.to_owned(),
        id_bytes: id_bytes(id)?,
        prices,
    })
}

/// Compiles own prices; those that `before` has compiled already are taken from it.
fn own_documents(
    texts: HashMap<String, &RawValue>,
    before: &Catalogue,
) -> Result<HashMap<String, Arc<OwnPricesDocument>>, CatalogueError> {
    let mut documents = HashMap::new();
    for (id, canonical) in texts {
        let document = match before.own_documents.get(&id) {
            Some(document) => Arc::clone(document),
            None => Arc::new(compile_own_prices(&id, canonical.get())?),
        };
        documents.insert(id, document);
    }
    Ok(documents)
}

fn compile_own_prices(id: &str, canonical_json: &str) -> Result<OwnPricesDocument, CatalogueError> {
    let prices = TenantPrices::compile(canonical_json)
        .map_err(|error| CatalogueError::Card(format!("tenant prices {id}: {error}")))?;
    Ok(OwnPricesDocument {
        id_bytes: id_bytes(id)?,
        prices,
    })
}

fn id_bytes(id: &str) -> Result<Vec<u8>, CatalogueError> {
    decode_hex::<SECRET_HASH_SIZE>(id)
        .map(|bytes| bytes.to_vec())
        .ok_or_else(|| CatalogueError::Malformed(format!("{id}: not a SHA-256")))
}

type Levels = (HashMap<String, Vec<LevelEntry>>, HashMap<i64, Arc<OwnPrices>>);

fn levels(
    entries: Vec<TenantPricesEntryDocument>,
    documents: &HashMap<String, Arc<OwnPricesDocument>>,
) -> Result<Levels, CatalogueError> {
    let mut levels: HashMap<String, Vec<LevelEntry>> = HashMap::new();
    let mut by_version = HashMap::new();
    for entry in entries {
        let version = entry.version;
        let unknown =
            || CatalogueError::Malformed(format!("timeline version {version} names unknown prices"));
        let prices = entry.tenant_prices_id.map(|id| {
            let document = Arc::clone(documents.get(&id).ok_or_else(unknown)?);
            Ok(Arc::new(OwnPrices { version, document }))
        });
        let prices = prices.transpose()?;
        if let Some(prices) = &prices {
            by_version.insert(version, Arc::clone(prices));
        }
        if !entry.withdrawn {
            levels.entry(entry.tenant).or_default().push(LevelEntry {
                effective_time_ms: entry.effective_time_ms,
                prices,
            });
        }
    }
    Ok((levels, by_version))
}

fn key(document: KeyDocument, before: &Catalogue) -> Result<(String, Key), CatalogueError> {
    let malformed = |what: &str| CatalogueError::Malformed(format!("key {}: {what}", document.key_id));
    let secret_hash = decode_hex(&document.secret_sha256).ok_or_else(|| malformed("secret_sha256"))?;
    let role = Role::from_name(&document.role).ok_or_else(|| malformed("role"))?;
    let key = Key {
        secret_hash,
        role,
        tenants: document.tenants,
        expire_time_ms: document.expire_time_ms,
        last_use: before
            .key(&document.key_id)
            .map_or_else(LastUse::default, |known| known.last_use.clone()),
    };
    Ok((document.key_id, key))
}
