# SPDX-License-Identifier: Apache-2.0
"""The engine without a server around it: a store, a journal and a ledger that can each be set back in time."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from harness.store_process import StoreProcess
from taximeter.clock import system_clock_ms
from taximeter.v1 import metering_service_pb2, tenant_service_pb2, usage_pb2
from taximeter_server._native import Engine
from taximeter_server.archiver import ROUND_ENTRIES_MAX, Archiver
from taximeter_server.ledger import PARTITION_COUNT, partition_of
from taximeter_server.ledger_directory import LedgerDirectory
from taximeter_server.ledger_merge import FileMerger
from taximeter_server.limits import Limits
from taximeter_server.report import Reporter
from taximeter_server.report_query import ReportQuery
from taximeter_server.tenants import Tenant

TENANT = "acme/research"
OPEN_TIMEOUT_MS = 10_000


def record_id_of(number: int) -> str:
    """Return the id of a record, without a date."""
    return f"record-{number:012d}"


class Recorder:
    """Records on one store. open() and close() as often as wanted; close() leaves what a kill would leave."""

    def __init__(self, directory: Path, store: StoreProcess, *, attribute_sets_max: int = 1_000) -> None:
        self.store = store
        self.journal = directory / "journal"
        self.ledger = LedgerDirectory(directory / "ledger")
        self.ledger.path.mkdir(exist_ok=True)
        self._temporary = directory / "temporary"
        self._attribute_sets_max = attribute_sets_max
        self._engine: Engine | None = None
        self._time_ms = system_clock_ms()

    @property
    def engine(self) -> Engine:
        """The open engine."""
        assert self._engine is not None
        return self._engine

    def open(self) -> "Recorder":
        """Open store and journal, which gives back what the store lost."""
        self._engine = Engine(
            store_url=self.store.url,
            journal_dir=str(self.journal),
            exclusive_store=True,
            attribute_sets_max=self._attribute_sets_max,
        )
        archived = [str(watermark) for watermark in self.ledger.read_manifest().watermarks]
        self._engine.open(archived_ids=archived, timeout_ms=OPEN_TIMEOUT_MS)
        return self

    def close(self) -> None:
        """Close. Safe to call twice."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def record(
        self, number: int, *, tenant: str = TENANT, **attributes: str
    ) -> metering_service_pb2.RecordResponse:
        """Record one token under the number's id; the same call again is the same record. Raises RpcError."""
        record = usage_pb2.UsageRecord(
            record_id=record_id_of(number),
            tenant=tenant,
            model="gpt-5",
            usage=usage_pb2.Usage(uncached_input_tokens=1),
            occur_time=Timestamp(seconds=self._time_ms // 1000),
            attributes=attributes,
        )
        request = metering_service_pb2.RecordRequest(record=record)
        return metering_service_pb2.RecordResponse.FromString(self.engine.record(request.SerializeToString()))

    def limit(self, tenant: str = TENANT) -> None:
        """Set a limit that nothing reaches, so that used_tokens() has something to show."""
        self.engine.put_limits([Tenant(name=tenant, limits=Limits(tokens_per_day=10**12))])

    def used_tokens(self, tenant: str = TENANT) -> int:
        """Return what the quota of today says was used, one per record."""
        status = tenant_service_pb2.GetQuotaStatusResponse.FromString(self.engine.quota_status(tenant))
        return next(limit.used for limit in status.limits if limit.tenant == tenant)

    def archiver(
        self, ledger: LedgerDirectory | None = None, *, round_entries_max: int = ROUND_ENTRIES_MAX
    ) -> Archiver:
        """Return a new archiver, as after a restart."""
        merger = FileMerger(temporary_directory=self._temporary)
        return Archiver(
            self.engine,
            ledger or self.ledger,
            merger=merger,
            clock=system_clock_ms,
            round_entries_max=round_entries_max,
        )

    def counted(self) -> int:
        """Return the number of calls that a report shows."""
        reporter = Reporter(
            self.engine,
            self.ledger,
            token_secret=b"sixteen bytes or more",
            temporary_directory=self._temporary,
        )
        try:
            day_us = 86_400_000_000
            now_us = system_clock_ms() * 1000
            query = ReportQuery(start_time_us=now_us - day_us, end_time_us=now_us + day_us)
            return reporter.report(query).total.calls
        finally:
            reporter.close()

    def streamed(self) -> Counter[int]:
        """Return the number of entries in the streams, by partition."""
        client = self.store.client()
        lengths = {
            partition: client.xlen(f"{{tx:{partition}}}:ledger") for partition in range(PARTITION_COUNT)
        }
        return Counter({partition: length for partition, length in lengths.items() if length})

    def wait_for(self, condition: Callable[[dict[str, object]], bool], *, limit_s: float = 10) -> None:
        """Poll the engine's status until the condition holds. Raises AssertionError."""
        deadline = time.monotonic() + limit_s
        while not condition(self.engine.status()):
            assert time.monotonic() < deadline, self.engine.status()
            time.sleep(0.01)

    def wait_until_settled(self) -> None:
        """Wait until the store is there and nothing is pending."""
        self.wait_for(
            lambda status: bool(status["store_available"]) and status["journal_pending_records"] == 0
        )

    def journal_size_bytes(self) -> int:
        """Return how much has been written to the journal."""
        return sum(len(path.read_bytes().rstrip(b"\0")) for path in self.journal.glob("*.journal"))

    def save_journal(self) -> Callable[[], None]:
        """Copy the journal of a closed engine; the returned function puts the copy in its place."""
        copy = self.journal.with_name("journal-copy")
        shutil.copytree(self.journal, copy)

        def restore() -> None:
            shutil.rmtree(self.journal)
            copy.rename(self.journal)

        return restore

    def restart_store(self, *, size_bytes: int | None = None) -> None:
        """Kill the store and start it again, with its file cut to size_bytes where given."""
        self.store.kill()
        if size_bytes is not None:
            self.store.cut(size_bytes)
        self.store.start()


def partition_key(tenant: str = TENANT) -> str:
    """Return the name of the stream that the tenant's entries are in."""
    return f"{{tx:{partition_of(tenant)}}}:ledger"
