# SPDX-License-Identifier: Apache-2.0
"""Pages of lists. A token names the last item of its page and is bound by HMAC to the query that made it."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import TypeVar

from taximeter_server.errors import InvalidFieldsError, PageTokenError

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000

_MAC_BYTES = 16
_Item = TypeVar("_Item")


def page_size_of(asked: int, *, default: int = PAGE_SIZE_DEFAULT, maximum: int = PAGE_SIZE_MAX) -> int:
    """Return the number of items per page: 0 means default, more than maximum means maximum.

    Raises InvalidFieldsError for a negative one.
    """
    if asked < 0:
        raise InvalidFieldsError.of("page_size", "must not be negative")
    return min(asked or default, maximum)


class PageTokens:
    """Makes and opens tokens. All instances on one store share its key, so a token works on each of them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, binding: str, cursor: str) -> str:
        """Return a URL-safe token for cursor that only the query named by binding opens."""
        content = cursor.encode()
        return base64.urlsafe_b64encode(self._mac(binding, content) + content).decode().rstrip("=")

    def open(self, binding: str, token: str) -> str:
        """Return the cursor of a token. Raises PageTokenError unless seal() made it for binding."""
        try:
            raw = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise PageTokenError from None
        mac, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(binding, content)):
            raise PageTokenError
        return content.decode()

    def _mac(self, binding: str, content: bytes) -> bytes:
        # The length keeps binding and content apart.
        message = f"{len(binding)}:{binding}:".encode() + content
        return hmac.digest(self._key, message, hashlib.sha256)[:_MAC_BYTES]

    def page(
        self,
        items: Sequence[_Item],
        *,
        cursor_of: Callable[[_Item], str],
        binding: str,
        page_size: int,
        page_token: str,
    ) -> tuple[Sequence[_Item], str]:
        """Return the items of one page and the token of the next, "" on the last.

        items: all of them, in order. cursor_of: a text that names one item. Raises PageTokenError,
        InvalidFieldsError.
        """
        start = 0
        if page_token:
            after = self.open(binding, page_token)
            positions = (number for number, item in enumerate(items) if cursor_of(item) == after)
            start = next(positions, -1) + 1
            if start == 0:
                raise PageTokenError
        end = start + page_size_of(page_size)
        page = items[start:end]
        return page, self.seal(binding, cursor_of(page[-1])) if end < len(items) else ""
