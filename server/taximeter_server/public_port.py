# SPDX-License-Identifier: Apache-2.0
"""The public port with the files that say whom it lets in."""

import threading
from pathlib import Path

from taximeter_server import _native
from taximeter_server.access_files import Access, AccessFiles
from taximeter_server.config import Config
from taximeter_server.errors import ListenError


class PublicPort:
    """Serves from its own threads as soon as it is made, until drained."""

    def __init__(self, engine: _native.Engine, config: Config, *, forward_socket: Path) -> None:
        """Raises ListenError, and ConfigError for a file that cannot be used."""
        self._files = AccessFiles(config)
        access = self._files.load()
        self._has_tls = access.tls is not None
        try:
            self._front = _native.Front(
                engine,
                listen=config.listen,
                forward_socket=str(forward_socket),
                tls=access.tls,
                identities=access.identities,
                calls_max=config.calls_max,
                connections_max=config.connections_max,
                connection_age_max_ms=config.connection_age_max_s * 1_000,
            )
        except OSError as error:
            raise ListenError(config.listen, error.strerror or str(error)) from error
        except ValueError as error:
            raise ListenError(config.listen, str(error)) from error

    @property
    def address(self) -> str:
        """Address as bound, "HOST:PORT"."""
        return self._front.address

    @property
    def local_address(self) -> str:
        """Address as the command line of this machine takes it: a URL where the port has TLS."""
        return f"https://{self.address}" if self._has_tls else self.address

    def run(self, stop: threading.Event) -> None:
        """Follow the files until stop is set; meant for a thread of its own."""

        def apply(access: Access) -> None:
            self._front.set_access(access.tls, access.identities)

        self._files.run(stop, apply=apply, take_unknown_key=self._front.take_unknown_token_key)

    def drain(self, *, timeout_ms: int) -> bool:
        """Stop accepting and let calls in flight finish. False when timeout_ms cut some off."""
        return self._front.drain(timeout_ms=timeout_ms)
