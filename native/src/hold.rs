// SPDX-License-Identifier: Apache-2.0
//! Checks that are remembered or place a hold, `ExtendHold`, `ReleaseHold`, and what settling a hold came to.

use prost::Message;

use crate::check::{
    Asked, CHECK_LIMIT, Estimated, HAS_MARK, IS_NAMED, estimated_classes, in_classes, undecided, unsigned,
    validate_call,
};
use crate::clock;
use crate::engine::Engine;
use crate::error::{Code, Failure};
use crate::hold_id::{HoldId, Nonce, SealKey};
use crate::keys;
use crate::proto::taximeter::v1::{
    CheckQuotaRequest, CheckQuotaResponse, ErrorReason, ExtendHoldRequest, ExtendHoldResponse,
    HoldSettlement, HoldState, ReleaseHoldRequest, ReleaseHoldResponse,
};
use crate::quota::{DecisionHead, Reader, money_pair, read_decision, timestamp_of_ms};
use crate::record::first_bytes;
use crate::script_part::Part;
use crate::store::StoreError;
use crate::time_to_live::{REMEMBER_SECONDS, TimeToLive};
use crate::validate::{self, Classes, Problems};

const MS_PER_SECOND: i64 = 1_000;
/// First byte of an answer that is no decision, see `scripts/holds.lua`.
const CONFLICT: u8 = 2;
const TOO_MUCH: u8 = 3;

/// What the store says of a hold.
struct Held {
    id: HoldId,
    expire_ms: i64,
    cost_picos: i64,
}

/// What a check placed: whether it was made before, and its hold. id: as it is if it is the first of its name.
fn read_reserved(reader: &mut Reader<'_>, id: HoldId) -> Result<(bool, Held), StoreError> {
    if id.grid_power.is_none() {
        let is_duplicate = reader.byte()? == 1;
        return Ok((is_duplicate, read_held(reader, id)?));
    }
    let held = Held {
        id: HoldId {
            day: reader.count()?,
            ..id
        },
        expire_ms: reader.count()?.saturating_mul(MS_PER_SECOND),
        cost_picos: 0,
    };
    Ok((false, held))
}

fn read_held(reader: &mut Reader<'_>, id: HoldId) -> Result<Held, StoreError> {
    let (card_time_ms, day) = (reader.count()?, reader.count()?);
    Ok(Held {
        id: HoldId {
            card_time_ms,
            day,
            ..id
        },
        expire_ms: reader.count()?.saturating_mul(MS_PER_SECOND),
        cost_picos: reader.money()?,
    })
}

fn pack(numbers: &[i64], counts: &[u32]) -> Vec<u8> {
    let mut packed: Vec<u8> = numbers
        .iter()
        .flat_map(|number| unsigned(*number).to_le_bytes())
        .collect();
    packed.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
    packed
}

/// Picos as the two numbers that scripts count with.
fn pair(picos: i64) -> [i64; 2] {
    let (hi, lo) = money_pair(picos);
    [hi, lo].map(|part| i64::try_from(part).unwrap_or(i64::MAX))
}

fn too_much() -> Failure {
    Failure::new(
        Code::OutOfRange,
        ErrorReason::CounterOverflow,
        "estimate: a counter would pass its maximum",
    )
}

impl Engine {
    /// A check that has a name, and so may be repeated, or that places a hold.
    pub(crate) async fn reserve(
        &self,
        request: &CheckQuotaRequest,
        requests: i64,
        classes: &Classes<'_>,
        ttl: Option<TimeToLive>,
    ) -> Result<CheckQuotaResponse, Failure> {
        let tenant = &request.tenant;
        let now_ms = clock::now_ms();
        let estimated = self.price_estimate(request, classes, now_ms)?;
        let is_named = !request.request_id.is_empty();
        let nonce = if is_named {
            Nonce::of_request(tenant, &request.request_id)
        } else {
            Nonce::random()
        };
        let ttl = ttl.unwrap_or_default();
        // Found again by its name alone, or by all that its id says.
        let grid_power = (!is_named).then_some(ttl.grid_power);
        let id = HoldId {
            nonce,
            card_time_ms: now_ms,
            grid_power,
            day: 0,
        };
        let asked = Asked {
            flags: if is_named { HAS_MARK | IS_NAMED } else { HAS_MARK },
            requests,
            tokens: estimated.tokens,
            cost_picos: estimated.cost_picos,
        };
        let partition = keys::partition_of(tenant);
        let mut part = Part::new(&self.functions.decide, 1);
        let mark = id.mark(partition, tenant);
        part.key(&mark.key);
        let level_count = part.level_keys(partition, tenant);
        let mut argument = asked.packed(partition, level_count);
        if is_named {
            argument.extend(pack(&[], &[ttl.seconds, ttl.grid_seconds(), REMEMBER_SECONDS]));
            argument.extend(first_bytes(&blake3::hash(&request.encode_to_vec())));
            argument.extend(pack(&[now_ms], &[]));
        } else {
            argument.extend(pack(&[], &[ttl.seconds, ttl.grid_seconds(), ttl.place_seconds()]));
            argument.extend_from_slice(mark.name.as_bytes());
        }
        argument.extend_from_slice(&estimated.credit_call);
        part.argument(&argument);
        let (decided_ms, answer) = self.decide(part).await?;
        match answer.as_slice() {
            [CONFLICT] => {
                let message = "request_id: used before with another request";
                Err(Failure::new(
                    Code::AlreadyExists,
                    ErrorReason::RequestIdConflict,
                    message,
                ))
            }
            [TOO_MUCH] => Err(too_much()),
            answer => {
                let reader = &mut Reader(answer);
                let decision = read_decision(reader, decided_ms).map_err(undecided)?;
                self.reserved(request, classes, id, estimated, &decision, reader)
            }
        }
    }

    /// The answer to a check that the store has decided, now or before.
    fn reserved(
        &self,
        request: &CheckQuotaRequest,
        classes: &Classes<'_>,
        id: HoldId,
        estimated: Estimated,
        decision: &DecisionHead,
        reader: &mut Reader<'_>,
    ) -> Result<CheckQuotaResponse, Failure> {
        let (is_duplicate, held) = read_reserved(reader, id).map_err(undecided)?;
        let limits = decision.statuses(reader, &request.tenant).map_err(undecided)?;
        let estimated = if is_duplicate {
            // By the card of the first time, which need not be the one of now.
            let mut first_time = self.price_estimate(request, classes, held.id.card_time_ms)?;
            first_time.cost_picos = held.cost_picos;
            first_time
        } else {
            estimated
        };
        let mut response = decision.response(limits, request, &estimated);
        response.duplicate = is_duplicate;
        if decision.allowed && request.hold_ttl.is_some() {
            response.hold_id = held.id.text(&request.tenant, &self.seal_key);
            response.hold_expire_time = Some(timestamp_of_ms(held.expire_ms));
        }
        Ok(response)
    }

    /// Lets a hold live longer, and hold more.
    pub(crate) async fn extend_hold(
        &self,
        request: &ExtendHoldRequest,
    ) -> Result<ExtendHoldResponse, Failure> {
        let mut problems = Problems::default();
        let id = hold_of(&request.tenant, &request.hold_id, &self.seal_key, &mut problems);
        let as_check = CheckQuotaRequest {
            tenant: request.tenant.clone(),
            model: request.model.clone(),
            provider: request.provider.clone(),
            tier: request.tier.clone(),
            region: request.region.clone(),
            speed: request.speed.clone(),
            estimate: request.estimate.clone(),
            provider_usage: request.provider_usage.clone(),
            ..Default::default()
        };
        let as_check = in_classes(&as_check, &mut problems).unwrap_or(as_check);
        validate_call(&as_check, &mut problems);
        let classes = estimated_classes(&as_check, &mut problems);
        let ttl = request.hold_ttl.unwrap_or_default();
        let ttl = TimeToLive::of(&ttl, &mut problems);
        problems.into_result()?;
        let id = id.ok_or_else(hold_unknown)?;
        let estimated = self.price_estimate(&as_check, &classes, id.card_time_ms)?;
        let [hi, lo] = pair(estimated.cost_picos);
        let mut command = Self::hold_command(&self.functions.extend, &request.tenant, id);
        let mut argument = pack(
            &[estimated.tokens, hi, lo],
            &[ttl.seconds, ttl.grid_seconds(), REMEMBER_SECONDS],
        );
        argument.extend_from_slice(&estimated.credit_call);
        command.arg(argument);
        let reply = self.change_hold(&command).await?;
        let (decided, expire_ms) = read_extended(&reply, id, &as_check, &request.tenant, &estimated)?;
        Ok(ExtendHoldResponse {
            expire_time: Some(timestamp_of_ms(expire_ms)),
            decision: decided.decision,
            limits: decided.limits,
            retry_after: decided.retry_after,
            estimated_cost: decided.estimated_cost,
            pricing_state: decided.pricing_state,
            would_deny: decided.would_deny,
        })
    }

    /// Frees a hold.
    pub(crate) async fn release_hold(
        &self,
        request: &ReleaseHoldRequest,
    ) -> Result<ReleaseHoldResponse, Failure> {
        let mut problems = Problems::default();
        let id = hold_of(&request.tenant, &request.hold_id, &self.seal_key, &mut problems);
        problems.into_result()?;
        let id = id.ok_or_else(hold_unknown)?;
        let command = Self::hold_command(&self.functions.release, &request.tenant, id);
        let reply = self.change_hold(&command).await?;
        let state = i32::from(Reader(&reply).byte().map_err(undecided)?);
        if is_known(state) {
            Ok(ReleaseHoldResponse { state })
        } else {
            Err(hold_unknown())
        }
    }

    async fn change_hold(&self, command: &redis::Cmd) -> Result<Vec<u8>, Failure> {
        let store = self.open_store().map_err(undecided)?;
        let reply = self.quota_call(&store, command, CHECK_LIMIT).await;
        reply.map_err(undecided)
    }

    fn hold_command(function: &str, tenant: &str, id: HoldId) -> redis::Cmd {
        let partition = keys::partition_of(tenant);
        let mark = id.mark(partition, tenant);
        let key_count = keys::level_names(tenant).count().saturating_add(1);
        let mut command = redis::cmd("FCALL");
        command.arg(function).arg(key_count).arg(mark.key);
        for key in keys::levels(partition, tenant) {
            command.arg(key);
        }
        command.arg(partition).arg(mark.name);
        command
    }
}

/// The answer to an extension, as to a check, and when the hold expires.
fn read_extended(
    reply: &[u8],
    id: HoldId,
    as_check: &CheckQuotaRequest,
    tenant: &str,
    estimated: &Estimated,
) -> Result<(CheckQuotaResponse, i64), Failure> {
    if reply == [TOO_MUCH] {
        return Err(too_much());
    }
    let reader = &mut Reader(reply);
    let now_ms = reader.clock_ms().map_err(undecided)?;
    let decision = read_decision(reader, now_ms).map_err(undecided)?;
    let state = i32::from(reader.byte().map_err(undecided)?);
    if state != i32::from(HoldState::Held) {
        return Err(not_live(state));
    }
    let held = read_held(reader, id).map_err(undecided)?;
    let limits = decision.statuses(reader, tenant).map_err(undecided)?;
    Ok((decision.response(limits, as_check, estimated), held.expire_ms))
}

fn hold_of(tenant: &str, hold_id: &str, key: &SealKey, problems: &mut Problems) -> Option<HoldId> {
    validate::tenant(tenant, "tenant".to_owned(), problems);
    if hold_id.is_empty() {
        problems.required("hold_id".to_owned());
    }
    let id = HoldId::open(hold_id, tenant, key);
    if id.is_none() && !hold_id.is_empty() {
        problems.invalid("hold_id".to_owned(), validate::NOT_A_HOLD);
    }
    id
}

fn is_known(state: i32) -> bool {
    matches!(
        HoldState::try_from(state),
        Ok(HoldState::Held | HoldState::Settled | HoldState::Released | HoldState::Expired)
    )
}

fn hold_unknown() -> Failure {
    let message = "no such hold: it was never placed, or ended long ago";
    Failure::new(Code::NotFound, ErrorReason::HoldUnknown, message)
}

fn not_live(state: i32) -> Failure {
    let Some(state) = HoldState::try_from(state).ok().filter(|_| is_known(state)) else {
        return hold_unknown();
    };
    let name = state.as_str_name().trim_start_matches("HOLD_STATE_");
    let message = "the hold has ended";
    Failure::new(Code::FailedPrecondition, ErrorReason::HoldEnded, message).with("state", name)
}

/// Bytes of a settlement in a script's answer: state, tokens and cost pair beyond the hold.
pub(crate) const SETTLEMENT_SIZE: usize = 25;

/// What settling a hold came to.
pub(crate) fn read_settlement(reader: &mut Reader<'_>) -> Result<HoldSettlement, StoreError> {
    Ok(HoldSettlement {
        state: i32::from(reader.byte()?),
        over_tokens: reader.count()?,
        over_cost_picos: reader.money()?,
    })
}
