#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Resolves the dependencies of both distributions, of the builds and of the tools to their newest versions within
# the declared ranges, and rewrites constraints.txt. Called by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --upgrade pip
"$scratch/venv/bin/python" - >"$scratch/requirements.txt" <<'PYTHON'
import tomllib
from pathlib import Path

requirements = set()
for path in ("pyproject.toml", "clients/python/pyproject.toml"):
    project = tomllib.loads(Path(path).read_text())
    requirements |= {*project["build-system"]["requires"], *project["project"]["dependencies"]}
    for group in project.get("dependency-groups", {}).values():
        requirements |= set(group)
# hatchling needs editables for editable installs, and asks for it only in isolated builds.
requirements.add("editables")
# Our own distribution is no one's to resolve.
print("\n".join(sorted(r for r in requirements if not r.startswith("taximeter"))))
PYTHON
"$scratch/venv/bin/pip" install --quiet --requirement "$scratch/requirements.txt"
{
    head -2 constraints.txt
    "$scratch/venv/bin/pip" freeze --all
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" constraints.txt
git --no-pager diff --stat -- constraints.txt
