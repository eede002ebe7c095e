# SPDX-License-Identifier: Apache-2.0
"""Between the values of this package and the messages of taximeter.v1, for settings."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from taximeter._convert import enum_member, instant
from taximeter.settings import (
    Caller,
    Key,
    RateCard,
    RateCardCheck,
    RateCardDifference,
    RateCardEntry,
    RateCardEntryKind,
    RateCardProblem,
    RateCardVerification,
    Role,
    ServerStatus,
)
from taximeter.v1 import (
    access_service_pb2,
    operations_service_pb2,
    rate_card_service_pb2,
)


def _moment(present: bool, message: Timestamp) -> datetime | None:  # noqa: FBT001 - HasField says it best
    return instant(message) if present else None


def role(number: int) -> Role:
    """Converts a role."""
    return enum_member(Role, access_service_pb2.Role.items(), "ROLE_", number)


def key(message: access_service_pb2.Key) -> Key:
    """Converts a key."""
    return Key(
        key_id=message.key_id,
        role=role(message.role),
        tenants=tuple(message.tenants),
        note=message.note,
        create_time=_moment(message.HasField("create_time"), message.create_time),
        expire_time=_moment(message.HasField("expire_time"), message.expire_time),
        revoke_time=_moment(message.HasField("revoke_time"), message.revoke_time),
        predecessor_id=message.predecessor_id,
        successor_id=message.successor_id,
        last_use_time=_moment(message.HasField("last_use_time"), message.last_use_time),
    )


def caller(message: access_service_pb2.WhoAmIResponse) -> Caller:
    """Converts who the caller is."""
    return Caller(message.key_id, role(message.role), tuple(message.tenants), message.server_version)


def rate_card_entry(message: rate_card_service_pb2.RateCardEntry) -> RateCardEntry:
    """Converts one entry of the timeline."""
    return RateCardEntry(
        version=message.version,
        rate_card_id=message.rate_card_id,
        effective_time=_moment(message.HasField("effective_time"), message.effective_time),
        publish_time=_moment(message.HasField("publish_time"), message.publish_time),
        author=message.author,
        note=message.note,
        chain_hash=message.chain_hash,
        kind=enum_member(
            RateCardEntryKind,
            rate_card_service_pb2.RateCardEntryKind.items(),
            "RATE_CARD_ENTRY_KIND_",
            message.kind,
        ),
        tenant=message.tenant,
        tenant_prices_id=message.tenant_prices_id,
        withdrawn_version=message.withdrawn_version,
        withdrawn=message.withdrawn,
    )


def rate_card_verification(message: rate_card_service_pb2.VerifyRateCardsResponse) -> RateCardVerification:
    """Converts what a walk over the timeline has found."""
    differences = (
        RateCardDifference(d.version, d.document_id, d.place, d.message) for d in message.differences
    )
    return RateCardVerification(
        entry_count=message.entry_count,
        document_count=message.document_count,
        file_count=message.file_count,
        differences=tuple(differences),
        chain_hash=message.chain_hash,
    )


def rate_card(message: rate_card_service_pb2.GetRateCardResponse) -> RateCard:
    """Converts a card."""
    return RateCard(rate_card_entry(message.entry), message.yaml, message.canonical_json)


def rate_card_check(message: rate_card_service_pb2.ValidateRateCardResponse) -> RateCardCheck:
    """Converts what is wrong in a card, or may not be meant."""
    problems = rate_card_problems(message.problems)
    return RateCardCheck(message.rate_card_id, problems, rate_card_problems(message.warnings))


def rate_card_problems(
    messages: Iterable[rate_card_service_pb2.RateCardProblem],
) -> tuple[RateCardProblem, ...]:
    """Converts problems or warnings."""
    return tuple(RateCardProblem(p.line, p.column, p.field, p.reason, p.message) for p in messages)


def server_status(message: operations_service_pb2.GetServerStatusResponse) -> ServerStatus:
    """Converts the state of a server instance."""
    return ServerStatus(
        server_version=message.server_version,
        store_available=message.store_available,
        store_version=message.store_version,
        journal_pending_records=message.journal_pending_records,
        journal_bytes=message.journal_bytes,
        unarchived_entries=message.unarchived_entries,
        rate_card_version=message.rate_card_version,
        start_time=_moment(message.HasField("start_time"), message.start_time),
    )
