# SPDX-License-Identifier: Apache-2.0
"""The client finds its server, and sends a key only where it belongs."""

from pathlib import Path

import pytest

from taximeter import ConfigurationError, resolve_connection
from taximeter._address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address", "target"),
    [
        ("http://127.0.0.1:7460", Address("127.0.0.1", 7460, tls=False), "127.0.0.1:7460"),
        ("https://meter.example.com", Address("meter.example.com", 443, tls=True), "meter.example.com:443"),
        ("http://meter.example.com/", Address("meter.example.com", 80, tls=False), "meter.example.com:80"),
        ("meter.example.com:7460", Address("meter.example.com", 7460, tls=True), "meter.example.com:7460"),
        ("localhost:7460", Address("localhost", 7460, tls=False), "localhost:7460"),
        ("[::1]:7460", Address("::1", 7460, tls=False), "[::1]:7460"),
    ],
)
def test_addresses_are_read(text: str, address: Address, target: str) -> None:
    """A scheme decides about TLS; without one, only this machine is spoken to in plain text."""
    assert address == parse_address(text)
    assert target == parse_address(text).target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "grpc://localhost:1",
        "http://",
        "http://h:99999",
        "h:0",
        "http://u:p@h:1",
        "http://h:1/x",
        "h:x",
    ],
)
def test_other_texts_are_no_address(text: str) -> None:
    """An address that cannot be right is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="is no address"):
        parse_address(text)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with a profile and the data directory of a server."""
    config = tmp_path / ".config" / "taximeter"
    config.mkdir(parents=True)
    (config / "profiles.toml").write_text(
        '[default]\nurl = "http://127.0.0.1:1000"\nkey = "tx_default"\n'
        '[prod]\nurl = "https://meter.example.com"\nkey = "tx_prod"\n'
    )
    (config / "profiles.toml").chmod(0o600)
    data = tmp_path / ".local" / "share" / "taximeter"
    data.mkdir(parents=True)
    (data / "admin.key").write_text("tx_admin\n")
    return tmp_path


def found(
    home: Path, url: str | None = None, key: str | None = None, profile: str | None = None, **more: str
) -> tuple[str, str]:
    """Returns the URL and key that are found in an environment."""
    connection = resolve_connection(url, key, profile, {"HOME": str(home), **more})
    return str(connection.address), connection.key


def test_the_first_place_wins(home: Path) -> None:
    """Arguments win over the environment, the environment over the profile."""
    environment = {"TAXIMETER_URL": "http://127.0.0.1:2000", "TAXIMETER_KEY": "tx_environment"}

    assert found(home, "127.0.0.1:3000", "tx_argument", **environment) == (
        "http://127.0.0.1:3000",
        "tx_argument",
    )
    assert found(home, **environment) == ("http://127.0.0.1:2000", "tx_environment")
    assert found(home) == ("http://127.0.0.1:1000", "tx_default")
    assert found(home, profile="prod") == ("https://meter.example.com:443", "tx_prod")
    assert found(home, TAXIMETER_PROFILE="prod") == ("https://meter.example.com:443", "tx_prod")


def test_a_profile_key_stays_with_its_server(home: Path) -> None:
    """A key of a profile is not sent to another address than the profile's."""
    assert found(home, "https://other.example.com") == ("https://other.example.com:443", "")


def test_the_admin_key_stays_on_this_machine(home: Path) -> None:
    """The key that a server left in its data directory is sent to this machine only."""
    assert found(home, "localhost:7460") == ("http://localhost:7460", "tx_admin")
    assert found(home, "http://meter.example.com") == ("http://meter.example.com:80", "")


def test_the_admin_key_of_another_data_directory(home: Path, tmp_path: Path) -> None:
    """TAXIMETER_DATA names the data directory whose key is taken."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "admin.key").write_text("tx_elsewhere")

    assert found(home, "localhost:1", TAXIMETER_DATA=str(tmp_path / "elsewhere")) == (
        "http://localhost:1",
        "tx_elsewhere",
    )


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ("127.0.0.1:5000\n", "http://127.0.0.1:5000"),
        ("0.0.0.0:5000\n", "http://127.0.0.1:5000"),
        ("[::]:5000\n", "http://[::1]:5000"),
    ],
)
def test_the_running_server_is_found(tmp_path: Path, content: str, url: str) -> None:
    """Without any setting, the server that left its address in the data directory is asked, with its key."""
    (tmp_path / "address").write_text(content)
    (tmp_path / "admin.key").write_text("tx_admin")

    assert (url, "tx_admin") == found(tmp_path, TAXIMETER_DATA=str(tmp_path))


def test_without_anything_the_default_server_is_asked(tmp_path: Path) -> None:
    """No setting at all means the default address of a server on this machine, without a key."""
    assert found(tmp_path) == ("http://127.0.0.1:7460", "")


@pytest.mark.parametrize(
    ("content", "profile", "problem"),
    [
        ("[default", None, "not valid TOML"),
        ("[default]\nport = 1\n", None, "port of profile"),
        ("[default]\nurl = 1\n", None, "url of profile"),
        ("[default]\n", "prod", r"no profile \[prod\]"),
        (None, "prod", "profile 'prod' is asked for"),
        ('[default]\nca_file = "/no/such/file"\n', None, "cannot read /no/such/file"),
    ],
)
def test_a_bad_profile_is_named(
    tmp_path: Path, content: str | None, profile: str | None, problem: str
) -> None:
    """A profile that cannot be used is an error that names the file, never a silent default."""
    if content is not None:
        (tmp_path / "taximeter").mkdir()
        (tmp_path / "taximeter" / "profiles.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=problem):
        found(tmp_path, profile=profile, XDG_CONFIG_HOME=str(tmp_path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_profile_with_a_key_is_its_owners_alone(home: Path, mode: int) -> None:
    """A file with a key that others may read is refused, and the error says what to do."""
    profiles = home / ".config" / "taximeter" / "profiles.toml"
    profiles.chmod(mode)

    with pytest.raises(ConfigurationError, match=rf"profiles.toml holds a key .*{mode:04o}.*: chmod 600"):
        found(home)
    profiles.write_text('[default]\nurl = "127.0.0.1:1000"\n')
    assert found(home) == ("http://127.0.0.1:1000", "tx_admin")


def test_a_connection_does_not_show_its_key(home: Path) -> None:
    """Representations end up in logs, keys must not."""
    assert "tx_default" not in repr(resolve_connection(environment={"HOME": str(home)}))
