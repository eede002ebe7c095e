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
from taximeter_server.identities import parse_identities

if TYPE_CHECKING:
    from pathlib import Path

POLL_INTERVAL_SECONDS = 1.0
FILE_BYTES_MAX = 1 << 20
_SETTINGS = ("tls_cert", "tls_key", "tls_client_ca", "identities")

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

    def load(self) -> Access:
        """Read all files. Raises ConfigError, which names the setting and the file."""
        self._contents = {name: self._read(name) for name in self._paths}
        return self._make(self._contents)

    def run(self, stop: threading.Event, apply: Callable[[Access], None]) -> None:
        """Hand over what has changed until stop is set; meant for a thread of its own."""
        last_problem = ""
        while not stop.wait(POLL_INTERVAL_SECONDS):
            try:
                contents = {name: self._read(name) for name in self._paths}
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
                changed = [name for name in contents if contents[name] != self._contents[name]]
                apply(access)
                self._contents = contents
                _log.info("changed files are in force for new connections", settings=changed)

    def _make(self, contents: dict[str, bytes]) -> Access:
        identities = _native.Identities(
            parse_identities(contents.get("identities", b""), str(self._paths.get("identities", "none")))
        )
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
