# SPDX-License-Identifier: Apache-2.0
"""The house rules, checked: see tests/harness/tidy_rules.py."""

import subprocess
from pathlib import PurePosixPath

import pytest

from harness.tidy_rules import FILE_LINES_MAX, FUNCTION_LINES_MAX, LINE_COLUMNS_MAX, ROOT, RULES, SPDX

NOT_OURS = (
    "third_party/",
    "clients/python/taximeter/third_party/",
    "LICENSE",
    "Cargo.lock",
    "constraints.txt",
)
GENERATED_SUFFIXES = (
    "_pb2.py",
    "_pb2.pyi",
    "_pb2_grpc.py",
    "_pb2_grpc.pyi",
    ".pb.go",
    "package-lock.json",
    "go.sum",
)

_LONG_PYTHON = "def much():\n" + "    pass\n" * FUNCTION_LINES_MAX
_LONG_RUST = "fn much() {\n    let _brace = (\"}\", '}'); // }\n" + "    a();\n" * FUNCTION_LINES_MAX + "}\n"

# Rule -> files that break it: (path, text).
BAD: dict[str, list[tuple[str, str]]] = {
    "spdx_first": [
        ("server/a.py", '"""No licence."""\n'),
        ("server/empty.py", ""),
        ("scripts/a.sh", f"#!/bin/sh\necho\n# {SPDX}\n"),
    ],
    "file_length": [
        ("server/a.py", "\n" * (FILE_LINES_MAX + 1)),
        ("native/src/a.lua", "\n" * (FILE_LINES_MAX + 1)),
    ],
    "line_length": [("native/src/a.rs", "// " + "x" * LINE_COLUMNS_MAX)],
    "function_length": [
        ("server/a.py", _LONG_PYTHON),
        ("server/a.py", "class A:\n    async " + _LONG_PYTHON.replace("\n", "\n    ")),
        ("native/src/a.rs", _LONG_RUST),
        ("native/src/a.rs", "impl A {\n    pub(crate) async " + _LONG_RUST + "}\n"),
    ],
    "no_leftovers": [("docs/a.md", "TODO: finish"), ("native/src/a.rs", "// FIXME later")],
    "no_machine_paths": [
        ("docs/a.md", "cd /home/someone/taximeter"),
        ("server/a.py", 'PATH = "/root/data"'),
        ("README.md", "from https://pypi.org/simple"),
    ],
    "test_docstrings": [
        ("tests/server/test_a.py", "def test_a():\n    assert 1\n"),
        ("tests/test_a.py", 'class TestA:\n    async def test_a(self):\n        """no sentence"""\n'),
    ],
    "wall_clock": [
        ("server/taximeter_server/a.py", "now = time.time()"),
        ("clients/python/taximeter/a.py", "from datetime import datetime\nnow = datetime.now(UTC)"),
        ("native/src/a.rs", "let now = SystemTime::now();"),
        ("native/src/scripts/a.lua", "local now = os.time()"),
    ],
    "no_float_in_money": [
        ("server/taximeter_server/rate_card.py", "PRICE = 0.3"),
        ("server/taximeter_server/money.py", "x = float(text)"),
        ("clients/python/taximeter/money.py", "def f() -> float: ..."),
        ("server/taximeter_server/invoice.py", "units = picos / 1000"),
        ("native/pricing/src/a.rs", "let x: f64 = y;"),
        ("native/pricing/src/a.rs", "let x = 1.5;"),
        ("native/src/scripts/quota.lua", "local share = 0.5"),
    ],
    "unit_last": [
        ("server/taximeter_server/a.py", "def f(timeout: int = 3) -> None: ..."),
        ("clients/python/taximeter/a.py", "    total_cost: int\n"),
        ("server/taximeter_server/a.pyi", "    retry_delay: float | None\n"),
        ("native/src/a.rs", "struct A { poll_interval: Option<u64> }"),
    ],
    "file_named_for_concept": [("server/taximeter_server/utils.py", ""), ("native/src/helpers.rs", "")],
}

# Files that a hasty version of some rule would complain about.
GOOD: list[tuple[str, str]] = [
    ("scripts/a.py", f"#!/usr/bin/env python3\n# {SPDX}\n"),
    ("server/taximeter_server/clock.py", f"# {SPDX}\nimport time\nNOW = time.time_ns()\n"),
    (
        "server/taximeter_server/money.py",
        f'# {SPDX}\n"""0.3 as text."""\nA = "0.3"\nB = ROOT / "x"\nC = 7 // 2\n',
    ),
    ("server/taximeter_server/a.py", f"# {SPDX}\ntimeout_ms: int = 3\nWAIT = 0.01\ncost: Decimal\n"),
    ("server/taximeter_server/a.py", f'# {SPDX}\n"""time.time is banned; timeout: int too."""\n'),
    (
        "native/pricing/src/a.rs",
        f"// {SPDX}\n//! 0.3 and f64.\nfn a(x: &T) -> i64 {{ x.0.1 + (0..10).sum() }}\n",
    ),
    ("native/src/a.rs", f"// {SPDX}\ntrait A {{ fn f(&self); }}\n" + "const B: i64 = 0;\n" * 100),
    (
        "docs/a.md",
        "The data is in ~/.local/share/taximeter or /var/lib/taximeter, see example.com/home/page.\n",
    ),
]


def repository_files() -> list[PurePosixPath]:
    """Every file of ours that is or is about to be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    ours = [name for name in names if not name.startswith(NOT_OURS) and not name.endswith(GENERATED_SUFFIXES)]
    return [PurePosixPath(name) for name in sorted(set(ours)) if (ROOT / name).is_file()]


@pytest.mark.parametrize("rule_name", RULES)
def test_repository_keeps_the_house_rules(rule_name: str) -> None:
    """Every file of the repository keeps every house rule."""
    problems = []
    for path in repository_files():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        problems += [f"{path}:{problem}" for problem in RULES[rule_name](path, text)]

    assert problems == [], "\n" + "\n".join(problems)


def test_every_rule_has_a_file_that_breaks_it() -> None:
    """No rule goes without a proof that it bites."""
    assert set(RULES) == set(BAD)


@pytest.mark.parametrize(
    ("rule_name", "path", "text"),
    [
        pytest.param(rule_name, path, text, id=f"{rule_name}-{number}")
        for rule_name, files in BAD.items()
        for number, (path, text) in enumerate(files, 1)
    ],
)
def test_rule_bites(rule_name: str, path: str, text: str) -> None:
    """Each rule finds something in each file that was written to break it."""
    assert list(RULES[rule_name](PurePosixPath(path), text))


@pytest.mark.parametrize(("path", "text"), GOOD, ids=range(1, len(GOOD) + 1))
def test_rules_let_good_files_pass(path: str, text: str) -> None:
    """No rule complains about what only looks like a breach."""
    found = {name: list(rule(PurePosixPath(path), text)) for name, rule in RULES.items()}

    assert {name: problems for name, problems in found.items() if problems} == {}


def test_repository_has_files_to_check() -> None:
    """The list of files that the rules run over is the repository's and not empty."""
    assert {PurePosixPath("Makefile"), PurePosixPath("pyproject.toml")} <= set(repository_files())
