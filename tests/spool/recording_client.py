# SPDX-License-Identifier: Apache-2.0
"""Clients that record durably until they are killed, and write down each record that they were promised.

Reads lines of JSON: URL, key, spool directory, file of promises, tenant, number of records; 0 of them only empties the
spool. For each it writes the process id of a new client, and then its exit status. Clients are forked before gRPC has
begun, because starting a Python takes longer than most of them live.
"""

import json
import os
import sys
import time
from pathlib import Path

from taximeter import Meter, SpoolSettings, Usage, new_record_id

ANSWER_WAIT_S = 0.01
"""How long a record waits for the server's answer: most return with what the spool alone promises."""


def record(url: str, key: str, spool: str, promises: str, tenant: str, count: int) -> None:
    """Records, or empties the spool. Each record has a tenant of its own below `tenant`: a report tells them apart."""
    settings = SpoolSettings(directory=Path(spool), segment_bytes_max=4_096, start_delay_max_s=0.05)
    descriptor = os.open(promises, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Meter(url, key=key, spool=settings) as meter:
        for _ in range(count):
            record_id = new_record_id()
            meter.record(
                f"{tenant}/{record_id}",
                Usage(visible_output_tokens=1),
                model="gpt-5",
                record_id=record_id,
                durable=True,
                timeout_s=ANSWER_WAIT_S,
            )
            os.write(descriptor, f"{record_id}\n".encode())
        while not count and meter.spool_status().backlog_bytes:
            time.sleep(0.02)


def main() -> None:
    """Starts clients one after the other until the input ends."""
    for line in sys.stdin:
        process_id = os.fork()
        if not process_id:
            record(*json.loads(line))
            os._exit(0)
        for number in (process_id, None):
            found = os.waitpid(process_id, 0)[1] if number is None else number
            sys.stdout.write(f"{found}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
