# SPDX-License-Identifier: Apache-2.0
"""Where the server is and which key to send.

The first place that names a value wins: arguments, environment, profile, the data directory of a server here.

The environment is read here and nowhere else:

    TAXIMETER_URL               address of the server
    TAXIMETER_KEY               API key, "tx_..."
    TAXIMETER_CA_FILE           certificates to trust instead of the built-in ones, PEM
    TAXIMETER_CLIENT_CERT_FILE  certificate to show to the server, PEM
    TAXIMETER_CLIENT_KEY_FILE   private key of that certificate, PEM
    TAXIMETER_PROFILE           name of the profile, "default" if not set
    TAXIMETER_DATA              data directory of a server on this machine, where it leaves its address and admin key;
                                ~/.local/share/taximeter if not set
    XDG_CONFIG_HOME             parent of taximeter/profiles.toml, ~/.config if not set

A profile is a table of `~/.config/taximeter/profiles.toml`, which only its owner may read where it holds a key:

    [default]
    url = "https://taximeter.example.com"
    key = "tx_..."
    ca_file = "/etc/ssl/taximeter.pem"
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taximeter._address import Address, parse_address
from taximeter.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:7460"
_PROFILE_FIELDS = frozenset({"url", "key", "ca_file", "client_cert_file", "client_key_file"})


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything needed to reach a server."""

    address: Address
    """Host, port and whether to use TLS."""
    key: str = field(repr=False)
    """API key, "tx_..."; empty when none was found."""
    ca_pem: bytes | None = field(default=None, repr=False)
    """Certificates to trust instead of the built-in ones."""
    certificate_pem: bytes | None = field(default=None, repr=False)
    """Certificate to show to the server."""
    private_key_pem: bytes | None = field(default=None, repr=False)
    """Private key of that certificate."""


def resolve_connection(
    url: str | None = None,
    key: str | None = None,
    profile: str | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    ca_file: Path | str | None = None,
) -> Connection:
    """Finds out how to connect; the first place that names a value wins.

    A key never goes where nobody sent it: that of a profile goes to the URL of the profile, and the admin key
    that a server writes into its data directory is used only for a server on this machine. Raises
    ConfigurationError for a bad URL or a file that cannot be read.
    """
    settings = _read_profile(profile or environment.get("TAXIMETER_PROFILE"), environment)
    data_dir = _data_dir(environment)
    address = parse_address(
        url or environment.get("TAXIMETER_URL") or settings.get("url") or _local_url(data_dir) or DEFAULT_URL
    )
    if settings.get("url") and parse_address(settings["url"]) != address:
        settings = {}
    found_key = key or environment.get("TAXIMETER_KEY") or settings.get("key")
    if not found_key and address.is_loopback:
        found_key = _read_text(data_dir / "admin.key")

    def file(name: str) -> bytes | None:
        return _read_pem(environment.get(f"TAXIMETER_{name.upper()}") or settings.get(name))

    certificate_pem, private_key_pem = file("client_cert_file"), file("client_key_file")
    if (certificate_pem is None) != (private_key_pem is None):
        message = "client_cert_file and client_key_file go together: a certificate needs its private key"
        raise ConfigurationError(message)
    return Connection(
        address,
        (found_key or "").strip(),
        _read_pem(ca_file) or file("ca_file"),
        certificate_pem,
        private_key_pem,
    )


def _data_dir(environment: Mapping[str, str]) -> Path:
    named = environment.get("TAXIMETER_DATA")
    return Path(named) if named else _home(environment) / ".local" / "share" / "taximeter"


def _home(environment: Mapping[str, str]) -> Path:
    home = environment.get("HOME")
    return Path(home) if home else Path.home()


def _local_url(data_dir: Path) -> str | None:
    """Returns the address that a running server has left in its data directory."""
    address = (_read_text(data_dir / "address") or "").strip()
    # A server that listens everywhere is reached from this machine by loopback.
    scheme = "https://" if address.startswith("https://") else ""
    host_port = address.removeprefix(scheme)
    for everywhere, loopback in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if host_port.startswith(everywhere):
            return scheme + loopback + host_port.removeprefix(everywhere)
    return address or None


def _read_profile(name: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    parent = environment.get("XDG_CONFIG_HOME")
    path = (Path(parent) if parent else _home(environment) / ".config") / "taximeter" / "profiles.toml"
    text = _read_text(path)
    if text is None:
        if name is not None:
            message = f"profile {name!r} is asked for, but there is no {path}"
            raise ConfigurationError(message)
        return {}
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"{path} is not valid TOML: {error}"
        raise ConfigurationError(message) from error
    table = tables.get(name or "default", None if name else {})
    if not isinstance(table, dict):
        message = f"{path} has no profile [{name or 'default'}]"
        raise ConfigurationError(message)
    if "key" in table:
        _require_private(path)
    for field_name, value in table.items():
        if field_name not in _PROFILE_FIELDS or not isinstance(value, str):
            message = f"{path}: {field_name} of profile [{name or 'default'}] is not a known text setting"
            raise ConfigurationError(message)
    return table


def _require_private(path: Path) -> None:
    """Raises ConfigurationError for a file with a key that others may read."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        message = f"{path} holds a key and others may read it (mode {mode:04o}): chmod 600 it"
        raise ConfigurationError(message)


def _read_text(path: Path) -> str | None:
    """Returns the text of a file, None when it does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read {path}: {error}"
        raise ConfigurationError(message) from error


def _read_pem(name: Path | str | None) -> bytes | None:
    if not name:
        return None
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as error:
        message = f"cannot read {name}: {error}"
        raise ConfigurationError(message) from error
