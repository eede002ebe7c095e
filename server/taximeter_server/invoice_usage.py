# SPDX-License-Identifier: Apache-2.0
"""What a tenant owes by subscription and ledger, at one position of the ledger."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from taximeter_server.credit_grant import ALLOW
from taximeter_server.invoice import OVERAGE, USAGE
from taximeter_server.invoice_draft import Amount, Amounts, Key, overage_amount, plan_amounts
from taximeter_server.report_query import RANGE_DAYS_MAX, ReportPage, ReportQuery
from taximeter_server.subscription import Part, Period, Subscription

_US_PER_MS = 1_000
_RANGE_MS = RANGE_DAYS_MAX * 86_400_000
_Sums = dict[str, tuple[int, int]]
"""Cost in pico-units and calls by model, "" for usage without one."""


class UsageReports(Protocol):
    """Answers queries about the ledger; Reporter does."""

    def report(self, query: ReportQuery, *, page_size: int = 0, page_token: str = "") -> ReportPage:
        """Return one page."""


class Owed:
    """Computes what is owed. Raises what reports raise."""

    def __init__(self, reports: UsageReports) -> None:
        self._reports = reports

    def amounts(
        self, subscription: Subscription, period: Period, billed: Amounts, *, as_of: str = ""
    ) -> tuple[dict[Key, Amount], str]:
        """Return all that is owed until the end of a period, and the position in the ledger that it was computed at.

        billed: what invoices say until now; spares looking at each period that they agree with. as_of: "" for now.
        """
        periods = list(subscription.periods(period.end_ms))
        owed: dict[Key, Amount] = {}
        for each in periods:
            owed |= plan_amounts(each)
        reading = _Reading(self._reports, subscription.tenant, as_of)
        own = [part for part in period.parts if part.terms.credits is None]
        # Also where no usage is invoiced: it fixes the position.
        reading.sums(period.start_ms, period.end_ms)
        for part in own:
            owed |= _usage_amounts(part, reading.sums(part.start_ms, part.end_ms))
        closed = [part for each in periods if each.end_ms <= period.start_ms for part in each.parts]
        for chunk in _chunks([part for part in closed if part.terms.credits is None]):
            owed |= _closed_amounts(chunk, billed, reading)
        for part in period.parts:
            owed |= _overage(part, reading)
        for chunk in _chunks([part for part in closed if _overage_picos(part) is not None]):
            owed |= _closed_overage(chunk, billed, reading)
        return owed, reading.as_of


class _Reading:
    """Reports of one tenant at one position of the ledger."""

    def __init__(self, reports: UsageReports, tenant: str, as_of: str) -> None:
        self._reports = reports
        self._tenant = tenant
        self.as_of = as_of

    def overdrawn_microcredits(self, start_ms: int, end_ms: int) -> int:
        """Return the credits of a half-open interval that nothing covered."""
        query = ReportQuery(
            start_time_us=start_ms * _US_PER_MS,
            end_time_us=end_ms * _US_PER_MS,
            tenant=self._tenant,
            measures=("credits",),
            as_of=self.as_of,
        )
        page = self._reports.report(query)
        self.as_of = page.as_of
        return page.total.overdrawn_microcredits

    def sums(self, start_ms: int, end_ms: int) -> _Sums:
        """Return the sums of a half-open interval by model."""
        query = ReportQuery(
            start_time_us=start_ms * _US_PER_MS,
            end_time_us=end_ms * _US_PER_MS,
            tenant=self._tenant,
            group_by=("model",),
            measures=("calls", "cost"),
            as_of=self.as_of,
        )
        sums: _Sums = {}
        token = ""
        while True:
            page = self._reports.report(query, page_token=token)
            for row in page.rows:
                sums[row.group[0] or ""] = (row.measures.cost_picos, row.measures.calls)
            token = page.next_page_token
            self.as_of = page.as_of
            if not token:
                return sums


def _overage_picos(part: Part) -> int | None:
    """Return the price of a credit that was used and not covered; None where the next grant pays it, or nobody."""
    terms = part.terms.credits
    return terms.overage_picos if terms is not None and terms.overage_policy == ALLOW else None


def _overage(part: Part, reading: _Reading) -> dict[Key, Amount]:
    price_picos = _overage_picos(part)
    if price_picos is None:
        return {}
    overdrawn = reading.overdrawn_microcredits(part.start_ms, part.end_ms)
    return {Key(part.start_ms, OVERAGE, part.plan): overage_amount(part, overdrawn, price_picos)}


def _closed_overage(chunk: Sequence[Part], billed: Amounts, reading: _Reading) -> dict[Key, Amount]:
    """Return what closed parts owe, as _closed_amounts() does."""
    starts = {part.start_ms for part in chunk}
    said = {key: amount for key, amount in billed.items() if key.kind == OVERAGE and key.start_ms in starts}
    found = reading.overdrawn_microcredits(chunk[0].start_ms, chunk[-1].end_ms)
    if found == sum(amount.quantity for amount in said.values()):
        return said
    amounts: dict[Key, Amount] = {}
    for part in chunk:
        amounts |= _overage(part, reading)
    return amounts


def _usage_amounts(part: Part, sums: _Sums) -> dict[Key, Amount]:
    return {
        Key(part.start_ms, USAGE, model): Amount(picos, calls, part.end_ms)
        for model, (picos, calls) in sums.items()
    }


def _closed_amounts(chunk: Sequence[Part], billed: Amounts, reading: _Reading) -> dict[Key, Amount]:
    """Return what closed parts owe: as it was billed where the sums say so, else looked up one by one."""
    starts = {part.start_ms for part in chunk}
    said = {key: amount for key, amount in billed.items() if key.kind == USAGE and key.start_ms in starts}
    totals: _Sums = {}
    for key, amount in said.items():
        picos, calls = totals.get(key.item, (0, 0))
        totals[key.item] = (picos + amount.picos, calls + amount.quantity)
    nothing = (0, 0)
    found = reading.sums(chunk[0].start_ms, chunk[-1].end_ms)
    if all(found.get(model, nothing) == totals.get(model, nothing) for model in {*found, *totals}):
        return said
    amounts: dict[Key, Amount] = {}
    for part in chunk:
        amounts |= _usage_amounts(part, reading.sums(part.start_ms, part.end_ms))
    return amounts


def _chunks(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield runs of parts without gaps that one report can sum."""
    chunk: list[Part] = []
    for part in parts:
        if chunk and (part.start_ms != chunk[-1].end_ms or part.end_ms - chunk[0].start_ms > _RANGE_MS):
            yield chunk
            chunk = []
        chunk.append(part)
    if chunk:
        yield chunk
