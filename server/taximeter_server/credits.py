# SPDX-License-Identifier: Apache-2.0
"""Credit accounts of root tenants: what is granted to them, what usage has taken of it, what is left.

A credit is not money. It has a million microcredits, and an account says once and for all how many pico-units of the
currency one microcredit stands for; from then on usage of the tenant and of everything below it takes credits. The
engine keeps balances and decides by them; what changes an account here is an entry of the ledger, like a record, so it
is durable once answered, and happens once.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from taximeter_server.credit_errors import (
    CreditAccountUnknownError,
    CreditGrantConflictError,
    CreditGrantUnknownError,
    CreditRatePinnedError,
)
from taximeter_server.credit_grant import MICROCREDITS_MAX, NOTE_LENGTH_MAX, AccountSettings, Grant
from taximeter_server.document_changes import DocumentChanges, document_sha256
from taximeter_server.errors import InvalidFieldsError, StoreCorruptError
from taximeter_server.tenant_path import check_tenant

_MS_PER_SECOND = 1_000


class CreditEngine(Protocol):
    """The part of taximeter_server._native.Engine that credits need."""

    def change_credits(
        self,
        *,
        tenant: str,
        change_id: str,
        occur_time_ms: int,
        receive_time_ms: int,
        content: bytes,
        json: str,
        note: str,
        author: str,
    ) -> tuple[str, str]:
        """Change an account. Returns "applied", "before", "conflict", or "refused" and why."""

    def credit_account(self, root: str) -> bytes | None:
        """Return an account as JSON."""


class ExpiryStore(Protocol):
    """The part of the store that knows when grants expire."""

    def put_expiry(self, tenant: str, grant_id: str, time_ms: int) -> None:
        """Note when a grant expires."""


@dataclass(frozen=True, slots=True)
class GrantStatus:
    """A grant and what became of it. held_microcredits: claimed by calls in flight, part of remaining.

    state: "pending" before it takes effect, then "active", and at last "used", "expired" or "voided". void_reason: ""
    unless voided.
    """

    grant: Grant
    create_time_ms: int
    remaining_microcredits: int
    held_microcredits: int
    state: str
    void_reason: str


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """An account as of one instant. available - used is the balance; it may be negative.

    available_microcredits: granted, in force, and neither expired nor voided. used_microcredits: what usage has taken,
    overdrawn included. overdrawn_microcredits: what no grant has covered until now.
    """

    tenant: str
    settings: AccountSettings
    available_microcredits: int
    used_microcredits: int
    overdrawn_microcredits: int
    held_microcredits: int
    grants: tuple[GrantStatus, ...]

    @property
    def balance_microcredits(self) -> int:
        """What is left."""
        return self.available_microcredits - self.used_microcredits


class Credits:
    """All credit accounts. Thread-safe."""

    def __init__(
        self,
        engine: CreditEngine,
        expiries: ExpiryStore,
        changes: DocumentChanges,
        clock: Callable[[], int],
    ) -> None:
        """clock: that of the store, milliseconds since 1970 UTC. changes: what audits a call."""
        self._engine = engine
        self._expiries = expiries
        self._changes = changes
        self._clock = clock

    def put_account(self, tenant: str, settings: AccountSettings, *, author: str = "") -> AccountStatus:
        """Open an account, or change its policy. In force at once.

        Raises InvalidFieldsError, CreditRatePinnedError for another rate than the account has.
        """
        _check_root(tenant)
        settings.check()
        account = self._engine.credit_account(tenant)
        if account is None or _read(account).settings != settings:
            content = json.dumps(asdict(settings), sort_keys=True)
            change = {"op": "account", **settings.to_change()}
            refusal = self._change(
                tenant, f"credit-account:{uuid.uuid4().hex}", change, content, author=author
            )
            if refusal == "rate":
                raise CreditRatePinnedError(tenant)
        return self.account(tenant)

    def account(self, tenant: str) -> AccountStatus:
        """Return the account of a root tenant. Raises CreditAccountUnknownError, InvalidFieldsError."""
        _check_root(tenant)
        document = self._engine.credit_account(tenant)
        if document is None:
            raise CreditAccountUnknownError(tenant)
        return _read(document).status(tenant)

    def of_root(self, tenant: str) -> AccountStatus | None:
        """Return the account of a tenant's root, None where it has none."""
        root = tenant.partition("/")[0]
        document = self._engine.credit_account(root)
        return None if document is None else _read(document).status(root)

    def grant(self, tenant: str, grant: Grant, *, author: str = "") -> Grant:
        """Give credits. Idempotent by grant_id: the same grant again changes nothing.

        Raises InvalidFieldsError, CreditAccountUnknownError, CreditGrantConflictError when the id was used for another
        grant.
        """
        _check_root(tenant)
        now_ms = self._clock()
        grant.check()
        content = json.dumps(asdict(grant), sort_keys=True)
        change = {
            "op": "grant",
            **grant.to_change(),
            "create_time_ms": now_ms,
            "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        if grant.expire_time_ms:
            # First: what is due and finds nothing is harmless, what is never due would never expire.
            self._expiries.put_expiry(tenant, grant.grant_id, grant.expire_time_ms)
        refusal = self._change(
            tenant,
            f"credit-grant:{grant.grant_id}",
            change,
            content,
            occur_time_ms=grant.effective_time_ms,
            note=grant.note,
            author=author,
        )
        if refusal == "no account":
            raise CreditAccountUnknownError(tenant)
        if refusal == "conflict":
            raise CreditGrantConflictError(grant.grant_id)
        if refusal == "too much":
            raise InvalidFieldsError.of(
                "grant.amount_microcredits", f"with all that was granted before more than {MICROCREDITS_MAX}"
            )
        return grant

    def void(self, tenant: str, grant_id: str, reason: str, *, author: str = "") -> GrantStatus:
        """Take back what is left of a grant; what was used stays used. What holds claim expires with them.

        Idempotent. Raises InvalidFieldsError, CreditAccountUnknownError, CreditGrantUnknownError.
        """
        if not reason or len(reason) > NOTE_LENGTH_MAX:
            raise InvalidFieldsError.of("reason", f"1 to {NOTE_LENGTH_MAX} characters")
        self._grant_of(tenant, grant_id)
        change = {"op": "void", "grant_id": grant_id, "reason": reason, "void_time_ms": self._clock()}
        # Before the change, as in grant(): holds may leave something to expire.
        self._expiries.put_expiry(tenant, grant_id, self._clock())
        self._change(tenant, f"credit-void:{grant_id}", change, grant_id, note=reason, author=author)
        return self._grant_of(tenant, grant_id)

    def expire(self, tenant: str, grant_id: str) -> bool:
        """Make the entry of what an expired grant has left. Says whether nothing of it is left to expire later.

        Of two who do it at the same time one finds nothing.
        """
        document = self._engine.credit_account(tenant)
        if document is None:
            return True
        found = _read(document)
        if grant_id not in found.said_of("grant"):
            # Perhaps it is being granted just now.
            return False
        remaining, held, _, expire_second = found.grants.get(grant_id, (0, 0, 0, 0))
        if expire_second > found.now_second:
            return False
        if remaining > held:
            change = {"op": "expiry", "grant_id": grant_id}
            change_id = f"credit-expiry:{uuid.uuid4().hex}"
            occur_time_ms = expire_second * _MS_PER_SECOND
            self._change(tenant, change_id, change, change_id, occur_time_ms=occur_time_ms)
        return held == 0

    def expect_returns(self, tenant: str, grant_ids: Collection[str]) -> None:
        """Note grants of a tenant's root that a correction is about to give credits back to, so that these expire, too.

        To be called before: a grant that has expired is looked at no more.
        """
        account = self.of_root(tenant)
        for one in account.grants if account is not None and grant_ids else ():
            if one.grant.grant_id in grant_ids and (one.grant.expire_time_ms or one.state == "voided"):
                time_ms = self._clock() if one.state == "voided" else one.grant.expire_time_ms
                self._expiries.put_expiry(tenant.partition("/")[0], one.grant.grant_id, time_ms)

    def _grant_of(self, tenant: str, grant_id: str) -> GrantStatus:
        found = next((one for one in self.account(tenant).grants if one.grant.grant_id == grant_id), None)
        if found is None:
            raise CreditGrantUnknownError(grant_id)
        return found

    def _change(
        self,
        tenant: str,
        change_id: str,
        change: dict[str, Any],
        content: str,
        *,
        occur_time_ms: int = 0,
        note: str = "",
        author: str = "",
    ) -> str:
        """Make a change. Returns why it was refused, "" when it is in force."""
        now_ms = self._clock()
        document = json.dumps(change, sort_keys=True)
        state, refusal = self._engine.change_credits(
            tenant=tenant,
            change_id=change_id,
            occur_time_ms=occur_time_ms or now_ms,
            receive_time_ms=now_ms,
            content=content.encode(),
            json=document,
            note=note,
            author=author,
        )
        if state == "applied":
            self._changes.note(f"credits/{tenant}/{change_id}", "", document_sha256(document))
        if state == "conflict":
            return state
        # What was done long ago is refused as done.
        return "" if refusal in ("before", "nothing") else refusal


@dataclass(frozen=True, slots=True)
class _Account:
    """An account as the engine says it. grants: remaining, held, expire second of those that have not ended."""

    now_second: int
    overdrawn: int
    granted: int
    used: int
    held: int
    grants: dict[str, tuple[int, int, int, int]]
    said: dict[str, dict[str, Any]]

    @property
    def settings(self) -> AccountSettings:
        return AccountSettings.of_change(self.said["account"])

    def said_of(self, what: str) -> dict[str, dict[str, Any]]:
        """Return what was said of grants, by their ids."""
        prefix = f"{what}:"
        return {name.removeprefix(prefix): one for name, one in self.said.items() if name.startswith(prefix)}

    def status(self, tenant: str) -> AccountStatus:
        voids = self.said_of("void")
        grants = [self._grant(said, voids.get(grant_id)) for grant_id, said in self.said_of("grant").items()]
        # What is in force is available; what is not, but claimed by calls in flight, is too.
        idle = sum(
            remaining - min(remaining, held)
            for remaining, held, effective, expire in self.grants.values()
            if not self._is_usable(effective, expire)
        )
        return AccountStatus(
            tenant,
            self.settings,
            available_microcredits=self.granted - idle,
            used_microcredits=self.used,
            overdrawn_microcredits=max(self.overdrawn, 0),
            held_microcredits=self.held,
            grants=tuple(sorted(grants, key=lambda one: (one.create_time_ms, one.grant.grant_id))),
        )

    def _is_usable(self, effective_second: int, expire_second: int) -> bool:
        return effective_second <= self.now_second and not 0 < expire_second <= self.now_second

    def _grant(self, said: dict[str, Any], void: dict[str, Any] | None) -> GrantStatus:
        remaining, held, effective, expire = self.grants.get(
            said["grant_id"], (0, 0, said["effective_second"], said["expire_second"])
        )
        if void is not None:
            state = "voided"
        elif effective > self.now_second:
            state = "pending"
        elif 0 < expire <= self.now_second:
            state = "expired"
        else:
            state = "active" if remaining > 0 else "used"
        return GrantStatus(
            Grant.of_change(said),
            said["create_time_ms"],
            remaining_microcredits=max(remaining, 0),
            held_microcredits=held,
            state=state,
            void_reason="" if void is None else void["reason"],
        )


def _read(document: bytes) -> _Account:
    try:
        values = json.loads(document)
        return _Account(
            **{**values, "grants": {name: tuple(numbers) for name, numbers in values["grants"].items()}}
        )
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorruptError(f"credit account: {error}") from error


def _check_root(tenant: str) -> None:
    check_tenant(tenant, "tenant")
    if "/" in tenant:
        raise InvalidFieldsError.of("tenant", "the first segment alone: an account is its whole tree's")
