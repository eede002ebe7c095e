# SPDX-License-Identifier: Apache-2.0
"""`taximeter spool` on the spool of a client, beside the client and after it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from clients.faulty_link import FaultyLink

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import InvalidArgumentError, Meter, SpoolSettings, Usage, new_record_id

FOREVER = 1_000_000_000


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Directory of a spool."""
    return tmp_path / "spool"


@pytest.fixture
def open_meter(server: ServerProcess, spool: Path) -> Iterator[Callable[..., Meter]]:
    """Opens clients of the spool, of which the server is away or not."""
    link = FaultyLink(server.address)

    def open_one(*, is_away: bool) -> Meter:
        link.connections_to_refuse = FOREVER if is_away else 0
        settings = SpoolSettings(directory=spool, start_delay_max_s=0)
        return Meter(f"http://{link.address}", key=server.admin_key, spool=settings)

    yield open_one
    link.close()


def record(meter: Meter, record_id: str, *, model: str = "gpt-5", timeout_s: float = 0) -> None:
    """Records durably."""
    meter.record(
        "spooled",
        Usage(visible_output_tokens=9),
        model=model,
        record_id=record_id,
        durable=True,
        timeout_s=timeout_s,
    )


def test_a_spool_is_looked_at_while_its_client_runs(
    taximeter: CommandLine, open_meter: Callable[..., Meter], spool: Path
) -> None:
    """What waits is shown with its size and age, whoever uses the spool; sending it is the client's alone."""
    with open_meter(is_away=True) as meter:
        record(meter, new_record_id())
        found = taximeter.json("spool", "status", str(spool))
        refused = taximeter("spool", "drain", str(spool), status=1)
        backlog_bytes = meter.spool_status().backlog_bytes

    assert found == {
        "backlog_bytes": backlog_bytes,
        "backlog_age_s": found["backlog_age_s"],
        "dead_letters": 0,
        "damaged": 0,
    }
    assert 0 <= found["backlog_age_s"] < 600
    assert "another process uses this spool" in refused.stderr


def test_a_spool_whose_client_is_gone_is_sent(
    taximeter: CommandLine, server: ServerProcess, open_meter: Callable[..., Meter], spool: Path
) -> None:
    """Drain sends what waits under its own ids, and leaves nothing."""
    record_ids = [new_record_id() for _ in range(3)]
    with open_meter(is_away=True) as meter:
        for record_id in record_ids:
            record(meter, record_id)
    drained = taximeter.json("spool", "drain", str(spool))
    after = taximeter.json("spool", "status", str(spool))

    assert drained == after
    assert (after["backlog_bytes"], after["backlog_age_s"]) == (0, 0)
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        assert [len(meter.explain_record(record_id, tenant="spooled")) for record_id in record_ids] == [1] * 3


def test_dead_letters_are_listed_put_back_and_removed(
    taximeter: CommandLine, open_meter: Callable[..., Meter], spool: Path
) -> None:
    """A letter says which record it is and why it was refused; put back it is refused again; removed it is gone."""
    record_id = new_record_id()
    with open_meter(is_away=False) as meter, suppress(InvalidArgumentError):
        record(meter, record_id, model="x" * 129, timeout_s=60)
    (listed,) = taximeter.json("spool", "dead-letters", "list", str(spool))["dead_letters"]
    put_back = taximeter.json("spool", "dead-letters", "retry", str(spool))
    waiting = taximeter.json("spool", "status", str(spool))
    drained = taximeter.json("spool", "drain", str(spool))
    kept = taximeter("spool", "dead-letters", "remove", str(spool), stdin="n\n", status=1)
    removed = taximeter.json("spool", "dead-letters", "remove", str(spool), "--yes")
    empty = taximeter("spool", "dead-letters", "list", str(spool)).stdout

    assert (listed["record_id"], listed["tenant"], listed["reason"]) == (
        record_id,
        "spooled",
        "FIELD_INVALID",
    )
    assert put_back == {"put_back": 1}
    assert (waiting["dead_letters"], waiting["backlog_bytes"] > 0) == (0, True)
    assert (drained["dead_letters"], drained["backlog_bytes"]) == (1, 0)
    assert "Nothing else has these records" in kept.stderr
    assert removed == {"removed": 1}
    assert "No record was refused." in empty
