# SPDX-License-Identifier: Apache-2.0
"""Adjustments: what recorded usage was charged is corrected to what a published card makes it cost.

A record never changes. Its correction is an entry of its own that repeats the record's tenant, dimensions and time and
holds, for each line that changes, the new cost less all that had been charged for it. So posting the same again finds
no difference, whenever that is and wherever it was cut off.

The id of an adjustment says which record it corrects and how many had corrected it before. Two who correct the same
record at the same time therefore make the same id: of equal corrections one is posted, of different ones the second
is a conflict, and never both.

A line that the card has no price for keeps what it was charged.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taximeter_server import _native
from taximeter_server.card_comparison import CardRun, compared
from taximeter_server.credit_returns import taken_of, with_returns
from taximeter_server.errors import InvalidFieldsError
from taximeter_server.ledger_usage import UsageBatch
from taximeter_server.timeline_log import NOTE_LENGTH_MAX

ADJUSTMENT_ID_PREFIX = "adj-"
POST_ENTRIES_MAX = 500
"""Adjustments handed to the engine at once."""

_DIMENSIONS = ("model", "provider", "tier", "region", "speed")
_USAGE_COLUMNS = (
    *("entry", "tenant", "record_id", "occur_time_us", *_DIMENSIONS, "attributes", "quality"),
    *("adjustment_count", "usage_class", "charged_picos", "charged_list_picos", "charged_unpriced"),
    "credit_moves",
)
_PRICE_COLUMNS = (
    *("rate_card_row", "priced_as", "billed_quantity", "amount_picos", "per", "cost_picos"),
    *("tenant_prices_version", "tenant_prices_id"),
    *("list_priced_as", "list_amount_picos", "list_per", "list_cost_picos"),
)

Post = Callable[[bytes], list[str]]
"""Engine.post_adjustments."""


@dataclass(frozen=True, slots=True)
class AdjustingCard:
    """The published card to charge by, as adjustments name it."""

    rate_card_id: str
    version: int
    prices: _native.RateCard


@dataclass(frozen=True, slots=True)
class PostProgress:
    """What was read and posted so far. conflicts: records that somebody else adjusted meanwhile."""

    records_read: int
    adjustments_posted: int
    conflicts: int


def check_note(note: str, field: str = "note") -> str:
    """Return note unchanged. Raises InvalidFieldsError when it is empty or too long."""
    if not note.strip():
        raise InvalidFieldsError.required(field)
    if len(note) > NOTE_LENGTH_MAX:
        raise InvalidFieldsError.of(field, f"at most {NOTE_LENGTH_MAX} characters")
    return note


class AdjustmentPoster:
    """Posts adjustments. Thread-safe."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def post(self, run: CardRun, card: AdjustingCard, *, note: str, author: str) -> Iterator[PostProgress]:
        """Post what is missing, yielding how far it has come; the sums of run are then those of what was posted.

        Raises as CardRun.compare does, and what the engine raises. After an error anything may have been posted that
        was read before; posting again is safe.
        """
        records_read = posted = conflicts = 0
        head = {
            "rate_card_id": card.rate_card_id,
            "rate_card_version": card.version,
            "note": note,
            "author": author,
        }
        for batch, priced in run.price(card.prices, field="card", with_entry=True):
            records_read += batch.entry_count
            rows = _changed_rows(run, batch, priced)
            lines = rows.to_pylist()
            entries = [list(group) for _, group in itertools.groupby(lines, key=lambda line: line["entry"])]
            for first in range(0, len(entries), POST_ENTRIES_MAX):
                chunk = entries[first : first + POST_ENTRIES_MAX]
                states = self._post(json.dumps([_adjustment(entry, head) for entry in chunk]).encode())
                numbers = [entry[0]["entry"] for entry in chunk]
                applied = [
                    number for number, state in zip(numbers, states, strict=True) if state == "applied"
                ]
                posted += len(applied)
                conflicts += states.count("conflict")
                run.sums.add(_sums_of(rows, applied))
                yield PostProgress(records_read, posted, conflicts)
            if not entries:
                yield PostProgress(records_read, posted, conflicts)


def _changed_rows(run: CardRun, batch: UsageBatch, priced: pa.Table) -> pa.Table:
    """Return the lines whose charge the card changes, with usage and prices side by side."""
    usage = batch.rows
    columns = {name: usage[name] for name in (*_USAGE_COLUMNS, "calls")}
    columns |= {name: priced[name] for name in (*_PRICE_COLUMNS, "unpriced")}
    is_other = pc.or_(pc.not_equal(usage["charged_picos"], priced["cost_picos"]), usage["charged_unpriced"])
    is_changed = pc.and_(is_other, pc.invert(priced["unpriced"]))
    is_line = pc.is_valid(usage["usage_class"])
    # Filtered once only: the query's own filter goes by the rows of the usage.
    rows = run.kept(pa.table({**columns, "is_changed": pc.and_(is_changed, is_line)}), usage)
    return rows.filter(rows["is_changed"])


def _sums_of(rows: pa.Table, entries: Sequence[int]) -> pa.Table:
    posted = rows.filter(pc.is_in(rows["entry"], pa.array(entries, pa.int64())))
    return compared(posted, None, posted)


def _adjustment(lines: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> dict[str, Any]:
    """Return one adjustment as Engine.post_adjustments takes it. lines: those of one record that change."""
    record = lines[0]
    document = {
        **head,
        "kind": "adjustment",
        "tenant": record["tenant"],
        "record_id": adjustment_id(
            record["tenant"], record["record_id"], record["occur_time_us"], record["adjustment_count"]
        ),
        "adjusted_record_id": record["record_id"],
        "occur_time_us": record["occur_time_us"],
        **{name: record[name] or "" for name in _DIMENSIONS},
        "attributes": dict(record["attributes"]),
        "quality": record["quality"],
        "rate_card_row": record["rate_card_row"] or "",
        "tenant_prices_version": record["tenant_prices_version"],
        "tenant_prices_id": record["tenant_prices_id"] or "",
        "lines": [
            {
                "usage_class": line["usage_class"],
                "priced_as": line["priced_as"] or "",
                "amount_picos": line["amount_picos"],
                "per": line["per"],
                "adjusted_quantity": line["billed_quantity"],
                "previous_cost_picos": line["charged_picos"],
                "cost_picos": line["cost_picos"] - line["charged_picos"],
                "prices_unpriced": line["charged_unpriced"],
                "list_priced_as": line["list_priced_as"] or "",
                "list_amount_picos": line["list_amount_picos"],
                "list_per": line["list_per"],
                "list_cost_picos": line["list_cost_picos"] - line["charged_list_picos"],
            }
            for line in lines
        ],
    }
    taken = taken_of((line["usage_class"], line["credit_moves"]) for line in lines)
    costs = (line["cost_picos"] for line in lines)
    return with_returns(document, taken, zip(document["lines"], costs, strict=True))


def adjustment_id(tenant: str, record_id: str, occur_time_us: int, adjustment_count: int) -> str:
    """Return the identity of the next adjustment of a record that was adjusted adjustment_count times."""
    identity = json.dumps([tenant, record_id, occur_time_us, adjustment_count]).encode()
    return ADJUSTMENT_ID_PREFIX + hashlib.sha256(identity).hexdigest()[:40]
