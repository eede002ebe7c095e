# SPDX-License-Identifier: Apache-2.0
"""`make bench-clients`: what a client adds to a check, beside the bare generated stub in the same run and language."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness.server_process import ServerProcess  # noqa: E402 - the harness is found by the line above

JAVA = """
mvn --batch-mode --quiet -Dstyle.color=never test-compile dependency:build-classpath \\
    -Dmdep.outputFile=target/classpath.txt -Dmdep.includeScope=test
exec java -cp "target/classes:target/test-classes:$(cat target/classpath.txt)" com.taximeter.client.Overhead
"""
NODE = """
npm ci --ignore-scripts --prefer-offline --silent
npm run build --silent
exec node test/overhead.mjs
"""
PROGRAMS = {
    "clients/go": ["go", "run", "./internal/overhead"],
    "clients/java": ["sh", "-ec", JAVA],
    "clients/node": ["sh", "-ec", NODE],
    "clients/python": [sys.executable, str(ROOT / "benchmarks" / "python_client.py")],
    "clients/rust": ["cargo", "run", "--locked", "--release", "--quiet", "--example", "overhead"],
}


def main() -> None:
    """Runs each program against one server."""
    with tempfile.TemporaryDirectory() as directory, ServerProcess(Path(directory) / "data") as server:
        # The tools of .venv, such as buf.
        path = {"PATH": f"{ROOT / '.venv' / 'bin'}:{server.client_environment['PATH']}"}
        for folder, command in PROGRAMS.items():
            subprocess.run(command, cwd=ROOT / folder, env=server.client_environment | path, check=True)


if __name__ == "__main__":
    main()
