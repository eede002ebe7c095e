# SPDX-License-Identifier: Apache-2.0
"""Messages to values and back. Instants are integers inside: milliseconds or microseconds since 1970 UTC."""

from typing import NoReturn

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from taximeter.v1 import (
    access_service_pb2,
    money_pb2,
    rate_card_service_pb2,
)
from taximeter_server.errors import InvalidFieldsError, SumOutOfRangeError
from taximeter_server.keys import Key
from taximeter_server.timeline_entry import EntryKind, TimelineEntry

PICOS_PER_UNIT = 10**12
INT64_MAX = 2**63 - 1
_RECORD_ID_LENGTH_MAX = 64

_TIMESTAMP_SECONDS_MIN = -62_135_596_800
"""0001-01-01T00:00:00Z, the first instant that a Timestamp may name."""
_TIMESTAMP_SECONDS_MAX = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that a Timestamp may name."""
_NANOS_PER_SECOND = 1_000_000_000
_DURATION_SECONDS_MAX = 315_576_000_000
"""Some 10,000 years, the most that a Duration may name."""
_NANOS_PER_MICRO = 1_000
_MICROS_PER_SECOND = 1_000_000

_ROLE_NAMES = {
    access_service_pb2.ROLE_ADMIN: "admin",
    access_service_pb2.ROLE_METER: "meter",
    access_service_pb2.ROLE_READ: "read",
}
_ROLES = {name: role for role, name in _ROLE_NAMES.items()}


def check_record_id(record_id: str) -> str:
    """Return the id unchanged. Raises InvalidFieldsError."""
    if not record_id:
        raise InvalidFieldsError.required("record_id")
    if len(record_id) > _RECORD_ID_LENGTH_MAX:
        raise InvalidFieldsError.of("record_id", f"at most {_RECORD_ID_LENGTH_MAX} characters")
    return record_id


def timestamp_nanos(timestamp: Timestamp, field: str) -> int:
    """Return nanoseconds since 1970 UTC. Raises InvalidFieldsError naming field."""
    if not _TIMESTAMP_SECONDS_MIN <= timestamp.seconds <= _TIMESTAMP_SECONDS_MAX:
        _refuse_timestamp(field)
    if not 0 <= timestamp.nanos < _NANOS_PER_SECOND:
        _refuse_timestamp(field)
    return timestamp.seconds * _NANOS_PER_SECOND + timestamp.nanos


def _refuse_timestamp(field: str) -> NoReturn:
    raise InvalidFieldsError.of(field, "not a valid timestamp")


def timestamp_ms(timestamp: Timestamp, field: str) -> int:
    """Return milliseconds since 1970 UTC, rounded up: never before the instant that was asked for."""
    return -(-timestamp_nanos(timestamp, field) // 1_000_000)


def duration_ms(duration: Duration, field: str) -> int:
    """Return milliseconds, rounded down. Raises InvalidFieldsError naming field for a negative or invalid one."""
    seconds, nanos = duration.seconds, duration.nanos
    if not (0 <= seconds <= _DURATION_SECONDS_MAX and 0 <= nanos < _NANOS_PER_SECOND):
        raise InvalidFieldsError.of(field, "not a valid duration, or a negative one")
    return seconds * 1_000 + nanos // 1_000_000


def at_time_ms(timestamp: Timestamp) -> int:
    """Return at_time in milliseconds since 1970 UTC, rounded down: what takes force within it is not in force yet."""
    return timestamp_nanos(timestamp, "at_time") // 1_000_000


def timestamp_us(timestamp: Timestamp, field: str) -> int:
    """Return microseconds since 1970 UTC, rounded down as the ledger's are, so that intervals still join."""
    return timestamp_nanos(timestamp, field) // 1_000


def to_timestamp(time_ms: int) -> Timestamp:
    """Return the instant as a message."""
    seconds, rest_ms = divmod(time_ms, 1_000)
    return Timestamp(seconds=seconds, nanos=rest_ms * 1_000_000)


def to_timestamp_us(time_us: int) -> Timestamp:
    """Return an instant of microseconds since 1970 UTC."""
    seconds, rest_us = divmod(time_us, _MICROS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=rest_us * _NANOS_PER_MICRO)


def to_money(cost_picos: int, currency_code: str) -> money_pb2.Money:
    """Return an amount as a message. Raises SumOutOfRangeError when its units do not fit."""
    units, picos = divmod(abs(cost_picos), PICOS_PER_UNIT)
    sign = -1 if cost_picos < 0 else 1
    return money_pb2.Money(currency_code=currency_code, units=int64(sign * units), picos=sign * picos)


def int64(value: int) -> int:
    """Return value. Raises SumOutOfRangeError when it does not fit its field."""
    if not -INT64_MAX <= value <= INT64_MAX:
        raise SumOutOfRangeError
    return value


def role_name(role: access_service_pb2.Role.ValueType) -> str:
    """Return the name of a role inside. Raises InvalidFieldsError for one that is none."""
    name = _ROLE_NAMES.get(role)
    if name is None:
        raise InvalidFieldsError.required("key.role")
    return name


def to_role(name: str) -> access_service_pb2.Role.ValueType:
    """Return a role as a message; one from a newer version is unspecified."""
    return _ROLES.get(name, access_service_pb2.ROLE_UNSPECIFIED)


def to_key(key: Key, *, last_use_time_ms: int | None = None) -> access_service_pb2.Key:
    """Return a key as a message, without what could authenticate."""
    message = access_service_pb2.Key(
        key_id=key.key_id,
        role=to_role(key.role),
        tenants=key.tenants,
        note=key.note,
        create_time=to_timestamp(key.create_time_ms),
        predecessor_id=key.predecessor_id,
        successor_id=key.successor_id,
    )
    if last_use_time_ms is not None:
        message.last_use_time.CopyFrom(to_timestamp(last_use_time_ms))
    if key.expire_time_ms is not None:
        message.expire_time.CopyFrom(to_timestamp(key.expire_time_ms))
    if key.revoke_time_ms is not None:
        message.revoke_time.CopyFrom(to_timestamp(key.revoke_time_ms))
    return message


_ENTRY_KINDS = {
    EntryKind.CARD: rate_card_service_pb2.RATE_CARD_ENTRY_KIND_CARD,
    EntryKind.WITHDRAWAL: rate_card_service_pb2.RATE_CARD_ENTRY_KIND_WITHDRAWAL,
    EntryKind.TENANT_PRICES: rate_card_service_pb2.RATE_CARD_ENTRY_KIND_TENANT_PRICES,
}


def to_entry(entry: TimelineEntry, *, withdrawn: bool) -> rate_card_service_pb2.RateCardEntry:
    """Return an entry of the timeline as a message."""
    return rate_card_service_pb2.RateCardEntry(
        version=entry.version,
        rate_card_id=entry.rate_card_id,
        effective_time=to_timestamp(entry.effective_time_ms),
        publish_time=to_timestamp(entry.publish_time_ms),
        author=entry.author,
        note=entry.note,
        chain_hash=entry.chain_hash,
        kind=_ENTRY_KINDS[entry.kind],
        tenant=entry.tenant,
        tenant_prices_id=entry.tenant_prices_id,
        withdrawn_version=entry.withdrawn_version,
        withdrawn=withdrawn,
        source_sha256=entry.source_sha256,
    )
