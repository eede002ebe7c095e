# SPDX-License-Identifier: Apache-2.0
"""Holds in flight while server and store are killed and answers are lost: nothing is admitted beyond the limit."""

import random
import threading
import time

import pytest
from faults.hold_callers import FORGOTTEN_TTL_S, HoldCallers, Seen
from faults.kill_loop import CUT_S, Killer, Victim, wait_until, wait_until_settled
from server.api import Api

from harness.load import open_channel
from harness.server_process import ServerProcess

VICTIMS = [Victim.SERVER, Victim.STORE, Victim.BOTH]
BETWEEN_KILLS_S = (0.5, 1.5)


def run(
    server: ServerProcess,
    attempts: int,
    *,
    callers: int,
    limit: int,
    used_share: float,
    victims: list[Victim],
    is_cutting: bool,
    piece: int | None = None,
) -> Seen:
    """Kill each victim while callers hold, and check what is left.

    piece: of a wide run, in which all attempts are made; else nobody begins another after the last kill.
    """
    draw = random.Random(f"{attempts} {is_cutting} {piece}")
    calling = HoldCallers(
        server.address,
        server.admin_key,
        "holds/team",
        limit=limit,
        callers=callers,
        # Longer than any server is away; but what a cut forgets may be that a hold was released.
        kept_ttl_s=5 if is_cutting else 600,
        used_share=used_share,
    )
    calling.put_limit()
    with open_channel(server.address) as channel, Killer(server, draw, is_cutting=is_cutting) as killer:
        api = Api(channel, server.admin_key)
        # Settings are not journaled: they are as durable as the store.
        time.sleep(CUT_S if is_cutting else 0)
        # What a cut forgets is free early, so then only the end can be exact.
        thread = threading.Thread(target=calling.run, args=(attempts,), kwargs={"is_watched": not is_cutting})
        thread.start()
        for victim in victims:
            time.sleep(draw.uniform(*BETWEEN_KILLS_S))
            killer.kill(victim, api)
        time.sleep(draw.uniform(*BETWEEN_KILLS_S))
        if piece is None:
            calling.stop()
        thread.join()
        wait_until_settled(api)
    seen = calling.seen
    assert seen.over == []

    def is_free() -> bool:
        return calling.status() == (seen.posted_tokens, 0)

    # What callers forgot ends by time alone.
    wait_until(
        is_free, limit_s=FORGOTTEN_TTL_S + 30, what=f"{seen.posted_tokens} are posted, {calling.status()}"
    )
    calling.close()
    return seen


WIDE_ATTEMPTS = 50_000
"""Of one piece of a wide run."""
WIDE_PIECES = 20


@pytest.mark.timeout(120)
def test_kills_and_lost_answers_admit_nothing_beyond_the_limit(returning_server: ServerProcess) -> None:
    """However often server and store are killed, used + held stays below the limit, and at the end nothing is held."""
    seen = run(
        returning_server, 100_000, callers=16, limit=120, used_share=0.01, victims=VICTIMS, is_cutting=False
    )

    assert seen.failures > 0, "no caller noticed: nothing was in flight when it was killed"
    assert min(seen.placed, seen.denied, seen.looks) > 20, seen


@pytest.mark.timeout(120)
def test_store_that_loses_holds_keeps_every_record_of_them(returning_server: ServerProcess) -> None:
    """Records whose holds the store has lost with its last two seconds are counted once, and nothing stays held."""
    victims = [Victim.BOTH, Victim.STORE]
    run(returning_server, 100_000, callers=16, limit=10**9, used_share=1, victims=victims, is_cutting=True)


@pytest.mark.wide
@pytest.mark.timeout(600)
@pytest.mark.parametrize("piece", range(WIDE_PIECES))
def test_a_million_attempts_admit_nothing_beyond_the_limit(
    returning_server: ServerProcess, piece: int
) -> None:
    """Of a million attempts by 64 callers, through hundreds of kills, none is admitted beyond the limit."""
    seen = run(
        returning_server,
        WIDE_ATTEMPTS,
        callers=64,
        limit=900,
        used_share=0.001,
        victims=VICTIMS * 4,
        is_cutting=False,
        piece=piece,
    )

    assert seen.placed + seen.denied == WIDE_ATTEMPTS
    assert min(seen.denied, seen.looks, seen.failures) > 100, seen
