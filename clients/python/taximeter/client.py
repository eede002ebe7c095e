# SPDX-License-Identifier: Apache-2.0
"""The client: one object per server, shared by all threads."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self

import grpc

from taximeter import _convert
from taximeter._administration import Administration
from taximeter._checking import Checking
from taximeter._reporting import Reporting
from taximeter._retry import RETRYABLE, OutcomeUnknownError, Timing, call_until_known
from taximeter._session import Session
from taximeter.config import Connection, resolve_connection
from taximeter.errors import InternalError
from taximeter.provider_usage import ProviderUsage, ReportedUsage
from taximeter.record_id import RecordIds
from taximeter.results import BatchItem, LevelRecorded, Recorded
from taximeter.usage import NO_ATTRIBUTES, Usage, UsageQuality, UsageRecord, usage_given
from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc

RECORD_TIMEOUT_S = 10.0


class Meter(Checking, Reporting, Administration):
    """Records usage, asks before calls whether they may go on, reports, and administers.

    Safe to share between threads. Usable as a context manager. Every method raises ServerError; the families
    are in `taximeter.errors`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        profile: str | None = None,
        connection: Connection | None = None,
        record_ids: RecordIds | None = None,
        timing: Timing | None = None,
    ) -> None:
        """Opens a channel to `url`: http://host:port, https://host:port, or host:port.

        Without arguments it takes environment, profile and this machine's server in that order, see
        `taximeter.config`; `connection` replaces all of that. Connects at the first call. Raises
        ConfigurationError.
        """
        self.connection = connection or resolve_connection(url, key, profile)
        super().__init__(Session(self.connection, timing or Timing()))
        self._record_ids = record_ids or RecordIds()
        self._metering = metering_service_pb2_grpc.MeteringServiceStub(self._session.channel)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the channel."""
        self.close()

    def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        self._session.close()

    def record(  # noqa: PLR0913 - by name, one per field of the request
        self,
        tenant: str,
        usage: Usage | ProviderUsage | None = None,
        *,
        provider_usage: ReportedUsage | None = None,
        api: str = "",
        model: str = "",
        record_id: str | None = None,
        provider: str = "",
        occur_time: datetime | None = None,
        tier: str = "",
        region: str = "",
        speed: str = "",
        attributes: Mapping[str, str] = NO_ATTRIBUTES,
        quality: UsageQuality | None = None,
        hold_id: str = "",
        timeout_s: float = RECORD_TIMEOUT_S,
    ) -> Recorded:
        """Records what one call used and returns once the record is durable; settles `hold_id` where there is one.

        The id is made before the first attempt and sent again with every retry, so that a record counts once
        whatever happens on the way. Where the error's `not_recorded` is false the outcome is unknown: record
        again with the same `record_id`, which is why a caller that wants to do so makes it itself.

        What was used is `usage`, or `provider_usage`: the usage object of a provider's answer, such as
        `response.usage`, with the names of `provider` and `api`, which decide how its numbers are meant. Raises
        ValueError for both or neither.
        """
        record = UsageRecord(
            record_id=record_id or self._record_ids.new(),
            tenant=tenant,
            usage=usage_given(usage, provider_usage, provider=provider, api=api),
            model=model,
            provider=provider,
            occur_time=occur_time,
            tier=tier,
            region=region,
            speed=speed,
            attributes=attributes,
            quality=quality,
            hold_id=hold_id,
        )
        request = metering_service_pb2.RecordRequest(record=_convert.record_message(record))
        response = self._session.until_known(self._metering.Record, request, timeout_s)
        return _convert.recorded(record.record_id, response)

    def record_batch(
        self, records: Sequence[UsageRecord], *, timeout_s: float = RECORD_TIMEOUT_S
    ) -> tuple[BatchItem, ...]:
        """Records up to 500 records; returns one outcome for each, in their order.

        A bad record fails alone: its error is in its item. Records whose outcome is unknown are sent again.
        """
        messages = [_convert.record_message(record) for record in records]
        items: dict[int, BatchItem] = {}
        unknown = list(range(len(records)))

        def attempt(left_s: float, wait: bool) -> None:  # noqa: FBT001 - the shape that the loop calls
            request = metering_service_pb2.RecordBatchRequest(records=[messages[i] for i in unknown])
            response = self._session.attempt(self._metering.RecordBatch, request, left_s, wait_for_ready=wait)
            if len(response.results) != len(unknown):
                message = f"{len(unknown)} records were answered with {len(response.results)} results"
                raise InternalError(grpc.StatusCode.INTERNAL, message)
            for i, result in zip(unknown, response.results, strict=True):
                items[i] = _convert.batch_item(records[i].record_id, result)
            unknown[:] = [i for i in unknown if (e := items[i].error) is not None and e.code in RETRYABLE]
            if unknown:
                raise OutcomeUnknownError

        try:
            call_until_known(attempt, timeout_s, self._session.timing)
        except OutcomeUnknownError:
            pass
        except grpc.RpcError as error:
            # After a first answer every record has an outcome; a retry that failed leaves them as they are.
            if not items:
                raise self._session.error(error) from error
        return tuple(items[i] for i in range(len(records)))

    def record_level(
        self,
        tenant: str,
        series: str,
        level_bytes: int,
        *,
        occur_time: datetime,
        attributes: Mapping[str, str] = NO_ATTRIBUTES,
        timeout_s: float = RECORD_TIMEOUT_S,
    ) -> LevelRecorded:
        """Records a reading of a level that lasts, such as bytes stored; returns what the level before came to.

        The level holds until the next reading of its series, whose byte-hours are recorded hour by hour. Readings of
        a series come in the order of their times; the same one again changes nothing.
        """
        request = metering_service_pb2.RecordLevelRequest(
            tenant=tenant,
            series=series,
            level_bytes=level_bytes,
            occur_time=_convert.timestamp(occur_time),
            attributes=attributes,
        )
        response = self._session.until_known(self._metering.RecordLevel, request, timeout_s)
        return LevelRecorded(
            duplicate=response.duplicate,
            byte_hours=response.byte_hours,
            cost=_convert.money(response.cost),
            unrecorded=_convert.span(response.unrecorded),
        )
