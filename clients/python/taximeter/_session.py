# SPDX-License-Identifier: Apache-2.0
"""One channel with its key: how every call is made."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import grpc

from taximeter._address import Address
from taximeter._channel import open_channel
from taximeter._retry import Repeating, RetryBudget, Timing, call_until_known
from taximeter._status import error_of_call
from taximeter.config import Connection
from taximeter.errors import ServerError, UnavailableError

ADMINISTRATION_TIMEOUT_S = 10.0
ADMINISTRATION_PAGE_SIZE = 1_000

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Page(Protocol):
    """An answer of a List method."""

    @property
    def next_page_token(self) -> str:
        """Token of the next page. Empty on the last."""


PageT = TypeVar("PageT", bound=Page)


class Session:
    """Makes calls with the key, and turns statuses into exceptions. Safe to share between threads."""

    def __init__(self, connection: Connection, timing: Timing) -> None:
        """Opens the channel; the connection is made by the first call."""
        self.address = connection.address
        self.channel = open_channel(connection)
        self.timing = timing
        self.budget = RetryBudget()
        self._metadata = credentials_of(connection)

    def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        self.channel.close()

    def unary(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        timeout_s: float,
    ) -> ResponseT:
        """Makes a call. Raises ServerError."""
        try:
            return self.attempt(method, request, timeout_s)
        except grpc.RpcError as error:
            raise self.error(error) from error

    def attempt(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        timeout_s: float,
        *,
        wait_for_ready: bool = False,
    ) -> ResponseT:
        """Makes a call. Raises grpc.RpcError."""
        return method(request, timeout=timeout_s, metadata=self._metadata, wait_for_ready=wait_for_ready)

    def until_known(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        repeating: Repeating,
        timeout_s: float,
    ) -> ResponseT:
        """Makes a call, and sends it again while its outcome is unknown. Raises ServerError."""
        try:
            return call_until_known(
                lambda left_s, wait: self.attempt(method, request, left_s, wait_for_ready=wait),
                repeating,
                timeout_s,
                self.timing,
                self.budget,
            )
        except grpc.RpcError as error:
            raise self.error(error) from error

    def stream(
        self,
        method: "grpc.UnaryStreamMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        timeout_s: float,
    ) -> Iterator[ResponseT]:
        """Yields the messages of a stream. Raises ServerError, possibly after some messages."""
        yield from self._read(method(request, timeout=timeout_s, metadata=self._metadata))

    def stream_both(
        self,
        method: "grpc.StreamStreamMultiCallable[RequestT, ResponseT]",
        requests: Iterator[RequestT],
        timeout_s: float,
    ) -> Iterator[ResponseT]:
        """Sends a stream while it yields the messages of another, as stream() does."""
        yield from self._read(method(requests, timeout=timeout_s, metadata=self._metadata))

    def _read(self, call: "grpc._CallIterator[ResponseT]") -> Iterator[ResponseT]:
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.error(error) from error
        finally:
            call.cancel()

    def pages(self, fetch: Callable[[str], PageT]) -> Iterator[PageT]:
        """Yields the pages that `fetch` returns for a page token, until the last."""
        token = ""
        while True:
            page = fetch(token)
            yield page
            token = page.next_page_token
            if not token:
                return

    def error(self, error: grpc.RpcError) -> ServerError:
        """Returns the exception for a call that failed."""
        return error_from(self.address, error)


def error_from(address: Address, error: grpc.RpcError) -> ServerError:
    """Returns the exception for a call to a server that failed."""
    result = error_of_call(error)
    if isinstance(result, UnavailableError) and not result.reason:
        # No server said this: gRPC did, and its text does not name the address as the caller wrote it.
        return UnavailableError(result.code, f"no answer from {address}: {result.message}")
    return result


def credentials_of(connection: Connection) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that says who calls."""
    return (("authorization", f"Bearer {connection.key}"),) if connection.key else ()
