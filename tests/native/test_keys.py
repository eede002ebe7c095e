# SPDX-License-Identifier: Apache-2.0
"""What the engine leaves in the store and in the journal, byte for byte: other versions have to find it."""

import struct

import pytest
from native.conftest import NOON_MS, ClockedEngine
from native.records import TENANT, outcome, request, uuid_v7
from quota.engine_calls import put_limits
from quota.model_level import COST, REQUESTS, TOKENS

from harness.engine_process import EngineError
from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server import _native
from taximeter_server.ledger import partition_of

PARTITIONS = {
    "a": 48,
    "acme": 6,
    "acme/research": 6,
    "acme/research/alice": 6,
    "beta": 57,
    "tenant-42": 57,
    "0": 32,
    "x" * 64: 35,
}
DATELESS_ID = "a" * 16
DATED_ID = uuid_v7(NOON_MS)
FINGERPRINT = "c60bf9858a3ef6a45a8aeee9fa5a8a8a"
IDENTITIES = {
    ("{tx:6}:dedup:g515:1b4", DATELESS_ID): "a243fb82d38abac6ba055ab823bf713b",
    ("{tx:6}:dedup:d20607:a78", DATED_ID): "83e33e37461 5ed08372ee7684f2b1848".replace(" ", ""),
}
MARK = struct.Struct("<16sIqqIQQ")
"""Fingerprint, card version, occur time in nanoseconds, receive time in milliseconds, stream id."""
LEVEL = struct.Struct("<BB17Q")


def changing(names: set[str]) -> set[str]:
    """Return the keys that calls made; the others stand in every open store."""
    return {name for name in names if not name.endswith((":epochs", ":dedup_watermark"))}


def test_partitions_of_tenants_are_pinned(clocked: ClockedEngine) -> None:
    """A tenant's first segment decides its partition, the same one for the engine, the server and ever after."""
    for number, tenant in enumerate(PARTITIONS):
        outcome(clocked.engine, f"partition-of-{number:04}", tenant=tenant)
    found = clocked.keys("*:t:*")

    assert {tenant: partition_of(tenant) for tenant in PARTITIONS} == PARTITIONS
    assert {f"{{tx:{partition}}}:t:{tenant}" for tenant, partition in PARTITIONS.items()} <= found
    assert {name.partition(":ledger")[0] for name in clocked.keys("*:ledger")} == {
        f"{{tx:{partition}}}" for partition in PARTITIONS.values()
    }


def test_keys_of_an_open_store_are_pinned(clocked: ClockedEngine) -> None:
    """Opening notes an epoch for each partition, and the sweep of dedup marks its watermark; nothing else."""
    assert changing(clocked.keys()) == set()
    assert clocked.keys("*:epochs") == {
        f"{{tx:{number}}}:epochs" for number in range(_native.PARTITION_COUNT)
    }
    (epoch,) = clocked.client.lrange("{tx:0}:epochs", 0, -1)
    digits, last_id = epoch.decode().split()
    assert (int(digits) // 1_000_000, last_id) == (NOON_MS // 1_000, "0-0")
    while len(clocked.keys("*:dedup_watermark")) < _native.PARTITION_COUNT:
        pass
    day, moved_s = clocked.client.get("{tx:0}:dedup_watermark").split()
    assert (int(day), int(moved_s)) == (20607 - 40, NOON_MS // 1_000)


def test_keys_of_records_are_pinned(clocked: ClockedEngine) -> None:
    """A record leaves a mark, an entry and the counters of each level: UUIDv7 by day, other ids by generation."""
    for record_id in (DATELESS_ID, DATED_ID):
        assert outcome(clocked.engine, record_id) == "new"

    assert changing(clocked.keys()) == {
        "{tx:6}:ledger",
        "{tx:6}:dedup:g515:1b4",
        "{tx:6}:dedup:d20607:a78",
        "{tx:6}:attributes:20607:acme/research/alice",
        "{tx:6}:t:acme",
        "{tx:6}:t:acme/research",
        "{tx:6}:t:acme/research/alice",
    }
    entries = clocked.client.xrange("{tx:6}:ledger")
    for number, ((key, record_id), identity) in enumerate(IDENTITIES.items()):
        ((found_identity, mark),) = clocked.client.hgetall(key).items()
        fingerprint, version, occur_nanos, receive_ms, own_prices, *stream_id = MARK.unpack(mark)
        assert found_identity.hex() == identity
        assert (fingerprint.hex(), version, receive_ms, own_prices) == (FINGERPRINT, 1, NOON_MS, 0)
        assert 0 <= occur_nanos - NOON_MS * 10**6 < 10**6
        assert entries[number][0] == b"%d-%d" % tuple(stream_id)
        assert list(entries[number][1]) == [b"e"]
        assert record_id.encode() in entries[number][1][b"e"]


def test_counters_of_a_level_are_pinned(clocked: ClockedEngine) -> None:
    """Limits, the day's usage and the window stand at fixed places, money as pairs of 10^9."""
    put_limits(clocked.engine, "acme", {REQUESTS: 1_000_000_000, TOKENS: 10**15, COST: 2**63 - 1})
    outcome(clocked.engine, DATELESS_ID)
    clocked.engine.check_quota(pb.CheckQuotaRequest(tenant="acme", requests=3).SerializeToString())
    clocked.set_clock(NOON_MS + 2_000)
    clocked.engine.check_quota(pb.CheckQuotaRequest(tenant="acme", requests=4).SerializeToString())
    packed = clocked.client.get("{tx:6}:t:acme")
    second = NOON_MS // 1_000

    assert LEVEL.unpack(packed[: LEVEL.size]) == (
        *(1, 7, 1_000_000_000, 10**15, 9_223_372_036, 854_775_807),
        *(20607, 10, 0, 37_000_000),
        *(0, 0, 0),
        *(0, 0, 0),
        *(second + 2, 4, 7),
    )
    assert packed[LEVEL.size :] == struct.pack("<II", second, 3)


def test_all_keys_of_a_call_share_a_slot(clocked: ClockedEngine) -> None:
    """Every key that a tenant's calls touch carries the partition's hash tag, so a cluster serves each call."""
    outcome(clocked.engine, DATELESS_ID)
    outcome(clocked.engine, DATED_ID)
    put_limits(clocked.engine, TENANT, {TOKENS: 5})

    assert {name.partition(":ledger")[0].partition("}")[0] for name in changing(clocked.keys())} == {"{tx:6"}


def test_journal_frames_are_pinned(clocked: ClockedEngine) -> None:
    """A segment is a magic and frames of length, CRC-32C and note; a note of a record names where it stands."""
    outcome(clocked.engine, DATELESS_ID)
    (path,) = clocked.journal.glob("*.journal")
    data = path.read_bytes()
    notes, at = [], 8
    while at + 8 <= len(data) and (size := int.from_bytes(data[at : at + 4], "little")):
        body = data[at + 8 : at + 8 + size]
        assert int.from_bytes(data[at + 4 : at + 8], "little") == crc32c(body)
        notes.append(body)
        at += 8 + size
    ((stream_id, fields),) = clocked.client.xrange("{tx:6}:ledger")
    (applied,) = [note for note in notes if note[0] == 1]
    partition, _epoch, ms, seq = struct.unpack("<HQQQ", applied[1:27])

    assert (path.name, data[:8]) == ("0000000000000001.journal", b"TXJRNL01")
    assert (partition, b"%d-%d" % (ms, seq)) == (6, stream_id)
    assert applied[27:] == fields[b"e"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("key", "kind"),
    [("{tx:6}:t:acme", "hash"), ("{tx:6}:t:acme/research", "short"), ("{tx:6}:dedup:g515:1b4", "string")],
)
def test_planted_key_of_another_type_stops_the_call_before_it_writes(
    key: str, kind: str, clocked: ClockedEngine
) -> None:
    """A key that is not what it must be is STORE_CORRUPT, and nothing is counted; that a set was met is known."""
    if kind == "hash":
        clocked.client.hset(key, "a", "b")
    else:
        clocked.client.set(key, "x")
    before = clocked.keys()
    with pytest.raises(EngineError) as caught:
        clocked.engine.record(request(DATELESS_ID))

    assert (caught.value.code, str(caught.value)) == (13, "a key in the store is not what it must be")
    assert clocked.keys() - before <= clocked.keys("*:dedup_watermark") | clocked.keys("*:attribute*")
    assert outcome(clocked.engine, DATELESS_ID, tenant="beta") == "new"


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of data, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
