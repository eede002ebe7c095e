# SPDX-License-Identifier: Apache-2.0
"""The format of a segment: frames of length, CRC-32C and payload, one after the other.

A payload is the time when it was put there, TIME in Unix milliseconds, and a record.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from taximeter._crc32c import crc32c

_HEADER = struct.Struct("<II")
TIME = struct.Struct("<q")
PAYLOAD_BYTES_MAX = 512 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it was read."""

    offset: int
    """Where it begins."""
    end: int
    """Where the next begins."""
    payload: bytes | None
    """What it holds. None when the checksum says that it is damaged."""


def frame(payload: bytes) -> bytes:
    """Returns the frame of a payload."""
    return _HEADER.pack(len(payload), crc32c(payload)) + payload


def frames(data: bytes, offset: int) -> Iterator[Frame]:
    """Yields the frames of a segment from an offset on, until one is not there in full."""
    while offset + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, offset)
        end = offset + _HEADER.size + length
        if length > PAYLOAD_BYTES_MAX or end > len(data):
            return
        payload = data[offset + _HEADER.size : end]
        yield Frame(offset, end, payload if crc32c(payload) == checksum else None)
        offset = end
