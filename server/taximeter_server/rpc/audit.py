# SPDX-License-Identifier: Apache-2.0
"""Audits every method that only admins may call and that its proto does not declare free of side effects.

Nothing has to be remembered for a new method: the role comes from the front's table, the rest from the proto.
"""

import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from taximeter_server import _native
from taximeter_server.audit_entry import OUTCOME_OK, AuditEntry, AuditKind
from taximeter_server.audit_log import AuditLog
from taximeter_server.document_changes import DocumentChange, DocumentChanges
from taximeter_server.errors import TooManyDenialsError
from taximeter_server.rpc.principal import Principal
from taximeter_server.rpc.status import code_of

if TYPE_CHECKING:
    from taximeter_server.rpc.server import Handler

DENIALS_PER_MINUTE_MAX = 30
"""Calls of one key that are looked at, once this many were refused within the minute."""
_MINUTE_SECONDS = 60

_TARGET_FIELDS = re.compile(r"tenant|name|version|(\w+_)?id")
_TENANT_FIELDS = frozenset({"tenant", "tenants"})
_VALUE = re.compile(r"[A-Za-z0-9._/@-]{1,200}")
_DEPTH_MAX = 3
_REPEATED_MAX = 100
_TARGET_LENGTH_MAX = 400


def is_audited(method: MethodDescriptor) -> bool:
    """Say whether calls of a method are audited."""
    is_admins = _native.method_roles().get(method_name(method)) == ("admin",)
    return is_admins and method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS


def method_name(method: MethodDescriptor) -> str:
    """Return the full name of a method, "/package.Service/Method"."""
    return f"/{method.containing_service.full_name}/{method.name}"


@dataclass(slots=True)
class _Denied:
    """What a key was refused within a minute, and how often it was not even looked at."""

    minute: int
    count: int = 0


class CallAuditor:
    """Puts the audit log around handlers."""

    def __init__(
        self, log: AuditLog, changes: DocumentChanges, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """changes: where the store notes what it writes. monotonic: seconds."""
        self._log = log
        self._changes = changes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._denied: dict[str, _Denied] = {}
        self._unseen: dict[tuple[str, str], tuple[int, str]] = {}

    def wrap(self, method: MethodDescriptor, handler: "Handler") -> "Handler":
        """Return the handler of a method with an intent before and an outcome after each call, where it is audited."""
        if not is_audited(method):
            return handler
        call: Callable[..., Any] = self._stream if method.server_streaming else self._unary
        if method.client_streaming:
            # The handler takes what has arrived, and answers all of it at once.
            call = self._some
        return functools.partial(call, method_name(method), handler)

    def _unary(self, name: str, handler: "Handler", request: Message, principal: Principal) -> Any:
        intent = self._begin(name, [request], principal)
        changes: list[DocumentChange] = []
        try:
            with self._changes.collected(changes):
                response = handler(request, principal)
        except BaseException as error:
            self._end(intent, code_of(error), changes)
            raise
        self._end(_with_targets(intent, response), OUTCOME_OK, changes)
        return response

    def _some(self, name: str, handler: "Handler", requests: Sequence[Message], principal: Principal) -> Any:
        intent = self._begin(name, requests, principal)
        changes: list[DocumentChange] = []
        try:
            with self._changes.collected(changes):
                responses = handler(requests, principal)
        except BaseException as error:
            self._end(intent, code_of(error), changes)
            raise
        self._end(intent, OUTCOME_OK, changes)
        return responses

    def _stream(
        self, name: str, handler: "Handler", request: Message, principal: Principal
    ) -> Generator[Message, None, None]:
        intent = self._begin(name, [request], principal)
        changes: list[DocumentChange] = []
        outcome = OUTCOME_OK
        try:
            with self._changes.collected(changes):
                responses = handler(request, principal)
            while True:
                with self._changes.collected(changes):
                    response = next(responses, None)
                if response is None:
                    return
                yield response
        except BaseException as error:
            outcome = "CANCELLED" if isinstance(error, GeneratorExit) else code_of(error)
            raise
        finally:
            self._end(intent, outcome, changes)

    def _begin(self, name: str, requests: Sequence[Message], principal: Principal) -> AuditEntry:
        with self._lock:
            denied = self._denied_now(principal.key_id)
            if denied.count >= DENIALS_PER_MINUTE_MAX:
                count, _ = self._unseen.get((principal.key_id, name), (0, ""))
                self._unseen[principal.key_id, name] = (count + 1, principal.peer)
                raise TooManyDenialsError
        draft = AuditEntry(
            kind=AuditKind.INTENT,
            actor=principal.key_id,
            method=name,
            peer=principal.peer,
            request_sha256=_sha256_of(requests),
        )
        for request in requests[:_REPEATED_MAX]:
            draft = _with_targets(draft, request)
        return self._log.begin(draft)

    def _end(self, intent: AuditEntry, outcome: str, changes: list[DocumentChange]) -> None:
        if outcome == "PERMISSION_DENIED":
            with self._lock:
                self._denied_now(intent.actor).count += 1
        self._log.end(replace(intent, outcome=outcome), changes)

    def _denied_now(self, key_id: str) -> _Denied:
        minute = int(self._monotonic() // _MINUTE_SECONDS)
        denied = self._denied.get(key_id)
        if denied is None or denied.minute != minute:
            denied = self._denied[key_id] = _Denied(minute)
        return denied

    def take_denials(self) -> list[tuple[str, str, int, str]]:
        """Take what was refused unseen since the last time: (key id, method, count, last peer)."""
        with self._lock:
            unseen, self._unseen = self._unseen, {}
        return [(key_id, method, count, peer) for (key_id, method), (count, peer) in unseen.items()]


def _sha256_of(messages: Sequence[Message]) -> str:
    content = b"".join(message.SerializeToString(deterministic=True) for message in messages)
    return hashlib.sha256(content).hexdigest()


def _with_targets(entry: AuditEntry, message: Message) -> AuditEntry:
    """Add what a message names to the target and the tenants of an entry."""
    found = list(_named(message, _DEPTH_MAX))
    targets = dict.fromkeys(entry.target.split()) | dict.fromkeys(f"{name}={value}" for name, value in found)
    tenants = dict.fromkeys(entry.tenants) | dict.fromkeys(
        value
        for name, value in found
        if name.rpartition(".")[2] in _TENANT_FIELDS or name.endswith(("tenant.name", "tenants.name"))
    )
    target = " ".join(targets)[:_TARGET_LENGTH_MAX]
    return replace(entry, target=target, tenants=tuple(tenants)[:_REPEATED_MAX])


def _named(message: Message, depth: int, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield the fields that say what a call is about. Texts that cannot be names of ours are left out."""
    for descriptor, value in message.ListFields():
        values = list(value)[:_REPEATED_MAX] if descriptor.is_repeated else [value]
        name = f"{prefix}{descriptor.name}"
        if descriptor.message_type is not None:
            if depth > 1 and not descriptor.message_type.GetOptions().map_entry:
                for each in values:
                    yield from _named(each, depth - 1, f"{name}.")
        elif _TARGET_FIELDS.fullmatch(descriptor.name) or descriptor.name in _TENANT_FIELDS:
            yield from ((name, str(each)) for each in values if _VALUE.fullmatch(str(each)))
