// SPDX-License-Identifier: Apache-2.0
//! `envoy.service.ratelimit.v3.RateLimitService`: the limits, for gateways that speak Envoy's protocol.
//!
//! The descriptors of a request that name a tenant on one path are one check, at the deepest of them, because that
//! decides all levels above it too. Descriptors that name anything else than a call are answered as Envoy's reference
//! server answers those it has no rule for: under no limit.

use futures_util::future::try_join_all;

use crate::access::Principal;
use crate::check::REQUESTS_MAX;
use crate::engine::Engine;
use crate::envoy_answer::{Place, answer};
use crate::error::{Failure, not_served};
use crate::keys::is_within;
use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::proto::taximeter::v1::{CheckQuotaRequest, CheckQuotaResponse, Decision, Usage};
use crate::validate::{self, Problems};

const DESCRIPTOR_COUNT_MAX: usize = 32;

/// Checks each path that the request names; all of them must have room, or nothing is counted.
pub(crate) async fn should_rate_limit(
    engine: &Engine,
    request: &RateLimitRequest,
    principal: &Principal,
) -> Result<RateLimitResponse, Failure> {
    let (mut checks, places) = read(request)?;
    for check in &checks {
        principal.reach(&check.tenant)?;
    }
    if let [check] = checks.as_slice() {
        let decision = engine.check_quota(check).await?;
        return Ok(answer(&places, &[decision]));
    }
    // No step of the store spans several tenants, so all are asked before any is counted.
    let counted: Vec<bool> = checks.iter().map(|check| !check.dry_run).collect();
    for check in &mut checks {
        check.dry_run = true;
    }
    let mut decisions = decide(engine, &checks).await?;
    if decisions.iter().all(allows) && counted.contains(&true) {
        for (check, counted) in checks.iter_mut().zip(counted) {
            check.dry_run = !counted;
        }
        decisions = decide(engine, &checks).await?;
    }
    Ok(answer(&places, &decisions))
}

async fn decide(engine: &Engine, checks: &[CheckQuotaRequest]) -> Result<Vec<CheckQuotaResponse>, Failure> {
    try_join_all(checks.iter().map(|check| engine.check_quota(check))).await
}

/// Whether a check was allowed.
pub(crate) fn allows(decision: &CheckQuotaResponse) -> bool {
    decision.decision() == Decision::Allow
}

/// The checks that a request asks for, and the place of each descriptor among them; None for one that names no tenant.
fn read(request: &RateLimitRequest) -> Result<(Vec<CheckQuotaRequest>, Vec<Option<Place>>), Failure> {
    let mut problems = Problems::default();
    if request.domain.is_empty() {
        problems.required("domain".to_owned());
    }
    if request.descriptors.is_empty() {
        problems.required("descriptors".to_owned());
    } else if request.descriptors.len() > DESCRIPTOR_COUNT_MAX {
        problems.invalid("descriptors".to_owned(), "at most 32");
    }
    let mut named: Vec<Option<CheckQuotaRequest>> = Vec::with_capacity(request.descriptors.len());
    for (at, descriptor) in request.descriptors.iter().enumerate() {
        if descriptor.limit.is_some() {
            return Err(not_served("descriptors.limit"));
        }
        let field = |name: &str| format!("descriptors[{at}].{name}");
        named.push(read_descriptor(
            descriptor,
            request.hits_addend,
            field,
            &mut problems,
        ));
    }
    problems.into_result()?;
    let mut checks: Vec<CheckQuotaRequest> = Vec::new();
    for check in named.iter().flatten() {
        match checks
            .iter_mut()
            .find(|known| on_one_path(&known.tenant, &check.tenant))
        {
            Some(known) => merge(known, check)?,
            None => checks.push(check.clone()),
        }
    }
    let places = named.into_iter().map(|check| {
        let tenant = check?.tenant;
        let check = checks
            .iter()
            .position(|known| on_one_path(&known.tenant, &tenant))?;
        Some(Place { check, tenant })
    });
    let places = places.collect();
    Ok((checks, places))
}

/// What a descriptor asks; None when an entry is not of ours, or none names a tenant. `field` makes paths for problems.
fn read_descriptor(
    descriptor: &RateLimitDescriptor,
    request_hits: u32,
    field: impl Fn(&str) -> String,
    problems: &mut Problems,
) -> Option<CheckQuotaRequest> {
    let mut check = CheckQuotaRequest::default();
    for entry in &descriptor.entries {
        let tokens = |problems: &mut Problems| {
            entry.value.parse().unwrap_or_else(|_| {
                problems.invalid(field(&format!("entries.{}", entry.key)), "a whole number");
                0
            })
        };
        let estimate = |check: &mut CheckQuotaRequest| check.estimate.take().unwrap_or_default();
        match entry.key.as_str() {
            // Several are the segments of one path.
            "tenant" if check.tenant.is_empty() => check.tenant.clone_from(&entry.value),
            "tenant" => check.tenant = format!("{}/{}", check.tenant, entry.value),
            "model" => check.model.clone_from(&entry.value),
            "provider" => check.provider.clone_from(&entry.value),
            "tier" => check.tier.clone_from(&entry.value),
            "region" => check.region.clone_from(&entry.value),
            "speed" => check.speed.clone_from(&entry.value),
            "input_tokens" => {
                let uncached_input_tokens = tokens(problems);
                check.estimate = Some(Usage {
                    uncached_input_tokens,
                    ..estimate(&mut check)
                });
            }
            "output_tokens" => {
                let visible_output_tokens = tokens(problems);
                check.estimate = Some(Usage {
                    visible_output_tokens,
                    ..estimate(&mut check)
                });
            }
            _ => return None,
        }
    }
    if !descriptor.entries.iter().any(|entry| entry.key == "tenant") {
        return None;
    }
    validate::tenant(&check.tenant, field("entries.tenant"), problems);
    // Absent is one; a zero of the descriptor's own asks without counting.
    let hits = descriptor
        .hits_addend
        .unwrap_or_else(|| u64::from(request_hits.max(1)));
    check.dry_run = hits == 0;
    match i64::try_from(hits) {
        Ok(hits) if hits <= REQUESTS_MAX => check.requests = hits,
        _ => problems.invalid(field("hits_addend"), "at most 1,000,000"),
    }
    Some(check)
}

/// Whether one tenant is the other, or lies above it.
fn on_one_path(a: &str, b: &str) -> bool {
    is_within(a, b) || is_within(b, a)
}

/// Makes two checks of one path one: it is one call that is to come, whoever pays for it.
fn merge(known: &mut CheckQuotaRequest, other: &CheckQuotaRequest) -> Result<(), Failure> {
    if other.tenant.len() > known.tenant.len() {
        known.tenant.clone_from(&other.tenant);
    }
    known.requests = known.requests.max(other.requests);
    known.dry_run = known.dry_run && other.dry_run;
    let mut problems = Problems::default();
    let pairs = [
        ("model", &mut known.model, &other.model),
        ("provider", &mut known.provider, &other.provider),
        ("tier", &mut known.tier, &other.tier),
        ("region", &mut known.region, &other.region),
        ("speed", &mut known.speed, &other.speed),
    ];
    for (name, known, other) in pairs {
        if known.is_empty() {
            known.clone_from(other);
        } else if !other.is_empty() && known != other {
            problems.invalid(format!("descriptors.entries.{name}"), DIFFERS);
        }
    }
    match (&known.estimate, &other.estimate) {
        (Some(a), Some(b)) if a != b => {
            problems.invalid("descriptors.entries.input_tokens".to_owned(), DIFFERS);
        }
        (None, Some(_)) => known.estimate.clone_from(&other.estimate),
        _ => {}
    }
    problems.into_result()
}

const DIFFERS: &str = "differs between descriptors of one path";
