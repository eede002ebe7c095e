# SPDX-License-Identifier: Apache-2.0
"""TLS from the front: who speaks it is served, who does not is told, and files may change under a running server."""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from security.conftest import TlsFiles
from server.api import Api
from server.waiting import eventually

from harness.certificates import Authority
from harness.server_process import ServerFailedError, ServerProcess, scripts_directory
from taximeter.v1 import access_service_pb2
from taximeter_server.access_files import AccessFiles
from taximeter_server.config import load_config
from taximeter_server.errors import ConfigError

FreshServer = Callable[..., ServerProcess]
WAIT_SECONDS = 60
WHO_AM_I = access_service_pb2.WhoAmIRequest()


def shake_hands(server: ServerProcess, files: TlsFiles, **settings: Any) -> ssl.SSLSocket:
    """Connect. settings: attributes of the client's context, and alpn. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=files.authority.pem.decode())
    context.set_alpn_protocols(settings.pop("alpn", ["h2"]))
    for name, value in settings.items():
        setattr(context, name, value)
    host, _, port = server.address.rpartition(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname="localhost")


def shown_serial(server: ServerProcess, files: TlsFiles) -> str:
    """Return the serial number of the certificate that a new connection is shown."""
    with shake_hands(server, files) as connection:
        return str((connection.getpeercert() or {})["serialNumber"])


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Files that the test may replace."""
    return TlsFiles.write(tmp_path)


def test_calls_are_served_over_tls(tls_server: ServerProcess, tls_files: TlsFiles) -> None:
    """A client that trusts the authority is served, here and behind the forwarder."""
    api = tls_files.connect(tls_server.address, tls_server.admin_key)

    assert api.call(api.access.WhoAmI, WHO_AM_I).role == access_service_pb2.ROLE_ADMIN


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_speak_http2(
    version: ssl.TLSVersion, tls_server: ServerProcess, tls_files: TlsFiles
) -> None:
    """Both versions are served, and both agree on HTTP/2."""
    settings = {"minimum_version": version, "maximum_version": version}
    with shake_hands(tls_server, tls_files, **settings) as connection:
        assert connection.selected_alpn_protocol() == "h2"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_refused(tls_server: ServerProcess, tls_files: TlsFiles) -> None:
    """Nothing below TLS 1.2 is spoken."""
    context = ssl.create_default_context(cadata=tls_files.authority.pem.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    host, _, port = tls_server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        pytest.raises(ssl.SSLError, match="ALERT"),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_other_protocols_are_refused_in_the_handshake(tls_server: ServerProcess, tls_files: TlsFiles) -> None:
    """A client that offers neither HTTP/2 nor HTTP/1.1 learns by a TLS alert that nothing else is spoken."""
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        shake_hands(tls_server, tls_files, alpn=["h3"])


@pytest.mark.parametrize("alpn", [[], ["http/1.1"]])
def test_clients_without_http2_get_http1(
    alpn: list[str], tls_server: ServerProcess, tls_files: TlsFiles
) -> None:
    """A client that does not ask for HTTP/2 may call over HTTP/1.1."""
    body = b"{}"
    with shake_hands(tls_server, tls_files, alpn=alpn) as connection:
        connection.sendall(
            b"POST /taximeter.v1.AccessService/WhoAmI HTTP/1.1\r\nhost: localhost\r\n"
            b"authorization: Bearer " + tls_server.admin_key.encode() + b"\r\n"
            b"content-type: application/json\r\ncontent-length: 2\r\n\r\n" + body
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()

        assert answer.status == http.HTTPStatus.OK
        assert json.loads(answer.read())["role"] == "ROLE_ADMIN"


@pytest.mark.parametrize(
    "first", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"GET / HTTP/1.1\r\n\r\n", b"\0" * 40]
)
def test_plaintext_to_the_tls_port_is_closed(first: bytes, tls_server: ServerProcess) -> None:
    """What does not begin with a TLS handshake is closed at once."""
    host, _, port = tls_server.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(first)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4_096):
                pass


def test_a_client_that_trusts_others_does_not_connect(tls_server: ServerProcess) -> None:
    """The certificate is the server's own: an authority that did not issue it does not vouch for it."""
    credentials = grpc.ssl_channel_credentials(Authority("somebody else").pem)
    api = Api(grpc.secure_channel(tls_server.address, credentials), tls_server.admin_key)

    assert api.fail(api.access.WhoAmI, WHO_AM_I)[0] is grpc.StatusCode.UNAVAILABLE


def test_command_line_connects_by_url_and_authority(
    tls_server: ServerProcess, tls_files: TlsFiles, tmp_path: Path
) -> None:
    """The authority comes from a variable or a profile; a server on this machine leaves its https URL."""
    ca_file = tmp_path / "authority.pem"
    ca_file.write_bytes(tls_files.authority.pem)
    profiles = tmp_path / "taximeter" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text(
        f'[over-tls]\nurl = "https://{tls_server.address}"\nkey = "{tls_server.admin_key}"\nca_file = "{ca_file}"\n'
    )
    profiles.chmod(0o600)
    environments = {
        "variables": {
            "TAXIMETER_URL": f"https://{tls_server.address}",
            "TAXIMETER_KEY": tls_server.admin_key,
            "TAXIMETER_CA_FILE": str(ca_file),
        },
        "profile": {"XDG_CONFIG_HOME": str(tmp_path), "TAXIMETER_PROFILE": "over-tls"},
        "data directory": {"TAXIMETER_DATA": str(tls_server.data_dir), "TAXIMETER_CA_FILE": str(ca_file)},
    }
    command = [str(scripts_directory() / "taximeter"), "whoami", "--output", "json"]
    found = {}
    for name, variables in environments.items():
        environment = {"HOME": str(tmp_path), **variables}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found[name] = json.loads(run.stdout or "{}").get("server_url", run.stderr)

    assert found == dict.fromkeys(environments, f"https://{tls_server.address}")


def test_new_certificate_is_shown_without_a_dropped_call(files: TlsFiles, fresh_server: FreshServer) -> None:
    """A replaced certificate is shown to new connections; calls on old ones go on, and none fails meanwhile."""
    server = fresh_server(environment=files.variables)
    api = files.connect(server.address, server.admin_key)
    old = shown_serial(server, files)
    failures: list[grpc.RpcError] = []
    done = threading.Event()

    def call_until_done() -> None:
        while not done.is_set():
            try:
                api.call(api.access.WhoAmI, WHO_AM_I)
            except grpc.RpcError as error:
                failures.append(error)

    caller = threading.Thread(target=call_until_done)
    caller.start()
    files.authority.server().write(files.cert.parent, "server")
    assert eventually(lambda: shown_serial(server, files) != old, WAIT_SECONDS)
    done.set()
    caller.join()

    assert failures == []


def test_a_broken_file_leaves_the_old_certificate(files: TlsFiles, fresh_server: FreshServer) -> None:
    """A file that cannot be used is named in the log and changes nothing; the next good one takes effect."""
    server = fresh_server(environment=files.variables)
    old = shown_serial(server, files)
    files.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert eventually(lambda: "what was read before stays" in server.log, WAIT_SECONDS)

    assert str(files.cert) in server.log
    assert shown_serial(server, files) == old

    files.authority.server().write(files.cert.parent, "server")
    assert eventually(lambda: shown_serial(server, files) != old, WAIT_SECONDS)


def garbage(path: Path) -> None:
    """Overwrite a file."""
    path.write_bytes(b"garbage")


def replace_key(path: Path) -> None:
    """Put the key of another certificate there."""
    path.write_bytes(Authority().server().key)


@pytest.mark.parametrize(
    ("setting", "spoil"),
    [
        ("tls_cert", Path.unlink),
        ("tls_cert", garbage),
        ("tls_key", garbage),
        ("tls_key", replace_key),
        ("tls_client_ca", garbage),
        ("identities", garbage),
    ],
)
def test_bad_files_are_named(setting: str, spoil: Callable[[Path], None], files: TlsFiles) -> None:
    """A file that cannot be used is refused with its path and the setting that names it."""
    path = getattr(files, setting.removeprefix("tls_"))
    spoil(path)
    config = load_config(files.settings, config_file=None, environ={"HOME": "/nowhere"})

    with pytest.raises(ConfigError) as caught:
        AccessFiles(config).load()

    assert (caught.value.key, caught.value.source) == (setting, str(path))


def test_a_server_does_not_start_with_a_bad_file(files: TlsFiles, tmp_path: Path) -> None:
    """The operator reads which file it is and what is wrong with it."""
    replace_key(files.key)
    server = ServerProcess(tmp_path / "data", environment=files.variables)

    with pytest.raises(ServerFailedError, match="is not the key of the certificate"):
        server.start()


@pytest.mark.wide
def test_a_slow_handshake_is_cut_off(tls_server: ServerProcess) -> None:
    """A client that connects and says nothing does not keep its connection."""
    host, _, port = tls_server.address.rpartition(":")
    with socket.create_connection((host, int(port)), 40) as connection:
        started = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - started > 5
