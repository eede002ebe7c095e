# SPDX-License-Identifier: Apache-2.0
"""Tenants are paths of one to four segments, such as ``acme/research/alice``; a key bound to one reaches all below."""

import re
from collections.abc import Sequence

from taximeter_server.errors import InvalidFieldsError, TenantForbiddenError

_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[a-z0-9._-]{1,64}"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,3}}\Z")


def check_tenant(tenant: str, field: str) -> str:
    """Return tenant unchanged. Raises InvalidFieldsError naming field when it is empty or no path."""
    if not tenant:
        raise InvalidFieldsError.required(field)
    if not _PATH.match(tenant):
        raise InvalidFieldsError.of(field, "1 to 4 segments joined by /, each 1 to 64 of a-z 0-9 . _ -")
    return tenant


def levels_of(tenant: str) -> list[str]:
    """Return tenant and its parents, the nearest first."""
    segments = tenant.split("/")
    return ["/".join(segments[:length]) for length in range(len(segments), 0, -1)]


def is_within(tenant: str, bound: str) -> bool:
    """Say whether tenant is bound or stands below it."""
    return tenant == bound or tenant.startswith(f"{bound}/")


def is_reached(tenant: str, bounds: Sequence[str]) -> bool:
    """Say whether a key with these bounds reaches tenant. No bounds reach everything."""
    return not bounds or any(is_within(tenant, bound) for bound in bounds)


def require_reach(tenant: str, bounds: Sequence[str]) -> None:
    """Raise TenantForbiddenError unless a key with these bounds reaches tenant."""
    if not is_reached(tenant, bounds):
        raise TenantForbiddenError
