# SPDX-License-Identifier: Apache-2.0
"""A quota service as it is often written in Python: grpcio, the library `limits`, and Redis behind it.

Requests per minute by a moving window, and two daily limits by fixed windows, asked one after the other: the library
has no call that decides several limits together.
"""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc

WORKER_COUNT = 16


class LimitsMetering(metering_service_pb2_grpc.MeteringServiceServicer):
    """Answers CheckQuota from counters in Redis."""

    def __init__(self, socket_path: str) -> None:
        """socket_path: Unix socket of the Redis that counts."""
        storage = RedisStorage(f"redis+unix://{socket_path}")
        self._minute = SlidingWindowCounterRateLimiter(storage)
        self._day = FixedWindowRateLimiter(storage)
        self._per_minute = parse("1000000000/minute")
        self._per_day = (parse("1000000000/day"), parse("2000000000/day"))

    def CheckQuota(  # noqa: N802 (the name of the method)
        self,
        request: metering_service_pb2.CheckQuotaRequest,
        context: grpc.ServicerContext,  # noqa: ARG002 (the interface)
    ) -> metering_service_pb2.CheckQuotaResponse:
        """Count one request against each limit; the first that is full ends it."""
        allowed = self._minute.hit(self._per_minute, request.tenant) and all(
            self._day.hit(limit, request.tenant) for limit in self._per_day
        )
        decision = metering_service_pb2.DECISION_ALLOW if allowed else metering_service_pb2.DECISION_DENY
        return metering_service_pb2.CheckQuotaResponse(decision=decision)


def serve(socket_path: str) -> None:
    """Serve on a free loopback port until SIGTERM."""
    server = grpc.server(ThreadPoolExecutor(WORKER_COUNT))
    metering_service_pb2_grpc.add_MeteringServiceServicer_to_server(LimitsMetering(socket_path), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(1))
    print(f"serving on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(sys.argv[1])
