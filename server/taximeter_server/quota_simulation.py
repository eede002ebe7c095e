# SPDX-License-Identifier: Apache-2.0
"""Recorded usage against other limits: whom they would have stopped, and when first."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from taximeter_server.errors import TooMuchUsageError
from taximeter_server.ledger import KIND_USAGE, LedgerSource
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_rows import rows_of_files
from taximeter_server.limits import Limits
from taximeter_server.quota_rules import Call, Level, decide
from taximeter_server.report_conditions import conditions
from taximeter_server.report_dimensions import Parameters
from taximeter_server.report_query import ReportQuery
from taximeter_server.report_snapshot import Snapshot, take_snapshot
from taximeter_server.tenant_path import levels_of
from taximeter_server.usage_class import QUOTA_TOKEN_CLASSES

DURATION_S_MAX = 600
_FETCH_ROWS = 10_000
_US_PER_SECOND = 1_000_000
_PLACE = "partition, stream_ms, stream_seq"
_SOURCE_COLUMNS = f"{_PLACE}, kind, tenant, occur_time_us, entry_calls, usage_class, quantity, cost_picos"


@dataclass(frozen=True, slots=True)
class SimulationQuery:
    """Which usage and which limits. limits: by level of a path.

    limits_by_depth: of every other level of the first, second ... segment.
    """

    usage: ReportQuery
    limits: Mapping[str, Limits]
    limits_by_depth: Sequence[Limits]
    with_estimates: bool


@dataclass(slots=True)
class Denials:
    """Calls that one limit would have denied. first_us is microseconds since 1970 UTC."""

    calls: int
    first_us: int


@dataclass(slots=True)
class TenantOutcome:
    """What the limits would have done to one tenant's calls."""

    calls: int = 0
    denied_calls: int = 0
    first_denied_us: int = 0
    denials: dict[tuple[str, str], Denials] = field(default_factory=dict)
    """By level and name of the limit."""


class Simulation:
    """One replay."""

    def __init__(self, query: SimulationQuery) -> None:
        self._query = query
        self._levels: dict[str, Level] = {}
        self.as_of_time_ms = 0
        self.records_read = 0
        self.outcomes: dict[str, TenantOutcome] = {}

    def replay(self, call: Call, occur_time_us: int) -> None:
        """Decide about the next call in the order of time."""
        self.records_read += 1
        names = reversed(levels_of(call.tenant))
        levels = {name: self._level(name, depth) for depth, name in enumerate(names)}
        denying = decide(levels.values(), call, with_estimate=self._query.with_estimates)
        outcome = self.outcomes.setdefault(call.tenant, TenantOutcome())
        outcome.calls += call.requests
        if not denying:
            return
        outcome.first_denied_us = outcome.first_denied_us if outcome.denied_calls else occur_time_us
        outcome.denied_calls += call.requests
        name_of = {id(level): name for name, level in levels.items()}
        for level, limit in denying:
            found = outcome.denials.setdefault((name_of[id(level)], limit), Denials(0, occur_time_us))
            found.calls += call.requests

    def _level(self, name: str, depth: int) -> Level:
        level = self._levels.get(name)
        if level is None:
            by_depth = self._query.limits_by_depth
            default = by_depth[depth] if depth < len(by_depth) else Limits()
            level = self._levels[name] = Level(self._query.limits.get(name, default))
        return level


class QuotaSimulator:
    """Replays usage of one ledger. Thread-safe."""

    def __init__(
        self, source: LedgerSource, directory: LedgerDirectory, *, database: duckdb.DuckDBPyConnection
    ) -> None:
        self._source = source
        self._directory = directory
        self._database = database

    def run(self, query: SimulationQuery) -> Iterator[Simulation]:
        """Replay, and yield the simulation now and then while it goes on, and at its end. Raises TooMuchUsageError."""
        deadline_s = time.monotonic() + DURATION_S_MAX
        simulation = Simulation(query)
        with contextlib.closing(self._database.cursor()) as connection:
            snapshot = take_snapshot(
                connection, self._source, self._directory, query.usage, as_of=None, is_with_rollups=False
            )
            simulation.as_of_time_ms = snapshot.as_of.time_ms
            statement, parameters = _statement(query.usage, snapshot)
            cursor = connection.execute(statement, parameters)
            while rows := cursor.fetchmany(_FETCH_ROWS):
                for tenant, occur_time_us, calls, tokens, cost_picos in rows:
                    call = Call(tenant, occur_time_us // _US_PER_SECOND, calls, tokens, cost_picos)
                    simulation.replay(call, occur_time_us)
                if time.monotonic() > deadline_s:
                    raise TooMuchUsageError(DURATION_S_MAX)
                yield simulation
        yield simulation


def _statement(query: ReportQuery, snapshot: Snapshot) -> tuple[str, Mapping[str, object]]:
    """Return one row per recorded call, in the order in which they happened: as recorded, whatever was adjusted."""
    parameters = Parameters()
    relation = f"SELECT {_SOURCE_COLUMNS} FROM tail"  # noqa: S608 (names of ours)
    if snapshot.files:
        files = rows_of_files(parameters.add(sorted(snapshot.files)))
        relation += f" UNION ALL SELECT {_SOURCE_COLUMNS} FROM ({files})"  # noqa: S608 (names of ours)
    classes = parameters.add(list(QUOTA_TOKEN_CLASSES))
    where = " AND ".join(
        (
            f"kind = {KIND_USAGE}",
            f"occur_time_us >= {parameters.add(query.start_time_us)}",
            f"occur_time_us < {parameters.add(query.end_time_us)}",
            *conditions(query, parameters),
        )
    )
    statement = f"""
        SELECT tenant, occur_time_us, entry_calls,
            coalesce(sum(quantity) FILTER (list_contains({classes}, usage_class)), 0)::BIGINT,
            sum(cost_picos)::BIGINT
        FROM ({relation})
        WHERE {where}
        GROUP BY {_PLACE}, tenant, occur_time_us, entry_calls
        ORDER BY occur_time_us, {_PLACE}
    """  # noqa: S608 (names of ours)
    return statement, parameters.values
