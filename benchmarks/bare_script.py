# SPDX-License-Identifier: Apache-2.0
"""The floor on the store's side: the script call of a check as the product sends it, and nothing else.

The call is read off the store while one check is made, so it is never another one than the product's. redis-cli sends
it down a pipe: redis-benchmark ends an argument at its first NUL.
"""

import codecs
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

from contestants import Contestant, Run
from reconciliation import counted_tenant

from harness.server_process import ServerProcess

PROGRAM = "redis-cli"
NOT_HERE = f"bare script: {PROGRAM} is not here; on Debian: apt-get install redis-tools"
CALLS_PER_SECOND = 50_000
"""About as many as it does, so that a load of so many seconds takes about as long."""
WAIT_S = 10


def is_present() -> bool:
    """Return whether redis-cli is on the PATH."""
    return shutil.which(PROGRAM) is not None


def measure_bare_script(server: ServerProcess, seconds: int) -> Run:
    """Decide about a tenant with three limits again and again; CPU is the store's alone. Raises RuntimeError."""
    admin_key = server.data_dir / "admin.key"
    contestant = Contestant("bare script", server.address, admin_key, (server.store_pid,))
    program = shutil.which(PROGRAM) or PROGRAM
    with counted_tenant(contestant) as tenant:
        call = _seen_call(server, lambda: tenant.meter.check_quota(f"{tenant.prefix}-0"))
        with server.store_client() as store:
            socket = store.connection_pool.connection_kwargs
        count = CALLS_PER_SECOND * seconds
        login = ("-s", socket["path"], "--user", socket["username"])
        before_us, began_s = contestant.cpu_us(), time.monotonic()
        shown = subprocess.run(
            [program, *login, "--pipe"],
            input=_framed(call) * count,
            env={"REDISCLI_AUTH": socket["password"]},
            check=True,
            capture_output=True,
            timeout=700,
        ).stdout.decode()
        took_s = time.monotonic() - began_s
        used_us = contestant.cpu_us() - before_us
        if f"errors: 0, replies: {count}" not in shown:
            raise RuntimeError(f"{PROGRAM} says {shown[-500:]}")
        tenant.expect(count + 1)
    return Run(
        calls=count,
        failed=0,
        denied=0,
        calls_per_second=int(count / took_s),
        cpu_per_call_ns=used_us * 1000 // count,
    )


def _framed(words: Sequence[bytes]) -> bytes:
    """Return a command as it goes over the wire."""
    bulk = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), bulk)


def _seen_call(server: ServerProcess, check: Any) -> list[bytes]:
    """Return the words of the script call that a check makes."""
    with server.store_client() as store, store.monitor() as monitor:
        thread = threading.Thread(target=check)
        thread.start()
        for seen in monitor.listen():
            command = str(seen["command"])
            if command.upper().startswith("FCALL") and "decide" in command:
                break
        thread.join(WAIT_S)
    # The monitor writes what is not text as in a C string.
    return [codecs.escape_decode(word.encode())[0] for word in command.split(" ")]
