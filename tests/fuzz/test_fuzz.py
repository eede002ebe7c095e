# SPDX-License-Identifier: Apache-2.0
"""Nothing that reads what strangers send, or what a disk may have bent, falls over: short here, for minutes if wide."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.targets import (
    card_targets,
    csv_targets,
    journal_target,
    message_target,
    messages,
    resp_target,
    token_targets,
)
from server.api import connect

from harness.fuzzing import FellOverError, Target, fuzz
from harness.server_process import ServerProcess
from harness.store_process import StoreProcess

SEED = 20261122
NAMES = (
    *messages(),
    "rate card",
    "own prices",
    "list token",
    "report token",
    "server's cell",
    "client's cell",
    "journal",
    "store's replies",
)
SLOW = {"journal": 15, "rate card": 100, "store's replies": 100}
"""Inputs of a short run, where one takes long."""
COUNT = 200
DURATION_S = 20
"""Of one target in a wide run."""


@pytest.fixture(scope="module")
def targets(server: ServerProcess) -> Iterator[dict[str, Target]]:
    """All targets by name."""
    with (
        tempfile.TemporaryDirectory(prefix="tx") as name,
        StoreProcess(Path(name) / "store") as store,
        connect(server.address, server.admin_key) as api,
    ):
        replies, end = resp_target(Path(name))
        found = [message_target(method, api.channel, api.metadata) for method in messages()]
        found += [*card_targets(), *token_targets(), *csv_targets()]
        found += [journal_target(store, Path(name) / "journals"), replies]
        yield {target.name: target for target in found}
        end()


def test_every_target_is_run(targets: dict[str, Target]) -> None:
    """The list of names is that of the targets, and every corpus has something to bend."""
    assert set(targets) == set(NAMES)
    assert [name for name, target in targets.items() if not any(target.corpus)] == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_falls_over(name: str, targets: dict[str, Target], server: ServerProcess) -> None:
    """Some hundred bent inputs are each read or refused, and the server logs no defect."""
    count = SLOW.get(name, COUNT)

    assert fuzz(targets[name], seed=SEED, count=count) == count
    assert "call failed" not in server.log
    assert "panicked" not in server.log
    assert server.is_running


@pytest.mark.wide
@pytest.mark.timeout(DURATION_S * 6)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_falls_over_for_long(name: str, targets: dict[str, Target], server: ServerProcess) -> None:
    """The same for as long as a wide run has, from another seed."""
    assert fuzz(targets[name], seed=SEED + 1, duration_s=DURATION_S) > 0
    assert "call failed" not in server.log
    assert "panicked" not in server.log


def test_what_falls_over_is_found() -> None:
    """A reader that cannot stand a byte is found, with the input and how to get it again."""

    def fragile(data: bytes) -> None:
        if b"\xff" in data:
            raise KeyError("ff")

    with pytest.raises(FellOverError, match=r"fragile: input \d+ of seed 1: .*xff"):
        fuzz(Target("fragile", [b"abc", b"def"], fragile), seed=1, count=10_000)
