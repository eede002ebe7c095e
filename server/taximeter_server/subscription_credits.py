# SPDX-License-Identifier: Apache-2.0
"""The credits that subscriptions include: what is to be granted and taken back follows from the subscription alone.

So it can be computed by any server at any time, and done again after a kill: a grant is known by its id, and the same
grant again changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from taximeter_server.billing_calendar import stamp
from taximeter_server.credit_errors import CreditAccountUnknownError
from taximeter_server.credit_grant import PAID, PROMO, AccountSettings, Grant
from taximeter_server.credits import AccountStatus, Credits, GrantStatus
from taximeter_server.plan_terms import CreditTerms
from taximeter_server.subscription import Part, Period, Subscription

AHEAD_MS = 5 * 60_000
"""Grants are made so long before their period begins, so that none is missing when it does."""
NEVER_MS = 1 << 62
GRANT_PREFIX = "subscription."
_MS_PER_DAY = 86_400_000
_CUT_REASON = "the period has ended before its time"


@dataclass(frozen=True, slots=True)
class CreditCounts:
    """Sums of grants that are neither expired nor void, in microcredits. What nothing covered is used, too."""

    subscription_available: int
    subscription_used: int
    additional_available: int
    additional_used: int

    @classmethod
    def of(cls, account: AccountStatus) -> "CreditCounts":
        """Sum the grants of an account."""
        sums = {True: [0, 0], False: [0, 0]}
        for one in account.grants:
            if one.state in {"active", "used"}:
                of_kind = sums[one.grant.grant_id.startswith(GRANT_PREFIX)]
                of_kind[0] += one.grant.amount_microcredits
                of_kind[1] += one.grant.amount_microcredits - one.remaining_microcredits
        sums[True][1] += account.overdrawn_microcredits
        return cls(*sums[True], *sums[False])


class SubscriptionCredits:
    """Keeps accounts as subscriptions say. Every method raises what the engine and the store raise."""

    def __init__(self, account_credits: Credits) -> None:
        self._credits = account_credits

    def account(self, tenant: str) -> AccountStatus | None:
        """Return the credit account of a root tenant; None where it has none."""
        try:
            return self._credits.account(tenant)
        except CreditAccountUnknownError:
            return None

    def is_due(self, subscription: Subscription, now_ms: int) -> bool:
        """Say whether keep() would change anything."""
        account = self.account(subscription.tenant)
        settings = settings_at(subscription, now_ms)
        return (
            (settings is not None and (account is None or account.settings != settings))
            or any(_missing(grant, account) for grant in grants_at(subscription, now_ms))
            or any(True for _ in self._cut(subscription, account, now_ms))
        )

    def keep(self, subscription: Subscription, now_ms: int) -> None:
        """Open or change the account, grant what is missing, and take back what a period that was cut has left."""
        tenant = subscription.tenant
        account = self.account(tenant)
        settings = settings_at(subscription, now_ms)
        if settings is not None and (account is None or account.settings != settings):
            account = self._credits.put_account(tenant, settings)
        for grant in grants_at(subscription, now_ms):
            if _missing(grant, account):
                self._credits.grant(tenant, grant)
        for one in self._cut(subscription, account, now_ms):
            self._credits.void(tenant, one.grant.grant_id, _CUT_REASON)

    def _cut(
        self, subscription: Subscription, account: AccountStatus | None, now_ms: int
    ) -> Iterator[GrantStatus]:
        """Yield the grants of periods that are no more, where they would have expired with their period."""
        kept = {grant.grant_id for grant in grants_at(subscription, now_ms)}
        for one in account.grants if account is not None else ():
            grant_id, is_left = one.grant.grant_id, one.state in {"active", "pending"}
            is_ours = grant_id.startswith(GRANT_PREFIX) and one.grant.note == _NOTE_PERIOD
            if is_left and is_ours and grant_id not in kept:
                yield one

    def next_ms(self, subscription: Subscription, now_ms: int) -> int:
        """Return when there is something to grant or take back next, as far as the subscription says now."""
        times = [one.start_ms for one in subscription.segments]
        period = subscription.period_at(now_ms + AHEAD_MS)
        if period is not None:
            times += (period.start_ms - AHEAD_MS, period.end_ms - AHEAD_MS)
        return min((one for one in times if one > now_ms), default=NEVER_MS)


_NOTE_PERIOD, _NOTE_LONGER = "included, for this period", "included"


def settings_at(subscription: Subscription, now_ms: int) -> AccountSettings | None:
    """Return the settings of the account by the plan in force; None where it has no credits."""
    segment = subscription.segment_at(now_ms)
    if segment is None or segment.terms is None or segment.terms.credits is None:
        return None
    terms = segment.terms.credits
    return AccountSettings(
        picos_per_microcredit=terms.picos_per_microcredit,
        policy=terms.overage_policy,
        overdraft_microcredits=terms.overdraft_microcredits,
    )


def grants_at(subscription: Subscription, now_ms: int) -> list[Grant]:
    """Return the grants of the periods that hold now, or begin soon."""
    return [
        grant
        for period in subscription.periods(now_ms + AHEAD_MS + 1)
        if period.end_ms > now_ms
        for grant in _grants(period)
    ]


def _grants(period: Period) -> Iterator[Grant]:
    """Yield the grant of the first plan of a period, and of each later one what it includes more than the one before.

    All in proportion to the seconds from there to the end of the whole period, rounded down to a microcredit: what was
    granted stays as it is when the plan is changed again.
    """
    included_before = 0
    for number, part in enumerate(period.parts):
        terms = part.terms.credits
        included = 0 if terms is None else terms.included_microcredits
        left_ms = period.span.whole_end_ms - part.start_ms
        amount = (included - included_before) * left_ms // (1_000 * period.span.whole_seconds)
        if terms is not None and amount > 0:
            yield _grant(period, number, part, terms, amount)
        included_before = max(included_before, included)


def _grant(period: Period, number: int, part: Part, terms: CreditTerms, amount_microcredits: int) -> Grant:
    days = terms.included_expire_days
    expire_ms = part.start_ms + days * _MS_PER_DAY if days else 0
    return Grant(
        grant_id=f"{GRANT_PREFIX}{stamp(period.start_ms)}" + (f".{number + 1}" if number else ""),
        amount_microcredits=amount_microcredits,
        kind=PROMO if part.is_trial else PAID,
        effective_time_ms=part.start_ms,
        expire_time_ms=period.span.whole_end_ms if days is None else expire_ms,
        note=_NOTE_PERIOD if days is None else _NOTE_LONGER,
    )


def _missing(grant: Grant, account: AccountStatus | None) -> bool:
    if account is None:
        return True
    return all(one.grant.grant_id != grant.grant_id for one in account.grants)
