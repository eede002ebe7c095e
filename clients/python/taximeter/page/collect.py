# SPDX-License-Identifier: Apache-2.0
"""What the page shows, from a handful of reports that all see the same ledger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from taximeter.cli.measures import TOKEN_CLASSES
from taximeter.client import Meter
from taximeter.page.cache_savings import CacheSavings, savings
from taximeter.period import Period
from taximeter.report_query import Filter, Order, ReportQuery
from taximeter.results import LimitStatus, Measures, Report, ReportRow
from taximeter.settings import RateCardEntry

ROWS_MAX = 15
"""Models and tenants with a row of their own."""
SERIES_MAX = 6
"""Models with a colour of their own in the trend."""
LIMITS_MAX = 20
DAYS_MAX = 92
"""Longer periods are shown by month."""
_LARGEST_FIRST = (Order("cost", descending=True),)


@dataclass(frozen=True, slots=True)
class Page:
    """All of the page. Money and quantities are integers; the page writes them exactly."""

    period: Period
    before: Period
    tenant: str
    filters: tuple[Filter, ...]
    currency: str
    made_time: datetime
    as_of_time: datetime | None
    as_of: str
    total: Measures
    total_before: Measures
    buckets: Sequence[str]
    series: Sequence[str]
    trend: Sequence[tuple[str, str, int]]
    """Bucket, series, cost in pico-units."""
    models: Sequence[ReportRow]
    tenants: Sequence[ReportRow]
    savings: CacheSavings
    unpriced: Sequence[ReportRow]
    limits: Sequence[LimitStatus]
    cards: Sequence[RateCardEntry]

    @property
    def is_by_month(self) -> bool:
        """Whether the trend has a bar per month."""
        return len(self.period.days) > DAYS_MAX


def token_count(measures: Measures) -> int:
    """Tokens of all classes."""
    return sum(quantity for name, quantity in measures.quantities.items() if name in TOKEN_CLASSES)


def collect(meter: Meter, query: ReportQuery, period: Period, *, made_time: datetime) -> Page:
    """Asks for everything. `query` gives interval, tenant and filters; its groups and order do not matter."""
    before = period.before()
    base = replace(
        query, group_by=(), order=(), top=0, compare_to=(before.start_time, before.end_time), measures=()
    )
    whole = meter.query_report(base)
    # Everything after this sees what the first report saw: the parts of the page add up.
    base = replace(base, as_of=whole.as_of, as_of_time=None)
    plain = replace(base, compare_to=None)

    def top(dimension: str) -> Report:
        return meter.query_report(replace(base, group_by=(dimension,), order=_LARGEST_FIRST, top=ROWS_MAX))

    models = top("model").rows
    bucket = "month" if len(period.days) > DAYS_MAX else "day"
    trend = meter.query_report(replace(plain, group_by=(bucket, "model"))).rows
    series = [_name(row.group["model"]) for row in models[:SERIES_MAX] if not row.is_other]
    by_row = meter.query_report(
        replace(plain, group_by=("rate_card_id", "rate_card_row", "usage_class", "entry_kind"))
    )
    unpriced = replace(
        plain,
        group_by=("model", "usage_class"),
        filters=(*plain.filters, Filter("pricing", ("unpriced",))),
        order=(Order("unpriced_lines", descending=True),),
        top=ROWS_MAX,
    )
    return Page(
        period=period,
        before=before,
        tenant=query.tenant,
        filters=query.filters,
        currency=whole.total.cost.currency_code,
        made_time=made_time,
        as_of_time=whole.as_of_time,
        as_of=whole.as_of,
        total=whole.total,
        total_before=whole.compared_total or Measures(0, {}, whole.total.cost, 0),
        buckets=_buckets(period, bucket),
        series=series,
        trend=_trend(trend, bucket, series),
        models=models,
        tenants=top("root_tenant" if not query.tenant else "tenant").rows,
        savings=savings(by_row.rows),
        unpriced=meter.query_report(unpriced).rows,
        limits=_limits(meter, query.tenant),
        cards=_cards_in_force(meter.list_rate_cards(), period),
    )


def _name(value: str | None) -> str:
    return "(none)" if value is None else value


def _buckets(period: Period, bucket: str) -> list[str]:
    days = [day.isoformat() for day in period.days]
    return days if bucket == "day" else list(dict.fromkeys(day[:7] for day in days))


def _trend(rows: Iterable[ReportRow], bucket: str, series: Sequence[str]) -> list[tuple[str, str, int]]:
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        name = _name(row.group["model"])
        key = (row.group[bucket] or "", name if name in series else "other models")
        sums[key] = sums.get(key, 0) + row.measures.cost.picos
    return [(*key, cost) for key, cost in sorted(sums.items())]


def _limits(meter: Meter, tenant: str) -> list[LimitStatus]:
    """The limits at every level of the tenants that have any, fullest first."""
    found = []
    for settings in meter.list_tenants(tenant):
        found += [limit for limit in meter.quota_status(settings.name) if limit.tenant == settings.name]
    return sorted(found, key=lambda limit: -_permille(limit))[:LIMITS_MAX]


def _permille(limit: LimitStatus) -> int:
    return limit.used * 1_000 // limit.maximum if limit.maximum else 1_000


def _cards_in_force(entries: Iterable[RateCardEntry], period: Period) -> list[RateCardEntry]:
    """The cards that priced anything of the period: those published into it, and the one it began with."""
    result = []
    for entry in sorted(entries, key=lambda entry: -entry.version):
        if entry.effective_time is None or entry.effective_time >= period.end_time:
            continue
        result.append(entry)
        if entry.effective_time <= period.start_time:
            break
    return result
