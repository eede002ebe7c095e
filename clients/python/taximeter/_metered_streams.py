# SPDX-License-Identifier: Apache-2.0
"""Calls of an SDK with a meter around them, and streams that are charged when they end, however they end."""

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from typing import Any, Self

from taximeter._answers import Answer, Api
from taximeter.aio import AsyncMeter
from taximeter.client import Meter
from taximeter.errors import TaximeterError
from taximeter.metered_call import AsyncMeteredCall, CallInProgress, CallPlan, MeteredCall
from taximeter.provider_usage import ProviderUsage
from taximeter.usage import UsageQuality

_logger = logging.getLogger("taximeter.metered")


class Metering:
    """Makes the calls of one client."""

    def __init__(
        self,
        meter: Meter | AsyncMeter,
        tenant: str,
        provider: str,
        attributes: Mapping[str, str],
        *,
        durable: bool,
    ) -> None:
        """Takes what each call is charged to."""
        self._meter = meter
        self._plan = functools.partial(
            CallPlan, tenant, provider=provider, attributes=attributes, durable=durable
        )

    def send(self, api: Api, asked: Mapping[str, Any], send: Callable[[], Any], *, is_stream: bool) -> Any:
        """Makes a call, or a coroutine that makes it."""
        plan = self._plan(str(asked.get("model", "")))
        if isinstance(self._meter, AsyncMeter):
            return run_async(self._meter.open(plan), api, asked, send, is_stream=is_stream)
        return run(self._meter.open(plan), api, asked, send, is_stream=is_stream)


def unmetered(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Says in the log that a function is not metered, once it is called."""

    @functools.wraps(function)
    def warning(*args: Any, **options: Any) -> Any:
        _warn(f"{name} reports no usage that is understood: it is not metered")
        return function(*args, **options)

    return warning


@functools.lru_cache(maxsize=1_024)
def _warn(message: str) -> None:
    """Says something once."""
    _logger.warning(message)


def charge(call: CallInProgress, api: Api, answer: Answer, *, is_whole: bool) -> None:
    """Says what an answer has used: as reported, or estimated where it was cut off or reports nothing."""
    reported = answer.usage if is_whole else answer.interrupted()
    quality = None if is_whole else UsageQuality.ESTIMATED
    if reported is None:
        if is_whole:
            _warn(f"{api.name} of {call.plan.model} reported no usage: it is charged as estimated")
        call.used(answer.estimate(), model=answer.model, quality=UsageQuality.ESTIMATED)
    else:
        call.used(provider_usage=reported, api=api.name, model=answer.model, quality=quality)
        for model in answer.other_models():
            usage = ProviderUsage.of(
                reported, provider=call.plan.provider, api=api.name, iteration_model=model
            )
            call.also_used(model, usage, quality=quality)


def parsed(response: Any) -> Any:
    """Returns the answer within a raw response, or the answer itself."""
    is_raw = hasattr(response, "http_response") and callable(getattr(response, "parse", None))
    return response.parse() if is_raw else response


def _parsing(response: Any, stream: "MeteredStream | AsyncMeteredStream", parse: Callable[..., Any]) -> Any:
    """Makes a raw response give the metered stream; who reads its bytes instead is charged when it is closed."""
    response.parse = parse
    if hasattr(response, "close"):
        response.close = stream.close
    return response


def run(
    call: MeteredCall, api: Api, asked: Mapping[str, Any], send: Callable[[], Any], *, is_stream: bool
) -> Any:
    """Makes a call of an SDK within a metered one."""
    with ExitStack() as stack:
        stack.enter_context(call)
        answer = api.answer(asked)
        try:
            response = send()
        except Exception as error:
            if answer.failed(error):
                charge(call, api, answer, is_whole=False)
            raise
        body = parsed(response)
        if is_stream and hasattr(body, "__iter__"):
            stream = MeteredStream(body, answer, api, call, stack.pop_all())
            return stream if body is response else _parsing(response, stream, lambda *_, **__: stream)
        answer.whole(body)
        charge(call, api, answer, is_whole=True)
        return response


async def run_async(
    call: AsyncMeteredCall,
    api: Api,
    asked: Mapping[str, Any],
    send: Callable[[], Awaitable[Any]],
    *,
    is_stream: bool,
) -> Any:
    """Makes a call of an asynchronous SDK within a metered one."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(call)
        answer = api.answer(asked)
        try:
            response = await send()
        except Exception as error:
            if answer.failed(error):
                charge(call, api, answer, is_whole=False)
            raise
        body = parsed(response)
        # Only some of the asynchronous raw responses are parsed by a coroutine.
        is_awaited = inspect.isawaitable(body) and body is not response
        if is_awaited:
            body = await body
        if is_stream and hasattr(body, "__aiter__"):
            stream = AsyncMeteredStream(body, answer, api, call, stack.pop_all())

            async def parse(*_: object, **__: object) -> AsyncMeteredStream:
                return stream

            if body is response:
                return stream
            return _parsing(response, stream, parse if is_awaited else lambda *_, **__: stream)
        answer.whole(body)
        charge(call, api, answer, is_whole=True)
        return response


class _Stream:
    """What both streams share: whatever they do not do themselves is the SDK's."""

    def __init__(self, stream: Any, answer: Answer, api: Api, call: CallInProgress) -> None:
        self._stream = stream
        self._answer = answer
        self._api = api
        self._call = call
        self._is_open = True

    def __getattr__(self, name: str) -> Any:
        """Looks up what the SDK's stream has."""
        return getattr(self._stream, name)

    def _closer(self, *names: str) -> Callable[[], Any] | None:
        """Returns what closes the stream, or the response that it reads, which litellm leaves open."""
        found = (
            getattr(of, name, None)
            for of in (self._stream, getattr(self._stream, "response", None))
            for name in names
        )
        return next(filter(callable, found), None)

    def _ends(self, *, is_whole: bool) -> bool:
        """Says what was used, once; False when that was done before."""
        was_open, self._is_open = self._is_open, False
        if was_open:
            charge(self._call, self._api, self._answer, is_whole=is_whole)
        return was_open


class MeteredStream(_Stream):
    """A stream that is charged when it ends: as reported, or as estimated where it was interrupted."""

    def __init__(
        self, stream: Any, answer: Answer, api: Api, call: CallInProgress, end: AbstractContextManager[Any]
    ) -> None:
        """Takes the SDK's stream and what is to be left when it ends."""
        super().__init__(stream, answer, api, call)
        self._end = end
        self._events = self._metered(iter(stream))

    def __iter__(self) -> Iterator[Any]:
        """Returns the events."""
        return self._events

    def __next__(self) -> Any:
        """Returns the next event."""
        return next(self._events)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the stream."""
        self.close()

    def close(self) -> None:
        """Closes the stream and charges what has come."""
        try:
            if (close := self._closer("close")) is not None:
                close()
        finally:
            self._finish(is_whole=False)

    def _metered(self, events: Iterator[Any]) -> Iterator[Any]:
        is_whole = False
        try:
            for event in events:
                if self._answer.event(event):
                    yield event
            is_whole = True
        finally:
            self._finish(is_whole=is_whole)

    def _finish(self, *, is_whole: bool) -> None:
        if self._ends(is_whole=is_whole):
            self._end.__exit__(None, None, None)

    def __del__(self) -> None:
        """Charges a stream that was dropped before anybody read of it."""
        try:
            self._finish(is_whole=False)
        except TaximeterError as error:
            _logger.warning("a stream that nobody closed is not charged: %s", error)


class AsyncMeteredStream(_Stream):
    """As MeteredStream, for `async for`."""

    def __init__(
        self,
        stream: Any,
        answer: Answer,
        api: Api,
        call: CallInProgress,
        end: AbstractAsyncContextManager[Any],
    ) -> None:
        """Takes the SDK's stream and what is to be left when it ends."""
        super().__init__(stream, answer, api, call)
        self._end = end
        self._is_begun = False
        self._events = self._metered(aiter(stream))

    def __aiter__(self) -> AsyncIterator[Any]:
        """Returns the events."""
        return self._events

    async def __anext__(self) -> Any:
        """Returns the next event."""
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the stream."""
        await self.close()

    async def close(self) -> None:
        """Closes the stream and charges what has come."""
        try:
            if (close := self._closer("aclose", "close")) is not None:
                await close()
        finally:
            await self._finish(is_whole=False)

    async def _metered(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self._is_begun = True
        is_whole = False
        try:
            async for event in events:
                if self._answer.event(event):
                    yield event
            is_whole = True
        finally:
            await self._finish(is_whole=is_whole)

    async def _finish(self, *, is_whole: bool) -> None:
        if self._ends(is_whole=is_whole):
            await self._end.__aexit__(None, None, None)

    def __del__(self) -> None:
        """Says that a stream was dropped before anybody read of it: what would be awaited cannot be, here."""
        if self._is_open and not self._is_begun:
            _warn("a stream that nobody closed is not charged: close those that you do not read")
