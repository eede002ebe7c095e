# SPDX-License-Identifier: Apache-2.0
"""Page tokens: where the next page begins, and proof that this server made the token for this very query."""

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass

from taximeter_server.errors import PageTokenError

_LAYOUT = struct.Struct(">BQQ")
_VERSION = 1
_MAC_BYTES = 16
_PURPOSE = b"taximeter report page token\0"


@dataclass(frozen=True, slots=True)
class PageToken:
    """as_of_time_ms: what the first page had seen. offset: rows on the pages before."""

    as_of_time_ms: int
    offset: int

    def encode(self, secret: bytes, query: bytes) -> str:
        """Return the URL-safe text, bound to query by secret."""
        payload = _LAYOUT.pack(_VERSION, self.as_of_time_ms, self.offset)
        return base64.urlsafe_b64encode(payload + _mac(secret, query, payload)).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str, secret: bytes, query: bytes) -> "PageToken":
        """Read what encode made. Raises PageTokenError for anything else."""
        try:
            raw = base64.b64decode(
                text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
            )
        except (UnicodeEncodeError, binascii.Error):
            raise PageTokenError from None
        payload, mac = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
        if len(payload) != _LAYOUT.size or not hmac.compare_digest(mac, _mac(secret, query, payload)):
            raise PageTokenError
        version, as_of_time_ms, offset = _LAYOUT.unpack(payload)
        if version != _VERSION:
            raise PageTokenError
        return cls(as_of_time_ms, offset)


def _mac(secret: bytes, query: bytes, payload: bytes) -> bytes:
    message = _PURPOSE + hashlib.sha256(query).digest() + payload
    return hmac.digest(secret, message, "sha256")[:_MAC_BYTES]
