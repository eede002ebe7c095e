# SPDX-License-Identifier: Apache-2.0
"""The methods of BillingService that are about credits."""

from collections.abc import Mapping

from taximeter.v1 import billing_service_pb2 as pb
from taximeter.v1 import credit_pb2
from taximeter_server.credit_entries import CreditEntries, CreditEntry
from taximeter_server.credit_errors import CreditGrantUnknownError
from taximeter_server.credit_grant import ALLOW, BLOCK, OVERDRAFT, PAID, PROMO, AccountSettings, Grant
from taximeter_server.credits import AccountStatus, Credits, GrantStatus
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.ledger import BEFORE_ALL, StreamId
from taximeter_server.pages import PageTokens, page_size_of
from taximeter_server.rpc.convert import timestamp_ms, to_timestamp
from taximeter_server.rpc.principal import Principal, require_account
from taximeter_server.rpc.server import Handler
from taximeter_server.top_up import GRANT_PREFIX

_POLICIES = {
    credit_pb2.CREDIT_POLICY_BLOCK: BLOCK,
    credit_pb2.CREDIT_POLICY_OVERDRAFT: OVERDRAFT,
    credit_pb2.CREDIT_POLICY_ALLOW: ALLOW,
}
_KINDS = {credit_pb2.CREDIT_GRANT_KIND_PAID: PAID, credit_pb2.CREDIT_GRANT_KIND_PROMO: PROMO}
_STATES = {
    "pending": credit_pb2.CREDIT_GRANT_STATE_PENDING,
    "active": credit_pb2.CREDIT_GRANT_STATE_ACTIVE,
    "used": credit_pb2.CREDIT_GRANT_STATE_USED,
    "expired": credit_pb2.CREDIT_GRANT_STATE_EXPIRED,
    "voided": credit_pb2.CREDIT_GRANT_STATE_VOIDED,
}


class CreditMethods:
    """Serves what BillingService has of credits."""

    def __init__(self, account_credits: Credits, entries: CreditEntries, *, page_tokens: PageTokens) -> None:
        self._credits = account_credits
        self._entries = entries
        self._page_tokens = page_tokens

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handler of every method."""
        return {
            "PutCreditAccount": self.put_credit_account,
            "GetCreditAccount": self.get_credit_account,
            "GrantCredits": self.grant_credits,
            "VoidCreditGrant": self.void_credit_grant,
            "ListCreditGrants": self.list_credit_grants,
            "ListCreditEntries": self.list_credit_entries,
        }

    def put_credit_account(
        self, request: pb.PutCreditAccountRequest, principal: Principal
    ) -> pb.PutCreditAccountResponse:
        """Open an account, or change its policy."""
        require_account(request.tenant, principal)
        settings = AccountSettings(
            picos_per_microcredit=request.settings.picos_per_microcredit,
            policy=_POLICIES.get(request.settings.policy or credit_pb2.CREDIT_POLICY_BLOCK, ""),
            overdraft_microcredits=request.settings.overdraft_microcredits,
        )
        account = self._credits.put_account(request.tenant, settings, author=principal.key_id)
        return pb.PutCreditAccountResponse(account=_to_account(account))

    def get_credit_account(
        self, request: pb.GetCreditAccountRequest, principal: Principal
    ) -> pb.GetCreditAccountResponse:
        """Show an account."""
        require_account(request.tenant, principal)
        return pb.GetCreditAccountResponse(account=_to_account(self._credits.account(request.tenant)))

    def grant_credits(self, request: pb.GrantCreditsRequest, principal: Principal) -> pb.GrantCreditsResponse:
        """Give credits."""
        require_account(request.tenant, principal)
        if request.grant.grant_id.startswith(GRANT_PREFIX):
            # A purchase of that name would be charged and could not be granted.
            raise InvalidFieldsError.of(
                "grant.grant_id", f"{GRANT_PREFIX} begins those of top-ups, which are bought"
            )
        self._credits.grant(request.tenant, _grant_of(request.grant), author=principal.key_id)
        account = self._credits.account(request.tenant)
        return pb.GrantCreditsResponse(
            grant=_to_grant(_found(account, request.grant.grant_id)), account=_to_account(account)
        )

    def void_credit_grant(
        self, request: pb.VoidCreditGrantRequest, principal: Principal
    ) -> pb.VoidCreditGrantResponse:
        """Take back what is left of a grant."""
        require_account(request.tenant, principal)
        voided = self._credits.void(request.tenant, request.grant_id, request.reason, author=principal.key_id)
        return pb.VoidCreditGrantResponse(grant=_to_grant(voided))

    def list_credit_grants(
        self, request: pb.ListCreditGrantsRequest, principal: Principal
    ) -> pb.ListCreditGrantsResponse:
        """List grants, the earliest first."""
        require_account(request.tenant, principal)
        page, next_page_token = self._page_tokens.page(
            self._credits.account(request.tenant).grants,
            cursor_of=lambda one: one.grant.grant_id,
            binding=f"ListCreditGrants {request.tenant}",
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListCreditGrantsResponse(
            grants=[_to_grant(one) for one in page], next_page_token=next_page_token
        )

    def list_credit_entries(
        self, request: pb.ListCreditEntriesRequest, principal: Principal
    ) -> pb.ListCreditEntriesResponse:
        """List what changed a balance, the earliest first."""
        require_account(request.tenant, principal)
        self._credits.account(request.tenant)
        count_max = page_size_of(request.page_size)
        binding = f"ListCreditEntries {request.tenant} {request.grant_id}"
        after = BEFORE_ALL
        if request.page_token:
            after = StreamId.parse(self._page_tokens.open(binding, request.page_token))
        # One more than shown: whether there is a next page.
        found = self._entries.read(
            request.tenant, grant_id=request.grant_id, after=after, count_max=count_max + 1
        )
        page = found[:count_max]
        return pb.ListCreditEntriesResponse(
            entries=[_to_entry(one) for one in page],
            next_page_token=self._page_tokens.seal(binding, str(page[-1].place))
            if len(found) > len(page)
            else "",
        )


def _to_entry(entry: CreditEntry) -> credit_pb2.CreditEntry:
    return credit_pb2.CreditEntry(
        kind=credit_pb2.CreditEntryKind.Value(f"CREDIT_ENTRY_KIND_{entry.kind.upper()}"),
        tenant=entry.tenant,
        record_id=entry.record_id,
        model=entry.model,
        occur_time=to_timestamp(entry.occur_time_ms),
        receive_time=to_timestamp(entry.receive_time_ms),
        note=entry.note,
        moves=[
            credit_pb2.CreditMove(
                usage_class=move.usage_class, grant_id=move.grant_id, microcredits=move.microcredits
            )
            for move in entry.moves
        ],
        microcredits=sum(move.microcredits for move in entry.moves),
    )


def _found(account: AccountStatus, grant_id: str) -> GrantStatus:
    found = next((one for one in account.grants if one.grant.grant_id == grant_id), None)
    if found is None:
        raise CreditGrantUnknownError(grant_id)
    return found


def _grant_of(message: credit_pb2.CreditGrant) -> Grant:
    """Return a grant; what only the server says is ignored. Raises InvalidFieldsError."""
    effective = message.HasField("effective_time")
    expires = message.HasField("expire_time")
    if message.kind not in {0, *_KINDS}:
        raise InvalidFieldsError.of("grant.kind", "not a known value")
    fields = {"priority": message.priority} if message.HasField("priority") else {}
    return Grant(
        grant_id=message.grant_id,
        amount_microcredits=message.amount_microcredits,
        kind=_KINDS.get(message.kind, PAID),
        effective_time_ms=timestamp_ms(message.effective_time, "grant.effective_time") if effective else 0,
        expire_time_ms=timestamp_ms(message.expire_time, "grant.expire_time") if expires else 0,
        models=tuple(message.models),
        usage_classes=tuple(message.usage_classes),
        cost_basis_picos=message.cost_basis_picos,
        note=message.note,
        **fields,
    )


def _to_grant(status: GrantStatus) -> credit_pb2.CreditGrant:
    grant = status.grant
    kinds = {name: kind for kind, name in _KINDS.items()}
    message = credit_pb2.CreditGrant(
        grant_id=grant.grant_id,
        amount_microcredits=grant.amount_microcredits,
        kind=kinds[grant.kind],
        priority=grant.priority,
        models=grant.models,
        usage_classes=grant.usage_classes,
        cost_basis_picos=grant.cost_basis_picos,
        note=grant.note,
        create_time=to_timestamp(status.create_time_ms),
        remaining_microcredits=status.remaining_microcredits,
        held_microcredits=status.held_microcredits,
        state=_STATES[status.state],
        void_reason=status.void_reason,
    )
    if grant.effective_time_ms:
        message.effective_time.CopyFrom(to_timestamp(grant.effective_time_ms))
    if grant.expire_time_ms:
        message.expire_time.CopyFrom(to_timestamp(grant.expire_time_ms))
    return message


def _to_account(account: AccountStatus) -> credit_pb2.CreditAccount:
    policies = {name: policy for policy, name in _POLICIES.items()}
    settings = account.settings
    return credit_pb2.CreditAccount(
        tenant=account.tenant,
        settings=credit_pb2.CreditAccountSettings(
            picos_per_microcredit=settings.picos_per_microcredit,
            policy=policies[settings.policy],
            overdraft_microcredits=settings.overdraft_microcredits,
        ),
        available_microcredits=account.available_microcredits,
        used_microcredits=account.used_microcredits,
        balance_microcredits=account.balance_microcredits,
        overdrawn_microcredits=account.overdrawn_microcredits,
        held_microcredits=account.held_microcredits,
    )
