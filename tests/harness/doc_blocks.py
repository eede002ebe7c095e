# SPDX-License-Identifier: Apache-2.0
"""Finds the code blocks of a Markdown file and runs them as a reader would.

A `python` block is a program of its own. In a `console` block each line that begins with `$ ` is a command (it goes
on after a final backslash), and what follows up to the next command is its output, where `...` stands for anything;
without output only success counts. All blocks of one file run in order in one directory. A block is left out when
the line above it says `<!-- not run: REASON -->`.
"""

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK_TIMEOUT_S = 50
RUN_LANGUAGES = ("python", "console")
# Commands that would build, serve or reach other machines; what they do has tests of its own.
NOT_RUN = (
    "apt-get",
    "cargo",
    "cd",
    "docker",
    "git",
    "go",
    "grpcurl",
    "make",
    "mvn",
    "node",
    "npm",
    "pip",
    "pytest",
    "taximeter-server serve",
)
_FENCE = re.compile(
    r"(?P<above>^[^\n]*\n)?^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_NOT_RUN_COMMENT = re.compile(r"<!-- not run: \S.*-->")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class BlockFailedError(AssertionError):
    """A block does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: language is the word after the fence, line is where its text begins, counted from 1."""

    language: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block and the output that the page shows, empty when it shows none."""

    line: str
    output: str


def find_blocks(markdown: str) -> Iterator[Block]:
    """Yield the blocks that are to be run."""
    for found in _FENCE.finditer(markdown):
        is_left_out = _NOT_RUN_COMMENT.search(found["above"] or "")
        if found["language"] in RUN_LANGUAGES and not is_left_out:
            text = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
            yield Block(found["language"], text, markdown.count("\n", 0, found.start("text")) + 1)


def find_commands(text: str) -> Iterator[Command]:
    """Yield the commands of a console block."""
    joined = text.replace("\\\n", " ")
    for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        yield Command(line.strip(), output)


def run_blocks(
    path: Path, *, directory: Path, environment: Mapping[str, str], replace: Mapping[str, str]
) -> int:
    """Run the blocks of a file; returns how many there were. Raises BlockFailedError for the first that fails.

    directory: where they run. replace: what stands in the page and what to run instead, such as the address.
    """
    blocks = list(find_blocks(path.read_text()))
    for block in blocks:
        text = block.text
        for shown, real in replace.items():
            text = text.replace(shown, real)
        try:
            _run_block(Block(block.language, text, block.line), directory, environment)
        except (BlockFailedError, subprocess.TimeoutExpired) as error:
            raise BlockFailedError(f"{path.name}:{block.line}: {error}") from None
    return len(blocks)


def _run_block(block: Block, directory: Path, environment: Mapping[str, str]) -> None:
    if block.language == "python":
        _run([sys.executable, "-W", "error", "-c", block.text], directory, environment)
        return
    for command in find_commands(block.text):
        if command.line.startswith(NOT_RUN):
            continue
        output = _run(["bash", "-euo", "pipefail", "-c", command.line], directory, environment)
        if command.output.strip() and not doctest.OutputChecker().check_output(
            command.output, output, _FLAGS
        ):
            raise BlockFailedError(f"$ {command.line}\nshown:\n{command.output}\nreal:\n{output}")


def _run(arguments: list[str], directory: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        arguments,
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BlockFailedError(f"exit status {done.returncode}: {arguments[-1]}\n{done.stdout}{done.stderr}")
    return done.stdout
