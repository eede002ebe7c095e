# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio: what happens before, during and after a call."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
import grpc.aio

from taximeter import _convert
from taximeter._batch import Batch
from taximeter._channel import open_async_channel
from taximeter._metering_calls import RECORD_TIMEOUT_S, Call, MeteringCalls
from taximeter._retry import OutcomeUnknownError, Repeating, RetryBudget, Timing, await_until_known
from taximeter._session import credentials_of, error_from
from taximeter._spool_drain import SpoolDrain
from taximeter.config import Connection, resolve_connection
from taximeter.errors import ConfigurationError
from taximeter.metered_call import AsyncMeteredCall, CallPlan
from taximeter.record_id import RecordIds
from taximeter.results import BatchItem
from taximeter.usage import UsageRecord
from taximeter.v1 import metering_service_pb2_grpc

P = ParamSpec("P")
AnswerT = TypeVar("AnswerT")


def awaited(
    build: Callable[Concatenate[MeteringCalls, P], Call[AnswerT]],
) -> Callable[Concatenate["AsyncMeter", P], Awaitable[AnswerT]]:
    """Makes a coroutine method that makes a call."""

    @functools.wraps(build)
    async def method(meter: "AsyncMeter", /, *args: P.args, **kwargs: P.kwargs) -> AnswerT:
        return await meter.run(build(meter.calls, *args, **kwargs))

    return method


def opening(plan: Callable[P, CallPlan]) -> Callable[Concatenate["AsyncMeter", P], AsyncMeteredCall]:
    """Makes a method that opens the context of a call, as it was planned."""

    def call(meter: "AsyncMeter", /, *args: P.args, **kwargs: P.kwargs) -> AsyncMeteredCall:
        return meter.open(plan(*args, **kwargs))

    call.__doc__ = AsyncMeteredCall.__doc__
    return call


class AsyncMeter:
    """Records usage and asks before calls whether they may go on, without holding up the event loop.

    Belongs to the event loop that is running when it is made. Usable with `async with`. Every method raises
    ServerError, as those of `Meter` do.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        profile: str | None = None,
        ca_file: Path | str | None = None,
        connection: Connection | None = None,
        record_ids: RecordIds | None = None,
        timing: Timing | None = None,
        drain: SpoolDrain | None = None,
    ) -> None:
        """Opens a channel, as Meter does; `drain` is that of a Meter whose spool `durable` records go through."""
        self.connection = connection or resolve_connection(url, key, profile, ca_file=ca_file)
        self.calls = MeteringCalls(record_ids or RecordIds())
        self._channel = open_async_channel(self.connection)
        # The stubs are typed for both kinds of channel, but made for one.
        self._metering: Any = metering_service_pb2_grpc.MeteringServiceStub(self._channel)
        self._metadata = credentials_of(self.connection)
        self._timing = timing or Timing()
        self._budget = RetryBudget()
        self._drain = drain

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the channel."""
        await self.close()

    async def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        await self._channel.close()

    check_quota = awaited(MeteringCalls.check_quota)
    extend_hold = awaited(MeteringCalls.extend_hold)
    release_hold = awaited(MeteringCalls.release_hold)
    record = awaited(MeteringCalls.record)
    record_level = awaited(MeteringCalls.record_level)
    call = opening(CallPlan)

    def open(self, plan: CallPlan) -> AsyncMeteredCall:
        """Returns the context of a call that was planned."""
        return AsyncMeteredCall(self, plan)

    async def run(self, call: Call[AnswerT]) -> AnswerT:
        """Makes a call that `calls` made. Raises ServerError, and SpoolError for one that goes through the spool."""
        if call.spooled is not None:
            return await self._run_durably(call, call.spooled)
        method = getattr(self._metering, call.method)
        try:
            return call.read(
                await await_until_known(
                    lambda left_s, wait: self._attempt(method, call.request, left_s, wait),
                    call.repeating,
                    call.timeout_s,
                    self._timing,
                    self._budget,
                )
            )
        except grpc.RpcError as error:
            raise error_from(self.connection.address, error) from error

    async def record_batch(
        self, records: Sequence[UsageRecord], *, timeout_s: float = RECORD_TIMEOUT_S
    ) -> tuple[BatchItem, ...]:
        """Records up to 500 records; returns one outcome for each, as `Meter.record_batch` does."""
        batch = Batch([_convert.record_message(record) for record in records])

        async def attempt(left_s: float, wait: bool) -> None:  # noqa: FBT001 - the shape that the loop calls
            batch.take(await self._attempt(self._metering.RecordBatch, batch.request(), left_s, wait))

        try:
            await await_until_known(attempt, Repeating.WHEN_UNKNOWN, timeout_s, self._timing, self._budget)
        except OutcomeUnknownError:
            pass
        except grpc.RpcError as error:
            # After a first answer every record has an outcome; a retry that failed leaves them as they are.
            if not batch.has_answers:
                raise error_from(self.connection.address, error) from error
        return batch.items

    async def _attempt(
        self,
        method: Callable[..., Awaitable[Any]],
        request: object,
        timeout_s: float,
        wait: bool,  # noqa: FBT001 - the shape that the loop calls
    ) -> Any:
        return await method(request, timeout=timeout_s, metadata=self._metadata, wait_for_ready=wait)

    async def _run_durably(self, call: Call[AnswerT], spooled: AnswerT) -> AnswerT:
        if self._drain is None:
            message = (
                "a durable record needs the drain of a Meter with a spool: AsyncMeter(drain=meter.drain)"
            )
            raise ConfigurationError(message)
        # The disk holds up a thread, not the loop.
        future = await asyncio.to_thread(self._drain.keep, call)
        try:
            answer: AnswerT = await asyncio.wait_for(asyncio.wrap_future(future), call.timeout_s)
        except TimeoutError:
            return spooled
        return answer
