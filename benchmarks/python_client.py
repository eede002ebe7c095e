# SPDX-License-Identifier: Apache-2.0
"""What the Python client costs beside the bare generated stub: check, record, durable record, in one run.

Asks the server that the environment names. Prints the median and the 99th percentile of each in microseconds, in turns,
so that whatever else the machine does meets all of them alike.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from taximeter import AsyncMeter, Connection, Meter, Usage, new_record_id, resolve_connection
from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc

TENANT, MODEL = "bench", "gpt-5"
USAGE = Usage(uncached_input_tokens=1_200, cache_read_tokens=800, visible_output_tokens=300)
WARM_UP_COUNT = 50


def bare_calls(connection: Connection) -> dict[str, Callable[[], object]]:
    """Calls by the generated stub alone."""
    stub = metering_service_pb2_grpc.MeteringServiceStub(grpc.insecure_channel(connection.address.target))
    metadata = (("authorization", f"Bearer {connection.key}"),)

    def check() -> object:
        request = metering_service_pb2.CheckQuotaRequest(tenant=TENANT, model=MODEL)
        return stub.CheckQuota(request, metadata=metadata, timeout=1)

    def record() -> object:
        request = metering_service_pb2.RecordRequest()
        request.record.record_id, request.record.tenant, request.record.model = new_record_id(), TENANT, MODEL
        request.record.usage.uncached_input_tokens = USAGE.uncached_input_tokens
        request.record.usage.cache_read_tokens = USAGE.cache_read_tokens
        request.record.usage.visible_output_tokens = USAGE.visible_output_tokens
        return stub.Record(request, metadata=metadata, timeout=10)

    return {"check, bare stub": check, "record, bare stub": record}


def measure(calls: dict[str, Callable[[], object]], count: int) -> dict[str, list[int]]:
    """Times each call so many times, in turns; nanoseconds."""
    times_ns: dict[str, list[int]] = {name: [] for name in calls}
    for number in range(count + WARM_UP_COUNT):
        for name, call in calls.items():
            began_ns = time.perf_counter_ns()
            call()
            if number >= WARM_UP_COUNT:
                times_ns[name].append(time.perf_counter_ns() - began_ns)
    return times_ns


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="calls of each kind")
    count = parser.parse_args().count
    connection = resolve_connection(None, None, None)
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner() as runner,
        Meter(connection=connection, spool=Path(directory) / "spool") as meter,
    ):
        awaited = runner.run(_open(connection))
        calls = bare_calls(connection) | {
            "check": lambda: meter.check_quota(TENANT, model=MODEL),
            "check, asyncio": lambda: runner.run(_check(awaited)),
            "record": lambda: meter.record(TENANT, USAGE, model=MODEL),
            "record, durable, answered": lambda: meter.record(TENANT, USAGE, model=MODEL, durable=True),
            "record, durable, kept": lambda: meter.record(
                TENANT, USAGE, model=MODEL, durable=True, timeout_s=0
            ),
        }
        for name, times_ns in measure(calls, count).items():
            cuts = statistics.quantiles(times_ns, n=100)
            sys.stdout.write(f"{name:28}{cuts[49] / 1_000:>10,.0f} us{cuts[98] / 1_000:>10,.0f} us\n")
        runner.run(awaited.close())


async def _open(connection: Connection) -> AsyncMeter:
    return AsyncMeter(connection=connection)


async def _check(meter: AsyncMeter) -> object:
    return await meter.check_quota(TENANT, model=MODEL)


if __name__ == "__main__":
    main()
