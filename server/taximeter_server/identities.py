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

from taximeter_server.errors import ConfigError, InvalidFieldsError
from taximeter_server.tenant_path import check_tenant

ROLES = ("admin", "meter", "read")
_TABLES = ("certificate",)


def parse_identities(content: bytes, source: str) -> bytes:
    """Return the canonical form, as the engine takes it. Raises ConfigError; source names the file."""
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("identities", source, f"not valid TOML: {error}") from None
    reader = _Reader(source)
    reader.check_names(document, _TABLES, "")
    rules = document.get("certificate", [])
    if not isinstance(rules, list):
        raise reader.problem("certificate", "must be tables, [[certificate]]")
    return json.dumps(
        {"certificates": [reader.certificate(rule, f"certificate[{at}]") for at, rule in enumerate(rules)]}
    ).encode()


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
