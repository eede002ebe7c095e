// SPDX-License-Identifier: Apache-2.0
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";

import { type CheckQuotaResponse, Decision } from "./gen/taximeter/v1/metering_service_pb.js";
import { LimitKind } from "./gen/taximeter/v1/quota_pb.js";

// Integers of structured fields have at most 15 digits.
const INTEGER_MAX = 999_999_999_999_999n;

/** By kind of limit: name, unit, window in seconds, and how much of a limit's own unit one of these is. */
const UNITS: ReadonlyMap<LimitKind, readonly [string, string, number, bigint]> = new Map([
  [LimitKind.REQUESTS_PER_MINUTE, ["requests_per_minute", "requests", 60, 1n]],
  [LimitKind.TOKENS_PER_DAY, ["tokens_per_day", "tokens", 86_400, 1n]],
  [LimitKind.COST_PER_DAY, ["cost_per_day", "micro-units", 86_400, 1_000_000n]],
]);

/**
 * Returns the header fields that tell the caller of a gateway about its limits: Retry-After of RFC 9110, and
 * RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-10. `now` is when the call was decided.
 *
 * Each limit is a policy named by kind and level. Costs are in millionths of the currency's unit, rounded down.
 * Retry-After, in whole seconds rounded up, is there when the call was denied and waiting helps; a denied call is to be
 * answered with status 429. Limits that are only watched are left out.
 */
export function rateLimitHeaders(decision: CheckQuotaResponse, now: Date): Record<string, string> {
  const policies: string[] = [];
  const states: string[] = [];
  for (const limit of decision.limits) {
    const known = UNITS.get(limit.kind);
    if (known === undefined || limit.shadow) continue;
    const [kind, unit, windowS, size] = known;
    // Neither kinds nor tenants hold a character that would have to be escaped.
    const name = `"${kind};${limit.tenant}"`;
    policies.push(`${name};q=${integer(limit.maximum / size)};qu="${unit}";w=${windowS}`);
    const reset = limit.resetTime && secondsUp(Math.max(timestampMs(limit.resetTime) - now.getTime(), 0));
    states.push(`${name};r=${integer(limit.remaining / size)}${reset === undefined ? "" : `;t=${reset}`}`);
  }
  const headers: Record<string, string> = {};
  if (policies.length > 0) {
    headers["RateLimit-Policy"] = policies.join(", ");
    headers["RateLimit"] = states.join(", ");
  }
  if (decision.decision !== Decision.ALLOW && decision.retryAfter !== undefined) {
    headers["Retry-After"] = String(secondsUp(durationMs(decision.retryAfter)));
  }
  return headers;
}

function integer(count: bigint): bigint {
  return count < INTEGER_MAX ? count : INTEGER_MAX;
}

/** Rounds up: who waits that long has waited long enough. */
function secondsUp(spanMs: number): number {
  return Math.ceil(spanMs / 1_000);
}
