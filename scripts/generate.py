#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Generates the Python stubs of proto/taximeter/v1 into clients/python/taximeter/v1.

Deterministic: the same protos and the pinned tools give the same bytes. `--check` writes nothing and exits with 1
when the committed stubs differ from what the protos give.
"""

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = "taximeter/v1"
TARGET = ROOT / "clients" / "python" / PROTOS
# The tools decide the bytes, so other versions are refused.
PINS = {"grpcio-tools": "1.85.1", "mypy-protobuf": "5.1.0"}
SPDX = "# SPDX-License-Identifier: Apache-2.0\n"
PACKAGE_DOCSTRING = '"""Generated messages and stubs of the taximeter.v1 API; scripts/generate.py makes them."""\n'


def check_pins() -> None:
    """Exits when a tool is missing or not the pinned version."""
    for name, pinned in PINS.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if found != pinned:
            sys.exit(f"generate: needs {name} {pinned}, found {found}; install: pip install {name}=={pinned}")


def protoc(out: Path, plugins: list[str], protos: list[Path]) -> None:
    """Runs protoc with the plugins, each writing below `out`."""
    bin_dir = Path(sys.executable).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", "-Ithird_party/proto"]
    command += [f"--plugin=protoc-gen-{p}={bin_dir / f'protoc-gen-{p}'}" for p in plugins if p.startswith("mypy")]
    command += [f"--{plugin}_out={out}" for plugin in plugins]
    command += [proto.relative_to(ROOT).as_posix() for proto in protos]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)


def generate(out: Path) -> dict[str, bytes]:
    """Generates into `out`; returns the content of each file by its name."""
    protos = sorted((ROOT / "proto" / PROTOS).glob("*.proto"))
    services = [proto for proto in protos if proto.stem.endswith("_service")]
    protoc(out, ["python", "mypy"], protos)
    # Only files with services get a _pb2_grpc module: it would be empty for the others.
    protoc(out, ["grpc_python", "mypy_grpc"], services)
    files = {path.name: (SPDX + path.read_text()).encode() for path in sorted((out / PROTOS).iterdir())}
    files["__init__.py"] = (SPDX + PACKAGE_DOCSTRING).encode()
    return files


def main() -> None:
    """Generates and writes, or compares with --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed stubs, write nothing")
    arguments = parser.parse_args()
    check_pins()
    with tempfile.TemporaryDirectory() as scratch:
        files = generate(Path(scratch))
    present = {path.name: path.read_bytes() for path in TARGET.glob("*.py*")} if TARGET.exists() else {}
    if arguments.check:
        stale = sorted(name for name in files.keys() | present.keys() if files.get(name) != present.get(name))
        if stale:
            sys.exit("stale stubs, run scripts/generate.py: " + ", ".join(stale))
        return
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    for name, content in files.items():
        (TARGET / name).write_bytes(content)


if __name__ == "__main__":
    main()
