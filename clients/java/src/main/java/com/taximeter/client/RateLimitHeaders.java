// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.google.protobuf.Timestamp;
import com.taximeter.v1.CheckQuotaResponse;
import com.taximeter.v1.Decision;
import com.taximeter.v1.LimitKind;
import com.taximeter.v1.LimitStatus;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The header fields of an HTTP answer that tell its caller about limits, for gateways in front of a model. */
public final class RateLimitHeaders {
  // Integers of structured fields have at most 15 digits.
  private static final long INTEGER_MAX = 999_999_999_999_999L;
  private static final Map<LimitKind, Unit> UNITS =
      Map.of(
          LimitKind.LIMIT_KIND_REQUESTS_PER_MINUTE, new Unit("requests", 60, 1),
          LimitKind.LIMIT_KIND_TOKENS_PER_DAY, new Unit("tokens", 86_400, 1),
          LimitKind.LIMIT_KIND_COST_PER_DAY, new Unit("micro-units", 86_400, 1_000_000));

  private RateLimitHeaders() {}

  /** Unit of a kind of limit, its window, and how much of the limit's own unit one of these is. */
  private record Unit(String name, int windowS, long size) {}

  /**
   * Retry-After of RFC 9110, and RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-10. {@code now} is
   * when the call was decided.
   *
   * <p>Each limit is a policy named by kind and level. Costs are in millionths of the currency's unit, rounded down.
   * Retry-After, in whole seconds rounded up, is there when the call was denied and waiting helps; a denied call is to be
   * answered with status 429. Limits that are only watched are left out.
   */
  public static Map<String, String> of(CheckQuotaResponse decision, Instant now) {
    List<String> policies = new ArrayList<>();
    List<String> states = new ArrayList<>();
    for (LimitStatus limit : decision.getLimitsList()) {
      Unit unit = UNITS.get(limit.getKind());
      if (unit == null || limit.getShadow()) {
        continue;
      }
      String kind = limit.getKind().name().substring("LIMIT_KIND_".length()).toLowerCase(Locale.ROOT);
      // Neither kinds nor tenants hold a character that would have to be escaped.
      String name = '"' + kind + ';' + limit.getTenant() + '"';
      long quota = Math.min(limit.getMaximum() / unit.size, INTEGER_MAX);
      policies.add(name + ";q=" + quota + ";qu=\"" + unit.name + "\";w=" + unit.windowS);
      String state = name + ";r=" + Math.min(limit.getRemaining() / unit.size, INTEGER_MAX);
      if (limit.hasResetTime()) {
        Duration wait = Duration.between(now, instant(limit.getResetTime()));
        state += ";t=" + (wait.isNegative() ? 0 : secondsUp(wait));
      }
      states.add(state);
    }
    Map<String, String> headers = new LinkedHashMap<>();
    if (!policies.isEmpty()) {
      headers.put("RateLimit-Policy", String.join(", ", policies));
      headers.put("RateLimit", String.join(", ", states));
    }
    if (decision.getDecision() != Decision.DECISION_ALLOW && decision.hasRetryAfter()) {
      var wait = Duration.ofSeconds(decision.getRetryAfter().getSeconds(), decision.getRetryAfter().getNanos());
      headers.put("Retry-After", Long.toString(secondsUp(wait)));
    }
    return headers;
  }

  private static Instant instant(Timestamp time) {
    return Instant.ofEpochSecond(time.getSeconds(), time.getNanos());
  }

  /** Rounds up: who waits that long has waited long enough. */
  private static long secondsUp(Duration span) {
    return span.plusSeconds(1).minusNanos(1).toSeconds();
  }
}
