# SPDX-License-Identifier: Apache-2.0
"""A tenant's day has only so many sets of attributes: what comes beyond is recorded in full under __other__."""

import secrets
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from server.api import Api, connect, new_tenant

from harness.server_process import ServerProcess
from taximeter import Meter, RecordWarningKind, Usage
from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import usage_pb2

OTHER = "__other__"
SETS_MAX = 5
LABEL_CAP = pb.RECORD_WARNING_KIND_LABEL_CAP
DAY_S = 86_400


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a small cap."""
    arguments = ["--attribute-sets", str(SETS_MAX)]
    with ServerProcess(tmp_path_factory.mktemp("capped") / "data", arguments=arguments) as running:
        yield running


@pytest.fixture
def api(capped: ServerProcess) -> Iterator[Api]:
    """Connects as admin."""
    with connect(capped.address, capped.admin_key) as found:
        yield found


def make(tenant: str, attributes: dict[str, str], tokens: int = 1) -> usage_pb2.UsageRecord:
    """Return a new record."""
    record = usage_pb2.UsageRecord(record_id=secrets.token_hex(16), tenant=tenant, model="gpt-5")
    record.usage.uncached_input_tokens = tokens
    record.attributes.update(attributes)
    return record


def send(api: Api, record: usage_pb2.UsageRecord) -> pb.RecordResponse:
    """Record."""
    answer: pb.RecordResponse = api.call(api.metering.Record, pb.RecordRequest(record=record))
    return answer


def is_capped(answer: pb.RecordResponse) -> bool:
    """Say whether the answer carries the one warning there is."""
    assert [warning.kind for warning in answer.warnings] in ([], [LABEL_CAP])
    return bool(answer.warnings)


def report(api: Api, tenant: str, key: str) -> pb.ReportResponse:
    """Sum by one attribute."""
    request = pb.ReportRequest()
    request.query.tenant = tenant
    request.query.group_by.append(f"attributes.{key}")
    now = int(time.time())  # noqa: TID251 (the server's clock is the machine's)
    request.query.start_time.FromSeconds(now - 3 * DAY_S)
    request.query.end_time.FromSeconds(now + DAY_S)
    answer: pb.ReportResponse = api.call(api.metering.Report, request)
    return answer


def groups(answer: pb.ReportResponse) -> dict[str, int]:
    """Return input tokens by value; "" for usage without the attribute."""
    return {row.group[0].value: row.measures.quantities["input"] for row in answer.rows}


def test_values_beyond_the_cap_count_under_other_and_sums_are_exact(api: Api) -> None:
    """Every value that was admitted has its own sum, __other__ has the rest, and together they are the total."""
    tenant, expected = new_tenant(), Counter[str]()
    capped = []
    for number in range(1, 31):
        value = f"v{number % 12}"
        answer = send(api, make(tenant, {"flow": value}, tokens=number))
        capped.append(is_capped(answer))
        assert answer.cost.picos > 0
        expected[OTHER if capped[-1] else value] += number
    send(api, make(tenant, {}, tokens=1_000))
    summed = report(api, tenant, "flow")

    assert capped[:12] == [False] * SETS_MAX + [True] * 7
    assert capped[12:24] == capped[:12]
    assert groups(summed) == {**expected, "": 1_000}
    assert summed.total.quantities["input"] == sum(range(1, 31)) + 1_000
    assert sum(row.measures.cost.picos for row in summed.rows) == summed.total.cost.picos


def test_batch_is_capped_as_single_records_are(api: Api) -> None:
    """In a batch the first sets are admitted, the same set twice counts once, and every item has its own warning."""
    tenant = new_tenant()
    records = [make(tenant, {"flow": f"v{number // 2}"}) for number in range(2 * SETS_MAX + 4)]
    answer = api.call(api.metering.RecordBatch, pb.RecordBatchRequest(records=records))

    assert [is_capped(result.response) for result in answer.results] == [False] * 2 * SETS_MAX + [True] * 4
    assert groups(report(api, tenant, "flow"))[OTHER] == 4


def test_capped_record_is_still_who_it_is(api: Api, capped: ServerProcess) -> None:
    """A retry of a capped record is a duplicate with the same warning, another value a conflict; restarts too."""
    tenant = new_tenant()
    kept = [make(tenant, {"flow": f"v{number}"}) for number in range(SETS_MAX)]
    beyond = make(tenant, {"flow": "one too many"})
    assert [is_capped(send(api, record)) for record in (*kept, beyond)] == [False] * SETS_MAX + [True]
    changed = usage_pb2.UsageRecord()
    changed.CopyFrom(beyond)
    changed.attributes["flow"] = OTHER

    def check(api: Api) -> None:
        answers = [send(api, record) for record in (beyond, *kept)]
        assert [answer.duplicate for answer in answers] == [True] * (SETS_MAX + 1)
        assert [is_capped(answer) for answer in answers] == [True] + [False] * SETS_MAX
        with pytest.raises(Exception, match="another payload"):
            send(api, changed)

    check(api)
    capped.restart()
    # The new process knows of the sets by the store alone.
    with connect(capped.address, capped.admin_key) as again:
        assert is_capped(send(again, make(tenant, {"flow": "another"})))
        check(again)
        assert not is_capped(send(again, make(tenant, {"flow": "v0"})))


def test_each_path_and_each_day_has_sets_of_its_own(api: Api) -> None:
    """What a user, or a day, uses up is nobody else's."""
    root = new_tenant()
    for number in range(SETS_MAX + 1):
        last = send(api, make(f"{root}/a", {"flow": f"v{number}"}))
    yesterday = make(f"{root}/a", {"flow": "new"})
    now = int(time.time())  # noqa: TID251 (the server's clock is the machine's)
    yesterday.occur_time.FromSeconds(now - DAY_S)

    assert is_capped(last)
    assert not is_capped(send(api, yesterday))
    for tenant in (root, f"{root}/b"):
        assert not is_capped(send(api, make(tenant, {"flow": "new"})))


def test_keys_are_kept_until_they_are_too_many(api: Api) -> None:
    """Keys of capped records still group; where every record has a key of its own, one attribute stands for all."""
    tenant = new_tenant()
    answers = [send(api, make(tenant, {f"key{number}": "v"})) for number in range(2 * SETS_MAX + 3)]

    assert [is_capped(answer) for answer in answers] == [False] * SETS_MAX + [True] * (SETS_MAX + 3)
    assert groups(report(api, tenant, f"key{SETS_MAX}"))[OTHER] == 1
    assert groups(report(api, tenant, f"key{2 * SETS_MAX}")) == {"": 2 * SETS_MAX + 3}
    assert "attribute" in answers[-1].warnings[0].message


def test_client_hands_the_warning_on(capped: ServerProcess) -> None:
    """The Python client's answer has the warning, too."""
    tenant = new_tenant()
    with Meter(f"http://{capped.address}", key=capped.admin_key) as meter:
        answers = [
            meter.record(
                tenant, Usage(visible_output_tokens=1), model="gpt-5", attributes={"flow": f"v{number}"}
            )
            for number in range(SETS_MAX + 1)
        ]

    kinds = [[warning.kind for warning in answer.warnings] for answer in answers]
    assert kinds == [[]] * SETS_MAX + [[RecordWarningKind.LABEL_CAP]]
