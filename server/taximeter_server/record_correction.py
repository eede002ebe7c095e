# SPDX-License-Identifier: Apache-2.0
"""Records that should have said something else: taken back, or amended.

A record never changes. What corrects it is an entry of its own that repeats the record's tenant, dimensions and time,
negates every line that the record and its corrections have come to, at the prices that they were charged at, and in an
amendment goes on with the lines of what it was instead, priced by the record's own card at the record's own time.
Being one entry it is there whole or not at all.

Counters of quotas stay as they are: what was counted had been used when it was decided by, and no counter can be made
less while calls are decided by it without letting through what the day's limit forbids.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taximeter_server import _native
from taximeter_server.adjustments import Post, adjustment_id
from taximeter_server.correction_errors import (
    CorrectionConflictError,
    RecordIsCorrectionError,
    RecordVoidedError,
)
from taximeter_server.credit_returns import Returns, taken_of, with_returns
from taximeter_server.errors import CostOutOfRangeError, InvalidFieldsError
from taximeter_server.ledger import KIND_VOID
from taximeter_server.record_entries import RecordEntries, RecordFinder, Row

ATTEMPTS_MAX = 3
"""How often a record is looked at again after somebody else corrected it meanwhile."""

_DIMENSIONS = ("model", "provider", "tier", "region", "speed")
_PRICE = ("priced_as", "amount_picos", "per", "list_priced_as", "list_amount_picos", "list_per")
_SUMMED = ("quantity", "billed_quantity", "cost_picos", "list_billed_quantity", "list_cost_picos")
_NANOS_PER_MICRO = 1_000

Line = dict[str, Any]
"""A line of a correction, as Engine.post_adjustments takes it."""


@dataclass(frozen=True, slots=True)
class Amended:
    """What a record should have said: quantities by class, without zeros."""

    quantities: Mapping[str, int]
    calls: int


@dataclass(frozen=True, slots=True)
class Target:
    """The record to correct. occur_time_us: tells records of one id apart, None where there is but one."""

    tenant: str
    record_id: str
    occur_time_us: int | None


@dataclass(frozen=True, slots=True)
class Correction:
    """What a correction made of a record. lines: what the record is now. correction_id: "" where there was none."""

    correction_id: str
    duplicate: bool
    occur_time_us: int
    previous_cost_picos: int
    lines: tuple[Line, ...]

    @property
    def cost_picos(self) -> int:
        """What the record comes to now."""
        return sum(line["cost_picos"] for line in self.lines)


class RecordCorrector:
    """Takes records back and amends them. Thread-safe."""

    def __init__(
        self,
        finder: RecordFinder,
        *,
        canonical_json: Callable[[str], str],
        post: Post,
        expect_returns: Callable[[str, Collection[str]], None],
    ) -> None:
        """canonical_json: that of a published card or of a tenant's own prices, by its id.

        expect_returns: is told of a tenant, and of grants that are about to be given credits back.
        """
        self._finder = finder
        self._canonical_json = canonical_json
        self._post = post
        self._expect_returns = expect_returns

    def correct(self, target: Target, amended: Amended | None, *, reason: str, author: str) -> Correction:
        """Amend a record, or take it back where amended is None.

        Raises RecordUnknownError, RecordIsCorrectionError, RecordVoidedError, CorrectionConflictError,
        CostOutOfRangeError, InvalidFieldsError, and what the engine raises.
        """
        for _ in range(ATTEMPTS_MAX):
            entries = self._entries(target)
            state = _State(entries)
            if state.is_void and amended is not None:
                raise RecordVoidedError(state.last_id)
            if state.is_void or (amended is not None and state.says(amended)):
                return state.unchanged()
            lines = () if amended is None else self._priced(entries.record, amended)
            correction = state.corrected(lines)
            calls = (amended.calls if amended else 0) - state.calls
            now = _with_calls(lines, amended.calls if amended else 0)
            document = {
                **_head(entries, correction.correction_id, note=reason, author=author),
                "kind": "void" if amended is None else "amendment",
                "calls": calls,
                "lines": [*state.taken_back(), *now],
            }
            document = with_returns(
                document, state.credits_taken, ((line, line["cost_picos"]) for line in now)
            )
            self._expect_returns(target.tenant, {grant_id for _, grant_id in state.credits_taken} - {""})
            (outcome,) = self._post(json.dumps([document]).encode())
            if outcome != "conflict":
                return correction
        raise CorrectionConflictError

    def _entries(self, target: Target) -> RecordEntries:
        found = self._finder.find(target.record_id, tenant=target.tenant, readable_tenants=None)
        if any(rows[0]["record_id"] == target.record_id for one in found for rows in one.corrections):
            raise RecordIsCorrectionError(found[0].record["record_id"])
        if target.occur_time_us is not None:
            found = [one for one in found if one.record["occur_time_us"] == target.occur_time_us]
        if len(found) != 1:
            raise InvalidFieldsError.of(
                "occur_time",
                "no record of this id happened then" if not found else "the id came again: say when",
            )
        return found[0]

    def _priced(self, record: Row, amended: Amended) -> tuple[Line, ...]:
        """Return the lines of what a record was, by its own card and its tenant's own prices of the time."""
        if record["rate_card_id"] is None:
            return tuple(_unpriced(name, quantity) for name, quantity in amended.quantities.items())
        own = record["tenant_prices_id"]
        try:
            priced = _native.RateCard(self._canonical_json(record["rate_card_id"]).encode()).price(
                model=record["model"] or "",
                usage=amended.quantities,
                provider=record["provider"] or "",
                occur_time_nanos=record["occur_time_us"] * _NANOS_PER_MICRO,
                tier=record["tier"] or "",
                region=record["region"] or "",
                speed=record["speed"] or "",
                calls=amended.calls,
                tenant_prices=_native.TenantPrices(self._canonical_json(own).encode()) if own else None,
            )
        except OverflowError:
            raise CostOutOfRangeError("usage", record["tenant"], record["record_id"]) from None
        return tuple(map(_line, priced.lines))


class _State:
    """What a record has come to, with everything that corrected it."""

    def __init__(self, entries: RecordEntries) -> None:
        self._entries = entries
        self._rows = [row for row in entries.all_rows if row["usage_class"] is not None]
        self.calls = sum(row["calls"] for row in entries.all_rows)
        last = entries.corrections[-1][0] if entries.corrections else None
        self.is_void = last is not None and last["kind"] == KIND_VOID
        self.last_id: str = "" if last is None else last["record_id"]
        self._sums = _summed(self._rows)

    def says(self, amended: Amended) -> bool:
        """Return whether the record is this already."""
        quantities: dict[str, int] = defaultdict(int)
        for row in self._rows:
            quantities[row["usage_class"]] += row["quantity"]
        said = {name: quantity for name, quantity in quantities.items() if quantity}
        return said == amended.quantities and self.calls == amended.calls

    def unchanged(self) -> Correction:
        """Return what the record is, with the last correction that it has."""
        return Correction(
            self.last_id,
            duplicate=True,
            occur_time_us=self._occur_time_us,
            previous_cost_picos=self._cost_picos,
            lines=tuple(_now(self._sums)),
        )

    def corrected(self, lines: tuple[Line, ...]) -> Correction:
        """Return the next correction, which makes the record these lines."""
        record = self._entries.record
        number = len(self._entries.corrections)
        correction_id = adjustment_id(record["tenant"], record["record_id"], self._occur_time_us, number)
        return Correction(
            correction_id,
            duplicate=False,
            occur_time_us=self._occur_time_us,
            previous_cost_picos=self._cost_picos,
            lines=lines,
        )

    def taken_back(self) -> list[Line]:
        """Return the lines that negate everything, each at its price."""
        unpriced: dict[str, int] = defaultdict(int)
        for row in self._rows:
            unpriced[row["usage_class"]] += row["unpriced"] - row["prices_unpriced"]
        lines = []
        counted: set[str] = set()
        for key, sums in self._sums.items():
            line = _line_of(key, {name: -value for name, value in sums.items()})
            if not line["per"]:
                # The line without a price is gone; where it had got one since, that was told before.
                line["prices_unpriced"] = True
                line["unpriced"] = unpriced[line["usage_class"]] <= 0
            if line["quantity"] and line["usage_class"] not in counted:
                counted.add(line["usage_class"])
                line["calls"] = -self.calls
            lines.append(line)
        return lines

    @property
    def credits_taken(self) -> Returns:
        """What it has taken of credits."""
        return taken_of((row["usage_class"], [row["credit_moves"]]) for row in self._rows)

    @property
    def _occur_time_us(self) -> int:
        return int(self._entries.record["occur_time_us"])

    @property
    def _cost_picos(self) -> int:
        return sum(sums["cost_picos"] for sums in self._sums.values())


def _summed(rows: Iterable[Row]) -> dict[tuple[Any, ...], dict[str, int]]:
    """Return what rows come to by class and price, without what comes to nothing."""
    sums: dict[tuple[Any, ...], dict[str, int]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("usage_class", *_PRICE))
        at = sums.setdefault(key, dict.fromkeys(_SUMMED, 0))
        for name in _SUMMED:
            at[name] += row[name]
    return {key: at for key, at in sums.items() if any(at.values())}


def _line_of(key: Sequence[Any], sums: Mapping[str, int]) -> Line:
    names = dict(zip(("usage_class", *_PRICE), key, strict=True))
    return {
        **names,
        **sums,
        "priced_as": names["priced_as"] or "",
        "list_priced_as": names["list_priced_as"] or "",
        "adjusted_quantity": 0,
        "previous_cost_picos": 0,
        "unpriced": False,
        "prices_unpriced": False,
        "calls": 0,
    }


def _now(sums: Mapping[tuple[Any, ...], Mapping[str, int]]) -> list[Line]:
    """Return what a record is, a line per class and price."""
    lines = [_line_of(key, at) for key, at in sums.items()]
    for line in lines:
        line["unpriced"] = not line["per"]
    return lines


def _line(line: _native.PricedLine) -> Line:
    if line.unpriced:
        return _unpriced(line.usage_class, line.quantity)
    charged = (line.priced_as, line.amount_picos, line.per)
    listed = line.list_price or line
    list_priced = (listed.priced_as, listed.amount_picos, listed.per if listed.priced_as else 0)
    sums = {
        "quantity": line.quantity,
        "billed_quantity": line.billed_quantity,
        "cost_picos": line.cost_picos,
        "list_billed_quantity": listed.billed_quantity,
        "list_cost_picos": listed.cost_picos,
    }
    return _line_of((line.usage_class, *charged, *list_priced), sums)


def _unpriced(usage_class: str, quantity: int) -> Line:
    quantities = ("quantity", "billed_quantity", "list_billed_quantity")
    sums = {**dict.fromkeys(_SUMMED, 0), **dict.fromkeys(quantities, quantity)}
    return {**_line_of((usage_class, "", 0, 0, "", 0, 0), sums), "unpriced": True}


def _with_calls(lines: Iterable[Line], calls: int) -> list[Line]:
    return [{**line, "calls": calls} for line in lines]


def _head(entries: RecordEntries, correction_id: str, *, note: str, author: str) -> dict[str, Any]:
    """Return what a correction repeats of its record, and says of itself."""
    record = entries.record
    # Prices of the tenant's own stand on all lines, or on none; an adjustment may have brought them.
    own = next((row for row in entries.all_rows if row["tenant_prices_version"]), record)
    return {
        "tenant": record["tenant"],
        "record_id": correction_id,
        "adjusted_record_id": record["record_id"],
        "occur_time_us": record["occur_time_us"],
        **{name: record[name] or "" for name in _DIMENSIONS},
        "attributes": dict(record["attributes"]),
        "quality": record["quality"],
        "rate_card_id": record["rate_card_id"] or "",
        "rate_card_version": record["rate_card_version"],
        "rate_card_row": record["rate_card_row"] or "",
        "tenant_prices_version": own["tenant_prices_version"],
        "tenant_prices_id": own["tenant_prices_id"] or "",
        "note": note,
        "author": author,
    }
