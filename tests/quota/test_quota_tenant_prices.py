# SPDX-License-Identifier: Apache-2.0
"""Limits count what a tenant is charged, and an estimate is checked at what it would be charged."""

import hashlib
import json
from collections.abc import Callable

from quota.engine_calls import catalogue, put_limits, status
from quota.engine_calls import record as record_usage
from quota.model_level import COST

from harness.ledger_rows import rows_of_partition
from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native
from taximeter_server.ledger import partition_of

HALF_PRICE = {"format": 1, "markup_basis_points": -5_000}


def catalogue_with_prices(tenant: str) -> bytes:
    """Return the catalogue of these tests, in which a tenant pays half."""
    canonical = json.dumps(HALF_PRICE, sort_keys=True, separators=(",", ":"))
    prices_id = hashlib.sha256(canonical.encode()).hexdigest()
    found = json.loads(catalogue())
    entry = {"version": 2, "effective_time_ms": 0, "tenant": tenant, "withdrawn": False}
    found["tenant_prices"] = [{**entry, "tenant_prices_id": prices_id}]
    found["tenant_price_documents"] = {prices_id: HALF_PRICE}
    return json.dumps(found).encode()


def test_limits_count_what_is_charged(make_engine: Callable[[], _native.Engine], tenant: str) -> None:
    """The day's cost grows by the charged price, and a check refuses by the charged price of its estimate."""
    engine = make_engine()
    engine.set_catalogue(catalogue_with_prices(tenant))
    put_limits(engine, tenant, {COST: 3_700_000 * 100})
    recorded = record_usage(engine, tenant, tokens=100)
    request = pb.CheckQuotaRequest(tenant=f"{tenant}/below", model="m")
    answers = []
    for tokens in (100, 101):
        request.estimate.uncached_input_tokens = tokens
        answers.append(pb.CheckQuotaResponse.FromString(engine.check_quota(request.SerializeToString())))

    assert (recorded.cost.picos, recorded.list_cost.picos) == (185_000_000, 370_000_000)
    assert [limit.used for limit in status(engine, tenant)] == [185_000_000]
    assert [answer.decision for answer in answers] == [pb.DECISION_ALLOW, pb.DECISION_DENY]
    assert answers[0].estimated_cost.picos == 185_000_000
    assert answers[0].tenant_prices_version == 2


def test_ledger_rows_hold_both_prices(make_engine: Callable[[], _native.Engine], tenant: str) -> None:
    """What was charged and what the card says both go into the ledger's files, with the version of the own prices."""
    engine = make_engine()
    engine.set_catalogue(catalogue_with_prices(tenant))
    record_usage(engine, tenant, tokens=100)
    rows = rows_of_partition(engine, partition_of(tenant)).to_pylist()
    (row,) = [row for row in rows if row["tenant"] == tenant]

    assert (row["cost_picos"], row["amount_picos"], row["per"]) == (185_000_000, 1_850_000_000_000, 1_000_000)
    assert (row["list_cost_picos"], row["list_amount_picos"], row["list_per"]) == (
        370_000_000,
        3_700_000_000_000,
        1_000_000,
    )
    assert (row["tenant_prices_version"], len(row["tenant_prices_id"])) == (2, 64)
