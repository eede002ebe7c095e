# SPDX-License-Identifier: Apache-2.0
"""A batch on its way: which of its records have an outcome, and which are to be sent again."""

from collections.abc import Sequence

import grpc

from taximeter import _convert
from taximeter._retry import RETRYABLE, OutcomeUnknownError
from taximeter.errors import InternalError
from taximeter.results import BatchItem
from taximeter.v1 import metering_service_pb2, usage_pb2


class Batch:
    """Records and what has become of them so far."""

    def __init__(self, records: Sequence[usage_pb2.UsageRecord]) -> None:
        """Begins with no outcome for any of them."""
        self._records = records
        self._items: dict[int, BatchItem] = {}
        self._unknown = list(range(len(records)))

    @property
    def has_answers(self) -> bool:
        """Whether every record has an outcome, though it may be that it is unknown."""
        return bool(self._items)

    @property
    def items(self) -> tuple[BatchItem, ...]:
        """The outcome of each record, in their order."""
        return tuple(self._items[i] for i in range(len(self._records)))

    def request(self) -> metering_service_pb2.RecordBatchRequest:
        """Returns what is to be sent."""
        return metering_service_pb2.RecordBatchRequest(records=[self._records[i] for i in self._unknown])

    def take(self, response: metering_service_pb2.RecordBatchResponse) -> None:
        """Reads an answer. Raises OutcomeUnknownError while it leaves some records unknown."""
        if len(response.results) != len(self._unknown):
            message = f"{len(self._unknown)} records were answered with {len(response.results)} results"
            raise InternalError(grpc.StatusCode.INTERNAL, message)
        for i, result in zip(self._unknown, response.results, strict=True):
            self._items[i] = _convert.batch_item(self._records[i].record_id, result)
        self._unknown = [
            i for i in self._unknown if (e := self._items[i].error) is not None and e.code in RETRYABLE
        ]
        if self._unknown:
            raise OutcomeUnknownError
