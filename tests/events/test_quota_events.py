# SPDX-License-Identifier: Apache-2.0
"""ListQuotaEvents, over the public port of the real server."""

from collections.abc import Callable

import grpc
import pytest
from events.conftest import used_up
from server.api import METER, READ, Api, connect, new_tenant, put_tenant, record

from harness.server_process import ServerProcess
from taximeter.v1 import event_service_pb2 as pb
from taximeter.v1 import quota_pb2


def listed(api: Api, tenant: str = "", *, page_size: int = 0, after: str = "") -> pb.ListQuotaEventsResponse:
    """List events."""
    request = pb.ListQuotaEventsRequest(tenant=tenant, page_size=page_size, after_cursor=after)
    answer: pb.ListQuotaEventsResponse = api.call(api.events.ListQuotaEvents, request)
    return answer


def test_an_event_says_what_happened(api: Api) -> None:
    """Level, limit, threshold, maximum and use; when, and in which window."""
    tenant = used_up(api, tokens=60)
    (event,) = listed(api, tenant).events

    assert (event.tenant, event.kind) == (tenant, quota_pb2.LIMIT_KIND_TOKENS_PER_DAY)
    assert (event.threshold_percent, event.maximum, event.used) == (50, 100, 60)
    assert event.window_start_time.seconds % 86_400 == 0
    assert 0 <= event.event_time.seconds - event.window_start_time.seconds < 86_400
    assert event.id.startswith("evt_")


def test_a_cursor_goes_on_where_the_last_answer_ended(api: Api) -> None:
    """Page by page every event comes once, in order; what comes later is behind the last cursor."""
    tenant = used_up(api)
    everything = listed(api, tenant).events
    assert [event.threshold_percent for event in everything] == [50, 80, 95, 100]
    first = listed(api, tenant, page_size=3)
    second = listed(api, tenant, page_size=3, after=first.next_cursor)
    empty = listed(api, tenant, after=second.next_cursor)
    used_up(api, f"{tenant}/a", tokens=50)
    later = listed(api, tenant, after=empty.next_cursor)

    assert [*first.events, *second.events] == list(everything)
    assert list(empty.events) == []
    assert [(event.tenant, event.threshold_percent) for event in later.events] == [(f"{tenant}/a", 50)]


def test_all_tenants_are_merged_by_time(api: Api) -> None:
    """Without a tenant the events of all come in order of time, page after page, none twice."""
    tenants = [used_up(api) for _ in range(5)]
    found: list[pb.QuotaEvent] = []
    cursor = ""
    while (page := listed(api, page_size=7, after=cursor)).events:
        found += page.events
        cursor = page.next_cursor

    times = [event.event_time.ToMilliseconds() for event in found]
    assert times == sorted(times)
    assert len({event.id for event in found}) == len(found)
    ours = [event.tenant for event in found if event.tenant in tenants]
    assert ours == [tenant for tenant in tenants for _ in range(4)]


def test_keys_see_their_own_tenants(api: Api) -> None:
    """A bound key sees the events of its tenants alone, and may not ask for others; a meter key sees none."""
    mine, other = used_up(api), used_up(api)
    reader = api.with_new_key(READ, mine)

    assert {event.tenant for event in listed(reader).events} == {mine}
    request = pb.ListQuotaEventsRequest(tenant=other)
    assert reader.fail(api.events.ListQuotaEvents, request) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "TENANT_FORBIDDEN",
    )
    assert api.with_new_key(METER).fail(api.events.ListQuotaEvents, request) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "ROLE_MISSING",
    )


@pytest.mark.parametrize("fields", [{"tenant": "Not A Tenant"}, {"page_size": -1}, {"after_cursor": "x"}])
def test_bad_input_is_refused(api: Api, fields: dict[str, object]) -> None:
    """Each field says what is wrong with it."""
    request = pb.ListQuotaEventsRequest(**fields)  # type: ignore[arg-type]

    assert api.fail(api.events.ListQuotaEvents, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
    )


def test_a_cursor_belongs_to_its_query(api: Api) -> None:
    """The cursor of one tenant is none of another."""
    cursor = listed(api, used_up(api)).next_cursor
    request = pb.ListQuotaEventsRequest(tenant="acme", after_cursor=cursor)

    assert api.fail(api.events.ListQuotaEvents, request)[1] == "FIELD_INVALID"


def test_a_store_that_is_given_back_records_tells_nothing_twice(
    fresh_server: Callable[[], ServerProcess],
) -> None:
    """After kills of the store, and the journal's replay, each threshold is there once, by the same id."""
    server = fresh_server()
    tenant, ids = new_tenant(), set()
    with connect(server.address, server.admin_key) as api:
        put_tenant(api, tenant, tokens_per_day=1_000)
    for tokens in (600, 250, 200):
        with connect(server.address, server.admin_key) as api:
            record(api, tenant, tokens)
            ids |= {event.id for event in listed(api, tenant).events}
        # The store has not fsynced what the journal has.
        server.kill_store()
        server.kill()
        server.start()
    with connect(server.address, server.admin_key) as api:
        found = listed(api, tenant).events

    assert [event.threshold_percent for event in found] == [50, 80, 95, 100]
    assert ids == {event.id for event in found}
