# SPDX-License-Identifier: Apache-2.0
"""The client: one object per server, shared by all threads."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

import grpc

from taximeter import _convert
from taximeter._administration import Administration
from taximeter._batch import Batch
from taximeter._correcting import Correcting
from taximeter._metering_calls import RECORD_TIMEOUT_S, Call, MeteringCalls
from taximeter._reporting import Reporting
from taximeter._retry import OutcomeUnknownError, Repeating, Timing, call_until_known
from taximeter._session import Session
from taximeter._spool_drain import SpoolDrain
from taximeter.config import Connection, resolve_connection
from taximeter.errors import ConfigurationError
from taximeter.metered_call import CallPlan, MeteredCall
from taximeter.record_id import RecordIds
from taximeter.results import BatchItem
from taximeter.spool import SpoolSettings, SpoolStatus
from taximeter.usage import UsageRecord
from taximeter.v1 import metering_service_pb2_grpc

P = ParamSpec("P")
AnswerT = TypeVar("AnswerT")


def blocking(
    build: Callable[Concatenate[MeteringCalls, P], Call[AnswerT]],
) -> Callable[Concatenate["Meter", P], AnswerT]:
    """Makes a method that makes a call and waits for its answer."""

    @functools.wraps(build)
    def method(meter: "Meter", /, *args: P.args, **kwargs: P.kwargs) -> AnswerT:
        return meter.run(build(meter.calls, *args, **kwargs))

    return method


def opening(plan: Callable[P, CallPlan]) -> Callable[Concatenate["Meter", P], MeteredCall]:
    """Makes a method that opens the context of a call, as it was planned."""

    def call(meter: "Meter", /, *args: P.args, **kwargs: P.kwargs) -> MeteredCall:
        return meter.open(plan(*args, **kwargs))

    call.__doc__ = MeteredCall.__doc__
    return call


class Meter(Reporting, Correcting, Administration):
    """Records usage, asks before calls whether they may go on, reports, corrects, and administers.

    Safe to share between threads. Usable as a context manager. Every method raises ServerError; the families
    are in `taximeter.errors`.
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
        spool: SpoolSettings | Path | str | None = None,
    ) -> None:
        """Opens a channel to `url`: http://host:port, https://host:port, or host:port.

        Without arguments it takes environment, profile and this machine's server in that order, see
        `taximeter.config`; `connection` replaces all of that. `ca_file` has the certificates to trust, PEM.
        Connects at the first call. `spool` is a directory for
        `record(..., durable=True)`: one process at a time may use it, and what is left in it is sent at once. Raises
        ConfigurationError, and SpoolError for a spool that cannot be opened.
        """
        self.connection = connection or resolve_connection(url, key, profile, ca_file=ca_file)
        super().__init__(Session(self.connection, timing or Timing()))
        self.calls = MeteringCalls(record_ids or RecordIds())
        self._metering = metering_service_pb2_grpc.MeteringServiceStub(self._session.channel)
        settings = spool if isinstance(spool, SpoolSettings | None) else SpoolSettings(directory=Path(spool))
        self._drain = None if settings is None else SpoolDrain(settings, self._session, self._metering)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the channel."""
        self.close()

    def close(self) -> None:
        """Closes spool and channel; calls under way are cancelled, and what is in the spool stays there."""
        if self._drain is not None:
            self._drain.close()
        self._session.close()

    check_quota = blocking(MeteringCalls.check_quota)
    extend_hold = blocking(MeteringCalls.extend_hold)
    release_hold = blocking(MeteringCalls.release_hold)
    record = blocking(MeteringCalls.record)
    record_level = blocking(MeteringCalls.record_level)

    call = opening(CallPlan)

    def open(self, plan: CallPlan) -> MeteredCall:
        """Returns the context of a call that was planned."""
        return MeteredCall(self, plan)

    def run(self, call: Call[AnswerT]) -> AnswerT:
        """Makes a call that `calls` made. Raises ServerError, and SpoolError for one that goes through the spool."""
        if call.spooled is not None:
            future = self.drain.keep(call)
            try:
                answer: AnswerT = future.result(call.timeout_s)
            except TimeoutError:
                return call.spooled
            return answer
        method = getattr(self._metering, call.method)
        return call.read(self._session.until_known(method, call.request, call.repeating, call.timeout_s))

    @property
    def drain(self) -> SpoolDrain:
        """The spool of this client. Raises ConfigurationError without one."""
        if self._drain is None:
            message = "a durable record needs a spool: Meter(spool=directory)"
            raise ConfigurationError(message)
        return self._drain

    def spool_status(self) -> SpoolStatus:
        """Returns what waits in the spool. Raises ConfigurationError without one."""
        return self.drain.spool.status()

    def record_batch(
        self, records: Sequence[UsageRecord], *, timeout_s: float = RECORD_TIMEOUT_S
    ) -> tuple[BatchItem, ...]:
        """Records up to 500 records; returns one outcome for each, in their order.

        A bad record fails alone: its error is in its item. Records whose outcome is unknown are sent again.
        """
        batch = Batch([_convert.record_message(record) for record in records])

        def attempt(left_s: float, wait: bool) -> None:  # noqa: FBT001 - the shape that the loop calls
            method = self._metering.RecordBatch
            batch.take(self._session.attempt(method, batch.request(), left_s, wait_for_ready=wait))

        try:
            call_until_known(
                attempt, Repeating.WHEN_UNKNOWN, timeout_s, self._session.timing, self._session.budget
            )
        except OutcomeUnknownError:
            pass
        except grpc.RpcError as error:
            # After a first answer every record has an outcome; a retry that failed leaves them as they are.
            if not batch.has_answers:
                raise self._session.error(error) from error
        return batch.items
