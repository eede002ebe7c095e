# SPDX-License-Identifier: Apache-2.0
"""The one directory that a server owns: its store, journal, ledger, sockets and admin key.

Invariants: the directory is 0700 and its files 0600; one process owns it at a time, by flock on ``lock``; the lock
goes with the process, so nobody has to clean up after a kill.
"""

import fcntl
import hashlib
import os
import shutil
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from taximeter_server.errors import DataDirectoryError, DataDirectoryInUseError

SOCKET_PATH_BYTES_MAX = 107
"""sockaddr_un.sun_path holds 108 bytes with the final NUL."""

_LONGEST_SOCKET_NAME = "store.sock"
_LOCK_NAME = "lock"


def make_private_directory(path: Path) -> None:
    """Create path as 0700 with its parents. Raises DataDirectoryError when others could reach what is in it.

    An existing directory that is empty or holds our lock is made private; any other with a wider mode is refused,
    because it may be someone's home or /tmp.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise DataDirectoryError(path, error.strerror or "cannot be created") from error
    if not stat.S_ISDIR(status.st_mode):
        raise DataDirectoryError(path, "is not a directory")
    if status.st_uid != os.geteuid():
        raise DataDirectoryError(
            path, f"belongs to user {status.st_uid}, not to user {os.geteuid()} who runs this"
        )
    if status.st_mode & 0o077 == 0:
        return
    if any(path.iterdir()) and not (path / _LOCK_NAME).exists():
        raise DataDirectoryError(
            path, f"others may enter it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 700 it"
        )
    path.chmod(0o700)


def write_private_file(path: Path, content: bytes) -> None:
    """Put content at path, whole or not at all, as 0600, on disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class DataDirectory:
    """A locked data directory. Use as a context manager, or call close()."""

    def __init__(self, path: Path, *, runtime_parent: Path, ledger: Path | None = None) -> None:
        """Create and lock path.

        runtime_parent: where sockets go when path is too long for one. ledger: its directory when it is not in path;
        servers on one store share it.

        Raises DataDirectoryInUseError when another process owns it, DataDirectoryError when it cannot be used.
        """
        make_private_directory(path)
        # One directory must have one name, or a leftover of it would not be recognised.
        self.path = path.resolve()
        self._runtime_parent = runtime_parent
        self._outside_directory: Path | None = None
        self._ledger = ledger
        self._lock_descriptor = self._lock()
        # Of a process that was killed: nobody else would ever remove it.
        shutil.rmtree(self.overflow, ignore_errors=True)

    def _lock(self) -> int:
        try:
            descriptor = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(self.path, error.strerror or "cannot be written") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).strip()
            os.close(descriptor)
            raise DataDirectoryInUseError(self.path, int(owner) if owner.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    @property
    def admin_key_file(self) -> Path:
        """File with the admin key made at first start."""
        return self.path / "admin.key"

    @property
    def address_file(self) -> Path:
        """File with the address on which the server listens, for the command line of this machine."""
        return self.path / "address"

    @property
    def store(self) -> Path:
        """Directory of the embedded store, created on first use."""
        return self._subdirectory("store")

    @property
    def journal(self) -> Path:
        """Directory of the engine's journal, created on first use."""
        return self._subdirectory("journal")

    @property
    def ledger(self) -> Path:
        """Directory of the ledger's files, created on first use."""
        if self._ledger is None:
            return self._subdirectory("ledger")
        make_private_directory(self._ledger)
        return self._ledger

    @property
    def overflow(self) -> Path:
        """Directory for what does not fit into memory, created by whoever needs it; empty at each start."""
        return self.path / "overflow"

    def socket_path(self, name: str) -> Path:
        """Return a path for a Unix socket, short enough for the kernel, in a directory only we can enter."""
        return self._socket_directory() / name

    def _subdirectory(self, name: str) -> Path:
        directory = self.path / name
        make_private_directory(directory)
        return directory

    def _socket_directory(self) -> Path:
        inside = self.path / "run"
        if len(os.fsencode(inside / _LONGEST_SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX:
            return self._subdirectory("run")
        # Named after the directory, so that the next owner finds and reuses it instead of leaving one behind.
        name = f"taximeter-{os.geteuid()}-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"
        outside = self._runtime_parent / name
        if len(os.fsencode(outside / _LONGEST_SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX:
            outside = Path("/tmp") / name  # noqa: S108 (0700, ours, and checked below)
        try:
            make_private_directory(outside)
        except DataDirectoryError as error:
            raise DataDirectoryError(self.path, f"no room for its sockets: {error}") from error
        self._outside_directory = outside
        return outside

    def close(self) -> None:
        """Unlock the directory and remove what stood outside it. Safe to call twice."""
        if self._lock_descriptor < 0:
            return
        if self._outside_directory is not None:
            _remove_if_empty(self._outside_directory)
        os.close(self._lock_descriptor)
        self._lock_descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        # Not there, or a socket is still in it: the next owner reuses it.
        return
