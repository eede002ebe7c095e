# SPDX-License-Identifier: Apache-2.0
"""Records that are applied together: each is new, a repetition, or wrong for itself, and none is lost in part."""

import secrets
import struct
from collections.abc import Sequence

from faults.conftest import ApiOf
from faults.kill_loop import wait_until_settled
from faults.recorder import TENANT, partition_key
from native.records import uuid_v7
from server.api import Api

from harness.ledger_oracle import find_ledger_problems, find_quota_problems, put_high_limits
from harness.load import RecordMaker, Sent, Tally
from harness.server_process import ServerProcess
from harness.store_process import StoreProcess
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import usage_pb2
from taximeter_server.ledger import partition_of

SIBLING = "acme/sales"
"""In the same partition as TENANT."""

STRANGER = next(
    name for name in map("stranger{}".format, range(999)) if partition_of(name) > partition_of(TENANT)
)
"""In a partition that comes behind it."""


def outcomes(api: Api, sent: Sequence[Sent]) -> list[str]:
    """Record all in one batch; returns "new", "duplicate", or the error's message, for each."""
    batch = pb.RecordBatchRequest(records=[one.record for one in sent])
    results = api.call(api.metering.RecordBatch, batch).results
    assert len(results) == len(sent)
    return [
        result.error.message
        if result.HasField("error")
        else "duplicate"
        if result.response.duplicate
        else "new"
        for result in results
    ]


def check_totals(api: Api, sent: Sequence[Sent]) -> None:
    """Reports and quotas say what was sent, each record once."""
    tally = Tally(
        sent={one.seq: one for one in sent},
        acknowledged={one.seq: pb.DURABILITY_COMMITTED for one in sent},
    )
    problems = find_ledger_problems(api, tally) + find_quota_problems(api, tally, [TENANT, SIBLING])
    assert not problems, problems[:20]


def changed(one: Sent) -> Sent:
    """Return another record of the same id."""
    again = usage_pb2.UsageRecord()
    again.CopyFrom(one.record)
    again.usage.uncached_input_tokens += 1
    return Sent(again, 0, 0)


def test_new_records_are_recorded_beside_others(store_server: ServerProcess, api_of: ApiOf) -> None:
    """A batch with repetitions and conflicts records what is new in it, and the same batch again nothing."""
    api = api_of(store_server)
    put_high_limits(api, [TENANT, SIBLING])
    maker, beside = RecordMaker("mixed", [TENANT], seed=1), RecordMaker("beside", [SIBLING], seed=1)
    old, new = [maker.make() for _ in range(10)], [maker.make() for _ in range(20)]
    others = [beside.make() for _ in range(20)]

    assert outcomes(api, old) == ["new"] * 10
    assert outcomes(api, [*new[:10], *old, *others[:10]]) == ["new"] * 10 + ["duplicate"] * 10 + ["new"] * 10
    answers = outcomes(api, [*new[10:], *map(changed, old), *others[10:]])
    assert answers[:10] + answers[20:] == ["new"] * 20
    assert all("used before with another payload" in answer for answer in answers[10:20])
    check_totals(api, old + new + others)

    assert set(outcomes(api, [*new, *old, *others])) == {"duplicate"}
    check_totals(api, old + new + others)


def test_records_of_one_id_in_a_batch(store_server: ServerProcess, api_of: ApiOf) -> None:
    """The first one counts; what repeats it is a duplicate, and what differs a conflict."""
    api = api_of(store_server)
    put_high_limits(api, [TENANT, SIBLING])
    maker = RecordMaker("twice", [TENANT], seed=1)
    sent = [maker.make() for _ in range(6)]

    answers = outcomes(api, [*sent, sent[0], changed(sent[1])])

    assert answers[:7] == ["new"] * 6 + ["duplicate"]
    assert "used before with another payload" in answers[7]
    check_totals(api, sent)


def test_stream_that_others_append_to(
    store_server: ServerProcess, store: StoreProcess, api_of: ApiOf
) -> None:
    """Records find their place behind ids that another version's script has given out meanwhile."""
    api = api_of(store_server)
    put_high_limits(api, [TENANT, SIBLING])
    maker = RecordMaker("others", [TENANT], seed=1)
    sent = [maker.make() for _ in range(30)]
    outcomes(api, sent[:10])
    with store.client() as client:
        ((last, _),) = client.xrevrange(partition_key(), count=1)
        ms, seq = (int(part) for part in last.split(b"-"))
        client.execute_command("XSETID", partition_key(), f"{ms + 5_000}-{seq + 7}")
        outcomes(api, sent[10:20])
        ((last, _),) = client.xrevrange(partition_key(), count=1)
        assert last.split(b"-")[0] == b"%d" % (ms + 5_000)
    assert outcomes(api, sent[20:]) == ["new"] * 10
    check_totals(api, sent)


def test_damaged_stream_fails_its_partition_alone(
    store_server: ServerProcess, store: StoreProcess, api_of: ApiOf
) -> None:
    """What the same call applies to other partitions is recorded, and once; plain records and others."""
    api = api_of(store_server)
    put_high_limits(api, [TENANT, SIBLING, STRANGER])
    makers = RecordMaker("kept", [TENANT], seed=1), RecordMaker("refused", [STRANGER], seed=1)
    sent, failed = ([maker.make() for _ in range(10)] for maker in makers)
    key = partition_key(STRANGER)
    with store.client() as client:
        client.set(key, "planted")
        for first, last in ((0, 5), (5, 10)):
            # What a batch has twice is not plain.
            twice = [batch[:1] if first else [] for batch in (sent[first:], failed[first:])]
            answers = outcomes(api, [*sent[first:last], *twice[0], *failed[first:last], *twice[1]])
            count = last - first + len(twice[0])
            assert answers[:count] == ["new"] * 5 + ["duplicate"] * len(twice[0])
            assert set(answers[count:]) == {"a key in the store is not what it must be"}
            assert client.get(key) == b"planted"
        client.delete(key)
    check_totals(api, sent)
    assert set(outcomes(api, failed)) == {"new"}


def test_records_lost_together_are_given_back_each(
    store_server: ServerProcess, store: StoreProcess, api_of: ApiOf
) -> None:
    """Wherever the store's file ends after a kill, every record of a batch is there once, and known again."""
    api = api_of(store_server)
    put_high_limits(api, [TENANT, SIBLING])
    maker = RecordMaker("cut", [TENANT, SIBLING], seed=1)
    sent: list[Sent] = []
    for tenths in (0, 3, 7, 9):
        before_bytes = store.file_size_bytes()
        batch = [maker.make() for _ in range(50)]
        sent += batch
        with store.client() as client:
            before = client.xlen(partition_key())
            assert outcomes(api, batch) == ["new"] * 50
            # The archiver may have taken some away.
            assert client.xlen(partition_key()) <= before + 1
        grown_bytes = store.file_size_bytes() - before_bytes
        store.kill()
        store.cut(before_bytes + grown_bytes * tenths // 10)
        store.start()
        outcomes(api, batch)
        wait_until_settled(api, limit_s=60)
        assert set(outcomes(api, batch)) == {"duplicate"}, tenths
        check_totals(api, sent)


def test_marks_of_one_moment_lie_together(
    store_server: ServerProcess, store: StoreProcess, api_of: ApiOf
) -> None:
    """Marks of ids of one moment share a few hashes; each says what its own entry in the stream is."""
    api = api_of(store_server)
    put_high_limits(api, [TENANT, SIBLING])
    maker = RecordMaker("moment", [TENANT], seed=1)
    with store.client() as client:
        entries: list[tuple[bytes, dict[bytes, bytes]]] = []
        while not entries:
            # The archiver may have been faster.
            for name in client.keys("*:dedup:d*"):
                client.delete(name)
            moment_ms = client.time()[0] // 64 * 64_000
            batch = [dated(maker.make(), moment_ms + number % 64) for number in range(50)]
            assert outcomes(api, batch) == ["new"] * 50
            entries = client.xrevrange(partition_key(), count=1)
        names = client.keys("*:dedup:d*")
        marks = [mark for name in names for mark in client.hgetall(name).values()]
    ((last, fields),) = entries
    ms, last_seq = (int(part) for part in last.split(b"-"))
    places = {struct.unpack("<QQ", mark[-16:]): mark[:16] for mark in marks}

    assert sorted(places) == [(ms, seq) for seq in range(last_seq - 49, last_seq + 1)]
    assert 1 < len(names) <= 8
    fingerprints_at = [fields[b"b"].index(places[place]) for place in sorted(places)]
    assert fingerprints_at == sorted(fingerprints_at)


def dated(one: Sent, id_ms: int) -> Sent:
    """Return the same with an id of an instant, and tokens of its own."""
    one.record.record_id = uuid_v7(id_ms, rest=secrets.randbits(60))
    one.record.usage.uncached_input_tokens = secrets.randbits(20)
    return one
