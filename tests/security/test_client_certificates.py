# SPDX-License-Identifier: Apache-2.0
"""Client certificates: a URI in them says who calls, and only those that the operator names may connect."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from security.conftest import TRUST_DOMAIN, TlsFiles
from server.api import DENIED, METER, READ, record_request
from server.waiting import eventually

from harness.certificates import Authority, Issued
from harness.server_process import ServerProcess
from taximeter.v1 import access_service_pb2, tenant_service_pb2

FreshServer = Callable[..., ServerProcess]
GATEWAY = f"{TRUST_DOMAIN}/gateway/acme"
RECORD_ID = "certificates-0001"
WAIT_SECONDS = 60
WHO_AM_I = access_service_pb2.WhoAmIRequest()
LIST_TENANTS = tenant_service_pb2.ListTenantsRequest()


def alert_of(server: ServerProcess, files: TlsFiles, client: Issued | None, directory: Path) -> str:
    """Connect by hand. Returns the TLS alert that the server ends the connection with, "" for none."""
    context = ssl.create_default_context(cadata=files.authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    if client is not None:
        context.load_cert_chain(*client.write(directory, "client"))
    host, _, port = server.address.rpartition(":")
    try:
        with context.wrap_socket(
            socket.create_connection((host, int(port)), 10), server_hostname="localhost"
        ) as connection:
            # TLS 1.3 tells the client after its own part of the handshake.
            connection.recv(1)
    except ssl.SSLError as error:
        return str(error.reason)
    return ""


def test_the_uri_gives_role_and_tenants(tls_server: ServerProcess, tls_files: TlsFiles) -> None:
    """A caller without a key is who its certificate says, for hot calls and forwarded ones."""
    api = tls_files.connect(tls_server.address, client=tls_files.authority.client([GATEWAY]))
    key = api.call(api.access.WhoAmI, WHO_AM_I)

    assert (key.key_id, key.role, list(key.tenants)) == (GATEWAY, METER, ["acme"])
    api.call(api.metering.Record, record_request("acme/research", RECORD_ID, tokens=1))
    assert api.fail(api.metering.Record, record_request("globex", RECORD_ID, tokens=1)) == DENIED
    assert api.fail(api.tenants.ListTenants, LIST_TENANTS) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "ROLE_MISSING",
    )


def test_a_star_fits_any_rest(tls_server: ServerProcess, tls_files: TlsFiles) -> None:
    """One rule may name all callers below a path."""
    uri = f"{TRUST_DOMAIN}/finance/reports/monthly"
    api = tls_files.connect(tls_server.address, client=tls_files.authority.client([uri]))

    assert api.call(api.access.WhoAmI, WHO_AM_I).role == READ


def test_a_key_goes_before_the_certificate(tls_server: ServerProcess, tls_files: TlsFiles) -> None:
    """A call with a key is the key's, good or bad; the certificate only let it connect."""
    client = tls_files.authority.client([GATEWAY])
    admin = tls_files.connect(tls_server.address, tls_server.admin_key, client)
    wrong = tls_files.connect(tls_server.address, tls_server.admin_key[:-1], client)

    assert admin.call(admin.access.WhoAmI, WHO_AM_I).key_id != GATEWAY
    assert wrong.fail(wrong.access.WhoAmI, WHO_AM_I) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "CREDENTIALS_REQUIRED",
    )


REFUSED: dict[str, Callable[[Authority], Issued]] = {
    "two URIs": lambda authority: authority.client([GATEWAY, f"{TRUST_DOMAIN}/finance/reports"]),
    "no URI": lambda authority: authority.client([]),
    "other trust domain": lambda authority: authority.client(["spiffe://elsewhere.test/gateway/acme"]),
    "path beyond a rule": lambda authority: authority.client([f"{GATEWAY}/more"]),
    "expired": lambda authority: authority.client([GATEWAY], days=-2),
    "other authority": lambda _: Authority("somebody else").client([GATEWAY]),
    "certificate of a server": lambda authority: authority.server(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_certificates_are_refused_in_the_handshake(
    kind: str, tls_server: ServerProcess, tls_files: TlsFiles, tmp_path: Path
) -> None:
    """A certificate that says nobody whom the operator named ends the connection with a TLS alert."""
    client = REFUSED[kind](tls_files.authority)

    assert "ALERT" in alert_of(tls_server, tls_files, client, tmp_path)


def test_certificates_are_required_unless_optional(
    tls_files: TlsFiles, fresh_server: FreshServer, tmp_path: Path
) -> None:
    """With an authority for clients, one without a certificate does not connect, whatever key it has."""
    server = fresh_server(environment=tls_files.variables | {"TAXIMETER_TLS_CLIENT_OPTIONAL": "false"})
    api = tls_files.connect(server.address, server.admin_key)

    assert api.fail(api.access.WhoAmI, WHO_AM_I)[0] is grpc.StatusCode.UNAVAILABLE
    assert "REQUIRED" in alert_of(server, tls_files, None, tmp_path)


def test_a_caller_taken_out_of_the_file_is_refused_on_old_connections(
    fresh_server: FreshServer, tmp_path: Path
) -> None:
    """Who is no longer named is refused from then on, connected or not."""
    files = TlsFiles.write(tmp_path)
    server = fresh_server(environment=files.variables)
    api = files.connect(server.address, client=files.authority.client([GATEWAY]))
    api.call(api.access.WhoAmI, WHO_AM_I)

    files.identities.write_text(files.identities.read_text().replace("/gateway/acme", "/gateway/other"))

    def is_refused() -> bool:
        try:
            api.call(api.access.WhoAmI, WHO_AM_I)
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.UNAUTHENTICATED)
        return False

    assert eventually(is_refused, WAIT_SECONDS)
