# SPDX-License-Identifier: Apache-2.0
"""The house rules that no linter knows, as functions: a file's path and text in, what is wrong with it out.

Each rule looks only at the files it is about. tests/test_tidy.py runs them over the repository and proves
that each of them bites.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 400
"""About 300 is meant; from here on a file holds more than one concept."""
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX: int = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"][
    "pycodestyle"
]["max-line-length"]

SPDX = "SPDX-License-Identifier: Apache-2.0"
SOURCE_SUFFIXES = {".py", ".pyi", ".rs", ".lua", ".sh", ".proto", ".go", ".ts", ".mjs", ".js", ".java"}
PRODUCT_FOLDERS = ("server/", "clients/", "native/")
# What money and quantities go through, by words of the file's name.
MONEY_WORDS = {
    "money",
    "price",
    "pricing",
    "card",
    "invoice",
    "invoices",
    "billing",
    "quota",
    "overlay",
    "credits",
}
PATTERN_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "base"}
# A number with one of these words last says nothing about its unit.
UNITLESS_WORDS = "timeout|interval|duration|delay|ttl|window|latency|deadline|cost|amount|price"
REGISTRY_HOSTS = [
    "pypi.org",
    "pythonhosted.org",
    "crates.io",
    "registry.npmjs.org",
    "proxy.golang.org",
    "maven.org",
]
QUOTES_WHAT_IS_BANNED = {"tests/harness/tidy_rules.py", "tests/test_tidy.py"}

Rule = Callable[[PurePosixPath, str], Iterator[str]]


def spdx_first(path: PurePosixPath, text: str) -> Iterator[str]:
    """Every source file begins with the licence, after the #! line if it has one."""
    if path.suffix in SOURCE_SUFFIXES or path.name == "Makefile":
        lines = [line for line in text.splitlines()[:2] if not line.startswith("#!")]
        if not lines or SPDX not in lines[0]:
            yield f"1: the first line must say {SPDX}"


def file_length(path: PurePosixPath, text: str) -> Iterator[str]:
    """A file holds one concept."""
    count = len(text.splitlines())
    if path.suffix in {".py", ".rs", ".lua"} and count > FILE_LINES_MAX:
        yield f"1: {count} lines, at most {FILE_LINES_MAX}: split it by concept"


def line_length(path: PurePosixPath, text: str) -> Iterator[str]:
    """Lines fit a screen. Python's are ruff's to check."""
    if path.suffix in {".rs", ".lua", ".sh", ".proto"}:
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LINE_COLUMNS_MAX:
                yield f"{number}: {len(line)} columns, at most {LINE_COLUMNS_MAX}"


def function_length(path: PurePosixPath, text: str) -> Iterator[str]:
    """A function fits a screen."""
    functions = {".py": _python_functions, ".rs": _rust_functions}.get(path.suffix)
    for number, name, count in functions(text) if functions else ():
        if count > FUNCTION_LINES_MAX:
            yield f"{number}: {name} has {count} lines, at most {FUNCTION_LINES_MAX}"


def no_leftovers(path: PurePosixPath, text: str) -> Iterator[str]:
    """What is still to be done is done, or is an issue."""
    if str(path) in QUOTES_WHAT_IS_BANNED:
        return
    words = re.compile(r"\b(FIXME|TODO|XXX|HACK)\b")
    for number, line in enumerate(text.splitlines(), 1):
        if found := words.search(line):
            yield f"{number}: leftover {found[0]}"


def no_machine_paths(path: PurePosixPath, text: str) -> Iterator[str]:
    """Nothing depends on the machine or the package mirror it was written on."""
    hosts = "|".join(re.escape(host) for host in REGISTRY_HOSTS)
    banned = re.compile(r"(?<![\w.~}-])/(?:home|root|work|Users)/\w|https?://[\w.-]*(?:" + hosts + ")")
    if str(path) in QUOTES_WHAT_IS_BANNED:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if found := banned.search(line):
            yield f"{number}: {found[0]!r} is a path of one machine or a package registry"


def test_docstrings(path: PurePosixPath, text: str) -> Iterator[str]:
    """A test states its rule in one sentence."""
    if path.suffix == ".py" and path.parts[0] == "tests" and path.name.startswith("test_"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                docstring = ast.get_docstring(node) or ""
                if not docstring.split("\n\n")[0].rstrip().endswith((".", "?")):
                    yield f"{node.lineno}: {node.name} needs a docstring with the rule as a sentence"


def wall_clock(path: PurePosixPath, text: str) -> Iterator[str]:
    """Only a module named clock reads the wall clock."""
    if not str(path).startswith(PRODUCT_FOLDERS) or path.stem == "clock":
        return
    patterns = {
        ".py": r"\btime\.time(?:_ns)?\b|\b(?:datetime|date)\.(?:utcnow|now|today)\b",
        ".rs": r"\bSystemTime::now\b|\bUtc::now\b|\bLocal::now\b",
        ".lua": r"\bos\.(?:time|clock|date)\b",
    }
    if pattern := patterns.get(path.suffix):
        code = _without_comments_and_strings(path, text)
        for number, line in enumerate(code.splitlines(), 1):
            if found := re.search(pattern, line):
                yield f"{number}: {found[0]} reads the wall clock; take the time as an argument"


def no_float_in_money(path: PurePosixPath, text: str) -> Iterator[str]:
    """Money and quantities never meet a float."""
    in_pricing = str(path).startswith("native/pricing/")
    if not str(path).startswith(PRODUCT_FOLDERS) or not (
        in_pricing or MONEY_WORDS & set(path.stem.split("_"))
    ):
        return
    if path.suffix == ".py":
        yield from _python_floats(text)
    elif path.suffix in {".rs", ".lua"}:
        code = _without_comments_and_strings(path, text)
        for number, line in enumerate(code.splitlines(), 1):
            if found := re.search(r"\bf(?:32|64)\b|(?<![\w.])\d[\d_]*\.\d", line):
                yield f"{number}: {found[0]!r} is a float"


def unit_last(path: PurePosixPath, text: str) -> Iterator[str]:
    """A number that measures something ends in its unit."""
    if not str(path).startswith(PRODUCT_FOLDERS):
        return
    types = {".py": r"(?:int|float)\b", ".pyi": r"(?:int|float)\b", ".rs": r"(?:Option<)?[iu](?:\d+|size)\b"}
    if kind := types.get(path.suffix):
        declared = re.compile(rf"(?<!let )(?<!mut )\b((?:\w+_)?(?:{UNITLESS_WORDS})):\s*{kind}")
        code = _without_comments_and_strings(path, text)
        for number, line in enumerate(code.splitlines(), 1):
            if found := declared.search(line):
                yield f"{number}: {found[1]} needs its unit last, such as {found[1]}_ms or {found[1]}_picos"


def file_named_for_concept(path: PurePosixPath, _text: str) -> Iterator[str]:
    """A file is named after what it defines, never after a pattern."""
    if path.suffix in SOURCE_SUFFIXES and path.stem.lstrip("_") in PATTERN_NAMES:
        yield f"1: {path.name} names a pattern; name the concept"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        spdx_first,
        file_length,
        line_length,
        function_length,
        no_leftovers,
        no_machine_paths,
        test_docstrings,
        wall_clock,
        no_float_in_money,
        unit_last,
        file_named_for_concept,
    )
}


def _python_functions(text: str) -> Iterator[tuple[int, str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def _rust_functions(text: str) -> Iterator[tuple[int, str, int]]:
    code = _without_comments_and_strings(PurePosixPath("x.rs"), text)
    for found in re.finditer(r"\bfn\s+(\w+)[^;{]*\{", code):
        depth, end = 1, found.end()
        while depth and end < len(code):
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        first = code.count("\n", 0, found.start()) + 1
        yield first, found[1], code.count("\n", found.start(), end) + 1


def _python_floats(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield f"{node.lineno}: {node.value} is a float"
        elif isinstance(node, ast.Name) and node.id == "float":
            yield f"{node.lineno}: float"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _has_number(node):
            yield f"{node.lineno}: / makes a float; use // or divmod and say how it rounds"


def _has_number(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.Constant) and isinstance(side.value, int) for side in (node.left, node.right)
    )


_STRINGS_AND_COMMENTS = {
    ".rs": r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|"(?:\\.|[^"\\])*"|' + r"'(?:\\[^\n]|\\u\{\w+\}|[^\\'\n])'",
    ".lua": r"--\[\[.*?\]\]|--[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
    ".py": r'("""|' + r"''')" + r".*?\1|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|\#[^\n]*",
}
_STRINGS_AND_COMMENTS[".pyi"] = _STRINGS_AND_COMMENTS[".py"]


def _without_comments_and_strings(path: PurePosixPath, text: str) -> str:
    """Blank out what is not code; lines keep their numbers."""
    pattern = re.compile(_STRINGS_AND_COMMENTS[path.suffix], re.DOTALL)
    return pattern.sub(lambda found: '""' + "\n" * found[0].count("\n"), text)
