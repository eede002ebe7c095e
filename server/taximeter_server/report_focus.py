# SPDX-License-Identifier: Apache-2.0
"""A report as FOCUS 1.2, the FinOps Open Cost and Usage Specification: one row per day, tenant, model, class and price.

Costs are exact. A pricing quantity is the billed quantity in units of the price, with up to 12 decimals, rounded half
to even. What FOCUS has no column or key for yet has a name with x_, as it asks.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from taximeter_server.ledger import KIND_NAMES, KIND_USAGE
from taximeter_server.report_csv import chunks, decimal_text, round_half_even, text_cell
from taximeter_server.report_dimensions import ATTRIBUTE_PREFIX
from taximeter_server.usage_class import BUILT_IN_CLASSES, PER_MILLION

GROUP_BY = (
    *("day", "tenant", "model", "provider", "region", "tier", "usage_class", "rate_card_id", "rate_card_row"),
    *("pricing", "entry_kind", "priced_as", "amount_picos", "per", "list_amount_picos", "list_per"),
)
"""What each row is of. Attributes may follow; they become Tags."""
SUMS = ("quantity", "billed_quantity", "cost_picos", "list_cost_picos")

_PICO_DIGITS = 12
_PICOS = 10**_PICO_DIGITS
_REMEMBERED_MAX = 10_000
"""Texts that many rows have alike and that are remembered."""
_OPERATOR = "Taximeter"
_USAGE = KIND_NAMES[KIND_USAGE]
# Consumed unit, and how many decimals the quantity is shifted by; other classes are counted as they are.
_UNITS = {
    "sandbox_ms": ("Seconds", 3),
    "audio_ms": ("Seconds", 3),
    "storage_byte_hours": ("GB-Hours", 9),
    "requests": ("Requests", 0),
}
_METERS = {
    "input": "Input Tokens",
    "cache_read": "Cached Input Tokens",
    "cache_write": "Cache Write Tokens",
    "cache_write_1h": "Cache Write Tokens, 1 Hour",
    "output": "Output Tokens",
    "reasoning": "Reasoning Tokens",
}
_CACHE_ACTIONS = {"cache_read": "Read", "cache_write": "Write"}


@dataclass(frozen=True, slots=True)
class FocusRow:
    """values: by name of GROUP_BY and attribute, None for usage without one. Sums are integers."""

    values: Mapping[str, str | None]
    quantity: int
    billed_quantity: int
    cost_picos: int
    list_cost_picos: int

    @classmethod
    def of(cls, names: Sequence[str], group: Sequence[str | None], sums: Sequence[int]) -> "FocusRow":
        """Make a row of the values of a group and SUMS."""
        return cls(dict(zip(names, group, strict=True)), *sums)


@dataclass(frozen=True, slots=True)
class FocusContext:
    """What all rows share. account_id: names the ledger, for good."""

    account_id: str
    currency_code: str
    time_zone: str


def focus_chunks(rows: Iterable[FocusRow], context: FocusContext) -> Iterator[bytes]:
    """Yield the file, header first, in pieces of at most report_csv.CHUNK_BYTES_MAX bytes."""
    return chunks(_lines(rows, context))


def _lines(rows: Iterable[FocusRow], context: FocusContext) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for row in rows:
        cells = _cells(row, context)
        yield (",".join(cells[name] if name in _NUMBERS else _cell(cells[name]) for name in COLUMNS) + "\n")


_NUMBERS = frozenset(
    {"BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "ConsumedQuantity", "PricingQuantity"}
    | {"ContractedUnitPrice", "ListUnitPrice"}
)
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit"),
    *(
        "ContractedCost",
        "ContractedUnitPrice",
        "EffectiveCost",
        "InvoiceIssuerName",
        "ListCost",
        "ListUnitPrice",
    ),
    *(
        "PricingCategory",
        "PricingCurrency",
        "PricingQuantity",
        "PricingUnit",
        "ProviderName",
        "PublisherName",
    ),
    *(
        "RegionId",
        "RegionName",
        "ResourceId",
        "ServiceCategory",
        "ServiceName",
        "ServiceSubcategory",
        "SkuId",
    ),
    *(
        "SkuMeter",
        "SkuPriceDetails",
        "SkuPriceId",
        "SubAccountId",
        "SubAccountName",
        "SubAccountType",
        "Tags",
    ),
    "x_Unpriced",
)


def _cells(row: FocusRow, context: FocusContext) -> dict[str, str]:
    values = {name: value or "" for name, value in row.values.items()}
    cost, per = decimal_text(row.cost_picos, _PICO_DIGITS), int(values["per"] or 0)
    start, end = _day(values["day"], context.time_zone)
    month_start, month_end = _month(values["day"], context.time_zone)
    usage_class = values["usage_class"] or "requests"
    unit, digits = _UNITS.get(usage_class, (_plain_unit(usage_class), 0))
    is_unpriced = values["pricing"] == "unpriced"
    provider = values["provider"] or _OPERATOR
    return {
        "BilledCost": cost,
        "BillingAccountId": context.account_id,
        "BillingAccountName": _OPERATOR,
        "BillingAccountType": "Ledger",
        "BillingCurrency": context.currency_code,
        "BillingPeriodStart": month_start,
        "BillingPeriodEnd": month_end,
        "ChargeCategory": "Usage",
        "ChargeClass": "" if values["entry_kind"] == _USAGE else "Correction",
        "ChargeDescription": _description(values, is_unpriced=is_unpriced),
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "ConsumedQuantity": _scaled(row.quantity, digits),
        "ConsumedUnit": unit,
        "ContractedCost": cost,
        "ContractedUnitPrice": _unit_price(values["amount_picos"], values["per"]),
        "EffectiveCost": cost,
        "InvoiceIssuerName": _OPERATOR,
        "ListCost": decimal_text(row.list_cost_picos, _PICO_DIGITS),
        "ListUnitPrice": _list_unit_price(values),
        "PricingCategory": "" if is_unpriced else "Standard",
        "PricingCurrency": context.currency_code,
        "PricingQuantity": _pricing_quantity(row.billed_quantity, per),
        "PricingUnit": _pricing_unit(usage_class, per),
        "ProviderName": provider,
        "PublisherName": provider,
        "RegionId": values["region"],
        "RegionName": values["region"],
        "ResourceId": "",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": provider,
        "ServiceSubcategory": "Generative AI",
        "SkuId": _sku_id(values["provider"], values["model"]) or usage_class,
        "SkuMeter": _METERS.get(usage_class, usage_class.replace("_", " ").title()),
        "SkuPriceDetails": _price_details(values["model"], values["tier"], usage_class),
        "SkuPriceId": "" if is_unpriced else _price_id(values),
        "SubAccountId": values["tenant"],
        "SubAccountName": values["tenant"],
        "SubAccountType": "Tenant",
        "Tags": _tags(row.values),
        "x_Unpriced": "true" if is_unpriced else "false",
    }


_cell = functools.lru_cache(maxsize=_REMEMBERED_MAX)(text_cell)


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def _plain_unit(usage_class: str) -> str:
    known = BUILT_IN_CLASSES.get(usage_class)
    is_token = known is not None and known.per == PER_MILLION and usage_class != "characters"
    return "Tokens" if is_token else usage_class.replace("_", " ").title()


def _scaled(quantity: int, digits: int) -> str:
    return decimal_text(quantity, digits) if digits else str(quantity)


def _pricing_quantity(billed_quantity: int, per: int) -> str:
    """Return how often the price was charged; without a price, what it would be a price of."""
    scaled = round_half_even(billed_quantity * _PICOS, per or 1)
    whole, decimals = decimal_text(scaled, _PICO_DIGITS).split(".")
    return f"{whole}.{decimals.rstrip('0')}".rstrip(".")


def _pricing_unit(usage_class: str, per: int) -> str:
    # In the unit that the class is recorded in, of which its price covers so many.
    unit = {"sandbox_ms": "Milliseconds", "audio_ms": "Milliseconds", "storage_byte_hours": "B-Hours"}
    name = unit.get(usage_class) or _UNITS.get(usage_class, (_plain_unit(usage_class), 0))[0]
    return name if per in {0, 1} else f"{per} {name}"


def _unit_price(amount_picos: str, per: str) -> str:
    return decimal_text(int(amount_picos), _PICO_DIGITS) if int(per or 0) else ""


def _list_unit_price(values: Mapping[str, str]) -> str:
    """Return the list price in the same unit as the price that was charged, as FOCUS compares the two."""
    per, list_per = int(values["per"] or 0), int(values["list_per"] or 0)
    if not per or not list_per:
        return ""
    return decimal_text(round_half_even(int(values["list_amount_picos"]) * per, list_per), _PICO_DIGITS)


def _description(values: Mapping[str, str], *, is_unpriced: bool) -> str:
    what = values["usage_class"].replace("_", " ") or "calls without usage"
    of = f" of {values['model']}" if values["model"] else ""
    correction = "" if values["entry_kind"] == _USAGE else "Correction: "
    return f"{correction}{what}{of}{', without a price' if is_unpriced else ''}"


def _sku_id(provider: str, model: str) -> str:
    return f"{provider}/{model}" if provider and model else model


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def _price_details(model: str, tier: str, usage_class: str) -> str:
    details: dict[str, str | bool] = {}
    if model:
        details["x_ModelId"] = model
    if _plain_unit(usage_class) == "Tokens" and usage_class not in _UNITS:
        is_output = usage_class.startswith(("output", "reasoning"))
        action = next(
            (name for start, name in _CACHE_ACTIONS.items() if usage_class.startswith(start)), "Uncached"
        )
        details["x_TokenDirection"] = "Output" if is_output else "Input"
        if not is_output:
            details["x_TokenCacheAction"] = action
        details["x_Reasoning"] = usage_class == "reasoning"
    if usage_class == "cache_write_1h":
        details["x_CacheTtl"] = "1h"
    if tier:
        details["x_ServiceTier"] = tier
    return json.dumps(details, separators=(",", ":"), ensure_ascii=False) if details else ""


def _price_id(values: Mapping[str, str]) -> str:
    parts = ("rate_card_id", "rate_card_row", "priced_as", "amount_picos", "per")
    return "/".join(values[name] for name in parts)


def _tags(values: Mapping[str, str | None]) -> str:
    tags = {
        name.removeprefix(ATTRIBUTE_PREFIX): value
        for name, value in values.items()
        if name.startswith(ATTRIBUTE_PREFIX) and value is not None
    }
    return json.dumps(tags, separators=(",", ":"), ensure_ascii=False) if tags else ""


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def _day(day: str, time_zone: str) -> tuple[str, str]:
    first = date.fromisoformat(day)
    return _instant(first, time_zone), _instant(first + timedelta(days=1), time_zone)


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def _month(day: str, time_zone: str) -> tuple[str, str]:
    first = date.fromisoformat(day).replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return _instant(first, time_zone), _instant(following, time_zone)


def _instant(day: date, time_zone: str) -> str:
    midnight = datetime.combine(day, time.min, ZoneInfo(time_zone))
    return midnight.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
