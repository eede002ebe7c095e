# SPDX-License-Identifier: Apache-2.0
"""The private gRPC server: services on a Unix socket, behind the native front.

Handlers are plain functions (message, principal) -> message that may block; they run in threads. Requests are parsed
here and not by grpcio, which would answer bytes that are no message with INTERNAL.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from taximeter_server import _native
from taximeter_server.errors import MalformedMessageError
from taximeter_server.rpc.audit import CallAuditor, method_name
from taximeter_server.rpc.health import Health
from taximeter_server.rpc.principal import NOBODY, Principal, principal_of
from taximeter_server.rpc.status import status_of
from taximeter_server.thread_priority import give_way

RECEIVE_BYTES_MAX = 4 << 20
"""A rate card is at most 1 MiB; the front passes larger messages of its own methods on to nobody."""

CALLS_MAX = 512
HANDLER_THREADS = 16
REPORT_THREADS = 2
"""Reports have threads of their own, so that many of them hold up nothing else."""

STREAMED_REQUESTS_MAX = 100
"""Requests of a stream that one call of the handler gets at most; as many more wait here."""

STATUS_DETAILS_NAME = "grpc-status-details-bin"

Handler = Callable[[Any, Principal], Any]
"""(request, caller) -> response, or an iterator of responses for a method that streams them; for one that streams
requests, too, a list of them -> a list of responses, called for those that have come until it has time."""


class Service(Protocol):
    """One service of the API."""

    descriptor: ClassVar[ServiceDescriptor]
    serves_without_store: ClassVar[bool]

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method that is served here, by the method's name."""

    def slow_methods(self) -> frozenset[str]:
        """Return the names of methods that run in the report threads."""


class RpcServer:
    """Services, health and, unless it is left out, reflection on one socket."""

    def __init__(
        self, services: Sequence[Service], auditor: CallAuditor, *, has_reflection: bool = True
    ) -> None:
        self._services = services
        self._has_reflection = has_reflection
        self._auditor = auditor
        self._threads = ThreadPoolExecutor(HANDLER_THREADS, thread_name_prefix="rpc")
        self._report_threads = ThreadPoolExecutor(
            REPORT_THREADS, thread_name_prefix="report", initializer=give_way
        )
        self._health = Health()
        self._server = grpc.aio.server(
            interceptors=[_ErrorInterceptor()],
            options=[("grpc.max_receive_message_length", RECEIVE_BYTES_MAX), ("grpc.so_reuseport", 0)],
            maximum_concurrent_rpcs=CALLS_MAX,
        )

    async def start(self, socket_path: Path) -> None:
        """Bind the socket, 0600, and answer calls; health says NOT_SERVING until set_serving()."""
        for service in self._services:
            self._register(service)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._has_reflection:
            names = [*self._service_names(), health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)
        for name in ("", *self._service_names()):
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server.add_insecure_port(f"unix:{socket_path}")
        socket_path.chmod(0o600)  # noqa: ASYNC240 (one system call on a local file)
        await self._server.start()

    def _service_names(self) -> list[str]:
        return [service.descriptor.full_name for service in self._services]

    def _register(self, service: Service) -> None:
        slow = service.slow_methods()
        handlers = {
            name: _method_handler(
                service.descriptor.methods_by_name[name],
                self._auditor.wrap(service.descriptor.methods_by_name[name], handler),
                self._report_threads if name in slow else self._threads,
            )
            for name, handler in service.handlers().items()
        }
        generic = grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)
        self._server.add_generic_rpc_handlers((generic,))

    async def set_serving(self, *, store_available: bool) -> None:
        """Let health say what is served now.

        Without the store the server as a whole and MeteringService go on: records are accepted into the journal. The
        other services are nothing without it.
        """
        serving = health_pb2.HealthCheckResponse.SERVING
        others = serving if store_available else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            status = serving if service.serves_without_store else others
            await self._health.set(service.descriptor.full_name, status)
        await self._health.set("", serving)

    async def set_not_serving(self) -> None:
        """Let health say NOT_SERVING from now on, whatever set_serving() says later, and end its streams."""
        await self._health.leave()

    async def stop(self, *, grace_seconds: float) -> None:
        """Refuse new calls, let those in flight finish for grace_seconds, close the socket."""
        await self._server.stop(grace_seconds)
        for threads in (self._threads, self._report_threads):
            threads.shutdown(wait=False, cancel_futures=True)


def _method_handler(
    method: MethodDescriptor, handler: Handler, threads: ThreadPoolExecutor
) -> "grpc.RpcMethodHandler[bytes, Message]":
    request_type = GetMessageClass(method.input_type)
    response_type = GetMessageClass(method.output_type)

    is_open = _native.method_roles()[method_name(method)] is None

    async def unary(request: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
        message = _parse(request_type, request)
        principal = NOBODY if is_open else principal_of(context.invocation_metadata())
        response: Message = await asyncio.get_running_loop().run_in_executor(
            threads, handler, message, principal
        )
        return response

    async def stream(
        request: bytes, context: "grpc.aio.ServicerContext[bytes, Message]"
    ) -> AsyncIterator[Message]:
        message = _parse(request_type, request)
        principal = principal_of(context.invocation_metadata())
        loop = asyncio.get_running_loop()
        steps = _Steps(await loop.run_in_executor(threads, handler, message, principal))
        try:
            while (response := await loop.run_in_executor(threads, steps.next)) is not None:
                yield response
        finally:
            # Not awaited: a cancelled call gets no more turns. Refused when the server has stopped.
            with contextlib.suppress(RuntimeError):
                threads.submit(steps.close)

    async def both(
        requests: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, Message]"
    ) -> AsyncIterator[Message]:
        principal = principal_of(context.invocation_metadata())
        loop = asyncio.get_running_loop()
        async for some in _gathered(requests):
            messages = [_parse(request_type, request) for request in some]
            for response in await loop.run_in_executor(threads, handler, messages, principal):
                yield response

    serialize = response_type.SerializeToString
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(both, response_serializer=serialize)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(stream, response_serializer=serialize)
    return grpc.unary_unary_rpc_method_handler(unary, response_serializer=serialize)


async def _gathered(requests: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield what has come since, in order: one request when they come slowly, many when they come fast."""
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue(STREAMED_REQUESTS_MAX)

    async def read() -> None:
        try:
            async for request in requests:
                await arrived.put(request)
        finally:
            await arrived.put(None)

    reader = asyncio.create_task(read())
    try:
        ended = False
        while not ended:
            some = [await arrived.get()]
            while len(some) < STREAMED_REQUESTS_MAX and not arrived.empty():
                some.append(arrived.get_nowait())
            ended = some[-1] is None
            if found := [request for request in some if request is not None]:
                yield found
        await reader
    finally:
        reader.cancel()


class _Steps:
    """A generator that one thread advances and another may close, never both at once."""

    def __init__(self, responses: Generator[Message, None, None]) -> None:
        self._responses = responses
        self._lock = threading.Lock()

    def next(self) -> Message | None:
        with self._lock:
            return next(self._responses, None)

    def close(self) -> None:
        with self._lock:
            self._responses.close()


def _parse(request_type: type[Message], request: bytes) -> Message:
    message = request_type()
    try:
        message.ParseFromString(request)
    except DecodeError:
        raise MalformedMessageError from None
    return message


class _ErrorInterceptor(grpc.aio.ServerInterceptor):
    """The outermost layer: whatever a handler raises becomes a status here, and nothing else leaves."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        return handler._replace(
            **{
                kind: _guarded(behaviour)
                for kind in kinds
                if (behaviour := getattr(handler, kind)) is not None
            }
        )


def _guarded(behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        except BaseException as error:  # noqa: BLE001 (a panic of native code is one)
            await _abort(context, error)

    async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(request, context):
                yield response
        except BaseException as error:  # noqa: BLE001 (a panic of native code is one)
            await _abort(context, error)

    return generate if inspect.isasyncgenfunction(behaviour) else call


async def _abort(context: Any, error: BaseException) -> NoReturn:
    """End the call with the status of error. Cancellation and what was aborted before pass through."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit | grpc.aio.AbortError):
        raise error
    status = status_of(error)
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    details = ((STATUS_DETAILS_NAME, status.SerializeToString()),)
    await context.abort(code, status.message, details)
    raise AssertionError("abort() always raises")
