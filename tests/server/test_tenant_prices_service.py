# SPDX-License-Identifier: Apache-2.0
"""Prices of single tenants through the API: who sets and sees them, what is charged, what stays on the line."""

import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from server.api import ADMIN, DENIED, METER, READ, Api, connect, new_tenant, record_request

from harness.server_process import ServerProcess
from taximeter.clock import system_clock_ms
from taximeter.v1 import metering_service_pb2, usage_pb2
from taximeter.v1 import rate_card_service_pb2 as pb

TOKENS = 1_000_000
"""So many input tokens of gpt-5 cost 5 by the card of the first start."""
OWN_INPUT = 'billing: {rate_card: {"gpt-5": {input: 4}}}'


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API of a server on which nobody else publishes cards."""
    with (
        ServerProcess(tmp_path_factory.mktemp("tenant-prices") / "data") as server,
        connect(server.address, server.admin_key) as found,
    ):
        yield found


def markup(basis_points: int) -> str:
    """Return own prices that are a markup only."""
    return f"billing: {{markup_basis_points: {basis_points}}}"


def put(api: Api, tenant: str, yaml: str, **fields: Any) -> pb.RateCardEntry:
    """Set own prices."""
    request = pb.PutTenantPricesRequest(tenant=tenant, yaml=yaml, **fields)
    entry: pb.RateCardEntry = api.call(api.rate_cards.PutTenantPrices, request).entry
    return entry


def remove(api: Api, tenant: str) -> pb.RateCardEntry:
    """End own prices."""
    request = pb.RemoveTenantPricesRequest(tenant=tenant)
    entry: pb.RateCardEntry = api.call(api.rate_cards.RemoveTenantPrices, request).entry
    return entry


def charge(
    api: Api, tenant: str, occur_time: Timestamp | None = None, *, record_id: str = ""
) -> metering_service_pb2.RecordResponse:
    """Record a million input tokens. Events may be dated ahead, so nobody has to wait for prices to take force."""
    request = record_request(tenant, record_id or secrets.token_hex(16), tokens=TOKENS)
    if occur_time is not None:
        request.record.occur_time.CopyFrom(occur_time)
    response: metering_service_pb2.RecordResponse = api.call(api.metering.Record, request)
    return response


def cents(response: metering_service_pb2.RecordResponse) -> int:
    """Return what was charged."""
    cents, rest = divmod(response.cost.units * 10**12 + response.cost.picos, 10**10)
    assert rest == 0
    return cents


def before(time: Timestamp) -> Timestamp:
    """Return the millisecond before an instant."""
    earlier = Timestamp()
    earlier.FromMilliseconds(time.ToMilliseconds() - 1)
    return earlier


def test_charged_and_list_price_stand_on_each_line(api: Api) -> None:
    """From its instant on the tenant pays its own price; the card's stays beside it, and before it is as it was."""
    tenant = new_tenant()
    entry = put(api, tenant, markup(-1_000), note="contract 17")
    earlier, later = (
        charge(api, tenant, before(entry.effective_time)),
        charge(api, tenant, entry.effective_time),
    )

    assert (entry.kind, entry.tenant, entry.note) == (
        pb.RATE_CARD_ENTRY_KIND_TENANT_PRICES,
        tenant,
        "contract 17",
    )
    assert (cents(earlier), earlier.tenant_prices_version, earlier.HasField("list_cost")) == (500, 0, False)
    assert not earlier.lines[0].HasField("list_price")
    assert (cents(later), later.tenant_prices_version) == (450, entry.version)
    assert (later.list_cost.units, later.list_cost.picos) == (5, 0)
    (line,) = later.lines
    assert (line.unit_price, line.per, line.cost_picos) == ("4.5", 1_000_000, 4_500_000_000_000)
    assert line.list_price == usage_pb2.ListPrice(
        priced_as="input", billed_quantity=TOKENS, unit_price="5", per=1_000_000, cost_picos=5_000_000_000_000
    )


def test_a_retry_gives_the_first_answer_again(api: Api) -> None:
    """A record sent again is charged as the first time, although other prices have been set for its instant since."""
    tenant, record_id = new_tenant(), secrets.token_hex(16)
    entry = put(api, tenant, markup(-1_000))
    ahead = Timestamp(seconds=entry.effective_time.seconds + 60)
    first = charge(api, tenant, ahead, record_id=record_id)
    put(api, tenant, OWN_INPUT)
    again = charge(api, tenant, ahead, record_id=record_id)
    request = pb.WithdrawRateCardRequest(version=entry.version)
    withdrawn_before = api.fail(api.rate_cards.WithdrawRateCard, request)

    assert again.duplicate
    assert (again.cost, again.list_cost, list(again.lines)) == (
        first.cost,
        first.list_cost,
        list(first.lines),
    )
    assert again.tenant_prices_version == entry.version
    assert cents(charge(api, tenant, ahead)) == 400
    assert withdrawn_before == (grpc.StatusCode.FAILED_PRECONDITION, "WITHDRAW_TOO_LATE")


def test_a_withdrawn_price_still_answers_for_what_it_priced(api: Api) -> None:
    """A record dated ahead that was priced by an entry withdrawn since has the same answer when it is sent again."""
    tenant, record_id = new_tenant(), secrets.token_hex(16)
    effective_time = Timestamp(seconds=system_clock_ms() // 1_000 + 60)
    entry = put(api, tenant, markup(-1_000), effective_time=effective_time)
    first = charge(api, tenant, effective_time, record_id=record_id)
    api.call(api.rate_cards.WithdrawRateCard, pb.WithdrawRateCardRequest(version=entry.version))
    again = charge(api, tenant, effective_time, record_id=record_id)

    assert (cents(first), again.duplicate, list(again.lines)) == (450, True, list(first.lines))
    assert cents(charge(api, tenant, effective_time)) == 500


def test_the_nearest_level_counts_alone(api: Api) -> None:
    """Own prices hold for everything below; a level of its own replaces those of its parents, and ends with them."""
    root = new_tenant()
    put(api, root, markup(-1_000))
    inner = put(api, f"{root}/a", markup(0))
    end = remove(api, f"{root}/a")
    other = put(api, f"{root}/b", OWN_INPUT)
    later = Timestamp(seconds=max(end.effective_time.seconds, other.effective_time.seconds) + 1)

    assert cents(charge(api, root, later)) == 450
    assert cents(charge(api, f"{root}/a/x", inner.effective_time)) == 500
    assert cents(charge(api, f"{root}/a/x", later)) == 450
    assert cents(charge(api, f"{root}/b/x/y", later)) == 400
    assert cents(charge(api, f"{root}b", later)) == 500


def test_estimate_knows_the_tenant(api: Api) -> None:
    """An estimate for a tenant is what Record would charge, one without a tenant the list price."""
    tenant = new_tenant()
    entry = put(api, tenant, markup(2_500))
    request = metering_service_pb2.EstimateRequest(
        model="gpt-5", call_count=2, occur_time=entry.effective_time, limits_tenant=f"{tenant}/below"
    )
    request.usage.uncached_input_tokens = TOKENS
    own = api.call(api.metering.Estimate, request)
    request.limits_tenant = ""
    card = api.call(api.metering.Estimate, request)

    assert (own.cost.units, own.cost.picos, own.list_cost.units) == (12, 5 * 10**11, 10)
    assert own.tenant_prices_version == entry.version
    assert (card.cost.units, card.tenant_prices_version, card.HasField("list_cost")) == (10, 0, False)
    request.limits_tenant = tenant
    assert api.with_new_key(METER, new_tenant()).fail(api.metering.Estimate, request) == DENIED


def test_no_tenant_lowers_its_price(api: Api) -> None:
    """Setting, ending and withdrawing is refused to meter and read keys, and to admins bound to a tenant."""
    tenant = new_tenant()
    entry = put(api, tenant, markup(100))
    requests = [
        (api.rate_cards.PutTenantPrices, pb.PutTenantPricesRequest(tenant=tenant, yaml=markup(-100))),
        (api.rate_cards.RemoveTenantPrices, pb.RemoveTenantPricesRequest(tenant=tenant)),
        (api.rate_cards.WithdrawRateCard, pb.WithdrawRateCardRequest(version=entry.version)),
    ]
    missing_role = (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")

    for role, bound, refusal in (
        (METER, (), missing_role),
        (READ, (), missing_role),
        (METER, (tenant,), missing_role),
        (ADMIN, (tenant,), DENIED),
    ):
        caller = api.with_new_key(role, *bound)
        assert [caller.fail(method, request) for method, request in requests] == [refusal] * 3
    assert cents(charge(api, tenant, entry.effective_time)) == 505


def test_keys_see_the_prices_of_tenants_that_they_reach(api: Api) -> None:
    """A bound key is shown its own tenant's prices, also those of a parent that it pays, and no other tenant's."""
    mine, other = new_tenant(), new_tenant()
    entry = put(api, mine, markup(-1))
    put(api, f"{mine}/below", markup(-2))
    hidden = put(api, other, markup(-3))
    reader = api.with_new_key(READ, f"{mine}/below")
    at_time = Timestamp(seconds=hidden.effective_time.seconds + 1)
    listed = reader.call(reader.rate_cards.ListTenantPrices, pb.ListTenantPricesRequest(at_time=at_time))
    timeline = reader.call(reader.rate_cards.ListRateCards, pb.ListRateCardsRequest(page_size=1_000)).entries
    shown = reader.call(
        reader.rate_cards.GetTenantPrices,
        pb.GetTenantPricesRequest(tenant=f"{mine}/below/x", at_time=at_time),
    )

    assert [entry.tenant for entry in listed.entries] == [f"{mine}/below"]
    assert {entry.tenant for entry in timeline} == {"", f"{mine}/below"}
    assert (shown.entry.tenant, shown.yaml) == (f"{mine}/below", markup(-2))
    get = pb.GetTenantPricesRequest(tenant=other, at_time=at_time)
    assert reader.fail(reader.rate_cards.GetTenantPrices, get) == DENIED
    assert reader.fail(reader.rate_cards.VerifyRateCards, pb.VerifyRateCardsRequest()) == DENIED
    remove(api, f"{mine}/below")
    at_time = Timestamp(seconds=at_time.seconds + 60)
    get = pb.GetTenantPricesRequest(tenant=f"{mine}/below", at_time=at_time)
    assert reader.call(reader.rate_cards.GetTenantPrices, get).entry == entry


def test_lists_page_by_tenant(api: Api) -> None:
    """Tenants with own prices in force come in order, page by page, and only those in force at the instant."""
    root = new_tenant()
    entries = [put(api, f"{root}/{name}", markup(-1)) for name in ("c", "a", "b")]
    remove(api, f"{root}/c")
    reader = api.with_new_key(READ, root)
    request = pb.ListTenantPricesRequest(at_time=entries[-1].effective_time, page_size=2)
    first = reader.call(reader.rate_cards.ListTenantPrices, request)
    request.page_token = first.next_page_token
    second = reader.call(reader.rate_cards.ListTenantPrices, request)
    request.at_time.seconds += 60
    other_query = reader.fail(reader.rate_cards.ListTenantPrices, request)
    request.page_token = ""
    later = reader.call(reader.rate_cards.ListTenantPrices, request)

    found = [[entry.tenant for entry in page.entries] for page in (first, second, later)]
    assert found == [[f"{root}/a", f"{root}/b"], [f"{root}/c"], [f"{root}/a", f"{root}/b"]]
    assert other_query == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN")


def test_errors_name_the_field(api: Api) -> None:
    """What is missing or wrong is said, and nothing changes."""
    tenant = new_tenant()
    invalid, unknown = grpc.StatusCode.INVALID_ARGUMENT, (grpc.StatusCode.NOT_FOUND, "TENANT_PRICES_UNKNOWN")
    method = api.rate_cards.PutTenantPrices
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"tenant": "", "yaml": OWN_INPUT}, (invalid, "FIELD_REQUIRED")),
        ({"tenant": "A", "yaml": OWN_INPUT}, (invalid, "FIELD_INVALID")),
        ({"tenant": tenant}, (invalid, "FIELD_REQUIRED")),
        ({"tenant": tenant, "yaml": "billing: {}"}, (invalid, "CARD_INVALID")),
        ({"tenant": tenant, "yaml": OWN_INPUT, "note": "x" * 1_001}, (invalid, "FIELD_INVALID")),
        (
            {"tenant": tenant, "yaml": OWN_INPUT, "effective_time": Timestamp(seconds=1)},
            (grpc.StatusCode.FAILED_PRECONDITION, "EFFECTIVE_TOO_SOON"),
        ),
        (
            {"tenant": tenant, "yaml": OWN_INPUT, "expected_version": 10**6},
            (grpc.StatusCode.ABORTED, "CARD_VERSION_CONFLICT"),
        ),
        (
            {"tenant": tenant, "yaml": 'billing: {currency: EUR, rate_card: {"gpt-5": {input: 4}}}'},
            (invalid, "FIELD_INVALID"),
        ),
    ]

    for fields, refusal in cases:
        assert api.fail(method, pb.PutTenantPricesRequest(**fields)) == refusal
    request = pb.GetTenantPricesRequest(tenant=tenant)
    assert api.fail(api.rate_cards.GetTenantPrices, request) == unknown
    assert api.fail(api.rate_cards.RemoveTenantPrices, pb.RemoveTenantPricesRequest(tenant=tenant)) == unknown


def test_the_same_prices_again_are_no_new_version(api: Api) -> None:
    """Putting what is newest already, and ending what has ended, changes nothing."""
    tenant = new_tenant()
    entries = [put(api, tenant, f"# {number}\n{OWN_INPUT}") for number in range(2)]
    ends = [remove(api, tenant) for _ in range(2)]

    assert entries[0] == entries[1]
    assert ends[0] == ends[1]
    assert (ends[0].tenant_prices_id, ends[0].version) == ("", entries[0].version + 1)
