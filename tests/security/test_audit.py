# SPDX-License-Identifier: Apache-2.0
"""The audit of dependencies: a finding fails it, a registry that does not answer is named and fails nothing."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FINDING = {
    "id": 1,
    "url": "https://example.com/advisory",
    "title": "A hole",
    "severity": "high",
    "vulnerable_versions": "*",
    "cwe": [],
    "cvss": {"score": 0, "vectorString": None},
}
PACKAGE = "fastify"

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")


@contextmanager
def registry(status: int, advisories: object) -> Iterator[str]:
    """Serves as npm's registry, with one answer for everything that is asked; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(advisories).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def audited(url: str, directory: Path) -> tuple[int, list[str]]:
    """Runs the audit where npm is the one tool that there is; gives its status and what it says at the end."""
    tools = directory / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "mktemp", "tee", "grep", "head", "tr", "rm", "env", "npm", "node", "sh"):
        (tools / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        [ROOT / "scripts" / "audit.sh"],
        env={
            "PATH": str(tools),
            "HOME": str(directory),
            "BIN": "none",
            "npm_config_registry": url,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return done.returncode, [
        line for line in (done.stdout + done.stderr).splitlines() if line.startswith("audit:")
    ]


def test_a_registry_that_does_not_answer_fails_nothing(tmp_path: Path) -> None:
    """Which check could not be made is said with the reason, as for a tool that is not there, and the audit passes."""
    with registry(405, {}) as url:
        status, said = audited(url, tmp_path)
    assert status == 0
    assert "audit: not made: Python: known holes: there is no pip-audit" in said
    node = [line for line in said if "Node: known holes" in line]
    assert node
    assert "405 Method Not Allowed" in node[0]
    assert said[-1] == "audit: nothing found by the checks that were made"


def test_a_finding_fails_the_audit(tmp_path: Path) -> None:
    """A hole that the registry knows fails the audit, and names the check."""
    with registry(200, {PACKAGE: [FINDING]}) as url:
        status, said = audited(url, tmp_path)
    assert status == 1
    assert said[-1] == "audit: failed: Node: known holes"


def test_an_answer_without_findings_passes(tmp_path: Path) -> None:
    """Where the registry answers that nothing is known, the check counts as made."""
    with registry(200, {}) as url:
        status, said = audited(url, tmp_path)
    assert status == 0
    assert [line for line in said if "Node" in line] == []
