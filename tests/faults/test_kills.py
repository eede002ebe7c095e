# SPDX-License-Identifier: Apache-2.0
"""No acknowledged record is lost and none is counted twice, whoever is killed when."""

import pytest
from faults.kill_loop import SERVING_LIMIT_S, KillLoop, KillReport, Victim

from harness.ledger_oracle import archived_files
from harness.load import JOURNALED
from harness.server_process import ServerProcess

NORMAL_VICTIMS = [Victim.SERVER, Victim.STORE, Victim.BOTH] * 2
WIDE_COUNT = 30


def check_kills(server: ServerProcess, victims: list[Victim], *, seed: int, is_cutting: bool) -> KillReport:
    """Kill the victims in turn; nothing may be lost or doubled."""
    report = KillLoop(server, seed=seed, is_cutting=is_cutting).run(victims)
    print(f"{victims[-1].value} cut={is_cutting}: {report}")  # noqa: T201 (figures of a wide run)
    assert not report.problems, f"{report}\n" + "\n".join(report.problems[:20]) + f"\n{server.log[-4000:]}"
    assert report.tally.acknowledged, report
    is_hurt = report.tally.failures or JOURNALED in report.tally.acknowledged.values()
    assert is_hurt, "no call noticed: nothing was under load when it was killed"
    assert archived_files(server.data_dir), "the archiver never ran"
    return report


@pytest.mark.timeout(120)
@pytest.mark.parametrize("is_cutting", [False, True], ids=["whole", "cut"])
def test_acknowledged_records_survive_kills(returning_server: ServerProcess, *, is_cutting: bool) -> None:
    """Every acknowledged record is counted once after kill -9, also without the store's last two seconds."""
    check_kills(returning_server, NORMAL_VICTIMS, seed=7, is_cutting=is_cutting)


@pytest.mark.wide
@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_cutting", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize("victim", list(Victim), ids=lambda victim: victim.value)
def test_acknowledged_records_survive_many_kills(
    returning_server: ServerProcess, victim: Victim, *, is_cutting: bool
) -> None:
    """Thirty kills of one kind lose and double nothing; where nothing else runs, each is over in time."""
    report = check_kills(returning_server, [victim] * WIDE_COUNT, seed=11, is_cutting=is_cutting)
    assert max(report.recovery_s) <= SERVING_LIMIT_S, report
