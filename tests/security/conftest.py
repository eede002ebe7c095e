# SPDX-License-Identifier: Apache-2.0
"""A server with TLS, and what it takes to reach it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from server.api import Api

from harness.certificates import Authority, Issued
from harness.server_process import ServerProcess

TRUST_DOMAIN = "spiffe://taximeter.test"
IDENTITIES = f"""
[[certificate]]
uri = "{TRUST_DOMAIN}/gateway/acme"
role = "meter"
tenants = ["acme"]

[[certificate]]
uri = "{TRUST_DOMAIN}/finance/*"
role = "read"
"""


@dataclass
class TlsFiles:
    """The files that a server with TLS is started with. All may be replaced."""

    authority: Authority
    cert: Path
    key: Path
    client_ca: Path
    identities: Path

    @classmethod
    def write(cls, directory: Path) -> "TlsFiles":
        """Make an authority and all files."""
        authority = Authority()
        cert, key = authority.server().write(directory, "server")
        files = cls(authority, cert, key, directory / "ca.pem", directory / "identities.toml")
        files.client_ca.write_bytes(authority.pem)
        files.identities.write_text(IDENTITIES)
        return files

    @property
    def settings(self) -> dict[str, str | None]:
        """Settings of a server that takes certificates or keys over TLS."""
        return {
            "tls_cert": str(self.cert),
            "tls_key": str(self.key),
            "tls_client_ca": str(self.client_ca),
            "tls_client_optional": "true",
            "identities": str(self.identities),
        }

    @property
    def variables(self) -> dict[str, str]:
        """The settings as variables of a server's environment."""
        return {f"TAXIMETER_{name.upper()}": str(value) for name, value in self.settings.items()}

    def connect(self, address: str, key: str = "", client: Issued | None = None) -> Api:
        """Return the API over TLS, called with a key or with a certificate."""
        credentials = grpc.ssl_channel_credentials(
            self.authority.pem,
            None if client is None else client.key,
            None if client is None else client.certificate,
        )
        return Api(grpc.secure_channel(address, credentials), key)


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Files that no test replaces."""
    return TlsFiles.write(tmp_path_factory.mktemp("tls-files"))


@pytest.fixture(scope="module")
def tls_server(tls_files: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes keys and client certificates over TLS."""
    directory = tmp_path_factory.mktemp("tls") / "data"
    with ServerProcess(directory, environment=tls_files.variables) as running:
        yield running
