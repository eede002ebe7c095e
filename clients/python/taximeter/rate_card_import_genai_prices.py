# SPDX-License-Identifier: Apache-2.0
"""From the price data of the package genai-prices to rows of a rate card.

A model has prices, or several with the time when each begins or the hours when it counts, of which the last that holds
counts alone; and variants that replace single prices for a service tier or speed, of which the first counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

from taximeter.rate_card_import_card import (
    CLASS_PER,
    ImportedCard,
    ImportedDataError,
    ImportedEntry,
    ImportedPrice,
    ImportedRow,
    Origin,
    Prices,
    price_of,
    quoted,
)
from taximeter.rate_card_import_names import NameOwners, add_aliases

PACKAGE = "genai-prices"

_CLASSES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "input_video_mtok": "input_video",
    "cache_audio_read_mtok": "cache_read_audio",
    "cache_image_read_mtok": "cache_read_image",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "output_video_mtok": "output_video",
    "output_citation_mtok": "citation",
    "web_searches_kcount": "web_searches",
    "storage_searches_kcount": "file_searches",
    "input_text_messages_kcount": "text_messages",
    "input_document_kpages": "pages",
    "input_annotated_document_kpages": "annotated_pages",
    "input_mchars": "characters",
    "audio_hours": "audio_ms",
    "input_audio_hours": "audio_ms",
}
_THOUSAND_REQUESTS = "requests_kcount"
_SELECTORS = {"processing": "tier", "service_tier": "tier", "speed": "speed"}
_MINIMUM_MS = 10_000
_MINIMUM_MODELS = (("groq", "whisper-large-v3"), ("groq", "whisper-large-v3-turbo"))
"""Audio of less than 10 s costs 10 s: the package has that in its code."""
_DAY_MINUTES = 1_440
_NO_CONTEXT = 0

_ByContext = dict[int, Prices]
_Windows = set[int]
"""Minutes of the day."""


class _Constraint(NamedTuple):
    """When prices hold. start: date, "" for always. minutes: of each day, None for all."""

    start: str = ""
    minutes: frozenset[int] | None = None


def import_genai_prices(data: Any, origin: Origin, providers: tuple[str, ...] = ()) -> ImportedCard:
    """Returns the card of the data, the JSON list of providers. providers: only these, all without any.

    Raises ImportedDataError when the data is not of this shape.
    """
    if not isinstance(data, Sequence) or not all(
        isinstance(each, Mapping) and "models" in each for each in data
    ):
        raise ImportedDataError("not the data of genai-prices: it is a list of providers with their models")
    owners = NameOwners(data)
    card = ImportedCard(origin)
    for provider in data:
        for model in provider["models"] if not providers or provider["id"] in providers else ():
            card.add(_row(provider, model, owners))
    return card


def _row(provider: Mapping[str, Any], model: Mapping[str, Any], owners: NameOwners) -> ImportedRow:
    checked = model.get("prices_checked")
    name = f"{provider['id']}/{model['id']}"
    row = ImportedRow(name, f"{provider['id']} {model['id']}{f', checked {checked}' if checked else ''}")
    if owners.provider_id(model["id"]) == provider["id"]:
        row.aliases.append(model["id"])
    add_aliases(row, model, provider, owners)
    prices = model.get("prices") or {}
    if isinstance(prices, Mapping):
        _add(row, {}, _by_context(row, prices))
    else:
        _add_periods(row, prices)
    for variant in reversed(model.get("price_variants") or ()):
        _add_variant(row, variant)
    if (provider["id"], model["id"]) in _MINIMUM_MODELS:
        for prices in (row.prices, *(entry.prices for entry in row.entries)):
            if "audio_ms" in prices:
                amount = prices["audio_ms"].amount
                prices["audio_ms"] = ImportedPrice(amount, CLASS_PER["audio_ms"], _MINIMUM_MS)
    return row


def _by_context(row: ImportedRow, prices: Mapping[str, Any]) -> _ByContext:
    """Returns prices by the prompt from which on they count."""
    found: _ByContext = {_NO_CONTEXT: {}}
    for key, value in prices.items():
        steps = {_NO_CONTEXT: value}
        if isinstance(value, Mapping):
            steps = {_NO_CONTEXT: value["base"]} | {tier["start"]: tier["price"] for tier in value["tiers"]}
        for start, amount in steps.items():
            what = f"{key} {amount}"
            if key == _THOUSAND_REQUESTS and not isinstance(price := price_of(amount, "requests", 1), str):
                row.take(found.setdefault(start, {}), "requests", ImportedPrice(price.amount, 1_000), what)
            elif key in _CLASSES:
                usage_class = _CLASSES[key]
                row.take(found.setdefault(start, {}), usage_class, price_of(amount, usage_class, 1), what)
            elif value is not None:
                row.drop(what, f"no class for {key}")
    return found


def _add(row: ImportedRow, conditions: Mapping[str, str], by_context: _ByContext) -> None:
    """Adds prices under conditions; without any, they are the row's own."""
    for start in sorted(by_context):
        context = {} if start == _NO_CONTEXT else {"context_over": str(start)}
        if not conditions and not context:
            row.prices.update(by_context[start])
        elif by_context[start]:
            row.entries.append(ImportedEntry({**conditions, **context}, by_context[start]))


def _add_periods(row: ImportedRow, periods: Sequence[Mapping[str, Any]]) -> None:
    """Adds prices that replace each other as wholes: each gets the times when no later one holds."""
    constraints = [_constraint(period.get("constraint")) for period in periods]
    if None in constraints:
        row.drop("prices with a constraint", "a condition of time that a card does not have")
        return
    known = [constraint for constraint in constraints if constraint is not None]
    found = [_by_context(row, period["prices"]) for period in periods]
    for place, (constraint, by_context) in enumerate(zip(known, found, strict=True)):
        later = known[place + 1 :]
        until = min((other.start for other in later if other.start), default="")
        start = constraint.start if place else ""
        if until and start >= until:
            continue
        conditions = {name: day for name, day in (("from", start), ("until", until)) if day}
        covered = {minute for other in later if other.minutes for minute in other.minutes}
        minutes = set(constraint.minutes or range(_DAY_MINUTES)) if place else set(range(_DAY_MINUTES))
        if any(not other.start and other.minutes is None for other in later) or not minutes - covered:
            continue
        if len(minutes - covered) < _DAY_MINUTES:
            conditions["utc"] = f"[{', '.join(_windows(minutes - covered))}]"
        _add(row, conditions, by_context)


def _constraint(constraint: Mapping[str, Any] | None) -> _Constraint | None:
    """Returns a constraint; None for one that a card cannot have."""
    if constraint is None:
        return _Constraint()
    if "start_date" in constraint:
        return _Constraint(date.fromisoformat(str(constraint["start_date"])).isoformat())
    ends = [_minute(str(constraint[name])) for name in ("start_time", "end_time")]
    start, end = ends
    if start is None or end is None:
        return None
    minutes = range(start, end) if start <= end else (*range(start, _DAY_MINUTES), *range(end))
    return _Constraint(minutes=frozenset(minutes))


def _minute(text: str) -> int | None:
    """Returns the minute of the day in UTC, None for a time between minutes."""
    at = time.fromisoformat(text)
    if at.second or at.microsecond:
        return None
    if at.tzinfo is not None:
        at = datetime.combine(date(1970, 1, 1), at).astimezone(UTC).time()
    return at.hour * 60 + at.minute


def _windows(minutes: _Windows) -> Iterator[str]:
    for start in sorted(minute for minute in minutes if minute - 1 not in minutes):
        end = next(minute for minute in range(start, _DAY_MINUTES + 1) if minute not in minutes)
        yield quoted(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}")


def _add_variant(row: ImportedRow, variant: Mapping[str, Any]) -> None:
    constraint = _constraint(variant.get("constraint"))
    conditions = {_SELECTORS.get(name, ""): quoted(value) for name, value in variant["when"].items()}
    if "" in conditions or len(conditions) < len(variant["when"]):
        row.drop(f"variant {dict(variant['when'])}", "no condition for this choice")
        return
    if constraint is None or constraint.minutes is not None:
        row.drop(f"variant {dict(variant['when'])}", "a condition of time that a card does not have")
        return
    if constraint.start:
        conditions["from"] = constraint.start
    _add(row, conditions, _by_context(row, variant["prices"]))
