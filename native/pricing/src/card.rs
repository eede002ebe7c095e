// SPDX-License-Identifier: Apache-2.0
//! A compiled rate card: everything that pricing needs, decided once.

use std::fmt;
use std::sync::Arc;

use crate::card_format::{CardDocument, FORMAT, RowDocument};
use crate::model_lookup::{ModelLookup, Resolution, ResolvedBy, RowPosition};
use crate::overlay::Overlay;
use crate::price::{PriceList, RowPrices, parse_prices, with_fallbacks};
use crate::usage_class::ClassTable;
use crate::variant::Variants;

/// Why a canonical card does not compile. Cards that the server has accepted do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    message: String,
}

impl CompileError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for CompileError {}

/// A row with its prices under all circumstances.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: Arc<str>,
    pub(crate) variants: Variants,
}

/// An immutable compiled rate card. Pricing by it from many threads at once is what it is for.
#[derive(Debug)]
pub struct RateCard {
    currency: String,
    pub(crate) classes: ClassTable,
    /// With fallbacks: the price of every class that a row leaves without one.
    pub(crate) defaults: PriceList,
    rows: Vec<Row>,
    lookup: ModelLookup,
    unknown_model_row: Option<RowPosition>,
}

/// How a model's name was resolved.
pub(crate) enum RowMatch<'a> {
    Row(&'a Row),
    /// The call names no model.
    NoModel,
    Unknown,
}

impl RateCard {
    /// Compiles the canonical JSON of a card.
    ///
    /// # Errors
    /// When the text is not a canonical card, or a price could exceed `i64` picos.
    pub fn compile(canonical_json: &str) -> Result<Self, CompileError> {
        let document: CardDocument = serde_json::from_str(canonical_json)
            .map_err(|error| CompileError::new(format!("not a canonical rate card: {error}")))?;
        Self::from_document(document)
    }

    pub(crate) fn from_document(document: CardDocument) -> Result<Self, CompileError> {
        if document.format != FORMAT {
            return Err(CompileError::new(format!(
                "format {} is not supported",
                document.format
            )));
        }
        if let Some((name, _)) = document.classes.iter().find(|(_, class)| class.per < 1) {
            return Err(CompileError::new(format!("classes.{name}.per: must be positive")));
        }
        let classes = ClassTable::with_declared(&document.classes).map_err(|name| {
            CompileError::new(format!("classes.{name}: shadows a class or has no such parent"))
        })?;
        let defaults = parse_prices(&document.defaults, &classes)
            .map_err(|message| CompileError::new(format!("defaults: {message}")))?;
        let defaults = with_fallbacks(&defaults, &classes);
        let lookup_names = document
            .rows
            .iter()
            .map(|(name, row)| (name.as_str(), row.aliases.as_slice()));
        let lookup = ModelLookup::new(lookup_names)
            .map_err(|name| CompileError::new(format!("rate_card: two rows answer to {name}")))?;
        let mut rows = Vec::with_capacity(document.rows.len());
        for (name, row) in &document.rows {
            let variants = compile_row(row, &defaults, &classes)
                .map_err(|message| CompileError::new(format!("rate_card.{name}: {message}")))?;
            rows.push(Row {
                name: Arc::from(name.as_str()),
                variants,
            });
        }
        let unknown_model_row = match &document.unknown_model {
            None => None,
            Some(name) => {
                let position = rows.iter().position(|row| *row.name == **name);
                Some(position.ok_or_else(|| CompileError::new(format!("unknown_model: no row {name}")))?)
            }
        };
        Ok(Self {
            currency: document.currency,
            classes,
            defaults,
            rows,
            lookup,
            unknown_model_row,
        })
    }

    /// ISO 4217 code of the currency that all amounts are in.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// How a model's name leads to a row; `None` where none is found, and for usage without a model.
    #[must_use]
    pub fn resolve(&self, model: &str, provider: &str) -> Option<Resolution> {
        let (row, by, matched) = if model.is_empty() {
            return None;
        } else if let Some(found) = self.lookup.search(model, provider) {
            (found.row, found.by, found.matched)
        } else {
            (self.unknown_model_row?, ResolvedBy::UnknownModel, String::new())
        };
        Some(Resolution {
            row: self.rows.get(row)?.name.to_string(),
            by,
            matched,
        })
    }

    pub(crate) fn find_row(&self, model: &str, provider: &str) -> RowMatch<'_> {
        if model.is_empty() {
            return RowMatch::NoModel;
        }
        let position = self.lookup.find(model, provider).or(self.unknown_model_row);
        position
            .and_then(|position| self.rows.get(position))
            .map_or(RowMatch::Unknown, RowMatch::Row)
    }
}

/// The entries of a row's `when`.
pub(crate) fn compile_overlays(row: &RowDocument, classes: &ClassTable) -> Result<Vec<Overlay>, String> {
    let compiled = row.when.iter().enumerate().map(|(position, entry)| {
        Overlay::compile(entry, classes).map_err(|message| format!("when[{position}]: {message}"))
    });
    let overlays = compiled.collect::<Result<Vec<_>, _>>()?;
    if u16::try_from(overlays.len()).is_err() {
        return Err("when: too many entries".to_owned());
    }
    Ok(overlays)
}

fn compile_row(row: &RowDocument, defaults: &PriceList, classes: &ClassTable) -> Result<Variants, String> {
    let base = parse_prices(&row.prices, classes)?;
    let overlays = compile_overlays(row, classes)?;
    Variants::compile(RowPrices { base, overlays }, defaults, classes)
        .ok_or_else(|| "a price after all multipliers is out of range".to_owned())
}
