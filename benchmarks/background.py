# SPDX-License-Identifier: Apache-2.0
"""What goes on beside a load."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeated(action: Callable[[], object], every_s: float) -> Iterator[None]:
    """Do something again and again in a thread of its own. Raises what it raised."""
    ended, problems = threading.Event(), list[Exception]()

    def run() -> None:
        while not ended.wait(every_s):
            try:
                action()
            except Exception as error:  # noqa: BLE001 (raised below)
                problems.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if problems:
        raise problems[0]
