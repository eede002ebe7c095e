// SPDX-License-Identifier: Apache-2.0
//! Rust client of Taximeter, which meters what AI workloads use, prices it by a rate card, and says before each
//! call whether a tenant may go on.
//!
//! Requests and answers are the messages of [`v1`], whose comments say units, ranges and defaults. This crate adds
//! what a generated stub does not have: where the server is, retries that charge once, typed errors, holds, exact
//! amounts, the header fields of a gateway, and a tower layer.

mod batch;
mod budget;
mod client;
mod clock;
mod config;
mod error;
mod hold;
mod layer;
mod money;
mod rate_limit_headers;
mod record_id;
mod retry;

/// The messages and stubs of the taximeter.v1 API, generated from its protos.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod proto {
    pub mod google {
        pub mod rpc {
            include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
        }
    }
    pub mod taximeter {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/taximeter.v1.rs"));
        }
    }
}

pub use client::{AuthorizedChannel, Bearer, Client, PlacedHold, Recorded};
pub use config::{ConfigError, Options};
pub use error::{Error, FieldViolation};
pub use hold::Hold;
pub use layer::{Call, CheckOf, Metering, MeteringLayer, MeteringService};
pub use money::{AmountError, Money, parse_picos};
pub use proto::google::rpc;
pub use proto::taximeter::v1;
pub use rate_limit_headers::rate_limit_headers;
pub use record_id::RecordIds;
