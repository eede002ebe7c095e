# SPDX-License-Identifier: Apache-2.0
"""The header fields of an HTTP answer that tell its caller about limits, for gateways in front of a model.

`Retry-After` is that of RFC 9110; `RateLimit-Policy` and `RateLimit` are those of the IETF draft "RateLimit header
fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from taximeter.results import LimitKind, LimitStatus, QuotaDecision

_SECOND = timedelta(seconds=1)
# Integers of structured fields have at most 15 digits.
_INTEGER_MAX = 999_999_999_999_999
_PICOS_PER_MICRO = 1_000_000
_UNITS = {
    LimitKind.REQUESTS_PER_MINUTE: ("requests", 60, 1),
    LimitKind.TOKENS_PER_DAY: ("tokens", 86_400, 1),
    LimitKind.COST_PER_DAY: ("micro-units", 86_400, _PICOS_PER_MICRO),
}
"""By kind of limit: unit, window in seconds, and how much of a limit's own unit one of these is."""


def rate_limit_headers(decision: QuotaDecision, now: datetime) -> dict[str, str]:
    """Returns the fields for the answer to a call that was decided so; `now` is when that was.

    Each limit is a policy named by kind and level, such as "tokens_per_day;acme/research". Costs are in millionths of
    the currency's unit, rounded down. Retry-After, in whole seconds rounded up, is there when the call was denied and
    waiting helps; a denied call is to be answered with status 429. Limits that are only watched are left out.
    """
    limits = [limit for limit in decision.limits if limit.kind in _UNITS and not limit.shadow]
    headers = {}
    if limits:
        headers["RateLimit-Policy"] = _items(_policy(limit) for limit in limits)
        headers["RateLimit"] = _items(_state(limit, now) for limit in limits)
    if not decision.allowed and decision.retry_after is not None:
        headers["Retry-After"] = str(_seconds(decision.retry_after))
    return headers


def _items(items: Iterable[str]) -> str:
    return ", ".join(items)


def _name(limit: LimitStatus) -> str:
    # Neither kinds nor tenants hold a character that would have to be escaped.
    return f'"{limit.kind.value.lower()};{limit.tenant}"'


def _policy(limit: LimitStatus) -> str:
    unit, window_s, size = _UNITS[limit.kind]
    return f'{_name(limit)};q={_integer(limit.maximum // size)};qu="{unit}";w={window_s}'


def _state(limit: LimitStatus, now: datetime) -> str:
    remaining = _integer(limit.remaining // _UNITS[limit.kind][2])
    if limit.reset_time is None:
        return f"{_name(limit)};r={remaining}"
    return f"{_name(limit)};r={remaining};t={_seconds(max(limit.reset_time - now, timedelta(0)))}"


def _integer(number: int) -> int:
    return min(number, _INTEGER_MAX)


def _seconds(span: timedelta) -> int:
    """Rounds up: who waits that long has waited long enough."""
    return -(-span // _SECOND)
