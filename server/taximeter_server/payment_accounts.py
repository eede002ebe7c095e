# SPDX-License-Identifier: Apache-2.0
"""How accounts pay. An account is the first segment of a tenant's path."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

import structlog

from taximeter_server.errors import FieldViolation, InvalidFieldsError, StoreCorruptError
from taximeter_server.payment_errors import PaymentAccountUnknownError, PaymentProviderError
from taximeter_server.payment_provider import Customer, PaymentCard, PaymentProvider, PushError
from taximeter_server.payment_store import PaymentStore
from taximeter_server.tenant_path import check_tenant
from taximeter_server.webhook_endpoints import check_url

NAME_LENGTH_MAX = 200
EMAIL_LENGTH_MAX = 320
ADDRESS_LINES_MAX = 8
TAX_ID_LENGTH_MAX = 50
CUSTOMER_ID_LENGTH_MAX = 255

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentAccount:
    """How an account pays. update_time_ms: milliseconds since 1970 UTC."""

    tenant: str
    name: str = ""
    email: str = ""
    address_lines: Sequence[str] = ()
    tax_id: str = ""
    report_usage: bool = False
    customer_id: str = ""
    update_time_ms: int = 0

    @property
    def customer(self) -> Customer:
        """The account as the provider knows it."""
        return Customer(
            account=self.tenant,
            name=self.name or self.tenant,
            email=self.email,
            address_lines=self.address_lines,
        )

    def check(self) -> None:
        """Raise InvalidFieldsError for what cannot be, all at once."""
        check_tenant(self.tenant, "account.tenant")
        found = []
        if "/" in self.tenant:
            found.append(FieldViolation("account.tenant", "one segment: what is below is billed to it"))
        lengths = {"name": NAME_LENGTH_MAX, "email": EMAIL_LENGTH_MAX, "tax_id": TAX_ID_LENGTH_MAX}
        found += [
            FieldViolation(f"account.{name}", f"at most {maximum} characters")
            for name, maximum in lengths.items()
            if len(getattr(self, name)) > maximum
        ]
        if len(self.address_lines) > ADDRESS_LINES_MAX or any(
            len(line) > NAME_LENGTH_MAX for line in self.address_lines
        ):
            text = f"at most {ADDRESS_LINES_MAX} of {NAME_LENGTH_MAX} characters"
            found.append(FieldViolation("account.address_lines", text))
        if not (len(self.customer_id) <= CUSTOMER_ID_LENGTH_MAX and self.customer_id.isascii()):
            found.append(FieldViolation("account.provider_customer_id", "not an id"))
        if found:
            raise InvalidFieldsError(found)

    def to_json(self) -> str:
        """Return the account's document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read an account's document. Raises StoreCorruptError."""
        try:
            values = json.loads(document)
            return cls(**{**values, "address_lines": tuple(values["address_lines"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorruptError(f"payment account document: {error}") from error


class PaymentAccounts:
    """All accounts, here and at the provider."""

    def __init__(self, store: PaymentStore, provider: PaymentProvider, clock: Callable[[], int]) -> None:
        self._store = store
        self._provider = provider
        self._clock = clock

    def put(self, account: PaymentAccount) -> PaymentAccount:
        """Create or replace an account, and tell the provider where there is one.

        Raises InvalidFieldsError, PaymentProviderError: the account is kept then, and can be put again.
        """
        account.check()
        before = self._find(account.tenant)
        if before is not None and not account.customer_id:
            account = replace(account, customer_id=before.customer_id)
        account = replace(account, update_time_ms=self._clock())
        self._store.put_account(account.tenant, account.to_json())
        return self._told(account) if self._provider.is_configured else account

    def get(self, tenant: str) -> PaymentAccount:
        """Return an account. Raises PaymentAccountUnknownError."""
        account = self._find(tenant)
        if account is None:
            raise PaymentAccountUnknownError(tenant)
        return account

    def list(self) -> "list[PaymentAccount]":
        """Return all accounts, by tenant."""
        documents = self._store.accounts()
        return [PaymentAccount.from_json(documents[tenant]) for tenant in sorted(documents)]

    def customer_id(self, tenant: str) -> str:
        """Return the provider's id of an account. Raises PaymentAccountUnknownError, PaymentProviderError."""
        account = self.get(tenant)
        return (account if account.customer_id else self._told(account)).customer_id

    def card(self, tenant: str) -> PaymentCard | None:
        """Return the card on file. Raises PaymentNotConfiguredError and those of customer_id()."""
        if not self._provider.is_configured:
            return self._provider.card("")
        with _translated():
            return self._provider.card(self.customer_id(tenant))

    def portal_url(self, tenant: str, return_url: str) -> str:
        """Return the URL of the provider's pages. Raises InvalidFieldsError and those of card()."""
        if return_url:
            check_url(return_url, "return_url", allow_plaintext=False)
        if not self._provider.is_configured:
            return self._provider.portal_url("", return_url)
        with _translated():
            return self._provider.portal_url(self.customer_id(tenant), return_url)

    def _find(self, tenant: str) -> PaymentAccount | None:
        document = self._store.account(tenant)
        return None if document is None else PaymentAccount.from_json(document)

    def _told(self, account: PaymentAccount) -> PaymentAccount:
        """Tell the provider of an account, and keep the id that it gives."""
        with _translated():
            customer_id = self._provider.put_customer(account.customer, account.customer_id)
        if customer_id != account.customer_id:
            account = replace(account, customer_id=customer_id)
            self._store.put_account(account.tenant, account.to_json())
        return account


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what the provider could not do into an error of the call; the log has the reason."""
    try:
        yield
    except PushError as error:
        _log.warning("the payment provider did not do it", problem=error.problem)
        raise PaymentProviderError from error
