# SPDX-License-Identifier: Apache-2.0
"""How a record got its price: found in the ledger, priced once more by its card, and laid out step by step."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import duckdb

from taximeter_server import _native
from taximeter_server.errors import RecordUnknownError
from taximeter_server.ledger import KIND_ADJUSTMENT, LedgerSource
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_rows import rows_of_files
from taximeter_server.rate_card_conditions import condition_text, effect_text
from taximeter_server.report_conditions import conditions
from taximeter_server.report_dimensions import Parameters
from taximeter_server.report_query import ReportQuery
from taximeter_server.report_snapshot import Snapshot, take_snapshot
from taximeter_server.usage_class import BUILT_IN_CLASSES

RECORDS_MAX = 100
"""Records of one id that are shown: tenants may share ids, and time can bring one back."""

_TIME_US_MAX = 2**62
_NANOS_PER_MICRO = 1_000
_ROWS_MAX = 100_000

Row = Mapping[str, Any]
"""A row of the ledger by column."""


@dataclass(frozen=True, slots=True)
class AppliedOverlay:
    """An entry of ``when`` that applied, in words. position: from 0."""

    position: int
    condition: str
    effect: str


@dataclass(frozen=True, slots=True)
class ExplainedLine:
    """A line of the ledger. price_chain: classes that were asked for a price, in order.

    exact_picos: its cost before rounding, None when it is unpriced.
    """

    row: Row
    price_chain: tuple[str, ...]
    exact_picos: Fraction | None


@dataclass(frozen=True, slots=True)
class RecordExplanation:
    """A record and how it got its price. record: any of its rows. adjustments: rows of each, oldest first.

    resolution: as RateCard.resolve answers, None for none. is_reproduced: the card still gives the same lines.
    """

    record: Row
    resolution: Mapping[str, str] | None
    prompt_tokens: int
    overlays: tuple[AppliedOverlay, ...]
    lines: tuple[ExplainedLine, ...]
    is_reproduced: bool
    adjustments: tuple[tuple[Row, ...], ...]

    reported: Row | None = None
    """The row with what the provider reported, where the record was sent so."""

    @property
    def cost_picos(self) -> int:
        """What was charged when the usage was recorded."""
        return sum(int(line.row["cost_picos"]) for line in self.lines)

    @property
    def adjusted_cost_picos(self) -> int:
        """What is charged now."""
        return self.cost_picos + sum(int(row["cost_picos"]) for rows in self.adjustments for row in rows)


class RecordExplainer:
    """Explains records of one ledger. Thread-safe."""

    def __init__(
        self,
        source: LedgerSource,
        directory: LedgerDirectory,
        *,
        database: duckdb.DuckDBPyConnection,
        canonical_json: Callable[[str], str],
    ) -> None:
        """canonical_json: that of a published card or of a tenant's own prices, by its id."""
        self._source = source
        self._directory = directory
        self._database = database
        self._canonical_json = canonical_json

    def explain(
        self, record_id: str, *, tenant: str, readable_tenants: tuple[str, ...] | None
    ) -> list[RecordExplanation]:
        """Explain every record of that id, by tenant and time. tenant: only this one, "" for any.

        record_id may be that of an adjustment; then it is the adjusted record that is explained. Raises
        RecordUnknownError.
        """
        query = ReportQuery(0, _TIME_US_MAX, tenant=tenant, readable_tenants=readable_tenants)
        rows = self._rows(query, record_id)
        if tenant:
            rows = [row for row in rows if row["tenant"] == tenant]
        records: dict[tuple[Any, ...], list[Row]] = {}
        adjustments: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
        for row in rows:
            if row["kind"] == KIND_ADJUSTMENT:
                key = (row["tenant"], row["adjusted_record_id"], row["occur_time_us"])
                adjustments.setdefault(key, {}).setdefault(row["record_id"], []).append(row)
            else:
                records.setdefault((row["tenant"], row["record_id"], row["occur_time_us"]), []).append(row)
        if not records:
            raise RecordUnknownError
        return [
            self._explain(entry, tuple(tuple(each) for each in adjustments.get(key, {}).values()))
            for key, entry in list(records.items())[:RECORDS_MAX]
        ]

    def _rows(self, query: ReportQuery, record_id: str) -> list[Row]:
        """Return the rows of the record and of its adjustments, as they were written."""
        connection = self._database.cursor()
        try:
            snapshot = take_snapshot(
                connection, self._source, self._directory, query, as_of=None, is_with_rollups=False
            )
            found = _named(connection, query, snapshot, record_id)
            if not found:
                raise RecordUnknownError
            times_us = [time_us for _, time_us in found]
            parameters = Parameters()
            paths = [
                path
                for path, (first, last) in snapshot.files.items()
                if any(first <= at <= last for at in times_us)
            ]
            ids = ", ".join(parameters.add(name) for name in sorted({name for name, _ in found}))
            times = ", ".join(parameters.add(time_us) for time_us in sorted(set(times_us)))
            where = f"(record_id IN ({ids}) OR adjusted_record_id IN ({ids})) AND occur_time_us IN ({times})"
            where = " AND ".join((where, *conditions(query, parameters)))
            cursor = connection.execute(
                f"SELECT * FROM ({_relation(paths, parameters)}) WHERE {where}"  # noqa: S608 (names of ours)
                f" ORDER BY tenant, occur_time_us, stream_ms, stream_seq LIMIT {_ROWS_MAX}",
                parameters.values,
            )
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
        finally:
            connection.close()

    def _explain(self, rows: Sequence[Row], adjustments: tuple[tuple[Row, ...], ...]) -> RecordExplanation:
        record = rows[0]
        used = [row for row in rows if row["usage_class"] is not None]
        reported = next((row for row in rows if row["usage_json"] is not None), None)
        if record["rate_card_id"] is None:
            lines = tuple(ExplainedLine(row, (row["usage_class"],), None) for row in used)
            return RecordExplanation(record, None, 0, (), lines, True, adjustments, reported)  # noqa: FBT003 (a fact)
        text = self._canonical_json(record["rate_card_id"])
        card, document = _native.RateCard(text.encode()), json.loads(text)
        own = record["tenant_prices_id"]
        priced: Any = card.price(
            model=record["model"] or "",
            provider=record["provider"] or "",
            usage={row["usage_class"]: row["quantity"] for row in used},
            occur_time_nanos=record["occur_time_us"] * _NANOS_PER_MICRO,
            tier=record["tier"] or "",
            region=record["region"] or "",
            speed=record["speed"] or "",
            calls=record["entry_calls"],
            tenant_prices=_native.TenantPrices(self._canonical_json(own).encode()) if own else None,
        )
        when = document["rows"].get(priced["row"], {}).get("when", [])
        return RecordExplanation(
            record=record,
            resolution=card.resolve(record["model"] or "", record["provider"] or ""),
            prompt_tokens=priced["prompt_tokens"],
            overlays=tuple(
                AppliedOverlay(position, condition_text(when[position]), effect_text(when[position]))
                for position in priced["overlays_applied"]
            ),
            lines=tuple(_explained(row, document) for row in used),
            is_reproduced=_is_same(used, priced["lines"]),
            adjustments=adjustments,
            reported=reported,
        )


def _named(
    connection: duckdb.DuckDBPyConnection, query: ReportQuery, snapshot: Snapshot, record_id: str
) -> list[tuple[str, int]]:
    """Return (identity of the record that is meant, when it occurred), reading as few columns as that takes."""
    parameters = Parameters()
    relation = _relation(sorted(snapshot.files), parameters)
    where = " AND ".join((f"record_id = {parameters.add(record_id)}", *conditions(query, parameters)))
    return connection.execute(
        "SELECT DISTINCT coalesce(adjusted_record_id, record_id), occur_time_us"  # noqa: S608 (names of ours)
        f" FROM ({relation}) WHERE {where} LIMIT {RECORDS_MAX}",
        parameters.values,
    ).fetchall()


def _relation(paths: Sequence[str], parameters: Parameters) -> str:
    tail = "SELECT * FROM tail"
    return f"{tail} UNION ALL {rows_of_files(parameters.add(paths))}" if paths else tail


def _explained(row: Row, card: Mapping[str, Any]) -> ExplainedLine:
    exact = None
    if not row["unpriced"]:
        exact = Fraction(row["billed_quantity"] * row["amount_picos"], row["per"])
    return ExplainedLine(row, _price_chain(row["usage_class"], row["priced_as"], card), exact)


def _price_chain(usage_class: str, priced_as: str | None, card: Mapping[str, Any]) -> tuple[str, ...]:
    parents = {name: found.parent for name, found in BUILT_IN_CLASSES.items()}
    parents |= {name: found.get("parent") for name, found in card.get("classes", {}).items()}
    chain = [usage_class]
    while chain[-1] != priced_as and (parent := parents.get(chain[-1])) is not None:
        chain.append(parent)
    return tuple(chain)


def _is_same(rows: Sequence[Row], lines: Sequence[Mapping[str, Any]]) -> bool:
    names = (
        "usage_class",
        "priced_as",
        "quantity",
        "billed_quantity",
        "amount_picos",
        "cost_picos",
        "unpriced",
    )
    recorded = [tuple(row[name] for name in names) for row in rows]
    return recorded == [tuple(line[name] for name in names) for line in lines]
