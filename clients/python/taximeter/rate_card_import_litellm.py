# SPDX-License-Identifier: Apache-2.0
"""From the price data of the package litellm to rows of a rate card.

A field is a class, perhaps a context (`_above_200k_tokens`: the whole prompt) and perhaps a service tier (`_priority`):
`input_cost_per_token_above_200k_tokens_priority`. As the package calculates, a price for the context alone goes before
one for the tier alone, and reasoning costs what output does in a tier that prices output alone.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from taximeter.rate_card_import_card import (
    ImportedCard,
    ImportedDataError,
    ImportedEntry,
    ImportedRow,
    Origin,
    Prices,
    price_of,
    quoted,
)

PACKAGE = "litellm"
DATA_FILE = "litellm/model_prices_and_context_window_backup.json"

_TOKENS = 1_000_000
_HOUR_SECONDS = 3_600
_THOUSAND = 1_000
_CLASSES = {
    "input_cost_per_token": ("input", _TOKENS),
    "output_cost_per_token": ("output", _TOKENS),
    "cache_read_input_token_cost": ("cache_read", _TOKENS),
    "input_cost_per_token_cache_hit": ("cache_read", _TOKENS),
    "cache_creation_input_token_cost": ("cache_write", _TOKENS),
    "cache_creation_input_token_cost_above_1hr": ("cache_write_1h", _TOKENS),
    "output_cost_per_reasoning_token": ("reasoning", _TOKENS),
    "input_cost_per_audio_token": ("input_audio", _TOKENS),
    "input_cost_per_image_token": ("input_image", _TOKENS),
    "input_cost_per_video_token": ("input_video", _TOKENS),
    "output_cost_per_audio_token": ("output_audio", _TOKENS),
    "output_cost_per_image_token": ("output_image", _TOKENS),
    "output_cost_per_video_token": ("output_video", _TOKENS),
    "cache_read_input_audio_token_cost": ("cache_read_audio", _TOKENS),
    "cache_read_input_image_token_cost": ("cache_read_image", _TOKENS),
    "citation_cost_per_token": ("citation", _TOKENS),
    "input_cost_per_character": ("characters", _TOKENS),
    "input_cost_per_request": ("requests", 1),
    "input_cost_per_text_message": ("text_messages", _THOUSAND),
    "ocr_cost_per_page": ("pages", _THOUSAND),
    "annotation_cost_per_page": ("annotated_pages", _THOUSAND),
    "code_interpreter_cost_per_session": ("code_sessions", 1),
    "file_search_cost_per_1k_calls": ("file_searches", 1),
}
_QUERY_CLASSES = {"rerank": "rerank_units", "search": "web_searches"}
_TIERS = {"batches": "batch"}
_FIELD = re.compile(
    r"(?P<base>.+?)(?:_above_(?P<context>[0-9]+)(?P<kilo>k?)_tokens)?"
    r"(?:_(?P<tier>batches|flex|priority|ultrafast|balanced|decisions))?"
)
_REASONS = (
    (re.compile(r"dbu"), "a price in another unit than money"),
    (re.compile(r"video.*second|second.*[0-9]+[kp]$|second_(2k|4k)"), "no class for seconds of video"),
    (re.compile(r"second"), "no class for seconds of this kind"),
    (re.compile(r"pixel"), "no class for pixels"),
    (re.compile(r"image"), "no class for images of this kind or size"),
    (re.compile(r"grounding"), "no class for searches of this kind"),
)
_PROVIDERS = {"bedrock_converse": "bedrock", "azure_text": "azure", "cohere_chat": "cohere"}
_INCLUSIVE_CONTEXT_PROVIDERS = ("xai",)
"""Providers whose price for long prompts begins at the limit, as the package calculates it."""
_NO_MODELS = ("sample_spec", "fallback_generalizations")
_MULTIPLIERS = {"us": ("region", "us"), "fast": ("speed", "fast")}
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]")
_NO_CONTEXT = 0


class _Condition(NamedTuple):
    context_tokens: int = _NO_CONTEXT
    tier: str = ""


def import_litellm(data: Any, origin: Origin, providers: tuple[str, ...] = ()) -> ImportedCard:
    """Returns the card of the data, the JSON object by model. providers: only these, all without any.

    Raises ImportedDataError when the data is not of this shape.
    """
    if not isinstance(data, Mapping) or not all(isinstance(fields, Mapping) for fields in data.values()):
        raise ImportedDataError("not the data of litellm: it is an object that has an object for each model")
    card = ImportedCard(origin)
    keys = set(data)
    for key, fields in data.items():
        provider = provider_of(fields)
        if key not in _NO_MODELS and (not providers or provider in providers):
            card.add(_row(key, provider, fields, keys))
    return card


def provider_of(fields: Mapping[str, Any]) -> str:
    """Returns the provider's name as calls name it: `vertex_ai` for all its families of models."""
    provider = str(fields.get("litellm_provider") or "")
    provider = provider.removeprefix("text-completion-")
    return _PROVIDERS.get(provider) or re.sub("^(vertex_ai|fireworks_ai)-.*", r"\1", provider)


def _row(key: str, provider: str, fields: Mapping[str, Any], keys: set[str]) -> ImportedRow:
    qualified = f"{provider}/{key}"
    is_qualified = not provider or key.startswith(f"{provider}/") or qualified in keys
    link = fields.get("source")
    row = ImportedRow(key if is_qualified else qualified, f"{key} {link}" if link else key)
    row.aliases = [] if is_qualified else [key]
    found: dict[_Condition, Prices] = {_Condition(): {}}
    for name, value in fields.items():
        _read_field(row, found, fields, name, value)
    _read_tiered(row, found, fields.get("tiered_pricing", ()))
    row.prices = found.pop(_Condition())
    context_word = "context_from" if provider in _INCLUSIVE_CONTEXT_PROVIDERS else "context_over"
    for condition in sorted(found, key=_order):
        prices = found[condition]
        if condition.tier and "reasoning" in row.prices and "output" in prices:
            prices.setdefault("reasoning", prices["output"])
        if prices:
            row.entries.append(ImportedEntry(_conditions(condition, context_word), prices))
    row.entries += _off_peak(row, fields.get("off_peak_pricing"))
    row.entries += _multipliers(row, fields.get("provider_specific_entry"))
    return row


def _order(condition: _Condition) -> tuple[int, int, str]:
    """Tiers, then contexts upwards, then tiers with contexts: the later one counts."""
    specific = (condition.context_tokens != _NO_CONTEXT) * (1 + bool(condition.tier))
    return specific, condition.context_tokens, condition.tier


def _conditions(condition: _Condition, context_word: str) -> dict[str, str]:
    found = {"tier": condition.tier} if condition.tier else {}
    return found | ({context_word: str(condition.context_tokens)} if condition.context_tokens else {})


def _read_field(
    row: ImportedRow, found: dict[_Condition, Prices], fields: Mapping[str, Any], name: str, value: Any
) -> None:
    if "cost" not in name or value is None:
        return
    if name == "search_context_cost_per_query":
        _read_search(row, found[_Condition()], value)
        return
    matched = _FIELD.fullmatch(name)
    context = int(matched["context"] or 0) * (_THOUSAND if matched["kilo"] else 1) if matched else _NO_CONTEXT
    tier = (matched["tier"] or "") if matched else ""
    base = matched["base"] if matched else name
    what = f"{name} {value}"
    is_second_name = name == "input_cost_per_token_cache_hit" and "cache_read_input_token_cost" in fields
    usage_class, units = _class_of(base, fields)
    if not usage_class:
        row.drop(what, _reason(base, value))
    elif not (is_second_name and fields["cache_read_input_token_cost"] == value):
        prices = found.setdefault(_Condition(context, _TIERS.get(tier, tier)), {})
        row.take(prices, usage_class, price_of(value, usage_class, units), what)


def _class_of(base: str, fields: Mapping[str, Any]) -> tuple[str, int]:
    """Returns class and units of its price; an empty class for none."""
    mode = fields.get("mode")
    if base in _CLASSES:
        return _CLASSES[base]
    if base in ("input_cost_per_second", "output_cost_per_second") and mode in (
        "audio_transcription",
        "realtime",
    ):
        # One of them is the price; with both, the package charges what stands under output unless that is 0.
        other = fields.get("output_cost_per_second")
        is_other = base == "input_cost_per_second" and other and other != fields[base]
        is_zero = base == "output_cost_per_second" and not other and fields.get("input_cost_per_second")
        return ("", 1) if is_other or is_zero else ("audio_ms", _HOUR_SECONDS)
    if base == "input_cost_per_query":
        usage_class = _QUERY_CLASSES.get(str(mode), "requests")
        return usage_class, 1 if usage_class == "requests" else _THOUSAND
    if base == "output_cost_per_image" and mode in ("image_generation", "image_edit"):
        return "images", 1
    if (
        base == "input_cost_per_image"
        and mode == "image_generation"
        and "output_cost_per_image" not in fields
    ):
        return "images", 1
    return "", 1


def _reason(base: str, value: Any) -> str:
    if not value:
        return "no class for this field, which is 0"
    if isinstance(value, Mapping):
        return "a price of several parts"
    for pattern, reason in _REASONS:
        if pattern.search(base):
            return reason
    return f"no class for {base}"


def _read_search(row: ImportedRow, prices: Prices, value: Any) -> None:
    """Searches cost by the size of what they return; where sizes differ, the middle one is the default."""
    sizes = value if isinstance(value, Mapping) else {}
    usual = sizes.get("search_context_size_medium")
    if usual is None:
        row.drop(f"search_context_cost_per_query {value}", "searches without a price for the middle size")
        return
    row.take(
        prices,
        "web_searches",
        price_of(usual, "web_searches", _THOUSAND),
        f"search_context_size_medium {usual}",
    )
    for size, cost in sizes.items():
        if cost != usual:
            row.drop(f"{size} {cost}", "no condition for how much a search returns")


def _read_tiered(row: ImportedRow, found: dict[_Condition, Prices], tiers: Any) -> None:
    """Reads prices by ranges of the prompt; in each range all tokens have its prices."""
    for tier in sorted(_ranges(row, tiers), key=lambda tier: tier["range"][0]):
        start = int(tier["range"][0])
        for name, value in tier.items():
            usage_class, units = _CLASSES.get(name, ("", 1))
            if usage_class:
                prices = found.setdefault(_Condition(start), {})
                row.take(prices, usage_class, price_of(value, usage_class, units), f"tiered {name} {value}")
            elif name != "range":
                row.drop(f"tiered {name} {value}", "no class for a field of a range")


def _ranges(row: ImportedRow, tiers: Any) -> Iterator[Mapping[str, Any]]:
    for tier in tiers:
        start = tier.get("range", [None])[0]
        if start is not None and start == int(start):
            yield tier
        else:
            row.drop(f"tiered_pricing {dict(tier)}", "a price by something else than the prompt")


def _off_peak(row: ImportedRow, block: Any) -> Iterator[ImportedEntry]:
    if not block:
        return
    prices: Prices = {}
    for name, value in block.items():
        if name in _CLASSES:
            usage_class, units = _CLASSES[name]
            row.take(prices, usage_class, price_of(value, usage_class, units), f"off_peak {name} {value}")
        elif name not in ("hours_utc", "windows"):
            row.drop(f"off_peak {name} {value}", "a condition of time that a card does not have")
            return
    rules = [{"hours_utc": block["hours_utc"]}] if "hours_utc" in block else []
    for rule in [*rules, *block.get("windows", ())]:
        hours = rule.get("hours_utc")
        windows = [hours] if isinstance(hours, str) else list(hours or ())
        days = rule.get("weekdays", range(1, len(_WEEKDAYS) + 1))
        if not windows or not all(map(_WINDOW.fullmatch, windows)) or not set(days) <= set(range(1, 8)):
            row.drop(f"off_peak {dict(rule)}", "a condition of time that a card does not have")
            continue
        conditions = {"days": f"[{', '.join(_WEEKDAYS[day - 1] for day in days)}]"}
        texts = [quoted(re.sub("-00:00$", "-24:00", window)) for window in windows]
        if quoted("00:00-24:00") not in texts:
            conditions["utc"] = f"[{', '.join(texts)}]"
        yield ImportedEntry(conditions, prices)


def _multipliers(row: ImportedRow, entry: Any) -> Iterator[ImportedEntry]:
    """Yields what a region or speed multiplies the price of tokens by."""
    for name, value in (entry or {}).items():
        if name in _MULTIPLIERS and isinstance(value, Decimal | int):
            condition, wanted = _MULTIPLIERS[name]
            yield ImportedEntry({condition: wanted}, multiply=Decimal(value))
        else:
            row.drop(f"provider_specific_entry {name} {value}", "a rule of the package's own")
