# SPDX-License-Identifier: Apache-2.0
"""The header fields that gateways pass on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from taximeter import rate_limit_headers
from taximeter.results import LimitKind, LimitStatus, PricingState, QuotaDecision

NOW = datetime(2026, 6, 3, 12, 0, 0, 1, tzinfo=UTC)


def limit(kind: LimitKind, maximum: int, remaining: int, reset_time: datetime | None) -> LimitStatus:
    """Return a limit of acme."""
    return LimitStatus("acme", kind, maximum, maximum - remaining, 0, remaining, reset_time, None, False)  # noqa: FBT003


def decision(
    *limits: LimitStatus, allowed: bool = True, retry_after: timedelta | None = None
) -> QuotaDecision:
    """Return a decision."""
    return QuotaDecision(allowed, limits, retry_after, "", None, PricingState.NONE)


def test_every_limit_is_a_policy_with_its_state() -> None:
    """Quota, unit and window stand in the policy; what remains and when it resets, rounded up, in the state."""
    minute = limit(LimitKind.REQUESTS_PER_MINUTE, 100, 40, NOW + timedelta(seconds=30))
    day = limit(LimitKind.COST_PER_DAY, 12_500_000_000_000, 1_999_999, datetime(2026, 6, 4, tzinfo=UTC))

    assert rate_limit_headers(decision(minute, day), NOW) == {
        "RateLimit-Policy": '"requests_per_minute;acme";q=100;qu="requests";w=60, '
        '"cost_per_day;acme";q=12500000;qu="micro-units";w=86400',
        "RateLimit": '"requests_per_minute;acme";r=40;t=30, "cost_per_day;acme";r=1;t=43200',
    }


@pytest.mark.parametrize(("wait_ms", "expected"), [(0, "0"), (1, "1"), (1_000, "1"), (60_001, "61")])
def test_denied_call_is_told_when_to_come_back(wait_ms: int, expected: str) -> None:
    """Whole seconds, rounded up."""
    denied = decision(allowed=False, retry_after=timedelta(milliseconds=wait_ms))

    assert rate_limit_headers(denied, NOW) == {"Retry-After": expected}


def test_where_no_wait_helps_none_is_named() -> None:
    """A limit of 0 has no reset, and the answer no Retry-After."""
    none = limit(LimitKind.TOKENS_PER_DAY, 0, 0, None)

    assert rate_limit_headers(decision(none, allowed=False), NOW) == {
        "RateLimit-Policy": '"tokens_per_day;acme";q=0;qu="tokens";w=86400',
        "RateLimit": '"tokens_per_day;acme";r=0',
    }


def test_watched_limits_are_not_announced() -> None:
    """A limit that denies nothing is nothing for callers to keep to."""
    watched = replace(limit(LimitKind.TOKENS_PER_DAY, 5, 0, None), shadow=True, would_deny=True)

    assert rate_limit_headers(decision(watched), NOW) == {}


def test_integers_stay_within_what_structured_fields_allow() -> None:
    """The largest limits are cut to 15 digits; a reset that has passed is now."""
    largest = limit(LimitKind.TOKENS_PER_DAY, 10**15, 10**15, NOW - timedelta(seconds=5))
    unknown = limit(LimitKind.UNRECOGNIZED, 1, 1, None)

    assert rate_limit_headers(decision(largest, unknown), NOW) == {
        "RateLimit-Policy": '"tokens_per_day;acme";q=999999999999999;qu="tokens";w=86400',
        "RateLimit": '"tokens_per_day;acme";r=999999999999999;t=0',
    }
