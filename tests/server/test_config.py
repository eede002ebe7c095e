# SPDX-License-Identifier: Apache-2.0
"""Settings: where each comes from, and that a bad one is refused by name."""

from pathlib import Path

import pytest

from taximeter_server.command_line import _parser, main
from taximeter_server.config import ENVIRONMENT_PREFIX, SETTINGS, Config, load_config
from taximeter_server.errors import ConfigError


def load(
    flags: dict[str, str | None] | None = None,
    environ: dict[str, str] | None = None,
    config_file: Path | None = None,
) -> Config:
    """Load with an environment that holds nothing else."""
    return load_config(
        flags or {},
        config_file=None if config_file is None else str(config_file),
        environ={"HOME": "/users/someone", **(environ or {})},
    )


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """A flag wins over the environment, that over the file, that over the default."""
    file = tmp_path / "config.toml"
    file.write_text(
        'listen = "127.0.0.1:3"\nlog_format = "json"\nallow_volatile = true\nattribute_sets = 7\n'
    )
    environ = {"TAXIMETER_LISTEN": "127.0.0.1:2", "TAXIMETER_LOG_FORMAT": "console"}

    config = load({"listen": "127.0.0.1:1"}, environ, file)

    assert config.listen == "127.0.0.1:1"
    assert config.log_format == "console"
    assert config.allow_volatile is True
    assert config.attribute_sets == 7
    assert config.insecure is False


def test_file_can_be_named_in_the_environment(tmp_path: Path) -> None:
    """TAXIMETER_CONFIG names the file where --config does not."""
    file = tmp_path / "config.toml"
    file.write_text('listen = "127.0.0.1:3"\n')

    assert load(environ={"TAXIMETER_CONFIG": str(file)}).listen == "127.0.0.1:3"


def test_default_directory_is_where_the_client_looks() -> None:
    """Without a setting the data is in ~/.local/share/taximeter."""
    assert load().data == Path("/users/someone/.local/share/taximeter")


def test_default_cap_of_attributes_is_a_thousand_sets() -> None:
    """Without a setting a tenant's day has a thousand sets of attributes."""
    assert load().attribute_sets == 1_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("listen", "8080"),
        ("listen", "127.0.0.1:65536"),
        ("listen", "127.0.0.1:-1"),
        ("listen", "127.0.0.1:٣"),
        ("store", "127.0.0.1:6379"),
        ("store", "redis://"),
        ("store", "redis+cluster://127.0.0.1:7000"),
        ("store", "http://127.0.0.1"),
        ("store", "unix://"),
        ("allow_volatile", "maybe"),
        ("log_format", "xml"),
        ("attribute_sets", "0"),
        ("attribute_sets", "100001"),
        ("attribute_sets", "1e3"),
        ("data", ""),
    ],
)
@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_bad_value_names_its_key_and_source(tmp_path: Path, name: str, text: str, source: str) -> None:
    """A value that a setting does not take is refused with the setting's name and where it came from."""
    file = tmp_path / "config.toml"
    file.write_text(f'{name} = "{text}"\n' if source == "file" else "")
    environ = {f"TAXIMETER_{name.upper()}": text} if source == "environment" else {}

    with pytest.raises(ConfigError) as caught:
        load({name: text} if source == "flag" else {}, environ, file)

    assert caught.value.key == name
    assert source in caught.value.source


@pytest.mark.parametrize("content", ["listne = '127.0.0.1:1'\n", "listen = 1\n", "listen = \n"])
def test_file_is_read_strictly(tmp_path: Path, content: str) -> None:
    """An unknown key, a wrong type and text that is no TOML are refused, not passed over."""
    file = tmp_path / "config.toml"
    file.write_text(content)

    with pytest.raises(ConfigError):
        load(config_file=file)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A config file that is named but not there is an error."""
    with pytest.raises(ConfigError, match="No such file"):
        load(config_file=tmp_path / "missing.toml")


@pytest.mark.parametrize("listen", ["0.0.0.0:7460", "[::]:7460", "10.1.2.3:7460", "example.com:7460"])
def test_plaintext_beyond_the_machine_needs_consent(listen: str) -> None:
    """Keys never travel unencrypted over a network by default."""
    with pytest.raises(ConfigError, match="--insecure"):
        load({"listen": listen})

    assert load({"listen": listen, "insecure": "true"}).listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:7460", "[::1]:7460", "127.8.8.8:1"])
def test_loopback_needs_no_consent(listen: str) -> None:
    """Listening on this machine alone is always allowed."""
    assert load({"listen": listen}).listen == listen


def test_password_of_the_store_is_not_shown() -> None:
    """Neither the settings' text nor an error repeats the store's URL."""
    assert "hunter2" not in repr(load(environ={"TAXIMETER_STORE": "redis://:hunter2@127.0.0.1:6379"}))
    with pytest.raises(ConfigError) as caught:
        load(environ={"TAXIMETER_STORE": "redis://user:hunter2@"})
    assert "hunter2" not in str(caught.value)


def test_every_setting_has_a_flag() -> None:
    """The command line offers exactly the settings, and the config file's name."""
    options = vars(_parser().parse_args(["serve"]))

    assert set(options) == {*SETTINGS, "config"}


def test_help_shows_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """`serve --help` describes every setting and says how to set it otherwise."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])

    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert [name for name in SETTINGS if f"--{name.replace('_', '-')}" not in shown] == []
    assert ENVIRONMENT_PREFIX in shown


def test_bad_setting_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong setting prints one line that names it, and the exit status is 2."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--listen", "nonsense"])

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(
        "taximeter-server: error: listen (flag --listen): must be HOST:PORT"
    )
