# SPDX-License-Identifier: Apache-2.0
"""MeteringService behind the front: reports, exports and estimates."""

import secrets
import time
from typing import Any

import grpc
import pytest
from server.api import DENIED, READ, Api, new_tenant, record

from harness.grpc_status import refusal_of
from taximeter.v1 import (
    metering_service_pb2,
)


def query(tenant: str = "", *group_by: str) -> metering_service_pb2.ReportQuery:
    """Return a query over the last and the next day."""
    found = metering_service_pb2.ReportQuery(tenant=tenant, group_by=group_by)
    now = int(time.time())  # noqa: TID251 (the server's clock is the machine's)
    found.start_time.FromSeconds(now - 86_400)
    found.end_time.FromSeconds(now + 86_400)
    return found


def report(api: Api, tenant: str = "", *group_by: str) -> metering_service_pb2.ReportResponse:
    """Return the first page of a report."""
    answer: metering_service_pb2.ReportResponse = api.call(
        api.metering.Report, metering_service_pb2.ReportRequest(query=query(tenant, *group_by))
    )
    return answer


def test_report_holds_every_record_that_was_answered(api: Api) -> None:
    """A report sees what was recorded just before, exactly."""
    name = new_tenant()
    for _ in range(3):
        record(api, f"{name}/team", tokens=7)
    answer = report(api, name, "tenant", "model")

    (row,) = answer.rows
    assert [value.value for value in row.group] == [f"{name}/team", "gpt-5"]
    assert dict(row.measures.quantities) == {"input": 21}
    assert row.measures.calls == 3
    assert row.measures == answer.total
    assert answer.total.cost.currency_code == "USD"
    assert answer.total.cost.picos > 0


def test_bound_key_reports_its_own_tenants(api: Api) -> None:
    """A report without a tenant covers what the key reaches; a foreign tenant is refused."""
    own, other = new_tenant(), new_tenant()
    for name in (own, f"{own}/a", other):
        record(api, name)
    bound = api.with_new_key(READ, f"{own}/a")

    assert [row.group[0].value for row in report(bound, "", "tenant").rows] == [f"{own}/a"]
    for name in (own, other, new_tenant()):
        request = metering_service_pb2.ReportRequest(query=query(name))
        assert bound.fail(bound.metering.Report, request) == DENIED
        export = metering_service_pb2.ExportReportRequest(
            query=query(name), format=metering_service_pb2.EXPORT_FORMAT_CSV
        )
        assert bound.fail(bound.metering.ExportReport, export) == DENIED


def test_report_comes_in_pages(api: Api) -> None:
    """Pages together hold every row once, share one instant, and their tokens fit no other query."""
    root = new_tenant()
    for number in range(5):
        record(api, f"{root}/{number}")
    request = metering_service_pb2.ReportRequest(query=query(root, "tenant"), page_size=2)
    names, instants = [], set()
    while True:
        page = api.call(api.metering.Report, request)
        names += [row.group[0].value for row in page.rows]
        instants.add(page.as_of_time.ToNanoseconds())
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    request.query.group_by.append("model")

    assert names == [f"{root}/{number}" for number in range(5)]
    assert len(instants) == 1
    assert api.fail(api.metering.Report, request) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN")


def test_large_pages_are_cut_to_what_clients_take(api: Api) -> None:
    """An answer stays below the 4 MiB that a client takes by default, whatever page_size asks for."""
    root = new_tenant()
    for batch in range(4):
        records = metering_service_pb2.RecordBatchRequest()
        for number in range(400):
            item = records.records.add(record_id=secrets.token_hex(16), tenant=root, model="gpt-5")
            item.usage.uncached_input_tokens = 1
            for key in range(8):
                item.attributes[f"k{key}"] = f"{batch}-{number}-".ljust(256, "x")
        api.call(api.metering.RecordBatch, records)
    dimensions = [f"attributes.k{key}" for key in range(8)]
    request = metering_service_pb2.ReportRequest(query=query(root, *dimensions), page_size=10_000)
    pages = [api.call(api.metering.Report, request)]
    while pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token
        pages.append(api.call(api.metering.Report, request))

    assert [page for page in pages if page.ByteSize() > 3 << 20] == []
    assert len(pages) == 2
    assert len({row.group[0].value for page in pages for row in page.rows}) == 1600


@pytest.mark.parametrize(
    ("format_", "start"),
    [
        (metering_service_pb2.EXPORT_FORMAT_CSV, b"date,tenant,model,"),
        (metering_service_pb2.EXPORT_FORMAT_JSON_LINES, b'{"group":{"tenant":'),
    ],
)
def test_export_is_streamed(
    api: Api, format_: "metering_service_pb2.ExportFormat.ValueType", start: bytes
) -> None:
    """A report comes as a file in pieces."""
    name = new_tenant()
    record(api, name)
    request = metering_service_pb2.ExportReportRequest(query=query(name, "tenant"), format=format_)
    content = b"".join(piece.chunk for piece in api.call(api.metering.ExportReport, request))

    assert content.startswith(start)
    assert name.encode() in content


def test_estimate_prices_without_recording(api: Api) -> None:
    """An estimate has a price and leaves no usage behind; an unknown model has none."""
    request = metering_service_pb2.EstimateRequest(model="gpt-5")
    request.usage.uncached_input_tokens = 1_000_000
    answer = api.call(api.metering.Estimate, request)
    request.model = "no-such-model"

    assert answer.cost.units > 0
    assert api.fail(api.metering.Estimate, request) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")


def test_bad_instants_are_refused(api: Api) -> None:
    """A timestamp outside of its range is named, and so is one that is missing."""
    request = metering_service_pb2.ReportRequest(query=query())
    request.query.start_time.nanos = -1
    assert api.fail(api.metering.Report, request) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    request.query.ClearField("start_time")
    assert api.fail(api.metering.Report, request) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_REQUIRED")


def test_all_that_is_wrong_with_a_query_is_said_at_once(api: Api) -> None:
    """What cannot be read and what cannot be answered are named together, with their paths in the request."""
    wrong = metering_service_pb2.ReportQuery(
        group_by=["nothing"],
        filters=[metering_service_pb2.ReportFilter(dimension="model", operator=77)],  # type: ignore[arg-type]
        measures=[metering_service_pb2.REPORT_MEASURE_UNSPECIFIED],
        top=-1,
    )
    wrong.compare_to.end_time.nanos = -1
    fields = ["query.start_time", "query.end_time", "query.filters[0].operator", "query.measures[0]"]
    fields += ["query.compare_to.start_time", "query.compare_to.end_time", "query.group_by[0]", "query.top"]
    sample = metering_service_pb2.EstimateSample(
        query=metering_service_pb2.ReportQuery(tenant="A", top=1), item_count=-1, item_dimension="day"
    )
    found = [
        fields_of(api, api.metering.Report, metering_service_pb2.ReportRequest(query=wrong)),
        fields_of(api, api.metering.ExportReport, metering_service_pb2.ExportReportRequest(query=wrong)),
        fields_of(
            api,
            api.metering.Estimate,
            metering_service_pb2.EstimateRequest(model="gpt-5", call_count=-1, sample=sample),
        ),
    ]

    assert found == [
        fields,
        [*fields, "query.compare_to", "format"],
        [
            *("call_count", "model", "sample.query.top", "sample.query.start_time", "sample.query.end_time"),
            *("sample.query.tenant", "sample.item_count", "sample.item_count", "sample.item_dimension"),
        ],
    ]


def fields_of(api: Api, method: Any, request: Any) -> list[str]:
    """Call what must fail. Returns the fields that it names."""
    with pytest.raises(grpc.RpcError) as caught:
        list(found) if hasattr(found := api.call(method, request), "__next__") else found
    return list(refusal_of(caught.value).fields)


def test_reversed_interval_is_refused(api: Api) -> None:
    """An interval that ends before it begins is refused by its own reason."""
    request = metering_service_pb2.ReportRequest(query=query())
    request.query.end_time.FromSeconds(0)

    assert api.fail(api.metering.Report, request) == (grpc.StatusCode.INVALID_ARGUMENT, "RANGE_INVALID")
