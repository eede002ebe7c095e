# SPDX-License-Identifier: Apache-2.0
"""Addresses of servers: http://host:port, https://host:port, or host:port."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from taximeter.errors import ConfigurationError

_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    """Name or address, without brackets."""
    port: int
    """TCP port, 1 to 65535."""
    tls: bool
    """Whether to use TLS."""

    @property
    def target(self) -> str:
        """The address in the form that gRPC takes."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address cannot leave this machine."""
        return _is_loopback(self.host)

    def __str__(self) -> str:
        """Writes the address as a URL."""
        return f"{'https' if self.tls else 'http'}://{self.target}"


def parse_address(text: str) -> Address:
    """Reads an address. Without a scheme it means plain text on this machine and TLS elsewhere.

    Raises ConfigurationError when it is none.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "", text.strip()
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad(text) from error
    if scheme not in {"", "http", "https"} or not host or parts.username is not None:
        raise _bad(text)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise _bad(text)
    tls = scheme == "https" or (not scheme and not _is_loopback(host))
    port = _DEFAULT_PORT.get(scheme) if port is None else port
    if not port:
        raise _bad(text)
    return Address(host, port, tls)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bad(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r} is no address of a server: use http://host:port, https://host or host:port"
    )
