# SPDX-License-Identifier: Apache-2.0
"""The public keys that sign tokens (JWKS): a file, or a URL that is asked again as keys are replaced."""

import json
import time
import urllib.request
from http import HTTPStatus
from pathlib import Path

import structlog

from taximeter_server.errors import ConfigError

REFRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""Between two attempts at least, also while tokens name keys that are not known."""
STALE_SECONDS = 86_400.0
"""Keys that could not be confirmed for so long are trusted no longer."""
FETCH_TIMEOUT_SECONDS = 5.0
BYTES_MAX = 1 << 20
NO_KEYS = b'{"keys":[]}'

_log = structlog.get_logger(__name__)


class TokenKeys:
    """The newest keys of one place. The monotonic clock decides when to ask again."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._is_url = "://" in place
        self._content = NO_KEYS
        self._confirmed_at: float | None = None
        self._asked_at: float | None = None
        self._is_failing = False
        self._is_missing_one = False

    def content(self, *, is_missing_one: bool) -> bytes:
        """Return the keys as JSON. is_missing_one: a token has named a key that is not among them.

        Raises ConfigError for a file that cannot be read. A URL that does not answer leaves the keys as they are, but
        not for ever.
        """
        if not self._is_url:
            return self._read()
        now = time.monotonic()
        self._is_missing_one |= is_missing_one
        wait_seconds = RETRY_SECONDS if self._is_missing_one or self._is_failing else REFRESH_SECONDS
        if self._asked_at is None or now - self._asked_at >= wait_seconds:
            self._asked_at, self._is_missing_one = now, False
            self._fetch(now)
        if self._confirmed_at is not None and now - self._confirmed_at > STALE_SECONDS:
            _log.error("the keys of tokens are too old; no token is accepted", keys=self.place)
            self._content, self._confirmed_at = NO_KEYS, None
        return self._content

    def _read(self) -> bytes:
        try:
            return Path(self.place).expanduser().read_bytes()
        except OSError as error:
            problem = f"token.keys: {self.place}: {error.strerror or 'cannot be read'}"
            raise ConfigError("identities", self.place, problem) from None

    def _fetch(self, now: float) -> None:
        try:
            opener = urllib.request.build_opener(_NoRedirects)
            with opener.open(self.place, timeout=FETCH_TIMEOUT_SECONDS) as answer:
                content = answer.read(BYTES_MAX + 1)
                is_good = (
                    answer.status == HTTPStatus.OK and len(content) <= BYTES_MAX and _is_key_set(content)
                )
            problem = "not a JWKS of at most 1 MiB"
        except (OSError, ValueError) as error:
            is_good, problem = False, str(error)
        if is_good:
            self._content, self._confirmed_at = content, now
        elif not self._is_failing:
            _log.error(
                "the keys of tokens cannot be fetched; those known stay", keys=self.place, problem=problem
            )
        self._is_failing = not is_good


def _is_key_set(content: bytes) -> bool:
    document = json.loads(content)
    return isinstance(document, dict) and isinstance(document.get("keys"), list)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from the named place or not at all."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""
