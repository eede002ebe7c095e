# SPDX-License-Identifier: Apache-2.0
"""Estimate of MeteringService: what calls would cost, and what they would do to limits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import money_pb2, quota_pb2, tenant_service_pb2, usage_pb2
from taximeter_server import _native
from taximeter_server.credits import AccountStatus
from taximeter_server.errors import InvalidFieldsError, RoleMissingError
from taximeter_server.estimate import (
    DAY_MS,
    MINUTE_MS,
    Batch,
    Outcome,
    Window,
    first_to_stop,
    needed,
    run_batch,
)
from taximeter_server.estimate_credits import CreditLine, run_credits, total_microcredits
from taximeter_server.estimate_sample import PRICE_DIMENSIONS, Sample, take_sample
from taximeter_server.report import Reporter
from taximeter_server.report_csv import round_half_even
from taximeter_server.report_dimensions import is_dimension, is_time_dimension
from taximeter_server.report_query import ReportQuery, ReportRow
from taximeter_server.rpc.convert import PICOS_PER_UNIT, int64, to_money, to_timestamp
from taximeter_server.rpc.convert_report import report_query_of
from taximeter_server.rpc.principal import Principal
from taximeter_server.tenant_path import check_tenant
from taximeter_server.usage_class import QUOTA_TOKEN_CLASSES
from taximeter_server.violations import Violations

COUNT_MAX = 1_000_000_000
_SAMPLE_FIELDS = frozenset({"sample", "call_count", "rate_card_id", "limits_tenant", "calls_per_minute"})
_FIELDS = {
    "input": "uncached_input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "visible_output_tokens",
    "reasoning": "reasoning_tokens",
    "tool_calls": "tool_calls",
    "sandbox_ms": "sandbox_ms",
    "storage_byte_hours": "storage_byte_hours",
}
"""Field of Usage by class; every other class is in Usage.other."""


_Line = tuple[str, str, str, int]
"""Model, row, usage class, and what it costs, in pico-units."""


@dataclass(frozen=True, slots=True)
class _Totals:
    """What all items together need. Costs in pico-units. lines: what one item costs."""

    item_count: int
    cost_picos: int
    token_count: int
    request_count: int
    lines: tuple[_Line, ...]


@dataclass(frozen=True, slots=True)
class _Credits:
    """The account of the tenant whose limits are looked at, and what one item takes of it."""

    account: AccountStatus
    lines: Sequence[CreditLine]


class Estimates:
    """Prices usage that has not happened, or projects a sample that has."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        price: Callable[[bytes], bytes],
        quota_status: Callable[[str], bytes],
        credit_account: Callable[[str], AccountStatus | None],
        currency_code: Callable[[], str],
        clock: Callable[[], int],
    ) -> None:
        """price, quota_status: the engine's. credit_account: of a tenant's root, None without credits.

        clock: milliseconds since 1970 UTC.
        """
        self._reporter = reporter
        self._price = price
        self._quota_status = quota_status
        self._credit_account = credit_account
        self._currency_code = currency_code
        self._clock = clock

    def estimate(self, request: pb.EstimateRequest, principal: Principal) -> pb.EstimateResponse:
        """Answer a request. Raises InvalidFieldsError, TenantForbiddenError, RoleMissingError, and the engine's."""
        query = _checked(request, principal)
        if query is not None:
            response, totals = self._project(request, query)
        else:
            response, totals = self._quote(request)
        if request.limits_tenant:
            credit, account = None, self._credit_account(request.limits_tenant)
            if account is not None:
                rate = account.settings.picos_per_microcredit
                response.credit_microcredits = int64(round_half_even(_picos(response.cost), rate))
                credit = _Credits(account, _credit_lines(totals.lines, rate))
            response.limits.extend(self._limits(request, totals, credit))
        return response

    def _quote(self, request: pb.EstimateRequest) -> tuple[pb.EstimateResponse, _Totals]:
        request, usage_flags = _in_classes(request)
        response = self._priced(request)
        response.usage_flags.extend(usage_flags)
        response.low_cost.CopyFrom(response.cost)
        response.high_cost.CopyFrom(response.cost)
        count = request.call_count or 1
        tokens, dearest = _tokens(request.usage), response
        if request.HasField("high_usage"):
            high = pb.EstimateRequest()
            high.CopyFrom(request)
            high.usage.CopyFrom(request.high_usage)
            dearest = self._priced(high)
            response.high_cost.CopyFrom(dearest.cost)
            if _picos(response.high_cost) < _picos(response.low_cost):
                raise InvalidFieldsError.of("high_usage", "costs less than usage")
            tokens = max(tokens, _tokens(request.high_usage))
        # Limits are judged by the upper bound: what is promised to pass must pass.
        lines = tuple(
            (request.model, dearest.rate_card_row, line.usage_class, line.cost_picos)
            for line in dearest.lines
        )
        return response, _Totals(count, _picos(response.high_cost), tokens * count, count, lines)

    def _project(
        self, request: pb.EstimateRequest, query: ReportQuery
    ) -> tuple[pb.EstimateResponse, _Totals]:
        sample = self._sample(request, query)
        count = request.call_count or 1
        currency_code = self._currency_code()
        expected = round_half_even(sample.cost_picos * count, sample.item_count)
        is_told_apart = bool(request.sample.item_dimension)
        low, high = (
            (sample.cheapest_picos * count, sample.dearest_picos * count)
            if is_told_apart
            else (expected, expected)
        )
        response = pb.EstimateResponse(
            cost_per_call=to_money(round_half_even(sample.cost_picos, sample.item_count), currency_code),
            cost=to_money(expected, currency_code),
            low_cost=to_money(low, currency_code),
            high_cost=to_money(high, currency_code),
            rate_card_id=request.rate_card_id,
            sample_item_count=sample.item_count,
            unpriced_lines=int64(sample.unpriced_lines),
            pricing_state=usage_pb2.PRICING_STATE_PARTLY_PRICED
            if sample.unpriced_lines
            else usage_pb2.PRICING_STATE_PRICED,
        )
        tokens, calls = (
            -(-total * count // sample.item_count) for total in (sample.token_count, sample.call_count)
        )
        lines = self._sample_lines(request, query, total_picos=high, item_count=count)
        return response, _Totals(count, high, tokens, calls, lines)

    def _sample_lines(
        self, request: pb.EstimateRequest, query: ReportQuery, *, total_picos: int, item_count: int
    ) -> tuple[_Line, ...]:
        """Return what an item costs of each model and class, rounded up: a total in the proportions of the sample."""
        if not request.limits_tenant or self._credit_account(request.limits_tenant) is None:
            return ()
        names = ("model", "rate_card_row", "usage_class")
        rows = list(self._reporter.rows(replace(query, group_by=names, measures=("cost",))))
        sum_picos = sum(row.measures.cost_picos for row in rows)
        if sum_picos <= 0:
            return (("", "", "", -(-total_picos // item_count)),)
        parts = []
        for row in rows:
            model, card_row, usage_class = (str(name or "") for name in row.group)
            picos = -(-total_picos * row.measures.cost_picos // (sum_picos * item_count))
            parts.append((model, card_row, usage_class, picos))
        return tuple(parts)

    def _sample(self, request: pb.EstimateRequest, query: ReportQuery) -> Sample:
        message = request.sample
        return take_sample(
            self._reporter.rows,
            query,
            item_dimension=message.item_dimension,
            item_count=message.item_count,
            price=(lambda row: self._price_row(row, request)) if request.rate_card_id else None,
        )

    def _price_row(self, row: ReportRow, asked: pb.EstimateRequest) -> int:
        """Price what records of one model used by another card."""
        values = dict(zip(PRICE_DIMENSIONS, row.group[-len(PRICE_DIMENSIONS) :], strict=True))
        usage = _usage(row.measures.quantities, min(row.measures.calls, 2**31 - 1))
        named = {name: value for name, value in values.items() if value is not None}
        request = pb.EstimateRequest(
            usage=usage,
            rate_card_id=asked.rate_card_id,
            limits_tenant=asked.limits_tenant,
            **named,  # type: ignore[arg-type]
        )
        return _picos(self._priced(request).cost)

    def _priced(self, request: pb.EstimateRequest) -> pb.EstimateResponse:
        return pb.EstimateResponse.FromString(self._price(request.SerializeToString()))

    def _limits(
        self, request: pb.EstimateRequest, totals: _Totals, credit: _Credits | None
    ) -> list[pb.EstimateLimit]:
        content = self._quota_status(request.limits_tenant)
        shown = tenant_service_pb2.GetQuotaStatusResponse.FromString(content).limits
        # One that is only watched stops nothing.
        statuses = [status for status in shown if not status.shadow]
        now_ms = self._clock()
        found = [_outcome(status, totals, credit, request.calls_per_minute, now_ms) for status in statuses]
        limits = []
        for index in first_to_stop([outcome for _, outcome in found]):
            batch, outcome = found[index]
            limit = pb.EstimateLimit(
                status=statuses[index],
                needed=int64(needed(batch, batch.item_count)),
                remaining_after=int64(max(0, outcome.remaining)),
                stops=outcome.stop_time_ms is not None,
                passed_count=outcome.passed_count,
            )
            if outcome.stop_time_ms is not None:
                limit.stop_time.CopyFrom(to_timestamp(outcome.stop_time_ms))
            limits.append(limit)
        return limits


def _checked(request: pb.EstimateRequest, principal: Principal) -> ReportQuery | None:
    """Return which records are the sample, None without one. Raises what can be raised before anything is priced."""
    violations, query = Violations(), None
    for name in ("call_count", "calls_per_minute"):
        if not 0 <= getattr(request, name) <= COUNT_MAX:
            violations.add(name, f"0 to {COUNT_MAX:,}")
    if request.limits_tenant:
        with violations:
            principal.require_reach(check_tenant(request.limits_tenant, "limits_tenant"))
    if request.HasField("sample"):
        if principal.role not in {"admin", "read"}:
            raise RoleMissingError
        for field, _ in request.ListFields():
            if field.name not in _SAMPLE_FIELDS:
                violations.add(field.name, "excludes sample")
        with violations:
            query = _sample_query(request.sample, principal)
    violations.raise_any()
    return query


def _sample_query(message: pb.EstimateSample, principal: Principal) -> ReportQuery:
    violations = Violations()
    for field, _ in message.query.ListFields():
        if field.name in {"group_by", "measures", "order", "top", "compare_to"}:
            violations.add(f"sample.query.{field.name}", "is not for samples")
    query = report_query_of(message.query, principal.tenants, violations, within="sample.")
    if not 0 <= message.item_count <= COUNT_MAX:
        violations.add("sample.item_count", f"0 to {COUNT_MAX:,}")
    if message.item_dimension:
        if message.item_count:
            violations.add("sample.item_count", "excludes sample.item_dimension")
        if not is_dimension(message.item_dimension) or is_time_dimension(message.item_dimension):
            violations.add("sample.item_dimension", "is not a dimension that tells items apart")
    violations.raise_any()
    if query.tenant:
        principal.require_reach(query.tenant)
    return query


def _outcome(
    status: quota_pb2.LimitStatus,
    totals: _Totals,
    credit: _Credits | None,
    calls_per_minute: int,
    now_ms: int,
) -> tuple[Batch, Outcome]:
    if status.kind == quota_pb2.LIMIT_KIND_CREDITS and credit is not None:
        total = total_microcredits(credit.lines) * totals.item_count
        batch = Batch(totals.item_count, total, calls_per_minute)
        return batch, run_credits(batch, credit.lines, credit.account, now_ms=now_ms)
    amounts: Mapping[int, int] = {
        quota_pb2.LIMIT_KIND_REQUESTS_PER_MINUTE: totals.request_count,
        quota_pb2.LIMIT_KIND_TOKENS_PER_DAY: totals.token_count,
        quota_pb2.LIMIT_KIND_COST_PER_DAY: max(0, totals.cost_picos),
    }
    is_minute = status.kind == quota_pb2.LIMIT_KIND_REQUESTS_PER_MINUTE
    length_ms = MINUTE_MS if is_minute else DAY_MS
    end_ms = now_ms + MINUTE_MS if is_minute else (now_ms // DAY_MS + 1) * DAY_MS
    batch = Batch(totals.item_count, amounts.get(status.kind, 0), calls_per_minute)
    window = Window(status.maximum, status.remaining, end_ms, length_ms)
    return batch, run_batch(batch, window, now_ms=now_ms)


def _credit_lines(lines: Iterable[_Line], rate_picos: int) -> list[CreditLine]:
    """Return what lines take, each converted alone as the store does."""
    return [
        CreditLine(model, row, usage_class, round_half_even(max(0, picos), rate_picos))
        for model, row, usage_class, picos in lines
    ]


def _usage(quantities: Mapping[str, int], calls: int) -> usage_pb2.Usage:
    usage = usage_pb2.Usage(calls=calls)
    for name, quantity in quantities.items():
        if name in _FIELDS:
            setattr(usage, _FIELDS[name], int64(quantity))
        else:
            usage.other[name] = int64(quantity)
    return usage


def _in_classes(request: pb.EstimateRequest) -> tuple[pb.EstimateRequest, list[str]]:
    """Put a provider's usage in classes. Returns the request so, and what is remarkable about the numbers."""
    if not request.HasField("provider_usage"):
        return request, []
    if request.HasField("usage"):
        raise InvalidFieldsError.of("provider_usage", "excludes usage")
    reported = request.provider_usage
    try:
        found = _native.normalise_usage(
            provider=reported.provider,
            api=reported.api,
            usage_json=reported.usage_json,
            iteration_model=reported.iteration_model,
        )
    except _native.UsageError as error:
        field, description = error.args
        raise InvalidFieldsError.of(f"provider_usage.{field}", description) from None
    made = pb.EstimateRequest()
    made.CopyFrom(request)
    made.ClearField("provider_usage")
    made.usage.CopyFrom(_usage(found["classes"], found["calls"]))
    made.provider = request.provider or reported.provider
    made.tier = found["tier"] or request.tier
    made.region = found["region"] or request.region
    made.speed = found["speed"] or request.speed
    return made, found["flags"]


def _tokens(usage: usage_pb2.Usage) -> int:
    named = usage.uncached_input_tokens + usage.visible_output_tokens + usage.reasoning_tokens
    return named + sum(quantity for name, quantity in usage.other.items() if name in QUOTA_TOKEN_CLASSES)


def _picos(money: money_pb2.Money) -> int:
    return money.units * PICOS_PER_UNIT + money.picos
