# SPDX-License-Identifier: Apache-2.0
"""OperationsService: what the server is doing and what needs a person."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from taximeter.v1 import operations_service_pb2 as pb
from taximeter.v1 import usage_pb2
from taximeter_server import __version__
from taximeter_server.conflicts import RecordConflict, RecordConflicts
from taximeter_server.pages import PageTokens
from taximeter_server.rpc.convert import to_timestamp
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.server import Handler
from taximeter_server.server_status import ServerStatus
from taximeter_server.tenant_path import is_reached


class OperationsService:
    """Serves taximeter.v1.OperationsService."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["OperationsService"]
    serves_without_store: ClassVar[bool] = True

    def __init__(
        self, *, status: Callable[[], ServerStatus], conflicts: RecordConflicts, page_tokens: PageTokens
    ) -> None:
        """status: takes the state now."""
        self._status = status
        self._conflicts = conflicts
        self._page_tokens = page_tokens

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "GetServerStatus": self.get_server_status,
            "ListRecordConflicts": self.list_record_conflicts,
        }

    def slow_methods(self) -> frozenset[str]:
        """Return no methods."""
        return frozenset()

    def get_server_status(
        self, _request: pb.GetServerStatusRequest, principal: Principal
    ) -> pb.GetServerStatusResponse:
        """Show the state of this instance, which concerns all tenants."""
        principal.require_unbound()
        status = self._status()
        return pb.GetServerStatusResponse(
            server_version=__version__,
            store_available=status.store_available,
            store_version=status.store_version,
            journal_pending_records=status.journal_pending_records,
            journal_bytes=status.journal_bytes,
            unarchived_entries=status.unarchived_entries,
            rate_card_version=status.rate_card_version,
            start_time=to_timestamp(status.start_time_ms),
        )

    def list_record_conflicts(
        self, request: pb.ListRecordConflictsRequest, principal: Principal
    ) -> pb.ListRecordConflictsResponse:
        """List what could not be applied, of the tenants that the caller reaches."""
        conflicts = [
            conflict for conflict in self._conflicts.list() if is_reached(conflict.tenant, principal.tenants)
        ]
        page, next_page_token = self._page_tokens.page(
            conflicts,
            cursor_of=lambda conflict: conflict.name,
            binding=f"ListRecordConflicts:{','.join(principal.tenants)}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRecordConflictsResponse(
            conflicts=[_to_conflict(conflict) for conflict in page], next_page_token=next_page_token
        )


def _to_conflict(conflict: RecordConflict) -> pb.RecordConflict:
    return pb.RecordConflict(
        tenant=conflict.tenant,
        record_id=conflict.record_id,
        receive_time=to_timestamp(conflict.receive_time_ms),
        find_time=to_timestamp(conflict.find_time_ms),
        model=conflict.model,
        lines=[
            usage_pb2.CostLine(
                usage_class=line.usage_class,
                priced_as=line.priced_as,
                quantity=line.quantity,
                billed_quantity=line.billed_quantity,
                unit_price=line.unit_price,
                per=line.per,
                cost_picos=line.cost_picos,
                unpriced=line.unpriced,
            )
            for line in conflict.lines
        ],
    )
