# SPDX-License-Identifier: Apache-2.0
"""A client that floods: many checks at once, without end, in a process of its own.

Arguments: address, key, tenant, connections, callers. Writes a line once calls are answered; ends when killed.
"""

import sys

from harness.call_storm import headers_block, storm
from taximeter.v1 import metering_service_pb2

CHECK_QUOTA = "/taximeter.v1.MeteringService/CheckQuota"


def main() -> None:
    """Flood until killed."""
    address, key, tenant, connections, callers = sys.argv[1:]
    message = metering_service_pb2.CheckQuotaRequest(tenant=tenant).SerializeToString()
    answered = 0

    def note(_message: bytes | None, _sent: float, _came: float) -> None:
        nonlocal answered
        answered += 1
        if answered == 1_000:
            sys.stdout.write("flooding\n")
            sys.stdout.flush()

    storm(
        address,
        headers_block(CHECK_QUOTA, key),
        message,
        connections=int(connections),
        callers=int(callers),
        is_over=lambda _: False,
        on_answer=note,
    )


if __name__ == "__main__":
    main()
