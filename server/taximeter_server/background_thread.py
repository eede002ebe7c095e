# SPDX-License-Identifier: Apache-2.0
"""Threads that run beside the calls until the server stops."""

import asyncio
import contextlib
import threading
from collections.abc import Callable

import structlog

THREAD_TIMEOUT_SECONDS = 1.5

_log = structlog.get_logger(__name__)


def start_thread(
    name: str, target: Callable[[threading.Event], None], stack: contextlib.AsyncExitStack
) -> None:
    """Run target in a thread; on the way out set its event and wait for it, but not for long."""
    stop = threading.Event()
    thread = threading.Thread(target=target, args=(stop,), name=name, daemon=True)

    def join() -> None:
        stop.set()
        thread.join(THREAD_TIMEOUT_SECONDS)
        if thread.is_alive():
            _log.warning("thread is still busy", thread=name)

    stack.push_async_callback(asyncio.to_thread, join)
    thread.start()
