# SPDX-License-Identifier: Apache-2.0
"""`make bench-clients`: what a client adds to a check, beside the bare generated stub in the same run and language."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness.server_process import ServerProcess  # noqa: E402 - the harness is found by the line above

PROGRAMS = {
    "clients/go": ["go", "run", "./internal/overhead"],
    "clients/python": [sys.executable, str(ROOT / "benchmarks" / "python_client.py")],
    "clients/rust": ["cargo", "run", "--locked", "--release", "--quiet", "--example", "overhead"],
}


def main() -> None:
    """Runs each program against one server."""
    with tempfile.TemporaryDirectory() as directory, ServerProcess(Path(directory) / "data") as server:
        for folder, command in PROGRAMS.items():
            subprocess.run(command, cwd=ROOT / folder, env=server.client_environment, check=True)


if __name__ == "__main__":
    main()
