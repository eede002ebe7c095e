# SPDX-License-Identifier: Apache-2.0
"""The operator's identities file: callers that need no key of the server's own.

[[certificate]]                             # the first that fits a client certificate's URI decides
uri = "spiffe://example.com/gateway/*"      # a * at the end fits any rest
role = "meter"
tenants = ["acme"]                          # reaches these and everything below; all when left out
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from taximeter_server.config import is_loopback
from taximeter_server.errors import ConfigError, InvalidFieldsError
from taximeter_server.tenant_path import check_tenant

ROLES = ("admin", "meter", "read")
ALGORITHMS = ("RS256", "ES256", "EdDSA")
_TABLES = ("certificate", "token")
_TOKEN_NAMES = ("issuer", "audience", "keys", "algorithms", "role_claim", "roles", "tenants_claim")


@dataclass(frozen=True, slots=True)
class Identities:
    """The file, checked. keys: URL or path of the keys that sign tokens, None where none are accepted."""

    canonical_json: bytes
    keys: str | None


def parse_identities(content: bytes, source: str) -> Identities:
    """Return what the engine takes. Raises ConfigError; source names the file."""
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("identities", source, f"not valid TOML: {error}") from None
    reader = _Reader(source)
    reader.check_names(document, _TABLES, "")
    rules = document.get("certificate", [])
    if not isinstance(rules, list):
        raise reader.problem("certificate", "must be tables, [[certificate]]")
    certificates = [reader.certificate(rule, f"certificate[{at}]") for at, rule in enumerate(rules)]
    token, keys = reader.token(document["token"]) if "token" in document else (None, None)
    return Identities(json.dumps({"certificates": certificates, "token": token}).encode(), keys)


class _Reader:
    """Checks values and says where in the file a bad one stands."""

    def __init__(self, source: str) -> None:
        self._source = source

    def problem(self, path: str, text: str) -> ConfigError:
        """Return the error that names the place."""
        return ConfigError("identities", self._source, f"{path}: {text}")

    def check_names(self, table: object, known: tuple[str, ...], path: str) -> Mapping[str, object]:
        """Return a table whose keys are all known."""
        if not isinstance(table, dict):
            raise self.problem(path, "must be a table")
        for name in table:
            if name not in known:
                where = f"{path}.{name}" if path else name
                raise self.problem(where, f"no such setting; known are {', '.join(known)}")
        return table

    def certificate(self, rule: object, path: str) -> dict[str, object]:
        """Return one rule for certificates."""
        table = self.check_names(rule, ("uri", "role", "tenants"), path)
        uri = table.get("uri")
        if not isinstance(uri, str) or "://" not in uri or "*" in uri[:-1]:
            raise self.problem(f"{path}.uri", "must be a URI, with a * at its end at most")
        return {
            "uri": uri,
            "role": self.role(table.get("role"), f"{path}.role"),
            "tenants": self.tenants(table.get("tenants", []), f"{path}.tenants"),
        }

    def token(self, table: object) -> tuple[dict[str, object], str]:
        """Return the rules for tokens, and where the keys are."""
        table = self.check_names(table, _TOKEN_NAMES, "token")
        keys = self.text(table, "keys")
        url = urlsplit(keys)
        if url.scheme and not (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.netloc))):
            raise self.problem("token.keys", "must be a file or an https:// URL")
        algorithms = table.get("algorithms", list(ALGORITHMS))
        if not isinstance(algorithms, list) or not algorithms or not set(algorithms) <= set(ALGORITHMS):
            raise self.problem("token.algorithms", f"must be some of {', '.join(ALGORITHMS)}")
        roles = table.get("roles")
        if not isinstance(roles, dict) or not roles:
            raise self.problem("token.roles", "must say which values of the claim give which role")
        has_tenants = "tenants_claim" in table
        return {
            "issuer": self.text(table, "issuer"),
            "audience": self.text(table, "audience"),
            "algorithms": algorithms,
            "role_claim": self.text(table, "role_claim").split("."),
            "roles": [[value, self.role(role, f"token.roles.{value}")] for value, role in roles.items()],
            "tenants_claim": self.text(table, "tenants_claim").split(".") if has_tenants else None,
        }, keys

    def text(self, table: Mapping[str, object], name: str) -> str:
        """Return a text of the table on tokens."""
        value = table.get(name)
        if not isinstance(value, str) or not value:
            raise self.problem(f"token.{name}", "must be a text")
        return value

    def role(self, value: object, path: str) -> str:
        """Return the name of a role."""
        if value not in ROLES:
            raise self.problem(path, f"must be one of {', '.join(ROLES)}")
        return str(value)

    def tenants(self, values: object, path: str) -> list[str]:
        """Return paths of tenants."""
        if not isinstance(values, list):
            raise self.problem(path, "must be a list of tenants")
        for at, value in enumerate(values):
            try:
                check_tenant(value if isinstance(value, str) else "", f"{path}[{at}]")
            except InvalidFieldsError as error:
                raise ConfigError("identities", self._source, str(error)) from None
        return list(values)
