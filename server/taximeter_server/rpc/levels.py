# SPDX-License-Identifier: Apache-2.0
"""RecordLevel of MeteringService: readings of levels, recorded as usage through the engine."""

from collections.abc import Callable

from grpc import StatusCode

from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import usage_pb2
from taximeter_server import _native
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.levels import Hour, Levels, LevelStore, Reading
from taximeter_server.rpc.convert import PICOS_PER_UNIT, timestamp_nanos, to_money, to_timestamp
from taximeter_server.rpc.principal import Principal
from taximeter_server.tenant_path import check_tenant

SERIES_ATTRIBUTE = "storage_series"
"""Attribute of the records by which reports tell series apart."""


class LevelReadings:
    """Takes readings."""

    def __init__(
        self,
        store: LevelStore,
        *,
        record: Callable[[bytes], bytes],
        currency_code: Callable[[], str],
        clock: Callable[[], int],
    ) -> None:
        """record: the engine's. clock: milliseconds since 1970 UTC."""
        self._record = record
        self._currency_code = currency_code
        self._levels = Levels(store, self._record_hour, clock)

    def record_level(self, request: pb.RecordLevelRequest, principal: Principal) -> pb.RecordLevelResponse:
        """Take one reading. Raises InvalidFieldsError, TenantForbiddenError, StoreUnavailableError, the engine's."""
        principal.require_reach(check_tenant(request.tenant, "tenant"))
        for name in ("level_bytes", "occur_time"):
            if not request.HasField(name):
                raise InvalidFieldsError.required(name)
        if SERIES_ATTRIBUTE in request.attributes:
            raise InvalidFieldsError.of("attributes", f"{SERIES_ATTRIBUTE} is the name of the series")
        outcome = self._levels.read(
            Reading(
                tenant=request.tenant,
                series=request.series,
                level_bytes=request.level_bytes,
                time_ms=timestamp_nanos(request.occur_time, "occur_time") // 1_000_000,
                attributes={**request.attributes, SERIES_ATTRIBUTE: request.series},
            )
        )
        response = pb.RecordLevelResponse(
            duplicate=outcome.duplicate,
            byte_hours=outcome.byte_hours,
            cost=to_money(outcome.cost_picos, self._currency_code()),
        )
        response.unrecorded.FromMilliseconds(outcome.unrecorded_ms)
        return response

    def _record_hour(self, tenant: str, record_id: str, time_ms: int, hour: Hour) -> int | None:
        record = usage_pb2.UsageRecord(
            record_id=record_id,
            tenant=tenant,
            usage=usage_pb2.Usage(storage_byte_hours=hour.byte_hours),
            occur_time=to_timestamp(time_ms),
            attributes=hour.attributes,
        )
        try:
            answer = self._record(pb.RecordRequest(record=record).SerializeToString())
        except _native.RpcError as error:
            if error.args[0] == StatusCode.ALREADY_EXISTS.value[0]:
                # The hour was recorded by what the store has since lost: it stays as it was recorded.
                return None
            raise
        response = pb.RecordResponse.FromString(answer)
        return None if response.duplicate else response.cost.units * PICOS_PER_UNIT + response.cost.picos
