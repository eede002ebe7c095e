# SPDX-License-Identifier: Apache-2.0
"""Envoy's rate limit protocol, answered from the limits of CheckQuota."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from gateway.conftest import RateLimitService
from server.api import METER, READ, Api, connect, new_tenant, put_tenant

from harness.server_process import ServerProcess
from taximeter import Meter, rate_limit_headers
from taximeter.v1 import tenant_service_pb2

OK, OVER_LIMIT = 1, 2
MINUTE, DAY = 2, 4
Ask = Callable[..., Any]


def headers_of(answer: Any) -> dict[str, str]:
    """Return the header fields of an answer."""
    return {header.key: header.value for header in answer.response_headers_to_add}


def used(api: Api, tenant: str) -> int:
    """Return the requests counted at a tenant's own level."""
    request = tenant_service_pb2.GetQuotaStatusRequest(tenant=tenant)
    limits = api.call(api.tenants.GetQuotaStatus, request).limits
    return next(int(limit.used) for limit in limits if limit.tenant == tenant)


def test_a_tenants_limit_decides(api: Api, asks: Ask) -> None:
    """Requests pass until the minute is full; then the answer says which limit, and how long to wait."""
    tenant = new_tenant()
    put_tenant(api, tenant, requests_per_minute=3)

    first = asks((("tenant", tenant), ("model", "gpt-5")), hits=2)
    second = asks((("tenant", tenant),))
    third = asks((("tenant", tenant),))

    assert [answer.overall_code for answer in (first, second, third)] == [OK, OK, OVER_LIMIT]
    assert [answer.statuses[0].limit_remaining for answer in (first, second, third)] == [1, 0, 0]
    (status,) = third.statuses
    assert status.code == OVER_LIMIT
    assert (status.current_limit.requests_per_unit, status.current_limit.unit) == (3, MINUTE)
    assert status.current_limit.name == f"requests_per_minute;{tenant}"
    assert timedelta(seconds=50) < status.duration_until_reset.ToTimedelta() <= timedelta(seconds=61)
    wait_s = int(headers_of(third)["Retry-After"])
    assert 50 < wait_s <= 61
    assert "Retry-After" not in headers_of(second)
    assert used(api, tenant) == 3


def test_header_fields_are_those_of_the_client_library(server: ServerProcess, api: Api, asks: Ask) -> None:
    """A gateway that asks by this protocol passes on what one that calls CheckQuota does."""
    tenant = new_tenant()
    put_tenant(
        api, tenant, requests_per_minute=0, tokens_per_day=10**15, cost_per_day_picos=12_500_000_999_999
    )
    with Meter(url=f"http://{server.address}", key=server.admin_key) as meter:
        decision = meter.check_quota(f"{tenant}/a", dry_run=True)
    now = datetime.now(UTC)  # noqa: TID251 (the server answers by the machine's clock)

    found = headers_of(asks((("tenant", f"{tenant}/a"),)))

    expected = rate_limit_headers(decision, now)
    assert found.keys() == expected.keys() == {"RateLimit-Policy", "RateLimit"}
    assert found["RateLimit-Policy"] == expected["RateLimit-Policy"]
    # What is left of the day may have changed by a second in between.
    assert [part.split(";t=")[0] for part in found["RateLimit"].split(", ")] == [
        part.split(";t=")[0] for part in expected["RateLimit"].split(", ")
    ]


def test_descriptors_on_one_path_are_one_check(api: Api, asks: Ask) -> None:
    """A call is counted once at each level, with the largest hits, and each descriptor has its own status."""
    root = new_tenant()
    put_tenant(api, root, requests_per_minute=100)
    put_tenant(api, f"{root}/a", requests_per_minute=4)
    descriptors = ((("tenant", root),), (("tenant", root), ("tenant", "a")))

    passed, refused = asks(*descriptors, hits=3), asks(*descriptors, hits=3)

    assert [status.code for status in passed.statuses] == [OK, OK]
    assert [status.current_limit.requests_per_unit for status in passed.statuses] == [100, 4]
    assert refused.overall_code == OVER_LIMIT
    assert [status.code for status in refused.statuses] == [OK, OVER_LIMIT]
    assert [status.limit_remaining for status in refused.statuses] == [97, 1]
    assert (used(api, root), used(api, f"{root}/a")) == (3, 3)


def test_a_refusal_counts_at_no_other_tenant(api: Api, asks: Ask) -> None:
    """Of several tenants all must have room, or nothing is counted at any."""
    roomy, full = new_tenant(), new_tenant()
    put_tenant(api, roomy, requests_per_minute=10)
    put_tenant(api, full, requests_per_minute=1)
    descriptors = ((("tenant", roomy),), (("tenant", full),))

    answers = [asks(*descriptors) for _ in range(3)]

    assert [answer.overall_code for answer in answers] == [OK, OVER_LIMIT, OVER_LIMIT]
    assert [status.code for status in answers[1].statuses] == [OK, OVER_LIMIT]
    assert (used(api, roomy), used(api, full)) == (1, 1)


def test_hits_of_a_descriptor_go_first_and_zero_asks_only(
    api: Api, service: RateLimitService, asks: Ask
) -> None:
    """A descriptor's own zero asks whether there is room and counts nothing."""
    tenant = new_tenant()
    put_tenant(api, tenant, requests_per_minute=1)
    request = service.request((("tenant", tenant),), hits=5)
    request.descriptors[0].hits_addend.value = 0

    codes = [service.method(api)(request, metadata=api.metadata, timeout=5).overall_code for _ in range(3)]

    assert codes == [OK, OK, OK]
    assert used(api, tenant) == 0
    assert asks((("tenant", tenant),)).overall_code == OK
    assert service.method(api)(request, metadata=api.metadata, timeout=5).overall_code == OVER_LIMIT


def test_an_estimate_has_to_fit(api: Api, asks: Ask) -> None:
    """Estimated tokens decide by the day's limit, which is then the one that is shown."""
    tenant = new_tenant()
    put_tenant(api, tenant, requests_per_minute=10, tokens_per_day=1_000)

    def entries(tokens: int) -> tuple[tuple[str, str], ...]:
        return (
            ("tenant", tenant),
            ("model", "gpt-5"),
            ("input_tokens", str(tokens)),
            ("output_tokens", "500"),
        )

    fits, too_much = asks(entries(500)), asks(entries(501))

    assert (fits.overall_code, too_much.overall_code) == (OK, OVER_LIMIT)
    limit = too_much.statuses[0].current_limit
    assert (limit.name, limit.requests_per_unit, limit.unit) == (f"tokens_per_day;{tenant}", 1_000, DAY)
    assert used(api, tenant) == 1


@pytest.mark.parametrize(
    "entries",
    [
        (("generic_key", "slow"),),
        (("model", "gpt-5"),),
        (("tenant", "acme"), ("path", "/v1")),
        (),
    ],
    ids=["other key", "no tenant", "tenant and other key", "empty"],
)
def test_what_we_have_no_rule_for_is_under_no_limit(asks: Ask, entries: tuple[tuple[str, str], ...]) -> None:
    """A descriptor that names nothing of ours is answered as Envoy's own server does without a rule."""
    answer = asks(entries)

    assert answer.overall_code == OK
    (status,) = answer.statuses
    assert (status.code, status.HasField("current_limit")) == (OK, False)
    assert headers_of(answer) == {}


BAD: dict[str, dict[str, Any]] = {
    "domain": {"domain": ""},
    "descriptors": {"descriptors": ()},
    "descriptors[0].entries.tenant": {"descriptors": ((("tenant", "Not A Tenant"),),)},
    "descriptors[1].entries.input_tokens": {
        "descriptors": ((("tenant", "acme"),), (("tenant", "acme"), ("input_tokens", "many")))
    },
    "descriptors[0].hits_addend": {"hits": 1_000_001},
    "descriptors.entries.model": {
        "descriptors": ((("tenant", "acme"), ("model", "a")), (("tenant", "acme"), ("model", "b")))
    },
}


@pytest.mark.parametrize("field", BAD)
def test_bad_input_names_the_field(api: Api, service: RateLimitService, field: str) -> None:
    """What cannot be understood is an error that says where, never an answer."""
    wanted: dict[str, Any] = {"descriptors": ((("tenant", "acme"),),)} | BAD[field]
    request = service.request(*wanted.pop("descriptors"), **wanted)
    with pytest.raises(grpc.RpcError) as caught:
        service.method(api)(request, metadata=api.metadata, timeout=5)

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{field}: ")


def test_a_limit_from_outside_is_not_served(api: Api, service: RateLimitService) -> None:
    """An override in a descriptor is refused and not ignored."""
    request = service.request((("tenant", "acme"),))
    request.descriptors[0].limit.requests_per_unit = 5

    assert api.fail(service.method(api), request) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED")


def test_keys_reach_what_they_are_bound_to(api: Api, service: RateLimitService) -> None:
    """A key asks for its own tenants, and a read key for none."""
    tenant, other = new_tenant(), new_tenant()
    bound, reader = api.with_new_key(METER, tenant), api.with_new_key(READ)

    assert service.ask(bound, (("tenant", f"{tenant}/a"),)).overall_code == OK
    both = service.request((("tenant", tenant),), (("tenant", other),))
    forbidden = (grpc.StatusCode.PERMISSION_DENIED, "TENANT_FORBIDDEN")
    assert bound.fail(service.method(api), both) == forbidden
    missing = (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    assert reader.fail(service.method(api), both) == missing


def test_what_could_not_be_decided_is_an_error(
    fresh_server: Callable[[], ServerProcess], service: RateLimitService
) -> None:
    """Without the store the answer is UNAVAILABLE, never OVER_LIMIT, for one tenant and for several."""
    server = fresh_server()
    with connect(server.address, server.admin_key) as api:
        server.kill_store()
        for descriptors in (((("tenant", "a"),),), ((("tenant", "a"),), (("tenant", "b"),))):
            failure = api.fail(service.method(api), service.request(*descriptors))
            assert failure == (grpc.StatusCode.UNAVAILABLE, "QUOTA_UNDECIDED")
