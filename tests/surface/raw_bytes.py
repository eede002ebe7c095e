# SPDX-License-Identifier: Apache-2.0
"""Request bytes that no protobuf library would write, or would not write easily. Named in cases/bad-input.yaml."""

import random
from collections.abc import Callable

from google.protobuf.message import Message

from taximeter.v1 import metering_service_pb2, usage_pb2

MIB = 1 << 20
NESTED_DEPTH = 120
# Field 1000 is unknown to every message.
_UNKNOWN_FIELD = 1000
_VARINT, _BYTES, _GROUP, _END_GROUP = 0, 2, 3, 4

Generator = Callable[[Message], bytes]
"""Makes request bytes from a valid message."""


def varint(number: int) -> bytes:
    """Return the varint of a number, 0 or more."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    """Return the tag of a field."""
    return varint(number << 3 | wire_type)


def noise(_valid: Message) -> bytes:
    """Random bytes that cannot be a message: they begin with a field number of 0."""
    return b"\x00" + random.Random(1).randbytes(200)


def truncated(valid: Message) -> bytes:
    """A message whose last field ends too early."""
    return valid.SerializeToString()[:-1]


def broken_utf8(valid: Message) -> bytes:
    """A string field that is not UTF-8."""
    if isinstance(valid, metering_service_pb2.CheckQuotaRequest):
        return valid.SerializeToString() + tag(3, _BYTES) + b"\x02\xc3\x28"
    if isinstance(valid, metering_service_pb2.RecordBatchRequest):
        record = valid.records[0]
    else:
        assert isinstance(valid, metering_service_pb2.RecordRequest)
        record = valid.record
    broken = record.SerializeToString() + tag(3, _BYTES) + b"\x02\xc3\x28"
    return tag(1, _BYTES) + varint(len(broken)) + broken


def nested_120_deep(valid: Message) -> bytes:
    """An unknown field that nests deeper than any reader should follow."""
    start, end = tag(_UNKNOWN_FIELD, _GROUP), tag(_UNKNOWN_FIELD, _END_GROUP)
    return valid.SerializeToString() + start * NESTED_DEPTH + end * NESTED_DEPTH


def unknown_fields(valid: Message) -> bytes:
    """Fields of a later version: a number, bytes and a group."""
    return (
        valid.SerializeToString()
        + tag(_UNKNOWN_FIELD, _VARINT)
        + varint(7)
        + tag(_UNKNOWN_FIELD + 1, _BYTES)
        + varint(3)
        + b"abc"
        + tag(_UNKNOWN_FIELD + 2, _GROUP)
        + tag(_UNKNOWN_FIELD + 2, _END_GROUP)
    )


def _filled(valid: Message, size: int) -> bytes:
    """Return the message with an unknown field that makes it size bytes long."""
    message = valid.SerializeToString() + tag(_UNKNOWN_FIELD, _BYTES)
    length = size - len(message)
    length -= len(varint(length))
    return message + varint(length) + bytes(length)


def one_mib(valid: Message) -> bytes:
    """The largest message that is served."""
    return _filled(valid, MIB)


def one_mib_and_one(valid: Message) -> bytes:
    """One byte too many."""
    return _filled(valid, MIB + 1)


def eight_mib(valid: Message) -> bytes:
    """Far too many, more than a window of flow control holds."""
    return _filled(valid, 8 * MIB)


def nothing(_valid: Message) -> bytes:
    """An empty message."""
    return b""


def batch_of_501(_valid: Message) -> bytes:
    """One record too many."""
    return metering_service_pb2.RecordBatchRequest(
        records=[usage_pb2.UsageRecord() for _ in range(501)]
    ).SerializeToString()


def _with_attributes(valid: Message, count: int) -> bytes:
    assert isinstance(valid, metering_service_pb2.RecordRequest)
    for number in range(count):
        valid.record.attributes[f"key{number}"] = "value"
    return valid.SerializeToString()


def attributes_16(valid: Message) -> bytes:
    """As many attributes as a record may have."""
    return _with_attributes(valid, 16)


def attributes_17(valid: Message) -> bytes:
    """One attribute too many."""
    return _with_attributes(valid, 17)


def _with_classes(valid: Message, count: int) -> bytes:
    assert isinstance(valid, metering_service_pb2.RecordRequest)
    for number in range(count):
        valid.record.usage.other[f"class{number}"] = 1
    return valid.SerializeToString()


def other_32(valid: Message) -> bytes:
    """As many further classes as usage may have."""
    return _with_classes(valid, 32)


def other_33(valid: Message) -> bytes:
    """One class too many."""
    return _with_classes(valid, 33)


GENERATORS: dict[str, Generator] = {
    generator.__name__: generator
    for generator in (
        noise,
        truncated,
        broken_utf8,
        nested_120_deep,
        unknown_fields,
        one_mib,
        one_mib_and_one,
        eight_mib,
        nothing,
        batch_of_501,
        attributes_16,
        attributes_17,
        other_32,
        other_33,
    )
}
