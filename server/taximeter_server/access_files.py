# SPDX-License-Identifier: Apache-2.0
"""The files that say who may connect and who is who: read at the start, and again whenever they change.

A change takes effect for new connections; those that exist stay. What cannot be used changes nothing.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from taximeter_server import _native
from taximeter_server.config import Config
from taximeter_server.errors import ConfigError
from taximeter_server.identities import Identities, parse_identities
from taximeter_server.token_keys import NO_KEYS, TokenKeys

if TYPE_CHECKING:
    from pathlib import Path

POLL_INTERVAL_SECONDS = 1.0
FILE_BYTES_MAX = 1 << 20
_SETTINGS = ("tls_cert", "tls_key", "tls_client_ca", "identities")
_KEY_SET = "token.keys"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """What the port lets in. tls is None where it speaks plaintext."""

    tls: _native.Tls | None
    identities: _native.Identities


class AccessFiles:
    """Reads the files that the settings name."""

    def __init__(self, config: Config) -> None:
        self._client_optional = config.tls_client_optional
        self._paths: dict[str, Path] = {
            name: path for name in _SETTINGS if (path := getattr(config, name)) is not None
        }
        self._contents: dict[str, bytes] = {}
        self._token_keys: TokenKeys | None = None

    def load(self) -> Access:
        """Read all files. Raises ConfigError, which names the setting and the file."""
        self._contents = self._read_all(is_missing_key=False)
        return self._make(self._contents)

    def run(
        self,
        stop: threading.Event,
        *,
        apply: Callable[[Access], None],
        take_unknown_key: Callable[[], bool],
    ) -> None:
        """Hand over what has changed until stop is set; meant for a thread of its own.

        take_unknown_key: says whether a token named a key that is not known, since it was asked last.
        """
        last_problem = ""
        while not stop.wait(POLL_INTERVAL_SECONDS):
            try:
                contents = self._read_all(is_missing_key=take_unknown_key())
                access = None if contents == self._contents else self._make(contents)
            except ConfigError as error:
                # Once per problem; a certificate and its key cannot be replaced in the same instant.
                if str(error) != last_problem:
                    _log.error(
                        "a changed file cannot be used; what was read before stays", problem=str(error)
                    )
                last_problem = str(error)
                continue
            last_problem = ""
            if access is not None:
                changed = [name for name in contents if contents[name] != self._contents.get(name)]
                apply(access)
                self._contents = contents
                _log.info("changed files are in force for new connections", settings=changed)

    def _read_all(self, *, is_missing_key: bool) -> dict[str, bytes]:
        """Return the contents of all files, and of the keys that one of them names."""
        contents = {name: self._read(name) for name in self._paths}
        keys = self._parse(contents).keys
        if keys is None:
            return contents
        if self._token_keys is None or self._token_keys.place != keys:
            self._token_keys = TokenKeys(keys)
        return contents | {_KEY_SET: self._token_keys.content(is_missing_one=is_missing_key)}

    def _parse(self, contents: dict[str, bytes]) -> Identities:
        return parse_identities(contents.get("identities", b""), str(self._paths.get("identities", "none")))

    def _make(self, contents: dict[str, bytes]) -> Access:
        parsed = self._parse(contents)
        try:
            identities = _native.Identities(parsed.canonical_json, contents.get(_KEY_SET, NO_KEYS))
        except ValueError as error:
            raise ConfigError("identities", str(self._paths["identities"]), str(error)) from None
        if parsed.keys is not None and identities.token_key_count == 0:
            _log.warning("no key can verify tokens: none is accepted", keys=parsed.keys)
        if "tls_cert" not in contents:
            return Access(None, identities)
        try:
            tls = _native.Tls(
                certificate_pem=contents["tls_cert"],
                key_pem=contents["tls_key"],
                client_ca_pem=contents.get("tls_client_ca"),
                client_optional=self._client_optional,
                identities=identities,
            )
        except _native.TlsError as error:
            name, problem = error.args
            raise ConfigError(name, str(self._paths[name]), problem) from None
        return Access(tls, identities)

    def _read(self, name: str) -> bytes:
        path = self._paths[name]
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigError(name, str(path), error.strerror or "cannot be read") from None
        if len(content) > FILE_BYTES_MAX:
            raise ConfigError(name, str(path), "larger than 1 MiB")
        return content
