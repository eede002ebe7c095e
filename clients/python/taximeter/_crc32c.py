# SPDX-License-Identifier: Apache-2.0
"""CRC-32C (Castagnoli), by table: a record of some hundred bytes takes some ten microseconds."""

_POLYNOMIAL = 0x82F63B78
_MASK = 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """Returns the checksum of data."""
    table, crc = _TABLE, _MASK
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _MASK
