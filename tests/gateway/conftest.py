# SPDX-License-Identifier: Apache-2.0
"""A caller that speaks Envoy's rate limit protocol by the messages of the vendored protos."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc  # type: ignore[import-untyped]
from server.api import CALL_TIMEOUT_SECONDS, Api, connect

from harness.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
Entries = tuple[tuple[str, str], ...]


class RateLimitService:
    """The generated messages of the service."""

    def __init__(self, scratch: Path) -> None:
        out = scratch / "envoy.binpb"
        includes = [f"-I{ROOT / 'third_party' / 'proto'}", f"-I{files('grpc_tools') / '_proto'}"]
        command = ["", *includes, "--include_imports", f"--descriptor_set_out={out}"]
        assert protoc.main([*command, "envoy/service/ratelimit/v3/rls.proto"]) == 0
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
            pool.Add(file)
        self._messages = {
            name: message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"envoy.service.ratelimit.v3.RateLimit{name}")
            )
            for name in ("Request", "Response")
        }

    def request(self, *descriptors: Entries, hits: int = 0, domain: str = "models") -> Any:
        """Return a request of descriptors, each a number of entries."""
        request: Any = self._messages["Request"](domain=domain, hits_addend=hits)
        for entries in descriptors:
            descriptor = request.descriptors.add()
            for key, value in entries:
                descriptor.entries.add(key=key, value=value)
        return request

    def method(self, api: Api) -> Any:
        """Return the method on a server."""
        return api.channel.unary_unary(
            METHOD,
            request_serializer=self._messages["Request"].SerializeToString,
            response_deserializer=self._messages["Response"].FromString,
        )

    def ask(self, api: Api, *descriptors: Entries, hits: int = 0) -> Any:
        """Ask about descriptors; returns the response."""
        request = self.request(*descriptors, hits=hits)
        return self.method(api)(request, metadata=api.metadata, timeout=CALL_TIMEOUT_SECONDS)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> RateLimitService:
    """The service's messages."""
    return RateLimitService(tmp_path_factory.mktemp("envoy-protos"))


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    """The API, called with the admin key."""
    with connect(server.address, server.admin_key) as found:
        yield found


@pytest.fixture
def asks(service: RateLimitService, api: Api) -> Callable[..., Any]:
    """Asks the shared server."""
    return lambda *descriptors, hits=0: service.ask(api, *descriptors, hits=hits)
