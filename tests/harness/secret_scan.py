# SPDX-License-Identifier: Apache-2.0
"""Looks for secrets in what a server says: its logs, and the statuses with which it refuses calls.

Every status that a client of the tests' process receives, every error that a command prints and every log that is
written below the folder of the session is noted here, and looked at when the session ends.
"""

import hashlib
import re
from pathlib import Path

NEVER = {
    "an API key": re.compile(r"tx_[a-z0-9]{12}_[0-9A-Za-z]{20}"),
    "a bearer token": re.compile(r"[Bb]earer [\w.~+/=-]{12}"),
    "a password in a URL": re.compile(r"\w+://[^\s/:@]*:[^\s/@]+@"),
    "a webhook secret": re.compile(r"whsec_[\w+/=-]{12}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
}
"""What no text of the server may hold."""

NEVER_IN_A_STATUS = {
    "a traceback": re.compile(r"Traceback \(most recent"),
    "a name of the store": re.compile(r"\{tx:"),
    "a path of the server": re.compile(r"(?<![\w./:])/(?:tmp|home|root|usr|var|run)/\w"),
}
"""What a caller must not learn about the inside."""


class SecretScan:
    """The texts of a session, and the secrets that were made in it."""

    def __init__(self) -> None:
        self._statuses: set[str] = set()
        self._texts: set[str] = set()
        self._logs: set[Path] = set()
        self._secrets: dict[str, str] = {}

    def note_status(self, text: str) -> None:
        """Note the text of a status, with its details."""
        self._statuses.add(text)

    def note_text(self, text: str) -> None:
        """Note what a command has said of an error, which may name files of whoever ran it."""
        self._texts.add(text)

    def note_logs(self, folder: Path) -> None:
        """Note all logs below a folder, whatever wrote them."""
        self._logs |= set(folder.rglob("*.log"))

    def note_server(self, log_file: Path, data_dir: Path) -> None:
        """Note a running server: its logs are looked at, and nothing may say its passwords or hashes of its keys."""
        self._logs |= {log_file, data_dir / "store" / "store.log"}
        for name in ("admin.key", "store/operator.password"):
            file = data_dir / name
            if file.exists():
                secret = file.read_text().strip()
                self._secrets[secret] = name
                self._secrets[hashlib.sha256(secret.encode()).hexdigest()] = f"the hash of {name}"

    @property
    def text_count(self) -> int:
        """Texts that were noted."""
        return len(self._statuses) + len(self._texts) + len(self._logs)

    def findings(self) -> list[str]:
        """Return what was found where, without repeating it."""
        found = [
            f"{what} in the status {text[:60]!r}"
            for text in sorted(self._statuses)
            for what in self.secrets_in(text, is_status=True)
        ]
        found += [
            f"{what} in what a command said: {text[:60]!r}"
            for text in sorted(self._texts)
            for what in self.secrets_in(text, is_status=False)
        ]
        for log_file in sorted(self._logs):
            if log_file.exists():
                text = log_file.read_text(errors="replace")
                found += [f"{what} in {log_file}" for what in self.secrets_in(text, is_status=False)]
        return found

    def secrets_in(self, text: str, *, is_status: bool) -> list[str]:
        """Return what must not be in a text."""
        patterns = NEVER | (NEVER_IN_A_STATUS if is_status else {})
        found = [what for what, pattern in patterns.items() if pattern.search(text)]
        return found + [what for secret, what in self._secrets.items() if secret in text]


SESSION = SecretScan()
"""Of the tests that run in this process."""
