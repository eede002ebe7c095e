# SPDX-License-Identifier: Apache-2.0
"""The settings of ``serve``: a flag wins over the environment, that over the config file, that over the default.

This is the only module that reads the environment. Every setting has one name: ``store_binary`` is the flag
``--store-binary``, the variable ``TAXIMETER_STORE_BINARY`` and the key ``store_binary`` of the TOML file.
"""

import ipaddress
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taximeter_server.errors import ConfigError

PORT_MAX = 65535
LISTEN_DEFAULT = "127.0.0.1:7460"
STORE_SCHEMES = ("unix", "redis")
LOG_FORMATS = ("auto", "console", "json")
ATTRIBUTE_SETS_DEFAULT = 1_000
ATTRIBUTE_SETS_MAX = 100_000
CONNECTIONS_MAX_MAX = 100_000
CALLS_MAX_MIN = 16
CALLS_MAX_MAX = 65_536
DAY_SECONDS = 86_400
INVOICE_GRACE_S_MAX = 30 * DAY_SECONDS
STRIPE_URL_DEFAULT = "https://api.stripe.com"
STRIPE_METER_EVENT_DEFAULT = "taximeter_usage"

ENVIRONMENT_PREFIX = "TAXIMETER_"


class _BadValueError(ValueError):
    """A text that a setting does not take; the message says what it takes."""


def parse_address(text: str) -> str:
    """Return ``HOST:PORT`` unchanged. An IPv6 host stands in brackets; port 0 picks a free one."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise _BadValueError("must be HOST:PORT, such as 127.0.0.1:7460")
    if not (
        port.isascii() and port.isdecimal() and len(port) <= len(str(PORT_MAX)) and int(port) <= PORT_MAX
    ):
        raise _BadValueError("the port must be 0 to 65535")
    return text


def is_loopback(address: str) -> bool:
    """Say whether HOST of ``HOST:PORT`` reaches this machine only."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_store(text: str) -> str:
    scheme = text.partition("://")[0]
    if scheme == "redis+cluster":
        raise _BadValueError("redis+cluster:// is not yet served")
    if "://" not in text or scheme not in STORE_SCHEMES:
        raise _BadValueError("must be redis://[USER:PASSWORD@]HOST:PORT[/DB] or unix://[USER:PASSWORD@]/PATH")
    try:
        parts = urlsplit(text)
        missing = not parts.path if scheme == "unix" else not parts.hostname or parts.port == 0
    except ValueError:
        missing = True
    if missing:
        # The value is not echoed: it may hold a password.
        raise _BadValueError("names no socket or host")
    return text


def _holds_password(url: str) -> bool:
    try:
        return urlsplit(url).password is not None or "pass" in urlsplit(url).query
    except ValueError:
        return True


def _parse_bool(text: str) -> bool:
    if text in {"true", "1", "yes"}:
        return True
    if text in {"false", "0", "no", ""}:
        return False
    raise _BadValueError("must be true or false")


def _parse_log_format(text: str) -> str:
    if text not in LOG_FORMATS:
        raise _BadValueError(f"must be one of {', '.join(LOG_FORMATS)}")
    return text


def _parse_count(at_least: int, at_most: int) -> Callable[[str], int]:
    """Return the parser of a whole number within bounds."""
    bounds = f"must be {at_least:,} to {at_most:,}"

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(at_most))):
            raise _BadValueError(f"{bounds}, in digits")
        if not at_least <= int(text) <= at_most:
            raise _BadValueError(bounds)
        return int(text)

    return parse


def _parse_stripe_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_local = parts.scheme == "http" and is_loopback(f"{parts.hostname}:{parts.port or 80}")
    except ValueError:
        is_local, parts = False, urlsplit("")
    if parts.username is not None or not parts.hostname or not (parts.scheme == "https" or is_local):
        # The key travels there.
        raise _BadValueError("must be https://HOST, or http://HOST:PORT of this machine")
    return text.rstrip("/")


def _parse_meter_event(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", text):
        raise _BadValueError("must be 1 to 100 of A-Z a-z 0-9 _ . -")
    return text


def _parse_path(text: str) -> Path:
    if not text:
        raise _BadValueError("must not be empty")
    return Path(text).expanduser().absolute()


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "data": _parse_path,
    "listen": parse_address,
    "store": _parse_store,
    "store_binary": _parse_path,
    "ledger": _parse_path,
    "allow_volatile": _parse_bool,
    "attribute_sets": _parse_count(1, ATTRIBUTE_SETS_MAX),
    "tls_cert": _parse_path,
    "tls_key": _parse_path,
    "tls_client_ca": _parse_path,
    "tls_client_optional": _parse_bool,
    "identities": _parse_path,
    "insecure": _parse_bool,
    "connections_max": _parse_count(1, CONNECTIONS_MAX_MAX),
    "connection_age_max_s": _parse_count(1, DAY_SECONDS),
    "calls_max": _parse_count(CALLS_MAX_MIN, CALLS_MAX_MAX),
    "no_reflection": _parse_bool,
    "insecure_webhooks": _parse_bool,
    "invoice_grace_s": _parse_count(0, INVOICE_GRACE_S_MAX),
    "invoice_issuer": _parse_path,
    "stripe_key_file": _parse_path,
    "stripe_webhook_secret_file": _parse_path,
    "stripe_url": _parse_stripe_url,
    "stripe_meter_event": _parse_meter_event,
    "log_format": _parse_log_format,
}
SETTINGS = tuple(_PARSERS)
"""Names of all settings, in the order in which help shows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, checked.

    store is None for the embedded one, ledger None for the one in data; runtime_parent holds sockets with short paths.
    attribute_sets is the most sets of attributes of a tenant and day.
    """

    data: Path
    listen: str = LISTEN_DEFAULT
    store: str | None = None
    store_binary: Path | None = None
    ledger: Path | None = None
    allow_volatile: bool = False
    attribute_sets: int = ATTRIBUTE_SETS_DEFAULT
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tls_client_optional: bool = False
    identities: Path | None = None
    insecure: bool = False
    connections_max: int = 1_000
    connection_age_max_s: int = 1_800
    calls_max: int = 1_024
    no_reflection: bool = False
    insecure_webhooks: bool = False
    invoice_grace_s: int = 3_600
    invoice_issuer: Path | None = None
    stripe_key_file: Path | None = None
    stripe_webhook_secret_file: Path | None = None
    stripe_url: str = STRIPE_URL_DEFAULT
    stripe_meter_event: str = STRIPE_METER_EVENT_DEFAULT
    log_format: str = "auto"
    runtime_parent: Path = Path(tempfile.gettempdir())

    def __repr__(self) -> str:
        """Leave the store's URL out: it may hold a password."""
        store = "embedded" if self.store is None else "external"
        return f"Config(data={str(self.data)!r}, listen={self.listen!r}, store={store})"


def load_config(
    flags: Mapping[str, str | None], *, config_file: str | None, environ: Mapping[str, str] | None = None
) -> Config:
    """Return the settings.

    flags: text by setting name, None where the flag was not given. config_file: path, None for none.
    environ: os.environ unless given. Raises ConfigError naming the key and the source of the bad value.
    """
    environment = os.environ if environ is None else environ
    file_values = _read_file(config_file or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG"))
    values: dict[str, Any] = {}
    for name, parse in _PARSERS.items():
        found = _find(name, flags, environment, file_values)
        if found is None:
            continue
        text, source = found
        if name == "store" and flags.get(name) is not None and _holds_password(text):
            raise ConfigError(
                name, source, "a password shows in lists of processes; use TAXIMETER_STORE or the config file"
            )
        try:
            values[name] = parse(text)
        except _BadValueError as error:
            raise ConfigError(name, source, str(error)) from None
    values.setdefault("data", _default_data(environment))
    values["runtime_parent"] = _runtime_parent(environment)
    config = Config(**values)
    _check_together(config)
    return config


def _find(
    name: str, flags: Mapping[str, str | None], environment: Mapping[str, str], file_values: Mapping[str, str]
) -> tuple[str, str] | None:
    """Return the winning text of a setting and where it came from."""
    flag = flags.get(name)
    if flag is not None:
        return flag, f"flag --{name.replace('_', '-')}"
    variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
    if variable in environment:
        return environment[variable], f"environment {variable}"
    if name in file_values:
        return file_values[name], "config file"
    return None


def _read_file(path: str | None) -> dict[str, str]:
    """Return the file's values as text. Raises ConfigError for a file or key that is not known."""
    if path is None:
        return {}
    try:
        with Path(path).expanduser().open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError("config", path, error.strerror or "cannot be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", path, f"not valid TOML: {error}") from None
    texts: dict[str, str] = {}
    for name, value in document.items():
        if name not in _PARSERS:
            raise ConfigError(name, path, f"no such setting; known are {', '.join(SETTINGS)}")
        if isinstance(value, bool):
            texts[name] = "true" if value else "false"
        elif isinstance(value, (str, int)):
            texts[name] = str(value)
        else:
            raise ConfigError(name, path, "must be a string, a whole number, or true or false")
    return texts


def _default_data(environment: Mapping[str, str]) -> Path:
    """Return where the command line of this machine's user looks for the admin key."""
    home = environment.get("HOME")
    return ((Path(home) if home else Path.home()) / ".local" / "share" / "taximeter").absolute()


def _runtime_parent(environment: Mapping[str, str]) -> Path:
    runtime = environment.get("XDG_RUNTIME_DIR") or ""
    if runtime.startswith("/") and Path(runtime).is_dir():
        return Path(runtime)
    return Path(tempfile.gettempdir())


def _check_together(config: Config) -> None:
    if config.store is not None and config.store_binary is not None:
        raise ConfigError("store_binary", "with store", "is for the embedded store; leave it or store out")
    if (config.tls_cert is None) != (config.tls_key is None):
        missing, given = ("tls_key", "tls_cert") if config.tls_key is None else ("tls_cert", "tls_key")
        raise ConfigError(missing, f"with {given}", "certificate and key go together")
    if config.tls_client_ca is not None and config.tls_cert is None:
        raise ConfigError(
            "tls_client_ca", "without tls_cert", "clients show certificates to a server with TLS"
        )
    if config.tls_client_optional and config.tls_client_ca is None:
        raise ConfigError(
            "tls_client_optional", "without tls_client_ca", "clients are not asked for certificates"
        )
    if config.stripe_webhook_secret_file is not None and config.stripe_key_file is None:
        raise ConfigError("stripe_webhook_secret_file", "without stripe_key_file", "there is no Stripe")
    if not is_loopback(config.listen) and config.tls_cert is None and not config.insecure:
        raise ConfigError(
            "listen",
            config.listen,
            "reaches beyond this machine, and keys would travel unencrypted; give --tls-cert and --tls-key, or put a"
            " TLS proxy in front and listen on loopback, or accept it with --insecure",
        )
