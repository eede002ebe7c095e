# SPDX-License-Identifier: Apache-2.0
"""Sees every status that a call of this process ends with, whichever client made it, whether or not a test looks at it.

grpc offers interceptors, which change what a caller gets; so this looks on where the library itself learns a status.
"""

from collections.abc import Callable
from typing import Any

import grpc
from grpc import _channel

_OK = grpc.StatusCode.OK

Note = Callable[[str], None]


def record_statuses(note: Note) -> None:
    """From now on, note message and trailing metadata of each status other than OK, in one text."""
    _record_calls(note)
    _record_asyncio(note)


def status_text(details: str | None, trailing_metadata: Any) -> str:
    """Return all that a status says. Its details are a message whose texts stand in its bytes as they are."""
    values = [value for name, value in trailing_metadata or () if name != "date"]
    texts = [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in values]
    return "\n".join([details or "", *texts])


def _record_calls(note: Note) -> None:
    handle_event: Callable[..., Any] = _channel._handle_event

    def handle_and_note(event: Any, state: Any, response_deserializer: Any) -> Any:
        callbacks = handle_event(event, state, response_deserializer)
        if state.code not in {None, _OK}:
            note(status_text(state.details, state.trailing_metadata))
        return callbacks

    _channel._handle_event = handle_and_note


def _record_asyncio(note: Note) -> None:
    make: Callable[..., None] = grpc.aio.AioRpcError.__init__

    def make_and_note(error: grpc.aio.AioRpcError, *values: Any, **named: Any) -> None:
        make(error, *values, **named)
        note(status_text(error.details(), error.trailing_metadata()))

    grpc.aio.AioRpcError.__init__ = make_and_note  # type: ignore[assignment]
