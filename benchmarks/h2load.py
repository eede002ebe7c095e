# SPDX-License-Identifier: Apache-2.0
"""Throughput as h2load sees it, which needs a few microseconds per call of the cores that it shares with the server.

It sends one call again and again and does not read gRPC's trailers. A gRPC failure has no message, so the bytes of the
answers tell whether all were like the first, which the other generator has looked at.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from contestants import Contestant, Run, load_command, measure

PROGRAM = "h2load"
CONNECTIONS, STREAMS = 16, 16
FIRST_CALLS = 2
"""Calls made before the load, to see what an answer is."""
NOT_HERE = "h2load is not on the PATH; on Debian: apt-get install nghttp2-client"
_DONE = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded")
_RATE = re.compile(r"finished in [^,]+, ([\d.]+) req/s")
_DATA = re.compile(r"\((\d+)\) data")


def is_present() -> bool:
    """Return whether h2load is on the PATH."""
    return shutil.which(PROGRAM) is not None


def version() -> str:
    """Return its name and version."""
    shown = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True, timeout=10)
    return shown.stdout.strip()


def measure_throughput(contestant: Contestant, tenant_prefix: str, seconds: int) -> Run:
    """Ask about one tenant for so long, 256 calls in flight. Its latencies are those of a full queue, so none are kept.

    Raises RuntimeError when a call failed, or was answered with less than the first one.
    """
    arguments = ("--tenant-prefix", tenant_prefix)
    first = measure(contestant, ("check", "--count", "1", "--connections", "1", "--streams", "1", *arguments))
    if first.failed or first.denied:
        raise RuntimeError(f"{contestant.name}: the first call failed or was denied")
    with tempfile.TemporaryDirectory(prefix="taximeter-bench-") as directory:
        question = subprocess.run(
            load_command(contestant, ("question", *arguments)), check=True, capture_output=True, timeout=10
        ).stdout
        path, _, message = question.partition(b"\n")
        file = Path(directory) / "question"
        file.write_bytes(message)
        _, _, answer_size = _ask(contestant, path.decode(), file, ("-n", "1", "-c", "1", "-m", "1"))
        before_us = contestant.cpu_us()
        load = ("-D", str(seconds), "-c", str(CONNECTIONS), "-m", str(STREAMS), "-t", "1")
        calls, per_second, data_size = _ask(contestant, path.decode(), file, load)
        used_us = contestant.cpu_us() - before_us
    # Numbers within an answer may be a byte shorter or longer than in the first one.
    if data_size * 10 < calls * answer_size * 9:
        raise RuntimeError(f"{contestant.name}: {calls} answers of {answer_size} bytes came to {data_size}")
    return Run(
        calls=calls,
        failed=0,
        denied=0,
        calls_per_second=per_second,
        cpu_per_call_ns=used_us * 1000 // max(calls, 1),
    )


def _ask(
    contestant: Contestant, path: str, message_file: Path, load: tuple[str, ...]
) -> tuple[int, int, int]:
    """Run h2load. Returns calls answered, calls per second, and bytes of all answers' messages."""
    headers = ["content-type: application/grpc", "te: trailers"]
    if contestant.key_file:
        # It reads headers from nowhere else, so the key shows in the list of processes. It ends with its server.
        headers.append(f"authorization: Bearer {contestant.key_file.read_text().strip()}")
    command = [PROGRAM, *load, "-d", str(message_file)]
    command += [word for header in headers for word in ("-H", header)]
    command.append(f"http://{contestant.address}{path}")
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=700).stdout
    done, rate, data = _DONE.search(shown), _RATE.search(shown), _DATA.search(shown)
    if done is None or rate is None or data is None or done[1] != done[2]:
        raise RuntimeError(f"{contestant.name}: h2load says {shown[-1000:]}")
    return int(done[2]), int(float(rate[1])), int(data[1])
