# SPDX-License-Identifier: Apache-2.0
"""Page tokens: where the next page begins, and proof that this server made the token for this very query."""

import hashlib
import hmac
import struct
from dataclasses import dataclass

from taximeter_server.errors import PageTokenError
from taximeter_server.report_as_of import AsOf, decode_base64, encode_base64

_LAYOUT = struct.Struct(">BQ")
_VERSION = 2
_MAC_BYTES = 16
_PURPOSE = b"taximeter report page token\0"


@dataclass(frozen=True, slots=True)
class PageToken:
    """as_of: what the first page had seen. offset: rows on the pages before."""

    as_of: AsOf
    offset: int

    def encode(self, secret: bytes, query: bytes) -> str:
        """Return the URL-safe text, bound to query by secret."""
        payload = _LAYOUT.pack(_VERSION, self.offset) + self.as_of.to_bytes()
        return encode_base64(_mac(secret, query, payload) + payload)

    @classmethod
    def decode(cls, text: str, secret: bytes, query: bytes) -> "PageToken":
        """Read what encode made. Raises PageTokenError for anything else."""
        try:
            raw = decode_base64(text)
        except ValueError:
            raise PageTokenError from None
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if len(payload) < _LAYOUT.size or not hmac.compare_digest(mac, _mac(secret, query, payload)):
            raise PageTokenError
        version, offset = _LAYOUT.unpack_from(payload)
        if version != _VERSION:
            raise PageTokenError
        return cls(AsOf.from_bytes(payload[_LAYOUT.size :]), offset)


def _mac(secret: bytes, query: bytes, payload: bytes) -> bytes:
    message = _PURPOSE + hashlib.sha256(query).digest() + payload
    return hmac.digest(secret, message, "sha256")[:_MAC_BYTES]
