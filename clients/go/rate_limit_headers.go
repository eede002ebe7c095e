// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// Integers of structured fields have at most 15 digits.
const fieldIntegerMax = 999_999_999_999_999

type limitUnit struct {
	name    string
	windowS int
	// size is how much of the limit's own unit one of these is.
	size int64
}

var limitUnits = map[taximeterv1.LimitKind]limitUnit{
	taximeterv1.LimitKind_LIMIT_KIND_REQUESTS_PER_MINUTE: {"requests", 60, 1},
	taximeterv1.LimitKind_LIMIT_KIND_TOKENS_PER_DAY:      {"tokens", 86_400, 1},
	taximeterv1.LimitKind_LIMIT_KIND_COST_PER_DAY:        {"micro-units", 86_400, 1_000_000},
}

// RateLimitHeaders is the header fields that tell the caller of a gateway about its limits: Retry-After of RFC 9110, and
// RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-10. now is when the call was decided.
//
// Each limit is a policy named by kind and level. Costs are in millionths of the currency's unit, rounded down.
// Retry-After, in whole seconds rounded up, is there when the call was denied and waiting helps; a denied call is to be
// answered with status 429. Limits that are only watched are left out.
func RateLimitHeaders(decision *taximeterv1.CheckQuotaResponse, now time.Time) map[string]string {
	var policies, states []string
	for _, limit := range decision.GetLimits() {
		unit, known := limitUnits[limit.GetKind()]
		if !known || limit.GetShadow() {
			continue
		}
		kind := strings.ToLower(strings.TrimPrefix(limit.GetKind().String(), "LIMIT_KIND_"))
		// Neither kinds nor tenants hold a character that would have to be escaped.
		name := fmt.Sprintf(`"%s;%s"`, kind, limit.GetTenant())
		policies = append(policies, fmt.Sprintf(
			`%s;q=%d;qu="%s";w=%d`, name, min(limit.GetMaximum()/unit.size, fieldIntegerMax), unit.name, unit.windowS))
		state := fmt.Sprintf(`%s;r=%d`, name, min(limit.GetRemaining()/unit.size, fieldIntegerMax))
		if reset := limit.GetResetTime(); reset != nil {
			state += fmt.Sprintf(";t=%d", secondsUp(max(reset.AsTime().Sub(now), 0)))
		}
		states = append(states, state)
	}
	headers := map[string]string{}
	if len(policies) > 0 {
		headers["RateLimit-Policy"] = strings.Join(policies, ", ")
		headers["RateLimit"] = strings.Join(states, ", ")
	}
	if wait := decision.GetRetryAfter(); wait != nil && decision.GetDecision() != taximeterv1.Decision_DECISION_ALLOW {
		headers["Retry-After"] = strconv.FormatInt(secondsUp(wait.AsDuration()), 10)
	}
	return headers
}

// secondsUp rounds up: who waits that long has waited long enough.
func secondsUp(span time.Duration) int64 { return int64((span + time.Second - 1) / time.Second) }
