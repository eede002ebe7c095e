# SPDX-License-Identifier: Apache-2.0
"""What the ledger says against what was sent: acknowledged ⊆ counted ⊆ sent, each once, each at its exact cost."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from harness.load import Tally, picos_of
from taximeter.clock import system_clock_ms
from taximeter.v1 import metering_service_pb2, quota_pb2, tenant_service_pb2

MS_PER_DAY = 86_400_000
REPORT_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Counted:
    """One record as the report shows it. calls is 1, unless it was counted twice."""

    tenant: str
    seq: str
    calls: int
    cost_picos: int


def _last_days(*group_by: str) -> metering_service_pb2.ReportQuery:
    now_s = system_clock_ms() // 1000
    return metering_service_pb2.ReportQuery(
        start_time=Timestamp(seconds=now_s - 86_400),
        end_time=Timestamp(seconds=now_s + 86_400),
        group_by=group_by,
    )


def read_ledger(api: Any) -> list[Counted]:
    """Return every record of the last day by a report that tells them apart."""
    request = metering_service_pb2.ExportReportRequest(
        query=_last_days("tenant", "attributes.seq"), format=metering_service_pb2.EXPORT_FORMAT_JSON_LINES
    )
    chunks = api.metering.ExportReport(request, metadata=api.metadata, timeout=REPORT_TIMEOUT_S)
    rows = [json.loads(line) for line in b"".join(piece.chunk for piece in chunks).splitlines()]
    return [
        Counted(
            tenant=row["group"]["tenant"],
            seq=row["group"]["attributes.seq"],
            calls=int(row["calls"]),
            cost_picos=int(Decimal(row["cost"]).scaleb(12)),
        )
        for row in rows
    ]


def find_ledger_problems(api: Any, tally: Tally) -> list[str]:
    """Compare the ledger with what was sent and acknowledged. Returns what is wrong, in sentences."""
    counted = read_ledger(api)
    by_seq = {row.seq: row for row in counted}
    problems = list(tally.problems)
    if len(by_seq) != len(counted):
        problems.append(f"{len(counted) - len(by_seq)} records are counted for two tenants")
    lost = tally.acknowledged.keys() - by_seq.keys()
    problems += [f"{seq} was acknowledged ({tally.acknowledged[seq]}) and is lost" for seq in sorted(lost)]
    for row in counted:
        sent = tally.sent.get(row.seq)
        if sent is None:
            problems.append(f"{row.seq} was never sent")
        elif row.calls != 1:
            problems.append(f"{row.seq} is counted {row.calls} times")
        elif (row.tenant, row.cost_picos) != (sent.record.tenant, sent.cost_picos):
            problems.append(f"{row} was sent by {sent.record.tenant} and costs {sent.cost_picos}")
    expected_picos = sum(tally.sent[seq].cost_picos for seq in by_seq.keys() & tally.sent.keys())
    problems += _find_total_problems(api, len(by_seq), expected_picos)
    return problems


def _find_total_problems(api: Any, count: int, cost_picos: int) -> list[str]:
    request = metering_service_pb2.ReportRequest(query=_last_days())
    total = api.metering.Report(request, metadata=api.metadata, timeout=REPORT_TIMEOUT_S).total
    found = (total.calls, picos_of(total.cost))
    return [] if found == (count, cost_picos) else [f"the total is {found} and must be {(count, cost_picos)}"]


def put_high_limits(api: Any, tenants: Iterable[str]) -> None:
    """Give every tenant limits that nothing reaches, so that GetQuotaStatus shows what is used."""
    limits = quota_pb2.Limits(tokens_per_day=10**15, cost_per_day_picos=2**62)
    for name in tenants:
        tenant = tenant_service_pb2.Tenant(name=name, limits=limits)
        api.call(api.tenants.PutTenant, tenant_service_pb2.PutTenantRequest(tenant=tenant))


def find_quota_problems(api: Any, tally: Tally, tenants: Iterable[str]) -> list[str]:
    """Compare today's counters of tenants with what the ledger holds. Returns what is wrong, in sentences."""
    today = system_clock_ms() // MS_PER_DAY
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in read_ledger(api):
        sent = tally.sent[row.seq]
        if sent.record.occur_time.seconds * 1000 // MS_PER_DAY == today:
            segments = row.tenant.split("/")
            for end in range(1, len(segments) + 1):
                sums = expected["/".join(segments[:end])]
                sums[0] += sent.quota_tokens
                sums[1] += sent.cost_picos
    problems = []
    for tenant in tenants:
        request = tenant_service_pb2.GetQuotaStatusRequest(tenant=tenant)
        limits = api.call(api.tenants.GetQuotaStatus, request).limits
        used = {limit.kind: limit.used for limit in limits if limit.tenant == tenant}
        found = [
            used.get(quota_pb2.LIMIT_KIND_TOKENS_PER_DAY),
            used.get(quota_pb2.LIMIT_KIND_COST_PER_DAY),
        ]
        if found != expected[tenant]:
            problems.append(f"{tenant} used {found} today by its quota and {expected[tenant]} by the ledger")
    # A day that ended meanwhile took its counters along.
    return problems if system_clock_ms() // MS_PER_DAY == today else []


def archived_files(data_dir: Path) -> list[Path]:
    """Return the ledger's files."""
    return sorted((data_dir / "ledger").glob("date=*/*.parquet"))
