// SPDX-License-Identifier: Apache-2.0
//! The same question in the words of each server: may this tenant make one more call?

use prost::Message;

use crate::Outcome;
use crate::proto::taximeter::v1::{CheckQuotaRequest, Decision};

/// Whose words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `taximeter.v1.MeteringService/CheckQuota`.
    Taximeter,
    /// `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`, with so many descriptors.
    RateLimit(u64),
    /// `throttlecrab.RateLimiter/Throttle`.
    Throttlecrab,
}

impl Protocol {
    /// Reads a protocol's name; None when there is none of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "taximeter" => Some(Self::Taximeter),
            "ratelimit1" => Some(Self::RateLimit(1)),
            "ratelimit3" => Some(Self::RateLimit(3)),
            "throttlecrab" => Some(Self::Throttlecrab),
            _ => None,
        }
    }

    /// Path of the method.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Taximeter => "/taximeter.v1.MeteringService/CheckQuota",
            Self::RateLimit(_) => "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            Self::Throttlecrab => "/throttlecrab.RateLimiter/Throttle",
        }
    }

    /// The question as a message.
    pub(crate) fn question(self, tenant: String) -> Vec<u8> {
        match self {
            Self::Taximeter => CheckQuotaRequest {
                tenant,
                ..Default::default()
            }
            .encode_to_vec(),
            Self::RateLimit(descriptors) => RateLimitRequest {
                domain: "bench".to_owned(),
                descriptors: (0..descriptors)
                    .map(|number| Descriptor {
                        entries: vec![DescriptorEntry {
                            key: format!("tenant_{number}"),
                            value: tenant.clone(),
                        }],
                    })
                    .collect(),
                hits_addend: 1,
            }
            .encode_to_vec(),
            Self::Throttlecrab => ThrottleRequest {
                key: tenant,
                max_burst: 1_000_000_000,
                count_per_period: 1_000_000_000,
                period: 60,
                quantity: 1,
            }
            .encode_to_vec(),
        }
    }

    /// Whether an answer says no.
    pub(crate) fn is_denied(self, answer: &[u8]) -> Outcome<bool> {
        const OVER_LIMIT: i32 = 2;
        Ok(match self {
            Self::Taximeter => Decided::decode(answer)?.is_denied(),
            Self::RateLimit(_) => RateLimitResponse::decode(answer)?.overall_code == OVER_LIMIT,
            Self::Throttlecrab => !ThrottleResponse::decode(answer)?.allowed,
        })
    }
}

/// Of a `CheckQuotaResponse` what a caller acts on: what is measured has the same cores.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Decided {
    #[prost(int32, tag = "1")]
    decision: i32,
    #[prost(string, tag = "2")]
    pub(crate) hold_id: String,
}

impl Decided {
    /// Whether it says no.
    pub(crate) fn is_denied(&self) -> bool {
        self.decision == i32::from(Decision::Deny)
    }
}

#[derive(Clone, PartialEq, Message)]
struct RateLimitRequest {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<DescriptorEntry>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct DescriptorEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RateLimitResponse {
    #[prost(int32, tag = "1")]
    overall_code: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ThrottleRequest {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(int32, tag = "2")]
    max_burst: i32,
    #[prost(int32, tag = "3")]
    count_per_period: i32,
    #[prost(int32, tag = "4")]
    period: i32,
    #[prost(int32, tag = "5")]
    quantity: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ThrottleResponse {
    #[prost(bool, tag = "1")]
    allowed: bool,
}
