# SPDX-License-Identifier: Apache-2.0
"""SimulateQuota: recorded usage against other limits."""

from collections.abc import Generator, Iterable, Iterator

from taximeter.v1 import tenant_service_pb2 as pb
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.quota_simulation import (
    QuotaSimulator,
    Simulation,
    SimulationQuery,
    TenantOutcome,
)
from taximeter_server.rpc.convert import to_timestamp
from taximeter_server.rpc.convert_report import usage_of
from taximeter_server.rpc.convert_tenants import LIMIT_NAMES, limits_of
from taximeter_server.rpc.principal import Principal
from taximeter_server.tenant_path import check_tenant, is_within

LEVELS_MAX = 10_000
DEPTH_MAX = 4
ROWS_PER_PIECE = 500
_KINDS = {name: kind for kind, name in LIMIT_NAMES.items()}


class Simulations:
    """Serves a part of taximeter.v1.TenantService."""

    def __init__(self, simulator: QuotaSimulator) -> None:
        self._simulator = simulator

    def simulate_quota(
        self, request: pb.SimulateQuotaRequest, principal: Principal
    ) -> Generator[pb.SimulateQuotaResponse, None, None]:
        """Replay usage. Errors of the request come before the first piece."""
        return self._replay(_query_of(request, principal))

    def _replay(self, query: SimulationQuery) -> Generator[pb.SimulateQuotaResponse, None, None]:
        for simulation in self._simulator.run(query):
            yield pb.SimulateQuotaResponse(records_read=simulation.records_read)
        yield from _results(simulation)


def _query_of(request: pb.SimulateQuotaRequest, principal: Principal) -> SimulationQuery:
    """Return what is meant. Raises InvalidFieldsError, RangeInvalidError, TenantForbiddenError."""
    usage = usage_of(request, principal)
    if len(request.levels) > LEVELS_MAX:
        raise InvalidFieldsError.of("levels", f"at most {LEVELS_MAX}")
    if len(request.limits_by_depth) > DEPTH_MAX:
        raise InvalidFieldsError.of("limits_by_depth", f"at most {DEPTH_MAX}")
    limits = {}
    for number, level in enumerate(request.levels):
        field = f"levels[{number}]"
        name = check_tenant(level.tenant, f"{field}.tenant")
        if request.tenant and not is_within(name, request.tenant):
            raise InvalidFieldsError.of(f"{field}.tenant", "tenant, or a level below it")
        limits[name] = limits_of(level.limits, f"{field}.limits")
        limits[name].check(f"{field}.limits")
    by_depth = [
        limits_of(found, f"limits_by_depth[{at}]") for at, found in enumerate(request.limits_by_depth)
    ]
    for at, found in enumerate(by_depth):
        found.check(f"limits_by_depth[{at}]")
    return SimulationQuery(usage, limits, by_depth, request.with_estimates)


def _results(simulation: Simulation) -> Iterator[pb.SimulateQuotaResponse]:
    ordered = sorted(simulation.outcomes.items(), key=lambda found: (-found[1].denied_calls, found[0]))
    for first in range(0, len(ordered), ROWS_PER_PIECE):
        rows = [_to_row(tenant, outcome) for tenant, outcome in ordered[first : first + ROWS_PER_PIECE]]
        yield pb.SimulateQuotaResponse(records_read=simulation.records_read, rows=rows)
    yield pb.SimulateQuotaResponse(
        records_read=simulation.records_read,
        total=_to_total(simulation.outcomes.values()),
        as_of_time=to_timestamp(simulation.as_of_time_ms),
    )


def _to_row(tenant: str, outcome: TenantOutcome) -> pb.SimulatedTenant:
    row = pb.SimulatedTenant(tenant=tenant, calls=outcome.calls, denied_calls=outcome.denied_calls)
    if outcome.denied_calls:
        row.first_denied_time.FromMicroseconds(outcome.first_denied_us)
    for (level, name), denials in sorted(outcome.denials.items()):
        denial = row.denials.add(tenant=level, kind=_KINDS[name], denied_calls=denials.calls)
        denial.first_denied_time.FromMicroseconds(denials.first_us)
    return row


def _to_total(outcomes: Iterable[TenantOutcome]) -> pb.SimulatedTenant:
    found = list(outcomes)
    total = pb.SimulatedTenant(
        calls=sum(outcome.calls for outcome in found),
        denied_calls=sum(outcome.denied_calls for outcome in found),
    )
    denied = [outcome.first_denied_us for outcome in found if outcome.denied_calls]
    if denied:
        total.first_denied_time.FromMicroseconds(min(denied))
    return total
