# SPDX-License-Identifier: Apache-2.0
"""The allocator of the embedded store: mimalloc, in front of the C library's, which its wheel was linked with.

That one takes a quarter of the store's time. Ours is part of the extension. The store's dynamic linker reads it from
memory, so nothing is written that could be left behind, lie where nothing may be executed, or have a name that the
linker does not take.
"""

import os

import structlog

from taximeter_server import _native

_PRELOAD = "LD_PRELOAD"
_log = structlog.get_logger(__name__)


def open_store_allocator() -> int | None:
    """Return a descriptor of the library, the caller's to close; None where it cannot be, which only costs time.

    Libraries that stand in for the C library need not bear each other, so what the user preloads goes without ours.
    """
    if _PRELOAD in os.environ:  # noqa: TID251 (the linker's variable, not ours)
        return None
    try:
        descriptor = os.memfd_create("store-allocator")
    except OSError as error:
        _log.warning("the store keeps the C library's allocator, which is slower", error=str(error))
        return None
    with open(descriptor, "wb", closefd=False) as library:
        library.write(_native.STORE_ALLOCATOR)
    return descriptor


def allocator_environment(descriptor: int) -> dict[str, str]:
    """Return this process's environment for a child that inherits the descriptor: it uses the library behind it."""
    return {**os.environ, _PRELOAD: f"/proc/self/fd/{descriptor}"}  # noqa: TID251 (handed on whole)
