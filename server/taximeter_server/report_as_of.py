# SPDX-License-Identifier: Apache-2.0
"""What a report has seen, as positions in the ledger: the same positions hold the same entries for ever.

An entry's place in its partition's stream never changes and nothing is ever put before it, whatever clocks do and
whether it has been archived meanwhile. So a report that names the last entry of each partition that it read can be
asked for again, byte for byte.
"""

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taximeter_server.ledger import PARTITION_COUNT, StreamId

_VERSION = 1
_MAC_BYTES = 16
_PURPOSE = b"taximeter report as of\0"
_BITMAP_BYTES = PARTITION_COUNT // 8
_SEQ_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class AsOf:
    """positions: the last entry seen, by partition; of other partitions nothing was read.

    time_ms: everything recorded up to here is within. generation: of a manifest that is wholly within, -1 for none.
    """

    time_ms: int
    generation: int
    positions: Mapping[int, StreamId]

    @classmethod
    def at(cls, time_ms: int) -> "AsOf":
        """Return what had been recorded up to the end of a millisecond that is over."""
        everywhere = StreamId(time_ms, _SEQ_MAX)
        return cls(time_ms, -1, dict.fromkeys(range(PARTITION_COUNT), everywhere))

    def encode(self, secret: bytes) -> str:
        """Return the URL-safe text, signed so that nobody makes one for what the ledger never was."""
        payload = self.to_bytes()
        return encode_base64(payload + _mac(secret, payload))

    @classmethod
    def decode(cls, text: str, secret: bytes) -> "AsOf":
        """Read what encode made. Raises ValueError for anything else."""
        raw = decode_base64(text)
        payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(secret, payload)):
            raise ValueError("not signed by this server")
        return cls.from_bytes(payload)

    def to_bytes(self) -> bytes:
        """Return a short form: most positions are near each other in time."""
        bitmap = sum(1 << partition for partition in self.positions)
        numbers = [self.time_ms, self.generation + 1]
        for _, position in sorted(self.positions.items()):
            # Signed, as an idle partition is behind and one of a clock that was set back ahead.
            behind_ms = self.time_ms - position.ms
            numbers += [behind_ms << 1 if behind_ms >= 0 else (-behind_ms << 1) | 1, position.seq]
        body = b"".join(_varint(number) for number in numbers)
        return bytes([_VERSION]) + bitmap.to_bytes(_BITMAP_BYTES, "big") + body

    @classmethod
    def from_bytes(cls, payload: bytes) -> "AsOf":
        """Read what to_bytes made. Raises ValueError."""
        if not payload or payload[0] != _VERSION:
            raise ValueError("not a version that this server knows")
        bitmap = int.from_bytes(payload[1 : 1 + _BITMAP_BYTES], "big")
        numbers = _varints(payload[1 + _BITMAP_BYTES :])
        time_ms, generation = next(numbers), next(numbers) - 1
        positions = {}
        for partition in range(PARTITION_COUNT):
            if bitmap >> partition & 1:
                distance = next(numbers)
                behind_ms = -(distance >> 1) if distance & 1 else distance >> 1
                positions[partition] = StreamId(time_ms - behind_ms, next(numbers))
        return cls(time_ms, generation, positions)


def decode_base64(text: str) -> bytes:
    """Read URL-safe base64 without padding. Raises ValueError for any other text, also one with stray bits."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError("not base64") from None
    if encode_base64(raw) != text:
        raise ValueError("not base64 as it is written here")
    return raw


def encode_base64(raw: bytes) -> str:
    """Return URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _mac(secret: bytes, payload: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + payload, "sha256")[:_MAC_BYTES]


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 0x7F:  # noqa: PLR2004 (seven bits per byte)
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)


def _varints(raw: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield number
            number = shift = 0
