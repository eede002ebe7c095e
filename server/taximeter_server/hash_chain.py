# SPDX-License-Identifier: Apache-2.0
"""Hash chains: each entry's hash covers its content and the hash before it, so that no entry changes unnoticed."""

import hashlib
import json
from collections.abc import Mapping


def chain_hash(previous_hash: str, content: Mapping[str, object]) -> str:
    """Return the lower-case hex SHA-256 of previous_hash, "" for the first entry, and content in canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous_hash}\n{text}".encode()).hexdigest()
