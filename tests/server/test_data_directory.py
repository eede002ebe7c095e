# SPDX-License-Identifier: Apache-2.0
"""The data directory: private, one owner, sockets with short paths."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from taximeter_server.data_directory import SOCKET_PATH_BYTES_MAX, DataDirectory, write_private_file
from taximeter_server.errors import DataDirectoryError, DataDirectoryInUseError

_LOCK_AND_WAIT = """
import sys
from pathlib import Path
from taximeter_server.data_directory import DataDirectory
directory = DataDirectory(Path(sys.argv[1]), runtime_parent=Path(sys.argv[1]).parent)
print("locked", flush=True)
sys.stdin.read()
"""


def mode_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_directory_and_files_are_private(tmp_path: Path) -> None:
    """The directory is 0700 and what is in it 0600, whatever the umask."""
    before = os.umask(0)
    try:
        with DataDirectory(tmp_path / "parent" / "data", runtime_parent=tmp_path) as directory:
            write_private_file(directory.path / "file", b"content")
            modes = [mode_of(directory.path), mode_of(directory.store), mode_of(directory.path / "file")]
    finally:
        os.umask(before)

    assert modes == [0o700, 0o700, 0o600]


def test_second_owner_is_told_who_the_first_is(tmp_path: Path) -> None:
    """A directory in use is refused with the pid of its owner."""
    with (
        DataDirectory(tmp_path / "data", runtime_parent=tmp_path),
        pytest.raises(DataDirectoryInUseError, match=f"pid {os.getpid()}"),
    ):
        DataDirectory(tmp_path / "data", runtime_parent=tmp_path)


def test_lock_goes_with_its_owner(tmp_path: Path) -> None:
    """A killed owner leaves nothing that has to be cleaned up."""
    command = [sys.executable, "-c", _LOCK_AND_WAIT, str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "locked\n"
        with pytest.raises(DataDirectoryInUseError):
            DataDirectory(tmp_path / "data", runtime_parent=tmp_path)
        owner.kill()

    DataDirectory(tmp_path / "data", runtime_parent=tmp_path).close()


def test_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    """A directory with other content that others may enter is refused, and its mode stays."""
    foreign = tmp_path / "home"
    foreign.mkdir(mode=0o755)
    (foreign / "letter").touch()

    with pytest.raises(DataDirectoryError, match="chmod 700"):
        DataDirectory(foreign, runtime_parent=tmp_path)
    assert mode_of(foreign) == 0o755


def test_empty_directory_is_made_private(tmp_path: Path) -> None:
    """A directory that was just made for the server becomes private."""
    (tmp_path / "data").mkdir(mode=0o755)

    DataDirectory(tmp_path / "data", runtime_parent=tmp_path).close()

    assert mode_of(tmp_path / "data") == 0o700


def test_file_in_the_way_is_reported(tmp_path: Path) -> None:
    """A data directory that is a file is a clear error."""
    (tmp_path / "data").touch()

    with pytest.raises(DataDirectoryError, match="File exists"):
        DataDirectory(tmp_path / "data", runtime_parent=tmp_path)


@pytest.mark.parametrize("length", [1, 60, 200])
def test_sockets_can_be_bound_however_long_the_path(tmp_path: Path, length: int) -> None:
    """A socket's path always fits the kernel, and a private directory holds it."""
    path = tmp_path / ("d" * length)
    with DataDirectory(path, runtime_parent=tmp_path) as directory:
        socket_path = directory.socket_path("store.sock")
        assert len(os.fsencode(socket_path)) <= SOCKET_PATH_BYTES_MAX
        assert mode_of(socket_path.parent) == 0o700
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(socket_path))
        socket_path.unlink()

    outside = socket_path.parent if path not in socket_path.parents else None
    assert outside is None or not outside.exists()


def test_one_directory_has_one_socket_directory(tmp_path: Path) -> None:
    """The next owner of a long path finds the sockets of the one before."""
    path = tmp_path / ("d" * 200)
    found = []
    for _ in range(2):
        with DataDirectory(path, runtime_parent=tmp_path) as directory:
            found.append(directory.socket_path("store.sock"))

    assert found[0] == found[1]


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    """write_private_file() replaces what was there and leaves nothing beside it."""
    for content in (b"first", b"second"):
        write_private_file(tmp_path / "file", content)

        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_owner_left_in_overflow_is_removed(tmp_path: Path) -> None:
    """Files that did not fit into a memory that is gone take no room from the next owner."""
    with DataDirectory(tmp_path / "data", runtime_parent=tmp_path) as directory:
        left = directory.overflow / "reports" / "duckdb_temp_1.tmp"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"x")

    with DataDirectory(tmp_path / "data", runtime_parent=tmp_path) as directory:
        assert not directory.overflow.exists()
